//! Names that mark an object as VectorKeep's: labels, annotations, finalizer, field manager.

/// API group of every custom resource.
pub const GROUP: &str = "vectorkeep.dev";

/// Field manager of every server-side apply, and value of [`LABEL_MANAGED_BY`].
pub const FIELD_MANAGER: &str = "vectorkeep-operator";

/// Standard label that says which program owns an object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Which cluster an object belongs to; the value is the cluster id.
pub const LABEL_CLUSTER_ID: &str = "vectorkeep.dev/cluster-id";

/// Which part of a cluster an object belongs to.
pub const LABEL_COMPONENT: &str = "vectorkeep.dev/component";

/// Value of [`LABEL_COMPONENT`] on everything that selects or runs an engine.
pub const COMPONENT_ENGINE: &str = "engine";

/// Marks a namespace that the operator created for one cluster; the value is `"true"`.
pub const LABEL_DATA_PLANE: &str = "vectorkeep.dev/data-plane";

/// Marks a data-plane namespace whose `VectorCluster` was deleted while its data was kept.
pub const LABEL_RELEASED: &str = "vectorkeep.dev/released";

/// An administrator's consent, on a namespace that the operator did not create, that the cluster whose id is
/// the value may use it.
pub const LABEL_ADOPT: &str = "vectorkeep.dev/adopt";

/// UID of the `VectorCluster` that an object was made for. Owner references don't cross namespaces.
pub const ANNOTATION_OWNER_UID: &str = "vectorkeep.dev/owner-uid";

/// Namespace of the `VectorCluster` that an object was made for.
pub const ANNOTATION_OWNER_NAMESPACE: &str = "vectorkeep.dev/owner-namespace";

/// Name of the `VectorCluster` that an object was made for.
pub const ANNOTATION_OWNER_NAME: &str = "vectorkeep.dev/owner-name";

/// Hash of what the operator last applied to an object, so that an unchanged object is not written again.
pub const ANNOTATION_APPLIED: &str = "vectorkeep.dev/applied";

/// Holds a `VectorCluster` until its data plane is released or deleted.
pub const FINALIZER: &str = "vectorkeep.dev/data-plane";

/// Marks a `VectorCluster` that takes a new release before the others; the value is `"true"`.
pub const LABEL_CANARY: &str = "vectorkeep.dev/canary";

/// Asks, on a `VectorCluster`, for what is on offer to be taken now, outside the window. The value is a time; each value
/// counts once.
pub const ANNOTATION_UPGRADE_NOW: &str = "vectorkeep.dev/upgrade-now";

/// Asks, on a `VectorCluster`, for both CAs to be rotated from a moment on. The value is that moment as RFC 3339 writes
/// it; each value counts once.
pub const ANNOTATION_ROTATE_CA: &str = "vectorkeep.dev/rotate-ca";

/// Asks, on a `VectorCluster`, for a fresh proof of its isolation in the status. The value is a time.
pub const ANNOTATION_VERIFY_ISOLATION: &str = "vectorkeep.dev/verify-isolation";

/// Label and taint of nodes that are for one cluster; the value is the cluster id. With a prefix that a kubelet can't give
/// its own node, so that a node that was taken over can't attract an engine.
pub const DEDICATED: &str = "vectorkeep.node-restriction.kubernetes.io/dedicated";

/// ConfigMap in the operator's namespace that holds the installation id under [`INSTALLATION_ID_KEY`].
pub const INSTALLATION_CONFIG_MAP: &str = "vectorkeep-installation";

/// Key of the installation id in [`INSTALLATION_CONFIG_MAP`].
pub const INSTALLATION_ID_KEY: &str = "installationId";

/// Namespace that the chart installs the operator into unless told otherwise.
pub const DEFAULT_OPERATOR_NAMESPACE: &str = "vectorkeep-system";
