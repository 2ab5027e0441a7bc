//! A key file instead of a KMS. **For development only**: the key lies beside the data that it protects.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, rand};
use zeroize::Zeroizing;

use super::{DataKey, Kms, KmsError};
use crate::ezk::{EZK_LEN, EzkBytes};
use crate::ids::EncryptionContext;

const MAGIC: &[u8; 8] = b"VKLOCAL1";
const FINGERPRINT_LEN: usize = 16;
const TAG_LEN: usize = 16;
const SEALED_AT: usize = MAGIC.len() + NONCE_LEN + FINGERPRINT_LEN;
const WRAPPED_LEN: usize = SEALED_AT + EZK_LEN + TAG_LEN;

/// A master key in a file of 32 raw bytes.
///
/// The file is read again for every call, so that removing it acts as a refusal, as disabling a key in a KMS does.
pub struct LocalKms {
    path: PathBuf,
}

impl fmt::Debug for LocalKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKms").finish_non_exhaustive()
    }
}

impl LocalKms {
    /// Uses an existing key file, and fails at once if it is not one.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KmsError> {
        let kms = Self { path: path.into() };
        kms.read_key()?;
        tracing::warn!("the local key provider is for development only: the master key lies beside the data");
        Ok(kms)
    }

    /// As [`open`](Self::open), but first makes a random key file, readable by its owner only, if there is none.
    pub fn create_or_open(path: impl Into<PathBuf>) -> Result<Self, KmsError> {
        let path = path.into();
        match create_key_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(KmsError::unreachable(format!(
                    "the local key file can't be created ({error}); check that its folder exists and is writable"
                )));
            }
        }
        Self::open(path)
    }

    fn read_key(&self) -> Result<Zeroizing<[u8; EZK_LEN]>, KmsError> {
        let mut key = Zeroizing::new([0; EZK_LEN]);
        // One byte more than a key, so that a longer file shows.
        let mut rest = [0; 1];
        let read = File::open(&self.path).and_then(|mut file| {
            file.read_exact(key.as_mut_slice())?;
            file.read(&mut rest)
        });
        match read {
            Ok(0) => Ok(key),
            Ok(_) => Err(KmsError::invalid("the local key file is longer than 32 bytes; restore the original file")),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => KmsError::refused(format!(
                    "the local key file can't be opened ({error}); put it back or allow access to it"
                )),
                io::ErrorKind::UnexpectedEof => {
                    KmsError::invalid("the local key file is shorter than 32 bytes; restore the original file")
                }
                _ => KmsError::unreachable(format!("the local key file can't be read ({error})")),
            }),
        }
    }

    fn cipher(key: &[u8; EZK_LEN]) -> Result<LessSafeKey, KmsError> {
        UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| library_failed())
    }
}

#[async_trait]
impl Kms for LocalKms {
    async fn generate_data_key(&self, context: &EncryptionContext) -> Result<DataKey, KmsError> {
        let master = self.read_key()?;
        let mut plaintext = Zeroizing::new([0; EZK_LEN]);
        let mut nonce = [0; NONCE_LEN];
        rand::fill(plaintext.as_mut_slice()).map_err(|_| library_failed())?;
        rand::fill(&mut nonce).map_err(|_| library_failed())?;

        let mut wrapped = Vec::with_capacity(WRAPPED_LEN);
        wrapped.extend_from_slice(MAGIC);
        wrapped.extend_from_slice(&nonce);
        wrapped.extend_from_slice(&fingerprint(&master));
        wrapped.extend_from_slice(plaintext.as_slice());
        let tag = Self::cipher(&master)?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated_data(context)),
                &mut wrapped[SEALED_AT..],
            )
            .map_err(|_| library_failed())?;
        wrapped.extend_from_slice(tag.as_ref());
        Ok(DataKey { plaintext: EzkBytes::take(plaintext.as_mut_slice())?, wrapped })
    }

    async fn decrypt(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<EzkBytes, KmsError> {
        let master = self.read_key()?;
        if wrapped.len() != WRAPPED_LEN || !wrapped.starts_with(MAGIC) {
            return Err(KmsError::invalid("the wrapped key was not made by the local provider"));
        }
        let nonce_end = MAGIC.len() + NONCE_LEN;
        let mine = fingerprint(&master);
        if constant_time::verify_slices_are_equal(&mine, &wrapped[nonce_end..SEALED_AT]).is_err() {
            return Err(KmsError::invalid(
                "the wrapped key was made with another local key file; restore the original file",
            ));
        }
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&wrapped[MAGIC.len()..nonce_end]);
        let mut opened = Zeroizing::new(wrapped[SEALED_AT..].to_vec());
        let plaintext = Self::cipher(&master)?
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(associated_data(context)), &mut opened)
            .map_err(|_| {
                KmsError::invalid("the wrapped key does not belong to this cluster, zone and purpose, or is damaged")
            })?;
        Ok(EzkBytes::take(plaintext)?)
    }
}

fn create_key_file(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0; EZK_LEN]);
    rand::fill(key.as_mut_slice()).map_err(|_| io::Error::other("no random numbers"))?;
    // Written aside and linked into place, so that a crash leaves no half key under the name.
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| {
            file.write_all(key.as_slice())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::hard_link(&aside, path));
    let _ = std::fs::remove_file(&aside);
    written?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn fingerprint(key: &[u8; EZK_LEN]) -> [u8; FINGERPRINT_LEN] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(b"vectorkeep local key v1\0");
    hash.update(key);
    let mut out = [0; FINGERPRINT_LEN];
    out.copy_from_slice(&hash.finish().as_ref()[..FINGERPRINT_LEN]);
    out
}

fn associated_data(context: &EncryptionContext) -> Vec<u8> {
    let mut data = MAGIC.to_vec();
    for (name, value) in context.pairs() {
        for text in [name, value.as_str()] {
            data.extend_from_slice(&(text.len() as u32).to_be_bytes());
            data.extend_from_slice(text.as_bytes());
        }
    }
    data
}

fn library_failed() -> KmsError {
    KmsError::unreachable("the cryptographic library failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Purpose, ZoneId};
    use crate::kms::KmsErrorKind;

    fn context(cluster: &str) -> EncryptionContext {
        EncryptionContext::new(cluster, ZoneId::from_bytes([1; 16]), Purpose::System)
    }

    fn kms() -> (tempfile::TempDir, PathBuf, LocalKms) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let kms = LocalKms::create_or_open(&path).unwrap();
        (dir, path, kms)
    }

    #[tokio::test]
    async fn a_data_key_unwraps_only_under_its_context() {
        let (_dir, _path, kms) = kms();
        let key = kms.generate_data_key(&context("a")).await.unwrap();
        assert_eq!(key.wrapped.len(), WRAPPED_LEN);
        let opened = kms.decrypt(&key.wrapped, &context("a")).await.unwrap();
        assert_eq!(opened.expose(), key.plaintext.expose());
        let other = kms.decrypt(&key.wrapped, &context("b")).await.unwrap_err();
        assert_eq!(other.kind, KmsErrorKind::Invalid);
    }

    #[tokio::test]
    async fn every_flipped_bit_of_a_wrapped_key_is_invalid() {
        let (_dir, _path, kms) = kms();
        let key = kms.generate_data_key(&context("a")).await.unwrap();
        for index in 0..key.wrapped.len() {
            let mut bad = key.wrapped.clone();
            bad[index] ^= 0x10;
            let error = kms.decrypt(&bad, &context("a")).await.unwrap_err();
            assert_eq!(error.kind, KmsErrorKind::Invalid, "byte {index}");
        }
    }

    #[tokio::test]
    async fn a_removed_key_file_is_a_refusal_and_its_return_heals() {
        let (dir, path, kms) = kms();
        let key = kms.generate_data_key(&context("a")).await.unwrap();
        let away = dir.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        let error = kms.decrypt(&key.wrapped, &context("a")).await.unwrap_err();
        assert_eq!(error.kind, KmsErrorKind::Refused);
        assert!(LocalKms::open(&path).is_err());
        std::fs::rename(&away, &path).unwrap();
        assert!(kms.decrypt(&key.wrapped, &context("a")).await.is_ok());
    }

    #[tokio::test]
    async fn another_key_file_and_a_wrong_length_are_invalid() {
        let (_dir, path, kms) = kms();
        let key = kms.generate_data_key(&context("a")).await.unwrap();
        for content in [vec![1; 32], vec![1; 31], vec![1; 33]] {
            std::fs::write(&path, content).unwrap();
            let error = kms.decrypt(&key.wrapped, &context("a")).await.unwrap_err();
            assert_eq!(error.kind, KmsErrorKind::Invalid);
        }
    }

    #[test]
    fn the_key_file_is_private_and_made_once() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, path, _kms) = kms();
        let first = std::fs::read(&path).unwrap();
        LocalKms::create_or_open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
