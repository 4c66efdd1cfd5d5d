//! Nobody writes here who must not.

use super::*;
use crate::ports::mysql::Followed;

#[test]
fn a_primary_that_is_replaced_is_killed_without_waiting() {
    for order in [freeze(), follow(), Order::Detach] {
        let mut bench = Bench::primary(1);
        bench.durable = false;
        bench.feed(directive(2, order.clone()));
        assert_eq!(bench.names(), ["kill"], "{order:?}: before any checkpoint");
        bench.killed();
        assert!(bench.has("report"));
        // A former primary drops nothing before the order to follow its successor is durable.
        assert_eq!(bench.has("start"), !matches!(order, Order::Follow { .. }), "{order:?}");
        assert!(matches!(bench.report().role, MemberRole::Down { .. }));
        bench.durable = true;
        bench.persist();
        bench.finish("start", started(false));
        let obeys = bench.effects.iter().any(|effect| match effect {
            Effect::Operate { operation, .. } => operation.epoch() == Some(Epoch(2)),
            Effect::Update { .. }
            | Effect::Report(_)
            | Effect::Probe { .. }
            | Effect::Kill { .. }
            | Effect::Warn(_)
            | Effect::Exit(_) => false,
        });
        bench.persist();
        assert!(obeys || !bench.effects.is_empty());
    }
}

#[test]
fn a_crashed_primary_waits_for_its_successor_and_drops_its_tail_only_then() {
    let mut bench = Bench::primary(1);
    bench.machine.config.restart_hold_ms = 1_500;
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    assert_eq!(bench.names(), ["report"], "it stays down");
    bench.feed(directive(2, freeze()));
    assert!(!bench.has("start"), "nobody has taken its place yet");
    bench.feed(directive(2, follow()));
    assert_eq!(bench.finish("start", started(false)), Operation::Start { boot: 2, replaced: true });
}

#[test]
fn a_crashed_primary_without_a_successor_starts_with_all_it_has() {
    let mut bench = Bench::primary(1);
    bench.machine.config.restart_hold_ms = 1_500;
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.feed(directive(2, freeze()));
    bench.pass(1_499);
    assert!(!bench.has("start"));
    bench.pass(1);
    assert_eq!(bench.finish("start", started(false)), Operation::Start { boot: 2, replaced: false });
    bench.persist();
    assert!(bench.has("freeze"));
}

#[test]
fn so_does_one_whose_executor_was_started_again() {
    let mut bench = Bench::primary(1);
    bench.persist();
    let state = bench.machine.checkpoint().map_or_else(|| bench.machine.state.clone(), |(_, state)| state.clone());
    assert_eq!(state.tail, Some(Epoch(1)));
    let restarted = || {
        let mut bench = Bench::with(state.clone());
        bench.machine.config.restart_hold_ms = 1_500;
        bench.feed(Input::Connected);
        bench.feed(Input::Launch { task: task() });
        bench.finish("provision", Outcome::Done);
        assert!(!bench.has("start"), "it may have been replaced");
        assert!(matches!(bench.report().role, MemberRole::Down { .. }));
        bench
    };
    let mut bench = restarted();
    bench.feed(directive(2, follow()));
    bench.persist();
    assert_eq!(bench.finish("start", started(false)), Operation::Start { boot: 1, replaced: true });
    bench.finish("follow", Outcome::Followed(Followed::Attached));
    bench.persist();
    assert_eq!(bench.machine.state.tail, None, "it has followed another since");

    let mut bench = restarted();
    bench.pass(1_500);
    assert_eq!(bench.finish("start", started(false)), Operation::Start { boot: 1, replaced: false });
}

#[test]
fn a_promotion_under_way_is_killed_too() {
    let mut bench = Bench::up();
    bench.feed(directive(1, promote()));
    let Effect::Operate { id, .. } = bench.take("promote") else { panic!("an operation") };
    bench.feed(directive(2, follow()));
    assert!(bench.has("kill"));
    // Its answer comes before the kill's: it may have opened, and is still not believed.
    bench.feed(Input::Finished { id, outcome: Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))) });
    assert!(!bench.has("follow"));
    bench.killed();
    bench.finish("start", started(false));
    assert!(bench.has("follow"));
}

#[test]
fn a_promotion_that_outlives_its_server_changes_nothing() {
    let mut bench = Bench::up();
    bench.feed(directive(1, promote()));
    let Effect::Operate { id, .. } = bench.take("promote") else { panic!("an operation") };
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    assert!(!bench.has("start"), "one operation at a time");
    bench.feed(Input::Finished { id, outcome: Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))) });
    bench.finish("start", started(false));
    bench.probe(status());
    assert_eq!((bench.report().role, bench.report().boot), (MemberRole::Idle, 2));
}

#[test]
fn a_failed_promotion_may_have_opened() {
    let mut bench = Bench::up();
    bench.feed(directive(1, promote()));
    bench.fail("promote");
    bench.feed(directive(2, freeze()));
    assert!(bench.has("kill") && !bench.has("freeze"));
}

#[test]
fn fencing_costs_no_restart() {
    let mut bench = Bench::up();
    for epoch in 1..40 {
        bench.feed(directive(2 * epoch, promote()));
        bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))));
        bench.feed(directive(2 * epoch + 1, freeze()));
        bench.killed();
        bench.finish("start", started(false));
        bench.finish("freeze", frozen("0-1-5"));
    }
    assert!(!bench.has("exit"));
}

#[test]
fn nothing_is_started_while_a_kill_is_under_way() {
    let mut bench = Bench::primary(1);
    bench.feed(directive(2, freeze()));
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    assert!(bench.has("report") && !bench.has("start"), "the kill could hit the new process");
    bench.killed();
    assert!(bench.has("start"));
}

#[test]
fn a_server_that_somebody_else_opened_is_killed() {
    let mut bench = Bench::up();
    bench.probe(primary_status(0));
    assert!(bench.has("kill"));
    bench.killed();
    assert!(bench.has("start"));
}

#[test]
fn a_probe_from_before_a_fence_accuses_nobody() {
    let mut bench = Bench::primary(1);
    bench.pass(1_000);
    let Effect::Probe { id } = bench.take("probe") else { panic!("a probe") };
    bench.feed(directive(2, freeze()));
    bench.killed();
    bench.finish("start", started(false));
    bench.feed(Input::Probed { id, result: Ok(primary_status(1)) });
    assert!(!bench.has("kill"), "{:?}", bench.names());
}

#[test]
fn a_primary_that_somebody_closed_is_opened_again() {
    let mut bench = Bench::primary(1);
    bench.probe(status());
    assert_eq!(bench.report().role, MemberRole::Primary);
    assert!(matches!(bench.report().trouble, Some(Trouble::Failing { .. })));
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))));
    bench.probe(primary_status(1));
    assert_eq!((bench.report().role, bench.report().trouble), (MemberRole::Primary, None));
}

/// An asynchronous primary whose last report was answered just now.
fn leased_primary() -> Bench {
    let mut bench = Bench::up();
    bench.feed(directive(1, leased()));
    assert_eq!(bench.names(), ["report"], "no lease, no opening");
    let report = bench.report();
    assert_eq!((report.role, report.epoch), (MemberRole::Promoting, Epoch(1)));
    bench.feed(heard(1, report.seq, 1, false));
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))));
    bench
}

#[test]
fn a_lease_counts_from_the_sending_of_the_answered_report() {
    let mut bench = leased_primary();
    bench.probe(primary_status(0));
    bench.effects.clear();
    let seq = loop {
        bench.pass(1);
        if bench.has("report") {
            break bench.report().seq;
        }
    };
    let sent = bench.now;
    let Effect::Probe { id } = bench.take("probe") else { panic!("a probe") };
    bench.feed(Input::Probed { id, result: Ok(primary_status(0)) });
    bench.pass(1_500);
    bench.feed(heard(1, seq, 2, false));
    bench.feed(heard(1, seq, 2, false));
    bench.feed(heard(2, seq + 1, 2, false));
    bench.feed(heard(1, seq + 100, 2, false));
    while !bench.has("kill") {
        bench.pass(1);
        while bench.has("probe") {
            bench.probe(primary_status(0));
        }
    }
    assert_eq!(bench.now.since(sent), 5_000);
    bench.killed();
    bench.finish("start", started(false));
    bench.probe(status());
    assert_eq!((bench.report().role, bench.report().epoch), (MemberRole::Idle, Epoch(1)));
}

#[test]
fn a_connected_replica_keeps_a_primary_whose_lease_ran_out() {
    let mut bench = leased_primary();
    for _ in 0..20 {
        bench.probe(primary_status(1));
    }
    assert!(bench.now.0 > 10_000 && !bench.has("kill"));
    bench.probe(primary_status(0));
    assert!(bench.has("kill"), "the last replica is gone, the lease long since");
}

#[test]
fn a_primary_that_does_not_answer_counts_as_deserted() {
    let mut bench = leased_primary();
    for _ in 0..10 {
        bench.probe(primary_status(1));
    }
    bench.probe_result(Err(failure(ErrorKind::Timeout, false)));
    assert!(bench.has("kill"));
}

#[test]
fn a_lease_that_runs_out_during_the_promotion_kills() {
    let mut bench = Bench::up();
    bench.feed(directive(1, leased()));
    let seq = bench.report().seq;
    bench.feed(heard(1, seq, 1, false));
    assert!(bench.has("promote"));
    bench.feed(Input::Disconnected);
    bench.pass(4_999);
    assert!(!bench.has("kill"));
    bench.pass(1);
    assert!(bench.has("kill"));
}

#[test]
fn an_open_server_that_lacks_data_of_the_new_epoch_is_killed() {
    let mut bench = Bench::primary(1);
    bench.feed(directive(2, promote()));
    bench.finish("promote", Outcome::Promoted(Promoted::Incomplete("0-2-9".into())));
    assert!(bench.has("kill"));
}
