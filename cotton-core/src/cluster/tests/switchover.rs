//! Handing over on purpose: in which order, when it is refused, and how it is taken back.

use super::world::{World, spec};
use crate::cluster::event::EventKind;
use crate::cluster::switchover::SwitchoverError;
use crate::protocol::{MemberRole, Trouble};
use crate::{ClusterSpec, Durability, Epoch, MemberId, Millis};

fn begun(world: &mut World, to: Option<u64>) -> (u64, u64) {
    let (from, to) = world.cluster.switchover(world.now, to.map(MemberId)).expect("it can be begun");
    (from.0, to.0)
}

fn refused(world: &mut World, to: Option<u64>) -> SwitchoverError {
    let before = world.cluster.revision();
    let error = world.cluster.switchover(world.now, to.map(MemberId)).expect_err("refused");
    assert_eq!(world.cluster.revision(), before, "and nothing was changed");
    error
}

fn state(world: &World) -> &'static str {
    world.cluster.view(world.now).switchover.expect("there was one").state
}

fn failures(world: &World) -> usize {
    world.logged(|kind| matches!(kind, EventKind::SwitchoverFailed { .. }))
}

fn losses(world: &World) -> usize {
    world.logged(|kind| matches!(kind, EventKind::PrimaryLost { .. }))
}

#[test]
fn it_goes_step_by_step() {
    let mut world = World::running(3);
    assert_eq!(begun(&mut world, None), (0, 1));
    assert_eq!(world.decided(), ["step down 0 in 1, turn 1"]);
    assert_eq!(state(&world), "under_way");
    world.obey_all();
    world.hear_all();
    assert_eq!(world.decided(), ["freeze 0 in 2", "freeze 1 in 2", "freeze 2 in 2"], "the candidate has it all");
    assert_eq!(world.published.as_ref().and_then(|p| p.primary), Some(MemberId(0)), "until another is open");
    world.obey_all();
    world.hear_all();
    assert_eq!(world.decided(), ["promote 1 in 2", "follow 2 to 1 in 2"]);
    world.obey_all();
    world.hear_all();
    assert_eq!(world.decided(), ["follow 0 to 1 in 2", "publish 2 primary 1 members 1"]);
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), world.toy(0).boot), (Some(1), 1), "not restarted");
    assert_eq!((state(&world), losses(&world), failures(&world)), ("done", 0, 0));
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::SwitchedOver { .. })), 1);
    assert_eq!(world.cluster.view(world.now).last_failover, None, "nothing failed");
    assert!(world.write());
}

/// It says that it is closed, and opens again by itself if it hears nothing more.
#[test]
fn without_acknowledgements_one_that_stepped_down_and_falls_silent_has_its_lease() {
    let mut world = World::running_as(ClusterSpec { durability: Durability::Async, ..spec(2) });
    assert_eq!(begun(&mut world, None), (0, 1));
    world.decided();
    world.obey_all();
    world.hear_all();
    assert_eq!(world.cluster.state().epoch, Epoch(2), "the candidate has it all");
    world.toy(0).reachable = false;
    world.rounds(8);
    assert_eq!(world.primary(), None, "it may have opened again: {:#?}", world.cluster.view(world.now));
    world.rounds(8);
    assert_eq!(world.primary(), Some(1), "{:#?}", world.cluster.view(world.now));
}

#[test]
fn who_is_asked_for_takes_over() {
    for size in [2, 3, 4] {
        let mut world = World::running(size);
        let last = u64::from(size) - 1;
        assert_eq!(begun(&mut world, Some(last)), (0, last));
        world.settle();
        world.check_whole();
        assert_eq!(world.primary(), Some(last));
        assert!(world.write());
        assert_eq!(begun(&mut world, Some(0)), (last, 0), "and back");
        world.settle();
        world.check_whole();
        assert_eq!((world.primary(), world.cluster.state().epoch), (Some(0), Epoch(3)));
    }
}

#[test]
fn what_cannot_work_is_refused_in_words() {
    let mut world = World::running(1);
    assert_eq!(refused(&mut world, None), SwitchoverError::Alone);

    let mut world = World::running(3);
    assert_eq!(refused(&mut world, Some(9)), SwitchoverError::NoMember(MemberId(9)));
    assert_eq!(refused(&mut world, Some(0)), SwitchoverError::IsPrimary(MemberId(0)));
    world.toy(1).lag_s = Some(60);
    world.toy(2).linked = false;
    world.replicate();
    world.say_all();
    world.hear_all();
    let error = refused(&mut world, Some(1));
    assert!(matches!(&error, SwitchoverError::NotReady { why, .. } if why == "it is 60 s behind"), "{error}");
    let error = refused(&mut world, None);
    let SwitchoverError::NoCandidate { why } = &error else { panic!("{error}") };
    assert_eq!(why, "member 1: it is 60 s behind; member 2: it is not connected to the primary, or not heard of");

    let mut world = World::running(3);
    begun(&mut world, Some(2));
    assert_eq!(refused(&mut world, None), SwitchoverError::UnderWay);
    world.settle();
    world.crash(2);
    world.hear_all();
    assert_eq!(refused(&mut world, None), SwitchoverError::NoPrimary);
}

#[test]
fn a_resting_member_is_no_candidate() {
    let mut world = World::new(spec(3));
    world.volumes = true;
    world.settle();
    assert!(world.write());
    world.settle();
    world.end_task(1);
    world.hear_all();
    let error = refused(&mut world, Some(1));
    assert!(matches!(&error, SwitchoverError::NotReady { why, .. } if why.contains("its task has ended")), "{error}");
    assert_eq!(begun(&mut world, None), (0, 2));
    world.settle();
    assert_eq!((world.primary(), state(&world)), (Some(2), "done"));
    assert!(world.offer_volume(1));
    world.settle();
    world.check_whole();
}

#[test]
fn a_primary_that_cannot_step_down_opens_again() {
    let mut world = World::running(3);
    world.toy(0).stays_open = true;
    begun(&mut world, None);
    assert_eq!(world.decided(), ["step down 0 in 1, turn 1"]);
    world.obey_all();
    for _ in 0..5 {
        world.pass(1_000);
        world.say_all();
        world.hear_all();
        world.persist();
        assert!(world.effects().iter().all(|words| *words == "step down 0 in 1, turn 1"), "again and again");
    }
    world.pass(1_000);
    assert_eq!(world.decided(), ["reopen 0 in 1, turn 2"]);
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(0), Epoch(1)));
    assert_eq!((state(&world), losses(&world), failures(&world)), ("failed", 0, 1));
    assert!(world.write());
    world.settle();
    world.toy(0).stays_open = false;
    begun(&mut world, None);
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), state(&world)), (Some(1), "done"), "the next one may succeed");
}

#[test]
fn a_candidate_that_does_not_catch_up_is_given_up() {
    let mut world = World::running(3);
    begun(&mut world, Some(2));
    world.toy(2).unapplied = 5;
    world.say_all();
    world.settle();
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(0), Epoch(1)));
    assert_eq!((state(&world), losses(&world), failures(&world)), ("failed", 0, 1));
    assert!(world.write());
}

#[test]
fn a_candidate_that_is_lost_is_given_up() {
    let mut world = World::running(3);
    begun(&mut world, Some(2));
    assert_eq!(world.decided(), ["step down 0 in 1, turn 1"]);
    world.crash(2);
    world.hear_all();
    assert_eq!(world.decided()[0], "reopen 0 in 1, turn 2", "at once");
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), state(&world), world.toy(0).boot), (Some(0), "failed", 1));
}

#[test]
fn a_primary_that_is_lost_on_the_way_is_replaced() {
    for stepped_down in [false, true] {
        let mut world = World::running(3);
        begun(&mut world, Some(2));
        world.persist();
        world.effects();
        if stepped_down {
            world.toy(2).unapplied = 1;
            world.say(MemberId(2));
            world.hear_all();
            world.obey_all();
            world.hear_all();
            assert_eq!(world.toy(0).role, MemberRole::SteppedDown);
            world.toy(2).unapplied = 0;
        }
        world.crash(0);
        world.settle();
        world.check_whole();
        assert_ne!(world.primary(), Some(0));
        assert_eq!((state(&world), losses(&world), failures(&world)), ("failed", 1, 1));
    }
}

#[test]
fn a_restarted_scheduler_takes_it_back() {
    for stepped_down in [false, true] {
        let mut world = World::running(3);
        begun(&mut world, Some(2));
        world.toy(2).unapplied = 1;
        world.say(MemberId(2));
        world.hear_all();
        assert_eq!(world.decided(), ["step down 0 in 1, turn 1"]);
        if stepped_down {
            world.obey_all();
        }
        world.up.clear();
        world.recover();
        world.toy(2).unapplied = 0;
        world.settle();
        world.check_whole();
        assert_eq!((world.primary(), world.cluster.state().epoch), (Some(0), Epoch(1)));
        assert_eq!((world.cluster.state().turn, state(&world)), (2, "failed"));
        assert!(world.write());
    }
}

fn goes(world: &mut World, agents: &[(&str, u64)]) {
    let agents = agents.iter().map(|(name, at)| ((*name).into(), Millis(*at))).collect();
    world.cluster.vacate(world.now, agents);
    world.settle();
}

#[test]
fn an_agent_that_is_to_be_taken_down_loses_its_primary() {
    let mut world = World::running(3);
    goes(&mut world, &[("a2", 100_000)]);
    assert_eq!(world.primary(), Some(0), "a replica is nothing to hand over");
    goes(&mut world, &[("a0", 100_000), ("a1", 100_000)]);
    world.check_whole();
    assert_eq!((world.primary(), losses(&world)), (Some(2), 0), "and not to one that goes, too");
    goes(&mut world, &[("a0", 100_000), ("a1", 100_000), ("a2", 100_000)]);
    assert_eq!((world.primary(), failures(&world)), (Some(2), 0), "there is nowhere to go");
    goes(&mut world, &[("a0", 100_000), ("a1", 100_900), ("a2", 100_500)]);
    assert_eq!((world.primary(), failures(&world)), (Some(2), 0), "nor if they are not told the very same time");
    goes(&mut world, &[("a2", 100_000)]);
    world.check_whole();
    assert_eq!(world.primary(), Some(0), "as soon as there is");
    goes(&mut world, &[("a0", 100_000), ("a1", 300_000), ("a2", 200_000)]);
    world.check_whole();
    assert_eq!(world.primary(), Some(1), "which stays longest");
}

#[test]
fn who_is_about_to_go_is_the_last_choice() {
    let mut world = World::running(3);
    goes(&mut world, &[("a1", 100_000)]);
    assert_eq!(begun(&mut world, None), (0, 2));
    world.settle();
    goes(&mut world, &[("a0", 100_000)]);
    world.crash(2);
    world.settle();
    world.check_whole();
    assert_eq!(world.primary(), Some(1), "of two that have the same");
    let error = refused(&mut world, Some(0));
    assert!(matches!(&error, SwitchoverError::NotReady { why, .. } if why.contains("taken down")), "{error}");
    goes(&mut world, &[("a0", 300_000), ("a1", 200_000), ("a2", 100_000)]);
    assert_eq!((world.primary(), failures(&world)), (Some(0), 0), "which stays longest");
}

#[test]
fn an_agent_that_wants_it_to_end_does_not_wait_for_another_ones_pause() {
    let mut world = World::running(3);
    goes(&mut world, &[("a0", 100_000)]);
    assert_eq!(world.primary(), Some(1));
    world.toy(1).asked_to_leave = true;
    world.say(MemberId(1));
    world.hear_all();
    assert!(world.decided()[0].starts_with("step down 1"), "at once");
}

#[test]
fn a_primary_that_is_open_again_is_left_alone() {
    let mut world = World::running(2);
    begun(&mut world, None);
    assert_eq!(world.decided(), ["step down 0 in 1, turn 1"]);
    world.kill(1); // nobody is there to hand over to, nor soon
    world.hear_all();
    world.obey_all();
    world.rounds(30);
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(0), Epoch(1)));
    assert!(!world.cluster.view(world.now).reasons.iter().any(|reason| reason.code.name() == "switchover"));
}

#[test]
fn who_is_to_open_again_gets_its_time_once_it_can_be_heard() {
    let mut world = World::running(3);
    begun(&mut world, None);
    assert_eq!(world.decided(), ["step down 0 in 1, turn 1"]);
    world.up.clear();
    world.down.clear(); // it never hears of that
    world.recover();
    world.up.clear();
    for _ in 0..60 {
        world.pass(1_000); // neither Mesos nor anybody else is heard
    }
    world.hear(crate::cluster::Input::Connected);
    world.reconcile_tasks();
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(0), Epoch(1)));
}

#[test]
fn an_order_to_open_again_that_does_not_arrive_ends_in_an_election() {
    let mut world = World::running(3);
    begun(&mut world, None);
    assert_eq!(world.decided(), ["step down 0 in 1, turn 1"]);
    world.obey_all();
    world.up.clear();
    world.toy(0).reachable = false; // it is read-only, its replicas are connected, and it was last heard of as the primary
    world.rounds(30);
    assert_ne!(world.cluster.state().primary, Some(MemberId(0)), "{:?}", world.reasons());
    world.toy(0).reachable = true;
    world.settle();
    world.check_whole();
    assert!(world.write());
}

#[test]
fn what_fails_again_and_again_is_tried_less_and_less() {
    let mut world = World::running(3);
    world.toy(0).stays_open = true;
    world.cluster.vacate(world.now, [("a0".into(), Millis(1_000))].into());
    let start = world.now;
    let mut attempts = Vec::new();
    while world.now.since(start) < 1_800_000 {
        let before = failures(&world);
        world.rounds(1);
        if failures(&world) > before {
            attempts.push(world.now.since(start) / 1000);
        }
    }
    let pauses: Vec<u64> = attempts.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.is_sorted() && pauses[0] >= 30 && (4..8).contains(&attempts.len()), "{attempts:?}");
}

#[test]
fn a_primary_whose_agent_wants_it_to_end_hands_over() {
    let mut world = World::running(3);
    world.toy(0).asked_to_leave = true;
    world.say(MemberId(0));
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), state(&world), losses(&world)), (Some(1), "done", 0));
    let error = refused(&mut world, Some(0));
    assert!(matches!(&error, SwitchoverError::NotReady { why, .. } if why == "its agent wants it to end"), "{error}");
}

#[test]
fn the_only_member_need_not_wait_for_anybody() {
    let mut world = World::running(1);
    world.toy(0).asked_to_leave = true;
    world.say(MemberId(0));
    world.hear_all();
    assert!(world.wanted().contains(&"let 0 go".to_owned()));
}

#[test]
fn failing_storage_is_left_while_that_still_works() {
    let mut world = World::running(3);
    world.toy(0).trouble = Some(Trouble::Storage { detail: "only 10 MiB left for data".to_owned() });
    world.say(MemberId(0));
    world.settle();
    assert_eq!((world.primary(), state(&world), losses(&world)), (Some(1), "done", 0));
}

#[test]
fn what_is_being_deleted_does_not_hand_over() {
    let mut world = World::running(3);
    begun(&mut world, None);
    world.cluster.delete(world.now);
    refused(&mut world, None);
    world.settle();
    assert!(world.gone);
}
