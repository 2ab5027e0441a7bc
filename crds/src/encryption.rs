//! Which master key protects a cluster, and how closely it is watched.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which master key protects a cluster, and how closely it is watched. Exactly one provider is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.aws) != has(self.local)")
        .message("encryption needs exactly one of aws and local"),
    validation = Rule::new("has(self.aws) == has(oldSelf.aws)")
        .message("the encryption provider can't be changed: what is stored is wrapped under the old master key; create a new VectorCluster"),
    validation = Rule::new("duration(self.checkInterval) >= duration('1s') && duration(self.checkInterval) <= duration('60s')")
        .message("encryption.checkInterval must lie between 1s and 60s")
        .field_path(".checkInterval"),
    validation = Rule::new("duration(self.outageGrace) >= duration(self.checkInterval) && duration(self.outageGrace) <= duration('24h')")
        .message("encryption.outageGrace must be at least encryption.checkInterval and at most 24h")
        .field_path(".outageGrace")
)]
pub struct Encryption {
    /// A key in AWS KMS, used under the customer's own role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsEncryption>,
    /// A key that the operator generates and stores in the Kubernetes cluster. **For development only**: the
    /// key lies beside the data, and nobody outside can take it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalEncryption>,
    /// How often the key is asked for, which bounds how long a withdrawn key still works: 1s to 60s.
    #[serde(default = "default_check_interval")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(h|m|s|ms))+$"))]
    pub check_interval: String,
    /// How long to go on while the KMS is silent (not refusing), counted from the last successful answer: at least
    /// `checkInterval`, since a check may take that long, and at most 24h.
    #[serde(default = "default_outage_grace")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(h|m|s|ms))+$"))]
    pub outage_grace: String,
}

/// A key in AWS KMS and the role that may use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.keyArn == oldSelf.keyArn")
        .message("encryption.aws.keyArn can't be changed yet: what is stored is wrapped under this key; create a new VectorCluster")
        .field_path(".keyArn"),
    validation = Rule::new("self.keyArn.split(':')[1] == self.roleArn.split(':')[1]")
        .message("encryption.aws.keyArn and encryption.aws.roleArn must be of the same AWS partition")
)]
pub struct AwsEncryption {
    /// ARN of the symmetric KMS key (not of an alias). Its region is where KMS is asked.
    #[schemars(
        length(max = 256),
        regex(
            pattern = r"^arn:(aws|aws-cn|aws-us-gov):kms:[a-z]+(-[a-z]+)+-[0-9]+:[0-9]{12}:key/[A-Za-z0-9-]{1,128}$"
        )
    )]
    pub key_arn: String,
    /// ARN of the IAM role that the engine takes on by its web-identity token.
    #[schemars(
        length(max = 600),
        regex(pattern = r"^arn:(aws|aws-cn|aws-us-gov):iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}$")
    )]
    pub role_arn: String,
    /// Other addresses than the public ones of the key's region: private endpoints, tests. Shown in status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<AwsEndpoints>,
}

/// Addresses of AWS services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsEndpoints {
    /// Address of KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = HTTPS_URL))]
    pub kms: Option<String>,
    /// Address of the security token service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = HTTPS_URL))]
    pub sts: Option<String>,
    /// CA certificates (PEM) that are trusted for these addresses beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536), regex(pattern = r"^\s*-----BEGIN CERTIFICATE-----"))]
    pub ca_bundle: Option<String>,
}

/// Plain HTTP is never offered: the answers hold data keys.
const HTTPS_URL: &str = r"^https://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~/-]*)?$";

/// A key kept in the Kubernetes cluster: development only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalEncryption {}

fn default_check_interval() -> String {
    "10s".to_owned()
}

fn default_outage_grace() -> String {
    "10m".to_owned()
}
