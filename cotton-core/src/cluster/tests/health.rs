//! What a cluster says of itself: complete copies, lag, commits that wait, silence, errant transactions.

use super::world::{World, spec};
use crate::cluster::Input;
use crate::cluster::event::EventKind;
use crate::cluster::view::ClusterStatus;
use crate::protocol::{MemberRole, Order, Trouble};
use crate::{ClusterSpec, Durability, Limits, MemberId};

fn status(world: &World) -> ClusterStatus {
    world.cluster.view(world.now).status
}

fn shown(world: &World) -> Vec<u64> {
    world.published.as_ref().map(|p| p.members.keys().map(|id| id.0).collect()).unwrap_or_default()
}

/// One more member, whose applier is far behind.
fn with_a_slow_fourth() -> World {
    let mut world = World::running(3);
    world.cluster.scale(world.now, &Limits::default(), 4).expect("room");
    world.place();
    world.persist();
    world.effects();
    let toy = world.toy(3);
    toy.unapplied = 5;
    world.mended(10);
    world
}

#[test]
fn what_is_only_received_is_no_complete_copy() {
    let mut world = with_a_slow_fourth();
    let member = world.cluster.state().members[&MemberId(3)].clone();
    assert!(!member.joined && member.received.is_some(), "{member:?}");
    assert_eq!(shown(&world), [0, 1, 2]);
    assert_eq!((status(&world), world.reasons()), (ClusterStatus::Degraded, vec!["member_unhealthy"]));
    let text = world.cluster.view(world.now).reasons[0].text.clone();
    assert!(text.contains("catching up, and has 5 transactions"), "{text}");
    // nor does it give copies
    world.cluster.scale(world.now, &Limits::default(), 5).expect("room");
    world.mended(5);
    let Some(Order::Follow { donors, .. }) = world.toy(4).order.clone() else { panic!("it follows") };
    let hosts: Vec<&str> = donors.iter().map(|donor| donor.host.as_str()).collect();
    assert_eq!(hosts, ["h1", "h2", "h0"]);

    let data = world.toy(3).data.clone();
    (world.toy(3).unapplied, world.toy(3).applied) = (0, data);
    world.mended(5);
    assert!(world.cluster.state().members[&MemberId(3)].joined);
    assert_eq!((status(&world), shown(&world)), (ClusterStatus::Healthy, vec![0, 1, 2, 3, 4]));
}

#[test]
fn who_comes_later_begins_with_a_copy() {
    let copies = |world: &mut World, id: u64| match world.toy(id).order.clone() {
        Some(Order::Follow { copy, .. }) => copy,
        other => panic!("member {id} is told {other:?}"),
    };
    let mut world = World::running(3);
    assert!(!copies(&mut world, 1) && !copies(&mut world, 2), "what was ever done can be done here as well");
    world.cluster.scale(world.now, &Limits::default(), 4).expect("room");
    world.mended(5);
    assert!(copies(&mut world, 3));
    world.crash(3);
    world.mended(5);
    assert!(!copies(&mut world, 3), "it has a copy");
}

#[test]
fn a_copy_is_complete_with_what_the_primary_has_when_it_is_asked() {
    let mut world = with_a_slow_fourth();
    let mark = world.toy(3).data.clone();
    for _ in 0..5 {
        assert!(world.write());
        world.rounds(1);
    }
    // still behind, and further than it was; but all that was there when it came is applied
    (world.toy(3).unapplied, world.toy(3).applied) = (5, mark);
    world.rounds(3);
    assert!(world.cluster.state().members[&MemberId(3)].joined);
    assert!(world.logged(|kind| *kind == EventKind::Joined { member: MemberId(3) }) == 1);
}

/// Two members without acknowledgements: the first is lost while the second has all it had, and is applying it.
pub(super) fn lost_while_the_other_applies(restarts: bool) -> World {
    let mut world = World::new(spec(2));
    world.place();
    world.persist();
    world.effects();
    world.toy(1).reachable = false;
    world.mended(5);
    assert!(world.write());
    (world.toy(1).reachable, world.toy(1).unapplied) = (true, 5);
    world.mended(10);
    assert!(!world.cluster.state().members[&MemberId(1)].joined, "{:?}", world.cluster.state());
    if restarts {
        world.crash(1);
        world.restart(1);
        world.toy(1).still = true;
        world.rounds(1);
    }
    world.kill(0);
    for _ in 0..90 {
        world.persist();
        world.effects();
        world.rounds(1);
    }
    world
}

#[test]
fn who_has_received_everything_can_be_elected() {
    let world = lost_while_the_other_applies(false);
    assert_eq!(world.primary(), Some(1), "{:#?}", world.cluster.view(world.now));
}

#[test]
fn who_has_lost_what_it_had_only_received_cannot() {
    let world = lost_while_the_other_applies(true);
    assert_eq!(
        (world.primary(), world.reasons()),
        (None, vec!["election_waits", "member_missing", "member_unhealthy"])
    );
}

#[test]
fn a_replica_that_is_far_behind_makes_its_cluster_degraded_and_is_named() {
    let mut world = World::running(3);
    let data = world.toy(2).data.clone();
    (world.toy(2).unapplied, world.toy(2).applied) = (7, data);
    for seconds in 1..=60 {
        assert!(world.write());
        world.rounds(1);
        let view = world.cluster.view(world.now);
        if seconds < 28 {
            assert_eq!(view.status, ClusterStatus::Healthy, "after {seconds} s");
        } else if seconds > 34 {
            assert_eq!((view.status, world.reasons()), (ClusterStatus::Degraded, vec!["member_lagging"]));
            let text = &view.reasons[0].text;
            assert!(text.starts_with("member 2: ") && text.contains(" s behind the primary"), "{text}");
            let lag_s = view.members[2].lag_s.expect("known");
            assert!((seconds - 3..=seconds).contains(&lag_s), "{lag_s} s after {seconds} s");
            assert!(!view.members[2].healthy && view.members[1].healthy && view.members[1].lag_s == Some(0));
        }
    }
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::Lagging { member: MemberId(2), .. })), 1);
    world.toy(2).unapplied = 0;
    world.rounds(2);
    assert_eq!((status(&world), world.reasons()), (ClusterStatus::Healthy, vec![]));
    assert_eq!(world.logged(|kind| *kind == EventKind::CaughtUp { member: MemberId(2) }), 1);
}

#[test]
fn what_a_server_says_of_a_lag_counts_until_it_has_applied_everything() {
    let mut world = World::running(3);
    world.toy(1).lag_s = Some(87);
    world.rounds(2);
    assert_eq!(world.reasons(), Vec::<&str>::new(), "it has all there is");
    let data = world.toy(1).data.clone();
    (world.toy(1).unapplied, world.toy(1).applied) = (3, data);
    assert!(world.write());
    world.rounds(2);
    assert_eq!(world.reasons(), ["member_lagging"]);
    let lag_s = world.cluster.view(world.now).members[1].lag_s;
    assert_eq!(lag_s, Some(87));
}

#[test]
fn commits_that_nobody_acknowledges_are_blocked() {
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).still = true; // frozen, and still connected
    }
    *world.toy(0).data.entry(0).or_insert(0) += 1;
    world.toy(0).waiting = 2;
    world.rounds(2);
    assert_eq!(status(&world), ClusterStatus::Healthy, "for a moment that is how commits are");
    world.rounds(5);
    assert_eq!((status(&world), world.reasons()), (ClusterStatus::Blocked, vec!["waiting_for_ack"]));
    let text = world.cluster.view(world.now).reasons[0].text.clone();
    assert!(text.contains("2 sessions"), "{text}");
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::CommitsWait { .. })), 1);
    for id in [1, 2] {
        world.toy(id).still = false;
    }
    world.toy(0).waiting = 0;
    world.rounds(2);
    assert_eq!((status(&world), world.reasons()), (ClusterStatus::Healthy, vec![]));
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::CommitsGoOn { .. })), 1);
    assert_eq!(world.cluster.state().epoch, crate::Epoch(1), "and nobody was replaced for it");
}

/// Commits of many clients wait all the time; as long as others follow, they get through.
#[test]
fn commits_that_get_through_are_not_blocked() {
    let mut world = World::running(3);
    world.toy(0).waiting = 5;
    for _ in 0..20 {
        assert!(world.write());
        world.rounds(1);
        assert_eq!(status(&world), ClusterStatus::Healthy);
    }
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::CommitsWait { .. })), 0);
}

#[test]
fn without_a_connected_replica_commits_wait_and_that_is_told() {
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).linked = false;
    }
    world.rounds(6);
    assert_eq!(status(&world), ClusterStatus::Blocked);
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::CommitsWait { .. })), 1);
}

#[test]
fn silence_is_told_once_and_so_is_its_end() {
    let mut world = World::running(3);
    world.toy(1).reachable = false;
    world.rounds(30);
    let of = |id| move |kind: &EventKind| matches!(kind, EventKind::Silent { member, .. } if *member == MemberId(id));
    assert_eq!((world.logged(of(1)), world.logged(of(2))), (1, 0));
    world.toy(1).reachable = true;
    world.rounds(2);
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::HeardAgain { member: MemberId(1), .. })), 1);
    // a primary from which others replicate stays one
    world.toy(0).reachable = false;
    world.rounds(10);
    let told = |kind: &EventKind| matches!(kind, EventKind::Silent { member: MemberId(0), primary: true, .. });
    assert_eq!((world.logged(told), world.cluster.state().epoch), (1, crate::Epoch(1)));
}

#[test]
fn while_nobody_can_be_heard_nobody_is_silent() {
    let mut world = World::running(3);
    world.hear(Input::Disconnected);
    for id in 0..3 {
        world.toy(id).reachable = false;
    }
    world.rounds(30);
    let silent = |kind: &EventKind| matches!(kind, EventKind::Silent { .. });
    assert_eq!(world.logged(silent), 0);
    world.hear(Input::Connected);
    world.rounds(10);
    assert_eq!(world.logged(silent), 3, "now they could be heard");
}

#[test]
fn what_somebody_wrote_on_a_replica_is_seen_while_all_is_well() {
    let mut world = World::running(2);
    let toy = world.toy(1);
    toy.still = true;
    toy.data.insert(2, 1);
    world.rounds(5);
    let seen = |kind: &EventKind| matches!(kind, EventKind::ErrantSeen { member: MemberId(1), .. });
    assert_eq!((world.logged(seen), status(&world)), (1, ClusterStatus::Degraded));
    assert!(world.reasons().contains(&"member_leaving"), "{:?}", world.reasons());
    let view = world.cluster.view(world.now);
    let errant = view.members[1].errant.clone().expect("seen");
    assert!(errant.ends_with("-000000000002:1") && view.members[0].errant.is_none(), "{errant}");
    assert!(!view.members[1].healthy && view.members[0].healthy);
    let replaced = |world: &World| world.cluster.state().members[&MemberId(1)].leaving.is_some();
    assert!(replaced(&world) && world.toys.contains_key(&MemberId(1)), "the only replica stays until there is another");
    world.rounds(300);
    assert!(world.toys.contains_key(&MemberId(1)), "where there is no place for another, that is for ever");
    world.mended(20);
    assert!(!world.toys.contains_key(&MemberId(1)));
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::Leaving { member: MemberId(1), .. })), 1);
    assert_eq!((world.reasons(), world.cluster.state().epoch), (vec![], crate::Epoch(1)));
}

/// The only replica stays until there is another; one that was written to before it ever followed would never be that.
#[test]
fn a_newcomer_that_somebody_writes_on_is_replaced_although_another_is_being_replaced() {
    let mut world = World::running(2);
    let toy = world.toy(1);
    toy.still = true;
    toy.data.insert(2, 1);
    world.rounds(5);
    world.place();
    world.persist();
    world.effects();
    world.toy(2).data.insert(3, 1);
    world.rounds(5);
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::Leaving { member: MemberId(2), .. })), 1);
    world.settle();
    world.check_whole();
    assert_eq!(world.cluster.state().members.keys().map(|id| id.0).collect::<Vec<_>>(), [0, 3]);
}

#[test]
fn nobody_is_given_a_copy_of_what_is_wrong() {
    let mut world = World::running(4);
    let primary = world.cluster.state().members[&MemberId(0)].endpoint.clone();
    let donors = |world: &World| world.cluster.donors(MemberId(3), &primary).len();
    assert_eq!(donors(&world), 3);
    let toy = world.toy(1);
    toy.still = true;
    toy.data.insert(2, 1);
    world.rounds(3);
    assert_eq!(donors(&world), 2, "somebody wrote there");
    world.toy(2).trouble = Some(Trouble::Broken { detail: "1032".to_owned() });
    world.say(MemberId(2));
    world.hear_all();
    assert_eq!(donors(&world), 1, "the primary's is right");
}

#[test]
fn errant_replicas_are_replaced_one_after_another() {
    let mut world = World::running(3);
    for id in [1, 2] {
        let toy = world.toy(id);
        toy.still = true;
        toy.data.insert(id, 1);
    }
    for _ in 0..60 {
        world.mended(1);
        let view = world.cluster.view(world.now);
        assert_ne!(view.status, ClusterStatus::Blocked, "{:?}", view.reasons);
        assert!(view.members.iter().filter(|member| member.leaving).count() <= 1);
    }
    assert!(!world.toys.contains_key(&MemberId(1)) && !world.toys.contains_key(&MemberId(2)));
    assert_eq!((world.reasons(), world.cluster.state().epoch), (vec![], crate::Epoch(1)));
}

/// With acknowledgements there is a commit only while somebody follows: the only replica goes on until another can.
#[test]
fn the_only_replica_is_replaced_and_commits_never_wait() {
    let spec = ClusterSpec { durability: Durability::SemiSync, ..spec(2) };
    let mut world = World::running_as(spec);
    let toy = world.toy(1);
    toy.still = true;
    toy.data.insert(1, 1);
    for _ in 0..40 {
        world.mended(1);
        assert!(world.write(), "{:?}", world.cluster.view(world.now).reasons);
    }
    assert_eq!(world.cluster.state().members.keys().map(|id| id.0).collect::<Vec<_>>(), [0, 2]);
    assert_eq!((world.reasons(), world.cluster.state().epoch), (vec![], crate::Epoch(1)));
}

/// Found when they are told to follow another primary, after a failover.
#[test]
fn replicas_that_refuse_to_follow_are_replaced_one_after_another() {
    let mut world = World::running(5);
    for id in [2, 3, 4] {
        world.toy(id).data.insert(id, 1);
    }
    let mut most = 0;
    for _ in 0..60 {
        let members = &world.cluster.state().members;
        most = most.max(members.values().filter(|member| member.leaving.is_some()).count());
        world.mended(1);
        assert!(world.write(), "{:?}", world.cluster.view(world.now).reasons);
    }
    assert_eq!(most, 1);
    assert_eq!(world.cluster.state().members.keys().map(|id| id.0).collect::<Vec<_>>(), [0, 1, 5, 6, 7]);
    assert_eq!(world.reasons(), Vec::<&str>::new());
}

/// A broken replica stays until another one is complete. No other one ever is, if that needs the place of one that does not
/// follow (simulator, seed 14841).
#[test]
fn one_that_refuses_to_follow_does_not_wait_for_one_that_stays_until_another_is_complete() {
    use crate::protocol::Trouble;
    let mut world = World::running(3);
    let leaves = |world: &World| {
        let members = world.cluster.state().members.iter().filter(|(_, member)| member.leaving.is_some());
        members.map(|(id, _)| id.0).collect::<Vec<_>>()
    };
    world.toy(2).linked = false;
    world.rounds(1);
    world.toy(1).trouble = Some(Trouble::Broken { detail: "1032".to_owned() });
    world.toy(2).trouble = Some(Trouble::Unstable { detail: "no luck".to_owned() });
    world.rounds(20);
    assert_eq!(leaves(&world), [1], "its data may be needed: {:?}", world.reasons());
    world.toy(2).trouble = Some(Trouble::Errant { gtids: "0-2-7".to_owned() });
    world.rounds(20);
    assert!(!world.toys.contains_key(&MemberId(2)), "{:?}", world.reasons());
    world.settle();
    world.check_whole();
}

/// Nobody is there to acknowledge, and the only agents are taken: the first of them gives up its place.
#[test]
fn replicas_that_refuse_to_follow_do_not_wait_for_a_member_that_finds_no_place() {
    let mut world = World::running(3);
    world.kill(2);
    world.hear_all();
    world.toy(1).data.insert(1, 1);
    world.rounds(15);
    assert!(!world.cluster.state().members.contains_key(&MemberId(1)));
    world.settle();
    world.check_whole();
}

/// Replicas report before the primary does, and are ahead of its latest report.
#[test]
fn what_is_under_way_is_not_errant() {
    let mut world = World::running(3);
    for _ in 0..30 {
        assert!(world.write());
        world.replicate();
        for id in [1, 2] {
            world.say(MemberId(id));
        }
        world.hear_all();
        world.pass(500);
        assert!(world.write());
        world.say(MemberId(0));
        world.hear_all();
        world.rounds(1);
    }
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::ErrantSeen { .. })), 0);
    assert_eq!(world.reasons(), Vec::<&str>::new());
}

/// It receives, and so acknowledges, although it cannot apply. Whenever it tries again, it is not connected for a moment.
#[test]
fn the_only_replica_that_cannot_apply_goes_on_while_its_successor_takes_a_copy() {
    let mut world = World::running_as(ClusterSpec { durability: Durability::SemiSync, ..spec(2) });
    world.toy(1).trouble = Some(Trouble::Broken { detail: "1950".to_owned() });
    world.rounds(1);
    assert!(world.cluster.state().members[&MemberId(1)].leaving.is_some());
    world.place();
    world.persist();
    world.effects();
    for connected in [true, false, true, false] {
        world.toy(1).role = MemberRole::Following { connected };
        world.toy(2).linked = false; // it takes a copy
        world.rounds(20);
        assert!(!matches!(world.toy(1).order, Some(Order::Detach)), "nobody else acknowledges");
    }
    world.toy(2).linked = true;
    world.settle();
    assert_eq!((status(&world), world.toys.contains_key(&MemberId(1))), (ClusterStatus::Healthy, false));
}

#[test]
fn where_there_is_no_room_for_a_successor_it_gives_up_its_own() {
    let mut world = World::running_as(ClusterSpec { durability: Durability::SemiSync, ..spec(2) });
    world.toy(1).trouble = Some(Trouble::Broken { detail: "1950".to_owned() });
    world.rounds(20);
    assert!(!matches!(world.toy(1).order, Some(Order::Detach)), "there may be room in a moment");
    world.rounds(60);
    assert!(!world.toys.contains_key(&MemberId(1)), "{:#?}", world.cluster.view(world.now));
}
