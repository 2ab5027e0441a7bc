//! The Milvus API: gRPC calls, their checks, and the translation between Milvus' messages and the engine's types.

pub mod admission;
pub mod auth;
pub mod collections;
pub mod data;
pub mod fields;
pub mod indexes;
pub mod milvus;
pub mod params;
pub mod schema;
pub mod writers;
