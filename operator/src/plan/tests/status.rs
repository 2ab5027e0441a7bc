//! What is told of a cluster.

use super::*;

#[test]
fn a_refused_key_names_the_key_and_the_remedy() {
    let mut world = World::running(AWS);
    world.engine_says("Locked", "Refused");
    for type_ in [types::READY, types::KEY_ACCESSIBLE] {
        let condition = world.condition(type_);
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "KeyRefused"));
        for part in ["1234abcd-12ab", "role/vector", "kubectl vectorkeep key-policy -n acme support", "AccessDenied"] {
            assert!(condition.message.contains(part), "{part}");
        }
    }
    assert_eq!(world.condition(types::STALLED).status, "True");
    assert!(world.desired().stateful_set.is_keep());
}

#[test]
fn a_silent_kms_is_not_a_refusal() {
    let mut world = World::running(AWS);
    world.engine_says("Serving", "Unreachable");
    assert_eq!(world.condition(types::KEY_ACCESSIBLE).reason, "KeyUnreachable");
    assert_eq!(world.condition(types::STALLED).status, "False");
    assert_eq!(world.condition(types::RECONCILING).status, "True");
}

#[test]
fn a_local_key_is_called_development_only_loudly() {
    let world = World::running(LOCAL);
    let condition = world.condition(types::KEY_ACCESSIBLE);
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "DevelopmentKey"));
    assert!(condition.message.starts_with("DEVELOPMENT ONLY"));
}

#[test]
fn an_engine_that_does_not_answer_is_unknown_unless_it_has_only_just_become_ready() {
    for view in [EngineView::NotAsked, EngineView::Silent { reason: "no connection".into() }] {
        let mut world = World::running(AWS);
        world.observed.engine = view;
        let ready = world.condition(types::READY);
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "EngineStarting"));
        let look = world.desired().next_look.expect("to look again");
        let ready = world.now;
        world.now = look;
        assert_eq!(world.condition(types::READY).status, "Unknown");
        world.now = ready - SignedDuration::from_hours(24 * 365);
        assert_eq!(world.condition(types::READY).status, "Unknown", "a node's clock may be wrong by years");
        assert_eq!(world.condition(types::KEY_ACCESSIBLE).status, "Unknown");
    }
}

#[test]
fn a_pod_that_cannot_be_scheduled_is_told_with_its_reason() {
    let mut world = World::running(AWS);
    world.observed.engine = EngineView::NotAsked;
    world.children().stateful_set.as_mut().expect("a workload").status = None;
    world.children().pod = serde_yaml_ng::from_str(
        "{status: {conditions: [{type: PodScheduled, status: 'False', message: Insufficient memory}]}}",
    )
    .expect("a pod");
    let ready = world.condition(types::READY);
    assert_eq!(ready.reason, "EngineStarting");
    assert!(ready.message.contains("Insufficient memory"));
}
