//! A cluster's identity: the cluster id, and every name that is derived from it.
//!
//! The id is known before the cluster exists, so that a key policy can name it.

use sha2::{Digest, Sha256};

use crate::VectorCluster;

/// Port that clients speak the Milvus API to.
pub const CLIENT_PORT: u16 = 19530;

/// Length of the hexadecimal part of a derived cluster id.
const HASH_CHARS: usize = 16;

/// Derives the id of the cluster `namespace/name` of one installation.
///
/// `"vc"` and the first 16 characters of the lower-case hexadecimal SHA-256 of
/// `installation/namespace/name`. None of the three may contain `/`, so the text is unambiguous.
pub fn cluster_id(installation_id: &str, namespace: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("{installation_id}/{namespace}/{name}"));
    let mut id = String::from("vc");
    id.push_str(&hex::encode(digest)[..HASH_CHARS]);
    id
}

/// Whether an id has the form of a derived one.
pub fn is_derived(cluster_id: &str) -> bool {
    let hash = cluster_id.strip_prefix("vc").unwrap_or_default();
    hash.len() == HASH_CHARS && hash.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// The id of a given resource: `spec.clusterId` if set, derived otherwise.
pub fn cluster_id_of(installation_id: &str, cluster: &VectorCluster) -> String {
    match &cluster.spec.cluster_id {
        Some(id) => id.clone(),
        None => cluster_id(
            installation_id,
            cluster.metadata.namespace.as_deref().unwrap_or_default(),
            cluster.metadata.name.as_deref().unwrap_or_default(),
        ),
    }
}

/// Namespace that holds a cluster's engine, keys and volume, apart from the customer's namespace.
pub fn data_plane_namespace(cluster_id: &str) -> String {
    format!("vk-{cluster_id}")
}

/// Name of the secret that the customer's namespace receives: address, CA certificate, initial password.
pub fn connection_secret_name(cluster_name: &str) -> String {
    format!("{cluster_name}-connection")
}

/// Host name that clients connect to, inside the Kubernetes cluster.
pub fn client_host(cluster_id: &str) -> String {
    format!("engine.{}.svc.cluster.local", data_plane_namespace(cluster_id))
}

/// URI that a client passes to `pymilvus`.
pub fn client_uri(cluster_id: &str) -> String {
    format!("https://{}:{CLIENT_PORT}", client_host(cluster_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_vc_and_sixteen_hexadecimal_characters_of_a_known_hash() {
        // printf 'inst/acme/support' | sha256sum
        let id = cluster_id("inst", "acme", "support");
        let digest = hex::encode(Sha256::digest(b"inst/acme/support"));
        assert_eq!(id, format!("vc{}", &digest[..16]));
        assert_eq!(id.len(), 18);
    }

    #[test]
    fn installation_namespace_and_name_all_tell_clusters_apart() {
        let ids = [
            cluster_id("a", "acme", "support"),
            cluster_id("b", "acme", "support"),
            cluster_id("a", "acme2", "support"),
            cluster_id("a", "acme", "support2"),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id));
        }
    }

    #[test]
    fn every_derived_name_is_a_valid_dns_label() {
        let namespace = data_plane_namespace(&cluster_id("i", "n", "x"));
        assert!(namespace.len() <= 63);
        assert!(namespace.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    }
}
