//! The VectorKeep engine: an encrypted vector database that speaks the Milvus API.

pub mod column;
pub mod filter;
pub mod proto;
pub mod schema;
