//! Errors as clients see them: Milvus codes inside the answer's status.

use crate::proto::common::{ErrorCode, Status};

/// Milvus error codes that the engine answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Code {
    NotReady = 1,
    Unavailable = 2,
    QuotaExceeded = 9,
    CollectionNotFound = 100,
    CollectionNotLoaded = 101,
    IllegalSchema = 105,
    PartitionNotFound = 200,
    IndexNotFound = 700,
    DatabaseNotFound = 800,
    /// Milvus' "IO failed"; 1000 is its "key not found", which sounds like a master key here.
    Io = 1001,
    DataIntegrity = 1009,
    InvalidParameter = 1100,
    MissingParameter = 1101,
    NotAuthenticated = 1400,
    NotPermitted = 1401,
    FieldNotFound = 1700,
    FieldInvalid = 1701,
    KeyRevoked = 2500,
    Unsupported = 3000,
    Unexpected = 65535,
}

impl Code {
    /// Whether a request failed for a reason of the server's: nothing that the client did, and no key that its owner
    /// refused.
    pub fn is_servers_fault(self) -> bool {
        matches!(
            self,
            Self::NotReady
                | Self::Unavailable
                | Self::QuotaExceeded
                | Self::Io
                | Self::DataIntegrity
                | Self::Unexpected
        )
    }
}

/// What went wrong with a request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The code that the client gets.
    pub code: Code,
    /// What happened, to which object, and what to do.
    pub message: String,
}

/// Result of serving a request.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A request that can't be right.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameter, message)
    }

    /// A feature of Milvus that this engine does not serve.
    pub fn unsupported(what: &str) -> Self {
        Self::new(Code::Unsupported, format!("{what} is not supported by this engine"))
    }

    /// The key of the cluster can't be used.
    pub fn key_revoked() -> Self {
        Self::new(
            Code::KeyRevoked,
            "the encryption key of this cluster is not accessible; data is locked until its owner allows its use again",
        )
    }

    /// What the sealed store says about its objects, not about the store below it.
    fn from_sealed_store(error: &object_store::Error) -> Option<Self> {
        if vectorkeep_keyring::is_locked_error(error) {
            return Some(Self::key_revoked());
        }
        vectorkeep_keyring::is_integrity_error(error)
            .then(|| Self::new(Code::DataIntegrity, format!("stored data failed its integrity check: {error}")))
    }

    /// The in-body status of an answer.
    pub fn status(&self) -> Status {
        let deprecated = match self.code {
            Code::CollectionNotFound => ErrorCode::CollectionNotExists,
            Code::InvalidParameter | Code::MissingParameter | Code::FieldNotFound | Code::FieldInvalid => {
                ErrorCode::IllegalArgument
            }
            Code::NotPermitted | Code::NotAuthenticated => ErrorCode::PermissionDenied,
            Code::IndexNotFound => ErrorCode::IndexNotExist,
            Code::QuotaExceeded => ErrorCode::MemoryQuotaExhausted,
            Code::NotReady => ErrorCode::NotReadyServe,
            _ => ErrorCode::UnexpectedError,
        };
        Status {
            error_code: deprecated as i32,
            code: self.code as i32,
            reason: self.message.clone(),
            detail: self.message.clone(),
            retriable: matches!(self.code, Code::NotReady | Code::Unavailable),
            ..Default::default()
        }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        match Self::from_sealed_store(&error) {
            Some(known) => known,
            None => Self::new(Code::Io, format!("the object store failed: {error}")),
        }
    }
}

impl From<slatedb::Error> for Error {
    fn from(error: slatedb::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut text = error.to_string();
        while let Some(inner) = source {
            // SlateDB's own words leave out what the store said.
            let cause = inner.to_string();
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
            let store_error = inner
                .downcast_ref::<object_store::Error>()
                .or_else(|| inner.downcast_ref::<std::sync::Arc<object_store::Error>>().map(|error| error.as_ref()));
            if let Some(known) = store_error.and_then(Self::from_sealed_store) {
                return known;
            }
            source = inner.source();
        }
        match error.kind() {
            slatedb::ErrorKind::Data => Self::new(Code::DataIntegrity, format!("the shard is damaged: {text}")),
            _ => Self::new(Code::Io, format!("the shard's log failed: {text}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_told_by_milvus_code_for_that() {
        let error = object_store::Error::Generic { store: "test", source: "no space left".into() };
        let status = Error::from(error).status();
        assert_eq!(status.code, 1001);
        assert!(status.reason.contains("no space left"));
    }
}
