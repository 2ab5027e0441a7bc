//! The one TLS that the operator speaks: 1.3, two suites.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig,
    client::WantsClientCert,
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::certificates::TlsMaterial;

/// Why a certificate can't be used for a connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM.
    #[error("a certificate or key is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The library refuses it.
    #[error("a certificate or key can't be used")]
    Use(#[source] rustls::Error),
}

/// AES-256-GCM and ChaCha20-Poly1305, nothing else.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// A client that shows `material` and trusts the CAs that lie beside it, and no other.
pub fn client(material: &TlsMaterial) -> Result<ClientConfig, TlsError> {
    client_builder(authorities(&material.authority)?)?
        .with_client_auth_cert(vec![certificate(&material.certificate)?], key(material)?)
        .map_err(TlsError::Use)
}

/// A client that shows no certificate and trusts these CAs, and no other.
pub fn anonymous_client(authorities: RootCertStore) -> Result<ClientConfig, TlsError> {
    Ok(client_builder(authorities)?.with_no_client_auth())
}

/// The CAs of a PEM bundle.
pub fn authorities(bundle: &str) -> Result<RootCertStore, TlsError> {
    let mut authorities = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        authorities.add(authority.map_err(TlsError::Pem)?).map_err(TlsError::Use)?;
    }
    Ok(authorities)
}

fn client_builder(authorities: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Use)?
        .with_root_certificates(authorities))
}

/// A server that shows `material` and asks clients for nothing.
pub fn server(material: &TlsMaterial) -> Result<ServerConfig, TlsError> {
    ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Use)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate(&material.certificate)?], key(material)?)
        .map_err(TlsError::Use)
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(TlsError::Pem)
}

fn key(material: &TlsMaterial) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(material.key.reveal()).map_err(TlsError::Pem)
}
