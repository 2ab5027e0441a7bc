//! Generated messages: the Milvus protocol and the stored records.
#![allow(missing_docs, clippy::all, unreachable_pub)]

/// `milvus.proto.common`
pub mod common {
    include!(concat!(env!("OUT_DIR"), "/milvus.proto.common.rs"));
}
/// `milvus.proto.schema`
pub mod schema {
    include!(concat!(env!("OUT_DIR"), "/milvus.proto.schema.rs"));
}
/// `milvus.proto.milvus`
pub mod milvus {
    include!(concat!(env!("OUT_DIR"), "/milvus.proto.milvus.rs"));
}
/// `vectorkeep.storage`
pub mod storage {
    include!(concat!(env!("OUT_DIR"), "/vectorkeep.storage.rs"));
}
