//! Why a resource can't be served until somebody changes something.

use vectorkeep_crds::{arn::ArnError, well_known::LABEL_ADOPT};

use crate::settings::AddressRange;

/// Why a resource can't be served until somebody changes something. Each becomes the reason of the conditions
/// `Ready` and `Stalled`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The data-plane namespace exists and is not this cluster's.
    #[error(
        "the namespace {namespace} exists and was not made for this cluster; delete it, or, if it may be used, \
         have an administrator label it {LABEL_ADOPT}={cluster_id}"
    )]
    NamespaceNotOwned {
        /// The namespace.
        namespace: String,
        /// The cluster that would use it.
        cluster_id: String,
    },
    /// The resource opens egress to where no resource may.
    #[error(
        "spec.network.egress: {cidr} touches {forbidden}, which is link-local or part of the Kubernetes cluster; \
         give only the addresses of the KMS and the token service, or have an administrator give them to the \
         operator (chart value network.kmsEgress)"
    )]
    Egress {
        /// What the resource says.
        cidr: String,
        /// What it touches.
        forbidden: AddressRange,
    },
    /// No release fits.
    #[error(
        "the EngineCatalog vectorkeep has no release {}; an administrator has to add one (chart value engine), or \
         spec.upgrade.version has to name another minor line",
        match line { Some(line) => format!("of the minor line {line}"), None => "that could be started".to_owned() }
    )]
    NoRelease {
        /// The minor line that the resource names.
        line: Option<String>,
    },
    /// What the operator wrote down about the cluster is damaged.
    #[error(
        "the operator's ConfigMap {name}: the entry {entry} can't be used ({problem}); an administrator has to restore it, \
         or to delete that entry and go on without what it said. Until then nothing of the cluster is changed"
    )]
    Record {
        /// The ConfigMap, in the operator's namespace.
        name: String,
        /// The entry.
        entry: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An ARN is malformed.
    #[error("spec.encryption.aws: {0}")]
    Arn(#[from] ArnError),
    /// A field has a value that the schema could not judge.
    #[error("spec.{field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Refusal {
    /// The reason, in one word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NamespaceNotOwned { .. } => "NamespaceNotOwned",
            Self::Egress { .. } => "EgressRefused",
            Self::NoRelease { .. } => "NoRelease",
            Self::Record { .. } => "RecordUnreadable",
            Self::Arn(_) | Self::Field { .. } => "InvalidSpec",
        }
    }
}
