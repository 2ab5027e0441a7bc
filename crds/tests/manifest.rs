//! The committed manifests are the ones that the types generate.

use std::fs;

use kube::CustomResourceExt;
use vectorkeep_crds::{EngineCatalog, VectorCluster, manifest_header};

#[test]
fn the_committed_manifests_are_current() {
    for crd in [VectorCluster::crd(), EngineCatalog::crd()] {
        let yaml = serde_yaml_ng::to_string(&crd).expect("serialisable");
        let expected = format!("{}{yaml}", manifest_header());
        let file = format!("{}.yaml", crd.spec.names.plural);
        for path in [file.clone(), format!("../charts/vectorkeep/files/{file}")] {
            let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
            let committed = fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == expected, "{path} is stale: run `make generate`");
        }
    }
}

#[test]
fn a_minimal_resource_gets_every_default() {
    let cluster: VectorCluster = serde_yaml_ng::from_str(
        "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {name: support, namespace: acme}
spec: {encryption: {local: {}}}
",
    )
    .expect("a valid resource");
    assert_eq!(cluster.spec.replicas, 1);
    assert_eq!(cluster.spec.encryption.check_interval, "10s");
    assert_eq!(cluster.spec.encryption.outage_grace, "10m");
    assert_eq!(cluster.spec.storage.volume.size, "10Gi");
    assert_eq!(cluster.spec.tls.duration, "2160h");
    assert_eq!(cluster.spec.tls.client_auth, vectorkeep_crds::tls::ClientAuth::None);
    assert_eq!(cluster.spec.tls, vectorkeep_crds::tls::Tls::default());
    assert_eq!(cluster.spec.deletion_policy, vectorkeep_crds::DeletionPolicy::Retain);
}
