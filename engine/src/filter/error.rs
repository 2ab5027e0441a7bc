//! What is wrong with a filter, told so that its author can repair it.

use std::ops::Range;

/// Byte positions of a part of the expression.
pub(super) type Span = Range<usize>;

/// Longest piece of the expression that a message quotes, in characters.
const QUOTED: usize = 40;

/// A filter expression that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// What is wrong, where (column, from 1), the offending text and, where one is known, the remedy.
    pub message: String,
}

/// A problem found while reading the expression; it becomes a [`FilterError`] once the text is at hand.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) span: Span,
    pub(super) what: String,
    pub(super) remedy: Option<String>,
}

impl Problem {
    pub(super) fn new(span: Span, what: impl Into<String>) -> Self {
        Self { span, what: what.into(), remedy: None }
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(super) fn unsupported(span: Span, feature: &str) -> Self {
        Self::new(span, format!("{feature} is not supported in filters"))
    }

    /// The message for people, quoting the part of `expression` that it is about.
    pub(super) fn explain(self, expression: &str) -> FilterError {
        let start = floor_boundary(expression, self.span.start);
        let end = floor_boundary(expression, self.span.end).max(start);
        let column = expression[..start].chars().count() + 1;
        let quoted: String = expression[start..end].chars().take(QUOTED).collect();
        let cut = if quoted.len() < end - start { "…" } else { "" };
        let place = match quoted.trim().is_empty() {
            true if start >= expression.trim_end().len() => format!("at column {column} (the end of the expression)"),
            true => format!("at column {column}"),
            false => format!("at column {column}, near `{}{cut}`", quoted.trim_end()),
        };
        let remedy = self.remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
        FilterError { message: format!("{} {place}{remedy}", self.what) }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
