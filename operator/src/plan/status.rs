//! The status of a cluster: every condition, judged from what was observed and from what is about to be done.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use vectorkeep_crds::{
    Severity,
    identity::{client_uri, connection_secret_name},
    isolation::Enforcement,
    status::{
        CertificateStatus, Condition, IsolationStatus, KeyStatus, ProbeVerdict, UpgradeInProgress, UpgradeStatus,
        VectorClusterStatus, ZoneStatus,
    },
    well_known::{ANNOTATION_ROTATE_CA, ANNOTATION_VERIFY_ISOLATION},
};

use super::{
    certificates::{AuthorityChange, Certificates, LeafChange, Serving, has_unreadable_request},
    conditions::{Verdict, conditions, seconds, types},
    egress::KmsEgress,
    identity::Identity,
    isolation::{Boundary, is_proof},
    record::Rollout,
    refusal::Refusal,
    statefulset::is_rolled_out,
};
use crate::{
    admin::{EngineKey, EngineState, EngineStatus, EngineView, KeyState},
    certificates::{Validity, verify},
    observed::Observed,
    upgrade::{
        advisories,
        decision::{Decision, Wait},
    },
};

/// The status of a cluster that is being served.
pub fn serving(
    identity: &Identity,
    observed: &Observed,
    rollout: &Rollout,
    certificates: &Certificates,
    boundary: &Boundary,
    rolls_out: bool,
    now: Timestamp,
) -> VectorClusterStatus {
    let key = key_accessible(identity, observed);
    let isolated = network_isolated(observed, boundary);
    let valid = certificates_valid(observed, certificates);
    let awaited = certificates.serving.is_awaited().then_some(&valid);
    let ready = ready(observed, &key, &isolated, awaited, rolls_out, rollout.stable.release.format);
    let verdicts = vec![
        (types::READY, ready.clone()),
        (types::RECONCILING, reconciling(&ready)),
        (types::STALLED, stalled(&ready)),
        (types::KEY_ACCESSIBLE, key),
        (types::CERTIFICATES_VALID, valid),
        (types::NETWORK_ISOLATED, isolated),
        (types::UP_TO_DATE, up_to_date(rollout)),
    ];
    let mut status = base(identity, observed, verdicts, now);
    status.certificates = Some(certificate_status(certificates));
    status.upgrade = Some(upgrade_status(observed, rollout));
    status.isolation = isolation_status(observed, boundary, now);
    status
}

/// The status of a cluster that can't be served until somebody changes something.
pub fn refused(identity: &Identity, observed: &Observed, refusal: &Refusal, now: Timestamp) -> VectorClusterStatus {
    let (reason, message) = (refusal.reason(), refusal.to_string());
    let verdicts = vec![
        (types::READY, Verdict::no(reason, message.clone())),
        (types::RECONCILING, Verdict::no(reason, message.clone())),
        (types::STALLED, Verdict::yes(reason, message)),
        (types::KEY_ACCESSIBLE, key_accessible(identity, observed)),
    ];
    base(identity, observed, verdicts, now)
}

/// The status of a cluster that waits for a namespace: being claimed, or on its way out.
pub fn waiting(
    identity: &Identity,
    observed: &Observed,
    reason: &'static str,
    message: &str,
    now: Timestamp,
) -> VectorClusterStatus {
    let verdicts = vec![
        (types::READY, Verdict::no(reason, message)),
        (types::RECONCILING, Verdict::yes(reason, message)),
        (types::STALLED, Verdict::no(reason, message)),
    ];
    base(identity, observed, verdicts, now)
}

/// The status of a cluster for which the API server refused a write: what was planned to be reported, and why it is
/// not so.
pub fn interrupted(
    mut planned: VectorClusterStatus,
    observed: &Observed,
    problem: &str,
    now: Timestamp,
) -> VectorClusterStatus {
    let reason = "WriteRefused";
    let message = format!("{problem}. It is tried again; an administrator has to allow it or change what forbids it");
    let mut verdicts = vec![
        (types::RECONCILING, Verdict::yes(reason, message.clone())),
        (types::STALLED, Verdict::yes(reason, message.clone())),
    ];
    // What serves goes on serving.
    let ready = |condition: &Condition| condition.type_ == types::READY && condition.status == "True";
    if !planned.conditions.iter().any(ready) {
        verdicts.push((types::READY, Verdict::no(reason, message)));
    }
    let cluster = &observed.cluster;
    let previous = cluster.status.as_ref().map_or(&[][..], |status| &status.conditions);
    for condition in conditions(verdicts, previous, cluster.metadata.generation, now) {
        match planned.conditions.iter_mut().find(|planned| planned.type_ == condition.type_) {
            Some(planned) => *planned = condition,
            None => planned.conditions.push(condition),
        }
    }
    planned
}

fn base(
    identity: &Identity,
    observed: &Observed,
    verdicts: Vec<(&'static str, Verdict)>,
    now: Timestamp,
) -> VectorClusterStatus {
    let cluster = &observed.cluster;
    let previous = cluster.status.as_ref();
    let previous = previous.map_or(&[][..], |status| &status.conditions);
    let generation = cluster.metadata.generation;
    VectorClusterStatus {
        observed_generation: generation,
        cluster_id: Some(identity.cluster_id.clone()),
        data_plane_namespace: Some(identity.namespace.clone()),
        endpoint: Some(client_uri(&identity.cluster_id)),
        connection_secret: Some(connection_secret_name(&identity.owner_name)),
        version: answer(observed).map(|status| status.version.clone()),
        key: answer(observed).map(key_status),
        certificates: None,
        isolation: None,
        upgrade: None,
        conditions: conditions(verdicts, previous, generation, now),
    }
}

fn answer(observed: &Observed) -> Option<&EngineStatus> {
    observed.engine.answer()
}

fn key_status(status: &EngineStatus) -> KeyStatus {
    let key = &status.key;
    KeyStatus {
        state: key.state.as_str().to_owned(),
        // While the key answers, this moment moves all the time; a status that moves is a status that is written.
        last_success: key.last_success.filter(|_| key.state != KeyState::Accessible).map(seconds),
        endpoint_override: key.endpoint_override,
        zones: status
            .zones
            .iter()
            .map(|zone| ZoneStatus {
                id: zone.id.clone(),
                purpose: zone.purpose.clone(),
                version: zone.version,
                state: zone.state.as_str().to_owned(),
            })
            .collect(),
    }
}

/// Whether the master key answers, as the engine says.
fn key_accessible(identity: &Identity, observed: &Observed) -> Verdict {
    let status = match &observed.engine {
        EngineView::Answered(status) => status,
        EngineView::NotAsked => {
            return Verdict::unknown("EngineNotAsked", "the engine has not been heard yet");
        }
        EngineView::Silent { reason } => {
            return Verdict::unknown("EngineSilent", format!("the engine does not answer the operator: {reason}"));
        }
    };
    let spec = &observed.cluster.spec.encryption;
    let Some(aws) = &spec.aws else {
        return match status.key.state {
            KeyState::Accessible => Verdict::yes(
                "DevelopmentKey",
                "DEVELOPMENT ONLY: the master key lies in the Kubernetes cluster beside the data, and nobody outside \
                 can take it away; use encryption.aws for data that matters",
            ),
            state => Verdict::no(
                key_reason(state),
                format!(
                    "the key in the secret engine-local-key of the namespace {} is not usable{}; restore it from a \
                     backup",
                    identity.namespace,
                    said(&status.key)
                ),
            ),
        };
    };
    let (key, role) = (&aws.key_arn, &aws.role_arn);
    let said = said(&status.key);
    match status.key.state {
        KeyState::Accessible => Verdict::yes(
            "Accessible",
            if status.key.endpoint_override {
                "the key answers; the KMS is asked at the address in encryption.aws.endpoints"
            } else {
                "the key answers"
            },
        ),
        KeyState::Refused => Verdict::no(
            "KeyRefused",
            format!(
                "the KMS refuses the key {key} to the role {role}{said}. If that is not intended: enable the key; add \
                 the statement that `kubectl vectorkeep key-policy -n {} {}` prints to its policy; and let the role \
                 trust the subject system:serviceaccount:{}:engine. Service returns by itself within {}",
                identity.owner_namespace, identity.owner_name, identity.namespace, spec.check_interval
            ),
        ),
        KeyState::Unreachable => Verdict::no(
            "KeyUnreachable",
            format!(
                "the KMS does not answer for the key {key}{said}. Check that the KMS and the token service can be \
                 reached (spec.network.egress, or the chart value network.kmsEgress). The cluster stops serving {} after the \
                 last answer",
                spec.outage_grace
            ),
        ),
        KeyState::Invalid => Verdict::no(
            "KeyInvalid",
            format!(
                "the KMS answers for the key {key} with something that can't be right{said}. Check the address in \
                 encryption.aws.endpoints and that the key was not replaced; nothing was deleted"
            ),
        ),
        KeyState::Unknown => {
            Verdict::unknown("KeyNotAsked", format!("the engine has not asked the KMS for the key {key} yet{said}"))
        }
    }
}

fn said(key: &EngineKey) -> String {
    match key.message.as_deref() {
        Some(message) if !message.is_empty() => format!(" ({message})"),
        _ => String::new(),
    }
}

fn key_reason(state: KeyState) -> &'static str {
    match state {
        KeyState::Accessible => "Accessible",
        KeyState::Refused => "KeyRefused",
        KeyState::Unreachable => "KeyUnreachable",
        KeyState::Invalid => "KeyInvalid",
        KeyState::Unknown => "KeyNotAsked",
    }
}

fn ready(
    observed: &Observed,
    key: &Verdict,
    isolated: &Verdict,
    awaited: Option<&Verdict>,
    rolls_out: bool,
    format: i32,
) -> Verdict {
    let children = observed.children.as_ref();
    let workload = children.and_then(|children| children.stateful_set.as_ref());
    // A locked engine says why itself, and that is worth more than what Kubernetes can say of its pod.
    if key.holds == Some(false) {
        return key.clone();
    }
    let required = observed.cluster.spec.isolation.enforcement == Enforcement::Required;
    if isolated.holds == Some(false)
        && required
        && answer(observed).is_some_and(|it| it.state != EngineState::Serving && it.is_exposed())
    {
        return isolated.clone();
    }
    if rolls_out || !workload.is_some_and(is_rolled_out) {
        // Without a certificate, no pod starts.
        if let Some(awaited) = awaited {
            return awaited.clone();
        }
        let pod = children.and_then(|children| children.pod.as_ref());
        return Verdict::no("EngineStarting", starting(workload, pod));
    }
    match &observed.engine {
        EngineView::NotAsked => {
            Verdict::unknown("EngineNotAsked", "the engine runs; the operator has not asked it yet")
        }
        EngineView::Silent { reason } => Verdict::unknown(
            "EngineSilent",
            format!(
                "the engine runs but does not answer the operator: {reason}. Check that the operator's pods can reach \
                 port 9092 of the data-plane namespace"
            ),
        ),
        EngineView::Answered(status) if status.knows_less_than(format) => Verdict::no(
            "FormatUnknown",
            format!(
                "the store was written by a newer release: it has file format {format}, which {} does not know. Nothing \
                 in it is changed. Put a release that knows the format into the EngineCatalog and take it with \
                 `kubectl vectorkeep upgrade now`",
                status.version
            ),
        ),
        EngineView::Answered(status) => match status.state {
            EngineState::Serving if key.holds == Some(true) => {
                Verdict::yes("Serving", "the cluster serves reads and writes")
            }
            EngineState::Unlocking => {
                Verdict::no("EngineUnlocking", "the key answers; the engine loads its collections")
            }
            _ => Verdict::no("EngineLocked", "the engine is locked until its key has answered"),
        },
    }
}

/// Why an engine is not there yet, as far as its pod shows it.
fn starting(stateful_set: Option<&StatefulSet>, pod: Option<&Pod>) -> String {
    if stateful_set.is_none() {
        return "the engine is being created".to_owned();
    }
    let Some(status) = pod.and_then(|pod| pod.status.as_ref()) else {
        return "the engine's pod is being created".to_owned();
    };
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return format!(
            "the engine's pod can't be scheduled: {}. Lower spec.resources, or add a node",
            condition.message.as_deref().unwrap_or("no reason given")
        );
    }
    let containers = status.container_statuses.iter().flatten();
    for container in containers {
        let state = container.state.as_ref();
        let restarts = container.restart_count;
        if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            return format!(
                "the engine's pod waits ({reason}, {restarts} restarts){}",
                match waiting.message.as_deref() {
                    Some(message) => format!(": {message}"),
                    None => String::new(),
                }
            );
        }
    }
    "the engine's pod starts".to_owned()
}

/// Reasons that only a person can do something about.
const NEEDS_A_PERSON: [&str; 6] = [
    "KeyRefused",
    "KeyInvalid",
    "PoliciesNotEnforced",
    "FormatUnknown",
    "CertManagerMissing",
    "IssuedCertificateUnusable",
];

fn reconciling(ready: &Verdict) -> Verdict {
    if ready.holds == Some(true) || NEEDS_A_PERSON.contains(&ready.reason) {
        Verdict::no("Settled", "nothing is being changed")
    } else {
        Verdict::yes(ready.reason, ready.message.clone())
    }
}

fn stalled(ready: &Verdict) -> Verdict {
    if NEEDS_A_PERSON.contains(&ready.reason) {
        Verdict::yes(ready.reason, ready.message.clone())
    } else {
        Verdict::no("Settled", "nothing waits for a person")
    }
}

fn certificates_valid(observed: &Observed, certificates: &Certificates) -> Verdict {
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

fn network_isolated(observed: &Observed, boundary: &Boundary) -> Verdict {
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
                "{policies}; but the engine reaches {reached}, which they forbid. The network of this Kubernetes cluster                  enforces NetworkPolicies between pods, but not for what is on the pod's own node, or not for addresses                  outside of the cluster"
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
    // That the engine does not get there says something only if somebody does.
    if !is_proof(&matrix) {
        return Verdict::unknown(
            "ControlProbeFailed",
            format!(
                "{policies}; the engine reaches nothing that they forbid, but neither does the operator reach its own \
                 listener, so it proves nothing"
            ),
        );
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
fn isolation_status(observed: &Observed, boundary: &Boundary, now: Timestamp) -> Option<IsolationStatus> {
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

fn up_to_date(rollout: &Rollout) -> Verdict {
    let running = &rollout.stable.release.version;
    if let Some(progress) = &rollout.progress {
        let (to, waits_for) = (&progress.to.version, &rollout.waits_for);
        return match &progress.failure {
            None => Verdict::no("Upgrading", format!("{to} takes the place of {running}; it waits for {waits_for}")),
            Some(failure) => {
                Verdict::no("RollingBack", format!("{to} is taken back ({failure}); it waits for {waits_for}"))
            }
        };
    }
    let bad = rollout.fleet.quarantined_versions();
    let bad = match bad.is_empty() {
        _ if rollout.fleet.is_broken() => {
            ". The ConfigMap upgrade-fleet of the operator's namespace can't be read; nothing is begun until it is \
             mended or deleted"
                .to_owned()
        }
        true => String::new(),
        false => format!(". Taken by no cluster, since they failed one: {}", bad.join(", ")),
    };
    let bad = bad + &open_holes(rollout);
    let Some(offer) = &rollout.offer else {
        let renewed = match rollout.decision {
            Decision::Later { next: Some(next), .. } => {
                format!("; a renewed pod template is rolled out at {}", seconds(next))
            }
            _ => String::new(),
        };
        return Verdict::yes("Current", format!("{running} is the newest release that fits{renewed}{bad}"));
    };
    let offer = &offer.version;
    let Decision::Later { wait, next } = rollout.decision else {
        return Verdict::no("PatchOffered", format!("{offer} is on offer{bad}"));
    };
    let why = match (wait, next) {
        (Wait::Window, Some(next)) => format!("it is taken at {}", seconds(next)),
        (Wait::Window, None) => "the window in spec.upgrade.window never opens".to_owned(),
        (Wait::Paused, _) => "spec.upgrade.paused holds it back".to_owned(),
        (Wait::Asked, _) => "spec.upgrade.autoPatch is off; `kubectl vectorkeep upgrade now` takes it".to_owned(),
        (Wait::Serving, _) => "it is taken once the cluster serves".to_owned(),
        (Wait::WayBack, _) => {
            "the release that runs is not in the EngineCatalog, so there would be no way back; add it".to_owned()
        }
        (Wait::Canaries, _) => "clusters labelled vectorkeep.dev/canary=true take it first".to_owned(),
        (Wait::Room, _) => "enough other clusters are moving right now".to_owned(),
    };
    Verdict::no("PatchOffered", format!("{offer} is on offer; {why}{bad}"))
}

/// The security advisories that are open, in words; nothing if there are none.
fn open_holes(rollout: &Rollout) -> String {
    /// So many are named; the status has all of them.
    const NAMED: usize = 5;
    let open = advisories::open(&rollout.advisories);
    let holes: Vec<_> = open.iter().filter(|open| open.severity == Severity::Security).collect();
    if holes.is_empty() {
        return String::new();
    }
    let named: Vec<_> =
        holes.iter().take(NAMED).map(|hole| format!("{} (fixed in {})", hole.id, hole.fixed_in)).collect();
    let more = match holes.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(". Open security advisories: {}{more}", named.join(", "))
}

fn upgrade_status(observed: &Observed, rollout: &Rollout) -> UpgradeStatus {
    UpgradeStatus {
        // It never gets lower, so what was last told holds while the engine says nothing.
        format: answer(observed).and_then(|status| status.format?.committed).or_else(|| told_format(observed)),
        available: rollout.offer.as_ref().map(|offer| offer.version.clone()),
        next: match rollout.decision {
            Decision::Later { next, .. } => next.map(seconds),
            _ => None,
        },
        in_progress: rollout.progress.as_ref().map(|progress| UpgradeInProgress {
            from: progress.from.version.clone(),
            to: progress.to.version.clone(),
            started: seconds(progress.started),
            waits_for: rollout.waits_for.clone(),
        }),
        history: rollout.history.clone(),
        advisories: advisories::open(&rollout.advisories),
    }
}

fn told_format(observed: &Observed) -> Option<i32> {
    observed.cluster.status.as_ref()?.upgrade.as_ref()?.format
}

fn certificate_status(certificates: &Certificates) -> CertificateStatus {
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
