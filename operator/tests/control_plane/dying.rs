//! An operator that is killed in each of its writes, when the write is done and the answer has not come: the next one
//! goes on where it was, and the end is that of an undisturbed run.

use super::{
    rollout::{PATCHED_AT_ONCE, assert_done_once, image_of, patch, play, upgrade},
    support::proxy::Proxy,
    *,
};

/// More lives than anything here takes.
const LIVES: usize = 100;
/// A life ends by itself after five minutes.
const LIFE: usize = 3000;
/// So long it must have been over, with nothing new written, to be over.
const REST: usize = 40;
const MOMENT: Duration = Duration::from_millis(100);

/// A cluster that is ready, its operator gone, and what the next ones are started with: a proxy that they die of.
async fn mortal(world: &World, spec: &str) -> (Engines, Proxy, Flags) {
    let (operator, engines) = ready(world, spec).await;
    world.until_condition("support", "CertificatesValid", "True", "Valid").await;
    operator.kill();
    let proxy = Proxy::start(world.kubeconfig()).await;
    let flags = Flags { connect_to: Some(engines.address()), api_server: Some(proxy.url()), ..Flags::default() };
    (engines, proxy, flags)
}

/// Whether an upgrade is reported and nothing is left of it to be done.
async fn is_reported(world: &World) -> bool {
    upgrade(world).await.is_some_and(|upgrade| !upgrade.history.is_empty())
        && has(world, "UpToDate", "Current").await
        && has(world, "Ready", "Serving").await
}

/// Starts operator after operator until one of them finds nothing to do any more, which it answers.
async fn live_and_die<P, D>(
    world: &World,
    flags: &Flags,
    proxy: &Proxy,
    mut play: impl FnMut() -> P,
    is_over: impl Fn() -> D,
) -> Operator
where
    P: Future<Output = ()>,
    D: Future<Output = bool>,
{
    proxy.let_die(true);
    for _ in 0..LIVES {
        proxy.revive();
        let operator = world.start(flags);
        let mut rested = 0;
        for _ in 0..LIFE {
            if proxy.has_died() {
                break;
            }
            play().await;
            rested = if is_over().await { rested + 1 } else { 0 };
            if rested == REST {
                proxy.let_die(false);
                return operator;
            }
            tokio::time::sleep(MOMENT).await;
        }
        assert!(proxy.has_died(), "it has no end; died so far in {:#?}", proxy.deaths());
        operator.kill();
    }
    panic!("too many lives: {:#?}", proxy.deaths());
}

fn assert_died_in(proxy: &Proxy, objects: &[&str]) {
    let deaths = proxy.deaths();
    for object in objects {
        assert!(deaths.iter().any(|death| death.contains(object)), "nobody died in {object}: {deaths:#?}");
    }
}

async fn has(world: &World, type_: &str, reason: &str) -> bool {
    world.condition("support", type_).await.is_some_and(|condition| condition.reason == reason)
}

#[tokio::test]
async fn killed_in_each_write_of_an_upgrade_the_operator_ends_it_as_if_undisturbed() {
    let world = World::new().await;
    let (engines, proxy, flags) = mortal(&world, PATCHED_AT_ONCE).await;
    world.offer(&[("0.1.1", &patch())]);
    let operator = live_and_die(&world, &flags, &proxy, || play(&world, &engines), || is_reported(&world)).await;

    assert_done_once(&world).await;
    let record = format!("configmaps/record-{}", world.cluster_id("support"));
    assert_died_in(
        &proxy,
        &["configmaps/upgrade-fleet", &record, "statefulsets/engine", "vectorclusters/support/status"],
    );
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn killed_in_each_write_of_an_upgrade_that_fails_the_operator_takes_it_back_once_and_reports_it() {
    let world = World::new().await;
    let (engines, proxy, flags) = mortal(&world, PATCHED_AT_ONCE).await;
    world.offer(&[("0.1.1", &patch())]);
    let play_badly = || async {
        match image_of(&world).await == Some(patch()) {
            true => world.pod_crashes("support").await,
            false => play(&world, &engines).await,
        }
    };
    let operator = live_and_die(&world, &flags, &proxy, play_badly, || is_reported(&world)).await;

    let history = upgrade(&world).await.expect("a report").history;
    let reports: Vec<_> = history.iter().map(|it| (it.outcome.as_str(), it.to.as_str())).collect();
    assert_eq!(reports, [("RolledBack", "0.1.1")], "it was tried once");
    assert_eq!(image_of(&world).await, Some(image("engine", 'b')));
    let fleets: Api<ConfigMap> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let fleet = fleets.get("upgrade-fleet").await.expect("there").data.expect("data");
    assert_eq!(fleet["moving.json"], "{}");
    assert!(fleet["quarantined.json"].contains(&patch()), "{fleet:?}");
    fleets.delete("upgrade-fleet", &DeleteParams::default()).await.expect("deleted");
    let record = format!("configmaps/record-{}", world.cluster_id("support"));
    assert_died_in(&proxy, &["configmaps/upgrade-fleet", &record, "statefulsets/engine"]);
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

/// What CA certificates a secret publishes, one after the other.
#[derive(Default)]
struct Published(Vec<String>);

impl Published {
    fn see(&mut self, bundle: String) {
        if self.0.last() != Some(&bundle) {
            self.0.push(bundle);
        }
    }

    /// The old one, both, the new one, and nothing else.
    fn assert_one_rotation(&self, of: &str) {
        let [old, both, new] = self.0.as_slice() else { panic!("{} bundles of {of}", self.0.len()) };
        assert_ne!(old, new, "{of}");
        assert_eq!(both, &format!("{old}{new}"), "{of}");
    }
}

#[tokio::test]
async fn killed_in_each_write_of_a_rotation_of_both_cas_the_operator_ends_it_as_if_undisturbed() {
    let world = World::apart().await;
    let spec = "{encryption: {local: {}}, network: {clients: [{podSelector: {}}]}, tls: {caOverlap: 1m}}";
    let (engines, proxy, flags) = mortal(&world, spec).await;
    let (id, data_plane) = (world.cluster_id("support"), world.data_plane("support"));
    let bundle = |namespace: String, name: &'static str| {
        let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &namespace);
        async move {
            let data = secrets.get(name).await.expect("there").data.expect("data");
            String::from_utf8(data["ca.crt"].0.clone()).expect("PEM")
        }
    };
    let published = std::cell::RefCell::new((Published::default(), Published::default()));
    let look = || async {
        let customers = bundle(world.namespace.clone(), "support-connection").await;
        let engines = bundle(data_plane.clone(), "engine-internal-tls").await;
        let mut published = published.borrow_mut();
        published.0.see(customers);
        published.1.see(engines);
    };
    look().await;
    let now = jiff::Timestamp::now().to_string();
    let asked = json!({"metadata": {"annotations": {"vectorkeep.dev/rotate-ca": now}}});
    world.clusters().patch("support", &PatchParams::default(), &Patch::Merge(asked)).await.expect("asked");

    // The engine takes over what is stored, as soon as it is.
    let follow = || async {
        look().await;
        engines.run(&world.client, &id).await;
    };
    let is_over = || async {
        published.borrow().0.0.len() == 3
            && has(&world, "CertificatesValid", "Valid").await
            && has(&world, "Ready", "Serving").await
    };
    let operator = live_and_die(&world, &flags, &proxy, follow, is_over).await;

    let (customers, engines_) = published.into_inner();
    customers.assert_one_rotation("the serving CA");
    engines_.assert_one_rotation("the internal CA");
    let authorities = [format!("secrets/ca-serving-{id}"), format!("secrets/ca-internal-{id}")];
    assert_died_in(
        &proxy,
        &[&authorities[0], &authorities[1], "secrets/engine-serving-tls", "secrets/engine-internal-tls"],
    );
    assert_died_in(&proxy, &["secrets/support-connection", "vectorclusters/support/status"]);
    let client = format!("secrets/operator-client-{id}");
    assert_died_in(&proxy, &[&client]);
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}
