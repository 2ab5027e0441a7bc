//! Users and passwords.
//!
//! Passwords are kept as argon2id hashes in the system shard. A password is verified once per credential; after that a
//! cache of verified credentials (their SHA-256, in memory only) answers. Verifications run one at a time, and not many
//! may wait for theirs, so that guessing passwords can take neither the processor nor much memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};
use crate::proto::storage;
use crate::storage::keys::{self, Kind};
use crate::storage::shard::{Operation, Shard, decode};

/// The user that every cluster has.
pub const ROOT: &str = "root";
const PASSWORD_LENGTH: std::ops::RangeInclusive<usize> = 6..=72;
/// Credentials remembered as verified. More would be a client that changes them with every call.
const CACHE_ENTRIES: usize = 1024;
/// Verifications that may wait, about five seconds of them. What waits is not read, but a connection takes some in.
const WAITING: usize = 128;

/// See the module's documentation.
pub struct Users {
    system: Arc<Shard>,
    verified: Arc<Mutex<Verified>>,
    waiting: Semaphore,
    /// One verification at a time.
    verifying: tokio::sync::Mutex<()>,
}

/// Credentials that are known to be right.
#[derive(Default)]
struct Verified {
    users: HashMap<[u8; 32], String>,
    /// Changes of passwords so far. What was verified before one and arrives after it is not remembered.
    changes: u64,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

impl Users {
    /// The users in the system shard.
    pub fn new(system: Arc<Shard>) -> Self {
        let waiting = Semaphore::new(WAITING);
        Self { system, verified: Arc::default(), waiting, verifying: tokio::sync::Mutex::default() }
    }

    /// Makes the root user with `password` if there is none yet.
    pub async fn ensure_root(&self, password: &str) -> Result<()> {
        match self.system.record(&keys::named(Kind::User, ROOT)).await? {
            Some(_) => Ok(()),
            None => self.store(ROOT, password).await,
        }
    }

    /// Names of all users.
    pub async fn names(&self) -> Result<Vec<String>> {
        let records = self.system.records(keys::kind(Kind::User)).await?;
        Ok(records.into_iter().map(|(key, _)| String::from_utf8_lossy(&key[2..]).into_owned()).collect())
    }

    /// The user that an `authorization` header (base64 of `user:password`) names, if the password is right.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<String> {
        let header = authorization.ok_or_else(|| unauthenticated("the request has no credentials"))?;
        let fingerprint = fingerprint(header);
        if let Some(user) = self.verified().users.get(&fingerprint) {
            return Ok(user.clone());
        }
        let decoded = STANDARD.decode(header.trim()).map(Zeroizing::new);
        let decoded = decoded.map_err(|_| unauthenticated("the credentials are not base64"))?;
        let (user, password) = std::str::from_utf8(&decoded)
            .ok()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| unauthenticated("the credentials are not of the form user:password"))?;
        let _one = self.turn().await?;
        // Others may have waited with the same credentials.
        if let Some(user) = self.verified().users.get(&fingerprint) {
            return Ok(user.clone());
        }
        let changes = self.verified().changes;
        self.verify(user, password).await?;
        let mut verified = self.verified();
        if verified.changes == changes {
            if verified.users.len() >= CACHE_ENTRIES {
                verified.users.clear();
            }
            verified.users.insert(fingerprint, user.to_owned());
        }
        Ok(user.to_owned())
    }

    /// Changes a user's password. `old` and `new` are base64, as the API sends them.
    pub async fn change_password(&self, user: &str, old: &str, new: &str) -> Result<()> {
        let text = |encoded: &str| {
            let decoded = STANDARD.decode(encoded).ok().map(Zeroizing::new);
            decoded.and_then(|bytes| std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
        };
        let (old, new) = text(old).zip(text(new)).ok_or_else(|| Error::invalid("passwords must be base64 of UTF-8"))?;
        if !PASSWORD_LENGTH.contains(&new.len()) {
            return Err(Error::invalid(format!(
                "invalid password length: a password must have {} to {} characters",
                PASSWORD_LENGTH.start(),
                PASSWORD_LENGTH.end()
            )));
        }
        let _one = self.turn().await?;
        self.verify(user, &old).await?;
        self.store(user, &new).await
    }

    /// The turn to verify a password, until the answer is dropped.
    async fn turn(&self) -> Result<(SemaphorePermit<'_>, tokio::sync::MutexGuard<'_, ()>)> {
        let waiting = self.waiting.try_acquire();
        // No fault of the server's, though it is busy: else guessing would make it look bad.
        let waiting = waiting.map_err(|_| unauthenticated("too many passwords are being verified; try again"))?;
        Ok((waiting, self.verifying.lock().await))
    }

    /// Checks a password. It is the caller's turn.
    async fn verify(&self, user: &str, password: &str) -> Result<()> {
        let record = self.system.record(&keys::named(Kind::User, user)).await?;
        let stored: storage::User = match record {
            Some(bytes) => decode("user", bytes)?,
            // The same work for a user that doesn't exist, so that time doesn't tell which names do.
            None => storage::User { password_hash: DECOY.into() },
        };
        let right = tokio::task::block_in_place(|| {
            PasswordHash::new(&stored.password_hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        });
        match right {
            true => Ok(()),
            false => Err(unauthenticated("auth check failure, please check username and password are correct")),
        }
    }

    /// Makes a password durable. In the same moment all credentials are forgotten that were known to be right, also if
    /// nobody waits for it.
    async fn store(&self, user: &str, password: &str) -> Result<()> {
        let mut salt = [0u8; 16];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::new(Code::Unexpected, "no random numbers"))?;
        let hash = tokio::task::block_in_place(|| {
            let salt = SaltString::encode_b64(&salt)?;
            Argon2::default().hash_password(password.as_bytes(), &salt).map(|hash| hash.to_string())
        });
        let password_hash = hash.map_err(|_| Error::new(Code::Unexpected, "the password can't be hashed"))?;
        let record = storage::User { password_hash }.encode_to_vec();
        let operation = Operation::Put(keys::named(Kind::User, user), record.into());
        let verified = self.verified.clone();
        let forget = move || {
            let mut verified = verified.lock().unwrap_or_else(PoisonError::into_inner);
            verified.users.clear();
            verified.changes += 1;
        };
        self.system.commit(|_| Ok((vec![operation], forget))).await.map(drop)
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, Verified> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hash of no password, with the parameters of real ones.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn fingerprint(header: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, header.as_bytes()).as_ref());
    bytes
}

fn unauthenticated(what: &str) -> Error {
    Error::new(Code::NotAuthenticated, what)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use object_store::memory::InMemory;

    use super::*;
    use crate::budget::Budget;

    async fn users(password: &str) -> Arc<Users> {
        let store = Arc::new(InMemory::new());
        let users = Users::new(Shard::open(store, Budget::new(1 << 20), Arc::default()).await.unwrap());
        users.ensure_root(password).await.unwrap();
        Arc::new(users)
    }

    /// The header of a request. As many different ones say the same as there are numbers of spaces.
    fn header(password: &str, spaces: usize) -> String {
        STANDARD.encode(format!("{ROOT}:{password}")) + &" ".repeat(spaces)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_password_is_worth_nothing_after_its_change_even_if_it_was_being_verified_meanwhile() {
        let users = users("password 0").await;
        for change in 0..4 {
            let (old, new) = (format!("password {change}"), format!("password {}", change + 1));
            let login = |spaces: usize| {
                let (users, header) = (users.clone(), header(&old, spaces));
                tokio::spawn(async move { users.authenticate(Some(&header)).await.is_ok() })
            };
            let before: Vec<_> = (0..2).map(login).collect();
            let changing = tokio::spawn({
                let (users, old, new) = (users.clone(), STANDARD.encode(&old), STANDARD.encode(&new));
                async move { users.change_password(ROOT, &old, &new).await }
            });
            let meanwhile: Vec<_> = (2..6).map(login).collect();
            changing.await.unwrap().unwrap();
            for login in before.into_iter().chain(meanwhile) {
                login.await.unwrap();
            }
            for spaces in 0..6 {
                assert!(users.authenticate(Some(&header(&old, spaces))).await.is_err(), "change {change}");
            }
            assert!(users.authenticate(Some(&header(&new, 0))).await.is_ok());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_guesses_passwords_can_not_make_many_requests_wait() {
        let users = users("password").await;
        let known = header("password", 0);
        assert!(users.authenticate(Some(&known)).await.is_ok());
        let others_turn = users.turn().await.unwrap();
        let mut guesses: Vec<_> = (0..WAITING)
            .map(|guess| {
                let (users, guess) = (users.clone(), header("guess", guess));
                Box::pin(async move { users.authenticate(Some(&guess)).await })
            })
            .collect();
        let refused = guesses.iter_mut().filter_map(|guess| guess.now_or_never());
        assert_eq!(
            refused.map(|refused| refused.map_err(|error| error.code)).collect::<Vec<_>>(),
            [Err(Code::NotAuthenticated)]
        );
        assert!(users.authenticate(Some(&known)).await.is_ok(), "who is known does not wait");
        drop((guesses, others_turn));
        assert!(users.authenticate(Some(&header("password", 1))).await.is_ok());
    }

    #[test]
    fn the_decoy_is_a_hash_that_no_password_has() {
        let hash = PasswordHash::new(DECOY).map_err(|error| error.to_string());
        assert!(hash.is_ok_and(|hash| Argon2::default().verify_password(b"", &hash).is_err()));
    }
}
