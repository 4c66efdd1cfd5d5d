//! Ending in time, whatever is under way.

use super::*;
use crate::ports::mysql::Followed;

fn kill(grace_ms: u64) -> Input {
    Input::Kill { task: task(), grace_ms }
}

#[test]
fn a_kill_stops_cleanly_tells_and_exits() {
    let mut bench = Bench::up();
    bench.feed(kill(3_000));
    assert_eq!(bench.finish("stop", Outcome::Done), Operation::Stop { grace_ms: 3_000 });
    assert_eq!(bench.updates(), [TaskState::Killed]);
    assert!(!bench.has("exit"));
    bench.feed(Input::Acknowledged(TaskState::Killed));
    assert_eq!(bench.take("exit"), Effect::Exit(ExitReason::Killed));
    bench.feed(kill(3_000));
    assert!(bench.effects.is_empty(), "it is over");
}

#[test]
fn a_shutdown_is_the_same_without_a_task_of_its_own() {
    let mut bench = Bench::up();
    bench.feed(Input::Shutdown { grace_ms: 3_000 });
    bench.feed(Input::Shutdown { grace_ms: 3_000 });
    bench.finish("stop", Outcome::Done);
    assert_eq!(bench.updates(), [TaskState::Killed]);
    bench.pass(5_000);
    assert_eq!(bench.take("exit"), Effect::Exit(ExitReason::Shutdown));
    let mut bench = Bench::new();
    bench.feed(Input::Shutdown { grace_ms: 3_000 });
    assert_eq!(bench.names(), ["exit"]);
}

/// Its primary may be shut down in the same moment.
#[test]
fn a_replica_that_is_shut_down_acknowledges_for_a_moment() {
    let following = |connected| {
        let mut bench = Bench::up();
        bench.feed(directive(1, follow()));
        bench.finish("follow", Outcome::Followed(Followed::Attached));
        bench.probe(following_status(connected));
        bench
    };
    for (grace, moment) in [(2_000, 500), (60_000, 1_000)] {
        let mut bench = following(LinkState::Connected);
        bench.feed(Input::Shutdown { grace_ms: grace });
        bench.pass(moment - 1);
        assert!(!bench.has("stop"));
        bench.pass(1);
        assert!(bench.has("stop"));
    }
    let mut alone = following(LinkState::Connecting);
    alone.feed(Input::Shutdown { grace_ms: 2_000 });
    assert!(alone.has("stop"), "it has no primary");
    let mut killed = following(LinkState::Connected);
    killed.feed(kill(2_000));
    assert!(killed.has("stop"), "it alone");
}

#[test]
fn a_kill_before_the_launch_works() {
    let mut bench = Bench::new();
    bench.feed(Input::Connected);
    bench.feed(kill(3_000));
    assert_eq!(bench.updates(), [TaskState::Killed]);
    bench.feed(Input::Launch { task: task() });
    assert!(!bench.has("provision"));
    bench.feed(Input::Acknowledged(TaskState::Killed));
    assert!(bench.machine.is_over());
}

#[test]
fn a_kill_while_provisioning_waits_for_nothing() {
    let mut bench = Bench::new();
    bench.feed(Input::Launch { task: task() });
    bench.feed(kill(3_000));
    assert_eq!(bench.updates(), [TaskState::Starting, TaskState::Killed]);
}

#[test]
fn a_kill_while_starting_interrupts_it_in_time() {
    let mut bench = Bench::new();
    bench.feed(Input::Launch { task: task() });
    bench.finish("provision", Outcome::Done);
    bench.feed(kill(3_000));
    let Effect::Operate { id, .. } = bench.take("start") else { panic!("an operation") };
    bench.pass(1_499);
    assert!(!bench.has("kill"));
    bench.pass(1);
    bench.killed();
    assert!(!bench.has("update"));
    bench.feed(Input::Finished { id, outcome: Outcome::Failed(failure(ErrorKind::Other, false)) });
    assert_eq!(bench.updates(), [TaskState::Killed]);
}

#[test]
fn a_server_that_comes_up_while_the_task_ends_is_stopped() {
    let mut bench = Bench::new();
    bench.feed(Input::Launch { task: task() });
    bench.finish("provision", Outcome::Done);
    bench.feed(kill(3_000));
    bench.effects.retain(|effect| effect.name() == "start");
    bench.finish("start", started(false));
    assert_eq!(bench.updates(), [], "it does not run any more");
    bench.finish("stop", Outcome::Done);
    assert_eq!(bench.updates(), [TaskState::Killed]);
}

#[test]
fn an_end_comes_even_if_nothing_answers() {
    for begin in ["start", "stop"] {
        let mut bench = Bench::new();
        bench.feed(Input::Launch { task: task() });
        bench.finish("provision", Outcome::Done);
        if begin == "stop" {
            bench.finish("start", started(false));
        }
        bench.feed(kill(3_000));
        bench.pass(30_000);
        assert!(bench.has("kill") && bench.has("exit"), "{begin}: {:?}", bench.names());
    }
}

#[test]
fn no_grace_is_a_kill() {
    let mut bench = Bench::up();
    bench.feed(kill(0));
    assert!(bench.has("kill") && !bench.has("stop"));
    bench.killed();
    assert_eq!(bench.updates(), [TaskState::Killed]);
}

#[test]
fn a_primary_is_stopped_cleanly_only_if_nobody_is_deceived() {
    for (replicas, waiting, cleanly) in [(1, 0, true), (1, 1, true), (0, 0, false), (0, 1, false)] {
        let mut bench = Bench::primary(1);
        bench.probe(ServerStatus { waiting, ..primary_status(replicas) });
        bench.feed(Input::Message(ToExecutor::LetGo));
        bench.feed(kill(3_000));
        assert_eq!(bench.has("step_down"), cleanly, "{replicas} replicas, {waiting} waiting");
        assert_eq!(bench.has("kill"), !cleanly);
        assert!(!bench.has("stop"), "clients may commit meanwhile, and the replicas be gone");
    }
}

#[test]
fn a_primary_that_closed_is_stopped_cleanly_and_one_that_could_not_is_killed() {
    for closed in [true, false] {
        let mut bench = Bench::primary(1);
        bench.feed(Input::Message(ToExecutor::LetGo));
        bench.feed(kill(3_000));
        let frozen = Outcome::Frozen(Frozen { position: GtidSet::Empty, unapplied: 0, obstacle: None });
        let outcome = if closed { frozen } else { Outcome::Failed(failure(ErrorKind::Timeout, false)) };
        let operation = bench.finish("step_down", outcome);
        assert!(matches!(operation, Operation::StepDown { grace_ms: 750, .. }), "{operation:?}");
        assert_eq!((bench.has("stop"), bench.has("kill")), (closed, !closed));
    }
}

#[test]
fn a_foreign_kill_is_ignored() {
    let mut bench = Bench::up();
    bench.feed(Input::Kill { task: TaskId::from("mysos-b-0"), grace_ms: 0 });
    assert_eq!(bench.names(), ["warn"]);
}

#[test]
fn an_ending_primary_is_still_fenced() {
    let mut bench = Bench::primary(1);
    bench.feed(Input::Message(ToExecutor::LetGo));
    bench.feed(kill(60_000));
    assert!(bench.has("step_down"));
    bench.feed(directive(2, follow()));
    bench.killed();
    bench.finish_quietly();
    assert!(!bench.has("follow"));
}

impl Bench {
    /// Whatever is asked for fails, until the machine is over.
    fn finish_quietly(&mut self) {
        self.pass(100_000);
        assert!(self.machine.is_over());
    }
}
