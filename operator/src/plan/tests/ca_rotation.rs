//! Rotations of the CAs, from the first step to the last, among an engine and clients that lag behind.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use vectorkeep_crds::{identity::client_host, well_known::ANNOTATION_ROTATE_CA};

use super::*;
use crate::{
    admin::ShownCertificate,
    certificates::{AUTHORITY_LIFETIME, verify},
    plan::certificates::{Phase, Role},
};

/// Short lives, so that a rotation is a matter of days.
const SHORT: &str = "tls: {duration: 24h, caDuration: 720h, caOverlap: 48h, clientAuth: Required}";
/// The same overlap, within which nothing else has to be renewed.
const LONG: &str = "tls: {duration: 300h, caDuration: 7200h, caOverlap: 48h, clientAuth: Required}";
const OVERLAP: SignedDuration = SignedDuration::from_hours(48);
/// When every play begins.
const START: &str = "2026-06-01T12:00:00Z";
/// Writes of a reconcile, in their order: two CAs, four certificates, the customer's secret, everything else.
const WRITES: usize = 8;
/// So many of them while the customer's namespace takes nothing.
const UNPUBLISHED: usize = 6;

/// A cluster whose engine has loaded some certificates, and whose clients hold copies of some CA certificates.
struct Play {
    world: World,
    /// What the engine shows to clients.
    serving: TlsMaterial,
    /// What the engine shows to the operator, and by which it judges the operator.
    internal: TlsMaterial,
    /// What the operator shows to the engine, and by which it judges the engine.
    operator: TlsMaterial,
    /// CA certificates that clients were given, and from when on.
    published: Vec<(Timestamp, String)>,
    /// What clients were given to show, and from when on.
    clients: Vec<(Timestamp, TlsMaterial)>,
}

impl Play {
    fn new(tls: &str) -> Self {
        let mut world = World::running(&format!("{AWS}\n{tls}"));
        let children = world.children().clone();
        let serving = held(&children.serving_tls);
        let internal = held(&children.internal_tls);
        let operator = held(&world.observed.custody.operator_client);
        let published = vec![(world.now, serving.authority.clone())];
        let clients = world.observed.custody.client.iter().map(|seen| (world.now, material_of(seen))).collect();
        let mut play = Self { world, serving, internal, operator, published, clients };
        play.reload();
        play.settle();
        play
    }

    /// The engine takes over what is stored by now.
    fn reload(&mut self) {
        let (serving, internal, _) = self.stored();
        let EngineView::Answered(status) = &mut self.world.observed.engine else { panic!("the engine does not run") };
        status.serving_certificate = Some(ShownCertificate { sha256: fingerprint(&serving.certificate) });
        status.serving_authorities = fingerprints(&serving.authority);
        status.internal_certificate = Some(ShownCertificate { sha256: fingerprint(&internal.certificate) });
        status.internal_authorities = fingerprints(&internal.authority);
        (self.serving, self.internal) = (serving, internal);
        self.check();
    }

    /// The operator asks the engine with what was decided, as the controller has it do.
    fn follow(&mut self, desired: &Desired) {
        if let Some(material) = desired.certificates.operator_client.material() {
            self.operator = material.clone();
        }
    }

    /// One reconcile, of which the first `writes` succeed.
    fn reconcile(&mut self, writes: usize) {
        let desired = self.world.desired();
        self.follow(&desired);
        let refresh = desired.connection.as_ref().is_some_and(|publication| publication.refresh_authority);
        let client = desired.connection.as_ref().filter(|publication| publication.refresh_client);
        let client = client.map(|publication| publication.client.clone().expect("a client's certificate"));
        let bundle = desired.certificates.serving.own().and_then(|own| own.ca.authority()).map(Authority::bundle);
        let mut after = self.world.clone();
        after.carry_out(*desired);
        if writes > UNPUBLISHED {
            self.clients.extend(client.map(|client| (self.world.now, client)));
            self.published.extend(bundle.filter(|_| refresh).map(|bundle| (self.world.now, bundle)));
        }
        if writes < WRITES {
            let observed = &mut self.world.observed;
            let children = observed.children.as_mut().expect("children");
            let (custody, written) = (&mut observed.custody, after.children().clone());
            let stored = after.observed.custody;
            let places = [
                (&mut custody.internal_ca, stored.internal_ca),
                (&mut custody.serving_ca, stored.serving_ca),
                (&mut children.serving_tls, written.serving_tls),
                (&mut custody.client, stored.client),
                (&mut children.internal_tls, written.internal_tls),
                (&mut custody.operator_client, stored.operator_client),
            ];
            for (place, secret) in places.into_iter().take(writes) {
                *place = secret;
            }
        } else {
            self.world = after;
        }
        self.check();
    }

    fn settle(&mut self) {
        for _ in 0..8 {
            let desired = self.world.desired();
            self.follow(&desired);
            if is_quiet(&desired, &self.world.observed) {
                return;
            }
            self.reconcile(WRITES);
        }
        panic!("does not settle: {:?}", self.world.condition(types::CERTIFICATES_VALID));
    }

    fn pass(&mut self, hours: i64) {
        self.world.now += SignedDuration::from_hours(hours);
        self.check();
    }

    /// Time passes, and nobody sleeps for longer than four hours.
    fn live(&mut self, hours: i64) {
        self.live_slowly(hours, 4);
    }

    /// Time passes, and nobody sleeps for longer than `nap` hours.
    fn live_slowly(&mut self, hours: i64, nap: i64) {
        for _ in 0..hours / nap {
            self.pass(nap);
            self.settle();
            self.reload();
            self.settle();
        }
    }

    /// Destroys an entry of a CA's secret.
    fn damage(&mut self, role: Role, entry: &str) {
        for (key, value) in &mut self.secret_of(role).entries {
            if key == entry {
                *value = Sensitive::new(b"garbage".to_vec());
            }
        }
    }

    /// Lives until nothing is rotated any more.
    fn finish(&mut self) {
        for _ in 0..60 {
            self.live(4);
            if self.phases() == (Phase::Settled, Phase::Settled) {
                return;
            }
        }
        panic!("no end: {:?}", self.world.condition(types::CERTIFICATES_VALID));
    }

    fn ask(&mut self, value: &str) {
        let annotations = self.world.observed.cluster.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_ROTATE_CA.into(), value.into());
    }

    fn want_names(&mut self, names: &[&str]) {
        self.world.observed.cluster.spec.tls.dns_names = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// The certificates as they are stored: serving, internal, operator.
    fn stored(&self) -> (TlsMaterial, TlsMaterial, TlsMaterial) {
        let children = self.world.observed.children.as_ref().expect("children");
        let operator = held(&self.world.observed.custody.operator_client);
        (held(&children.serving_tls), held(&children.internal_tls), operator)
    }

    fn secret_of(&mut self, role: Role) -> &mut SecretSeen {
        let custody = &mut self.world.observed.custody;
        match role {
            Role::Internal => custody.internal_ca.as_mut().expect("a CA"),
            Role::Serving => custody.serving_ca.as_mut().expect("a CA"),
        }
    }

    fn authority(&self, role: Role) -> Authority {
        let custody = &self.world.observed.custody;
        let seen = match role {
            Role::Internal => &custody.internal_ca,
            Role::Serving => &custody.serving_ca,
        };
        Authority::read(seen.as_ref().expect("a CA")).expect("complete")
    }

    fn authorities(&self) -> (Authority, Authority) {
        (self.authority(Role::Internal), self.authority(Role::Serving))
    }

    /// Certificate of the CA that signs.
    fn signing(&self, role: Role) -> String {
        self.authority(role).signing.certificate
    }

    /// Phases of the internal and of the serving CA.
    fn phases(&self) -> (Phase, Phase) {
        (self.authority(Role::Internal).phase, self.authority(Role::Serving).phase)
    }

    /// Since when the serving CA waits for nothing but time.
    fn since(&self) -> Option<Timestamp> {
        match self.authority(Role::Serving).phase {
            Phase::Settled => None,
            Phase::Distribute { since, .. } | Phase::Reissue { since, .. } => since,
        }
    }

    fn condition(&self) -> String {
        let condition = self.world.condition(types::CERTIFICATES_VALID);
        format!("{} {}", condition.status, condition.reason)
    }

    fn message(&self) -> String {
        self.world.condition(types::CERTIFICATES_VALID).message
    }

    fn next(&self) -> Option<Timestamp> {
        self.world.desired().certificates.next
    }

    /// Everybody accepts everybody: what is shown, and what will be once somebody looks again, is good for whatever
    /// somebody may still hold.
    fn check(&self) {
        let now = self.world.now;
        let (serving, internal, operator) = self.stored();
        let identity = self.world.identity();
        for (number, (since, bundle)) in self.published.iter().enumerate() {
            // Clients look again within the overlap.
            let end = self.published.get(number + 1).map(|(end, _)| *end);
            if end.is_some_and(|end| end <= now - OVERLAP) {
                continue;
            }
            for leaf in [&self.serving, &serving] {
                let accepted = serves(leaf, bundle, &client_host(&identity.cluster_id), now);
                assert!(accepted, "a client with the CA certificates of {since} refuses the engine at {now}");
            }
        }
        for (number, (since, client)) in self.clients.iter().enumerate() {
            // Whoever does not look again loses what he shows when it ends, or when its CA goes.
            let end = self.clients.get(number + 1).map(|(end, _)| *end);
            let validity = verify::validity(&client.certificate).expect("a certificate");
            if end.is_some_and(|end| end <= now - OVERLAP || validity.not_after <= now) {
                continue;
            }
            for engine in [&self.serving, &serving] {
                let accepted = is_let_in(client, &engine.authority, now);
                assert!(accepted, "the engine refuses at {now} a client with the certificate of {since}");
            }
        }
        for engine in [&self.internal, &internal] {
            for operator in [&self.operator, &operator] {
                let accepted = serves(engine, &operator.authority, &identity.engine_host(), now);
                assert!(accepted, "the operator refuses the engine at {now}");
                assert!(is_let_in(operator, &engine.authority, now), "the engine refuses the operator at {now}");
            }
        }
    }
}

fn change_of(play: &Play, role: Role) -> AuthorityChange {
    let certificates = play.world.desired().certificates;
    match role {
        Role::Internal => certificates.internal_ca,
        Role::Serving => certificates.serving.own().expect("it signs").ca.clone(),
    }
}

fn held(seen: &Option<SecretSeen>) -> TlsMaterial {
    material_of(seen.as_ref().expect("a secret"))
}

fn material_of(seen: &SecretSeen) -> TlsMaterial {
    let text = |key: &str| seen.entry(key).and_then(Sensitive::reveal_text).expect("text").to_owned();
    TlsMaterial {
        certificate: text("tls.crt"),
        key: seen.entry("tls.key").expect("a key").clone(),
        authority: text("ca.crt"),
    }
}

fn fingerprint(certificate: &str) -> String {
    verify::fingerprint(certificate).expect("PEM")
}

fn fingerprints(bundle: &str) -> Vec<String> {
    bundle.split_inclusive("-----END CERTIFICATE-----\n").map(fingerprint).collect()
}

fn roots(bundle: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a root");
    }
    Arc::new(roots)
}

fn der(leaf: &TlsMaterial) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).expect("PEM")
}

fn clock(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).expect("after 1970")))
}

/// Whether a client that trusts `bundle` accepts a server under a name.
fn serves(leaf: &TlsMaterial, bundle: &str, name: &str, now: Timestamp) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(bundle), provider).build().expect("a verifier");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    verifier.verify_server_cert(&der(leaf), &[], &name, &[], clock(now)).is_ok()
}

/// Whether a server that trusts `bundle` accepts a client.
fn is_let_in(leaf: &TlsMaterial, bundle: &str, now: Timestamp) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(bundle), provider).build().expect("a verifier");
    verifier.verify_client_cert(&der(leaf), &[], clock(now)).is_ok()
}

#[test]
fn a_serving_ca_is_made_known_then_signs_then_the_old_one_is_dropped() {
    let mut play = Play::new(LONG);
    let old = play.signing(Role::Serving);
    play.want_names(&["vector.acme.example"]);
    assert_eq!(play.condition(), "True RotatingServingCA");
    play.settle();
    let Phase::Distribute { next, since: None } = play.phases().1 else { panic!("not begun") };
    let new = next.certificate;
    assert_eq!(play.stored().0.certificate, play.serving.certificate, "nothing was made anew");
    assert_eq!(play.stored().0.authority, format!("{old}{new}"));
    assert_eq!(play.published[1..], [(play.world.now, format!("{old}{new}"))]);

    play.reload();
    play.settle();
    let until = play.since().expect("everybody finds both") + OVERLAP;
    assert_eq!(play.condition(), "True RotatingServingCA");
    assert!(play.message().contains(&until.to_string()), "{}", play.message());
    assert_eq!(play.next(), Some(until));
    play.pass(47);
    play.settle();
    assert_eq!(play.signing(Role::Serving), old);

    play.pass(1);
    play.settle();
    assert_eq!(play.signing(Role::Serving), new);
    assert!(verify::is_signed_by(&play.stored().0.certificate, &new));
    assert!(verify::is_signed_by(&play.serving.certificate, &old), "the engine has not looked yet");
    assert_eq!(play.condition(), "True RotatingServingCA");
    play.pass(100);
    play.settle();
    assert_eq!(play.since(), None, "the engine has still not looked");

    play.reload();
    play.settle();
    let until = play.since().expect("the engine shows it") + OVERLAP;
    assert!(play.message().contains(&until.to_string()), "{}", play.message());
    assert_eq!(play.next(), Some(until));
    play.pass(47);
    play.settle();
    assert_eq!(play.stored().0.authority, format!("{old}{new}"));

    play.pass(1);
    play.settle();
    assert_eq!(play.phases().1, Phase::Settled);
    assert_eq!(play.stored().0.authority, new);
    assert_eq!(play.published[2..], [(play.world.now, new)]);
    assert_eq!(play.condition(), "True Valid");
}

#[test]
fn an_internal_ca_is_rotated_as_fast_as_the_engine_follows() {
    let mut play = Play::new(SHORT);
    let old = play.signing(Role::Internal);
    play.ask(START);
    play.settle();
    assert!(matches!(play.phases().0, Phase::Distribute { since: None, .. }));
    assert_eq!(play.condition(), "True RotatingInternalCA");
    assert_eq!(fingerprints(&play.operator.authority).len(), 2, "the operator trusts both before the engine shows one");

    play.reload();
    play.settle();
    let new = play.signing(Role::Internal);
    assert_ne!(new, old);
    assert!(matches!(play.phases().0, Phase::Reissue { since: None, .. }));
    assert!(verify::is_signed_by(&play.operator.certificate, &new), "the engine trusts it by now");
    assert!(verify::is_signed_by(&play.internal.certificate, &old), "the engine has not looked yet");
    assert_eq!(play.condition(), "True RotatingInternalCA");

    play.reload();
    play.settle();
    assert_eq!(play.phases().0, Phase::Settled);
    assert_eq!(play.operator.authority, new);
}

#[test]
fn a_serving_ca_is_rotated_at_two_thirds_of_its_life_and_then_not_again() {
    let mut play = Play::new(SHORT);
    let before = play.authorities();
    play.live(476);
    assert_eq!(play.authorities(), before);
    assert_eq!(play.condition(), "True Valid");
    play.live(8);
    assert!(matches!(play.phases().1, Phase::Distribute { since: Some(_), .. }));
    play.finish();
    assert_ne!(play.signing(Role::Serving), before.1.signing.certificate);
    let after = play.authorities();
    play.live(200);
    assert_eq!(play.authorities(), after);
    assert_eq!(after.0, before.0, "how long clients' CA lasts is none of the internal CA's business");
}

#[test]
fn an_internal_ca_lives_for_ten_years_whatever_the_resource_says_of_the_other() {
    let mut play = Play::new("tls: {duration: 8760h, caDuration: 17520h, caOverlap: 48h}");
    let before = play.signing(Role::Internal);
    let validity = verify::validity(&before).expect("a CA");
    let years = validity.not_after.duration_since(play.world.now);
    assert_eq!(years, AUTHORITY_LIFETIME);
    // In steps within which no certificate ends.
    let renewal = validity.renewal().duration_since(play.world.now).as_hours();
    play.live_slowly(renewal - 400, 400);
    assert_eq!(play.signing(Role::Internal), before);
    play.live_slowly(800, 400);
    assert_ne!(play.signing(Role::Internal), before);
}

#[test]
fn nothing_is_signed_by_a_ca_that_the_engine_has_not_reported() {
    let mut play = Play::new(LONG);
    let before = (play.signing(Role::Internal), play.signing(Role::Serving));
    play.ask(START);
    for _ in 0..10 {
        play.pass(10);
        play.settle();
        assert_eq!(play.since(), None);
    }
    // Nor by one that it reports without the old one, nor while it is silent.
    let trusted = fingerprints(&play.stored().1.authority);
    let EngineView::Answered(status) = &mut play.world.observed.engine else { panic!("the engine does not run") };
    status.internal_authorities = trusted[1..].to_vec();
    play.settle();
    play.world.observed.engine = EngineView::Silent { reason: "no connection".into() };
    play.pass(50);
    play.settle();
    assert_eq!((play.signing(Role::Internal), play.signing(Role::Serving)), before);
}

#[test]
fn the_time_of_clients_begins_once_they_are_given_both() {
    let mut play = Play::new(LONG);
    play.ask(START);
    play.reconcile(WRITES);
    // The customer's namespace takes nothing, for days.
    for _ in 0..10 {
        play.reconcile(UNPUBLISHED);
        play.reload();
        play.pass(10);
    }
    assert_eq!((play.since(), play.published.len()), (None, 1));
    play.settle();
    assert_eq!(play.since(), Some(play.world.now));
}

#[test]
fn a_rotation_that_is_interrupted_after_any_write_goes_on() {
    for writes in 0..WRITES {
        let mut play = Play::new(SHORT);
        let before = play.authorities();
        play.ask(START);
        for _ in 0..35 {
            play.reconcile(writes);
            play.reconcile(writes);
            play.reconcile(WRITES);
            play.reconcile(writes);
            play.reload();
            play.pass(4);
        }
        play.settle();
        assert_eq!(play.phases(), (Phase::Settled, Phase::Settled), "interrupted after {writes}");
        assert_ne!(play.signing(Role::Internal), before.0.signing.certificate);
        assert_ne!(play.signing(Role::Serving), before.1.signing.certificate);
    }
}

#[test]
fn an_old_ca_that_ends_in_the_middle_is_waited_for_no_longer() {
    let mut play = Play::new(SHORT);
    play.live(100);
    play.ask(START);
    play.settle();
    let Phase::Distribute { next: serving, .. } = play.phases().1 else { panic!("not begun") };
    // The engine never looks, so there is nothing to check between it and the others from here on.
    let old = play.authority(Role::Serving).signing;
    let end = verify::validity(&old.certificate).expect("a CA").not_after;
    play.world.now = end - SignedDuration::from_mins(1);
    play.world.settle();
    assert_eq!(play.signing(Role::Serving), old.certificate);
    let last = verify::validity(&play.stored().0.certificate).expect("a certificate");
    assert_eq!(last.not_after, end, "no certificate outlives its CA, and none is made anew for nothing");
    assert_eq!(play.next(), Some(end));

    play.world.now = end;
    play.world.settle();
    assert_eq!(play.authority(Role::Serving).signing, serving);
    let (shown, ..) = play.stored();
    let name = client_host(&play.world.identity().cluster_id);
    assert!(serves(&shown, &serving.certificate, &name, end));
}

#[test]
fn a_ca_whose_overlap_does_not_fit_hands_over_while_the_engine_can_still_follow() {
    let mut play = Play::new(SHORT);
    let old = play.signing(Role::Serving);
    let end = verify::validity(&old).expect("a CA").not_after;
    // What is asked of the next CA is more than what is left of this one.
    let tls = &mut play.world.observed.cluster.spec.tls;
    (tls.ca_duration, tls.ca_overlap) = ("87600h".into(), "8760h".into());
    while play.signing(Role::Serving) == old {
        let next = play.next().expect("something to wait for");
        assert!(next < end, "nobody waits for the very end");
        play.world.now = next;
        play.settle();
        if play.signing(Role::Serving) == old {
            play.reload();
            play.settle();
        }
    }
    // Kubelet and engine take their time, and every client accepts what is shown until then and after.
    play.world.now += SignedDuration::from_mins(3);
    assert!(play.world.now < end);
    play.check();
    play.reload();
    play.settle();
    play.world.now = end + SignedDuration::from_mins(1);
    play.check();
}

#[test]
fn a_ca_that_was_to_come_and_is_damaged_is_replaced_before_it_signs() {
    let mut play = Play::new(SHORT);
    play.ask(START);
    play.settle();
    let Phase::Distribute { next: lost, .. } = play.phases().1 else { panic!("not begun") };
    play.damage(Role::Serving, "next.crt");
    play.settle();
    let Phase::Distribute { next, .. } = play.phases().1 else { panic!("given up") };
    assert_ne!(next, lost);
    assert_eq!(fingerprints(&play.stored().0.authority).len(), 2);
    play.finish();
    assert_eq!(play.authority(Role::Serving).signing, next);
}

#[test]
fn a_damaged_ca_is_made_anew_at_once_and_says_why() {
    let mut play = Play::new(SHORT);
    play.damage(Role::Serving, "tls.key");
    let AuthorityChange::Make { reason, replaces: Some(_), .. } = change_of(&play, Role::Serving) else {
        panic!("it is not made");
    };
    assert_eq!(reason, "its private key does not belong to it");
    assert_eq!(play.condition(), "False Issuing");
    play.world.settle();
    assert_eq!(play.phases().1, Phase::Settled);
}

#[test]
fn a_ca_that_is_known_takes_the_place_of_one_whose_key_is_lost() {
    for role in [Role::Internal, Role::Serving] {
        for lost in ["garbage", "missing"] {
            let mut play = Play::new(LONG);
            play.ask(START);
            play.settle();
            let (internal, serving) = play.phases();
            let Phase::Distribute { next, .. } = (if role == Role::Internal { internal } else { serving }) else {
                panic!("not begun");
            };
            let old = play.signing(role);
            match lost {
                "missing" => play.secret_of(role).entries.retain(|(key, _)| key != "tls.key"),
                _ => play.damage(role, "tls.key"),
            }
            let AuthorityChange::Advance { authority, .. } = change_of(&play, role) else {
                panic!("a CA that nobody knows is made");
            };
            assert_eq!(authority.signing, next);
            assert_eq!(authority.phase, Phase::Reissue { previous: old, since: None }, "what it signed stays good");
        }
    }
}

#[test]
fn a_ca_whose_certificate_is_lost_makes_room_for_one_that_is_known_and_is_trusted_no_longer() {
    let mut play = Play::new(LONG);
    play.ask(START);
    play.settle();
    let Phase::Distribute { next, .. } = play.phases().1 else { panic!("not begun") };
    play.damage(Role::Serving, "tls.crt");
    play.world.settle();
    assert_eq!(play.authority(Role::Serving).signing, next);
    assert_eq!(play.phases().1, Phase::Settled);
}

#[test]
fn each_request_for_a_rotation_counts_once() {
    let mut play = Play::new(SHORT);
    play.ask(START);
    play.settle();
    assert!(matches!(play.phases(), (Phase::Distribute { .. }, Phase::Distribute { .. })));
    play.finish();
    let after = play.authorities();
    assert_eq!(after.1.honoured.as_deref(), Some(START));
    play.live(24);
    assert_eq!(play.authorities(), after);
    play.ask("2026-06-02T12:00:00+02:00");
    play.settle();
    assert!(matches!(play.phases(), (Phase::Distribute { .. }, Phase::Distribute { .. })));
}

#[test]
fn a_request_counts_from_its_time_on_and_one_without_a_time_is_ignored() {
    let mut play = Play::new(LONG);
    play.ask("2026-06-01T20:00:00Z");
    play.settle();
    assert_eq!(play.phases(), (Phase::Settled, Phase::Settled));
    assert_eq!(play.next(), Some(play.world.now + SignedDuration::from_hours(8)));
    play.ask("soon");
    play.settle();
    assert!(play.message().contains("vectorkeep.dev/rotate-ca is ignored"), "{}", play.message());
    play.ask("2026-06-01T20:00:00Z");
    play.pass(8);
    play.settle();
    assert!(matches!(play.phases(), (Phase::Distribute { .. }, Phase::Distribute { .. })));
}

#[test]
fn a_ca_that_is_made_for_a_resource_with_a_request_answers_it() {
    let mut world = World::new(AWS);
    let annotations = world.observed.cluster.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_ROTATE_CA.into(), START.into());
    world.settle();
    let authority = Authority::read(world.observed.custody.serving_ca.as_ref().expect("a CA")).expect("complete");
    assert_eq!((authority.phase, authority.honoured.as_deref()), (Phase::Settled, Some(START)));
}

#[test]
fn a_further_name_is_served_once_a_ca_may_sign_for_it() {
    let mut play = Play::new(SHORT);
    play.want_names(&["vector.acme.example"]);
    play.settle();
    assert!(matches!(play.phases(), (Phase::Settled, Phase::Distribute { .. })));
    assert!(play.message().contains("vector.acme.example"), "{}", play.message());
    // Another one before it signed: the CA that was to come makes room for one that may sign for both.
    play.want_names(&["vector.acme.example", "vector.acme.test"]);
    play.settle();
    play.finish();
    for name in ["vector.acme.example", "vector.acme.test"] {
        assert!(serves(&play.serving, &play.serving.authority, name, play.world.now), "{name}");
    }
}

#[test]
fn a_name_within_what_the_ca_may_sign_for_needs_no_rotation_and_one_less_neither() {
    let mut play = Play::new(&SHORT.replace("caOverlap", "dnsNames: [acme.example], caOverlap"));
    let before = play.authorities();
    let now = play.world.now;
    for (wanted, served, gone) in
        [(&["vector.acme.example"][..], "vector.acme.example", "acme.example"), (&[][..], "", "vector.acme.example")]
    {
        play.want_names(wanted);
        play.settle();
        play.reload();
        play.settle();
        assert_eq!(play.authorities(), before);
        assert!(served.is_empty() || serves(&play.serving, &play.serving.authority, served, now));
        assert!(!serves(&play.serving, &play.serving.authority, gone, now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn everybody_accepts_everybody_in_whatever_order_things_happen(acts in proptest::collection::vec(0usize..16, 160)) {
        let mut play = Play::new(SHORT);
        play.ask(START);
        let mut idle = 0;
        for act in acts {
            match act {
                writes @ 0..=WRITES => play.reconcile(writes),
                9..12 => play.reload(),
                _ if idle < 6 => {
                    play.pass(3);
                    idle += 3;
                }
                _ => {
                    play.settle();
                    play.reload();
                    idle = 0;
                }
            }
        }
        play.finish();
    }
}
