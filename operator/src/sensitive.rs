//! Values that must not be shown: private keys and passwords.

use std::fmt;

use zeroize::Zeroizing;

/// A value that prints as dots and is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(Zeroizing<Vec<u8>>);

impl Sensitive {
    /// Takes ownership of bytes that must not be shown.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves; every caller of this is a place to look at in a review.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, if it is UTF-8.
    pub fn reveal_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_show_the_value() {
        let shown = format!("{:?}", Some(Sensitive::new(b"hunter2".to_vec())));
        assert!(!shown.contains("hunter2"));
    }
}
