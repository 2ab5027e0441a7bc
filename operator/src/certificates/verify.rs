//! Checks certificates before they are relied on: key, chain, names, constraints, times.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, pem::Pem, prelude::parse_x509_pem};

use super::{AuthorityRequest, LeafRequest, Mandate, TlsMaterial, Validity, issue};

/// What is wrong with a certificate. Each is a reason to make a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a certificate.
    #[error("it can't be read as a certificate")]
    Unreadable,
    /// The private key is not that of the certificate.
    #[error("its private key does not belong to it")]
    Key,
    /// Signed by someone else than the CA at hand.
    #[error("it is not signed by the cluster's CA")]
    Chain,
    /// Signed by someone else than the CAs that lie beside it.
    #[error("no certificates lead from it to a CA in ca.crt")]
    Path,
    /// What lies beside it to be trusted is no certificate.
    #[error("ca.crt, which lies beside it, holds no CA certificate that can be read")]
    Authority,
    /// Names are missing or too many.
    #[error("it is made for {found:?}, wanted is {wanted:?}")]
    Names {
        /// Names in the certificate.
        found: Vec<String>,
        /// Names that are needed.
        wanted: Vec<String>,
    },
    /// Not a CA, or one without the critical name constraints that are wanted.
    #[error("it is not a CA that is confined to the cluster's names")]
    Constraints,
    /// Not yet or no longer valid.
    #[error("it is valid from {} to {}", .0.not_before, .0.not_after)]
    Time(Validity),
}

/// Checks a certificate against what was asked for and the CA that must have signed it. What lies beside it to be
/// trusted is not looked at.
pub fn leaf(material: &TlsMaterial, wanted: &LeafRequest, authority: &str, now: Timestamp) -> Result<Validity, Fault> {
    let pem = parse_pem(&material.certificate)?;
    let certificate = parse(&pem)?;
    check_key(&certificate, material)?;
    check_chain(&certificate, authority)?;
    let found = names(&certificate);
    let names: BTreeSet<String> = wanted.dns_names.iter().chain(&wanted.uris).cloned().collect();
    if found != names {
        return Err(Fault::Names { found: found.into_iter().collect(), wanted: names.into_iter().collect() });
    }
    check_time(&certificate, now)
}

/// Checks a certificate that an issuer of others signed: that key and names are right, and that the certificates with it
/// lead to a CA that lies beside it, if there is one. It may have further names.
pub fn issued(material: &TlsMaterial, wanted: &[String], now: Timestamp) -> Result<Validity, Fault> {
    let chain = parse_pems(&material.certificate)?;
    let chain = parse_all(&chain)?;
    let certificate = chain.first().ok_or(Fault::Unreadable)?;
    check_key(certificate, material)?;
    if !material.authority.is_empty() {
        let authorities = parse_pems(&material.authority)?;
        check_path(certificate, &chain, &parse_all(&authorities)?)?;
    }
    let found = names(certificate);
    if !wanted.iter().all(|name| found.contains(name)) {
        return Err(Fault::Names { found: found.into_iter().collect(), wanted: wanted.to_vec() });
    }
    check_time(certificate, now)
}

/// Checks a CA against what was asked for. It may be permitted other further names than are wanted now.
pub fn authority(material: &TlsMaterial, wanted: &AuthorityRequest, now: Timestamp) -> Result<Mandate, Fault> {
    let pem = parse_pem(&material.certificate)?;
    let certificate = parse(&pem)?;
    check_key(&certificate, material)?;
    if certificate.verify_signature(None).is_err() {
        return Err(Fault::Chain);
    }
    let mandate = mandate_of(&certificate)?;
    if !wanted.own_dns.iter().all(|name| mandate.covers(name)) {
        return Err(Fault::Constraints);
    }
    check_time(&certificate, now)?;
    Ok(mandate)
}

/// What a CA may sign for, and until when.
pub fn mandate(certificate: &str) -> Result<Mandate, Fault> {
    let pem = parse_pem(certificate)?;
    mandate_of(&parse(&pem)?)
}

/// Whether a certificate is signed by a CA.
pub fn is_signed_by(certificate: &str, authority: &str) -> bool {
    let Ok(pem) = parse_pem(certificate) else {
        return false;
    };
    parse(&pem).is_ok_and(|certificate| check_chain(&certificate, authority).is_ok())
}

/// When a certificate begins and ends.
pub fn validity(certificate: &str) -> Result<Validity, Fault> {
    let pem = parse_pem(certificate)?;
    validity_of(&parse(&pem)?)
}

/// SHA-256 of a certificate's DER form, hexadecimal: how an engine names the certificate that it shows.
pub fn fingerprint(certificate: &str) -> Result<String, Fault> {
    Ok(hex::encode(Sha256::digest(parse_pem(certificate)?.contents)))
}

/// The same of each certificate in a bundle, as far as they can be read.
pub fn fingerprints(bundle: &str) -> Vec<String> {
    let pems = parse_pems(bundle).unwrap_or_default();
    pems.iter().map(|pem| hex::encode(Sha256::digest(&pem.contents))).collect()
}

fn parse_pems(text: &str) -> Result<Vec<Pem>, Fault> {
    let pems: Result<Vec<Pem>, _> = Pem::iter_from_buffer(text.as_bytes()).collect();
    let mut pems = pems.map_err(|_| Fault::Unreadable)?;
    pems.retain(|pem| pem.label == "CERTIFICATE");
    Ok(pems)
}

fn parse_all(pems: &[Pem]) -> Result<Vec<X509Certificate<'_>>, Fault> {
    pems.iter().map(parse).collect()
}

fn parse_pem(text: &str) -> Result<Pem, Fault> {
    let (_, pem) = parse_x509_pem(text.as_bytes()).map_err(|_| Fault::Unreadable)?;
    if pem.label != "CERTIFICATE" {
        return Err(Fault::Unreadable);
    }
    Ok(pem)
}

fn parse(pem: &Pem) -> Result<X509Certificate<'_>, Fault> {
    pem.parse_x509().map_err(|_| Fault::Unreadable)
}

fn check_key(certificate: &X509Certificate<'_>, material: &TlsMaterial) -> Result<(), Fault> {
    let key = material.key.reveal_text().and_then(issue::public_key);
    if key.as_deref() != Some(certificate.public_key().raw) {
        return Err(Fault::Key);
    }
    Ok(())
}

fn check_chain(certificate: &X509Certificate<'_>, authority: &str) -> Result<(), Fault> {
    let pem = parse_pem(authority)?;
    if !signs(&parse(&pem)?, certificate) {
        return Err(Fault::Chain);
    }
    Ok(())
}

/// Follows the certificates in `chain` until one of `authorities` signed the last of them.
fn check_path(
    certificate: &X509Certificate<'_>,
    chain: &[X509Certificate<'_>],
    authorities: &[X509Certificate<'_>],
) -> Result<(), Fault> {
    let mut last = certificate;
    // No longer than the chain, so that a circle has an end.
    for _ in chain {
        if authorities.iter().any(|authority| signs(authority, last)) {
            return Ok(());
        }
        last = chain.iter().find(|next| signs(next, last)).ok_or(Fault::Path)?;
    }
    Err(Fault::Path)
}

fn signs(authority: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == authority.subject().as_raw()
        && certificate.verify_signature(Some(authority.public_key())).is_ok()
}

fn mandate_of(certificate: &X509Certificate<'_>) -> Result<Mandate, Fault> {
    let constraints = certificate
        .name_constraints()
        .ok()
        .flatten()
        .filter(|constraints| constraints.critical)
        .ok_or(Fault::Constraints)?;
    if !certificate.is_ca() {
        return Err(Fault::Constraints);
    }
    let permitted_dns = constraints
        .value
        .permitted_subtrees
        .iter()
        .flatten()
        .filter_map(|subtree| match &subtree.base {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    Ok(Mandate { validity: validity_of(certificate)?, permitted_dns })
}

fn names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::URI(uri) => (*uri).to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

fn validity_of(certificate: &X509Certificate<'_>) -> Result<Validity, Fault> {
    let moment = |seconds| Timestamp::from_second(seconds).map_err(|_| Fault::Unreadable);
    Ok(Validity {
        not_before: moment(certificate.validity().not_before.timestamp())?,
        not_after: moment(certificate.validity().not_after.timestamp())?,
    })
}

fn check_time(certificate: &X509Certificate<'_>, now: Timestamp) -> Result<Validity, Fault> {
    let validity = validity_of(certificate)?;
    if now < validity.not_before || now >= validity.not_after {
        return Err(Fault::Time(validity));
    }
    Ok(validity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{certificates::Usage, sensitive::Sensitive};
    use jiff::SignedDuration;
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    };
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
    use std::{sync::Arc, time::Duration};

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().expect("a time")
    }

    fn ca_request() -> AuthorityRequest {
        AuthorityRequest {
            common_name: "vc1 serving CA".into(),
            own_dns: vec!["vk-vc1.svc".into()],
            further_dns: vec!["vector.acme.example".into()],
            lifetime: SignedDuration::from_hours(24 * 365),
        }
    }

    fn leaf_request(names: &[&str]) -> LeafRequest {
        LeafRequest {
            common_name: "engine".into(),
            dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
            uris: vec!["vectorkeep://vc1/engine".into()],
            usage: Usage::Server,
            lifetime: SignedDuration::from_hours(24),
        }
    }

    fn made() -> (TlsMaterial, TlsMaterial, LeafRequest) {
        let ca = issue::authority(&ca_request(), now()).expect("a CA");
        let request = leaf_request(&["engine.vk-vc1.svc"]);
        let leaf = issue::leaf(&request, &ca, now()).expect("a leaf");
        (ca, leaf, request)
    }

    #[test]
    fn what_was_issued_is_found_good() {
        let (ca, leaf_material, request) = made();
        authority(&ca, &ca_request(), now()).expect("a good CA");
        leaf(&leaf_material, &request, &ca.certificate, now()).expect("a good leaf");
    }

    #[test]
    fn a_certificate_of_another_ca_is_refused() {
        let (_, leaf_material, request) = made();
        let other = issue::authority(&ca_request(), now()).expect("a CA");
        assert_eq!(leaf(&leaf_material, &request, &other.certificate, now()), Err(Fault::Chain));
    }

    #[test]
    fn other_names_are_refused() {
        let (ca, leaf_material, _) = made();
        let wanted = leaf_request(&["engine.vk-vc1.svc", "vector.acme.example"]);
        assert!(matches!(leaf(&leaf_material, &wanted, &ca.certificate, now()), Err(Fault::Names { .. })));
    }

    #[test]
    fn a_certificate_past_its_end_is_refused() {
        let (ca, leaf_material, request) = made();
        let later = now() + SignedDuration::from_hours(25);
        assert!(matches!(leaf(&leaf_material, &request, &ca.certificate, later), Err(Fault::Time(_))));
    }

    #[test]
    fn a_foreign_private_key_is_refused() {
        let (ca, mut leaf_material, request) = made();
        leaf_material.key = ca.key.clone();
        assert_eq!(leaf(&leaf_material, &request, &ca.certificate, now()), Err(Fault::Key));
    }

    #[test]
    fn a_ca_of_another_cluster_is_refused_and_one_for_other_further_names_says_so() {
        let (ca, _, _) = made();
        let mut wanted = ca_request();
        wanted.further_dns = vec!["other.acme.example".into()];
        let mandate = authority(&ca, &wanted, now()).expect("a good CA");
        assert!(mandate.covers("vector.acme.example") && !mandate.covers("other.acme.example"));
        wanted.own_dns = vec!["vk-vc2.svc".into()];
        assert_eq!(authority(&ca, &wanted, now()), Err(Fault::Constraints));
    }

    #[test]
    fn two_cas_of_a_cluster_have_names_of_their_own() {
        let first = issue::authority(&ca_request(), now()).expect("a CA");
        let later = now() + SignedDuration::from_hours(1);
        let second = issue::authority(&ca_request(), later).expect("a CA");
        let subject = |pem: &str| {
            let pem = parse_pem(pem).expect("PEM");
            parse(&pem).expect("DER").subject().to_string()
        };
        assert_ne!(subject(&first.certificate), subject(&second.certificate));
        let leaf = issue::leaf(&leaf_request(&["engine.vk-vc1.svc"]), &second, later).expect("a leaf");
        assert!(is_signed_by(&leaf.certificate, &second.certificate));
        assert!(!is_signed_by(&leaf.certificate, &first.certificate));
    }

    #[test]
    fn what_an_issuer_signed_is_good_by_the_ca_beside_it_and_with_further_names() {
        let (ca, leaf, _) = made();
        let wanted = ["engine.vk-vc1.svc".to_owned()];
        let with = |authority: String| TlsMaterial { authority, ..leaf.clone() };
        issued(&with(ca.certificate.clone()), &wanted, now()).expect("good");
        issued(&with(String::new()), &wanted, now()).expect("good, though nobody says who signed it");
        let other = issue::authority(&ca_request(), now()).expect("a CA");
        assert_eq!(issued(&with(other.certificate.clone()), &wanted, now()), Err(Fault::Path));
        let both = with(format!("{}{}", other.certificate, ca.certificate));
        issued(&both, &wanted, now()).expect("good by one of two");
        // The CA's own certificate behind the leaf's, as an issuer with an intermediate CA has it.
        let chained = TlsMaterial { certificate: format!("{}{}", leaf.certificate, ca.certificate), ..both };
        issued(&chained, &wanted, now()).expect("good with its chain");
        let more = [wanted[0].clone(), "vector.acme.example".to_owned()];
        assert!(matches!(issued(&chained, &more, now()), Err(Fault::Names { .. })));
        assert_eq!(issued(&TlsMaterial { key: ca.key, ..chained.clone() }, &wanted, now()), Err(Fault::Key));
        let later = now() + SignedDuration::from_hours(25);
        assert!(matches!(issued(&chained, &wanted, later), Err(Fault::Time(_))));
        assert_eq!(fingerprints(&chained.certificate).len(), 2);
    }

    #[test]
    fn garbage_is_unreadable() {
        let garbage = TlsMaterial {
            certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            key: Sensitive::new(Vec::new()),
            authority: String::new(),
        };
        assert_eq!(authority(&garbage, &ca_request(), now()), Err(Fault::Unreadable));
    }

    /// What a client's own library says of a certificate for `name`, signed by our CA.
    fn client_accepts(ca: &TlsMaterial, leaf: &TlsMaterial, name: &str) -> bool {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let mut roots = RootCertStore::empty();
        roots.add(der(&ca.certificate)).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier");
        let seconds = u64::try_from(now().as_second()).expect("after 1970");
        verifier
            .verify_server_cert(
                &der(&leaf.certificate),
                &[],
                &ServerName::try_from(name.to_owned()).expect("a name"),
                &[],
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            )
            .is_ok()
    }

    #[test]
    fn a_client_accepts_names_inside_the_constraints_and_none_outside() {
        let (ca, inside, _) = made();
        assert!(client_accepts(&ca, &inside, "engine.vk-vc1.svc"));
        assert!(!client_accepts(&ca, &inside, "engine.vk-vc2.svc"));
        let stray = leaf_request(&["engine.vk-vc2.svc"]);
        let stray = issue::leaf(&stray, &ca, now()).expect("signed all the same");
        assert!(!client_accepts(&ca, &stray, "engine.vk-vc2.svc"));
    }
}
