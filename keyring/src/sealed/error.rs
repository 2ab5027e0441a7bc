//! Errors of the sealed store, and how to find them inside an `object_store::Error`.

use std::error::Error;

/// Why bytes from the outer store were not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityFault {
    /// It does not start as a sealed object does.
    #[error("it is not a sealed object")]
    NotSealed,
    /// A format or cipher suite that this release does not know.
    #[error("its format version or cipher suite is unknown to this release")]
    UnknownFormat,
    /// A header field with an impossible value.
    #[error("its header has an impossible value")]
    Header,
    /// Sealed for another store.
    #[error("it was sealed for another store")]
    WrongStore,
    /// Sealed for another zone.
    #[error("it was sealed for another zone")]
    WrongZone,
    /// Sealed with the chunk size of another kind of object.
    #[error("it was sealed as another kind of object")]
    WrongKind,
    /// Sealed under a key version that the keyring does not hold.
    #[error("it was sealed under a key version that the keyring does not hold")]
    UnknownKeyVersion,
    /// Its key commitment is not that of the zone's key.
    #[error("its key commitment does not match the zone's key")]
    Commitment,
    /// The wrapped data key does not open: changed, or the object was renamed.
    #[error("its data key does not open: it was changed, or it is another object under this name")]
    WrappedKey,
    /// A chunk does not open: changed, moved, or the object was cut or extended.
    #[error("chunk {index} does not open: it was changed or moved, or the object was cut or extended")]
    Chunk {
        /// Position of the chunk in the object.
        index: u64,
    },
    /// No object has this size.
    #[error("its size is impossible for a sealed object: it was cut or extended")]
    Size,
}

/// What a sealed store adds to the errors of the store below it. Travels as the source of an
/// `object_store::Error::NotSupported`; [`sealed_error_in`] finds it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// The object is not what was written under its name. Nothing was returned and nothing was changed.
    #[error("sealed object {object} is damaged or was tampered with: {fault}; restore it from a backup")]
    Integrity {
        /// Path in the outer store.
        object: String,
        /// What is wrong.
        fault: IntegrityFault,
    },
    /// The keys may not be used: the lease ended or ran out.
    #[error("the store is locked: its master key is not accessible")]
    Locked,
    /// The cryptographic library or the random source failed.
    #[error("the cryptographic library failed while working on {object}")]
    Crypto {
        /// Path in the outer store.
        object: String,
    },
}

impl From<SealedError> for object_store::Error {
    /// `NotSupported`, because callers that retry take anything less definite for a passing failure of the store.
    fn from(error: SealedError) -> Self {
        Self::NotSupported { source: Box::new(error) }
    }
}

/// The sealed store's own error in a chain of sources, however deep and in whatever library's error it is wrapped.
pub fn sealed_error_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a SealedError> {
    let mut cause = Some(error);
    // A chain of sources ends in practice within a few links; the bound keeps a cyclic one from hanging a request.
    for _ in 0..64 {
        let current = cause?;
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        cause = current.source();
    }
    None
}

/// Whether `error` means that stored bytes did not authenticate (Milvus code 1009).
pub fn is_integrity_error(error: &object_store::Error) -> bool {
    matches!(sealed_error_in(error), Some(SealedError::Integrity { .. }))
}

/// Whether `error` means that the store is locked (Milvus code 2500).
pub fn is_locked_error(error: &object_store::Error) -> bool {
    matches!(sealed_error_in(error), Some(SealedError::Locked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Arc<object_store::Error>);

    #[test]
    fn the_cause_is_found_through_foreign_wrappers() {
        let inner: object_store::Error =
            SealedError::Integrity { object: "x".to_owned(), fault: IntegrityFault::Size }.into();
        assert!(is_integrity_error(&inner));
        assert!(!is_locked_error(&inner));
        let wrapped = Outer(Arc::new(inner));
        assert!(sealed_error_in(&wrapped).is_some());
        let other = object_store::Error::Generic { store: "x", source: "y".into() };
        assert!(!is_integrity_error(&other));
    }
}
