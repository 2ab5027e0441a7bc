//! Who reaches the engine, and whom it reaches.

use super::*;

#[test]
fn nothing_may_connect_unless_it_is_listed() {
    let mut world = World::new(AWS);
    world.settle();
    let names: Vec<String> = world.children().network_policies.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names[0], "default-deny");
    assert!(!names.contains(&"engine-clients".to_owned()));
}

#[test]
fn a_client_that_is_taken_off_the_list_loses_its_policy() {
    let mut world = World::new(&format!("{AWS}\nnetwork: {{clients: [{{podSelector: {{}}}}]}}"));
    world.settle();
    let clients = world
        .children()
        .network_policies
        .iter()
        .find(|policy| policy.name_any() == "engine-clients")
        .cloned()
        .expect("a policy");
    let rendered = text(&clients);
    assert!(rendered.contains("\"kubernetes.io/metadata.name\":\"acme\""));
    assert!(rendered.contains("19530") && !rendered.contains("9092"));

    world.observed.cluster.spec.network.clients.clear();
    let orphans = world.desired().orphans;
    assert_eq!(orphans.len(), 1);
    assert_eq!(orphans[0].name, "engine-clients");
    assert_eq!(orphans[0].uid, "uid-of-engine-clients");
}

#[test]
fn the_admin_port_is_for_the_operators_pods_alone() {
    let mut world = World::new(AWS);
    world.settle();
    let admin: Vec<_> =
        world.children().network_policies.iter().filter(|policy| text(policy).contains("9092")).cloned().collect();
    assert_eq!(admin.len(), 1);
    let rendered = text(&admin[0]);
    assert!(rendered.contains("vectorkeep-system"));
    assert!(rendered.contains("\"app.kubernetes.io/name\":\"vectorkeep-operator\""));
}

#[test]
fn without_given_addresses_only_public_ones_on_443_can_be_reached_and_the_condition_says_so() {
    let mut world = World::new(AWS);
    world.settle();
    let policy = world
        .children()
        .network_policies
        .iter()
        .find(|policy| policy.name_any() == "engine-kms")
        .cloned()
        .expect("a policy");
    let rendered = text(&policy);
    for range in ["10.0.0.0/8", "169.254.0.0/16", "fe80::/10", "fc00::/7"] {
        assert!(rendered.contains(range), "{range} in {rendered}");
    }
    assert!(rendered.contains("\"port\":443"));
    let isolated = world.condition(types::NETWORK_ISOLATED);
    assert_eq!((isolated.status.as_str(), isolated.reason.as_str()), ("Unknown", "NotProbed"));
    assert!(isolated.message.contains("every public address"));
}

#[test]
fn a_cluster_with_a_local_key_reaches_nothing_but_dns() {
    let mut world = World::new(LOCAL);
    world.settle();
    let egress: Vec<String> = world
        .children()
        .network_policies
        .iter()
        .filter(|policy| text(policy).contains("\"egress\""))
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(egress, ["engine-dns"]);
}

#[test]
fn a_resource_cannot_open_egress_to_link_local_or_cluster_ranges() {
    for cidr in ["169.254.169.254/32", "10.1.0.0/16", "0.0.0.0/0", "fe80::/64", "::ffff:10.0.0.0/104"] {
        let mut world = World::new(&format!("{AWS}\nnetwork: {{egress: [{{cidr: \"{cidr}\"}}]}}"));
        let Plan::Refuse(refused) = world.plan() else {
            panic!("{cidr} was not refused");
        };
        assert_eq!(refused.refusal.reason(), "EgressRefused", "{cidr}");
        // Once the cluster's own ranges are known, other private addresses may be a private endpoint.
        world.settings.cluster_ranges = vec!["10.96.0.0/12".parse().expect("a range")];
        let known = matches!(world.plan(), Plan::Refuse(_));
        assert_eq!(known, cidr != "10.1.0.0/16", "{cidr}");
    }
}

#[test]
fn addresses_of_the_installation_are_taken_as_they_are() {
    let mut world = World::new(AWS);
    world.settings.kms_egress = vec!["10.244.0.0/16:8443".parse().expect("valid")];
    world.settle();
    let policies = text(&world.children().network_policies);
    assert!(policies.contains("10.244.0.0/16") && policies.contains("8443"));
    assert!(!policies.contains("0.0.0.0/0"));
}
