//! TLS 1.3 for the protocol port, from given files or from a CA made on the spot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// Why the protocol port can't speak TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path} holds no usable PEM {what}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What the reader says.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Key and certificate don't go together, or the library refuses them.
    #[error("certificate and key can't be used for TLS 1.3")]
    Config(#[from] rustls::Error),
    /// The CA can't be made.
    #[error("no certificate could be made for the names given")]
    Issue(#[from] rcgen::Error),
    /// The CA certificate can't be written.
    #[error("{path} could not be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// TLS with a certificate chain and key from PEM files.
///
/// # Errors
/// A file can't be read or the two don't go together.
pub fn from_files(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let pem = |path: &Path, what| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, what, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem(certificate, "certificate"))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key, "private key"))?;
    acceptor(chain, key)
}

/// TLS with a certificate for `names` under a fresh CA, whose certificate is written to `folder/ca.crt`.
///
/// # Errors
/// A name is unusable or the folder can't be written.
pub fn self_signed(folder: &Path, names: &[String]) -> Result<TlsAcceptor, TlsError> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name = common_name("KMS simulator CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name = common_name("KMS simulator");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&leaf_key, &ca)?;

    let path = folder.join("ca.crt");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, ca.pem()))
        .map_err(|source| TlsError::Write { path, source })?;
    let key = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
    acceptor(vec![leaf.der().clone()], key)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn acceptor(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
