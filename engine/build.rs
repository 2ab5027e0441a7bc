//! Compiles the protocol and storage messages. `protox` parses them, so no `protoc` is needed.
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    let files = ["milvus/milvus.proto", "milvus/schema.proto", "milvus/common.proto", "vectorkeep/storage.proto"];
    let descriptors = protox::compile(files.iter().map(|file| root.join(file)), [root])?;
    tonic_prost_build::configure().build_client(false).bytes(".vectorkeep.storage").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
