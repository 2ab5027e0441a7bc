//! Reads what is there: the only step that asks the API server for anything.
//!
//! Every object is read by its name, now. Watches only say *when* to look, so a stale cache can't mislead a
//! reconcile, and secrets need no right to be listed.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Namespace, Pod, Secret},
        networking::v1::NetworkPolicy,
        rbac::v1::RoleBinding,
    },
};
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;
use vectorkeep_crds::{
    EngineCatalog, VectorCluster,
    engine_catalog::CATALOG,
    well_known::{FIELD_MANAGER, LABEL_CANARY, LABEL_MANAGED_BY},
};

use crate::{
    admin::EngineView,
    cert_manager::Certificate,
    notify::ledger::ledger_name,
    observed::{Canary, Children, Custody, Issuance, Observed, Other, SecretSeen},
    plan::{
        certificates::{
            INTERNAL_TLS, SERVING_TLS, client_name, internal_ca_name, operator_client_name, serving_ca_name,
        },
        conditions::types,
        config_map::CONFIG_MAP,
        connection::{LOCAL_KEY, ROOT_PASSWORD},
        identity::Identity,
        namespace::{Claim, claim},
        pvc::VOLUME_CLAIM,
        record::{is_ordered, record_name},
        role_binding::{DATA_PLANE_BINDING, is_in_force, publisher_binding_name},
        service::{CLIENT_SERVICE, PEERS_SERVICE},
        service_account::SERVICE_ACCOUNT,
        statefulset::{POD, STATEFUL_SET},
    },
    settings::Settings,
    upgrade::fleet::FLEET,
};

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name} could not be read")]
pub struct ObserveError {
    /// What.
    pub kind: String,
    /// Which.
    pub name: String,
    /// Why.
    #[source]
    pub source: Box<kube::Error>,
}

/// Reads everything about the cluster `namespace/name`. `None` if the resource is gone.
pub async fn observe(
    client: &Client,
    settings: &Settings,
    namespace: &str,
    name: &str,
    engine: impl FnOnce(&Identity, Option<&Pod>) -> EngineView,
    control: BTreeMap<String, bool>,
    others: impl FnOnce(&Identity) -> Vec<Other>,
) -> Result<Option<Observed>, ObserveError> {
    let Some(cluster) = get::<VectorCluster>(client, namespace, name).await? else {
        return Ok(None);
    };
    let identity = Identity::of(&cluster, &settings.installation_id);
    let data_plane = data_plane_namespace(client, &identity).await?;
    let ours = claim(&identity, data_plane.as_ref()) == Claim::Ours;
    let role_binding = match ours {
        true => get::<RoleBinding>(client, &identity.namespace, DATA_PLANE_BINDING).await?,
        false => None,
    };
    let custody = custody(client, settings, &identity).await?;
    let may_be_ordered = cluster.spec.tls.issuer_ref.is_some() || is_ordered(custody.record.as_ref());
    // Without its rights nothing can be read, and they are given before anything else.
    let children = match role_binding.as_ref().is_some_and(|binding| is_in_force(binding, settings)) {
        true => Some(children(client, &identity.namespace, may_be_ordered).await?),
        false => None,
    };
    let catalogs: Api<EngineCatalog> = Api::all(client.clone());
    let catalog = catalogs.get_opt(CATALOG).await.map_err(|source| failed::<EngineCatalog>(CATALOG, source))?;
    let publisher = publisher_binding_name(&identity.owner_name);
    Ok(Some(Observed {
        publisher_binding: get(client, &identity.owner_namespace, &publisher).await?,
        custody,
        engine: engine(&identity, children.as_ref().and_then(|children| children.pod.as_ref())),
        others: others(&identity),
        canaries: canaries(client, settings).await?,
        control,
        catalog,
        namespace: data_plane,
        role_binding,
        children,
        cluster,
    }))
}

/// Clusters that take a new release before the others.
async fn canaries(client: &Client, settings: &Settings) -> Result<Vec<Canary>, ObserveError> {
    let clusters: Api<VectorCluster> = Api::all(client.clone());
    let labelled = ListParams::default().labels(&format!("{LABEL_CANARY}=true"));
    let found = clusters.list(&labelled).await.map_err(|source| failed::<VectorCluster>("canaries", source))?;
    let canary = |cluster: VectorCluster| {
        let cluster_id = Identity::of(&cluster, &settings.installation_id).cluster_id;
        let status = cluster.status.unwrap_or_default();
        let serves = status.conditions.iter().any(|it| it.type_ == types::READY && it.status == "True");
        Canary { cluster_id, version: status.version, serves, policy: cluster.spec.upgrade }
    };
    Ok(found.items.into_iter().map(canary).collect())
}

async fn data_plane_namespace(client: &Client, identity: &Identity) -> Result<Option<Namespace>, ObserveError> {
    let api: Api<Namespace> = Api::all(client.clone());
    api.get_opt(&identity.namespace).await.map_err(|source| failed::<Namespace>(&identity.namespace, source))
}

async fn children(client: &Client, namespace: &str, may_be_ordered: bool) -> Result<Children, ObserveError> {
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={FIELD_MANAGER}"));
    let network_policies =
        policies.list(&ours).await.map_err(|source| failed::<NetworkPolicy>(namespace, source))?.items;
    let serving_tls = secret(client, namespace, SERVING_TLS).await?;
    let by_cert_manager = serving_tls.as_ref().is_some_and(|seen| seen.by_cert_manager);
    Ok(Children {
        // Most clusters have nothing to do with cert-manager, which may not even be installed.
        issuance: match may_be_ordered || by_cert_manager {
            true => issuance(client, namespace).await?,
            false => Issuance::None,
        },
        serving_tls,
        quota: get(client, namespace, "data-plane").await?,
        limit_range: get(client, namespace, "data-plane").await?,
        service_account: get(client, namespace, SERVICE_ACCOUNT).await?,
        network_policies,
        config: get(client, namespace, CONFIG_MAP).await?,
        service: get(client, namespace, CLIENT_SERVICE).await?,
        peers: get(client, namespace, PEERS_SERVICE).await?,
        volume: get(client, namespace, VOLUME_CLAIM).await?,
        stateful_set: get(client, namespace, STATEFUL_SET).await?,
        pod: get(client, namespace, POD).await?,
        internal_tls: secret(client, namespace, INTERNAL_TLS).await?,
        root_password: secret(client, namespace, ROOT_PASSWORD).await?,
        local_key: secret(client, namespace, LOCAL_KEY).await?,
    })
}

async fn issuance(client: &Client, namespace: &str) -> Result<Issuance, ObserveError> {
    let api: Api<Certificate> = Api::namespaced(client.clone(), namespace);
    match api.get(SERVING_TLS).await {
        Ok(certificate) => Ok(Issuance::Ordered(Box::new(certificate))),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            // Only of a kind that it serves does the API server say which object it did not find.
            let named = status.details.as_ref().is_some_and(|details| details.name == SERVING_TLS);
            Ok(if named { Issuance::None } else { Issuance::Unserved })
        }
        Err(source) => Err(failed::<Certificate>(&format!("{namespace}/{SERVING_TLS}"), source)),
    }
}

async fn custody(client: &Client, settings: &Settings, identity: &Identity) -> Result<Custody, ObserveError> {
    let namespace = &settings.operator_namespace;
    let id = &identity.cluster_id;
    Ok(Custody {
        internal_ca: secret(client, namespace, &internal_ca_name(id)).await?,
        serving_ca: secret(client, namespace, &serving_ca_name(id)).await?,
        client: secret(client, namespace, &client_name(id)).await?,
        operator_client: secret(client, namespace, &operator_client_name(id)).await?,
        record: get(client, namespace, &record_name(id)).await?,
        fleet: get(client, namespace, FLEET).await?,
        notified: get(client, namespace, &ledger_name(id)).await?,
    })
}

async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<SecretSeen>, ObserveError> {
    Ok(get::<Secret>(client, namespace, name).await?.map(SecretSeen::new))
}

async fn get<T>(client: &Client, namespace: &str, name: &str) -> Result<Option<T>, ObserveError>
where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<T> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.map_err(|source| failed::<T>(&format!("{namespace}/{name}"), source))
}

fn failed<T: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> ObserveError {
    ObserveError { kind: T::kind(&()).into_owned(), name: name.to_owned(), source: Box::new(source) }
}
