//! The wildcards of policies: `*` is any text, `?` any one character.

/// Whether `text` matches `pattern`, case-sensitively.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and how much text it has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(expected) if *expected == '?' || *expected == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, swallowed)) => {
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    t = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

/// Whether `text` matches `pattern`, ignoring the case of ASCII letters.
#[must_use]
pub fn matches_ignoring_case(pattern: &str, text: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_documented() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "anything"),
            ("kms:*", "kms:Decrypt"),
            ("kms:GenerateDataKey*", "kms:GenerateDataKey"),
            ("vc?", "vc1"),
            ("system:serviceaccount:vk-*:engine", "system:serviceaccount:vk-abc:engine"),
            ("a*b*c", "a-b-b-c"),
            ("a**", "a"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a", ""), ("vc?", "vc"), ("a*c", "ab"), ("kms:*", "s3:Get"), ("A", "a")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(matches_ignoring_case("KMS:decrypt", "kms:Decrypt"));
    }
}
