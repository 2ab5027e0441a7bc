//! The verbs: server-side apply, create, replace, delete, each with the precondition that makes it safe to repeat.

use std::fmt::Debug;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use vectorkeep_crds::{
    VectorCluster,
    well_known::{FIELD_MANAGER, FINALIZER},
};

use super::{ApplyError, Happening};
use crate::plan::change::Change;

/// Whether a creation created something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    Yes,
    AlreadyThere,
}

/// Writes to the API server and remembers what is worth telling.
pub(super) struct Writer {
    client: Client,
    happenings: Vec<Happening>,
}

impl Writer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, happenings: Vec::new() }
    }

    pub(super) fn note(&mut self, reason: &'static str, note: impl Into<String>) {
        self.happenings.push(Happening { reason, note: note.into() });
    }

    pub(super) fn into_happenings(self) -> Vec<Happening> {
        self.happenings
    }

    /// Marks the resource, so that it can't go before its data plane is seen to.
    pub(super) async fn hold(&mut self, cluster: &VectorCluster) -> Result<(), ApplyError> {
        self.finalizers(cluster, &[FINALIZER]).await
    }

    /// Takes the mark away.
    pub(super) async fn let_go(&mut self, cluster: &VectorCluster) -> Result<(), ApplyError> {
        match self.finalizers(cluster, &[]).await {
            // Gone is what it was to be.
            Err(ApplyError::Write { source, .. }) if is_not_found(&source) => Ok(()),
            Err(ApplyError::Changed { .. }) => Ok(()),
            other => other,
        }
    }

    async fn finalizers(&mut self, cluster: &VectorCluster, finalizers: &[&str]) -> Result<(), ApplyError> {
        let name = cluster.name_any();
        let api: Api<VectorCluster> = Api::namespaced(self.client.clone(), &cluster.namespace().unwrap_or_default());
        // The UID keeps a resource that is gone from being made anew by this.
        let patch = json!({
            "apiVersion": VectorCluster::api_version(&()),
            "kind": VectorCluster::kind(&()),
            "metadata": {"name": name, "uid": cluster.uid(), "finalizers": finalizers},
        });
        api.patch(&name, &parameters(), &Patch::Apply(patch))
            .await
            .map_err(|source| failed::<VectorCluster>("marking", &name, source))?;
        Ok(())
    }

    /// Applies a cluster-wide object, if there is anything to change.
    pub(super) async fn cluster_wide<T>(&mut self, change: Change<T>) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let api = Api::all(self.client.clone());
        self.apply(api, change).await
    }

    /// Applies an object in a namespace, if there is anything to change.
    pub(super) async fn namespaced<T>(&mut self, namespace: &str, change: Change<T>) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let api = Api::namespaced(self.client.clone(), namespace);
        self.apply(api, change).await
    }

    /// Puts an object in the place of the very version that was read, or of nothing: what another leader wrote since must
    /// not be written over, and what another hand added must not stay, as it would if it were merged with.
    pub(super) async fn onto<T>(
        &mut self,
        namespace: &str,
        change: Change<T>,
        seen: Option<&T>,
    ) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let Change::Apply(object) = change else { return Ok(()) };
        match seen.and_then(|seen| seen.meta().resource_version.clone()) {
            Some(version) => self.replace(namespace, *object, &version).await,
            None => match self.create(namespace, &*object).await? {
                Created::Yes => Ok(()),
                Created::AlreadyThere => {
                    Err(ApplyError::Changed { kind: T::kind(&()).into_owned(), name: object.name_any() })
                }
            },
        }
    }

    /// Makes an object what it is to be and nothing beside: one of its name among `seen` is replaced, not merged with.
    pub(super) async fn in_place_of<T>(
        &mut self,
        namespace: &str,
        change: Change<T>,
        seen: &[T],
    ) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let Change::Apply(object) = change else { return Ok(()) };
        let seen = seen.iter().find(|seen| seen.name_any() == object.name_any());
        match seen.and_then(|seen| seen.meta().resource_version.clone()) {
            Some(version) => self.replace(namespace, *object, &version).await,
            None => self.namespaced(namespace, Change::Apply(object)).await,
        }
    }

    async fn apply<T>(&mut self, api: Api<T>, change: Change<T>) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let Change::Apply(object) = change else {
            return Ok(());
        };
        let name = object.name_any();
        api.patch(&name, &parameters(), &Patch::Apply(&*object))
            .await
            .map_err(|source| failed::<T>("applying", &name, source))?;
        tracing::info!(kind = %T::kind(&()), %name, "applied");
        Ok(())
    }

    /// Creates an object, and leaves one that is there alone.
    pub(super) async fn create<T>(&mut self, namespace: &str, object: &T) -> Result<Created, ApplyError>
    where
        T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let api: Api<T> = Api::namespaced(self.client.clone(), namespace);
        let name = object.name_any();
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&parameters, object).await {
            Ok(_) => {
                tracing::info!(kind = %T::kind(&()), %name, "created");
                Ok(Created::Yes)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Created::AlreadyThere),
            Err(source) => Err(failed::<T>("creating", &name, source)),
        }
    }

    /// Replaces the very version that was read.
    pub(super) async fn replace<T>(&mut self, namespace: &str, mut object: T, version: &str) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let api: Api<T> = Api::namespaced(self.client.clone(), namespace);
        let name = object.name_any();
        object.meta_mut().resource_version = Some(version.to_owned());
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        api.replace(&name, &parameters, &object).await.map_err(|source| failed::<T>("replacing", &name, source))?;
        tracing::info!(kind = %T::kind(&()), %name, "replaced");
        Ok(())
    }

    /// Whether there is an object, found out by changing nothing of it: for who may change it and not read it.
    pub(super) async fn is_there<T>(&self, namespace: &str, name: &str) -> Result<bool, ApplyError>
    where
        T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<T> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_metadata(name, &parameters, &Patch::Merge(json!({}))).await {
            Ok(_) => Ok(true),
            Err(source) if is_not_found(&source) => Ok(false),
            Err(source) => Err(failed::<T>("patching", name, source)),
        }
    }

    /// Changes some entries of an object and leaves the others alone.
    pub(super) async fn merge<T>(
        &mut self,
        namespace: &str,
        name: &str,
        patch: &impl Serialize,
    ) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<T> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(serde_json::to_value(patch).unwrap_or_default());
        api.patch(name, &parameters, &patch).await.map_err(|source| failed::<T>("patching", name, source))?;
        Ok(())
    }

    /// Deletes the very object that was read. One that is gone is what it was to be.
    pub(super) async fn delete<T>(&mut self, namespace: &str, name: &str, uid: &str) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<T> = Api::namespaced(self.client.clone(), namespace);
        self.delete_by(api, name, uid).await
    }

    /// As [`Self::delete`], for a cluster-wide object.
    pub(super) async fn delete_cluster_wide<T>(&mut self, name: &str, uid: &str) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<T> = Api::all(self.client.clone());
        self.delete_by(api, name, uid).await
    }

    async fn delete_by<T>(&mut self, api: Api<T>, name: &str, uid: &str) -> Result<(), ApplyError>
    where
        T: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let parameters = DeleteParams::background()
            .preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        match api.delete(name, &parameters).await {
            Ok(_) => {
                tracing::info!(kind = %T::kind(&()), %name, %uid, "deleted");
                self.note("Deleted", format!("{} {name} was deleted", T::kind(&())));
                Ok(())
            }
            Err(source) if is_not_found(&source) => Ok(()),
            Err(source) => Err(failed::<T>("deleting", name, source)),
        }
    }
}

fn parameters() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

fn failed<T: Resource<DynamicType = ()>>(verb: &'static str, name: &str, source: kube::Error) -> ApplyError {
    let kind = T::kind(&()).into_owned();
    let name = name.to_owned();
    match &source {
        kube::Error::Api(status) if status.is_conflict() => ApplyError::Changed { kind, name },
        _ => ApplyError::Write { verb, kind, name, source: Box::new(source) },
    }
}
