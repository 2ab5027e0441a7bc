//! How the Kubernetes cluster is reached: as `kubectl` does.

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    events::v1::Event,
};
use kube::{
    Api, Client, Config,
    api::{ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use vectorkeep_crds::{
    VectorCluster,
    identity::connection_secret_name,
    well_known::{DEFAULT_OPERATOR_NAMESPACE, INSTALLATION_CONFIG_MAP, INSTALLATION_ID_KEY},
};

/// Who a change is by, in the resource's managed fields.
const FIELD_MANAGER: &str = "kubectl-vectorkeep";

/// Flags that say which Kubernetes cluster and which namespace.
#[derive(Debug, Args)]
pub(crate) struct Access {
    /// Path of the kubeconfig.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, global = true)]
    context: Option<String>,
    /// Namespace of the VectorCluster.
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    /// Namespace that the operator runs in.
    #[arg(long, global = true, default_value = DEFAULT_OPERATOR_NAMESPACE)]
    operator_namespace: String,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No kubeconfig, or a bad one.
    #[error("the kubeconfig can't be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// No client can be made from it.
    #[error("the Kubernetes cluster can't be reached")]
    Client(#[source] kube::Error),
    /// An object could not be read.
    #[error("{kind} {name} can't be read")]
    Read {
        /// What.
        kind: &'static str,
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object could not be changed.
    #[error("{kind} {name} can't be changed")]
    Change {
        /// What.
        kind: &'static str,
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// There is no such resource.
    #[error("there is no VectorCluster {name} in the namespace {namespace}")]
    NoCluster {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The connection secret is not there yet.
    #[error("the secret {0} is not there yet; `kubectl vectorkeep status` says what the cluster waits for")]
    NoConnection(String),
    /// Nothing says which installation serves the cluster.
    #[error(
        "the installation id is not known: pass --installation-id, or --operator-namespace if the operator runs \
         elsewhere"
    )]
    NoInstallation,
    /// Nothing says which role uses the key.
    #[error("there is no VectorCluster {0} yet that names a role: pass --role-arn")]
    NoRole(String),
    /// The cluster does not use AWS KMS.
    #[error("the VectorCluster {0} uses a local key, which has no policy")]
    LocalKey(String),
    /// An ARN is malformed.
    #[error(transparent)]
    Arn(#[from] vectorkeep_crds::arn::ArnError),
    /// A file could not be written.
    #[error("{} can't be written", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No proof came in time.
    #[error(
        "no fresh proof of the isolation of {namespace}/{name} came in time; `kubectl vectorkeep status {name} -n \
         {namespace}` says what the cluster waits for"
    )]
    NoProof {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// Standard output can't be written to.
    #[error("the answer can't be printed")]
    Print(#[source] std::io::Error),
    /// Something could not be written as JSON.
    #[error("the answer can't be written as JSON")]
    Json(#[from] serde_json::Error),
    /// Something did not come about in time.
    #[error("VectorCluster {cluster}: {missing} within {limit}. {remedy}")]
    TooSlow {
        /// Namespace and name.
        cluster: String,
        /// What did not happen.
        missing: String,
        /// How long.
        limit: String,
        /// What to do.
        remedy: String,
    },
    /// Nothing new is begun, so nothing can be asked for.
    #[error(
        "upgrades of the VectorCluster {namespace}/{name} are paused (spec.upgrade.paused): `kubectl vectorkeep \
         upgrade resume {name} -n {namespace}` first"
    )]
    UpgradesPaused {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The resource has not agreed to a drill.
    #[error(
        "the VectorCluster {namespace}/{name} does not allow drills, which take it out of service: `kubectl annotate \
         vectorcluster {name} -n {namespace} {annotation}={value}` allows them"
    )]
    DrillNotAllowed {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// The annotation that is missing.
        annotation: &'static str,
        /// What it has to say.
        value: &'static str,
    },
    /// A drill of a key that nobody can disable.
    #[error("the VectorCluster {0} uses a local key, which nobody can disable: a drill needs encryption.aws")]
    DrillOfLocalKey(String),
    /// A drill of a cluster that is out of service already.
    #[error(
        "the VectorCluster {namespace}/{name} is not ready, so a drill would measure nothing: `kubectl vectorkeep \
         status {name} -n {namespace}` says why"
    )]
    DrillNotReady {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// Standard input has ended.
    #[error(
        "nobody can press Enter, since standard input has ended: pass --yes. If the key was disabled, enable it again"
    )]
    NobodyAnswers,
    /// Standard input can't be read.
    #[error("Enter can't be waited for: pass --yes. If the key was disabled, enable it again")]
    Ask(#[source] std::io::Error),
}

impl Error {
    /// What is behind it, nearest first.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let api = error
                .downcast_ref::<kube::Error>()
                .or_else(|| error.downcast_ref::<Box<kube::Error>>().map(|error| &**error));
            if let Some(kube::Error::Api(status)) = api {
                // Its own text says everything twice, the second time as a dump.
                causes.push(status.message.clone());
                break;
            }
            causes.push(error.to_string());
            cause = error.source();
        }
        causes
    }
}

/// A client and the namespace that it works in.
pub(crate) struct Session {
    client: Client,
    /// Namespace of the VectorCluster.
    pub(crate) namespace: String,
    operator_namespace: String,
}

impl Access {
    /// The namespace, if it was given by a flag.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Connects.
    pub(crate) async fn session(&self) -> Result<Session, Error> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(Error::Kubeconfig)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        }
        .map_err(Error::Kubeconfig)?;
        let namespace = match &self.namespace {
            Some(namespace) => namespace.clone(),
            None => config.default_namespace.clone(),
        };
        Ok(Session {
            client: Client::try_from(config).map_err(Error::Client)?,
            namespace,
            operator_namespace: self.operator_namespace.clone(),
        })
    }
}

impl Session {
    /// The resource, if there is one.
    pub(crate) async fn cluster(&self, name: &str) -> Result<Option<VectorCluster>, Error> {
        self.clusters().get_opt(name).await.map_err(|source| read("VectorCluster", name, source))
    }

    /// The resource, which must be there.
    pub(crate) async fn existing_cluster(&self, name: &str) -> Result<VectorCluster, Error> {
        self.cluster(name).await?.ok_or_else(|| self.no_cluster(name))
    }

    /// Every resource of the namespace, or of all namespaces.
    pub(crate) async fn all_clusters(&self, everywhere: bool) -> Result<Vec<VectorCluster>, Error> {
        let clusters = if everywhere { Api::all(self.client.clone()) } else { self.clusters() };
        match clusters.list(&ListParams::default()).await {
            Ok(found) => Ok(found.items),
            Err(source) => Err(read("VectorCluster", "*", source)),
        }
    }

    /// Changes some fields of the resource and leaves the others alone.
    pub(crate) async fn merge(&self, name: &str, change: Value) -> Result<VectorCluster, Error> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match self.clusters().patch(name, &parameters, &Patch::Merge(change)).await {
            Ok(cluster) => Ok(cluster),
            Err(kube::Error::Api(status)) if status.is_not_found() => Err(self.no_cluster(name)),
            Err(source) => {
                Err(Error::Change { kind: "VectorCluster", name: name.to_owned(), source: Box::new(source) })
            }
        }
    }

    /// Sets an annotation of the resource.
    pub(crate) async fn annotate(&self, name: &str, annotation: &str, value: &str) -> Result<VectorCluster, Error> {
        self.merge(name, json!({ "metadata": { "annotations": { annotation: value } } })).await
    }

    /// The connection secret of a cluster.
    pub(crate) async fn connection(&self, name: &str) -> Result<Secret, Error> {
        let secret = connection_secret_name(name);
        Api::<Secret>::namespaced(self.client.clone(), &self.namespace)
            .get_opt(&secret)
            .await
            .map_err(|source| read("Secret", &secret, source))?
            .ok_or(Error::NoConnection(secret))
    }

    /// What was last told about a cluster as a warning. Whoever may not read Events is not told.
    pub(crate) async fn warnings(&self, cluster: &VectorCluster) -> Vec<Event> {
        let uid = cluster.metadata.uid.clone();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let Ok(events) = api.list(&ListParams::default().fields("type=Warning")).await else {
            return Vec::new();
        };
        events.items.into_iter().filter(|event| event.regarding.as_ref().is_some_and(|it| it.uid == uid)).collect()
    }

    /// The id of the installation that the operator publishes.
    pub(crate) async fn installation_id(&self) -> Result<Option<String>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.operator_namespace);
        let found = api
            .get_opt(INSTALLATION_CONFIG_MAP)
            .await
            .map_err(|source| read("ConfigMap", INSTALLATION_CONFIG_MAP, source))?;
        Ok(found.and_then(|found| found.data).and_then(|mut data| data.remove(INSTALLATION_ID_KEY)))
    }

    fn clusters(&self) -> Api<VectorCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn no_cluster(&self, name: &str) -> Error {
        Error::NoCluster { name: name.to_owned(), namespace: self.namespace.clone() }
    }
}

fn read(kind: &'static str, name: &str, source: kube::Error) -> Error {
    Error::Read { kind, name: name.to_owned(), source: Box::new(source) }
}
