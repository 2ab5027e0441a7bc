//! What is told of the isolation of the network.

use jiff::{SignedDuration, Timestamp};
use vectorkeep_crds::{
    status::{IsolationStatus, ProbeVerdict},
    well_known::ANNOTATION_VERIFY_ISOLATION,
};

use super::answer;
use crate::{
    observed::Observed,
    plan::{
        conditions::{Verdict, seconds},
        egress::KmsEgress,
        isolation::{Boundary, OPERATOR, is_proof},
    },
};

/// Whether the network was seen to enforce the policies.
pub(super) fn isolated(observed: &Observed, boundary: &Boundary) -> Verdict {
    let clients = match observed.cluster.spec.network.clients.len() {
        0 => "nobody may connect: list clients in spec.network.clients".to_owned(),
        1 => "one group of clients may connect".to_owned(),
        number => format!("{number} groups of clients may connect"),
    };
    let reach = match boundary.egress {
        KmsEgress::Nothing => "the engine may reach cluster DNS only",
        KmsEgress::Given(_) => "the engine may reach cluster DNS and the given addresses of the KMS only",
        KmsEgress::PublicOnly { .. } => {
            "no addresses of the KMS are given, so the engine may reach every public address on port 443; name them in \
             spec.network.egress or in the chart value network.kmsEgress to narrow that"
        }
    };
    let policies = format!("default-deny policies are in place; {clients}; {reach}");
    let Some(isolation) = answer(observed).and_then(|status| status.isolation.as_ref()) else {
        return Verdict::unknown(
            "NotProbed",
            format!("{policies}. Whether the network enforces them is not proven yet"),
        );
    };
    let matrix = boundary.matrix(isolation);
    let names = |wanted: ProbeVerdict| {
        let chosen = matrix.iter().filter(|probe| probe.verdict == wanted).map(|probe| probe.target.as_str());
        chosen.collect::<Vec<_>>().join(", ")
    };
    let reached = names(ProbeVerdict::Reached);
    if !reached.is_empty() && !boundary.is_open(&matrix) {
        return Verdict::no(
            "PartlyEnforced",
            format!(
                "{policies}; but the engine reaches {reached}, which they forbid. The network of this Kubernetes cluster \
                 enforces NetworkPolicies between pods, but not for what is on the pod's own node, or not for addresses \
                 outside of the cluster"
            ),
        );
    }
    if !reached.is_empty() {
        return Verdict::no(
            "PoliciesNotEnforced",
            format!(
                "{policies}; but the engine reaches {reached}, which they forbid: the network of this Kubernetes cluster \
                 does not enforce NetworkPolicies. Install a network plugin that does; or, if it must be so, set \
                 spec.isolation.enforcement to Reported"
            ),
        );
    }
    if !is_proof(&matrix) {
        let own = matrix.iter().find(|probe| probe.target == OPERATOR);
        // That the engine does not get there says something only if somebody does.
        let (reason, why) = match own {
            Some(own) if own.control_reached => (
                "NotTried",
                "but it has not tried the operator's listener, whose name did not resolve or which was not asked for yet: \
                 check cluster DNS",
            ),
            Some(_) => (
                "ControlProbeFailed",
                "but neither does the operator reach its own listener: check the policies around the operator's pods",
            ),
            None => ("NotTried", "but the operator's listener is not tried, since the addresses of the KMS include it"),
        };
        let message = format!("{policies}; the engine reaches nothing that they forbid, {why}. So nothing is proven");
        return Verdict::unknown(reason, message);
    }
    let unproven = match names(ProbeVerdict::NotProven) {
        unproven if unproven.is_empty() => unproven,
        unproven => format!(". Not proven: {unproven}"),
    };
    Verdict::yes(
        "Proven",
        format!(
            "{policies}. Proven: the engine does not reach what the operator reaches: {}{unproven}",
            names(ProbeVerdict::Isolated)
        ),
    )
}

/// The proof in detail. Its time moves only when the findings do, or when somebody asks for a fresh one.
pub(super) fn report(observed: &Observed, boundary: &Boundary, now: Timestamp) -> Option<IsolationStatus> {
    let isolation = answer(observed)?.isolation.as_ref()?;
    let at = isolation.at?;
    let probes = boundary.matrix(isolation);
    let before = observed.cluster.status.as_ref().and_then(|status| status.isolation.as_ref());
    let same = before.filter(|before| before.probes == probes);
    let kept =
        same.filter(|before| !asks_for_a_proof_after(observed, before, now)).map(|before| before.checked.clone());
    Some(IsolationStatus { checked: kept.unwrap_or_else(|| seconds(at)), probes })
}

/// Whether somebody asked for a proof that is fresher than what was reported.
fn asks_for_a_proof_after(observed: &Observed, reported: &IsolationStatus, now: Timestamp) -> bool {
    let asked = observed.cluster.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION_VERIFY_ISOLATION));
    let asked = asked.and_then(|asked| asked.parse::<Timestamp>().ok());
    // Nobody waits for an old one any more, and one from the future would never be met.
    let asked = asked.filter(|asked| now - AWAITED <= *asked && *asked <= now + SKEW);
    let reported = reported.checked.parse::<Timestamp>().ok();
    asked.is_some_and(|asked| reported.is_none_or(|reported| reported < asked))
}

/// So long a request for a proof is waited for.
const AWAITED: SignedDuration = SignedDuration::from_mins(10);
/// Clocks of others may be so far ahead.
const SKEW: SignedDuration = SignedDuration::from_mins(1);

/// When to look again for a proof that somebody waits for, or for one that lacks its other half.
pub fn proof_awaited(observed: &Observed, boundary: &Boundary, now: Timestamp) -> Option<Timestamp> {
    let tried = answer(observed)?.isolation.as_ref()?;
    if tried.reached.is_empty() && !is_proof(&boundary.matrix(tried)) {
        return Some(now + SignedDuration::from_secs(20));
    }
    let reported = observed.cluster.status.as_ref()?.isolation.as_ref()?;
    asks_for_a_proof_after(observed, reported, now).then(|| now + SignedDuration::from_secs(3))
}
