//! The simulated world: keys, roles, the issuer and sessions, faults, and the access log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use crate::access_log::AccessLog;
use crate::arn::RoleArn;
use crate::config::{Config, KeySpec, RoleSpec, SpecError, Trust};
use crate::fault::FaultBoard;
use crate::key::{Key, KeyState};
use crate::policy::Policy;
use crate::session::{Sessions, unique_id};
use crate::token::{Issuer, IssuerSpec};

/// Everything that both services and the control endpoint share.
#[derive(Debug)]
pub struct Simulator {
    /// Injected faults.
    pub faults: FaultBoard,
    /// Access log.
    pub log: AccessLog,
    world: Mutex<World>,
}

/// What the services know.
#[derive(Debug, Default)]
pub struct World {
    /// Keys by key id.
    pub keys: BTreeMap<String, Key>,
    /// Roles by name.
    pub roles: BTreeMap<String, Role>,
    /// Issuer of web identities.
    pub issuer: Option<Issuer>,
    /// Temporary credentials.
    pub sessions: Sessions,
}

/// A role.
#[derive(Debug)]
pub struct Role {
    /// Its ARN.
    pub arn: RoleArn,
    /// Its stable id.
    pub id: String,
    /// Who may assume it.
    pub trust: Trust,
}

impl Simulator {
    /// An empty world.
    #[must_use]
    pub fn new(log: AccessLog) -> Self {
        Self { faults: FaultBoard::default(), log, world: Mutex::default() }
    }

    /// A world with what a configuration file describes.
    ///
    /// # Errors
    /// A description can't be used.
    pub fn with_config(config: Config, log: AccessLog) -> Result<Self, SpecError> {
        let simulator = Self::new(log);
        if let Some(issuer) = config.issuer {
            simulator.put_issuer(issuer)?;
        }
        for (key_id, spec) in config.keys {
            simulator.put_key(&key_id, &spec)?;
        }
        for (name, spec) in config.roles {
            simulator.put_role(&name, spec)?;
        }
        Ok(simulator)
    }

    /// The world, for as long as the answer to one request is worked out.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a key. If there is one of this ARN and usage already, only its state and policy change: what it
    /// encrypted stays readable.
    ///
    /// # Errors
    /// The description can't be used.
    pub fn put_key(&self, key_id: &str, spec: &KeySpec) -> Result<(), SpecError> {
        let arn = spec.key_arn(key_id)?;
        let policy = Policy::parse(&spec.policy)?;
        let (now, delay) = (Instant::now(), self.faults.propagation_delay());
        let mut world = self.world();
        match world.keys.get_mut(key_id).filter(|key| key.arn == arn && key.usage == spec.key_usage) {
            Some(key) => {
                key.state.change(spec.state, now, delay);
                key.policy.change(policy, now, delay);
            }
            None => {
                let key = Key::new(arn, spec.key_usage, spec.state, policy).map_err(|_| SpecError::Cryptography)?;
                world.keys.insert(key_id.to_owned(), key);
            }
        }
        Ok(())
    }

    /// Removes a key for good, with all its backing keys.
    ///
    /// # Errors
    /// There is no such key.
    pub fn delete_key(&self, key_id: &str) -> Result<(), SpecError> {
        self.world().keys.remove(key_id).map(drop).ok_or_else(|| SpecError::NoSuchKey(key_id.to_owned()))
    }

    /// Changes the state of a key.
    ///
    /// # Errors
    /// There is no such key.
    pub fn set_state(&self, key_id: &str, state: KeyState) -> Result<(), SpecError> {
        let delay = self.faults.propagation_delay();
        self.with_key(key_id, |key| {
            key.state.change(state, Instant::now(), delay);
            Ok(())
        })
    }

    /// Changes the policy of a key.
    ///
    /// # Errors
    /// There is no such key, or the policy is malformed.
    pub fn set_policy(&self, key_id: &str, document: &Value) -> Result<(), SpecError> {
        let policy = Policy::parse(document)?;
        let delay = self.faults.propagation_delay();
        self.with_key(key_id, |key| {
            key.policy.change(policy, Instant::now(), delay);
            Ok(())
        })
    }

    /// Gives a key a new backing key.
    ///
    /// # Errors
    /// There is no such key.
    pub fn rotate(&self, key_id: &str) -> Result<(), SpecError> {
        self.with_key(key_id, |key| key.rotate().map_err(|_| SpecError::Cryptography))
    }

    /// What there is to know of a key, without its material. State and policy are the latest accepted ones;
    /// `effectiveState` is what callers see.
    ///
    /// # Errors
    /// There is no such key.
    pub fn describe_key(&self, key_id: &str) -> Result<Value, SpecError> {
        self.with_key(key_id, |key| {
            Ok(json!({
                "arn": key.arn.to_string(),
                "keyUsage": key.usage,
                "state": key.state.latest(),
                "effectiveState": key.state.at(Instant::now()),
                "backingKeys": key.backing_keys(),
                "policy": key.policy.latest().document(),
            }))
        })
    }

    /// Creates or replaces a role. Sessions that are open go on.
    ///
    /// # Errors
    /// The description can't be used.
    pub fn put_role(&self, name: &str, spec: RoleSpec) -> Result<(), SpecError> {
        let arn = spec.role_arn(name)?;
        let mut world = self.world();
        let id = world.roles.get(name).map_or_else(|| unique_id("AROA"), |role| role.id.clone());
        world.roles.insert(name.to_owned(), Role { arn, id, trust: spec.trust });
        Ok(())
    }

    /// Sets the issuer of web identities.
    ///
    /// # Errors
    /// It has no usable key.
    pub fn put_issuer(&self, spec: IssuerSpec) -> Result<(), SpecError> {
        let issuer = Issuer::new(spec)?;
        self.world().issuer = Some(issuer);
        Ok(())
    }

    /// Ends all sessions; answers how many were open.
    pub fn expire_sessions(&self) -> usize {
        self.world().sessions.expire_all(SystemTime::now())
    }

    fn with_key<T>(&self, key_id: &str, act: impl FnOnce(&mut Key) -> Result<T, SpecError>) -> Result<T, SpecError> {
        let mut world = self.world();
        let key = world.keys.get_mut(key_id).ok_or_else(|| SpecError::NoSuchKey(key_id.to_owned()))?;
        act(key)
    }
}
