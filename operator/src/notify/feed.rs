//! The advisories of the catalog as a JSON Feed (jsonfeed.org, version 1.1), for a security team's reader.
//!
//! It says how many clusters lack an answer to each, and not which: whoever reads the feed need not know the tenants.

use std::{collections::BTreeMap, time::Duration};

use kube::{Api, Client, api::ListParams};
use semver::Version;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};
use vectorkeep_crds::{EngineCatalog, EngineRelease, Severity, VectorCluster, engine_catalog::CATALOG};

/// So long an answer serves everybody who asks: reading every cluster is work for the API server.
const FRESH: Duration = Duration::from_secs(60);

/// Reads what the feed is made of, now and then. Every replica serves it, not only the one that leads.
pub struct Feed {
    client: Client,
    latest: Mutex<Option<(Instant, String)>>,
}

impl Feed {
    /// A feed from the API server.
    pub fn new(client: Client) -> Self {
        Self { client, latest: Mutex::default() }
    }

    /// The feed as a JSON text, at most a minute old.
    pub async fn text(&self) -> Result<String, kube::Error> {
        // Held while it is read: who comes meanwhile waits for the same answer.
        let mut latest = self.latest.lock().await;
        if let Some((read, text)) = &*latest
            && read.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let catalog = Api::<EngineCatalog>::all(self.client.clone()).get_opt(CATALOG).await?;
        let releases = catalog.map(|catalog| catalog.spec.releases).unwrap_or_default();
        let clusters = Api::<VectorCluster>::all(self.client.clone()).list(&ListParams::default()).await?;
        let text = document(&releases, &clusters.items).to_string();
        *latest = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

/// What the catalog says of one advisory.
#[derive(Default)]
struct Entry {
    severity: Severity,
    /// The lowest version of each minor line that answers it.
    fixed_in: BTreeMap<(u64, u64), Version>,
}

fn document(catalog: &[EngineRelease], clusters: &[VectorCluster]) -> Value {
    let mut entries: BTreeMap<&str, Entry> = BTreeMap::new();
    for release in catalog {
        let Ok(version) = Version::parse(&release.version) else { continue };
        for id in &release.advisories {
            let entry = entries.entry(id).or_default();
            if release.severity == Severity::Security {
                entry.severity = Severity::Security;
            }
            let lowest = entry.fixed_in.entry((version.major, version.minor)).or_insert_with(|| version.clone());
            if version < *lowest {
                lowest.clone_from(&version);
            }
        }
    }
    let items: Vec<Value> = entries.into_iter().map(|(id, entry)| item(id, &entry, open(id, clusters))).collect();
    json!({
        "version": "https://jsonfeed.org/version/1.1",
        "title": "VectorKeep: advisories of the engine releases on offer",
        "language": "en",
        "items": items,
    })
}

/// Clusters for which an advisory is open.
fn open(id: &str, clusters: &[VectorCluster]) -> usize {
    let lacks = |cluster: &&VectorCluster| {
        let upgrade = cluster.status.as_ref().and_then(|status| status.upgrade.as_ref());
        upgrade.is_some_and(|upgrade| upgrade.advisories.iter().any(|open| open.id == id))
    };
    clusters.iter().filter(lacks).count()
}

fn item(id: &str, entry: &Entry, open: usize) -> Value {
    let fixed_in: Vec<String> = entry.fixed_in.values().map(Version::to_string).collect();
    let versions = fixed_in.join(", ");
    let lacking = match open {
        0 => "No cluster of this installation runs a release without it.".to_owned(),
        1 => "One cluster of this installation runs a release without it.".to_owned(),
        number => format!("{number} clusters of this installation run a release without it."),
    };
    json!({
        "id": id,
        "title": format!("{id}: fixed in {versions}"),
        "content_text": format!("Fixed in {versions}. {lacking}"),
        "tags": [entry.severity],
        "_vectorkeep": {"severity": entry.severity, "fixedIn": fixed_in, "openClusters": open},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(version: &str, severity: Severity, advisories: &[&str]) -> EngineRelease {
        EngineRelease {
            version: version.into(),
            severity,
            advisories: advisories.iter().map(|id| (*id).to_owned()).collect(),
            ..EngineRelease::default()
        }
    }

    fn cluster(open: &str) -> VectorCluster {
        serde_yaml_ng::from_str(&format!(
            "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {{name: support, namespace: acme}}
spec: {{encryption: {{local: {{}}}}}}
status: {{upgrade: {{advisories: [{{id: {open}, severity: Security, fixedIn: 1.4.3}}]}}}}
"
        ))
        .expect("valid")
    }

    #[test]
    fn each_advisory_is_one_item_with_its_fixes_and_a_number_of_clusters_and_no_names() {
        let catalog = [
            release("1.4.10", Severity::Routine, &["A"]),
            release("1.4.9", Severity::Security, &["A", "B"]),
            release("1.5.1", Severity::Routine, &["A"]),
        ];
        let feed = document(&catalog, &[cluster("A"), cluster("A"), cluster("C")]);
        assert_eq!(feed["version"], "https://jsonfeed.org/version/1.1");
        let wanted = json!([
            {"severity": "Security", "fixedIn": ["1.4.9", "1.5.1"], "openClusters": 2},
            {"severity": "Security", "fixedIn": ["1.4.9"], "openClusters": 0},
        ]);
        let items = feed["items"].as_array().expect("items");
        assert_eq!(Value::Array(items.iter().map(|item| item["_vectorkeep"].clone()).collect()), wanted);
        assert_eq!(items[0]["id"], "A");
        assert!(items[0]["content_text"].as_str().is_some_and(|text| text.contains("2 clusters")));
        let text = feed.to_string();
        assert!(!text.contains("acme") && !text.contains("support"));
    }
}
