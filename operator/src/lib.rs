//! The VectorKeep operator: turns `VectorCluster` resources into isolated, encrypted clusters.
//!
//! One reconcile is a straight line, one module per step:
//! [`observe`] reads what is there, [`plan`] decides (pure: no client, no clock of its own), [`apply`] writes,
//! [`report`] says what was found and done. [`controller`] drives them; [`poller`] asks the engines beside it.
#![warn(missing_docs)]

pub mod admin;
pub mod apply;
pub mod backoff;
pub mod cert_manager;
pub mod certificates;
pub mod chain;
pub mod cli;
pub mod controller;
pub mod isolation;
pub mod lease;
pub mod metrics;
pub mod notify;
pub mod observe;
pub mod observed;
pub mod plan;
pub mod poller;
pub mod report;
pub mod secret_watch;
pub mod sensitive;
pub mod server;
pub mod settings;
pub mod tls;
pub mod upgrade;
