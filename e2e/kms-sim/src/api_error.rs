//! Refusals as both services phrase them.

use std::borrow::Cow;

use http::StatusCode;

/// An error answer: a code that the SDK maps to a type, and a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Such as `AccessDeniedException`.
    pub code: &'static str,
    /// For people; some errors have none.
    pub message: Option<Cow<'static, str>>,
    /// HTTP status.
    pub status: StatusCode,
}

impl ApiError {
    /// A refusal that is the caller's doing (400).
    pub fn refused(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: Some(message.into()), status: StatusCode::BAD_REQUEST }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}
