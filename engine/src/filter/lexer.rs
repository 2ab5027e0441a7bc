//! Splits a filter expression into tokens.

use super::error::{Problem, Span};

/// A piece of the expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind<'a> {
    Int(i128),
    Float(f64),
    Text(String),
    /// A field, function or parameter name.
    Name(&'a str),
    /// A reserved word in lower case; `&&`, `||` and `!` count as `and`, `or` and `not`.
    Keyword(&'static str),
    /// An operator or a bracket.
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) span: Span,
}

/// Reserved words. They are recognised in lower or upper case (and `True`, `False`), so that fields may be called `Like`.
const KEYWORDS: [&str; 10] = ["and", "or", "not", "in", "like", "is", "null", "exists", "true", "false"];

/// Longest first, so that `**` is not read as `*` twice.
const SYMBOLS: [&str; 27] = [
    "**", "<<", ">>", "==", "!=", "<=", ">=", "=~", "!~", "<", ">", "+", "-", "*", "/", "%", "&", "|", "^", "~", "(",
    ")", "[", "]", "{", "}", ",",
];

pub(super) struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, at: 0 }
    }

    /// The next token; [`Kind::End`] for ever once the text is used up.
    pub(super) fn next(&mut self) -> Result<Token<'a>, Problem> {
        let rest = self.source[self.at..].trim_start();
        self.at = self.source.len() - rest.len();
        let start = self.at;
        let kind = match rest.chars().next() {
            None => Kind::End,
            Some('r' | 'R') if rest[1..].starts_with(['"', '\'']) => {
                self.at += 1;
                self.raw_text()?
            }
            Some('"' | '\'') => self.text()?,
            Some(first) if first.is_ascii_digit() => self.number()?,
            Some('.') if rest[1..].starts_with(|next: char| next.is_ascii_digit()) => self.number()?,
            Some(first) if begins_name(first) => self.name(),
            Some(first) => self.symbol(first)?,
        };
        Ok(Token { kind, span: start..self.at })
    }

    fn name(&mut self) -> Kind<'a> {
        let rest = &self.source[self.at..];
        let length = rest.find(|next: char| !continues_name(next)).unwrap_or(rest.len());
        self.at += length;
        let word = &rest[..length];
        match KEYWORDS.iter().find(|keyword| is_keyword(word, keyword)) {
            Some(keyword) => Kind::Keyword(keyword),
            None => Kind::Name(word),
        }
    }

    fn symbol(&mut self, first: char) -> Result<Kind<'a>, Problem> {
        let rest = &self.source[self.at..];
        for (logical, keyword) in [("&&", "and"), ("||", "or")] {
            if rest.starts_with(logical) {
                self.at += logical.len();
                return Ok(Kind::Keyword(keyword));
            }
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            self.at += symbol.len();
            return Ok(Kind::Symbol(symbol));
        }
        if first == '!' {
            self.at += 1;
            return Ok(Kind::Keyword("not"));
        }
        let problem = Problem::new(self.at..self.at + first.len_utf8(), format!("unexpected character `{first}`"));
        Err(match first {
            '=' => problem.remedy("equality is written `==`"),
            _ => problem,
        })
    }

    fn number(&mut self) -> Result<Kind<'a>, Problem> {
        let start = self.at;
        let rest = &self.source[start..];
        let mut length = 0;
        let mut previous = ' ';
        for next in rest.chars() {
            let exponent_sign = matches!(next, '+' | '-') && matches!(previous, 'e' | 'E') && !rest.starts_with("0x");
            if !(continues_name(next) || next == '.' || exponent_sign) {
                break;
            }
            length += next.len_utf8();
            previous = next;
        }
        self.at += length;
        let text = &rest[..length];
        let lower = text.to_ascii_lowercase();
        let radix = |digits: &str, radix| i128::from_str_radix(digits, radix).ok().map(Kind::Int);
        let number = if let Some(digits) = lower.strip_prefix("0x") {
            radix(digits, 16)
        } else if let Some(digits) = lower.strip_prefix("0b") {
            radix(digits, 2)
        } else if lower.bytes().all(|byte| byte.is_ascii_digit()) {
            match lower.strip_prefix('0').filter(|digits| !digits.is_empty()) {
                Some(digits) => radix(digits, 8),
                None => radix(&lower, 10),
            }
        } else if lower.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'+' | b'-')) {
            lower.parse::<f64>().ok().filter(|value| value.is_finite()).map(Kind::Float)
        } else {
            None
        };
        number.ok_or_else(|| {
            Problem::new(start..self.at, format!("`{text:.40}` is not a number"))
                .remedy("numbers look like 12, 0x1f, 017 (octal), 0b101, 1.5 or 2e-3; names can't begin with a digit")
        })
    }

    /// A raw string: every character stands for itself.
    fn raw_text(&mut self) -> Result<Kind<'a>, Problem> {
        let start = self.at - 1;
        let rest = &self.source[self.at..];
        let quote = if rest.starts_with('"') { '"' } else { '\'' };
        match rest[1..].find(quote) {
            Some(length) => {
                self.at += length + 2;
                Ok(Kind::Text(rest[1..=length].to_owned()))
            }
            None => Err(unterminated(start..self.source.len(), quote)),
        }
    }

    fn text(&mut self) -> Result<Kind<'a>, Problem> {
        let start = self.at;
        let mut chars = self.source[start..].char_indices();
        let quote = chars.next().map_or('"', |(_, quote)| quote);
        let mut text = String::new();
        while let Some((offset, next)) = chars.next() {
            if next == quote {
                self.at = start + offset + 1;
                return Ok(Kind::Text(text));
            }
            if next != '\\' {
                text.push(next);
                continue;
            }
            let Some((_, escape)) = chars.next() else { break };
            let code = match escape {
                'n' => Some('\n'),
                't' => Some('\t'),
                'r' => Some('\r'),
                'a' => Some('\x07'),
                'b' => Some('\x08'),
                'f' => Some('\x0c'),
                'v' => Some('\x0b'),
                '\\' | '"' | '\'' => Some(escape),
                'x' | 'u' | 'U' => {
                    let digits = match escape {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let code: String = chars.by_ref().take(digits).map(|(_, digit)| digit).collect();
                    let known =
                        u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits).and_then(char::from_u32);
                    if known.is_none() {
                        let span = start + offset..start + offset + 2 + code.len();
                        return Err(Problem::new(
                            span,
                            format!("`\\{escape}` needs {digits} hexadecimal digits of a character"),
                        )
                        .remedy("write `\\\\` for a backslash, or a raw string r\"…\""));
                    }
                    known
                }
                _ => None,
            };
            match code {
                Some(code) => text.push(code),
                // `\%` and `\_` mean something to `like`; the SDK puts keys between quotes without escaping them.
                None => text.extend(['\\', escape]),
            }
        }
        Err(unterminated(start..self.source.len(), quote))
    }
}

fn unterminated(span: Span, quote: char) -> Problem {
    Problem::new(span, "a string that does not end").remedy(format!("close it with {quote}"))
}

fn begins_name(next: char) -> bool {
    next.is_alphabetic() || matches!(next, '_' | '$')
}

fn continues_name(next: char) -> bool {
    next.is_alphanumeric() || matches!(next, '_' | '$')
}

fn is_keyword(word: &str, keyword: &str) -> bool {
    let upper = word.bytes().all(|byte| byte.is_ascii_uppercase());
    word == keyword
        || (upper && word.eq_ignore_ascii_case(keyword))
        || matches!((word, keyword), ("True", "true") | ("False", "false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Kind<'_>> {
        let mut lexer = Lexer::new(source);
        let mut kinds = Vec::new();
        loop {
            match lexer.next().unwrap().kind {
                Kind::End => return kinds,
                kind => kinds.push(kind),
            }
        }
    }

    #[test]
    fn numbers_of_every_notation_are_read() {
        use Kind::{Float, Int};
        assert_eq!(
            kinds("12 0x1F 017 0b101 0 1.5 .5 2. 2e-3 1E+2 170141183460469231731687303715884105727"),
            [
                Int(12),
                Int(31),
                Int(15),
                Int(5),
                Int(0),
                Float(1.5),
                Float(0.5),
                Float(2.0),
                Float(0.002),
                Float(100.0),
                Int(i128::MAX)
            ]
        );
        for wrong in ["12ab", "0x", "09", "1.2.3", "0b2", "1e", "1e999", "999999999999999999999999999999999999999999"] {
            assert!(Lexer::new(wrong).next().is_err(), "{wrong}");
        }
    }

    #[test]
    fn strings_keep_what_like_needs_and_resolve_the_rest() {
        let text = |text: &str| Kind::Text(text.to_owned());
        assert_eq!(
            kinds(r#""a\"b" 'it\'s' "\u00fc\x41\n\\" '\%\_\d' r"\n" R'"'"#),
            [text("a\"b"), text("it's"), text("\u{fc}A\n\\"), text("\\%\\_\\d"), text("\\n"), text("\"")]
        );
        for wrong in ["\"abc", "'abc\\", r#""\u12""#, r#""\ud800""#, "r'abc"] {
            assert!(Lexer::new(wrong).next().is_err(), "{wrong}");
        }
    }

    #[test]
    fn keywords_are_read_in_lower_and_upper_case_only() {
        use Kind::{Keyword, Name};
        assert_eq!(
            kinds("and AND And && || ! True"),
            [
                Keyword("and"),
                Keyword("and"),
                Name("And"),
                Keyword("and"),
                Keyword("or"),
                Keyword("not"),
                Keyword("true")
            ]
        );
    }
}
