//! `kubectl vectorkeep connect`: the CA file, and a program to start from.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use vectorkeep_crds::identity::connection_secret_name;

use crate::{
    access::{Access, Error},
    output::{self, Format},
};

/// What a program needs to connect.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection<'a> {
    uri: &'a str,
    /// Not where clients trust the certificate by their system.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a Path>,
    user: Option<String>,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

pub(crate) async fn run(
    access: &Access,
    format: Format,
    name: &str,
    ca_file: Option<PathBuf>,
    show_password: bool,
) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    session.existing_cluster(name).await?;
    let secret = session.connection(name).await?;
    let missing = || Error::NoConnection(connection_secret_name(name));
    let uri = entry(&secret, "uri").ok_or_else(missing)?;
    let ca_file = match entry(&secret, "ca.crt") {
        Some(authority) => {
            let path = ca_file.unwrap_or_else(|| PathBuf::from(format!("{name}-ca.crt")));
            std::fs::write(&path, authority).map_err(|source| Error::Write { path: path.clone(), source })?;
            Some(path)
        }
        None => None,
    };
    let connection = Connection::of(&secret, &uri, ca_file.as_deref(), show_password);
    output::answer(format, &connection, || {
        let token = entry(&secret, "token").filter(|_| show_password);
        snippet(&session.namespace, name, &uri, ca_file.as_deref(), token.as_deref())
    })?;
    Ok(ExitCode::SUCCESS)
}

impl<'a> Connection<'a> {
    fn of(secret: &Secret, uri: &'a str, ca_file: Option<&'a Path>, show_password: bool) -> Self {
        let password = entry(secret, "password").filter(|_| show_password);
        Self { uri, ca_file, user: entry(secret, "username"), password }
    }
}

fn entry(secret: &Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?;
    String::from_utf8(value.0.clone()).ok()
}

/// What to do, with the token only where it was asked for.
fn snippet(namespace: &str, name: &str, uri: &str, ca_file: Option<&Path>, token: Option<&str>) -> String {
    let secret = connection_secret_name(name);
    let (trust, trust_line) = match ca_file.map(Path::display) {
        Some(file) => (
            format!("# The CA certificate was written to {file}.\n"),
            format!("    server_pem_path=\"{file}\",\n"),
        ),
        None => (
            "# The issuer of the certificate names no CA: clients trust it by the roots of their system. gRPC brings roots\n\
             # of its own; GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names others.\n"
                .to_owned(),
            String::new(),
        ),
    };
    let token_line = match token {
        Some(token) => format!("    token=\"{token}\","),
        None => "    token=os.environ[\"VECTORKEEP_TOKEN\"],".to_owned(),
    };
    let password = match token {
        Some(_) => String::new(),
        None => format!(
            "# The token (user and initial password) is not shown. In a shell:\n\
             #   export VECTORKEEP_TOKEN=\"$(kubectl get secret -n {namespace} {secret} -o jsonpath='{{.data.token}}' | base64 -d)\"\n"
        ),
    };
    format!(
        "{trust}\
         {password}\
         # The address is known inside the Kubernetes cluster, to pods that spec.network.clients allows.\n\
         import os\n\
         from pymilvus import MilvusClient\n\
         \n\
         client = MilvusClient(\n    \
             uri=\"{uri}\",\n\
         {token_line}\n\
         {trust_line}\
         )\n\
         print(client.list_collections())\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "https://engine.vk-vc1.svc.cluster.local:19530";

    #[test]
    fn the_password_is_shown_only_on_demand() {
        let file = Some(Path::new("support-ca.crt"));
        let without = snippet("acme", "support", URI, file, None);
        assert!(without.contains("VECTORKEEP_TOKEN") && without.contains(URI));
        let with = snippet("acme", "support", URI, file, Some("root:drawn"));
        assert!(with.contains("token=\"root:drawn\"") && !with.contains("VECTORKEEP_TOKEN"));
    }

    #[test]
    fn without_a_ca_certificate_the_systems_roots_are_trusted() {
        let with = snippet("acme", "support", URI, Some(Path::new("support-ca.crt")), None);
        assert!(with.contains("    server_pem_path=\"support-ca.crt\",\n"), "{with}");
        let without = snippet("acme", "support", URI, None, None);
        assert!(!without.contains("server_pem_path") && without.contains("roots of their system"), "{without}");
    }

    #[test]
    fn the_json_holds_the_password_only_on_demand() {
        let data = [("username", "root"), ("password", "drawn")];
        let data = data.map(|(key, value)| (key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())));
        let secret = Secret { data: Some(data.into()), ..Secret::default() };
        let json = |show_password| {
            let connection = Connection::of(&secret, URI, Some(Path::new("support-ca.crt")), show_password);
            serde_json::to_value(connection).expect("JSON")
        };
        assert_eq!(json(false), serde_json::json!({ "uri": URI, "caFile": "support-ca.crt", "user": "root" }));
        assert_eq!(json(true)["password"], "drawn");
    }
}
