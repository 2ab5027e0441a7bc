//! Who signs what clients see, and what they are to trust for it.

use jiff::Timestamp;
use vectorkeep_crds::{VectorClusterSpec, tls::ClientAuth};

use super::{
    authority::AuthorityChange,
    issuer::{self, Hitch, Issued},
    leaf::{self, LeafChange},
    request::{self, Lives},
    rotation::{Asked, Circumstances, Role, Rotation},
};
use crate::{
    certificates::{Validity, verify},
    observed::Observed,
    plan::{identity::Identity, record},
};

/// Who signs what clients see.
#[derive(Clone, Debug, PartialEq)]
pub enum Serving {
    /// The cluster's own CA; also while an issuer that is to sign in its place has not done so yet, so that a cluster that
    /// serves goes on as it did, however long that takes.
    Own(Box<Own>),
    /// The issuer that the resource names: cert-manager writes the certificate. The cluster's own CA rests meanwhile, so
    /// that clients find the one that they knew should the issuer go.
    Issued(Box<Issued>),
}

/// What becomes of the cluster's own serving CA, and of what it signs.
#[derive(Clone, Debug, PartialEq)]
pub struct Own {
    /// The CA.
    pub ca: AuthorityChange,
    /// What clients see.
    pub leaf: LeafChange,
    /// What clients are given to show, where they are asked for it.
    pub client: Option<LeafChange>,
    /// Why the issuer that the resource names has not taken its place yet, if it names one.
    pub hitch: Option<Hitch>,
}

/// What clients are to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// These CA certificates.
    Certificates(String),
    /// What their own system trusts: the issuer names no CA.
    System,
}

impl Trust {
    /// The CA certificates, if there are any to trust.
    pub fn certificates(&self) -> Option<&str> {
        match self {
            Self::Certificates(bundle) => Some(bundle),
            Self::System => None,
        }
    }

    /// By what the operator remembers it.
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Certificates(bundle) => verify::fingerprints(bundle).join(","),
            Self::System => "system".to_owned(),
        }
    }
}

/// What becomes of what clients see, and what follows from that.
pub(super) struct Planned {
    pub(super) change: Serving,
    /// Moments at which time alone changes something.
    pub(super) moments: Vec<Timestamp>,
    /// The rotation of the serving CA that is under way.
    pub(super) rotation: Option<Rotation>,
}

impl Serving {
    /// What becomes of what clients see.
    pub(super) fn plan(
        identity: &Identity,
        spec: &VectorClusterSpec,
        observed: &Observed,
        lives: &Lives,
        now: Timestamp,
    ) -> Planned {
        let hitch = match issuer::judge(identity, spec, observed, lives, now) {
            // What is written then, cert-manager replaces once the issuer has signed; and what it wrote meanwhile stays, since
            // only the version that was read is replaced.
            Some(issued) if spec.tls.issuer_ref.is_some() && issued.is_from_before() => issued.hitch,
            Some(issued) => {
                let moments = issued.next(now).into_iter().collect();
                return Planned { change: Self::Issued(Box::new(issued)), moments, rotation: None };
            }
            None => None,
        };
        let seen = observed.children.as_ref().and_then(|children| children.serving_tls.as_ref());
        let engine = observed.engine.answer();
        let circumstances = Circumstances {
            role: Role::Serving,
            request: request::serving_ca(identity, spec, lives),
            overlap: lives.overlap,
            asked: Asked::of(observed),
            trusted: engine.map_or(&[][..], |engine| engine.serving_authorities.as_slice()),
            shown: engine.and_then(|engine| engine.serving_certificate.as_ref()),
            published: record::published_authority(observed),
            leaf: seen,
            client: None,
            now,
        };
        let ca = circumstances.change(observed.custody.serving_ca.as_ref());
        let leaf = leaf::change(request::serving(identity, spec, lives, ca.mandate().as_ref()), seen, &ca, now);
        let client = (spec.tls.client_auth != ClientAuth::None)
            .then(|| leaf::change(request::client(identity, lives), observed.custody.client.as_ref(), &ca, now));
        let mut moments = circumstances.moments(&ca);
        moments.extend(hitch.as_ref().map(|hitch| now + hitch.look));
        moments.extend(leaf::renewals(&[&leaf], now));
        if let Some(client) = &client {
            moments.extend(leaf::renewals(&[client], now));
            // No watch announces that it is there to be published.
            moments.extend((!client.is_keep()).then_some(now));
        }
        let rotation = circumstances.report(&ca);
        Planned { change: Self::Own(Box::new(Own { ca, leaf, client, hitch })), moments, rotation }
    }

    /// The cluster's own CA and what it signs, where it does.
    pub fn own(&self) -> Option<&Own> {
        match self {
            Self::Own(own) => Some(own),
            Self::Issued(_) => None,
        }
    }

    /// Why the certificate that is there is not the one that is wanted of an issuer.
    pub fn hitch(&self) -> Option<&Hitch> {
        match self {
            Self::Own(own) => own.hitch.as_ref(),
            Self::Issued(issued) => issued.hitch.as_ref(),
        }
    }

    /// Whether there is nothing to write. What an issuer signs is never written here.
    pub fn is_keep(&self) -> bool {
        self.own().is_none_or(|own| {
            own.ca.is_keep() && own.leaf.is_keep() && own.client.as_ref().is_none_or(LeafChange::is_keep)
        })
    }

    /// Whether there is no certificate yet, and the operator is not going to make one.
    pub fn is_awaited(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Issued(issued) => issued.held.is_none(),
        }
    }

    /// The certificate that clients are to see, unless it is only about to be made.
    pub fn certificate(&self) -> Option<&str> {
        match self {
            Self::Own(own) => own.leaf.material().map(|material| material.certificate.as_str()),
            Self::Issued(issued) => issued.held.as_ref().map(|held| held.material.certificate.as_str()),
        }
    }

    /// When that certificate begins and ends.
    pub fn validity(&self) -> Option<Validity> {
        match self {
            Self::Own(own) => own.leaf.validity(),
            Self::Issued(issued) => issued.held.as_ref().map(|held| held.validity),
        }
    }

    /// When the CA begins and ends that clients trust.
    pub fn ca_validity(&self) -> Option<Validity> {
        match self {
            Self::Own(own) => own.ca.validity(),
            Self::Issued(issued) => verify::validity(issued.trust()?.certificates()?).ok(),
        }
    }

    /// By what the operator remembers what clients are to trust, unless that is only about to be made.
    pub fn fingerprint(&self) -> Option<String> {
        match self {
            Self::Own(own) => own.ca.fingerprint(),
            Self::Issued(issued) => issued.trust().map(|trust| trust.fingerprint()),
        }
    }
}
