//! A serving certificate that an issuer of cert-manager signs: what is ordered, and what became of it.
//!
//! cert-manager writes it into the very secret that the operator fills otherwise, so that the engine's pod is the same.
//! The operator only looks at what is there, and says what is wrong with it.

use jiff::{SignedDuration, Timestamp};
use vectorkeep_crds::{
    VectorClusterSpec,
    tls::{ClientAuth, IssuerRef},
};

use super::{
    SERVING_TLS,
    authority::Authority,
    request::{self, Lives},
    serving::Trust,
    text,
};
use crate::{
    cert_manager::{Certificate, CertificateSpec, Issuer, PrivateKey, SecretTemplate},
    certificates::{
        TlsMaterial, Validity,
        verify::{self, Fault},
    },
    observed::{Issuance, Observed, SecretSeen},
    plan::{
        change::Change,
        conditions::seconds,
        identity::Identity,
        refusal::Refusal,
        teardown::{DeletedKind, Deletion, deletion},
    },
};

/// Nothing announces what becomes of an order, apart from the secret that it fills; it is looked at so often.
const WAIT: SignedDuration = SignedDuration::from_secs(30);
/// So often it is looked whether cert-manager was installed.
const UNSERVED: SignedDuration = SignedDuration::from_secs(60);

/// How it stands with a certificate that an issuer is to sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    /// The certificate that is there, if there is one.
    pub held: Option<Held>,
    /// Why that is not the one that is wanted, if it isn't.
    pub hitch: Option<Hitch>,
    /// How it stands, for people, where nothing is wrong.
    pub report: String,
}

/// The certificate in the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The certificate, with those that lead to its CA, and what is to be trusted for it, if anything says so.
    pub material: TlsMaterial,
    /// When it begins and ends.
    pub validity: Validity,
    /// What clients are to trust for it.
    pub trust: Trust,
    /// Whether the cluster's own CA signed it: it is from the time before the order.
    pub from_before: bool,
}

/// Why the certificate that is there is not the one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hitch {
    /// In one word, for the condition.
    pub reason: &'static str,
    /// What is the matter and what to do.
    pub message: String,
    /// How long until it is looked at again.
    pub look: SignedDuration,
}

impl Issued {
    /// What clients are to trust, as soon as there is a certificate.
    pub fn trust(&self) -> Option<&Trust> {
        self.held.as_ref().map(|held| &held.trust)
    }

    /// Whether the cluster's own CA signed the certificate that is there.
    pub fn is_from_before(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.from_before)
    }

    /// Whether clients' certificates can be judged, if they are to be.
    pub(super) fn judges_clients(&self, spec: &VectorClusterSpec) -> Result<(), Refusal> {
        if spec.tls.client_auth == ClientAuth::None || self.trust() != Some(&Trust::System) {
            return Ok(());
        }
        let problem = "the issuer in spec.tls.issuerRef gives no CA certificate (ca.crt), so the engine has nothing to \
                       judge clients' certificates by; name another issuer, or set spec.tls.clientAuth to None";
        Err(Refusal::Field { field: "tls.clientAuth", problem: problem.to_owned() })
    }

    /// When to look again, if nothing calls before.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let end = self.held.as_ref().map(|held| held.validity.not_after).filter(|end| *end > now);
        let look = self.hitch.as_ref().map(|hitch| now + hitch.look);
        end.into_iter().chain(look).min()
    }
}

/// What cert-manager is to be told.
pub fn order(
    identity: &Identity,
    spec: &VectorClusterSpec,
    observed: &Observed,
) -> Result<Change<Certificate>, Refusal> {
    let Some(issuer) = &spec.tls.issuer_ref else { return Ok(Change::Keep) };
    let live = match issuance(observed) {
        Issuance::Unserved => return Ok(Change::Keep),
        Issuance::Ordered(live) => Some(&**live),
        Issuance::None => None,
    };
    let wanted = request::serving(identity, spec, &Lives::of(&spec.tls)?, None);
    let metadata = identity.meta(SERVING_TLS);
    let mut certificate = Certificate::new(
        SERVING_TLS,
        CertificateSpec {
            secret_name: SERVING_TLS.to_owned(),
            // By its label the secret is watched, by its annotations the resource is found.
            secret_template: SecretTemplate {
                labels: metadata.labels.clone().unwrap_or_default(),
                annotations: metadata.annotations.clone().unwrap_or_default(),
            },
            dns_names: wanted.dns_names,
            usages: vec!["digital signature".to_owned(), "server auth".to_owned()],
            duration: go_duration(wanted.lifetime),
            renew_before: go_duration(wanted.lifetime / 3),
            private_key: PrivateKey {
                algorithm: "ECDSA".to_owned(),
                size: 256,
                encoding: "PKCS8".to_owned(),
                rotation_policy: "Always".to_owned(),
            },
            issuer_ref: Issuer { name: issuer.name.clone(), kind: issuer.kind.clone(), group: issuer.group.clone() },
            revision_history_limit: 1,
        },
    );
    certificate.metadata = metadata;
    Ok(Change::between(certificate, live))
}

/// The order that is wanted no longer. It goes before the cluster's own CA signs again: cert-manager would take what that
/// signed for a mistake, and correct it.
pub fn withdrawal(spec: &VectorClusterSpec, observed: &Observed) -> Option<Deletion> {
    match issuance(observed) {
        Issuance::Ordered(live) if spec.tls.issuer_ref.is_none() => deletion(DeletedKind::Certificate, Some(&**live)),
        _ => None,
    }
}

/// Whether cert-manager is told, or may have been told, to write the serving certificate. Remembered before it is told.
pub fn is_ordered(spec: &VectorClusterSpec, observed: &Observed) -> bool {
    spec.tls.issuer_ref.is_some() || matches!(issuance(observed), Issuance::Ordered(_))
}

/// How it stands with the issuer's certificate; nothing where the cluster's own CA alone signs.
pub(super) fn judge(
    identity: &Identity,
    spec: &VectorClusterSpec,
    observed: &Observed,
    lives: &Lives,
    now: Timestamp,
) -> Option<Issued> {
    if !is_ordered(spec, observed) {
        return None;
    }
    let own = observed.custody.serving_ca.as_ref().and_then(Authority::read);
    let seen = observed.children.as_ref().and_then(|children| children.serving_tls.as_ref());
    // What can't be relied on is as good as nothing, and has to be told.
    let (held, fault) = match seen.map(|seen| Held::read(seen, own.as_ref())) {
        Some(Ok(held)) => (held, None),
        Some(Err(fault)) => (None, Some(fault)),
        None => (None, None),
    };
    let live = match issuance(observed) {
        Issuance::Ordered(live) => Some(&**live),
        Issuance::None | Issuance::Unserved => None,
    };
    let Some(issuer) = &spec.tls.issuer_ref else {
        return Some(Issued { held, hitch: Some(withdrawing(live)), report: String::new() });
    };
    if let Issuance::Unserved = issuance(observed) {
        let hitch = unserved(issuer, held.as_ref());
        return Some(Issued { held, hitch: Some(hitch), report: String::new() });
    }
    let complaint = live.and_then(Certificate::complaint);
    let filled = live.is_some_and(Certificate::is_filled);
    let hitch = match (&held, fault) {
        (Some(held), _) if filled && !held.from_before => {
            let wanted = request::serving(identity, spec, lives, None);
            let fault = verify::issued(&held.material, &wanted.dns_names, now).err();
            fault.map(|fault| unusable(issuer, identity, &fault))
        }
        (None, Some(fault)) if filled => Some(unusable(issuer, identity, &fault)),
        _ => Some(waiting(issuer, complaint.as_deref(), held.as_ref())),
    };
    let report = held.as_ref().map(|held| report(issuer, held, complaint.as_deref())).unwrap_or_default();
    Some(Issued { held, hitch, report })
}

fn issuance(observed: &Observed) -> &Issuance {
    const NOTHING: &Issuance = &Issuance::None;
    observed.children.as_ref().map_or(NOTHING, |children| &children.issuance)
}

impl Held {
    /// What a secret holds; nothing if it is no certificate with its key. `ca.crt` may be missing, but not be something
    /// that nobody can trust.
    fn read(seen: &SecretSeen, own: Option<&Authority>) -> Result<Option<Self>, Fault> {
        let (Some(certificate), Some(key)) = (text(seen, "tls.crt"), seen.entry("tls.key")) else { return Ok(None) };
        let Ok(validity) = verify::validity(&certificate) else { return Ok(None) };
        let signer = own.filter(|own| own.has_signed(&certificate));
        let trust = match signer {
            Some(own) => Trust::Certificates(own.bundle()),
            None => trust(seen, own)?,
        };
        let authority = trust.certificates().unwrap_or_default().to_owned();
        let material = TlsMaterial { certificate, key: key.clone(), authority };
        Ok(Some(Self { material, validity, trust, from_before: signer.is_some() }))
    }
}

/// What clients are to trust for a certificate of an issuer. Where that names no CA, cert-manager leaves the entry as it
/// is, with the cluster's own CA of before.
fn trust(seen: &SecretSeen, own: Option<&Authority>) -> Result<Trust, Fault> {
    if seen.entry("ca.crt").is_none_or(|given| given.reveal().is_empty()) {
        return Ok(Trust::System);
    }
    let authority = text(seen, "ca.crt").ok_or(Fault::Authority)?;
    let found = verify::fingerprints(&authority);
    if found.is_empty() {
        return Err(Fault::Authority);
    }
    let own = own.map(Authority::fingerprints).unwrap_or_default();
    Ok(match found.iter().all(|found| own.contains(found)) {
        true => Trust::System,
        false => Trust::Certificates(authority),
    })
}

fn withdrawing(order: Option<&Certificate>) -> Hitch {
    // Deleted, it is gone at once, unless somebody else's mark holds it.
    let is_held_up = order.is_some_and(|order| order.metadata.deletion_timestamp.is_some());
    Hitch {
        reason: "WithdrawingOrder",
        message: "the order to cert-manager is being withdrawn; then the cluster's own CA signs again".to_owned(),
        look: if is_held_up { WAIT } else { SignedDuration::ZERO },
    }
}

fn unusable(issuer: &IssuerRef, identity: &Identity, fault: &Fault) -> Hitch {
    Hitch {
        reason: "IssuedCertificateUnusable",
        message: format!(
            "the certificate that {} signed can't be used: {fault}. Correct the issuer; then an administrator has to \
             delete the secret {SERVING_TLS} in the namespace {}, so that cert-manager issues it anew",
            called(issuer),
            identity.namespace
        ),
        look: WAIT,
    }
}

fn called(issuer: &IssuerRef) -> String {
    format!("the {} {} ({})", issuer.kind, issuer.name, issuer.group)
}

fn unserved(issuer: &IssuerRef, held: Option<&Held>) -> Hitch {
    Hitch {
        reason: "CertManagerMissing",
        message: format!(
            "spec.tls.issuerRef names {}, but this Kubernetes cluster has no cert-manager (no cert-manager.io/v1). Have an \
             administrator install it, or remove spec.tls.issuerRef{}",
            called(issuer),
            meanwhile(held)
        ),
        look: UNSERVED,
    }
}

fn waiting(issuer: &IssuerRef, complaint: Option<&str>, held: Option<&Held>) -> Hitch {
    let said = complaint.map(|complaint| format!(" (cert-manager says: {complaint})")).unwrap_or_default();
    Hitch {
        reason: "WaitingForIssuer",
        message: format!(
            "cert-manager has no certificate of {} yet{said}. If that lasts, check that it exists and is Ready, that it signs \
             for the names of the cluster, and that spec.tls.issuerRef names it rightly{}",
            called(issuer),
            meanwhile(held)
        ),
        look: WAIT,
    }
}

fn meanwhile(held: Option<&Held>) -> String {
    match held {
        Some(held) if held.from_before => {
            ". Clients see the certificate from before, which the cluster's own CA renews meanwhile".to_owned()
        }
        Some(held) => {
            format!(". Clients see the certificate from before, which ends at {}", seconds(held.validity.not_after))
        }
        None => ". The cluster starts when there is one".to_owned(),
    }
}

fn report(issuer: &IssuerRef, held: &Held, complaint: Option<&str>) -> String {
    let end = seconds(held.validity.not_after);
    let trust = match held.trust {
        Trust::Certificates(_) => "",
        Trust::System => "; it names no CA, so clients have to trust it by their system",
    };
    let renewal = match complaint {
        Some(complaint) => format!("its renewal does not succeed so far (cert-manager says: {complaint})"),
        None => "cert-manager renews it after two thirds of its life".to_owned(),
    };
    format!("{} signed what clients see, until {end}; {renewal}{trust}", called(issuer))
}

/// A duration as Go writes it.
fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}m{seconds}s"),
        hours => format!("{hours}h{minutes}m{seconds}s"),
    }
}
