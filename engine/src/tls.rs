//! TLS 1.3 for all servers, with certificates that are taken anew from their files when those change.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::ClientAuth;

/// How often the files are looked at.
const RELOAD: Duration = Duration::from_secs(5);

/// Why a server can't use its certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or no PEM.
    #[error("{path}: {reason}; expected a PEM file with a certificate chain or a private key")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key don't go together, or are refused by the TLS library.
    #[error("the certificate in {path} can't be used: {source}")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clients {
    /// Anybody; they authenticate inside the connection, or need not.
    Any,
    /// Anybody who shows no certificate, or one that a CA in the folder's `ca.crt` signed for clients.
    AnyOrSigned,
    /// Only who shows a certificate that a CA in the folder's `ca.crt` signed for clients.
    Signed,
    /// Only a certificate of the folder's own CA that carries exactly this URI.
    WithUri(String),
}

impl From<ClientAuth> for Clients {
    fn from(client_auth: ClientAuth) -> Self {
        match client_auth {
            ClientAuth::None => Self::Any,
            ClientAuth::Optional => Self::AnyOrSigned,
            ClientAuth::Required => Self::Signed,
        }
    }
}

/// The configuration of one server, reloaded by itself.
#[derive(Debug)]
pub struct ServerTls {
    folder: PathBuf,
    clients: Clients,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    leaf_sha256: String,
    authorities_sha256: Vec<String>,
    /// What the files held, to see whether they changed.
    contents: [Vec<u8>; 3],
}

impl ServerTls {
    /// Loads `tls.crt`, `tls.key` and, where clients show certificates, `ca.crt` of `folder`.
    pub fn load(folder: &Path, clients: Clients) -> Result<Arc<Self>, TlsError> {
        let loaded = Loaded::read(folder, &clients)?;
        Ok(Arc::new(Self { folder: folder.into(), clients, current: ArcSwap::from_pointee(loaded) }))
    }

    /// The configuration for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// SHA-256 of the leaf certificate, hex.
    pub fn leaf_sha256(&self) -> String {
        self.current.load().leaf_sha256.clone()
    }

    /// SHA-256 of each certificate in `ca.crt`, hex.
    pub fn authorities_sha256(&self) -> Vec<String> {
        self.current.load().authorities_sha256.clone()
    }

    /// Takes changed files over, for ever. Files that can't be used are reported and the old ones kept: a rotation is
    /// several writes, and half of one is no reason to stop serving. Open connections are not touched.
    pub async fn keep_current(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RELOAD).await;
            if contents(&self.folder).is_ok_and(|contents| contents == self.current.load().contents) {
                continue;
            }
            match Loaded::read(&self.folder, &self.clients) {
                Ok(loaded) => {
                    tracing::info!(folder = %self.folder.display(), "certificates were replaced");
                    self.current.store(Arc::new(loaded));
                }
                Err(error) => tracing::warn!(reason = %error, "changed certificates can't be used; the old ones stay"),
            }
        }
    }

    /// Whether a client that the TLS library let in is one of those that may connect.
    pub fn accepts(&self, certificates: Option<&[CertificateDer<'_>]>) -> bool {
        match &self.clients {
            // The TLS library has judged.
            Clients::Any | Clients::AnyOrSigned | Clients::Signed => true,
            Clients::WithUri(uri) => certificates
                .and_then(<[_]>::first)
                .is_some_and(|leaf| uris(leaf).is_some_and(|uris| uris == [uri.as_str()])),
        }
    }
}

impl Loaded {
    fn read(folder: &Path, clients: &Clients) -> Result<Self, TlsError> {
        let contents = contents(folder)?;
        let [chain, key, ca] = &contents;
        let chain = certificates(folder, "tls.crt", chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(folder, "tls.key", &error))?;
        let unusable = |source| TlsError::Unusable { path: folder.into(), source };
        let provider = Arc::new(provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?;
        let builder = match clients {
            Clients::Any => builder.with_no_client_auth(),
            Clients::AnyOrSigned | Clients::Signed | Clients::WithUri(_) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(folder, "ca.crt", ca)? {
                    roots.add(certificate).map_err(unusable)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match clients {
                    Clients::AnyOrSigned => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(folder, "ca.crt", &error))?)
            }
        };
        let leaf_sha256 = chain.first().map(|leaf| sha256(leaf)).unwrap_or_default();
        // Where clients show no certificate, what the file holds is only reported.
        let authorities_sha256 =
            CertificateDer::pem_slice_iter(ca).filter_map(Result::ok).map(|authority| sha256(&authority)).collect();
        let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if *clients != Clients::Any {
            // A session that is resumed would be let in by a certificate that nobody looks at again.
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), leaf_sha256, authorities_sha256, contents })
    }
}

/// TLS 1.3 with 256-bit ciphers only: some clients would otherwise choose AES-128.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..provider::default_provider()
    }
}

/// `ca.crt` is empty where it is missing: not every issuer of certificates names its CA.
fn contents(folder: &Path) -> Result<[Vec<u8>; 3], TlsError> {
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(|error| wrong(folder, name, &error));
    let authorities = match std::fs::read(folder.join("ca.crt")) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        other => other.map_err(|error| wrong(folder, "ca.crt", &error))?,
    };
    Ok([read("tls.crt")?, read("tls.key")?, authorities])
}

fn certificates(folder: &Path, name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(folder, name, &"no certificate in it")),
        Err(error) => Err(wrong(folder, name, &error)),
    }
}

fn sha256(certificate: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, certificate))
}

fn wrong(folder: &Path, name: &str, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: folder.join(name), reason: reason.to_string() }
}

fn uris(certificate: &[u8]) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Some(names.value.general_names.iter().filter_map(uri).collect())
}
