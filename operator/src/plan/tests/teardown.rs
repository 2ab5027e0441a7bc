//! The end of a cluster.

use super::*;

#[test]
fn retaining_stops_the_engine_and_keeps_volume_keys_and_passwords() {
    let mut world = World::running(AWS);
    let set = world.children().stateful_set.as_mut().expect("a workload");
    set.metadata.uid = Some("uid-set".into());
    world.delete();
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(!step.finished);
    let kinds: Vec<DeletedKind> = step.deletions.iter().map(|deletion| deletion.kind).collect();
    assert!(kinds.contains(&DeletedKind::StatefulSet));
    assert!(kinds.iter().all(|kind| matches!(kind, DeletedKind::StatefulSet | DeletedKind::Service)));

    world.children().stateful_set = None;
    world.children().pod = None;
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(step.finished);
    let Change::Apply(namespace) = step.released else {
        panic!("the namespace is marked");
    };
    assert_eq!(namespace.labels().get(LABEL_RELEASED), Some(&"true".to_owned()));
}

#[test]
fn a_resource_made_again_takes_its_data_up_again() {
    let mut world = World::running(AWS);
    let identity = world.identity();
    world.observed.namespace = Some(namespace::released(&identity, None));
    world.observed.cluster.metadata.uid = Some("uid-2".into());
    world.observed.cluster.metadata.finalizers = None;
    let desired = world.desired();
    let Change::Apply(namespace) = &desired.namespace else {
        panic!("the mark is taken away");
    };
    assert!(!namespace.labels().contains_key(LABEL_RELEASED));
    assert_eq!(desired.root_password, Draw::Keep);
    assert!(desired.certificates.serving.ca_validity().is_some());
}

#[test]
fn deleting_removes_the_namespace_first_and_the_keys_only_when_it_is_gone() {
    let mut world = World::running(AWS);
    world.observed.cluster.spec.deletion_policy = vectorkeep_crds::DeletionPolicy::Delete;
    let namespace = world.observed.namespace.as_mut().expect("a namespace");
    namespace.metadata.uid = Some("uid-ns".into());
    world.delete();
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(!step.finished);
    assert_eq!(step.deletions.len(), 1);
    assert_eq!((step.deletions[0].kind, step.deletions[0].uid.as_str()), (DeletedKind::Namespace, "uid-ns"));

    world.observed.namespace = None;
    world.observed.children = None;
    let record = world.observed.custody.record.as_mut().expect("a record");
    record.metadata.uid = Some("uid-record".into());
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(step.finished);
    assert_eq!(step.deletions.len(), 4);
}

#[test]
fn a_foreign_namespace_survives_the_deletion_of_a_resource() {
    let mut world = World::new("{encryption: {local: {}}, deletionPolicy: Delete}");
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(world.identity().namespace);
    namespace.metadata.uid = Some("uid-foreign".into());
    world.observed.namespace = Some(namespace);
    world.hold(true);
    world.delete();
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(step.finished && step.deletions.is_empty());
}

#[test]
fn a_resource_that_says_anothers_cluster_id_takes_nothing_of_it_along() {
    let mut victim = World::running(AWS);
    let id = victim.identity().cluster_id;
    let mut thief = World::new(&format!("{AWS}\ndeletionPolicy: Delete\nclusterId: {id}"));
    thief.observed.cluster.metadata.namespace = Some("evil".into());
    thief.observed.cluster.metadata.finalizers = Some(vec![FINALIZER.into()]);
    thief.observed.namespace = victim.observed.namespace.clone();
    thief.observed.custody = victim.observed.custody.clone();
    assert_eq!(thief.identity().cluster_id, id);
    thief.delete();
    let Plan::TearDown(step) = thief.plan() else { panic!("not torn down") };
    assert!(step.deletions.is_empty(), "{:?}", step.deletions);
    assert_eq!(step.fleet, FleetChange::Keep);
    victim.delete();
    victim.observed.cluster.spec.deletion_policy = vectorkeep_crds::DeletionPolicy::Delete;
    victim.observed.namespace = None;
    victim.observed.children = None;
    victim.observed.custody.record.as_mut().expect("a record").metadata.uid = Some("uid-record".into());
    let Plan::TearDown(step) = victim.plan() else { panic!("not torn down") };
    assert_eq!(step.deletions.len(), 4, "its own go");
}
