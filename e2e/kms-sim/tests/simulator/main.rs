//! The simulator under the real AWS SDK clients, set up through its control endpoint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authentication;
mod authorization;
mod control;
mod encryption;
mod faults;
mod issuer;
mod process;
mod web_identity;
mod world;
