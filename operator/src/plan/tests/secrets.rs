//! Certificates, passwords and keys.

use super::*;

#[test]
fn certificates_are_renewed_at_two_thirds_and_not_before() {
    let mut world = World::running(AWS);
    world.now += SignedDuration::from_hours(59 * 24);
    assert!(is_quiet(&world.desired(), &world.observed));
    world.now += SignedDuration::from_hours(48);
    let certificates = world.desired().certificates;
    let own = certificates.serving.own().expect("its own CA signs");
    for leaf in [&own.leaf, &certificates.internal, &certificates.operator_client] {
        assert!(matches!(leaf, LeafChange::Make { replaces: Some(_), .. }), "{leaf:?}");
    }
    assert!(own.ca.validity().is_some());
    world.settle();
    // The engine still shows the certificate before.
    assert_eq!(world.condition(types::CERTIFICATES_VALID).reason, "Reloading");
}

#[test]
fn a_lost_ca_is_made_anew_with_its_certificates_and_published_again() {
    let mut world = World::running(AWS);
    world.observed.custody.serving_ca = None;
    let certificates = world.desired().certificates;
    assert!(matches!(certificates.serving.own().expect("its own CA signs").leaf, LeafChange::Make { .. }));
    assert!(matches!(certificates.internal, LeafChange::Keep { .. }));
    world.carry_out(*world.desired());
    let refresh = |world: &World| world.desired().connection.expect("a right to publish").refresh_authority;
    assert!(!refresh(&world), "clients that trust it alone would refuse what the engine still shows");
    world.start_engine();
    assert!(refresh(&world));
}

#[test]
fn a_drawn_password_is_never_drawn_again() {
    let mut world = World::running(LOCAL);
    world.children().root_password = Some(secret([]));
    assert_eq!(world.desired().root_password, Draw::Keep);
}

#[test]
fn a_damaged_local_key_is_left_for_a_person_to_restore() {
    let mut world = World::running(LOCAL);
    world.children().local_key = Some(secret([("key", b"short".as_slice())]));
    let Plan::Refuse(refused) = world.plan() else {
        panic!("expected a refusal");
    };
    assert!(refused.refusal.to_string().contains("restore it from a backup"));
}
