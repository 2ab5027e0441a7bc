//! What is told of certificates.

use vectorkeep_crds::{status::CertificateStatus, well_known::ANNOTATION_ROTATE_CA};

use super::answer;
use crate::{
    certificates::{Validity, verify},
    observed::Observed,
    plan::{
        certificates::{AuthorityChange, Certificates, LeafChange, Serving, has_unreadable_request},
        conditions::{Verdict, seconds},
    },
};

/// Whether every certificate is what it should be, and what is under way.
pub(super) fn valid(observed: &Observed, certificates: &Certificates) -> Verdict {
    if let Some(hitch) = certificates.serving.hitch() {
        return Verdict::no(hitch.reason, hitch.message.clone());
    }
    let own = certificates.serving.own();
    let authorities = [("internal CA", Some(&certificates.internal_ca)), ("serving CA", own.map(|own| &own.ca))];
    let authorities = authorities.into_iter().filter_map(|(name, authority)| match authority? {
        AuthorityChange::Make { reason, .. } => Some(format!("{name}: {reason}")),
        _ => None,
    });
    let leaves = [
        ("serving", own.map(|own| &own.leaf)),
        ("client", own.and_then(|own| own.client.as_ref())),
        ("internal", Some(&certificates.internal)),
        ("operator", Some(&certificates.operator_client)),
    ];
    let leaves = leaves.into_iter().filter_map(|(name, leaf)| match leaf? {
        LeafChange::Make { reason, .. } => Some(format!("{name}: {reason}")),
        LeafChange::Keep { .. } | LeafChange::Rebundle { .. } => None,
    });
    let made: Vec<String> = authorities.chain(leaves).collect();
    // A rotation makes certificates anew while those before are as good as ever.
    let reissuing = certificates.rotations.iter().any(|rotation| rotation.reissuing);
    if !made.is_empty() && !reissuing {
        return Verdict::no("Issuing", format!("certificates are being made ({})", made.join("; ")));
    }
    let current = certificates.serving.certificate().and_then(|certificate| verify::fingerprint(certificate).ok());
    let shown = answer(observed)
        .and_then(|status| status.serving_certificate.as_ref())
        .map(|certificate| certificate.sha256.to_ascii_lowercase());
    if shown.is_some() && shown != current && !reissuing {
        return Verdict::no(
            "Reloading",
            "the serving certificate was renewed and the engine still shows the one before; kubelet brings it within \
             about a minute",
        );
    }
    let ignored = match has_unreadable_request(observed) {
        true => format!("; the annotation {ANNOTATION_ROTATE_CA} is ignored, since its value is no RFC 3339 time"),
        false => String::new(),
    };
    if let Some(first) = certificates.rotations.first() {
        let messages: Vec<&str> = certificates.rotations.iter().map(|rotation| rotation.message.as_str()).collect();
        return Verdict::yes(first.role.reason(), messages.join("; ") + &ignored);
    }
    if let Serving::Issued(issued) = &certificates.serving {
        return Verdict::yes("IssuedByCertManager", issued.report.clone() + &ignored);
    }
    let next = match certificates.next_renewal() {
        Some(renewal) => format!("the next certificate is renewed at {}", seconds(renewal)),
        None => "every certificate is valid".to_owned(),
    };
    Verdict::yes("Valid", next + &ignored)
}

/// When they end.
pub(super) fn report(certificates: &Certificates) -> CertificateStatus {
    let own = certificates.serving.own();
    let end = |validity: Option<Validity>| validity.map(|validity| seconds(validity.not_after));
    CertificateStatus {
        serving_not_after: end(certificates.serving.validity()),
        internal_not_after: end(certificates.internal.validity()),
        operator_not_after: end(certificates.operator_client.validity()),
        client_not_after: end(own.and_then(|own| own.client.as_ref()?.validity())),
        serving_ca_not_after: end(certificates.serving.ca_validity()),
    }
}
