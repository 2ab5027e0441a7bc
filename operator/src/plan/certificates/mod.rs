//! Which certificates are good, which are to be made, and how far the rotation of a CA is.

mod authority;
pub mod issuer;
mod leaf;
mod request;
mod rotation;
mod serving;

use jiff::{SignedDuration, Timestamp};
use vectorkeep_crds::VectorClusterSpec;

pub use authority::{Authority, AuthorityChange, Phase};
pub use leaf::{LeafChange, material};
pub use rotation::{Role, Rotation, has_unreadable_request};
pub use serving::{Own, Serving, Trust};

use super::{identity::Identity, refusal::Refusal};
use crate::{
    certificates::TlsMaterial,
    observed::{Observed, SecretSeen},
};
use request::Lives;
use rotation::{Asked, Circumstances};

/// Secret with the certificate that clients see.
pub const SERVING_TLS: &str = "engine-serving-tls";
/// Secret with the certificate of the engine's health and admin ports.
pub const INTERNAL_TLS: &str = "engine-internal-tls";

/// Name, in the operator's namespace, of the secret with the internal CA.
pub fn internal_ca_name(cluster_id: &str) -> String {
    format!("ca-internal-{cluster_id}")
}

/// Name, in the operator's namespace, of the secret with the serving CA.
pub fn serving_ca_name(cluster_id: &str) -> String {
    format!("ca-serving-{cluster_id}")
}

/// Name, in the operator's namespace, of the secret with the operator's client certificate.
pub fn operator_client_name(cluster_id: &str) -> String {
    format!("operator-client-{cluster_id}")
}

/// Name, in the operator's namespace, of the secret with the certificate that clients are given to show.
pub fn client_name(cluster_id: &str) -> String {
    format!("client-{cluster_id}")
}

/// With what the engine is asked, whatever is to become of that certificate; of a namespace that is the resource's own.
pub fn operator_client(observed: &Observed) -> Option<TlsMaterial> {
    observed.children.as_ref()?;
    material(observed.custody.operator_client.as_ref()?)
}

/// What becomes of each certificate of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificates {
    /// The internal CA.
    pub internal_ca: AuthorityChange,
    /// What clients see, and who signs it.
    pub serving: Serving,
    /// Health and admin ports; signed by the internal CA.
    pub internal: LeafChange,
    /// The operator as a client; signed by the internal CA.
    pub operator_client: LeafChange,
    /// Rotations that are under way.
    pub rotations: Vec<Rotation>,
    /// The next moment at which time alone changes something.
    pub next: Option<Timestamp>,
}

impl Certificates {
    /// The certificates of a cluster, judged at `now`.
    ///
    /// CAs are judged first, and what they sign by what they will be once that is written: a CA takes one step at most,
    /// and whatever is interrupted after it finds the same work to do.
    pub fn plan(
        identity: &Identity,
        spec: &VectorClusterSpec,
        observed: &Observed,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let lives = Lives::of(&spec.tls)?;
        let custody = &observed.custody;
        let internal_tls = observed.children.as_ref().and_then(|children| children.internal_tls.as_ref());
        let operator_tls = custody.operator_client.as_ref();
        let engine = observed.engine.answer();
        let inside = Circumstances {
            role: Role::Internal,
            request: request::internal_ca(identity),
            // Engine and operator are all that rely on it, and both are known to be ready.
            overlap: SignedDuration::ZERO,
            asked: Asked::of(observed),
            trusted: engine.map_or(&[][..], |engine| engine.internal_authorities.as_slice()),
            shown: engine.and_then(|engine| engine.internal_certificate.as_ref()),
            published: None,
            leaf: internal_tls,
            client: operator_tls,
            now,
        };
        let internal_ca = inside.change(custody.internal_ca.as_ref());
        let internal = leaf::change(request::internal(identity), internal_tls, &internal_ca, now);
        let operator_client = leaf::change(request::operator(identity), operator_tls, &internal_ca, now);
        let serving = Serving::plan(identity, spec, observed, &lives, now);
        if let Serving::Issued(issued) = &serving.change {
            issued.judges_clients(spec)?;
        }
        let moments =
            leaf::renewals(&[&internal, &operator_client], now).into_iter().chain(inside.moments(&internal_ca));
        let next = moments.chain(serving.moments).min();
        let rotations = [inside.report(&internal_ca), serving.rotation].into_iter().flatten().collect();
        Ok(Self { internal_ca, serving: serving.change, internal, operator_client, rotations, next })
    }

    /// The moment at which the first of them is due, or a rotation may go on.
    pub fn next_renewal(&self) -> Option<Timestamp> {
        self.next
    }
}

/// One entry of a secret, as text.
fn text(seen: &SecretSeen, key: &str) -> Option<String> {
    seen.entry(key)?.reveal_text().map(str::to_owned)
}
