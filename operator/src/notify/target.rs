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

/// What a file says of targets.
#[derive(Debug, Default)]
pub struct Targets {
    /// The names of all. One that can't be used now keeps what it is owed.
    pub names: Vec<String>,
    /// Those that can be notified.
    pub usable: Vec<Target>,
    /// Why each of the others can't.
    pub unusable: Vec<TargetError>,
}

/// Why a file can't be made sense of.
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
}

/// Why one target can't be used. It is no reason not to notify the others.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
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
pub fn read(path: &Path) -> Result<Targets, TargetsError> {
    let text = std::fs::read(path).map_err(|source| TargetsError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|source| TargetsError::Parse { path: path.to_owned(), source })?.targets()
}

fn parse(text: &[u8]) -> Result<File, serde_json::Error> {
    serde_json::from_slice(text)
}

impl File {
    fn targets(self) -> Result<Targets, TargetsError> {
        let mut targets = Targets::default();
        for entry in self.targets {
            if targets.names.contains(&entry.name) {
                return Err(TargetsError::Twice(entry.name));
            }
            targets.names.push(entry.name.clone());
            match entry.target() {
                Ok(target) => targets.usable.push(target),
                Err(error) => targets.unusable.push(error),
            }
        }
        Ok(targets)
    }
}

impl Entry {
    fn target(self) -> Result<Target, TargetError> {
        let Self { name, url, signing_key_file, ca_bundle } = self;
        let url: Option<Uri> = url.parse().ok();
        let url =
            url.filter(|url| url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty()));
        // What stands before an @ would be a password.
        let url = url.filter(|url| url.authority().is_some_and(|authority| !authority.as_str().contains('@')));
        let url = url.ok_or_else(|| TargetError::Url(name.clone()))?;
        let unusable = |source| TargetError::Bundle { name: name.clone(), source };
        let authorities = match &ca_bundle {
            Some(bundle) => tls::authorities(bundle).map_err(unusable)?,
            None => system_authorities(),
        };
        if authorities.is_empty() {
            return Err(match ca_bundle {
                Some(_) => TargetError::EmptyBundle(name),
                None => TargetError::NoAuthorities(name),
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
    use jiff::{SignedDuration, Timestamp};
    use serde_json::{Value, json};

    use super::*;
    use crate::certificates::{AuthorityRequest, issue};

    fn targets(file: &Value) -> Result<Targets, String> {
        let file = parse(file.to_string().as_bytes()).map_err(|error| error.to_string())?;
        file.targets().map_err(|error| error.to_string())
    }

    fn entry(name: &str, url: &str, bundle: &str) -> Value {
        json!({"name": name, "url": url, "signingKeyFile": "/k", "caBundle": bundle})
    }

    /// A CA as PEM.
    fn authority() -> String {
        let request = AuthorityRequest {
            common_name: "a CA".into(),
            own_dns: vec!["a.example".into()],
            further_dns: Vec::new(),
            lifetime: SignedDuration::from_hours(24),
        };
        issue::authority(&request, Timestamp::now()).expect("a CA").certificate
    }

    /// Why a target with this URL and an empty bundle can't be used.
    fn refusal(url: &str) -> String {
        let targets = targets(&json!({"targets": [entry("a", url, "")]})).expect("a file");
        assert!(targets.usable.is_empty());
        targets.unusable.first().expect("refused").to_string()
    }

    #[test]
    fn only_https_without_a_password_in_it_is_a_target() {
        for url in ["http://a.example/", "a.example", "/hook", "https://user:word@a.example/", "https:///hook"] {
            let refused = refusal(url);
            assert!(refused.contains("not like https://"), "{url}: {refused}");
            assert!(!refused.contains("word"), "{refused}");
        }
        // It goes on to the bundle.
        assert!(refusal("https://a.example:8443/hook?x=y").contains("caBundle"));
    }

    #[test]
    fn a_bundle_without_certificates_is_refused_and_never_replaced_by_the_systems() {
        assert!(refusal("https://a.example/").contains("holds no certificate"));
    }

    #[test]
    fn a_target_that_can_not_be_used_takes_nothing_from_the_others_and_keeps_its_name() {
        let (whole, url) = (authority(), "https://a.example/");
        let cut = &whole[..whole.len() / 2];
        let entries = [entry("cut", url, cut), entry("good", url, &whole), entry("plain", "http://a.example/", &whole)];
        let targets = targets(&json!({"targets": entries})).expect("a file");
        assert_eq!(targets.names, ["cut", "good", "plain"]);
        let usable: Vec<_> = targets.usable.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(usable, ["good"]);
        let unusable: Vec<_> = targets.unusable.iter().map(ToString::to_string).collect();
        assert!(unusable[0].contains("target cut") && unusable[1].contains("target plain"), "{unusable:?}");
    }

    #[test]
    fn two_targets_of_one_name_are_refused_and_so_is_an_unknown_field() {
        let mut good = entry("a", "https://a.example/", &authority());
        let twice = json!({"targets": [good.clone(), entry("a", "http://a.example/", "")]});
        assert!(targets(&twice).expect_err("refused").contains("rename one"));
        good["key"] = "k".into();
        assert!(targets(&json!({"targets": [good]})).expect_err("refused").contains("unknown field"));
    }
}
