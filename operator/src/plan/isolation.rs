//! Whom an engine may reach, what it must not reach, and what is known of that.
//!
//! Engine and operator try the same listeners. The engine is given their addresses. A status has their names alone: the
//! customer reads it, and some of the listeners are engines of other customers.

use serde::Serialize;
use sha2::{Digest, Sha256};
use vectorkeep_crds::{
    identity::CLIENT_PORT,
    status::{IsolationProbe, ProbeVerdict},
};

use super::{
    egress::{self, KmsEgress},
    identity::{Identity, engine_host},
    refusal::Refusal,
};
use crate::{
    admin::{ADMIN_PORT, HEALTH_PORT, Isolation},
    observed::Observed,
    settings::Settings,
};

/// Name of the operator's own listener. Whether it is out of reach decides: it is always there.
pub const OPERATOR: &str = "operator";
/// Ports of other engines, the one first that the operator asks.
const PORTS: [u16; 3] = [ADMIN_PORT, CLIENT_PORT, HEALTH_PORT];

/// Whom an engine may reach, and what it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Where it finds its KMS.
    pub egress: KmsEgress,
    /// What is tried.
    pub targets: Vec<Target>,
}

/// A listener that an engine must not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What it is called in a status.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// Whether an engine that reaches it asks for no key. Not so of what may lie on the engine's own node: Kubernetes
    /// lets networks allow a pod to talk to its node, whatever its policies say.
    pub decides: bool,
    /// Whether the operator reaches it; of another engine, its admin port, which shows that the whole engine is there.
    #[serde(skip)]
    pub control: bool,
}

#[derive(Serialize)]
struct File<'a> {
    targets: &'a [Target],
}

impl Boundary {
    /// Draws the line around the engine of a cluster.
    pub fn plan(identity: &Identity, observed: &Observed, settings: &Settings) -> Result<Self, Refusal> {
        let egress = egress::kms_egress(&observed.cluster.spec, settings)?;
        let targets =
            targets(identity, observed, settings).filter(|target| !egress.may_allow(&target.address)).collect();
        Ok(Self { egress, targets })
    }

    /// What the engine is told to try; nothing in an installation that proves nothing.
    pub fn file(&self) -> Option<String> {
        let file = File { targets: &self.targets };
        serde_json::to_string(&file).ok().filter(|_| !self.targets.is_empty())
    }

    /// Whether something was reached that no network which enforces policies lets through.
    pub fn is_open(&self, matrix: &[IsolationProbe]) -> bool {
        let lenient = |name: &str| self.targets.iter().any(|target| target.name == name && !target.decides);
        matrix.iter().any(|probe| probe.verdict == ProbeVerdict::Reached && !lenient(&probe.target))
    }

    /// What is known of each listener, from what the engine found.
    pub fn matrix(&self, found: &Isolation) -> Vec<IsolationProbe> {
        let among = |told: &[String], target: &Target| told.iter().any(|told| target.is(told));
        let row = |target: &Target| {
            let engine_reached = among(&found.reached, target);
            let verdict = match (engine_reached, among(&found.unreached, target) && target.control) {
                (true, _) => ProbeVerdict::Reached,
                (false, true) => ProbeVerdict::Isolated,
                (false, false) => ProbeVerdict::NotProven,
            };
            IsolationProbe { target: target.name.clone(), engine_reached, control_reached: target.control, verdict }
        };
        // What was tried before the list changed.
        let gone = found.reached.iter().filter(|told| !self.targets.iter().any(|target| target.is(told)));
        let gone = gone.map(|told| IsolationProbe {
            target: told.clone(),
            engine_reached: true,
            control_reached: false,
            verdict: ProbeVerdict::Reached,
        });
        self.targets.iter().map(row).chain(gone).collect()
    }
}

impl Target {
    /// Whether an engine means this one. Engines that were never given names tell addresses.
    fn is(&self, told: &str) -> bool {
        told == self.name || told == self.address
    }
}

/// Whether the matrix proves that the network enforces policies.
pub fn is_proof(matrix: &[IsolationProbe]) -> bool {
    matrix.iter().any(|probe| probe.target == OPERATOR && probe.verdict == ProbeVerdict::Isolated)
        && !matrix.iter().any(|probe| probe.verdict == ProbeVerdict::Reached)
}

/// What another cluster is called where the customer of this one reads it: always the same, so that what is known of one
/// is never taken for what is known of another, and nothing that another customer knows it by. Who guesses its namespace
/// and name can check the guess, and learns that it is one of three neighbours.
fn other_name(identity: &Identity, other: &str, settings: &Settings) -> String {
    let text = format!("{}/{}/{other}", settings.installation_id, identity.cluster_id);
    format!("other-cluster-{}", hex::encode(&Sha256::digest(text)[..3]))
}

fn targets(identity: &Identity, observed: &Observed, settings: &Settings) -> impl Iterator<Item = Target> {
    let control = move |address: &String| observed.control.get(address) == Some(&true);
    let own = settings.isolation_probes.iter().enumerate().map(move |(index, address)| Target {
        name: if index == 0 { OPERATOR.to_owned() } else { format!("{OPERATOR}-{}", index + 1) },
        address: address.clone(),
        decides: true,
        control: control(address),
    });
    let given = settings.isolation_targets.iter().map(move |(name, address)| Target {
        name: name.clone(),
        address: address.clone(),
        decides: false,
        control: control(address),
    });
    let others = observed.others.iter().flat_map(|other| {
        let name = other_name(identity, &other.cluster_id, settings);
        // With a dot at its end, so that no search domain is tried first.
        let host = format!("{}.", engine_host(&other.cluster_id));
        PORTS.map(|port| Target {
            name: format!("{name}:{port}"),
            address: format!("{host}:{port}"),
            decides: true,
            control: other.answers,
        })
    });
    own.chain(given).chain(others).filter(move |_| !settings.isolation_probes.is_empty())
}
