//! The VectorKeep engine: an encrypted vector database that speaks the Milvus API.
//!
//! Read it in the order in which a request flows: [`listen`] and [`tls`] take connections, [`server`] checks calls and
//! translates them, [`gate`] lets them in while the keys are there, [`filter`] and [`query`] read, [`storage`] keeps.
//! [`engine`] ties them together and decides when to unlock and when to go.
#![warn(missing_docs)]

pub mod admin;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod column;
pub mod config;
pub mod dev;
pub mod engine;
pub mod error;
pub mod filter;
pub mod gate;
pub mod harden;
pub mod isolation;
pub mod listen;
pub mod live;
pub mod metrics;
pub mod process;
pub mod proto;
pub mod query;
pub mod release;
pub mod schema;
pub mod self_test;
pub mod server;
pub mod storage;
pub mod tls;
pub mod traffic;
