//! Whom to notify: the file that the chart mounts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Uri;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use crate::tls::{self, TlsError};

/// Somebody to notify.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name, which logs and figures show. Its URL, which may hold more than is good for a log, they don't.
    pub name: String,
    /// Where events are posted to.
    pub url: Uri,
    /// File with the signing key, read at each attempt.
    pub signing_key: PathBuf,
    /// TLS 1.3, trusting the CAs that the target is verified with.
    pub tls: Arc<ClientConfig>,
}

/// Why the targets can't be taken from a file.
#[derive(Debug, thiserror::Error)]
pub enum TargetsError {
    /// The file is not there.
    #[error("the file {} of notification targets can't be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It says something else.
    #[error("the file {} of notification targets is not understood", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Two targets have one name.
    #[error("there are two notification targets with the name {0}: rename one")]
    Twice(String),
    /// No HTTPS.
    #[error("the URL of the notification target {0} is not like https://host:port/path")]
    Url(String),
    /// No CAs in the bundle.
    #[error("the caBundle of the notification target {0} holds no certificate in PEM")]
    EmptyBundle(String),
    /// No CAs on this system.
    #[error("nothing can verify the notification target {0}: this system has no CA certificates; give it a caBundle")]
    NoAuthorities(String),
    /// The bundle is damaged.
    #[error("the caBundle of the notification target {name} can't be used")]
    Bundle {
        /// Which target.
        name: String,
        /// Why.
        #[source]
        source: TlsError,
    },
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    targets: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    url: String,
    signing_key_file: PathBuf,
    ca_bundle: Option<String>,
}

/// Reads the targets of a file.
pub fn read(path: &Path) -> Result<Vec<Target>, TargetsError> {
    let text = std::fs::read(path).map_err(|source| TargetsError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|source| TargetsError::Parse { path: path.to_owned(), source })?.targets()
}

fn parse(text: &[u8]) -> Result<File, serde_json::Error> {
    serde_json::from_slice(text)
}

impl File {
    fn targets(self) -> Result<Vec<Target>, TargetsError> {
        let mut targets: Vec<Target> = Vec::new();
        for entry in self.targets {
            if targets.iter().any(|known| known.name == entry.name) {
                return Err(TargetsError::Twice(entry.name));
            }
            targets.push(entry.target()?);
        }
        Ok(targets)
    }
}

impl Entry {
    fn target(self) -> Result<Target, TargetsError> {
        let Self { name, url, signing_key_file, ca_bundle } = self;
        let url: Option<Uri> = url.parse().ok();
        let url =
            url.filter(|url| url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty()));
        // What stands before an @ would be a password.
        let url = url.filter(|url| url.authority().is_some_and(|authority| !authority.as_str().contains('@')));
        let url = url.ok_or_else(|| TargetsError::Url(name.clone()))?;
        let unusable = |source| TargetsError::Bundle { name: name.clone(), source };
        let authorities = match &ca_bundle {
            Some(bundle) => tls::authorities(bundle).map_err(unusable)?,
            None => system_authorities(),
        };
        if authorities.is_empty() {
            return Err(match ca_bundle {
                Some(_) => TargetsError::EmptyBundle(name),
                None => TargetsError::NoAuthorities(name),
            });
        }
        let tls = tls::anonymous_client(authorities).map_err(unusable)?;
        Ok(Target { name, url, signing_key: signing_key_file, tls: Arc::new(tls) })
    }
}

/// The CAs that the system trusts: `SSL_CERT_FILE`, or where distributions keep them.
fn system_authorities() -> RootCertStore {
    let mut authorities = RootCertStore::empty();
    // One that can't be read verifies nothing; the others do.
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    authorities
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Result<Vec<Target>, String> {
        let file = parse(text.as_bytes()).map_err(|error| error.to_string())?;
        file.targets().map_err(|error| error.to_string())
    }

    fn with_url(url: &str) -> Result<Vec<Target>, String> {
        targets(&format!(r#"{{"targets": [{{"name": "a", "url": "{url}", "signingKeyFile": "/k", "caBundle": ""}}]}}"#))
    }

    #[test]
    fn only_https_without_a_password_in_it_is_a_target() {
        for url in ["http://a.example/", "a.example", "/hook", "https://user:word@a.example/", "https:///hook"] {
            let refused = with_url(url).expect_err("refused");
            assert!(refused.contains("not like https://"), "{url}: {refused}");
            assert!(!refused.contains("word"), "{refused}");
        }
        // It goes on to the bundle.
        assert!(with_url("https://a.example:8443/hook?x=y").expect_err("refused").contains("caBundle"));
    }

    #[test]
    fn a_bundle_without_certificates_is_refused_and_never_replaced_by_the_systems() {
        assert!(with_url("https://a.example/").expect_err("refused").contains("holds no certificate"));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let text = r#"{"targets": [{"name": "a", "url": "https://a.example/", "signingKeyFile": "/k", "key": "k"}]}"#;
        assert!(targets(text).expect_err("refused").contains("unknown field"));
    }
}
