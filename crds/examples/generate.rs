//! Writes the manifests of the custom resource definitions: `cargo run -p vectorkeep-crds --example generate`.

use std::{fs, path::Path};

use kube::CustomResourceExt;
use vectorkeep_crds::{EngineCatalog, VectorCluster, manifest_header};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for crd in [VectorCluster::crd(), EngineCatalog::crd()] {
        let text = format!("{}{}", manifest_header(), serde_yaml_ng::to_string(&crd)?);
        let file = format!("{}.yaml", crd.spec.names.plural);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // The chart can only read files inside its own folder.
        for path in [root.join(&file), root.join("../charts/vectorkeep/files").join(&file)] {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, &text)?;
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}
