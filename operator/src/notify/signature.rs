//! Signatures by the scheme of Standard Webhooks (standardwebhooks.com), which receivers have libraries for.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::sensitive::Sensitive;

/// Header with the id of the event; the same each time it is told.
pub const ID: &str = "webhook-id";
/// Header with the second, since 1970, at which the attempt was signed.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signature.
pub const SIGNATURE: &str = "webhook-signature";

/// What the scheme asks for.
const SHORTEST_KEY: usize = 24;
/// Marks a key that is written in base64.
const ENCODED: &str = "whsec_";

/// Why a text is not a signing key. It says nothing of what the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64.
    #[error("the signing key begins with {}, but what follows is not base64", ENCODED)]
    Encoding,
    /// Easy to guess.
    #[error("the signing key has fewer than {} bytes", SHORTEST_KEY)]
    Short,
}

/// A key that notifications to one target are signed with.
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Takes a key as it lies in its file: `whsec_` and base64, as libraries print it, or the bytes themselves.
    pub fn parse(file: Sensitive) -> Result<Self, KeyError> {
        let encoded = file.reveal_text().and_then(|text| text.trim().strip_prefix(ENCODED));
        let key = match encoded {
            Some(encoded) => Sensitive::new(STANDARD.decode(encoded).map_err(|_| KeyError::Encoding)?),
            None => file,
        };
        match key.reveal() {
            short if short.len() < SHORTEST_KEY => Err(KeyError::Short),
            bytes => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))),
        }
    }

    /// The value of the header [`SIGNATURE`].
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<SigningKey, KeyError> {
        SigningKey::parse(Sensitive::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_signature_is_that_of_the_schemes_own_example() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("a key");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_may_be_given_as_its_bytes_too() {
        // Computed with Python: base64(hmac(key, b'msg_1.1767225600.{"hello":"world"}', sha256)).
        let wanted = "v1,DxGEWiQRXqr6TduK6kpz9xx8YCCl/xPCk3JZHIxiaFI=";
        for text in ["an example key of the tests, 32b", "whsec_YW4gZXhhbXBsZSBrZXkgb2YgdGhlIHRlc3RzLCAzMmI="] {
            let key = key(text).expect("a key");
            assert_eq!(key.sign("msg_1", "1767225600", br#"{"hello":"world"}"#), wanted);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(key("").err(), Some(KeyError::Short));
        assert_eq!(key("whsec_YWJj").err(), Some(KeyError::Short));
        assert_eq!(key("whsec_*").err(), Some(KeyError::Encoding));
    }
}
