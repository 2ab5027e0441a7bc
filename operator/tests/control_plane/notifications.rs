//! What is told to the outside: signed, at least once, to whom it should be and to nobody else.

use std::path::PathBuf;

use super::{
    rollout::play,
    support::receiver::{Answer, Received, Receiver, Tls},
    *,
};

const KEY: &str = "a signing key of thirty-two bytes";
const NEXT_KEY: &str = "another key, after a rotation ...";
const ACCEPT: Answer = Answer::Status(202);
const BUSY: Answer = Answer::Status(503);

/// Targets and their keys, as the chart would mount them.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    fn new() -> Self {
        let mounted = Self { folder: tempfile::tempdir().expect("a folder") };
        mounted.write_key(KEY);
        mounted
    }

    fn write_key(&self, key: &str) {
        std::fs::write(self.folder.path().join("signing-key"), key).expect("written");
    }

    /// The file that says to notify these.
    fn targets(&self, targets: &[(&str, &Receiver, &str)]) -> PathBuf {
        let key = self.folder.path().join("signing-key");
        let target = |(name, receiver, authority): &(&str, &Receiver, &str)| json!({"name": name, "url": receiver.url(), "signingKeyFile": key, "caBundle": authority});
        let targets: Vec<Value> = targets.iter().map(target).collect();
        let file = json!({"targets": targets});
        let path = self.folder.path().join("targets.json");
        std::fs::write(&path, file.to_string()).expect("written");
        path
    }
}

/// What the ledger of the cluster `support` says that a target need not be told.
async fn told(world: &World, target: &str) -> Option<Vec<String>> {
    let ledgers: Api<ConfigMap> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let name = format!("notified-{}", world.cluster_id("support"));
    let ledger = ledgers.get_opt(&name).await.ok()??.data?;
    let told: BTreeMap<String, Vec<String>> = serde_json::from_str(&ledger["told.json"]).expect("JSON");
    told.get(target).cloned()
}

/// Of what a receiver was sent, that about the cluster `support` of this test. One that failed may have left its own.
fn about_support(world: &World, received: Vec<Received>) -> Vec<Received> {
    let id = world.cluster_id("support");
    received.into_iter().filter(|received| received.event()["subject"] == id).collect()
}

/// Waits until a receiver has accepted an event of this type about this version.
async fn accepted(world: &World, receiver: &Receiver, type_: &str, version: &str) -> Received {
    let about = |received: &Received| {
        let event = received.event();
        let data = &event["data"];
        received.type_() == type_ && (data["to"] == version || data["fixedIn"] == version)
    };
    world.until(type_, || async { about_support(world, receiver.accepted()).into_iter().find(&about) }).await
}

fn release(version: &str, digit: char, advisories: &[&str]) -> Value {
    json!({"version": version, "image": image("engine", digit), "severity": "Security", "advisories": advisories})
}

#[tokio::test]
async fn every_report_arrives_signed_whatever_receiver_and_operator_go_through_and_no_target_is_told_old_history() {
    let world = World::new().await;
    let mounted = Mounted::new();
    let (tickets, chat) = (Receiver::start(Tls::V13, &[ACCEPT]).await, Receiver::start(Tls::V13, &[ACCEPT]).await);
    let engines = Engines::start().await;
    let targets = mounted.targets(&[("tickets", &tickets, tickets.authority())]);
    let flags = Flags { connect_to: Some(engines.address()), notification_targets: Some(targets), ..Flags::default() };
    let operator = world.start(&flags);
    world.apply("support", "{encryption: {local: {}}, upgrade: {window: {schedule: '* * * * *', duration: 1h}}}").await;
    become_ready(&world, &engines).await;
    world.until("the target's beginning", || told(&world, "tickets")).await;
    assert!(about_support(&world, tickets.received()).is_empty(), "there is nothing to tell yet");

    // The receiver has its troubles; meanwhile an upgrade is done.
    tickets.answer(&[Answer::HangUp, Answer::Silence, BUSY]);
    world.offer_releases(&[release("0.1.1", 'c', &["CVE-2026-0001"])]);
    world
        .until("a report", || async {
            play(&world, &engines).await;
            world.clusters().get("support").await.ok()?.status?.upgrade?.history.first().cloned()
        })
        .await;
    let first = world
        .until("a failed attempt at the report", || async {
            let received = about_support(&world, tickets.received());
            received.into_iter().find(|received| received.type_() == "upgrade.succeeded")
        })
        .await;
    world.until("patience", || async { operator.log().contains("was not delivered").then_some(()) }).await;
    assert!(tickets.accepted().is_empty());
    let log = operator.log();
    operator.kill();
    assert!(!log.contains("in-the-url") && !log.contains(KEY), "{log}");

    tickets.answer(&[BUSY, ACCEPT]);
    let operator = world.start(&flags);
    let report = accepted(&world, &tickets, "upgrade.succeeded", "0.1.1").await;
    assert_eq!((&report.id, &report.body), (&first.id, &first.body), "a repetition is the same event");
    assert_eq!(report.event()["id"], report.id.as_str());
    assert_eq!(report.event()["subject"], world.cluster_id("support"));
    assert_eq!(report.event()["source"], format!("/vectorkeep/itest/{}/support", world.namespace));
    assert_eq!(report.event()["data"]["advisories"], json!(["CVE-2026-0001"]));
    assert_eq!(report.path, "/hook?token=in-the-url");
    assert!(report.content_type.starts_with("application/cloudevents+json"));
    let closed = accepted(&world, &tickets, "advisory.closed", "0.1.1").await;
    assert_eq!(closed.event()["data"]["because"], "Answered");
    accepted(&world, &tickets, "advisory.opened", "0.1.1").await;
    for received in tickets.received() {
        assert!(received.is_signed_with(KEY.as_bytes()) && !received.is_signed_with(NEXT_KEY.as_bytes()));
    }
    world
        .until("the ledger to say so", || async {
            let told = told(&world, "tickets").await?;
            (told.contains(&report.id) && told.contains(&closed.id) && told.len() == 3).then_some(())
        })
        .await;
    operator.kill();

    // What was accepted is not told again, and a target that is new is not told what happened before it came.
    let deliveries = about_support(&world, tickets.received()).len();
    mounted.targets(&[("tickets", &tickets, tickets.authority()), ("chat", &chat, chat.authority())]);
    let operator = world.start(&flags);
    world.until("the new target's beginning", || told(&world, "chat")).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(about_support(&world, tickets.received()).len(), deliveries);
    assert!(about_support(&world, chat.received()).is_empty());

    // From then on it is, with the key that is there by then.
    mounted.write_key(NEXT_KEY);
    world.offer_releases(&[release("0.1.1", 'c', &["CVE-2026-0001"]), release("0.1.2", 'd', &["CVE-2026-0002"])]);
    let opened = accepted(&world, &chat, "advisory.opened", "0.1.2").await;
    assert!(opened.is_signed_with(NEXT_KEY.as_bytes()));
    assert_eq!(opened.event()["data"]["advisory"], "CVE-2026-0002");
    world
        .until("the next report", || async {
            play(&world, &engines).await;
            let accepted = about_support(&world, chat.accepted());
            accepted.into_iter().find(|received| received.type_() == "upgrade.succeeded")
        })
        .await;
    let told = about_support(&world, chat.accepted());
    let told: Vec<_> = told.iter().map(|received| received.event()["data"]["to"].clone()).collect();
    assert!(!told.contains(&json!("0.1.1")), "{told:?}");
    accepted(&world, &tickets, "upgrade.succeeded", "0.1.2").await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn a_receiver_that_can_not_be_trusted_or_does_not_answer_gets_nothing_and_holds_up_nobody() {
    let world = World::new().await;
    let mounted = Mounted::new();
    let good = Receiver::start(Tls::V13, &[ACCEPT]).await;
    let silent = Receiver::start(Tls::V13, &[Answer::Silence]).await;
    let moved = Receiver::start(Tls::V13, &[Answer::Status(307)]).await;
    let (old, stranger) = (Receiver::start(Tls::V12, &[ACCEPT]).await, Receiver::start(Tls::V13, &[ACCEPT]).await);
    let engines = Engines::start().await;
    let targets = mounted.targets(&[
        ("silent", &silent, silent.authority()),
        ("old", &old, old.authority()),
        ("stranger", &stranger, good.authority()),
        ("moved", &moved, moved.authority()),
        ("good", &good, good.authority()),
    ]);
    let flags = Flags { connect_to: Some(engines.address()), notification_targets: Some(targets), ..Flags::default() };
    let operator = world.start(&flags);
    world.apply("support", "{encryption: {local: {}}, upgrade: {autoPatch: false}}").await;
    become_ready(&world, &engines).await;
    world.until("the targets' beginning", || told(&world, "good")).await;
    // An advisory that stays open.
    world.offer_releases(&[release("0.1.1", 'c', &["CVE-2026-0001"])]);
    accepted(&world, &good, "advisory.opened", "0.1.1").await;
    for receiver in [&old, &stranger, &silent, &moved] {
        world.until("a connection", || async { (receiver.connections() > 0).then_some(()) }).await;
    }
    world.until("a refusal", || async { operator.log().contains("refuses a notification").then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(old.received().is_empty(), "TLS 1.2 is not spoken");
    assert!(stranger.received().is_empty(), "another CA verifies nothing");
    assert_eq!(moved.received().len(), 1, "a redirect is not followed, and not hammered");
    let told_good = about_support(&world, good.accepted());
    assert_eq!(told_good.len(), 1);
    // Deliveries are noted for those that accepted, and for nobody else.
    let noted = world.until("the note", || async { told(&world, "good").await.filter(|told| !told.is_empty()) }).await;
    assert_eq!(noted, [told_good[0].id.clone()]);
    for target in ["old", "stranger", "silent", "moved"] {
        assert_eq!(told(&world, target).await, Some(Vec::new()), "{target}");
    }
    let open = world.clusters().get("support").await.expect("there").status.expect("a status").upgrade;
    assert_eq!(open.expect("a report").advisories[0].id, "CVE-2026-0001");
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}
