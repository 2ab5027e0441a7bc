//! `kubectl vectorkeep connect`: the files with what a client trusts and shows, and a program to start from.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use vectorkeep_crds::{identity::connection_secret_name, tls::ClientAuth};

use crate::{
    access::{Access, Error},
    output::{self, Format},
};

/// What a program needs to connect.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection<'a> {
    uri: &'a str,
    #[serde(flatten)]
    files: &'a Files,
    user: Option<String>,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

/// Files that were written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Files {
    /// What clients trust; not where they trust the certificate by their system.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    /// What clients show, where the operator gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_file: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_file: Option<PathBuf>,
}

pub(crate) async fn run(
    access: &Access,
    format: Format,
    name: &str,
    ca_file: Option<PathBuf>,
    show_password: bool,
) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let cluster = session.existing_cluster(name).await?;
    let secret = session.connection(name).await?;
    let uri = entry(&secret, "uri").ok_or_else(|| Error::NoConnection(connection_secret_name(name)))?;
    let ca_file = ca_file.unwrap_or_else(|| PathBuf::from(format!("{name}-ca.crt")));
    let beside = |suffix: &str| ca_file.with_file_name(format!("{name}-{suffix}"));
    let files = Files {
        client_certificate_file: write(&secret, "client.crt", beside("client.crt"))?,
        client_key_file: write(&secret, "client.key", beside("client.key"))?,
        ca_file: write(&secret, "ca.crt", ca_file)?,
    };
    let connection = Connection::of(&secret, &uri, &files, show_password);
    output::answer(format, &connection, || {
        let token = entry(&secret, "token").filter(|_| show_password);
        let asked = cluster.spec.tls.client_auth;
        snippet(&session.namespace, name, &uri, &files, asked, token.as_deref())
    })?;
    Ok(ExitCode::SUCCESS)
}

impl<'a> Connection<'a> {
    fn of(secret: &Secret, uri: &'a str, files: &'a Files, show_password: bool) -> Self {
        let password = entry(secret, "password").filter(|_| show_password);
        Self { uri, files, user: entry(secret, "username"), password }
    }
}

fn entry(secret: &Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?;
    String::from_utf8(value.0.clone()).ok()
}

/// Writes an entry to a file, a key to one that only its owner can read, also where the file was there already. Answers the
/// file, if there is such an entry.
fn write(secret: &Secret, key: &str, path: PathBuf) -> Result<Option<PathBuf>, Error> {
    let Some(value) = entry(secret, key) else { return Ok(None) };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let is_key = key.ends_with(".key");
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if is_key { 0o600 } else { 0o644 });
    let written = options.open(&path).and_then(|mut file| {
        if is_key {
            confine(&file)?;
        }
        file.write_all(value.as_bytes())
    });
    written.map_err(|source| Error::Write { path: path.clone(), source })?;
    Ok(Some(path))
}

/// Leaves a file to its owner alone. One that was there already keeps its mode when it is opened.
#[cfg(unix)]
fn confine(file: &File) -> io::Result<()> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
}

/// Elsewhere than on Unix, the folder says who may read a file.
#[cfg(not(unix))]
fn confine(_: &File) -> io::Result<()> {
    Ok(())
}

/// What to do, with the token only where it was asked for.
fn snippet(
    namespace: &str,
    name: &str,
    uri: &str,
    files: &Files,
    client_auth: ClientAuth,
    token: Option<&str>,
) -> String {
    let secret = connection_secret_name(name);
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
    let (comment, tls_lines) = tls(files, client_auth);
    format!(
        "{comment}\
         {password}\
         # The address is known inside the Kubernetes cluster, to pods that spec.network.clients allows.\n\
         import os\n\
         from pymilvus import MilvusClient\n\
         \n\
         client = MilvusClient(\n    \
             uri=\"{uri}\",\n\
         {token_line}\n\
         {tls_lines}\
         )\n\
         print(client.list_collections())\n"
    )
}

/// What a client trusts and shows: a comment, and its arguments.
fn tls(files: &Files, client_auth: ClientAuth) -> (String, String) {
    let line = |argument: &str, file: &Path| format!("    {argument}=\"{}\",\n", file.display());
    let Some(ca_file) = &files.ca_file else {
        let comment = "# The issuer of the certificate names no CA: clients trust it by the roots of their system. gRPC\n\
                       # brings roots of its own; GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names others.\n";
        return (comment.to_owned(), String::new());
    };
    let mut comment = format!("# The CA certificate was written to {}.\n", ca_file.display());
    let (certificate, key) = match (&files.client_certificate_file, &files.client_key_file) {
        (Some(certificate), Some(key)) => {
            comment.push_str(&format!(
                "# The certificate to show, and its key, were written to {} and {}.\n",
                certificate.display(),
                key.display()
            ));
            (certificate.as_path(), key.as_path())
        }
        _ if client_auth == ClientAuth::None => return (comment, line("server_pem_path", ca_file)),
        _ => {
            comment.push_str(
                "# Have the issuer that spec.tls.issuerRef names sign a certificate for clients, to be shown.\n",
            );
            (Path::new("client.crt"), Path::new("client.key"))
        }
    };
    // Beside server_pem_path, pymilvus shows no certificate.
    let arguments = [("ca_pem_path", ca_file.as_path()), ("client_pem_path", certificate), ("client_key_path", key)];
    (comment, arguments.map(|(argument, file)| line(argument, file)).concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "https://engine.vk-vc1.svc.cluster.local:19530";

    fn files(names: [&str; 3]) -> Files {
        let [ca_file, client_certificate_file, client_key_file] =
            names.map(|name| Some(PathBuf::from(name)).filter(|_| !name.is_empty()));
        Files { ca_file, client_certificate_file, client_key_file }
    }

    fn secret<const N: usize>(data: [(&str, &str); N]) -> Secret {
        let data = data.map(|(key, value)| (key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())));
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn the_password_is_shown_only_on_demand() {
        let files = files(["support-ca.crt", "", ""]);
        let without = snippet("acme", "support", URI, &files, ClientAuth::None, None);
        assert!(without.contains("VECTORKEEP_TOKEN") && without.contains(URI));
        let with = snippet("acme", "support", URI, &files, ClientAuth::None, Some("root:drawn"));
        assert!(with.contains("token=\"root:drawn\"") && !with.contains("VECTORKEEP_TOKEN"));
    }

    #[test]
    fn what_is_trusted_and_shown_is_what_there_is() {
        let arguments = |names, client_auth| tls(&files(names), client_auth);
        let (_, plain) = arguments(["ca", "", ""], ClientAuth::None);
        assert_eq!(plain, "    server_pem_path=\"ca\",\n");
        let (_, shown) = arguments(["ca", "crt", "key"], ClientAuth::Required);
        let all = "    ca_pem_path=\"ca\",\n    client_pem_path=\"crt\",\n    client_key_path=\"key\",\n";
        assert_eq!(shown, all);
        let (comment, issued) = arguments(["ca", "", ""], ClientAuth::Optional);
        assert!(comment.contains("spec.tls.issuerRef") && issued.contains("client_pem_path=\"client.crt\""));
        let (comment, system) = arguments(["", "", ""], ClientAuth::None);
        assert!(comment.contains("roots of their system") && system.is_empty());
    }

    #[test]
    fn a_key_is_for_its_owner_only_and_nothing_is_written_of_what_is_not_there() {
        let folder = std::env::temp_dir().join(format!("vectorkeep-connect-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let secret = secret([("client.key", "a key")]);
        let path = folder.join("client.key");
        // Left by something that everybody may read.
        std::fs::write(&path, "what was there before, and is longer").expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("set");
        }
        assert_eq!(write(&secret, "client.key", path.clone()).expect("written"), Some(path.clone()));
        assert_eq!(write(&secret, "ca.crt", folder.join("ca.crt")).expect("nothing to do"), None);
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "a key");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o077, 0);
        }
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn the_json_holds_the_password_only_on_demand() {
        let secret = secret([("username", "root"), ("password", "drawn")]);
        let files = files(["support-ca.crt", "", ""]);
        let json =
            |show_password| serde_json::to_value(Connection::of(&secret, URI, &files, show_password)).expect("JSON");
        assert_eq!(json(false), serde_json::json!({ "uri": URI, "caFile": "support-ca.crt", "user": "root" }));
        assert_eq!(json(true)["password"], "drawn");
    }
}
