//! What becomes of a certificate that a CA signs.

use jiff::{SignedDuration, Timestamp};

use super::{
    authority::{AuthorityChange, Phase},
    text,
};
use crate::{
    certificates::{
        LeafRequest, TlsMaterial, Validity,
        verify::{self, Fault},
    },
    observed::SecretSeen,
};

/// What becomes of a certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum LeafChange {
    /// It is good.
    Keep {
        /// The certificate with its key.
        material: TlsMaterial,
        /// When it begins and ends.
        validity: Validity,
    },
    /// It is good; what is to be trusted beside it is not what lies there.
    Rebundle {
        /// The certificate with its key, and what is to lie beside it.
        material: TlsMaterial,
        /// When it begins and ends.
        validity: Validity,
        /// Version of the secret that is replaced.
        replaces: String,
    },
    /// It is missing, wrong or due.
    Make {
        /// What to make.
        request: LeafRequest,
        /// Version of the secret that it replaces, if there is one.
        replaces: Option<String>,
        /// Why, for the Event.
        reason: String,
    },
}

impl LeafChange {
    /// Whether there is nothing to write.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep { .. })
    }

    /// When the certificate begins and ends, if it is kept.
    pub fn validity(&self) -> Option<Validity> {
        match self {
            Self::Keep { validity, .. } | Self::Rebundle { validity, .. } => Some(*validity),
            Self::Make { .. } => None,
        }
    }

    /// The certificate, if it is kept.
    pub fn material(&self) -> Option<&TlsMaterial> {
        match self {
            Self::Keep { material, .. } | Self::Rebundle { material, .. } => Some(material),
            Self::Make { .. } => None,
        }
    }
}

/// What becomes of the certificate in `seen`, which `authority` is to have signed.
pub(super) fn change(
    request: LeafRequest,
    seen: Option<&SecretSeen>,
    authority: &AuthorityChange,
    now: Timestamp,
) -> LeafChange {
    let replaces = seen.map(|seen| seen.resource_version.clone());
    let make = |request, reason: String| LeafChange::Make { request, replaces: replaces.clone(), reason };
    let Some(authority) = authority.authority() else {
        return make(request, "the CA is new".to_owned());
    };
    let Some(seen) = seen else {
        return make(request, "there was none".to_owned());
    };
    let Some(material) = material(seen) else {
        return make(request, "its secret lacks an entry".to_owned());
    };
    let signer = authority.signer();
    match verify::leaf(&material, &request, &signer.certificate, now) {
        Ok(validity) if validity.due(now) && is_outlived(&validity, &request, &signer, now) => {
            make(request, "two thirds of its life are over".to_owned())
        }
        // A shorter duration in the resource counts at once, not only at the next renewal.
        Ok(validity) if outlives(&validity, &request, now) => {
            make(request, "its life is longer than is wanted now".to_owned())
        }
        Ok(validity) if material.authority != signer.authority => LeafChange::Rebundle {
            material: TlsMaterial { authority: signer.authority, ..material },
            validity,
            replaces: seen.resource_version.clone(),
        },
        Ok(validity) => LeafChange::Keep { material, validity },
        Err(Fault::Chain) if matches!(authority.phase, Phase::Reissue { .. }) => {
            make(request, "the new CA signs now".to_owned())
        }
        Err(fault) => make(request, fault.to_string()),
    }
}

/// Whether a certificate made now would be valid for longer: none outlives its CA.
fn is_outlived(validity: &Validity, request: &LeafRequest, signer: &TlsMaterial, now: Timestamp) -> bool {
    let end = now + request.lifetime;
    verify::validity(&signer.certificate).is_ok_and(|authority| end.min(authority.not_after) > validity.not_after)
}

fn outlives(validity: &Validity, request: &LeafRequest, now: Timestamp) -> bool {
    validity.not_after > now + request.lifetime + SignedDuration::from_mins(10)
}

/// When those that are kept are due. What is due and yet kept ends with its CA.
pub(super) fn renewals(leaves: &[&LeafChange], now: Timestamp) -> Vec<Timestamp> {
    let validities = leaves.iter().filter_map(|leaf| leaf.validity());
    validities.map(|validity| validity.renewal()).filter(|renewal| *renewal > now).collect()
}

/// A certificate from the entries of a secret in cert-manager's shape.
pub fn material(seen: &SecretSeen) -> Option<TlsMaterial> {
    Some(TlsMaterial {
        certificate: text(seen, "tls.crt")?,
        key: seen.entry("tls.key")?.clone(),
        authority: text(seen, "ca.crt")?,
    })
}
