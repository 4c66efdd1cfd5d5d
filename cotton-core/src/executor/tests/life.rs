//! From launch to running, and back after crashes.

use super::*;

#[test]
fn launch_provisions_starts_and_reports() {
    let mut bench = Bench::new();
    bench.feed(Input::Connected);
    assert_eq!(bench.names(), [] as [&str; 0], "nothing to say before there is a task");
    bench.feed(Input::Launch { task: task() });
    assert_eq!(bench.updates(), [TaskState::Starting]);
    let report = bench.report();
    assert_eq!((report.role, report.incarnation, report.boot), (MemberRole::Starting, 1, 0));
    assert_eq!(bench.finish("provision", Outcome::Done), Operation::Provision);
    assert_eq!(bench.finish("start", started(false)), Operation::Start { boot: 1, replaced: false });
    assert_eq!(bench.updates(), [TaskState::Running]);
    assert!(!bench.has("report"), "nothing is known of the server yet");
    bench.probe(status());
    let report = bench.report();
    assert_eq!((report.role, report.boot, report.epoch), (MemberRole::Idle, 1, Epoch(0)));
    assert_eq!((report.position, report.server_version.as_str()), (gtids("0-1-5"), "10.11"));
}

#[test]
fn nothing_is_reported_before_the_incarnation_is_durable() {
    let mut bench = Bench::with(ExecutorState { incarnation: 6, ..ExecutorState::default() });
    bench.durable = false;
    bench.feed(Input::Connected);
    bench.feed(Input::Launch { task: task() });
    assert!(!bench.has("report"), "{:?}", bench.names());
    assert_eq!(bench.machine.checkpoint().map(|(_, state)| state.incarnation), Some(7));
    bench.persist();
    assert_eq!(bench.report().incarnation, 7);
}

#[test]
fn launches_are_repeated_by_agents_and_refused_for_others() {
    let mut bench = Bench::up();
    bench.feed(Input::Launch { task: task() });
    assert_eq!(bench.updates(), [TaskState::Running], "what it is now is told again");
    bench.effects.clear();
    bench.feed(Input::Launch { task: TaskId::from("mysos-b-0") });
    assert_eq!(bench.names(), ["warn"]);
    bench.effects.clear();
    bench.feed(Input::Refused { task: TaskId::from("mysos-b-0"), reason: "bad".into() });
    assert_eq!(bench.names(), ["warn"]);
}

#[test]
fn a_task_that_makes_no_sense_fails() {
    let mut bench = Bench::new();
    bench.feed(Input::Connected);
    bench.feed(Input::Refused { task: task(), reason: "bad".into() });
    assert_eq!(bench.updates(), [TaskState::Failed]);
    bench.feed(Input::Acknowledged(TaskState::Starting));
    assert!(!bench.machine.is_over());
    bench.feed(Input::Acknowledged(TaskState::Failed));
    assert_eq!(bench.take("exit"), Effect::Exit(ExitReason::Failed("bad".into())));
    assert!(bench.machine.is_over());
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn provisioning_is_tried_again_unless_it_cannot_work() {
    let mut bench = Bench::new();
    bench.feed(Input::Launch { task: task() });
    bench.fail("provision");
    bench.fail("provision");
    bench.effects.clear();
    bench.pass(99);
    assert!(!bench.has("provision"));
    bench.pass(1);
    bench.finish("provision", Outcome::Failed(failure(ErrorKind::Unsupported, true)));
    assert_eq!(bench.updates(), [TaskState::Failed]);
    bench.pass(5_000);
    assert_eq!(bench.take("exit"), Effect::Exit(ExitReason::Failed("no luck".into())), "unacknowledged: ends anyway");
}

/// It is not launched anew somewhere else: whoever finds nothing where there was data tells that, and is replaced.
#[test]
fn data_that_is_gone_is_told_and_ends_nothing() {
    let mut bench = Bench::new();
    bench.feed(Input::Connected);
    bench.feed(Input::Launch { task: task() });
    bench.finish("provision", Outcome::Failed(failure(ErrorKind::DataGone, true)));
    assert!(!bench.updates().contains(&TaskState::Failed), "{:?}", bench.updates());
    assert_eq!(bench.report().trouble, Some(Trouble::DataGone { detail: "no luck".into() }));
    bench.pass(59_999);
    assert!(!bench.has("provision"));
    bench.pass(1);
    assert!(bench.has("provision"), "a disk may have been mounted");
}

#[test]
fn a_crash_is_reported_first_and_restarted_at_once() {
    let mut bench = Bench::up();
    bench.durable = false;
    bench.feed(directive(3, freeze())); // its checkpoint hangs
    bench.effects.clear();
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    assert_eq!(bench.names(), ["report", "start"], "no checkpoint is in the way");
    let report = bench.report();
    assert_eq!(report.role, MemberRole::Down { reason: "server ended: signal 9".into() });
    assert_eq!((report.boot, report.epoch, report.position), (1, Epoch(0), gtids("0-1-5")));
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    assert_eq!(bench.machine.ignored(), 1);
    assert_eq!(bench.finish("start", started(false)), Operation::Start { boot: 2, replaced: false });
    assert!(!bench.has("report"), "it is not looked at yet");
    bench.persist();
    bench.finish("freeze", frozen("0-1-4"));
    let report = bench.report();
    assert_eq!((report.role, report.boot, report.epoch), (MemberRole::Frozen, 2, Epoch(3)));
    assert_eq!(report.position, gtids("0-1-4"), "a restart may lose what was received and not applied");
    assert_eq!(bench.updates(), [] as [TaskState; 0], "the task ran on");
}

#[test]
fn a_crash_while_its_start_is_told_late_is_ignored() {
    let mut bench = Bench::up();
    bench.feed(Input::Exited { boot: 7, exit: exit() });
    bench.feed(Input::Exited { boot: 0, exit: exit() });
    assert_eq!((bench.machine.ignored(), bench.names()), (2, vec![]));
}

#[test]
fn a_server_that_crashes_too_often_rests_and_keeps_its_data() {
    let mut bench = Bench::up();
    for boot in 1..=5 {
        bench.feed(Input::Exited { boot, exit: exit() });
        bench.pass(1_000);
        bench.finish("start", started(false));
        bench.probe(status());
    }
    bench.effects.clear();
    bench.feed(Input::Exited { boot: 6, exit: exit() });
    let report = bench.report();
    assert!(matches!(report.role, MemberRole::Down { .. }));
    let Some(Trouble::Unstable { detail }) = report.trouble else { panic!("{:?}", report.trouble) };
    assert_eq!(detail, "server failed more than 5 times within 600 s; last: server ended: signal 9");
    bench.pass(59_999);
    assert!(!bench.has("start") && bench.updates().is_empty(), "the task goes on, whoever needs its data can have it");
    bench.pass(1);
    bench.finish("start", started(false));
    bench.probe(status());
    assert_eq!(bench.report().trouble, None);
}

#[test]
fn that_it_rests_is_not_hidden_by_what_was_wrong_before() {
    let mut bench = Bench::up();
    bench.probe(ServerStatus { disk_free_bytes: Some(5 << 20), ..status() });
    assert!(matches!(bench.report().trouble, Some(Trouble::Storage { .. })));
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    for _ in 0..5 {
        bench.pass(1_000);
        bench.fail("start");
    }
    assert!(matches!(bench.report().trouble, Some(Trouble::Unstable { .. })), "{:?}", bench.report().trouble);
}

#[test]
fn a_replaced_primary_that_cannot_drop_its_tail_keeps_it() {
    let mut bench = Bench::up();
    bench.machine.config.restart_hold_ms = 1_500;
    let promotion = Order::Promote { must_contain: GtidSet::Empty, acks: 1, lease_ms: None };
    bench.feed(directive(1, promotion));
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))));
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.feed(directive(2, follow()));
    let Effect::Operate { id, operation } = bench.take("start") else { panic!("an operation") };
    assert_eq!(operation, Operation::Start { boot: 2, replaced: true });
    bench.feed(Input::Finished { id, outcome: Outcome::Failed(failure(ErrorKind::Other, false)) });
    bench.pass(1_000);
    let Effect::Operate { operation, .. } = bench.take("start") else { panic!("an operation") };
    assert_eq!(operation, Operation::Start { boot: 2, replaced: false });
}

#[test]
fn a_server_that_never_ran_is_given_up() {
    let mut bench = Bench::new();
    bench.feed(Input::Launch { task: task() });
    bench.finish("provision", Outcome::Done);
    for _ in 0..=5 {
        bench.pass(1_000);
        bench.fail("start");
    }
    assert_eq!(bench.updates().last(), Some(&TaskState::Failed));
    bench.feed(Input::Acknowledged(TaskState::Failed));
    assert!(bench.machine.is_over());
}

#[test]
fn a_start_that_cannot_succeed_is_no_reason_to_give_up_data() {
    let unstable = Trouble::Unstable { detail: "no luck".into() };
    let gone = Trouble::DataGone { detail: "no luck".into() };
    for (kind, trouble) in [
        (ErrorKind::Unsupported, unstable),
        (ErrorKind::DataGone, gone),
        (ErrorKind::NotFound, Trouble::Unstable { detail: "no luck".into() }),
    ] {
        cannot_start(kind, trouble);
    }
}

fn cannot_start(kind: ErrorKind, trouble: Trouble) {
    let mut bench = Bench::up();
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    let Effect::Operate { id, .. } = bench.take("start") else { panic!("an operation") };
    bench.effects.clear();
    bench.feed(Input::Finished { id, outcome: Outcome::Failed(failure(kind, true)) });
    assert_eq!(bench.report().trouble, Some(trouble));
    bench.pass(59_999);
    assert!(!bench.has("start"));
    bench.pass(1);
    assert!(bench.has("start"));
}

#[test]
fn crashes_that_are_long_ago_do_not_count() {
    let mut bench = Bench::up();
    for boot in 1..20 {
        bench.feed(Input::Exited { boot, exit: exit() });
        bench.pass(1_000);
        bench.finish("start", started(false));
        bench.probe(status());
        bench.now = bench.now.after(200_000);
    }
    assert!(!bench.has("exit"));
}

#[test]
fn a_failing_start_is_tried_again_with_pauses() {
    let mut bench = Bench::up();
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.fail("start");
    assert_eq!(bench.report().role, MemberRole::Down { reason: "no luck".into() });
    bench.effects.clear();
    bench.pass(99);
    assert!(!bench.has("start"));
    bench.pass(1);
    assert_eq!(bench.finish("start", started(false)), Operation::Start { boot: 2, replaced: false });
}

#[test]
fn a_hung_server_is_killed_and_reported_when_it_is_gone() {
    let mut bench = Bench::primary(1);
    for _ in 0..3 {
        assert!(!bench.has("kill"));
        bench.probe_result(Err(failure(ErrorKind::Timeout, false)));
    }
    assert_eq!(bench.report().role, MemberRole::Primary, "down is said of what is gone");
    bench.pass(4_000);
    let hung = bench.report().trouble.expect("the kernel does not let it go");
    assert!(matches!(&hung, Trouble::Hung { .. }), "{hung}");
    bench.effects.retain(|effect| effect.name() == "kill");
    bench.killed();
    assert_eq!(bench.report().trouble, None);
    assert_eq!(bench.names(), ["report", "start"]);
    assert!(matches!(bench.report().role, MemberRole::Down { .. }));
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    assert_eq!(bench.names(), ["report", "start"], "the same end, told twice");
}

#[test]
fn a_probe_that_succeeds_forgives_the_failed_ones() {
    let mut bench = Bench::up();
    for _ in 0..10 {
        bench.probe_result(Err(failure(ErrorKind::Timeout, false)));
        bench.probe_result(Err(failure(ErrorKind::Unreachable, false)));
        bench.probe(status());
    }
    assert!(!bench.has("kill"));
    assert_eq!(bench.report().trouble, None);
}

#[test]
fn a_full_disk_is_told_and_no_reason_to_kill() {
    let mut bench = Bench::up();
    for _ in 0..5 {
        bench.probe_result(Err(failure(ErrorKind::Storage, false)));
    }
    assert_eq!(bench.report().trouble, Some(Trouble::Storage { detail: "no luck".into() }));
    assert!(!bench.has("kill"));
    bench.probe(ServerStatus { disk_free_bytes: Some(5 << 20), ..status() });
    assert_eq!(bench.report().trouble, Some(Trouble::Storage { detail: "only 5 MiB left for data".into() }));
    bench.probe(status());
    assert_eq!(bench.report().trouble, None);
    bench.feed(Input::PersistFailed(failure(ErrorKind::Storage, false)));
    assert_eq!(bench.report().trouble, Some(Trouble::Storage { detail: "no luck".into() }));
}
