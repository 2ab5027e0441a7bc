//! `kubectl vectorkeep key-policy`: the statement that the policy of a KMS key needs.

use std::process::ExitCode;

use clap::Args;
use vectorkeep_crds::{
    VectorCluster,
    arn::KeyArn,
    identity::{cluster_id, data_plane_namespace},
    key_policy::key_policy_statement,
};

use crate::{
    access::{Access, Error},
    output,
};

/// What may be given instead of being read from the Kubernetes cluster.
#[derive(Debug, Args)]
pub(crate) struct Given {
    /// Role that the engine takes on. Default: the one in the resource.
    #[arg(long)]
    role_arn: Option<String>,
    /// Key that the policy belongs to; only checked and named in the hint. Default: the one in the resource.
    #[arg(long)]
    key_arn: Option<String>,
    /// Installation id of the operator. Default: what the operator publishes.
    #[arg(long)]
    installation_id: Option<String>,
    /// Cluster id, for a resource that will have one in spec.clusterId.
    #[arg(long)]
    cluster_id: Option<String>,
}

/// What the statement is made from.
struct Facts {
    cluster_id: String,
    role_arn: String,
    key_arn: Option<String>,
}

pub(crate) async fn run(access: &Access, name: &str, given: &Given) -> Result<ExitCode, Error> {
    let facts = match given.alone(access.namespace(), name) {
        Some(facts) => facts,
        None => {
            let session = access.session().await?;
            let cluster = session.cluster(name).await?;
            let installation = match &given.installation_id {
                Some(id) => Some(id.clone()),
                None => session.installation_id().await?,
            };
            given.with(&session.namespace, name, cluster.as_ref(), installation)?
        }
    };
    let statement = key_policy_statement(&facts.cluster_id, &facts.role_arn)?;
    let key = match &facts.key_arn {
        Some(arn) => format!("the policy of the key {}", KeyArn::parse(arn)?),
        None => "the policy of the key".to_owned(),
    };
    output::print(&format!("{}\n", serde_json::to_string_pretty(&statement)?))?;
    eprintln!("# Add this to \"Statement\" in {key}.");
    eprintln!(
        "# The role's trust policy must let it be assumed with the web-identity token of\n\
         # system:serviceaccount:{}:engine",
        data_plane_namespace(&facts.cluster_id)
    );
    Ok(ExitCode::SUCCESS)
}

impl Given {
    /// Everything from flags, so that no Kubernetes cluster is needed.
    fn alone(&self, namespace: Option<&str>, name: &str) -> Option<Facts> {
        let id = match (&self.cluster_id, &self.installation_id, namespace) {
            (Some(id), _, _) => id.clone(),
            (None, Some(installation), Some(namespace)) => cluster_id(installation, namespace, name),
            _ => return None,
        };
        Some(Facts { cluster_id: id, role_arn: self.role_arn.clone()?, key_arn: self.key_arn.clone() })
    }

    /// What flags don't say comes from the resource, if there is one, and from the installation.
    fn with(
        &self,
        namespace: &str,
        name: &str,
        cluster: Option<&VectorCluster>,
        installation: Option<String>,
    ) -> Result<Facts, Error> {
        let encryption = cluster.map(|cluster| &cluster.spec.encryption);
        let aws = encryption.and_then(|encryption| encryption.aws.as_ref());
        let role_arn = match (&self.role_arn, aws) {
            (Some(role), _) => role.clone(),
            (None, Some(aws)) => aws.role_arn.clone(),
            (None, None) if encryption.is_some() => {
                return Err(Error::LocalKey(name.to_owned()));
            }
            (None, None) => return Err(Error::NoRole(name.to_owned())),
        };
        let key_arn = self.key_arn.clone().or(aws.map(|aws| aws.key_arn.clone()));
        let own_id = self.cluster_id.clone().or(cluster.and_then(|cluster| cluster.spec.cluster_id.clone()));
        let cluster_id = match own_id {
            Some(id) => id,
            None => cluster_id(&installation.ok_or(Error::NoInstallation)?, namespace, name),
        };
        Ok(Facts { cluster_id, role_arn, key_arn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/vector";

    fn given() -> Given {
        Given { role_arn: None, key_arn: None, installation_id: None, cluster_id: None }
    }

    #[test]
    fn before_the_cluster_exists_flags_are_enough() {
        let given = Given { role_arn: Some(ROLE.into()), installation_id: Some("lab".into()), ..given() };
        let facts = given.alone(Some("acme"), "support").expect("enough");
        assert_eq!(facts.cluster_id, cluster_id("lab", "acme", "support"));
    }

    #[test]
    fn a_resource_gives_role_key_and_id() {
        let cluster: VectorCluster = serde_yaml_ng::from_str(&format!(
            "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {{name: support, namespace: acme}}
spec:
  clusterId: sharedid
  encryption: {{aws: {{keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: '{ROLE}'}}}}
"
        ))
        .expect("valid");
        let facts = given().with("acme", "support", Some(&cluster), None).expect("enough");
        assert_eq!(facts.cluster_id, "sharedid");
        assert_eq!(facts.role_arn, ROLE);
        assert!(facts.key_arn.is_some());
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = given().with("acme", "support", None, Some("lab".into()));
        assert!(matches!(missing, Err(Error::NoRole(_))));
        let given = Given { role_arn: Some(ROLE.into()), ..given() };
        let missing = given.with("acme", "support", None, None);
        assert!(matches!(missing, Err(Error::NoInstallation)));
    }
}
