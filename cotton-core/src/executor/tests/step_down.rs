//! A primary that steps down, opens again, or is asked to end while it serves.

use super::*;
use crate::executor::state::Rank;
use crate::ports::mysql::{Followed, Promotion};
use crate::protocol::Stage;

fn let_go() -> Input {
    Input::Message(ToExecutor::LetGo)
}

fn kill(grace_ms: u64) -> Input {
    Input::Kill { task: task(), grace_ms }
}

/// Stepped down in turn 1 of epoch 2.
fn stepped_down() -> Bench {
    let mut bench = Bench::primary(2);
    bench.feed(directive(2, step_down(1)));
    bench.finish("step_down", frozen("0-1-9"));
    bench
}

#[test]
fn it_steps_down_once_that_is_durable_and_tells_its_last_position() {
    let mut bench = Bench::primary(2);
    bench.durable = false;
    bench.feed(directive(2, step_down(1)));
    assert_eq!(bench.names(), [] as [&str; 0], "not before");
    bench.persist();
    assert_eq!(bench.report().role, MemberRole::Primary, "as long as that is not certain");
    let operation = bench.finish("step_down", frozen("0-1-9"));
    let rank = Rank { epoch: Epoch(2), stage: Stage::Turn(1) };
    assert_eq!(operation, Operation::StepDown { rank, grace_ms: 2_000 });
    let report = bench.report();
    assert_eq!((report.role, report.stage), (MemberRole::SteppedDown, Some(Stage::Turn(1))));
    assert_eq!((report.epoch, report.position), (Epoch(2), gtids("0-1-9")));
    bench.effects.clear();
    bench.feed(directive(2, step_down(1)));
    assert_eq!(bench.names(), ["report"], "the repeated order is answered, not carried out");
}

#[test]
fn it_follows_another_without_a_restart() {
    let mut bench = stepped_down();
    bench.feed(directive(3, freeze()));
    bench.finish("freeze", frozen("0-1-9"));
    assert_eq!(bench.report().role, MemberRole::Frozen);
    bench.feed(directive(3, follow()));
    bench.finish("follow", Outcome::Followed(Followed::Attached));
    assert!(!bench.has("kill"), "{:?}", bench.names());
    assert_eq!(bench.report().boot, 1);
}

#[test]
fn one_that_may_still_be_open_is_killed_as_ever() {
    let mut bench = Bench::primary(2);
    bench.feed(directive(2, step_down(1)));
    bench.fail("step_down");
    let report = bench.report();
    assert_eq!(report.role, MemberRole::Primary, "it may be open");
    assert!(report.trouble.is_some());
    bench.feed(directive(3, freeze()));
    assert!(bench.has("kill"), "{:?}", bench.names());
}

#[test]
fn it_tries_again_and_is_taken_back() {
    let mut bench = Bench::primary(2);
    bench.feed(directive(2, step_down(1)));
    bench.fail("step_down");
    bench.pass(5_000);
    bench.fail("step_down");
    bench.feed(directive(2, reopen(2)));
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))));
    let report = bench.report();
    assert_eq!((report.role, report.stage, report.boot), (MemberRole::Primary, Some(Stage::Turn(2)), 1));
    bench.effects.clear();
    bench.feed(directive(2, step_down(1)));
    assert!(!bench.has("step_down"), "an older turn comes too late");
    bench.feed(directive(2, step_down(3)));
    assert!(bench.has("step_down"), "a later one does not");
}

#[test]
fn it_opens_again_in_the_same_epoch_and_start_only() {
    let mut bench = stepped_down();
    bench.feed(directive(2, reopen(2)));
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-9"))));
    assert_eq!(bench.report().role, MemberRole::Primary);
    assert_eq!(bench.machine.state.promoted, Some(Epoch(2)));

    let mut bench = stepped_down();
    let boot = bench.machine.server.boot;
    bench.feed(Input::Exited { boot, exit: exit() });
    bench.pass(10_000);
    bench.finish("start", started(false));
    bench.probe(status());
    bench.effects.clear();
    bench.feed(directive(2, reopen(2)));
    assert!(!bench.has("promote"), "a server that was restarted needs an election: {:?}", bench.names());
    assert_eq!(bench.report().role, MemberRole::Idle);
}

#[test]
fn it_opens_again_by_itself_when_nobody_decides_what_comes_next() {
    let mut bench = stepped_down();
    bench.effects.clear();
    bench.pass(19_000);
    assert!(!bench.has("promote"), "a scheduler may still take over: {:?}", bench.names());
    bench.pass(1_100);
    let operation = bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-9"))));
    let promotion = Promotion { must_contain: GtidSet::Empty, acks: 1 };
    assert_eq!(operation, Operation::Promote { epoch: Epoch(2), promotion });
    let report = bench.report();
    assert_eq!((report.role, report.stage, report.boot), (MemberRole::Primary, Some(Stage::Decided), 1));
    bench.effects.clear();
    bench.feed(directive(2, step_down(1)));
    assert!(!bench.has("step_down"), "that step is taken back for good: {:?}", bench.names());
    bench.feed(directive(2, reopen(2)));
    assert!(!bench.has("promote"), "it is open: {:?}", bench.names());
    let report = bench.report();
    assert_eq!((report.role, report.stage), (MemberRole::Primary, Some(Stage::Turn(2))));
    bench.effects.clear();
    bench.feed(directive(2, step_down(3)));
    assert!(bench.has("step_down"), "another one is not: {:?}", bench.names());
}

#[test]
fn it_waits_for_a_scheduler_that_answers_but_not_for_ever() {
    let mut bench = stepped_down();
    bench.effects.clear();
    for second in 0..59 {
        bench.pass(1_000);
        assert!(!bench.has("promote"), "after {second} s: {:?}", bench.names());
        let seq = bench.report().seq;
        bench.feed(heard(1, seq, 0, false));
    }
    bench.pass(1_100);
    assert!(bench.has("promote"), "{:?}", bench.names());
}

#[test]
fn with_a_lease_it_opens_again_only_while_nobody_can_have_taken_its_place() {
    let steps_down = Order::StepDown { turn: 1, grace_ms: 2_000, lease_ms: Some(5_000) };
    let stepped_down = || {
        let mut bench = Bench::primary_by(2, leased());
        bench.feed(directive(2, steps_down.clone()));
        bench.finish("step_down", frozen("0-1-9"));
        bench.effects.clear();
        bench
    };
    let mut bench = stepped_down();
    bench.pass(21_000);
    assert!(!bench.has("promote"), "a replica may have been elected: {:?}", bench.names());
    bench.probe(ServerStatus { replicas: 1, ..status() });
    assert!(!bench.has("promote"), "that answer was long under way: {:?}", bench.names());
    bench.probe(ServerStatus { replicas: 1, ..status() });
    assert!(bench.has("promote"), "the one that there is has not left: {:?}", bench.names());
    bench.effects.clear();
    bench.pass(2_500);
    assert!(bench.has("kill"), "it is not known any more whether it has: {:?}", bench.names());
}

#[test]
fn a_turn_is_nothing_to_one_that_was_never_promoted() {
    let mut bench = Bench::up();
    bench.feed(directive(2, reopen(2)));
    assert!(!bench.has("promote"), "{:?}", bench.names());
    let mut bench = Bench::up();
    bench.feed(directive(2, step_down(1)));
    assert!(!bench.has("step_down"), "{:?}", bench.names());
    assert_eq!(bench.report().role, MemberRole::Idle);
}

#[test]
fn one_that_stepped_down_is_killed_when_somebody_opens_it() {
    let mut bench = stepped_down();
    bench.effects.clear();
    bench.probe(status());
    assert!(!bench.has("kill"));
    bench.probe(primary_status(1));
    assert!(bench.has("kill"), "{:?}", bench.names());
}

#[test]
fn a_primary_that_is_killed_goes_on_until_it_is_replaced() {
    let mut bench = Bench::primary(2);
    bench.feed(kill(60_000));
    assert!(bench.report().asked_to_leave, "the scheduler learns of it at once");
    bench.pass(10_000);
    assert!(!bench.has("stop") && !bench.has("kill") && !bench.machine.is_over());
    bench.feed(directive(2, step_down(1)));
    bench.finish("step_down", frozen("0-1-9"));
    bench.feed(directive(3, freeze()));
    bench.finish("freeze", frozen("0-1-9"));
    assert!(!bench.has("stop"), "its position may be needed");
    bench.feed(directive(3, follow()));
    assert!(bench.has("stop"), "{:?}", bench.names());
    bench.finish("stop", Outcome::Done);
    assert_eq!(bench.updates().last(), Some(&TaskState::Killed));
}

#[test]
fn it_does_not_outstay_its_time() {
    let mut bench = Bench::primary(2);
    bench.feed(kill(20_000));
    bench.pass(14_000);
    assert!(!bench.has("step_down") && !bench.has("kill"));
    bench.feed(kill(60_000)); // a repetition grants no more
    bench.pass(1_500);
    assert!(bench.has("step_down") || bench.has("kill"), "{:?}", bench.names());
}

#[test]
fn it_is_let_go_before_and_after_the_kill() {
    let mut bench = Bench::primary(2);
    bench.feed(kill(60_000));
    bench.feed(let_go());
    assert!(bench.has("step_down") || bench.has("kill"), "{:?}", bench.names());

    let mut bench = Bench::primary(2);
    bench.feed(let_go());
    assert!(!bench.has("step_down") && !bench.has("kill"), "nobody asked for its end yet");
    bench.feed(kill(60_000));
    assert!(bench.has("step_down") || bench.has("kill"), "{:?}", bench.names());
}

#[test]
fn a_replica_ends_at_once() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow()));
    bench.finish("follow", Outcome::Followed(Followed::Attached));
    bench.feed(kill(60_000));
    assert!(bench.has("stop"), "{:?}", bench.names());
}
