//! What is played: an engine that loads what is stored when it likes, clients that hold copies of what was published,
//! and an operator whose reconciles may break off after any write. After each move, everybody must accept everybody.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use vectorkeep_crds::{identity::client_host, well_known::ANNOTATION_ROTATE_CA};

use super::super::*;
use crate::{
    admin::ShownCertificate,
    certificates::verify,
    plan::certificates::{Phase, Role},
};

/// Short lives, so that a rotation is a matter of days.
pub(super) const SHORT: &str = "tls: {duration: 24h, caDuration: 720h, caOverlap: 48h, clientAuth: Required}";
/// The same overlap, within which nothing else has to be renewed.
pub(super) const LONG: &str = "tls: {duration: 300h, caDuration: 7200h, caOverlap: 48h, clientAuth: Required}";
pub(super) const OVERLAP: SignedDuration = SignedDuration::from_hours(48);
/// When every play begins.
pub(super) const START: &str = "2026-06-01T12:00:00Z";
/// Writes of a reconcile, in their order: two CAs, four certificates, the customer's secret, everything else.
pub(super) const WRITES: usize = 8;
/// So many of them while the customer's namespace takes nothing.
pub(super) const UNPUBLISHED: usize = 6;

/// A cluster whose engine has loaded some certificates, and whose clients hold copies of some CA certificates.
pub(super) struct Play {
    pub(super) world: World,
    /// What the engine shows to clients.
    pub(super) serving: TlsMaterial,
    /// What the engine shows to the operator, and by which it judges the operator.
    pub(super) internal: TlsMaterial,
    /// What the operator shows to the engine, and by which it judges the engine.
    pub(super) operator: TlsMaterial,
    /// CA certificates that clients were given, and from when on.
    pub(super) published: Vec<(Timestamp, String)>,
    /// What clients were given to show, and from when on.
    pub(super) clients: Vec<(Timestamp, TlsMaterial)>,
}

impl Play {
    pub(super) fn new(tls: &str) -> Self {
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
    pub(super) fn reload(&mut self) {
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
    pub(super) fn reconcile(&mut self, writes: usize) {
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

    pub(super) fn settle(&mut self) {
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

    pub(super) fn pass(&mut self, hours: i64) {
        self.world.now += SignedDuration::from_hours(hours);
        self.check();
    }

    /// Time passes, and nobody sleeps for longer than four hours.
    pub(super) fn live(&mut self, hours: i64) {
        self.live_slowly(hours, 4);
    }

    /// Time passes, and nobody sleeps for longer than `nap` hours.
    pub(super) fn live_slowly(&mut self, hours: i64, nap: i64) {
        for _ in 0..hours / nap {
            self.pass(nap);
            self.settle();
            self.reload();
            self.settle();
        }
    }

    /// Destroys an entry of a CA's secret.
    pub(super) fn damage(&mut self, role: Role, entry: &str) {
        for (key, value) in &mut self.secret_of(role).entries {
            if key == entry {
                *value = Sensitive::new(b"garbage".to_vec());
            }
        }
    }

    /// Lives until nothing is rotated any more.
    pub(super) fn finish(&mut self) {
        for _ in 0..60 {
            self.live(4);
            if self.phases() == (Phase::Settled, Phase::Settled) {
                return;
            }
        }
        panic!("no end: {:?}", self.world.condition(types::CERTIFICATES_VALID));
    }

    pub(super) fn ask(&mut self, value: &str) {
        let annotations = self.world.observed.cluster.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_ROTATE_CA.into(), value.into());
    }

    pub(super) fn want_names(&mut self, names: &[&str]) {
        self.world.observed.cluster.spec.tls.dns_names = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// The certificates as they are stored: serving, internal, operator.
    pub(super) fn stored(&self) -> (TlsMaterial, TlsMaterial, TlsMaterial) {
        let children = self.world.observed.children.as_ref().expect("children");
        let operator = held(&self.world.observed.custody.operator_client);
        (held(&children.serving_tls), held(&children.internal_tls), operator)
    }

    pub(super) fn secret_of(&mut self, role: Role) -> &mut SecretSeen {
        let custody = &mut self.world.observed.custody;
        match role {
            Role::Internal => custody.internal_ca.as_mut().expect("a CA"),
            Role::Serving => custody.serving_ca.as_mut().expect("a CA"),
        }
    }

    pub(super) fn authority(&self, role: Role) -> Authority {
        let custody = &self.world.observed.custody;
        let seen = match role {
            Role::Internal => &custody.internal_ca,
            Role::Serving => &custody.serving_ca,
        };
        Authority::read(seen.as_ref().expect("a CA")).expect("complete")
    }

    pub(super) fn authorities(&self) -> (Authority, Authority) {
        (self.authority(Role::Internal), self.authority(Role::Serving))
    }

    /// Certificate of the CA that signs.
    pub(super) fn signing(&self, role: Role) -> String {
        self.authority(role).signing.certificate
    }

    /// Phases of the internal and of the serving CA.
    pub(super) fn phases(&self) -> (Phase, Phase) {
        (self.authority(Role::Internal).phase, self.authority(Role::Serving).phase)
    }

    /// Since when the serving CA waits for nothing but time.
    pub(super) fn since(&self) -> Option<Timestamp> {
        match self.authority(Role::Serving).phase {
            Phase::Settled => None,
            Phase::Distribute { since, .. } | Phase::Reissue { since, .. } => since,
        }
    }

    pub(super) fn condition(&self) -> String {
        let condition = self.world.condition(types::CERTIFICATES_VALID);
        format!("{} {}", condition.status, condition.reason)
    }

    pub(super) fn message(&self) -> String {
        self.world.condition(types::CERTIFICATES_VALID).message
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.world.desired().certificates.next
    }

    /// Everybody accepts everybody: what is shown, and what will be once somebody looks again, is good for whatever
    /// somebody may still hold.
    pub(super) fn check(&self) {
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

pub(super) fn change_of(play: &Play, role: Role) -> AuthorityChange {
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

pub(super) fn fingerprints(bundle: &str) -> Vec<String> {
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
pub(super) fn serves(leaf: &TlsMaterial, bundle: &str, name: &str, now: Timestamp) -> bool {
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
