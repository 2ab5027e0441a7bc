//! Makes keys and signs certificates. ECDSA P-256 throughout: every client of the Milvus API verifies it.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType,
};
use x509_parser::time::ASN1Time;

use super::{
    AuthorityRequest, LeafRequest, TlsMaterial, Usage,
    verify::{self, Fault},
};
use crate::sensitive::Sensitive;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The library refused: a name that is no DNS name, a key that can't be read.
    #[error("the certificate of {subject} could not be made")]
    Make {
        /// Whose certificate.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A moment that certificates can't express.
    #[error("{0} is no time that a certificate can carry")]
    Time(Timestamp),
    /// The CA that was to sign is not usable.
    #[error("the CA that signs for {subject} can't be used")]
    Authority {
        /// Whose certificate was to be signed.
        subject: String,
        /// Why.
        #[source]
        source: Fault,
    },
}

/// Clocks of engine, operator and clients may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Makes a CA with a new key. Its name is like no other's, so that a client that looks for an issuer by its name finds
/// the right one of two.
pub fn authority(request: &AuthorityRequest, now: Timestamp) -> Result<TlsMaterial, IssueError> {
    let make = |source| IssueError::Make { subject: request.common_name.clone(), source };
    let key = KeyPair::generate().map_err(make)?;
    let name = format!("{} {}", request.common_name, now.strftime("%Y-%m-%d %H:%M:%S"));
    let mut params = params(&name, now, now + request.lifetime)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: request
            .own_dns
            .iter()
            .chain(&request.further_dns)
            .cloned()
            .map(GeneralSubtree::DnsName)
            .collect(),
        // No certificate of ours names an address.
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)),
        ],
    });
    let certificate = params.self_signed(&key).map_err(make)?.pem();
    Ok(TlsMaterial {
        authority: certificate.clone(),
        certificate,
        key: Sensitive::new(key.serialize_pem().into_bytes()),
    })
}

/// Makes a new key and has its certificate signed by `authority`, which also says what is to be trusted beside it.
pub fn leaf(request: &LeafRequest, authority: &TlsMaterial, now: Timestamp) -> Result<TlsMaterial, IssueError> {
    let make = |source| IssueError::Make { subject: request.common_name.clone(), source };
    let end_of_authority = verify::validity(&authority.certificate)
        .map_err(|source| IssueError::Authority { subject: request.common_name.clone(), source })?
        .not_after;
    let issuer_key = authority.key.reveal_text().unwrap_or_default();
    let issuer = KeyPair::from_pem(issuer_key)
        .and_then(|key| Issuer::from_ca_cert_pem(&authority.certificate, key))
        .map_err(make)?;

    let key = KeyPair::generate().map_err(make)?;
    let end = (now + request.lifetime).min(end_of_authority);
    let mut params = params(&request.common_name, now, end)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match request.usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    for name in &request.dns_names {
        let name = name.as_str().try_into().map_err(make)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    for uri in &request.uris {
        let uri = uri.as_str().try_into().map_err(make)?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    Ok(TlsMaterial {
        certificate: params.signed_by(&key, &issuer).map_err(make)?.pem(),
        key: Sensitive::new(key.serialize_pem().into_bytes()),
        authority: authority.authority.clone(),
    })
}

/// The public half of a private key in PEM form, as it stands in a certificate.
pub(super) fn public_key(pem: &str) -> Option<Vec<u8>> {
    let key = KeyPair::from_pem(pem).ok()?;
    Some(key.subject_public_key_info())
}

fn params(common_name: &str, now: Timestamp, end: Timestamp) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "VectorKeep");
    params.distinguished_name.push(DnType::CommonName, common_name);
    let moment = |time: Timestamp| {
        ASN1Time::from_timestamp(time.as_second()).map(|time| time.to_datetime()).map_err(|_| IssueError::Time(time))
    };
    params.not_before = moment(now - SKEW)?;
    params.not_after = moment(end)?;
    Ok(params)
}
