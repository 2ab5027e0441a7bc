//! The engine's own identity. It has no rights in Kubernetes; the token that matters is projected into the pod
//! for the cloud's identity service alone.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::identity::Identity;

/// Name of the service account; the subject in the cloud's trust policy is
/// `system:serviceaccount:<data-plane namespace>:engine`.
pub const SERVICE_ACCOUNT: &str = "engine";

/// The service account, without a mounted API token.
pub fn service_account(identity: &Identity) -> ServiceAccount {
    ServiceAccount {
        metadata: identity.meta(SERVICE_ACCOUNT),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
