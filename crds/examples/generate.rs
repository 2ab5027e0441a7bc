//! Writes the manifests of the custom resource definitions: `cargo run -p vectorkeep-crds --example generate`.

use std::{fs, path::Path};

use kube::CustomResourceExt;
use vectorkeep_crds::{VectorCluster, manifest_header};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = serde_yaml_ng::to_string(&VectorCluster::crd())?;
    let text = format!("{}{yaml}", manifest_header());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in [
        root.join("vectorclusters.yaml"),
        // The chart can only read files inside its own folder.
        root.join("../charts/vectorkeep/files/vectorclusters.yaml"),
    ] {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &text)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
