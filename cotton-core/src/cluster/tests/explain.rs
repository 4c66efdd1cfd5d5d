//! Explaining: who would be promoted, why not the others, what is waited for, what a person can do.

use super::world::World;
use crate::cluster::explain::Explanation;
use crate::cluster::levers::Lever;
use crate::election::PromotionRule;
use crate::protocol::Trouble;
use crate::{Limits, MemberId, Preference};

fn explained(world: &World) -> Explanation {
    world.cluster.explain(world.now)
}

/// Codes of what speaks against a member.
fn against(world: &World, id: u64) -> Vec<&'static str> {
    let explanation = explained(world);
    let member = explanation.members.iter().find(|member| member.id == MemberId(id)).expect("a member");
    assert_eq!(member.wins, explanation.succession.winner == Some(MemberId(id)));
    assert!(member.wins == member.why_not.is_empty(), "{member:?}");
    member.why_not.iter().map(|reason| reason.code.name()).collect()
}

fn winner(world: &World) -> Option<u64> {
    explained(world).succession.winner.map(|id| id.0)
}

fn waits(world: &World) -> Vec<&'static str> {
    explained(world).waits.iter().map(|wait| wait.code).collect()
}

/// What is foretold comes true when the primary is lost with its data.
fn check_by_losing_the_primary(mut world: World) {
    let foretold = explained(&world);
    let lost = world.primary().expect("there is one");
    world.crash(lost);
    world.toy(lost).reachable = false;
    world.hear_all();
    world.rounds(20);
    let elected = world.cluster.state().primary;
    assert_eq!(elected, foretold.succession.winner, "{foretold:#?}\n{:#?}", explained(&world));
    if elected.is_none() {
        let now = explained(&world).succession;
        assert_eq!((now.code, now.under_way), (foretold.succession.code, true));
    }
}

#[test]
fn a_healthy_cluster_names_its_successor_and_waits_for_nothing() {
    let world = World::running(3);
    let explanation = explained(&world);
    let succession = &explanation.succession;
    assert_eq!((succession.winner, succession.code, succession.under_way), (Some(MemberId(1)), "decided", false));
    assert!(succession.text.starts_with("if primary 0 were lost now"), "{succession:?}");
    assert_eq!(succession.loses, "no acknowledged commit");
    assert_eq!((against(&world, 0), against(&world, 2)), (vec!["is_primary"], vec!["higher_number"]));
    assert!(explanation.waits.is_empty());
    let switchover = &explanation.levers[0];
    assert!(switchover.possible && switchover.command == "cotton switchover c", "{switchover:?}");
    assert_eq!(switchover.text, "member 0 hands over to member 1");
    check_by_losing_the_primary(world);
}

#[test]
fn everything_that_speaks_against_a_member_is_told() {
    let mut world = World::running(3);
    world.toy(1).trouble = Some(Trouble::Stuck { detail: "1062".to_owned() });
    world.toy(1).unapplied = 7;
    world.toy(2).unapplied = 3;
    world.say_all();
    world.hear_all();
    assert_eq!((winner(&world), against(&world, 1)), (Some(2), vec!["stuck", "more_to_apply"]));
    assert_eq!(explained(&world).succession.applying.map(|it| it.left), Some(3));
    check_by_losing_the_primary(world);

    let mut world = World::running(3);
    world.toy(2).still = true;
    for _ in 0..3 {
        assert!(world.write());
        world.rounds(1);
    }
    assert_eq!((winner(&world), against(&world, 2)), (Some(1), vec!["lacks_transactions"]));
    let text = explained(&world).members[2].why_not[0].text.clone();
    assert_eq!(text, "it lacks 3 transactions that member 1 has");
    check_by_losing_the_primary(world);

    let mut world = World::running(3);
    world.toy(1).asked_to_leave = true;
    world.say_all();
    world.hear_all();
    assert_eq!((winner(&world), against(&world, 1)), (Some(2), vec!["agent_goes"]));
    check_by_losing_the_primary(world);

    let mut world = World::running(3);
    world.toy(1).trouble = Some(Trouble::Storage { detail: "full".to_owned() });
    world.say_all();
    world.hear_all();
    assert_eq!((winner(&world), against(&world, 1)), (Some(2), vec!["storage"]));
}

#[test]
fn without_a_quorum_it_is_told_for_whom_the_election_would_wait() {
    let mut world = World::running(3);
    world.crash(2);
    world.hear_all();
    assert_eq!(against(&world, 2), ["down", "is_awaited"]);
    assert_eq!((winner(&world), explained(&world).succession.code), (None, "no_quorum"));
    assert_eq!(against(&world, 1), ["undecided"]);
    check_by_losing_the_primary(world);

    let mut world = World::running(3);
    world.toy(2).reachable = false;
    world.rounds(7);
    assert_eq!(against(&world, 2), ["silent", "is_awaited"]);
    assert_eq!(waits(&world), ["member_unhealthy"]);
    let wait = explained(&world).waits[0].clone();
    assert!(wait.member == Some(MemberId(2)) && wait.since_ms.is_some_and(|ms| ms >= 6_000), "{wait:?}");
    check_by_losing_the_primary(world);
}

#[test]
fn an_election_under_way_tells_since_when_it_waits_and_for_whom() {
    let mut world = World::running(3);
    world.crash(0);
    world.crash(2);
    world.hear_all();
    world.rounds(10);
    let explanation = explained(&world);
    assert!(explanation.succession.under_way && explanation.primary.is_none());
    assert_eq!((explanation.succession.code, waits(&world)[0]), ("no_quorum", "no_quorum"));
    let wait = &explanation.waits[0];
    assert!(wait.since_ms.is_some_and(|ms| (9_000..=11_000).contains(&ms)) && wait.until_ms.is_none(), "{wait:?}");
    assert_eq!((against(&world, 0), against(&world, 1)), (vec!["down", "is_awaited"], vec!["undecided"]));
    assert!(!explanation.levers[0].possible);
    let refused = &explanation.levers[0].text;
    assert!(refused.starts_with("the cluster has no settled primary"), "{refused}");
}

#[test]
fn where_availability_is_preferred_it_is_told_who_wins_in_the_end_and_what_that_loses() {
    let mut spec = super::spec(3);
    spec.preference = Preference::Availability;
    let mut world = World::running_as(spec);
    world.crash(2);
    world.hear_all();
    let succession = explained(&world).succession;
    assert_eq!((succession.winner, succession.code), (Some(MemberId(1)), "no_quorum"));
    assert!(succession.text.contains("60 s after its begin, member 1 is promoted all the same"), "{succession:?}");
    assert!(succession.loses.contains("acknowledged commits"), "{succession:?}");
    world.crash(0);
    world.hear_all();
    world.rounds(10);
    let wait = explained(&world).waits[0].clone();
    assert!(wait.until_ms.is_some_and(|ms| (49_000..=51_000).contains(&ms)), "{wait:?}");
    world.toy(1).slow = true; // the toy would notice what is lost
    world.rounds(60);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
}

#[test]
fn without_acknowledgements_it_is_told_what_nobody_has_received() {
    let mut world = World::running(2);
    *world.toy(0).data.get_mut(&0).expect("it has commits") += 5;
    world.say_all();
    world.hear_all();
    let succession = explained(&world).succession;
    assert_eq!(succession.winner, Some(MemberId(1)));
    assert_eq!(succession.loses, "5 transactions of member 0 that member 1 has not received");
    assert!(succession.text.contains("up to 13 s later"), "{succession:?}");
}

#[test]
fn new_and_resting_members_tell_why_they_do_not_count() {
    let mut world = World::running(3);
    world.cluster.scale(world.now, &Limits::default(), 4).expect("room");
    world.place();
    world.persist();
    world.effects();
    assert_eq!(against(&world, 3), ["never_heard"]);
    world.toy(3).linked = false;
    world.mended(3);
    assert_eq!(against(&world, 3), ["not_joined", "lacks_transactions"]);
    let mut world = World::new(super::spec(3));
    world.volumes = true;
    world.place();
    assert_eq!((explained(&world).succession.code, winner(&world)), ("first_start", None));
    assert_eq!(against(&world, 1), ["first_start"]);
    world.settle();
    world.end_task(2);
    world.hear_all();
    assert_eq!(against(&world, 2), ["resting", "is_awaited"]);
    assert_eq!(waits(&world), ["member_unhealthy"]);
    let wait = explained(&world).waits[0].clone();
    assert_eq!((wait.since_ms, wait.until_ms), (Some(0), Some(120_000)), "{wait:?}");
}

#[test]
fn what_a_primary_without_a_lease_delays_is_told() {
    let spec = crate::ClusterSpec { durability: crate::Durability::Async, ..super::spec(3) };
    let mut world = World::running_as(spec);
    let text = explained(&world).succession.text;
    assert!(text.contains("later if nobody sees its end, when its lease has run out"), "{text}");
    (world.toy(0).reachable, world.toy(0).linked) = (false, false);
    for id in [1, 2] {
        world.toy(id).linked = false;
    }
    world.rounds(7);
    let now = explained(&world).succession;
    assert!(now.under_way && now.text.contains("when the lease of the old primary has run out"), "{now:?}");

    let mut world = World::running(1);
    world.cluster.scale(world.now, &Limits::default(), 2).expect("room");
    world.mended(5);
    let text = explained(&world).succession.text;
    assert!(text.ends_with("but only once its end is seen: it opened without a lease"), "{text}");
    (world.toy(0).reachable, world.toy(0).linked) = (false, false);
    world.rounds(20);
    let now = explained(&world);
    assert_eq!((now.succession.code, now.succession.winner), ("may_write", None), "{now:?}");
    assert_eq!(against(&world, 1), ["undecided"]);
}

/// The commands that are told, each with whether it is possible.
fn commands(world: &World) -> Vec<(String, bool)> {
    let levers = world.cluster.explain(world.now).levers;
    levers.into_iter().map(|lever| (lever.command, lever.possible)).collect()
}

#[test]
fn commands_are_told_where_they_help() {
    let mut world = World::running(3);
    let begins = |world: &World, with: &str| commands(world).into_iter().find(|(command, _)| command.starts_with(with));
    for with in ["cotton scale", "cotton rule", "cotton delete", "cotton prune"] {
        assert_eq!(begins(&world, with), None, "all is well");
    }
    world.cluster.pull(world.now, Lever::Rule(MemberId(2), PromotionRule::Never)).expect("a member");
    assert_eq!(begins(&world, "cotton rule"), Some(("cotton rule c 2 neutral".to_owned(), true)));
    (world.toy(1).linked, world.toy(2).linked) = (false, false);
    world.rounds(6);
    assert_eq!(begins(&world, "cotton scale"), Some(("cotton scale c 4".to_owned(), true)), "commits wait");

    let mut world = World::running(3);
    world.kill(2);
    world.hear_all();
    assert_eq!(begins(&world, "cotton scale"), Some(("cotton scale c 2".to_owned(), true)), "one is missing");

    let mut world = World::running(3);
    world.crash(0);
    world.crash(2);
    world.hear_all();
    world.rounds(5);
    assert_eq!(begins(&world, "cotton delete"), Some(("cotton delete c".to_owned(), true)), "nobody can be elected");
    world.cluster.pull(world.now, Lever::Pause).expect("it waits");
    let paused = commands(&world);
    for (command, possible) in [
        ("cotton resume c", true),
        ("cotton elect c --to 1 --accept-loss", false),
        ("cotton rebuild c 1", false),
        ("cotton delete c", false),
    ] {
        assert!(paused.contains(&(command.to_owned(), possible)), "{command}: {paused:?}");
    }
}

#[test]
fn a_cluster_that_is_being_deleted_has_no_levers() {
    let mut world = World::running(2);
    world.cluster.delete(world.now);
    assert_eq!(commands(&world), []);
}
