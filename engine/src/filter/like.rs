//! Patterns of `like`: `%` stands for any text, `_` for one character, `\` takes the next character literally.

/// A pattern, with fast paths for the usual shapes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Infix(String),
    General(Vec<Piece>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Piece {
    One(char),
    AnyOne,
    AnyText,
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        let mut pieces = Vec::new();
        let mut chars = pattern.chars();
        while let Some(next) = chars.next() {
            pieces.push(match next {
                '%' if pieces.last() == Some(&Piece::AnyText) => continue,
                '%' => Piece::AnyText,
                '_' => Piece::AnyOne,
                // A backslash at the end stands for itself.
                '\\' => Piece::One(chars.next().unwrap_or('\\')),
                literal => Piece::One(literal),
            });
        }
        let open_start = pieces.first() == Some(&Piece::AnyText);
        let open_end = pieces.last() == Some(&Piece::AnyText);
        let inner = pieces.get(usize::from(open_start)..pieces.len() - usize::from(open_end)).unwrap_or_default();
        let literal = |piece: &Piece| match piece {
            Piece::One(literal) => Some(*literal),
            _ => None,
        };
        match inner.iter().map(literal).collect::<Option<String>>() {
            Some(text) if open_start && open_end => Pattern::Infix(text),
            Some(text) if open_start => Pattern::Suffix(text),
            Some(text) if open_end => Pattern::Prefix(text),
            Some(text) => Pattern::Exact(text),
            None => Pattern::General(pieces),
        }
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Exact(exact) => text == exact,
            Pattern::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Pattern::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Pattern::Infix(infix) => text.contains(infix.as_str()),
            Pattern::General(pieces) => general(pieces, text),
        }
    }
}

/// Greedy matching that on a mismatch goes back only to the last `%`: at worst pattern length times text length.
fn general(pieces: &[Piece], text: &str) -> bool {
    let mut rest = text.chars();
    let mut at = 0;
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        match pieces.get(at) {
            Some(Piece::AnyText) => {
                at += 1;
                if at == pieces.len() {
                    return true;
                }
                retry = Some((at, rest.clone()));
                continue;
            }
            Some(piece) => {
                let mut ahead = rest.clone();
                let fits = match (piece, ahead.next()) {
                    (_, None) => return false,
                    (Piece::One(wanted), Some(found)) => *wanted == found,
                    (_, Some(_)) => true,
                };
                if fits {
                    rest = ahead;
                    at += 1;
                    continue;
                }
            }
            None if rest.as_str().is_empty() => return true,
            None => {}
        }
        let Some((after, from)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        at = *after;
        rest = from.clone();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_shapes_take_the_fast_paths() {
        assert_eq!(Pattern::new("abc"), Pattern::Exact("abc".into()));
        assert_eq!(Pattern::new("abc%"), Pattern::Prefix("abc".into()));
        assert_eq!(Pattern::new("%abc"), Pattern::Suffix("abc".into()));
        assert_eq!(Pattern::new("%%abc%"), Pattern::Infix("abc".into()));
        assert_eq!(Pattern::new("50\\%%"), Pattern::Prefix("50%".into()));
        assert_eq!(Pattern::new(""), Pattern::Exact(String::new()));
        assert!(Pattern::new("%").matches("") && Pattern::new("%").matches("any\nthing"));
    }

    #[test]
    fn wildcards_escapes_and_characters_are_honoured() {
        for (pattern, text, expected) in [
            ("a_c", "a\u{fc}c", true),
            ("a_c", "ac", false),
            ("_", "", false),
            ("%a%b_", "xxaxxbxb!", true),
            ("a%b%c", "abcbcb", false),
            ("\\_x%", "_xyz", true),
            ("\\_x%", "axyz", false),
            ("a\\\\b", "a\\b", true),
            ("%a_", "aaab", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some(('_', rest)) => !text.is_empty() && naive(rest, &text[1..]),
            Some(('\\', [literal, rest @ ..])) => text.first() == Some(literal) && naive(rest, &text[1..]),
            Some((literal, rest)) => text.first() == Some(literal) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn every_pattern_matches_what_its_definition_says(pattern in "[ab%_\\\\]{0,8}", text in "[ab%_\\\\]{0,8}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), naive(&p, &t));
        }
    }
}
