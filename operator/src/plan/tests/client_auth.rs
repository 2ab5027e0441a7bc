//! Certificates that clients show.

use std::sync::Arc;

use rustls::{RootCertStore, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use vectorkeep_crds::tls::ClientAuth;

use super::{
    issuer_ref::{corporate, issue_as_ordered, set_issuer},
    *,
};
use crate::certificates::verify;

fn running(client_auth: &str) -> World {
    World::running(&format!("{AWS}\ntls: {{clientAuth: {client_auth}}}"))
}

fn set(world: &mut World, client_auth: ClientAuth) {
    world.observed.cluster.spec.tls.client_auth = client_auth;
}

fn file(desired: &Desired) -> Option<String> {
    let Change::Apply(config) = &desired.config else { return None };
    config.data.as_ref()?.get(CONFIG_FILE).cloned()
}

fn publication(world: &World) -> Publication {
    world.desired().connection.expect("a right to publish")
}

/// Whether the engine lets a client in that shows this, by the CA certificates that lie beside its own.
fn is_let_in(certificate: &str, authorities: &str, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.expect("PEM")).expect("a root");
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier");
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    let seconds = u64::try_from(now.as_second()).expect("after 1970");
    let clock = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier.verify_client_cert(&certificate, &[], clock).is_ok()
}

#[test]
fn without_it_nothing_is_asked_of_clients_and_the_configuration_is_what_it_was() {
    let mut world = World::running(AWS);
    let config = world.children().config.clone().and_then(|config| config.data).expect("data");
    assert!(!config[CONFIG_FILE].contains("client_auth"));
    assert_eq!(publication(&world).client, None);
    assert!(world.observed.custody.client.is_none());
}

#[test]
fn the_engine_is_told_and_restarted_when_it_is_asked_for() {
    for (client_auth, told) in [(ClientAuth::Optional, "optional"), (ClientAuth::Required, "required")] {
        let mut world = World::running(AWS);
        set(&mut world, client_auth);
        let desired = world.desired();
        assert!(!desired.stateful_set.is_keep());
        let parsed: toml::Table = file(&desired).expect("a new file").parse().expect("TOML");
        assert_eq!(parsed["tls"]["client_auth"].as_str(), Some(told));
    }
}

#[test]
fn clients_are_given_one_certificate_that_the_engine_lets_in() {
    let mut world = running("Required");
    let client = publication(&world).client.expect("something to show");
    assert!(!publication(&world).refresh_client, "given once");
    let serving = tls_material(&mut world);
    assert!(is_let_in(&client.certificate, &serving.authority, world.now));
    assert!(!is_let_in(&serving.certificate, &serving.authority, world.now), "what a server shows is none for clients");
    let secret = connection::connection_secret(
        &world.identity(),
        &certificates::Trust::Certificates(serving.authority),
        Some(&client),
        "drawn",
    );
    let data = secret.data.expect("data");
    assert_eq!(data["client.crt"].0, client.certificate.as_bytes());
    assert_eq!(data["client.key"].0, client.key.reveal());
}

fn tls_material(world: &mut World) -> TlsMaterial {
    let seen = world.children().serving_tls.clone().expect("a certificate");
    let text = |key: &str| seen.entry(key).and_then(Sensitive::reveal_text).expect("text").to_owned();
    TlsMaterial {
        certificate: text("tls.crt"),
        key: seen.entry("tls.key").expect("a key").clone(),
        authority: text("ca.crt"),
    }
}

#[test]
fn it_is_renewed_at_two_thirds_and_given_again() {
    let mut world = running("Optional");
    let before = publication(&world).client.expect("something to show");
    world.now += SignedDuration::from_hours(1441);
    let desired = world.desired();
    let client = desired.certificates.serving.own().and_then(|own| own.client.clone());
    assert!(matches!(client, Some(LeafChange::Make { replaces: Some(_), .. })));
    assert!(!desired.connection.as_ref().expect("a right to publish").refresh_client, "it is not there yet");
    assert_eq!(desired.next_look, Some(world.now), "nothing announces that it is");
    world.carry_out(*desired);
    let given = publication(&world);
    assert!(given.refresh_client && given.client.as_ref() != Some(&before));
    world.settle();
    assert!(!publication(&world).refresh_client);
    let end = world.desired().status.certificates.and_then(|certificates| certificates.client_not_after);
    let validity = verify::validity(&given.client.expect("something").certificate).expect("a certificate");
    assert_eq!(end, Some(conditions::seconds(validity.not_after)));
}

#[test]
fn it_is_taken_back_where_it_is_asked_for_no_longer() {
    let mut world = running("Required");
    set(&mut world, ClientAuth::None);
    let taken = publication(&world);
    assert!(taken.refresh_client && taken.client.is_none());
    let entries = serde_json::to_value(connection::shown(None)).expect("JSON");
    assert_eq!(entries, serde_json::json!({"client.crt": null, "client.key": null}), "a merge removes them");
    world.settle();
    assert!(!publication(&world).refresh_client);
    // What was never given is not taken back: a customer may keep something under that name.
    assert!(!publication(&World::running(AWS)).refresh_client);
}

#[test]
fn clients_keep_what_they_show_until_the_engine_judges_by_the_issuers_ca_and_get_it_back_after_it() {
    let mut world = running("Required");
    let given = publication(&world).client.expect("something to show");
    set_issuer(&mut world, Some("corporate"));
    for _ in 0..2 {
        let kept = publication(&world);
        assert!(!kept.refresh_client && kept.client.as_ref() == Some(&given), "the engine judges by the CA of before");
        world.settle();
    }
    let ca = corporate(&world);
    issue_as_ordered(&mut world, &ca);
    assert!(!publication(&world).refresh_client, "nor does the engine show what the issuer signed");
    world.settle();
    world.start_engine();
    let taken = publication(&world);
    assert!(taken.refresh_authority && taken.refresh_client && taken.client.is_none(), "theirs come from the issuer");
    world.settle();

    set_issuer(&mut world, None);
    world.settle();
    let early = publication(&world);
    assert!(!early.refresh_authority && !early.refresh_client, "the engine judges by the issuer's CA");
    world.start_engine();
    let back = publication(&world);
    assert!(back.refresh_authority && back.refresh_client && back.client.as_ref() == Some(&given));
    world.settle();
    assert!(!publication(&world).refresh_client);
}

#[test]
fn an_order_that_is_withdrawn_before_it_was_filled_takes_nothing_from_clients() {
    let mut world = running("Required");
    let given = publication(&world).client.expect("something to show");
    set_issuer(&mut world, Some("mistyped"));
    world.settle();
    set_issuer(&mut world, None);
    assert!(world.desired().certificates.serving.own().is_none(), "the order is still there");
    let kept = publication(&world);
    assert!(!kept.refresh_client && kept.client.as_ref() == Some(&given));
    world.settle();
    assert!(world.desired().certificates.serving.own().is_some());
    assert_eq!(publication(&world).client, Some(given));
}

#[test]
fn what_a_ca_that_was_made_anew_signed_is_given_once_the_engine_judges_by_it() {
    let mut world = running("Required");
    let before = publication(&world).client.expect("something to show");
    world.observed.custody.serving_ca = None;
    world.settle();
    let early = publication(&world);
    assert!(!early.refresh_authority && !early.refresh_client && early.client.as_ref() != Some(&before));
    world.start_engine();
    let given = publication(&world);
    assert!(given.refresh_authority && given.refresh_client);
}

#[test]
fn an_issuer_without_a_ca_can_judge_no_clients_and_that_is_refused_with_the_remedy() {
    let mut world = running("Required");
    world.observed.cluster.spec.tls.issuer_ref = Some(serde_yaml_ng::from_str("{name: public}").expect("an issuer"));
    world.settle();
    // cert-manager fills the secret with what nobody's CA beside it signed.
    let other = World::running(AWS).children().serving_tls.clone().expect("a certificate");
    let before = tls_material(&mut world).authority;
    let mut filled = other;
    for (key, value) in &mut filled.entries {
        if key == "ca.crt" {
            *value = Sensitive::new(before.clone().into_bytes());
        }
    }
    world.children().serving_tls = Some(filled);
    let Plan::Refuse(refused) = world.plan() else { panic!("not refused") };
    let message = refused.refusal.to_string();
    for part in ["spec.tls.clientAuth", "gives no CA certificate", "name another issuer", "to None"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    set(&mut world, ClientAuth::None);
    assert!(matches!(world.plan(), Plan::Converge(_)));
    assert!(matches!(world.children().issuance, Issuance::Ordered(_)));
}
