//! The names that bind ciphertext: store, zone, purpose, and the encryption context made of them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Wraps 16 bytes read from a record.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes, as they stand in headers and records.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// A fresh id from the system's random source; `None` if that source fails.
            pub(crate) fn random() -> Option<Self> {
                let mut bytes = [0; 16];
                rand::fill(&mut bytes).ok()?;
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Accepts exactly 32 lower-case hex digits, the form that `Display` writes.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; 16];
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(ParseIdError);
                }
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError)?;
                Ok(Self(bytes))
            }
        }
    };
}

random_id!(
    /// Identity of one store: 128 random bits, fixed when the store is created.
    StoreId
);
random_id!(
    /// Identity of one encryption zone: the system zone, or a database (then it is the database id).
    ZoneId
);

/// The text is not 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is written as 32 lower-case hex digits")]
pub struct ParseIdError;

/// What a zone protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Users, roles and the list of databases.
    System,
    /// One database.
    Database,
}

impl Purpose {
    /// The word used in the encryption context.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Database => "database",
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::System => 1,
            Self::Database => 2,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::System),
            2 => Some(Self::Database),
            _ => None,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The encryption context of both KMS calls. Not secret: it shows in the customer's audit trail, and key policies
/// can demand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionContext {
    cluster_id: String,
    zone: ZoneId,
    purpose: Purpose,
}

impl EncryptionContext {
    /// The context of one zone of one cluster.
    pub fn new(cluster_id: impl Into<String>, zone: ZoneId, purpose: Purpose) -> Self {
        Self { cluster_id: cluster_id.into(), zone, purpose }
    }

    /// Exactly the three pairs that are sent, in canonical order.
    pub fn pairs(&self) -> [(&'static str, String); 3] {
        [
            ("vectorkeep:cluster", self.cluster_id.clone()),
            ("vectorkeep:zone", self.zone.to_string()),
            ("vectorkeep:purpose", self.purpose.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_display() {
        let id = ZoneId::random().unwrap();
        assert_eq!(id.to_string().parse::<ZoneId>(), Ok(id));
        assert_eq!(id.to_string().len(), 32);
    }

    #[test]
    fn only_lower_case_hex_of_the_right_length_is_an_id() {
        for text in ["", "00", "0123456789ABCDEF0123456789abcdef", "0123456789abcdef0123456789abcdeg"] {
            assert_eq!(text.parse::<StoreId>(), Err(ParseIdError), "{text}");
        }
    }

    #[test]
    fn the_context_holds_exactly_the_documented_pairs() {
        let context = EncryptionContext::new("vc0123456789abcdef", ZoneId::from_bytes([7; 16]), Purpose::Database);
        assert_eq!(
            context.pairs(),
            [
                ("vectorkeep:cluster", "vc0123456789abcdef".to_owned()),
                ("vectorkeep:zone", "07".repeat(16)),
                ("vectorkeep:purpose", "database".to_owned()),
            ]
        );
    }
}
