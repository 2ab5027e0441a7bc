//! Rotations of the CAs, from the first step to the last, among an engine and clients that lag behind.

mod play;

use proptest::prelude::*;
use vectorkeep_crds::{identity::client_host, well_known::ANNOTATION_ROTATE_CA};

use self::play::*;
use super::*;
use crate::{
    certificates::{AUTHORITY_LIFETIME, verify},
    plan::certificates::{Phase, Role},
};

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
