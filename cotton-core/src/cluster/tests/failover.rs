//! How a loss is noticed, and what follows from it in which order.

use super::world::{World, status};
use crate::cluster::Input;
use crate::cluster::event::EventKind;
use crate::ports::mesos::TaskState;
use crate::protocol::{MemberRole, Trouble};
use crate::{ClusterStatus, Epoch, MemberId};

fn members(ids: impl IntoIterator<Item = u64>) -> std::collections::BTreeSet<MemberId> {
    ids.into_iter().map(MemberId).collect()
}

#[test]
fn a_server_that_is_down_is_replaced_step_by_step() {
    let mut world = World::running(3);
    world.crash(0);
    world.hear_all();
    assert_eq!(world.decided(), ["freeze 0 in 2", "freeze 1 in 2", "freeze 2 in 2"]);
    assert_eq!(world.durable.as_ref().map(|s| (s.epoch, s.primary)), Some((Epoch(2), None)));
    let messages: Vec<_> = world.down.drain(..).collect();
    for (id, message) in messages.into_iter().skip(1) {
        world.obey(id, message);
    }
    let second = world.up.pop_back().expect("member 2 reports");
    world.hear_all();
    assert_eq!(world.decided(), Vec::<String>::new(), "member 2 may have what member 1 lacks");
    world.hear(second);
    assert_eq!(world.decided(), ["promote 1 in 2", "follow 2 to 1 in 2"]);
    assert_eq!(world.cluster.state().witnesses, members([0, 1]), "until the new one is known to have opened");
    assert_eq!(world.published.as_ref().and_then(|p| p.primary), Some(MemberId(0)), "not before it is writable");
    world.obey_all();
    world.hear_all();
    assert_eq!(world.decided(), ["follow 0 to 1 in 2", "publish 2 primary 1 members 1"]);
    assert_eq!(world.cluster.state().witnesses, members([1]));
    world.restart(0);
    world.settle();
    world.check_whole();
    assert_eq!(world.primary(), Some(1));
    let timeline = world.cluster.view(world.now).last_failover.expect("there was one");
    assert_eq!((timeline.from, timeline.to, timeline.epoch), (Some(MemberId(0)), MemberId(1), Epoch(2)));
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::FailedOver { .. })), 1);
}

#[test]
fn a_task_that_ended_is_replaced_at_once() {
    for state in [TaskState::Failed, TaskState::Killed, TaskState::Finished, TaskState::Lost, TaskState::Dropped] {
        let mut world = World::running(3);
        world.toys.remove(&MemberId(0));
        world.hear(status(MemberId(0), state));
        assert_eq!(world.decided(), ["freeze 1 in 2", "freeze 2 in 2"], "nothing is sent to the dead");
        world.settle();
        world.check_whole();
        assert_eq!(world.primary(), Some(1));
        assert!(world.cluster.state().members.contains_key(&MemberId(3)), "another took its place");
    }
}

#[test]
fn the_winner_has_what_was_acknowledged() {
    for holder in [1, 2] {
        let mut world = World::running(3);
        world.toy(3 - holder).linked = false; // lags
        world.replicate();
        world.hear_all();
        assert!(world.write());
        world.crash(0);
        world.toy(3 - holder).linked = true;
        world.settle();
        world.check_whole();
        assert_eq!(world.primary(), Some(holder));
    }
}

#[test]
fn a_silent_primary_is_dead_when_its_replicas_lost_it() {
    let mut world = World::running(3);
    world.toy(0).reachable = false;
    world.toy(0).linked = false;
    world.replicate();
    world.hear_all();
    world.pass(5_000);
    world.persist();
    assert_eq!(world.effects(), ["publish 1 primary 0 members 0"], "not silent for long");
    world.say_all();
    world.hear_all();
    world.pass(1_100);
    assert_eq!(world.decided()[..3], ["freeze 0 in 2", "freeze 1 in 2", "freeze 2 in 2"]);
    world.settle();
    assert_eq!(world.primary(), Some(1));
}

#[test]
fn a_silent_primary_lives_while_a_replica_follows_it() {
    let mut world = World::running(3);
    world.toy(0).reachable = false;
    world.toy(1).role = MemberRole::Following { connected: false };
    for _ in 0..60 {
        world.say_all();
        world.hear_all();
        world.pass(1_000);
    }
    assert_eq!(world.cluster.state().epoch, Epoch(1), "one of the two still replicates from it");
    for toy in [1, 2] {
        world.toy(toy).reachable = false;
    }
    for _ in 0..60 {
        world.pass(1_000);
    }
    assert_eq!(world.cluster.state().epoch, Epoch(1), "nobody says that it is dead: it is we who are cut off");
}

#[test]
fn what_was_believed_before_a_pause_of_ours_is_no_evidence() {
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).role = MemberRole::Following { connected: false };
    }
    world.now = world.now.after(60_000); // no connection, and no time passed for the machine
    world.hear(Input::Connected);
    world.say(MemberId(1));
    world.say(MemberId(2));
    world.hear_all();
    assert_eq!(world.cluster.state().epoch, Epoch(1), "the primary gets its time to be heard");
    world.pass(6_000);
    world.say(MemberId(1));
    world.hear_all();
    assert_eq!(world.cluster.state().epoch, Epoch(2));
}

#[test]
fn the_old_primary_alone_is_witness_enough() {
    let mut world = World::running(3);
    world.toy(1).reachable = false;
    world.toy(2).reachable = false;
    world.crash(0);
    world.restart(0);
    world.pass(7_000);
    world.hear_all();
    world.persist();
    world.effects();
    world.obey_all();
    world.hear_all();
    world.persist();
    assert!(world.effects().contains(&"promote 0 in 2".to_owned()), "whoever acknowledged, it has what they have");
}

#[test]
fn one_replica_alone_is_not_enough_and_it_says_so() {
    let mut world = World::running(3);
    world.toy(2).reachable = false;
    world.kill(0);
    world.hear_all();
    for _ in 0..70 {
        world.persist();
        world.effects();
        world.obey_all();
        world.say_all();
        world.hear_all();
        world.pass(1_000);
    }
    let view = world.cluster.view(world.now);
    assert_eq!((view.status, view.primary), (ClusterStatus::Waiting, None));
    assert_eq!(
        view.reasons[0].text,
        "member 2 may have acknowledged commits that no other member has, and does not answer; waiting for members 0, 2"
    );
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::ElectionWaits { .. })), 1, "told once");
    assert_eq!(world.published.as_ref().and_then(|p| p.primary), None, "nor is the dead one shown for ever");
    world.toy(2).reachable = true;
    world.settle();
    world.check_whole();
}

#[test]
fn availability_does_not_wait_longer_than_the_deadline() {
    let mut spec = super::spec(3);
    spec.preference = crate::Preference::Availability;
    let mut world = World::running_as(spec);
    world.acknowledged.clear(); // what is chosen here is that it may be lost
    world.toy(2).reachable = false;
    world.kill(0);
    world.hear_all();
    for second in 0..62 {
        assert!(second < 60 || world.cluster.state().primary.is_none() || second > 58, "not before");
        world.persist();
        world.effects();
        world.obey_all();
        world.say_all();
        world.hear_all();
        world.pass(1_000);
    }
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
}

#[test]
fn a_replica_that_restarts_in_an_election_may_have_lost_what_it_acknowledged() {
    let mut world = World::running(3);
    world.toy(2).linked = false;
    world.replicate();
    assert!(world.write(), "member 1 acknowledged it");
    world.toy(2).linked = true;
    let lost = world.toy(0).clone();
    world.kill(0);
    world.crash(1); // and had not applied it
    world.restart(1);
    world.hear_all();
    for _ in 0..20 {
        world.persist();
        world.effects();
        world.obey_all();
        world.say_all();
        world.hear_all();
        world.pass(1_000);
    }
    assert_eq!(world.cluster.state().primary, None, "no frozen member has it: {lost:?}");
    assert_eq!(world.reasons()[0], "election_waits");
}

#[test]
fn a_winner_that_dies_before_it_opens_leaves_a_floor() {
    let mut world = World::running(3);
    world.toy(2).linked = false;
    world.replicate();
    assert!(world.write(), "members 0 and 1 have it, member 2 lacks it");
    world.toy(2).linked = true;
    world.crash(0);
    world.hear_all();
    world.persist();
    world.effects();
    world.obey_all();
    world.hear_all();
    assert_eq!(world.decided()[0], "promote 1 in 2");
    world.down.clear();
    world.toy(1).reachable = false; // and is not heard of again
    let alone = world.toy(0).clone();
    world.toy(0).reachable = false;
    for _ in 0..30 {
        world.say_all();
        world.hear_all();
        world.pass(1_000);
        world.persist();
        world.effects();
        world.obey_all();
    }
    assert!(world.cluster.state().epoch > Epoch(2), "it never opened");
    assert_eq!(world.cluster.state().primary, None);
    let reason = world.cluster.view(world.now).reasons[0].text.clone();
    assert!(reason.contains("lacks commits that were acknowledged before; waiting for members 0, 1"), "{reason}");
    *world.toy(0) = alone;
    world.restart(0);
    world.settle();
    assert_eq!(world.primary(), Some(0), "the old primary has them");
}

#[test]
fn a_server_restarted_behind_our_back_has_lost_its_term() {
    let mut world = World::running(3);
    world.toy(0).restart();
    world.say(MemberId(0));
    world.hear_all();
    assert_eq!(world.cluster.state().epoch, Epoch(2));
    world.settle();
    world.check_whole();
}

#[test]
fn a_primary_that_forgot_its_epoch_has_lost_its_term() {
    let mut world = World::running(3);
    let toy = world.toy(0);
    toy.restart();
    toy.rank = None;
    world.say(MemberId(0));
    world.hear_all();
    assert_eq!(world.cluster.state().epoch, Epoch(2), "promoted again under the same epoch, it could lack commits");
}

#[test]
fn a_primary_that_cannot_open_is_given_up() {
    let mut world = World::running(3);
    world.crash(0);
    world.hear_all();
    world.persist();
    world.effects();
    world.obey_all();
    world.hear_all();
    assert_eq!(world.decided()[0], "promote 1 in 2");
    world.down.clear();
    let toy = world.toy(1);
    toy.rank = Some((Epoch(2), crate::protocol::Stage::Decided));
    toy.role = MemberRole::Promoting;
    toy.trouble = Some(Trouble::Storage { detail: "no space left".to_owned() });
    for _ in 0..59 {
        world.say_all();
        world.hear_all();
        world.pass(1_000);
        assert_eq!(world.cluster.state().epoch, Epoch(2));
    }
    world.pass(2_000);
    assert_eq!(world.cluster.state().epoch, Epoch(3));
    world.restart(0);
    world.hear_all();
    world.persist();
    world.effects();
    let messages: Vec<_> = world.down.drain(..).collect();
    for (id, message) in messages {
        world.obey(id, message);
        world.toys.get_mut(&MemberId(1)).expect("it lives").trouble =
            Some(Trouble::Storage { detail: "no space left".to_owned() });
    }
    world.say_all();
    world.hear_all();
    assert_eq!(world.cluster.state().primary, Some(MemberId(0)), "among equals the one with room");
}

#[test]
fn members_that_obey_a_higher_epoch_show_that_the_state_is_old() {
    let mut world = World::running(3);
    world.toy(2).rank = Some((Epoch(7), crate::protocol::Stage::Freeze));
    world.say(MemberId(2));
    world.hear_all();
    assert_eq!(world.cluster.state().epoch, Epoch(8));
    world.settle();
    world.check_whole();
}

#[test]
fn stale_repeated_and_foreign_reports_change_nothing() {
    let mut world = World::running(3);
    let old = world.toy(0).report();
    world.say_all();
    let news: Vec<Input> = world.up.iter().cloned().collect();
    world.hear_all();
    let before = (world.cluster.revision(), world.cluster.state().clone());
    for input in news {
        world.hear(input);
    }
    world.hear(Input::Report {
        member: MemberId(0),
        report: Box::new(crate::protocol::Report { role: MemberRole::Idle, ..old.clone() }),
    });
    world.hear(Input::Report { member: MemberId(9), report: Box::new(old) });
    world.hear(status(MemberId(9), TaskState::Failed));
    world.hear(Input::Withdrawn);
    assert_eq!((world.cluster.revision(), world.cluster.state().clone()), before);
    assert_eq!(world.effects(), Vec::<String>::new());
}

#[test]
fn two_that_diverge_from_one_primary_are_a_split_brain() {
    let mut world = World::running(3);
    world.toy(1).data.insert(1, 5);
    world.toy(2).data.insert(2, 5);
    world.crash(0);
    for id in [1, 2] {
        world.say(MemberId(id));
    }
    world.hear_all();
    for _ in 0..10 {
        world.persist();
        world.effects();
        world.obey_all();
        world.say_all();
        world.hear_all();
        world.pass(1_000);
    }
    assert_eq!(world.cluster.state().primary, None);
    let reason = world.cluster.view(world.now).reasons[0].text.clone();
    assert!(reason.starts_with("split brain: members 1 and 2"), "{reason}");
}

#[test]
fn orders_of_an_epoch_that_is_over_do_not_leave() {
    let mut world = World::running(3);
    world.crash(0);
    world.hear_all();
    world.persist();
    world.effects();
    world.obey_all();
    world.hear_all(); // elects member 1, which is not saved yet
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
    world.crash(1);
    world.hear_all();
    let decided = world.decided();
    assert!(!decided.iter().any(|words| words.starts_with("promote") || words.starts_with("follow")), "{decided:?}");
}

fn say_for(world: &mut World, seconds: u64, mut between: impl FnMut(&mut World)) {
    for _ in 0..seconds {
        between(world);
        world.replicate();
        world.say_all();
        world.hear_all();
        world.pass(1_000);
    }
}

#[test]
fn a_primary_whose_sessions_wait_for_lost_acknowledgements_is_replaced() {
    let mut world = World::running(3);
    assert!(world.write());
    world.replicate();
    world.toy(0).waiting = 2;
    say_for(&mut world, 3, |_| {});
    assert_eq!(world.cluster.state().epoch, Epoch(1), "an acknowledgement may be under way");
    say_for(&mut world, 2, |_| {});
    assert_eq!(world.cluster.state().epoch, Epoch(2));
    world.settle();
    world.check_whole();
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::PrimaryLost { .. })), 1);
    // it would not help again at once
    let next = world.primary().expect("it is whole");
    world.toy(next).waiting = 1;
    say_for(&mut world, 15, |_| {});
    assert_eq!(world.cluster.state().epoch, Epoch(2));
    say_for(&mut world, 60, |_| {});
    assert_eq!(world.cluster.state().epoch, Epoch(3));
}

#[test]
fn a_busy_primary_and_one_whose_replicas_lag_are_left_alone() {
    let mut world = World::running(3);
    world.toy(0).waiting = 5;
    say_for(&mut world, 20, |world| assert!(world.write()));
    assert_eq!(world.cluster.state().epoch, Epoch(1), "there are always some that wait, but not the same");
    for replica in [1, 2] {
        world.toy(replica).linked = false;
        world.say(MemberId(replica));
    }
    *world.toy(0).data.entry(0).or_default() += 1;
    say_for(&mut world, 20, |_| {});
    assert_eq!(world.cluster.state().epoch, Epoch(1), "nobody has the last one: it would be lost, if it counted");
}

/// As when a disk does not answer any more: its executor goes on saying that it is primary, which it is for nobody.
#[test]
fn a_primary_that_was_killed_and_does_not_end_is_replaced() {
    let mut world = World::running(3);
    world.toy(0).trouble = Some(Trouble::Hung { detail: "it did not answer".to_owned() });
    world.say(MemberId(0));
    world.toy(0).reachable = false; // and it obeys nothing, of course
    world.hear_all();
    world.rounds(5);
    assert_eq!(world.primary(), Some(1), "{:?}", world.log);
    let lost =
        |kind: &EventKind| matches!(kind, EventKind::PrimaryLost { reason, .. } if reason.contains("does not end"));
    assert_eq!(world.logged(lost), 1);
}
