//! What was received is applied before a server opens, however long that takes, and is not lost meanwhile.

use super::*;
use crate::ports::mysql::{Drained, Followed};

fn drained(unapplied: u64) -> Outcome {
    Outcome::Drained(Drained { position: gtids("0-1-9"), unapplied, done: unapplied == 0, obstacle: None })
}

fn stuck() -> Outcome {
    Outcome::Drained(Drained { position: gtids("0-1-9"), unapplied: 4, done: false, obstacle: Some("1062".into()) })
}

/// Frozen, with seven transactions to apply, and told to open.
fn behind() -> Bench {
    let mut bench = Bench::up();
    bench.feed(directive(1, freeze()));
    bench.finish("freeze", Outcome::Frozen(Frozen { position: gtids("0-1-9"), unapplied: 7, obstacle: None }));
    bench.effects.clear();
    bench.feed(directive(1, promote()));
    bench
}

#[test]
fn being_slow_is_no_trouble() {
    let mut bench = behind();
    for left in (1..2_000).rev() {
        let operation = bench.finish("drain", drained(left));
        assert_eq!(operation, Operation::Drain { epoch: Epoch(1), budget_ms: 500 });
        bench.pass(500);
        let report = bench.report();
        assert_eq!((report.role, report.trouble), (MemberRole::Promoting, None), "{left} left");
    }
    let Effect::Operate { id, .. } = bench.take("drain") else { panic!("an operation") };
    bench.pass(2_000);
    assert_eq!(bench.report().unapplied, 1, "how much is left is told");
    bench.feed(Input::Finished { id, outcome: drained(0) });
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-9"))));
    assert_eq!(bench.report().role, MemberRole::Primary);
}

#[test]
fn nothing_is_in_the_way_of_one_that_has_applied_all() {
    let mut bench = Bench::up();
    bench.feed(directive(1, freeze()));
    bench.finish("freeze", frozen("0-1-5"));
    bench.feed(directive(1, promote()));
    assert!(bench.has("promote") && !bench.has("drain"));
}

#[test]
fn a_newer_order_waits_for_the_call_and_kills_nothing() {
    let mut bench = behind();
    let Effect::Operate { id, .. } = bench.take("drain") else { panic!("an operation") };
    bench.feed(directive(2, freeze()));
    assert!(!bench.has("kill") && !bench.has("freeze"));
    bench.feed(Input::Finished { id, outcome: drained(5) });
    bench.finish("freeze", Outcome::Frozen(Frozen { position: gtids("0-1-9"), unapplied: 5, obstacle: None }));
    let report = bench.report();
    assert_eq!((report.role, report.boot, report.unapplied), (MemberRole::Frozen, 1, 5));
}

#[test]
fn what_stands_in_the_way_is_told_and_tried_again() {
    let mut bench = behind();
    bench.finish("drain", stuck());
    let report = bench.report();
    assert_eq!(report.role, MemberRole::Promoting);
    assert_eq!(report.trouble, Some(Trouble::Stuck { detail: "1062".into() }));
    assert!(!bench.has("drain"), "after a pause");
    bench.pass(50);
    bench.finish("drain", drained(0));
    assert!(bench.has("promote"));
}

#[test]
fn a_promotion_that_finds_more_to_apply_leaves_it_closed() {
    let mut bench = behind();
    bench.finish("drain", drained(0));
    bench.finish("promote", Outcome::Promoted(Promoted::Applying { unapplied: 2 }));
    bench.pass(100);
    assert!(bench.has("drain"));
    bench.feed(directive(2, freeze()));
    assert!(!bench.has("kill"), "it never was open");
}

#[test]
fn a_frozen_member_that_is_stuck_answers_all_the_same() {
    let mut bench = Bench::up();
    bench.feed(directive(1, freeze()));
    let obstacle = Some("1032".to_owned());
    bench.finish("freeze", Outcome::Frozen(Frozen { position: gtids("0-1-9"), unapplied: 4, obstacle }));
    let report = bench.report();
    assert_eq!((report.role, report.position), (MemberRole::Frozen, gtids("0-1-9")));
    assert_eq!(report.trouble, Some(Trouble::Stuck { detail: "1032".into() }));
    // What its applier's end made of the position is no news of what it had received.
    bench.pass(1_000);
    bench.probe(ServerStatus { position: gtids("0-1-5"), ..status() });
    assert_eq!(bench.report().position, gtids("0-1-9"));
}

#[test]
fn a_closed_server_has_longer_to_answer() {
    let mut bench = behind();
    bench.effects.clear();
    for _ in 0..29 {
        bench.pass(2_000);
        bench.probe_result(Err(failure(ErrorKind::Timeout, false)));
        assert!(!bench.has("kill"), "what it has received is worth more than a start");
    }
    bench.pass(2_000);
    bench.probe_result(Err(failure(ErrorKind::Timeout, false)));
    assert!(bench.has("kill"));
}

/// The oldest start whose data is all there, as it is reported.
fn kept_since(bench: &Bench) -> Option<(u64, u64)> {
    bench.report().kept_since.map(|start| (start.incarnation, start.boot))
}

#[test]
fn a_start_tells_since_when_nothing_is_lost() {
    let mut bench = Bench::up();
    assert_eq!(kept_since(&bench), Some((1, 1)));
    for (boot, kept, since) in [(1, true, 1), (2, false, 3), (3, true, 3)] {
        bench.feed(Input::Exited { boot, exit: exit() });
        bench.pass(1_000);
        bench.finish("start", started(kept));
        bench.probe(status());
        assert_eq!(kept_since(&bench), Some((1, since)), "start {}", boot + 1);
    }
    bench.feed(Input::Exited { boot: 4, exit: exit() });
    bench.pass(1_000);
    bench.fail("start");
    bench.pass(1_000);
    bench.finish("start", started(true));
    bench.probe(status());
    assert_eq!(kept_since(&bench), Some((1, 5)), "what a failed start has lost is not known");
}

/// As a MariaDB server does whose applier cannot go on: it is pointed at its primary anew, and its relay logs go.
fn followed_again(bench: &mut Bench, epoch: u64, before: &str, after: &str) {
    bench.probe(ServerStatus { position: gtids(before), ..status() });
    bench.feed(directive(epoch, follow()));
    bench.finish("follow", Outcome::Followed(Followed::Attached));
    bench.probe(ServerStatus { position: gtids(after), ..following_status(LinkState::Connected) });
}

#[test]
fn what_is_dropped_when_it_follows_again_is_nothing_that_an_earlier_start_answers_for() {
    let mut bench = Bench::up();
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.pass(1_000);
    bench.finish("start", started(true));
    followed_again(&mut bench, 1, "0-1-9", "0-1-9");
    assert_eq!(kept_since(&bench), Some((1, 1)));
    bench.feed(Input::Exited { boot: 2, exit: exit() });
    bench.pass(1_000);
    bench.finish("start", started(true));
    followed_again(&mut bench, 1, "0-1-9", "0-1-7");
    assert_eq!(kept_since(&bench), Some((1, 3)), "this start has acknowledged nothing before that");
    bench.probe(ServerStatus { position: gtids("0-1-12"), ..following_status(LinkState::Connected) });
    assert_eq!(kept_since(&bench), Some((1, 3)));
}

#[test]
fn a_start_that_has_dropped_what_it_acknowledged_speaks_for_nobody_until_it_has_it_again() {
    let mut bench = Bench::up();
    followed_again(&mut bench, 1, "0-1-5", "0-1-9");
    let broken = ServerStatus { position: gtids("0-1-9"), ..following_status(LinkState::Stopped) };
    bench.probe(broken);
    bench.pass(1_000);
    bench.finish("follow", Outcome::Followed(Followed::Attached));
    // A position that was read before that is not kept by a freeze.
    bench.feed(directive(2, freeze()));
    bench.finish("freeze", frozen("0-1-7"));
    assert_eq!((bench.report().position, kept_since(&bench)), (gtids("0-1-7"), Some((1, 2))));
    let mut again = bench;
    followed_again(&mut again, 2, "0-1-7", "0-1-7");
    assert_eq!(kept_since(&again), Some((1, 1)), "the primary of a new epoch has what was acknowledged before");
}

#[test]
fn what_is_received_again_is_answered_for_again() {
    let mut bench = Bench::up();
    followed_again(&mut bench, 1, "0-1-5", "0-1-9");
    let seen = |bench: &mut Bench, nonce: u64, position: &str| {
        bench.feed(heard(1, 1, nonce, true));
        bench.probe(ServerStatus { position: gtids(position), ..following_status(LinkState::Connected) });
        kept_since(bench)
    };
    assert_eq!(seen(&mut bench, 1, "0-1-7"), Some((1, 2)));
    assert_eq!(seen(&mut bench, 2, "0-1-8"), Some((1, 2)));
    assert_eq!(seen(&mut bench, 3, "0-1-9"), Some((1, 1)));
    assert_eq!(seen(&mut bench, 4, "0-1-8"), Some((1, 2)));
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.pass(1_000);
    bench.finish("start", started(true));
    bench.probe(status());
    assert_eq!(kept_since(&bench), Some((1, 2)), "it never got it again");
}

/// A copy in place of what a start had acknowledged from.
fn copied(bench: &mut Bench, kept: bool) {
    bench.feed(directive(2, follow_from(1, &[7])));
    bench.finish("follow", Outcome::Followed(Followed::HistoryMissing("purged".into())));
    bench.finish("copy", started(kept));
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.probe(status());
}

#[test]
fn a_copy_that_has_all_that_it_replaced_answers_for_it() {
    for (kept, since) in [(true, 1), (false, 2)] {
        let mut bench = Bench::up();
        followed_again(&mut bench, 1, "0-1-5", "0-1-5");
        copied(&mut bench, kept);
        assert_eq!((bench.report().boot, kept_since(&bench)), (2, Some((1, since))));
    }
    let mut bench = Bench::up();
    followed_again(&mut bench, 1, "0-1-5", "0-1-9");
    bench.feed(heard(1, 1, 1, true));
    bench.probe(ServerStatus { position: gtids("0-1-7"), ..following_status(LinkState::Stopped) });
    assert_eq!(kept_since(&bench), Some((1, 2)), "something that was received is gone");
    copied(&mut bench, true);
    assert_eq!(kept_since(&bench), Some((1, 2)), "and the copy has only what was left");
}

/// How the server's end becomes known to an executor that is ending.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The call that stops it returns first.
    Stopped,
    /// Its process is seen to have ended while that call is still under way.
    Seen,
    /// There is no time to stop it: it is killed.
    Killed,
    /// The executor ends and the server does not: power is cut, or both are killed.
    Unknown,
}

/// What an executor leaves behind whose server ended like that.
fn left_behind(end: End) -> ExecutorState {
    let mut bench = Bench::up();
    if end == End::Killed {
        bench.feed(Input::Shutdown { grace_ms: 0 });
        let Effect::Kill { id, .. } = bench.take("kill") else { panic!("a kill") };
        bench.feed(Input::Killed { id });
    } else if end != End::Unknown {
        bench.feed(Input::Shutdown { grace_ms: 1_000 });
        let Effect::Operate { id, .. } = bench.take("stop") else { panic!("an operation") };
        if end == End::Seen {
            bench.feed(Input::Exited { boot: 1, exit: Exit { expected: true, ..exit() } });
        }
        bench.feed(Input::Finished { id, outcome: Outcome::Done });
    }
    if end != End::Unknown {
        bench.take("update");
    }
    bench.machine.checkpoint().map_or_else(|| bench.machine.state.clone(), |(_, state)| state.clone())
}

#[test]
fn an_end_that_is_noted_lets_the_next_executor_answer_for_this_one() {
    for end in [End::Stopped, End::Seen, End::Killed, End::Unknown] {
        let mut next = Bench::with(left_behind(end));
        next.feed(Input::Connected);
        next.feed(Input::Launch { task: task() });
        next.finish("provision", Outcome::Done);
        next.finish("start", started(true));
        next.probe(status());
        assert_eq!(kept_since(&next), Some(if end == End::Unknown { (2, 1) } else { (1, 1) }), "{end:?}");
        assert!(!next.machine.state.ended, "the next start is not that one");
    }
}

#[test]
fn an_executor_that_never_started_its_server_changes_nothing_of_that() {
    let mut idle = Bench::with(left_behind(End::Seen));
    idle.feed(Input::Connected);
    idle.feed(Input::Launch { task: task() });
    idle.feed(Input::Shutdown { grace_ms: 1_000 });
    let state = idle.machine.state.clone();
    assert!(state.ended && state.kept_since.is_some());
}

#[test]
fn a_server_that_ended_is_started_once_that_can_be_forgotten_durably() {
    let mut machine = Executor::new(ExecutorConfig::default(), left_behind(End::Seen), Millis(0));
    machine.handle_persisted(Revision(1));
    machine.handle(Millis(1), Input::Launch { task: task() });
    let mut effects = std::iter::from_fn(|| machine.poll_effect());
    let provision = effects.find_map(|effect| {
        let Effect::Operate { id, operation: Operation::Provision } = effect else { return None };
        Some(id)
    });
    let id = provision.expect("its data is looked at first");
    machine.handle(Millis(2), Input::Finished { id, outcome: Outcome::Done });
    let starts =
        |machine: &mut Executor| std::iter::from_fn(|| machine.poll_effect()).any(|effect| effect.name() == "start");
    assert!(!starts(&mut machine));
    let (revision, state) = machine.checkpoint().map(|(revision, state)| (revision, state.clone())).expect("a change");
    assert!(!state.ended);
    machine.handle_persisted(revision);
    assert!(starts(&mut machine));
}

#[test]
fn an_applier_that_fails_again_and_again_is_told_as_broken() {
    let mut bench = Bench::up();
    bench.feed(directive(1, follow()));
    let broken = || {
        let error = Some("1032".to_owned());
        let replication = Replication {
            source: endpoint(1),
            link: LinkState::Connected,
            applying: false,
            lag_s: None,
            read_to: None,
            error,
        };
        ServerStatus { replication: Some(replication), ..status() }
    };
    for attempt in 1..=7 {
        bench.finish("follow", Outcome::Followed(Followed::Attached));
        bench.probe(following_status(LinkState::Connected)); // perhaps begun before
        bench.pass(1_000);
        bench.probe(broken());
        let trouble = bench.report().trouble;
        assert_eq!(matches!(trouble, Some(Trouble::Broken { .. })), attempt >= 5, "attempt {attempt}: {trouble:?}");
        bench.pass(if attempt >= 5 { 10_000 } else { 2_000 });
    }
    bench.finish("follow", Outcome::Followed(Followed::Attached));
    bench.pass(1_000);
    bench.probe(following_status(LinkState::Connected));
    assert!(matches!(bench.report().trouble, Some(Trouble::Broken { .. })), "not forgiven at once");
    bench.pass(70_000);
    bench.probe(following_status(LinkState::Connected));
    bench.pass(2_000);
    assert_eq!(bench.report().trouble, None);
}
