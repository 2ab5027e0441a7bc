//! A serving certificate that an issuer of cert-manager signs.

use super::*;
use crate::{
    cert_manager::Certificate,
    certificates::{AuthorityRequest, LeafRequest, Usage},
    plan::certificates::Trust,
};

const CORPORATE: &str = "tls: {issuerRef: {name: corporate}, dnsNames: [vector.acme.example]}";

/// The issuer's CA.
pub(super) fn corporate(world: &World) -> TlsMaterial {
    let request = AuthorityRequest {
        common_name: "corporate".into(),
        own_dns: vec!["cluster.local".into()],
        further_dns: Vec::new(),
        lifetime: SignedDuration::from_hours(87_600),
    };
    issue::authority(&request, world.now).expect("a CA")
}

fn order(world: &World) -> &Certificate {
    match &world.observed.children.as_ref().expect("children").issuance {
        Issuance::Ordered(order) => order,
        other => panic!("nothing is ordered: {other:?}"),
    }
}

/// What cert-manager says of the order.
fn say(world: &mut World, conditions: &str) {
    let Issuance::Ordered(order) = &mut world.children().issuance else { panic!("nothing is ordered") };
    order.status = Some(serde_yaml_ng::from_str(&format!("{{conditions: [{conditions}]}}")).expect("a status"));
}

/// Plays cert-manager: it fills the secret. An entry that it has nothing for it leaves as it is.
fn fill(world: &mut World, ca: &TlsMaterial, names: &[String], authority: Option<&str>) {
    let request = LeafRequest {
        common_name: "engine".into(),
        dns_names: names.to_vec(),
        uris: Vec::new(),
        usage: Usage::Server,
        lifetime: SignedDuration::from_hours(2160),
    };
    let mut leaf = issue::leaf(&request, ca, world.now).expect("a certificate");
    let before = world.children().serving_tls.as_ref().and_then(|seen| seen.entry("ca.crt")).cloned();
    let before = before.and_then(|before| before.reveal_text().map(str::to_owned));
    leaf.authority = authority.map(str::to_owned).or(before).unwrap_or_default();
    let mut seen = tls_secret(&leaf);
    seen.by_cert_manager = true;
    if leaf.authority.is_empty() {
        seen.entries.retain(|(key, _)| key != "ca.crt");
    }
    world.children().serving_tls = Some(seen);
    say(world, "{type: Ready, status: 'True', reason: Ready}");
}

pub(super) fn issue_as_ordered(world: &mut World, ca: &TlsMaterial) {
    let names = order(world).spec.dns_names.clone();
    fill(world, ca, &names, Some(&ca.certificate));
}

/// A cluster that is served with a certificate of `corporate`.
fn served() -> (World, TlsMaterial) {
    let mut world = World::new(&format!("{AWS}\n{CORPORATE}"));
    world.settle();
    let ca = corporate(&world);
    issue_as_ordered(&mut world, &ca);
    world.start_engine();
    world.settle();
    (world, ca)
}

pub(super) fn set_issuer(world: &mut World, name: Option<&str>) {
    let tls = &mut world.observed.cluster.spec.tls;
    tls.issuer_ref = name.map(|name| serde_yaml_ng::from_str(&format!("{{name: {name}}}")).expect("an issuer"));
}

fn condition(world: &World, type_: &str) -> String {
    let condition = world.condition(type_);
    format!("{} {}", condition.status, condition.reason)
}

fn shown(world: &mut World) -> String {
    let seen = world.children().serving_tls.clone().expect("a certificate");
    seen.entry("tls.crt").and_then(Sensitive::reveal_text).expect("PEM").to_owned()
}

fn refreshes(world: &World) -> bool {
    world.desired().connection.is_some_and(|publication| publication.refresh_authority)
}

fn published(world: &World) -> Option<&str> {
    record::published_authority(&world.observed)
}

#[test]
fn a_new_cluster_waits_for_its_issuer_and_gives_clients_nothing_to_trust_meanwhile() {
    let mut world = World::new(&format!("{AWS}\n{CORPORATE}"));
    world.settle();
    assert!(world.children().serving_tls.is_none() && world.observed.custody.serving_ca.is_none());
    assert_eq!(world.desired().connection, None);
    for type_ in [types::READY, types::CERTIFICATES_VALID] {
        assert_eq!(condition(&world, type_), "False WaitingForIssuer");
        assert!(world.condition(type_).message.contains("the ClusterIssuer corporate (cert-manager.io)"));
    }
    assert_eq!(world.condition(types::STALLED).status, "False");
    assert_eq!(world.desired().next_look, Some(world.now + SignedDuration::from_secs(30)));

    let ca = corporate(&world);
    issue_as_ordered(&mut world, &ca);
    assert!(refreshes(&world));
    assert_eq!(world.condition(types::READY).reason, "EngineStarting");
    world.start_engine();
    world.settle();
    assert_eq!(condition(&world, types::READY), "True Serving");
    assert_eq!(condition(&world, types::CERTIFICATES_VALID), "True IssuedByCertManager");
    assert_eq!(published(&world), Some(Trust::Certificates(ca.certificate).fingerprint().as_str()));
}

#[test]
fn the_order_asks_for_what_the_operator_would_have_made() {
    let mut own = World::running(&format!("{AWS}\ntls: {{dnsNames: [vector.acme.example]}}"));
    own.settle();
    set_issuer(&mut own, Some("corporate"));
    let Change::Apply(order) = own.desired().order else { panic!("nothing is ordered") };
    let namespace = own.identity().namespace;
    let names = [
        format!("engine.{namespace}.svc.cluster.local"),
        format!("engine.{namespace}.svc"),
        format!("engine.{namespace}"),
        "vector.acme.example".to_owned(),
    ];
    let spec = order.spec;
    assert_eq!(spec.dns_names, names);
    assert_eq!((spec.duration.as_str(), spec.renew_before.as_str()), ("2160h0m0s", "720h0m0s"));
    assert_eq!(spec.usages, ["digital signature", "server auth"]);
    assert_eq!(spec.secret_name, "engine-serving-tls");
    assert_eq!(spec.private_key.rotation_policy, "Always");
    assert_eq!(spec.revision_history_limit, 1, "requests of the past don't pile up");
    // By this the operator notices that the secret is filled.
    assert_eq!(spec.secret_template.labels, own.identity().labels());
    assert_eq!((spec.issuer_ref.kind.as_str(), spec.issuer_ref.group.as_str()), ("ClusterIssuer", "cert-manager.io"));
}

#[test]
fn what_is_ordered_is_remembered_in_the_same_step_and_told_once() {
    let mut world = World::running(AWS);
    set_issuer(&mut world, Some("corporate"));
    let desired = world.desired();
    let Change::Apply(record) = &desired.record else { panic!("not remembered") };
    assert!(record::is_ordered(Some(record)) && !desired.order.is_keep());
    world.settle();
    assert!(world.desired().order.is_keep());
    set_issuer(&mut world, Some("other"));
    assert!(!world.desired().order.is_keep());
}

#[test]
fn a_cluster_that_serves_goes_on_with_its_certificate_until_the_issuer_signed_another() {
    let mut world = World::running(AWS);
    let (before, known) = (shown(&mut world), published(&world).map(str::to_owned));
    set_issuer(&mut world, Some("corporate"));
    assert!(world.desired().stateful_set.is_keep() && world.desired().config.is_keep(), "nothing is restarted");
    world.settle();
    assert_eq!(shown(&mut world), before);
    assert_eq!(condition(&world, types::CERTIFICATES_VALID), "False WaitingForIssuer");
    assert!(world.condition(types::CERTIFICATES_VALID).message.contains("Clients see the certificate from before"));
    assert_eq!(condition(&world, types::READY), "True Serving");
    assert!(!refreshes(&world));

    let ca = corporate(&world);
    issue_as_ordered(&mut world, &ca);
    assert_eq!(condition(&world, types::CERTIFICATES_VALID), "False Reloading");
    assert!(!refreshes(&world), "clients that trust it alone would refuse what the engine still shows");
    // An operator that just became the leader does not know what the engine shows.
    let engine = std::mem::take(&mut world.observed.engine);
    assert!(!refreshes(&world), "the engine was not asked yet");
    world.observed.engine = engine;
    world.settle();
    assert_eq!(published(&world), known.as_deref());
    world.start_engine();
    assert!(refreshes(&world));
    world.settle();
    assert_eq!(condition(&world, types::CERTIFICATES_VALID), "True IssuedByCertManager");
    assert_ne!(published(&world), known.as_deref());
}

#[test]
fn until_the_issuer_has_signed_the_certificate_from_before_is_renewed() {
    for installed in [true, false] {
        let mut world = World::running(AWS);
        let (before, known) = (shown(&mut world), published(&world).map(str::to_owned));
        set_issuer(&mut world, Some("mistyped"));
        if !installed {
            world.children().issuance = Issuance::Unserved;
        }
        world.settle();
        assert_eq!(shown(&mut world), before);
        world.now += SignedDuration::from_hours(1441);
        world.settle();
        world.start_engine();
        world.settle();
        assert_ne!(shown(&mut world), before, "two thirds of its life were over");
        assert_eq!(published(&world), known.as_deref());
        assert_eq!(condition(&world, types::READY), "True Serving");
        let reason = if installed { "False WaitingForIssuer" } else { "False CertManagerMissing" };
        assert_eq!(condition(&world, types::CERTIFICATES_VALID), reason);
        assert!(world.condition(types::CERTIFICATES_VALID).message.contains("own CA renews"));
        let look = if installed { 30 } else { 60 };
        assert_eq!(world.desired().next_look, Some(world.now + SignedDuration::from_secs(look)));
    }
}

#[test]
fn a_renewed_certificate_of_the_issuer_is_taken_as_it_is_and_a_new_ca_of_its_is_published() {
    let (mut world, ca) = served();
    let known = published(&world).map(str::to_owned);
    issue_as_ordered(&mut world, &ca);
    let renewed = shown(&mut world);
    world.start_engine();
    world.settle();
    assert_eq!((shown(&mut world), published(&world)), (renewed, known.as_deref()));
    let other = corporate(&world);
    issue_as_ordered(&mut world, &other);
    world.start_engine();
    assert!(refreshes(&world));
}

#[test]
fn the_clusters_own_ca_rests_while_an_issuer_signs() {
    let mut world = World::running(AWS);
    let own = |world: &World| Authority::read(world.observed.custody.serving_ca.as_ref().expect("a CA"));
    let before = own(&world);
    set_issuer(&mut world, Some("corporate"));
    world.settle();
    let ca = corporate(&world);
    // It is due by then, and would be rotated.
    world.now += SignedDuration::from_hours(30_000);
    issue_as_ordered(&mut world, &ca);
    world.start_engine();
    world.settle();
    assert_eq!(own(&world), before);
}

#[test]
fn without_an_issuer_the_order_goes_first_and_then_the_ca_of_before_signs_again() {
    let mut world = World::running(AWS);
    let known = published(&world).map(str::to_owned);
    set_issuer(&mut world, Some("corporate"));
    world.settle();
    let ca = corporate(&world);
    issue_as_ordered(&mut world, &ca);
    world.start_engine();
    world.settle();

    set_issuer(&mut world, None);
    let desired = world.desired();
    let gone =
        Deletion { kind: DeletedKind::Certificate, name: "engine-serving-tls".into(), uid: "uid-of-order".into() };
    assert_eq!(desired.orphans, [gone]);
    assert!(desired.certificates.serving.own().is_none(), "cert-manager would correct what it finds there");
    assert_eq!(desired.next_look, Some(world.now), "nothing announces that it is gone");
    assert_eq!(condition(&world, types::CERTIFICATES_VALID), "False WithdrawingOrder");
    let mut held_up = world.clone();
    let Issuance::Ordered(order) = &mut held_up.children().issuance else { panic!("nothing is ordered") };
    order.metadata.deletion_timestamp = serde_json::from_str("\"2026-06-01T12:00:00Z\"").expect("a time");
    let look = Some(held_up.now + SignedDuration::from_secs(30));
    assert_eq!(held_up.desired().next_look, look, "what somebody holds up is not looked at all the time");
    world.carry_out(*desired);
    let certificates = world.desired().certificates;
    let leaf = &certificates.serving.own().expect("it signs").leaf;
    assert!(matches!(leaf, LeafChange::Make { replaces: Some(_), .. }), "{leaf:?}");
    world.settle();
    world.start_engine();
    world.settle();
    assert_eq!(published(&world), known.as_deref());
    assert_eq!(condition(&world, types::CERTIFICATES_VALID), "True Valid");
    assert!(!record::is_ordered(world.observed.custody.record.as_ref()));
}

#[test]
fn a_wrong_issuer_is_told_with_what_cert_manager_says_and_the_remedy() {
    let mut world = World::new(&format!("{AWS}\n{CORPORATE}"));
    world.settle();
    say(&mut world, "{type: Ready, status: 'False', reason: DoesNotExist, message: no secret}");
    let message = world.condition(types::CERTIFICATES_VALID).message;
    for part in ["corporate", "DoesNotExist: no secret", "check that it exists and is Ready", "spec.tls.issuerRef"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_missing_cert_manager_needs_a_person_and_nothing_is_written_meanwhile() {
    let mut world = World::new(&format!("{AWS}\n{CORPORATE}"));
    world.observed.children = None;
    let Plan::Claim(foundation) = world.plan() else { panic!("not begun") };
    world.lay(*foundation);
    world.children().issuance = Issuance::Unserved;
    world.settle();
    assert!(world.desired().order.is_keep());
    assert_eq!(condition(&world, types::READY), "False CertManagerMissing");
    assert_eq!(condition(&world, types::STALLED), "True CertManagerMissing");
    let message = world.condition(types::CERTIFICATES_VALID).message;
    assert!(message.contains("install it, or remove spec.tls.issuerRef"), "{message}");
    // Uninstalled while nobody asks for it any more, it leaves nothing to withdraw.
    set_issuer(&mut world, None);
    world.settle();
    assert!(world.children().serving_tls.is_some());
}

#[test]
fn an_issued_certificate_that_is_not_what_was_ordered_is_told() {
    let (mut world, ca) = served();
    fill(&mut world, &ca, &["elsewhere.example".to_owned()], Some(&ca.certificate));
    assert_eq!(condition(&world, types::CERTIFICATES_VALID), "False IssuedCertificateUnusable");
    let names = order(&world).spec.dns_names.clone();
    let other = corporate(&world);
    fill(&mut world, &ca, &names, Some(&other.certificate));
    let message = world.condition(types::CERTIFICATES_VALID).message;
    assert!(message.contains("no certificates lead from it to a CA in ca.crt"), "{message}");
    assert!(message.contains("an administrator has to delete") && !message.contains("  "), "{message}");
    assert_eq!(world.desired().next_look, Some(world.now + SignedDuration::from_secs(30)));
    issue_as_ordered(&mut world, &ca);
    world.now += SignedDuration::from_hours(2161);
    assert_eq!(condition(&world, types::CERTIFICATES_VALID), "False IssuedCertificateUnusable");
}

#[test]
fn a_ca_that_can_not_be_read_is_told_and_nobody_is_made_to_trust_anything() {
    for new in [true, false] {
        let (mut world, ca) = if new {
            let mut world = World::new(&format!("{AWS}\n{CORPORATE}"));
            world.settle();
            let ca = corporate(&world);
            (world, ca)
        } else {
            served()
        };
        let names = order(&world).spec.dns_names.clone();
        fill(&mut world, &ca, &names, Some("garbage"));
        assert_eq!(world.desired().connection, None);
        assert_eq!(condition(&world, types::CERTIFICATES_VALID), "False IssuedCertificateUnusable");
        let message = world.condition(types::CERTIFICATES_VALID).message;
        assert!(message.contains("ca.crt, which lies beside it, holds no CA certificate"), "{message}");
        let ready = if new { "False IssuedCertificateUnusable" } else { "True Serving" };
        assert_eq!(condition(&world, types::READY), ready);
        assert_eq!(world.condition(types::STALLED).status, if new { "True" } else { "False" });
    }
}

#[test]
fn an_issuer_that_names_no_ca_is_trusted_by_the_clients_system() {
    for from_before in [false, true] {
        let mut world = if from_before { World::running(AWS) } else { World::new(AWS) };
        set_issuer(&mut world, Some("public"));
        world.settle();
        let (ca, names) = (corporate(&world), order(&world).spec.dns_names.clone());
        // With the CA of before still beside it, in a secret that was there already.
        fill(&mut world, &ca, &names, None);
        world.start_engine();
        world.settle();
        assert_eq!(published(&world), Some("system"));
        assert_eq!(condition(&world, types::CERTIFICATES_VALID), "True IssuedByCertManager");
        assert!(world.condition(types::CERTIFICATES_VALID).message.contains("it names no CA"));
    }
}
