//! cert-manager's `Certificate`, as far as the operator orders one and reads what became of it.
//!
//! Types of our own: cert-manager may be missing, and nothing of it is watched or linked. What it knows beside this
//! stays what it is.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Annotation by which cert-manager marks a secret that it wrote.
pub const ANNOTATION_CERTIFICATE_NAME: &str = "cert-manager.io/certificate-name";

/// What is ordered.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cert-manager.io",
    version = "v1",
    kind = "Certificate",
    namespaced,
    status = "CertificateStatus",
    schema = "disabled",
    derive = "PartialEq",
    doc = "An order to cert-manager: to keep a secret filled with a certificate."
)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// Secret that the certificate is written into.
    pub secret_name: String,
    /// Labels and annotations of that secret.
    #[serde(default)]
    pub secret_template: SecretTemplate,
    /// Names that the certificate is valid for.
    #[serde(default)]
    pub dns_names: Vec<String>,
    /// What it may be used for.
    #[serde(default)]
    pub usages: Vec<String>,
    /// How long it is valid, as Go writes a duration.
    #[serde(default)]
    pub duration: String,
    /// How long before its end it is renewed.
    #[serde(default)]
    pub renew_before: String,
    /// Its private key.
    #[serde(default)]
    pub private_key: PrivateKey,
    /// Who signs.
    pub issuer_ref: Issuer,
    /// So many of its requests to the issuer are kept; older releases of cert-manager keep all if nothing is said.
    #[serde(default)]
    pub revision_history_limit: i32,
}

/// Labels and annotations of the secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretTemplate {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A private key that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrivateKey {
    /// `ECDSA`.
    pub algorithm: String,
    /// Bits.
    pub size: u16,
    /// `PKCS8`.
    pub encoding: String,
    /// `Always`: a new key for each certificate.
    pub rotation_policy: String,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// Its name.
    pub name: String,
    /// Its kind.
    #[serde(default)]
    pub kind: String,
    /// API group of its kind.
    #[serde(default)]
    pub group: String,
}

/// What became of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateStatus {
    /// What cert-manager says.
    pub conditions: Vec<CertificateCondition>,
}

/// One thing that cert-manager says of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateCondition {
    /// `Ready`, or `Issuing`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// Generation of the order that it is about.
    pub observed_generation: Option<i64>,
}

impl Certificate {
    /// Whether the secret holds what is ordered now.
    pub fn is_filled(&self) -> bool {
        self.condition("Ready").is_some_and(|ready| {
            ready.status == "True"
                && ready.observed_generation.is_none_or(|seen| Some(seen) >= self.metadata.generation)
        })
    }

    /// What keeps cert-manager from filling the secret, in its own words. A failure says more than that it is not ready.
    pub fn complaint(&self) -> Option<String> {
        let failed =
            self.condition("Issuing").filter(|issuing| issuing.status == "False" && issuing.reason == "Failed");
        let said = failed.or_else(|| self.condition("Ready").filter(|ready| ready.status != "True"))?;
        Some(format!("{}: {}", said.reason, said.message))
    }

    fn condition(&self, type_: &str) -> Option<&CertificateCondition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(conditions: &str) -> Certificate {
        serde_yaml_ng::from_str(&format!(
            "
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {{name: engine-serving-tls, generation: 2}}
spec: {{secretName: engine-serving-tls, issuerRef: {{name: corporate}}, revisionHistoryLimit: 1}}
status: {{conditions: [{conditions}], revision: 1}}
"
        ))
        .expect("a Certificate")
    }

    #[test]
    fn an_order_is_filled_once_cert_manager_says_so_of_its_current_generation() {
        assert!(certificate("{type: Ready, status: 'True', reason: Ready, observedGeneration: 2}").is_filled());
        assert!(!certificate("{type: Ready, status: 'True', reason: Ready, observedGeneration: 1}").is_filled());
        assert!(!certificate("{type: Ready, status: 'False', reason: DoesNotExist}").is_filled());
        assert!(!certificate("").is_filled());
    }

    #[test]
    fn a_failure_is_told_rather_than_that_it_is_not_ready() {
        let not_ready = "{type: Ready, status: 'False', reason: DoesNotExist, message: no secret}";
        assert_eq!(certificate(not_ready).complaint().as_deref(), Some("DoesNotExist: no secret"));
        let failed = format!("{not_ready}, {{type: Issuing, status: 'False', reason: Failed, message: refused}}");
        assert_eq!(certificate(&failed).complaint().as_deref(), Some("Failed: refused"));
        assert_eq!(certificate("{type: Ready, status: 'True', reason: Ready}").complaint(), None);
    }
}
