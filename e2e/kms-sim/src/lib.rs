//! A strict simulator of AWS KMS and of STS `AssumeRoleWithWebIdentity`, for tests: it refuses what AWS refuses and
//! lets tests break it on purpose. `README.md` describes what it checks and its control endpoint.
//!
//! A request on the protocol port passes [`server`] (connections, TLS), [`exchange`] (which service, faults, access
//! log), [`sigv4`] (who asks), then [`kms`] or [`sts`], which read and change the [`simulator::World`]. [`control`]
//! is how tests set that world up.

pub mod access_log;
pub mod api_error;
pub mod arn;
pub mod config;
pub mod control;
pub mod exchange;
pub mod fault;
pub mod key;
pub mod kms;
pub mod policy;
pub mod propagation;
pub mod server;
pub mod session;
pub mod sigv4;
pub mod simulator;
pub mod sts;
pub mod tls;
pub mod token;
