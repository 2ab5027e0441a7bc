//! Notices when a secret in a data-plane namespace is changed or deleted.
//!
//! There is no right to watch secrets everywhere, nor all of a namespace, so each is watched by its name, with the right
//! that the namespace's binding gives, and metadata only: no value travels.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures::{StreamExt, stream::select_all};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use tokio::{sync::mpsc, task::AbortHandle};
use vectorkeep_crds::VectorCluster;

use crate::plan::{
    certificates::{INTERNAL_TLS, SERVING_TLS},
    connection::{LOCAL_KEY, ROOT_PASSWORD},
    identity::Identity,
};

/// What is watched.
const SECRETS: [&str; 4] = [SERVING_TLS, INTERNAL_TLS, ROOT_PASSWORD, LOCAL_KEY];

/// The watches that run, by cluster.
pub struct SecretWatch {
    client: Client,
    changed: mpsc::UnboundedSender<ObjectRef<VectorCluster>>,
    tasks: Mutex<HashMap<ObjectRef<VectorCluster>, AbortHandle>>,
}

impl SecretWatch {
    /// Watches that send the resource of every cluster whose secrets change to `changed`.
    pub fn new(client: Client, changed: mpsc::UnboundedSender<ObjectRef<VectorCluster>>) -> Self {
        Self { client, changed, tasks: Mutex::default() }
    }

    /// Watches the secrets of a cluster from now on. Asking twice changes nothing.
    pub fn track(&self, identity: &Identity) {
        let owner = ObjectRef::new(&identity.owner_name).within(&identity.owner_namespace);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.entry(owner.clone()).or_insert_with(|| {
            let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), &identity.namespace);
            tokio::spawn(watch(api, owner, self.changed.clone())).abort_handle()
        });
    }

    /// Watches the secrets of a resource no more.
    pub fn forget(&self, owner: &ObjectRef<VectorCluster>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = tasks.remove(owner) {
            task.abort();
        }
    }
}

async fn watch(
    api: Api<PartialObjectMeta<Secret>>,
    owner: ObjectRef<VectorCluster>,
    changed: mpsc::UnboundedSender<ObjectRef<VectorCluster>>,
) {
    let mut events = select_all(SECRETS.map(|name| {
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        watcher(api.clone(), one).default_backoff().touched_objects().boxed()
    }));
    while let Some(event) = events.next().await {
        match event {
            Ok(_) => {
                if changed.send(owner.clone()).is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%owner, %error, "watching secrets"),
        }
    }
}
