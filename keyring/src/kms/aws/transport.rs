//! HTTP for the AWS clients: TLS 1.3 only, trust as configured, no proxy, nothing from the environment.
//!
//! The SDK's own client offers TLS 1.2 too and finds its roots by environment variables.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::kms::KmsError;

/// Where Linux distributions keep the public roots.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// An idle connection is dropped after this; the KMS closes them at about twice of it.
const IDLE: Duration = Duration::from_secs(30);

/// An HTTPS client for the SDK.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<TcpConnector>, SdkBody>,
}

impl Transport {
    /// Trusts the system's roots and the certificates in `ca_bundle`, a PEM file.
    pub(crate) fn new(ca_bundle: Option<&Path>, connect_timeout: Duration) -> Result<Self, KmsError> {
        let tls = tls_config(trusted_roots(ca_bundle)?)?;
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
        let client =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(https);
        Ok(Self { client })
    }
}

impl HttpClient for Transport {
    /// Time-outs are kept by the SDK around each attempt, so the settings need no attention here.
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.client.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let response = client.request(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

fn tls_config(roots: RootCertStore) -> Result<ClientConfig, KmsError> {
    let all = aws_lc_rs::default_provider();
    let provider = CryptoProvider {
        cipher_suites: all
            .cipher_suites
            .iter()
            .copied()
            .filter(|suite| {
                matches!(
                    suite.suite(),
                    CipherSuite::TLS13_AES_256_GCM_SHA384 | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                )
            })
            .collect(),
        ..all
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| KmsError::unreachable(format!("TLS can't be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn trusted_roots(ca_bundle: Option<&Path>) -> Result<RootCertStore, KmsError> {
    let mut roots = RootCertStore::empty();
    for path in SYSTEM_ROOTS {
        if let Ok(pem) = fs::read(path) {
            // A distribution's bundle may hold roots that this library does not accept; those trust nothing.
            let certificates = CertificateDer::pem_slice_iter(&pem).flatten();
            roots.add_parsable_certificates(certificates);
            break;
        }
    }
    if let Some(path) = ca_bundle {
        let unusable = |reason: &dyn fmt::Display| {
            KmsError::unreachable(format!(
                "the CA bundle for the KMS endpoints can't be used ({reason}); give PEM certificates"
            ))
        };
        let pem = fs::read(path).map_err(|error| unusable(&error))?;
        let mut found = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
            found += 1;
        }
        if found == 0 {
            return Err(unusable(&"it holds no certificate"));
        }
    }
    if roots.is_empty() {
        return Err(KmsError::unreachable(
            "no trusted root certificates were found; install the system's CA certificates or give a CA bundle",
        ));
    }
    Ok(roots)
}

/// The innermost cause, which for a failed connection is the one that says something. Holds addresses and TLS alerts,
/// no request data.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    for _ in 0..32 {
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => break,
        }
    }
    // An `io::Error` that wraps another error hides it from `source`.
    match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => inner.to_string(),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_certificates_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        for content in ["", "garbage", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"] {
            fs::write(&path, content).unwrap();
            assert!(trusted_roots(Some(&path)).is_err(), "{content:?}");
        }
        assert!(trusted_roots(Some(&dir.path().join("absent"))).is_err());
    }

    #[test]
    fn only_tls_13_suites_are_offered() {
        let config = tls_config(RootCertStore::empty()).unwrap();
        let suites = &config.crypto_provider().cipher_suites;
        assert_eq!(suites.len(), 2);
        assert!(suites.iter().all(|suite| suite.tls13().is_some()));
    }
}
