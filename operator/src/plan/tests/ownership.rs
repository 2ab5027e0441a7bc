//! Whose a namespace is, and that planning again changes nothing.

use super::*;

#[test]
fn a_new_resource_first_gets_a_namespace_and_the_operator_the_right_to_work_there() {
    let Plan::Claim(foundation) = World::new(LOCAL).plan() else {
        panic!("expected a claim");
    };
    assert!(foundation.finalizer);
    let Change::Apply(namespace) = foundation.namespace else {
        panic!("expected a namespace");
    };
    assert_eq!(namespace.name_any(), foundation.identity.namespace);
    assert_eq!(namespace.labels().get("pod-security.kubernetes.io/enforce"), Some(&"restricted".to_owned()));
}

#[test]
fn planning_again_after_everything_was_applied_changes_nothing() {
    for spec in [LOCAL, AWS] {
        let world = World::running(spec);
        assert!(is_quiet(&world.desired(), &world.observed));
        assert_eq!(world.condition(types::READY).status, "True");
        assert_eq!(world.condition(types::STALLED).status, "False");
    }
}

#[test]
fn deleting_the_status_changes_nothing_else() {
    let mut world = World::running(AWS);
    let before = world.desired();
    world.observed.cluster.status = None;
    let mut after = world.desired();
    after.status = before.status.clone();
    assert_eq!(before, after);
}

#[test]
fn a_namespace_that_is_somebody_elses_is_refused_until_an_administrator_consents() {
    let mut world = World::new(LOCAL);
    let identity = world.identity();
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(identity.namespace.clone());
    world.observed.namespace = Some(namespace);
    let Plan::Refuse(refused) = world.plan() else {
        panic!("expected a refusal");
    };
    assert_eq!(refused.refusal.reason(), "NamespaceNotOwned");
    let stalled = world.condition(types::STALLED);
    assert_eq!(stalled.status, "True");
    assert!(stalled.message.contains(&identity.namespace));

    let namespace = world.observed.namespace.as_mut().expect("there");
    let labels = namespace.metadata.labels.get_or_insert_default();
    labels.insert(LABEL_ADOPT.into(), identity.cluster_id);
    assert!(matches!(world.plan(), Plan::Claim(_)));
}

#[test]
fn an_administrators_consent_lets_one_cluster_in_and_not_the_next_one_that_claims_its_id() {
    let mut world = World::new("{clusterId: sharedid, encryption: {local: {}}}");
    let identity = world.identity();
    let mut given = Namespace::default();
    given.metadata.name = Some(identity.namespace.clone());
    given.labels_mut().insert(LABEL_ADOPT.into(), identity.cluster_id.clone());
    world.observed.namespace = Some(given.clone());
    let Plan::Claim(foundation) = world.plan() else { panic!("expected a claim") };
    let Change::Apply(taken) = foundation.namespace else { panic!("expected marks") };
    // What is applied goes over what is there, and leaves the rest of it.
    given.labels_mut().extend(taken.labels().clone());
    given.annotations_mut().extend(taken.annotations().clone());
    world.observed.namespace = Some(given);
    assert!(matches!(world.plan(), Plan::Claim(_)), "it is its own by now");
    world.observed.cluster.metadata.namespace = Some("intruder".into());
    let Plan::Refuse(refused) = world.plan() else { panic!("expected a refusal") };
    assert_eq!(refused.refusal.reason(), "NamespaceNotOwned");
}

#[test]
fn nobody_takes_the_id_that_another_resource_has_by_its_name_before_that_one_is_there() {
    let id = World::new(LOCAL).identity().cluster_id;
    let mut world = World::new(&format!("{{clusterId: {id}, encryption: {{local: {{}}}}}}"));
    assert!(matches!(world.plan(), Plan::Claim(_)), "whose it is, may say it");
    world.observed.cluster.metadata.namespace = Some("intruder".into());
    let Plan::Refuse(refused) = world.plan() else { panic!("expected a refusal") };
    assert!(refused.refusal.to_string().starts_with("spec.clusterId"), "{}", refused.refusal);
}

#[test]
fn the_data_of_another_namespaces_resource_is_not_taken_over_by_the_same_id() {
    let mut world = World::running("{clusterId: sharedid, encryption: {local: {}}}");
    world.observed.cluster.metadata.namespace = Some("intruder".into());
    let record = world.observed.custody.record.as_mut().expect("a record");
    record.data.get_or_insert_default().insert("files.json".into(), "\"what another wrote\"".into());
    let Plan::Refuse(Refused { refusal, .. }) = world.plan() else { panic!("expected a refusal") };
    assert_eq!(refusal.reason(), "NamespaceNotOwned", "the other's record is none of its business");
}

#[test]
fn a_lost_binding_is_bound_again_before_anything_is_judged_missing() {
    let mut world = World::running(LOCAL);
    world.observed.role_binding = None;
    world.observed.children = None;
    let Plan::Claim(foundation) = world.plan() else {
        panic!("expected a claim");
    };
    assert!(foundation.namespace.is_keep());
    assert!(!foundation.role_binding.is_keep());
}
