//! The rotation of a CA: the new one is *distributed* to everybody who trusts the old one, then everything is
//! *reissued* by it, then the old one is *dropped*.
//!
//! How far it is, the CA's secret says. Each step is one write of that secret and needs nothing but what is stored,
//! what the engine reports and the clock, so whatever is interrupted goes on. A CA that is about to end while it is
//! being rotated hands over before it does: nobody accepts what an ended one signed.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use vectorkeep_crds::well_known::ANNOTATION_ROTATE_CA;

use super::{
    authority::{Authority, AuthorityChange, Phase},
    leaf,
};
use crate::{
    admin::ShownCertificate,
    certificates::{
        AuthorityRequest, Mandate, TlsMaterial, Validity,
        verify::{self, Fault},
    },
    observed::{Observed, SecretSeen},
    plan::conditions::seconds,
};

/// So long before its end a CA hands over to one that is known, whether or not clients have had the overlap: kubelet
/// and engine take up to two minutes to show what the new one signed.
const HANDOVER: SignedDuration = SignedDuration::from_mins(10);

/// Which of a cluster's CAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Engine and operator trust it.
    Internal,
    /// Clients trust it.
    Serving,
}

impl Role {
    /// Reason of the condition while it is rotated.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Internal => "RotatingInternalCA",
            Self::Serving => "RotatingServingCA",
        }
    }

    /// How a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal CA",
            Self::Serving => "serving CA",
        }
    }
}

/// A rotation that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Of which CA.
    pub role: Role,
    /// Whether it waits for the engine to show a certificate of the new CA.
    pub reissuing: bool,
    /// How far it is, what it waits for, and until when.
    pub message: String,
}

/// An administrator's request for a rotation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The annotation as it stands.
    value: &'a str,
    /// From when on.
    at: Timestamp,
}

impl<'a> Asked<'a> {
    pub(super) fn of(observed: &'a Observed) -> Option<Self> {
        let value = observed.cluster.annotations().get(ANNOTATION_ROTATE_CA)?;
        Some(Self { value, at: value.parse().ok()? })
    }
}

/// Whether there is a request for a rotation that is no time. It is ignored.
pub fn has_unreadable_request(observed: &Observed) -> bool {
    let value = observed.cluster.annotations().get(ANNOTATION_ROTATE_CA);
    value.is_some_and(|value| value.parse::<Timestamp>().is_err())
}

/// What decides about a CA, apart from what is stored of it.
pub(super) struct Circumstances<'a> {
    pub(super) role: Role,
    /// What would be made now.
    pub(super) request: AuthorityRequest,
    /// How long a new CA is known before it signs, and an old one trusted after it signed last.
    pub(super) overlap: SignedDuration,
    pub(super) asked: Option<Asked<'a>>,
    /// Fingerprints of the CAs that the engine trusts, as it says.
    pub(super) trusted: &'a [String],
    /// The certificate that the engine shows, as it says.
    pub(super) shown: Option<&'a ShownCertificate>,
    /// Fingerprints of the CAs in the secret from which clients take what they trust.
    pub(super) published: Option<&'a str>,
    /// The certificate that the engine is to show.
    pub(super) leaf: Option<&'a SecretSeen>,
    /// The operator's certificate as a client, where this CA signs it.
    pub(super) client: Option<&'a SecretSeen>,
    pub(super) now: Timestamp,
}

/// How it stands with something that has to hold for the overlap.
enum Wait {
    /// It does not hold, or not for long enough.
    GoesOn,
    /// It holds now; since when is to be stored.
    Begins,
    /// It has held for long enough.
    IsOver,
}

impl Circumstances<'_> {
    /// What becomes of the CA in `seen`.
    pub(super) fn change(&self, seen: Option<&SecretSeen>) -> AuthorityChange {
        let Some(seen) = seen else {
            return self.make(None, "there was none".to_owned());
        };
        let replaces = seen.resource_version.clone();
        let Some(authority) = Authority::read(seen) else {
            return self.make(Some(replaces), "its secret lacks an entry".to_owned());
        };
        let fault = match self.judge(&authority.signing) {
            Ok(mandate) => return self.proceed(authority, &mandate, replaces),
            Err(fault) => fault,
        };
        match &authority.phase {
            // What is known already is worth more than what would be made now.
            Phase::Distribute { next, .. } if self.judge(next).is_ok() => match fault {
                Fault::Time(_) | Fault::Key => self.reissue(&authority, next, replaces),
                // Not a certificate that anybody should trust.
                _ => self.succeed(&authority, next, Phase::Settled, replaces),
            },
            _ => self.make(Some(replaces), fault.to_string()),
        }
    }

    /// The next step of a good CA.
    fn proceed(&self, authority: Authority, mandate: &Mandate, replaces: String) -> AuthorityChange {
        match &authority.phase {
            Phase::Settled => match self.due(&authority, mandate) {
                Some(reason) => self.distribute(authority, replaces, reason),
                None => AuthorityChange::Keep(authority),
            },
            Phase::Distribute { next, since } => {
                if let Some(flaw) = self.flaw(next) {
                    // Nothing is signed by it yet, so another one takes its place.
                    let before = authority.with(Phase::Settled);
                    return self.distribute(
                        before,
                        replaces,
                        format!("the one that was to come can't be used: {flaw}"),
                    );
                }
                match self.wait(self.is_known(&authority), *since) {
                    Wait::GoesOn | Wait::Begins
                        if self.is_known(&authority) && self.now >= handover(&mandate.validity) =>
                    {
                        self.reissue(&authority, next, replaces)
                    }
                    Wait::GoesOn => AuthorityChange::Keep(authority),
                    Wait::Begins => {
                        let known = Phase::Distribute { next: next.clone(), since: Some(self.now) };
                        self.advance(authority.with(known), replaces, "AuthorityDistributed")
                    }
                    Wait::IsOver => self.reissue(&authority, next, replaces),
                }
            }
            Phase::Reissue { previous, since } => {
                let dropped = || self.advance(authority.with(Phase::Settled), replaces.clone(), "AuthorityDropped");
                if !verify::validity(previous).is_ok_and(|validity| self.now < validity.not_after) {
                    return dropped();
                }
                match self.wait(self.is_shown(&authority), *since) {
                    Wait::GoesOn => AuthorityChange::Keep(authority),
                    Wait::Begins => {
                        let shown = Phase::Reissue { previous: previous.clone(), since: Some(self.now) };
                        self.advance(authority.with(shown), replaces, "AuthorityReissued")
                    }
                    Wait::IsOver => dropped(),
                }
            }
        }
    }

    /// Moments at which time alone makes a difference.
    pub(super) fn moments(&self, change: &AuthorityChange) -> Vec<Timestamp> {
        let authority = match change {
            AuthorityChange::Keep(authority) | AuthorityChange::Advance { authority, .. } => authority,
            // No watch announces what is stored beside the CA.
            AuthorityChange::Distribute { .. } => return vec![self.now],
            AuthorityChange::Make { .. } => return Vec::new(),
        };
        let end = |certificate: &str| verify::validity(certificate).ok().map(|validity| validity.not_after);
        let signing = &authority.signing.certificate;
        let moments = match &authority.phase {
            Phase::Settled => {
                [verify::validity(signing).ok().map(|validity| validity.renewal()), self.asked.map(|asked| asked.at)]
            }
            Phase::Distribute { since, .. } => {
                let handover = verify::validity(signing).ok().map(|validity| handover(&validity));
                // Until then, or, should the new one not be known by then, until the very end.
                [handover.filter(|moment| *moment > self.now).or(end(signing)), self.overlap_ends(*since)]
            }
            Phase::Reissue { previous, since } => [end(previous), self.overlap_ends(*since)],
        };
        moments.into_iter().flatten().filter(|moment| *moment > self.now).collect()
    }

    /// The rotation that is under way once `change` is carried out.
    pub(super) fn report(&self, change: &AuthorityChange) -> Option<Rotation> {
        let (reissuing, message) = match change {
            AuthorityChange::Make { .. } => return None,
            AuthorityChange::Distribute { reason, .. } => {
                (false, format!("the {} is rotated: a new one is made, because {reason}", self.role.name()))
            }
            AuthorityChange::Keep(authority) | AuthorityChange::Advance { authority, .. } => {
                let reissuing = matches!(authority.phase, Phase::Reissue { since: None, .. });
                (reissuing, self.progress(authority)?)
            }
        };
        Some(Rotation { role: self.role, reissuing, message })
    }

    /// How far a rotation is, for people. Nothing without a rotation.
    fn progress(&self, authority: &Authority) -> Option<String> {
        let step = match &authority.phase {
            Phase::Settled => return None,
            Phase::Distribute { since, .. } => self.distributing(authority, *since),
            Phase::Reissue { since, .. } => self.reissuing(*since),
        };
        let mut text = format!("the {} is rotated: {step}", self.role.name());
        let withheld = verify::mandate(&authority.signing.certificate).map(|mandate| self.uncovered(&mandate));
        let withheld = withheld.unwrap_or_default();
        if !withheld.is_empty() {
            text.push_str(&format!("; {} is served only once a CA signs that may sign for it", withheld.join(", ")));
        }
        Some(text)
    }

    fn distributing(&self, authority: &Authority, since: Option<Timestamp>) -> String {
        let step = match (since, self.overlap_ends(since)) {
            (Some(since), Some(until)) => format!(
                "clients find the old and the new one in the connection secret since {}, and have to have taken both \
                 from there by {}, when the new one begins to sign",
                seconds(since),
                seconds(until)
            ),
            _ => {
                let mut missing = Vec::new();
                if !self.is_trusted(authority) {
                    missing.push("the engine reports that it trusts both");
                }
                if !self.is_at_hand(authority) {
                    missing.push("the operator trusts both");
                }
                if self.role == Role::Serving && !self.is_published(authority) {
                    missing.push("the connection secret holds both");
                }
                if self.role == Role::Serving && since.is_none() {
                    missing.push("clients have had tls.caOverlap to take both from there");
                }
                format!("the new one is made known, and signs once {}", missing.join(" and "))
            }
        };
        match verify::validity(&authority.signing.certificate) {
            Ok(validity) => format!("{step}; the old one ends at {} in any case", seconds(validity.not_after)),
            Err(_) => step,
        }
    }

    fn reissuing(&self, since: Option<Timestamp>) -> String {
        if let Some(until) = self.overlap_ends(since) {
            let until = seconds(until);
            return format!("the engine shows a certificate of the new one, and the old one is dropped at {until}");
        }
        let step = "the new one signs, and the old one is dropped once the engine shows the current certificate, which \
                    kubelet brings within about a minute";
        match (self.role, since) {
            (Role::Serving, None) => format!("{step}, and clients have had tls.caOverlap once more"),
            _ => step.to_owned(),
        }
    }

    fn make(&self, replaces: Option<String>, reason: String) -> AuthorityChange {
        let honoured = self.honoured(None);
        AuthorityChange::Make { request: self.request.clone(), replaces, honoured, reason }
    }

    fn distribute(&self, authority: Authority, replaces: String, reason: String) -> AuthorityChange {
        let honoured = self.honoured(authority.honoured.as_deref());
        AuthorityChange::Distribute { request: self.request.clone(), authority, replaces, honoured, reason }
    }

    fn reissue(&self, authority: &Authority, next: &TlsMaterial, replaces: String) -> AuthorityChange {
        let phase = Phase::Reissue { previous: authority.signing.certificate.clone(), since: None };
        self.succeed(authority, next, phase, replaces)
    }

    /// From now on `next` signs in the place of `authority`.
    fn succeed(&self, authority: &Authority, next: &TlsMaterial, phase: Phase, replaces: String) -> AuthorityChange {
        let after = Authority { signing: next.clone(), phase, honoured: authority.honoured.clone() };
        self.advance(after, replaces, "AuthorityReissuing")
    }

    fn advance(&self, authority: Authority, replaces: String, event: &'static str) -> AuthorityChange {
        let note = self
            .progress(&authority)
            .unwrap_or_else(|| format!("the {} was rotated; the old one is trusted no longer", self.role.name()));
        AuthorityChange::Advance { authority, replaces, event, note }
    }

    /// Why a rotation is to begin, if it is.
    fn due(&self, authority: &Authority, mandate: &Mandate) -> Option<String> {
        if mandate.validity.due(self.now) {
            return Some("two thirds of its life are over".to_owned());
        }
        let uncovered = self.uncovered(mandate);
        if !uncovered.is_empty() {
            return Some(format!("it may not sign for {}", uncovered.join(", ")));
        }
        let asked = self.asked.filter(|asked| asked.at <= self.now)?;
        (authority.honoured.as_deref() != Some(asked.value))
            .then(|| format!("the annotation {ANNOTATION_ROTATE_CA} asks for it"))
    }

    /// The request that a CA answers which is made now in the place of one that answered `before`.
    fn honoured(&self, before: Option<&str>) -> Option<String> {
        let asked = self.asked.filter(|asked| asked.at <= self.now).map(|asked| asked.value);
        asked.or(before).map(str::to_owned)
    }

    fn judge(&self, material: &TlsMaterial) -> Result<Mandate, Fault> {
        verify::authority(material, &self.request, self.now)
    }

    /// Why a CA can't take over, if it can't.
    fn flaw(&self, next: &TlsMaterial) -> Option<String> {
        match self.judge(next) {
            Ok(mandate) => {
                let uncovered = self.uncovered(&mandate);
                (!uncovered.is_empty()).then(|| format!("it may not sign for {}", uncovered.join(", ")))
            }
            Err(fault) => Some(fault.to_string()),
        }
    }

    /// Names that are wanted and that a CA may not sign for.
    fn uncovered(&self, mandate: &Mandate) -> Vec<&str> {
        self.request.further_dns.iter().map(String::as_str).filter(|name| !mandate.covers(name)).collect()
    }

    /// Whether everybody who looks now finds everything that is to be trusted.
    fn is_known(&self, authority: &Authority) -> bool {
        self.is_trusted(authority)
            && self.is_at_hand(authority)
            && (self.role == Role::Internal || self.is_published(authority))
    }

    /// Whether the operator's own secret holds it too, where this CA signs its certificate.
    fn is_at_hand(&self, authority: &Authority) -> bool {
        let holds = |material: TlsMaterial| material.authority == authority.bundle();
        self.client.is_none_or(|client| leaf::material(client).is_some_and(holds))
    }

    fn is_trusted(&self, authority: &Authority) -> bool {
        let reported = |fingerprint: &String| self.trusted.iter().any(|known| known.eq_ignore_ascii_case(fingerprint));
        authority.fingerprints().iter().all(reported)
    }

    fn is_published(&self, authority: &Authority) -> bool {
        self.published == Some(authority.fingerprints().join(",").as_str())
    }

    /// Whether the engine shows the current certificate, signed by the CA that signs, and that CA signed the operator's
    /// too.
    fn is_shown(&self, authority: &Authority) -> bool {
        let signed = |seen: &SecretSeen| {
            let material = leaf::material(seen)?;
            verify::is_signed_by(&material.certificate, &authority.signing.certificate).then_some(material.certificate)
        };
        let current = self.leaf.and_then(signed).and_then(|certificate| verify::fingerprint(&certificate).ok());
        let shown = match (&current, self.shown) {
            (Some(current), Some(shown)) => shown.sha256.eq_ignore_ascii_case(current),
            _ => false,
        };
        shown && self.client.is_none_or(|client| signed(client).is_some())
    }

    /// How it stands with something that has to hold for the overlap, and is known to hold since then.
    fn wait(&self, holds: bool, since: Option<Timestamp>) -> Wait {
        match holds {
            true if self.now >= self.after_overlap(since.unwrap_or(self.now)) => Wait::IsOver,
            true if since.is_none() => Wait::Begins,
            _ => Wait::GoesOn,
        }
    }

    /// When the overlap ends that began at `since`, if that is yet to come.
    fn overlap_ends(&self, since: Option<Timestamp>) -> Option<Timestamp> {
        since.map(|since| self.after_overlap(since)).filter(|until| *until > self.now)
    }

    fn after_overlap(&self, since: Timestamp) -> Timestamp {
        since.checked_add(self.overlap).unwrap_or(Timestamp::MAX)
    }
}

/// When a CA that is being rotated hands over at the latest. One with a short life spends no more of it on that than half
/// of what is left when its rotation begins.
fn handover(validity: &Validity) -> Timestamp {
    let life = validity.not_after.duration_since(validity.not_before);
    validity.not_after - HANDOVER.min(life / 6)
}
