//! Random histories against a toy world: whatever comes in whatever order, the machine keeps its promises.

use super::*;
use crate::ports::mysql::{Drained, Followed};
use crate::protocol::Stage;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Feed(Box<Input>),
    /// Answers the oldest outstanding operation, well or badly.
    Answer(u8),
    Probe(u8),
    Killed,
    Crash,
    Persist,
    Pass(u64),
    /// The executor dies and starts again from what was durable.
    Die,
    /// Repeats an earlier input.
    Repeat(usize),
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(freeze()),
        Just(promote()),
        Just(leased()),
        (1..5u32).prop_map(step_down),
        (1..5u32).prop_map(reopen),
        Just(follow()),
        Just(follow_from(2, &[7, 8])),
        Just(Order::Detach),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let input = prop_oneof![
        6 => (1..6u64, order()).prop_map(|(epoch, order)| directive(epoch, order)),
        2 => (0..3u64, 0..40u64, 0..9u64, any::<bool>()).prop_map(|(i, s, n, now)| heard(i, s, n, now)),
        1 => Just(Input::Connected),
        1 => Just(Input::Disconnected),
        1 => Just(Input::Launch { task: task() }),
        1 => (0..5u64).prop_map(|boot| Input::Exited { boot, exit: exit() }),
        1 => (0..60u64).prop_map(|id| Input::Killed { id: CallId(id) }),
        1 => Just(Input::PersistFailed(failure(ErrorKind::Storage, false))),
    ];
    let rare = prop_oneof![
        Just(Input::Kill { task: task(), grace_ms: 1_000 }),
        Just(Input::Shutdown { grace_ms: 0 }),
        Just(Input::Acknowledged(TaskState::Killed)),
    ];
    prop_oneof![
        40 => input.prop_map(|input| Step::Feed(Box::new(input))),
        1 => rare.prop_map(|input| Step::Feed(Box::new(input))),
        40 => any::<u8>().prop_map(Step::Answer),
        15 => any::<u8>().prop_map(Step::Probe),
        10 => Just(Step::Killed),
        4 => Just(Step::Crash),
        30 => Just(Step::Persist),
        15 => (0..3_000u64).prop_map(Step::Pass),
        1 => Just(Step::Die),
        5 => any::<usize>().prop_map(Step::Repeat),
    ]
}

/// What the machine controls, and the promises that it is held to.
struct World {
    machine: Executor,
    now: Millis,
    durable: ExecutorState,
    running: Option<(CallId, Operation)>,
    probe: Option<CallId>,
    kill: Option<CallId>,
    /// The process: its boot, and the epoch in which it is or may be open.
    process: Option<u64>,
    open: Option<Epoch>,
    /// The same before the promotion under way, which may be refused before anything is done.
    open_before: Option<Epoch>,
    /// In which epochs which process was opened; an epoch opens one process only.
    opened: Vec<(Epoch, u64, u64)>,
    last_report: Option<Report>,
    inputs: Vec<Input>,
}

impl World {
    fn new(durable: ExecutorState, now: Millis) -> Self {
        Self {
            machine: Executor::new(ExecutorConfig::default(), durable.clone(), now),
            now,
            durable,
            running: None,
            probe: None,
            kill: None,
            process: None,
            open: None,
            open_before: None,
            opened: Vec::new(),
            last_report: None,
            inputs: Vec::new(),
        }
    }

    fn feed(&mut self, input: Input) {
        self.inputs.push(input.clone());
        self.machine.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        for _ in 0..100 {
            if let Some(effect) = self.machine.poll_effect() {
                self.watch(effect);
            } else if self.machine.poll_timeout().is_some_and(|due| due <= self.now) {
                self.machine.handle_timeout(self.now);
            } else {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.machine);
    }

    fn watch(&mut self, effect: Effect) {
        match effect {
            Effect::Operate { id, operation } => self.watch_operation(id, operation),
            Effect::Probe { id } => assert_eq!(self.probe.replace(id), None, "one probe at a time"),
            Effect::Kill { id, .. } => assert_eq!(self.kill.replace(id), None, "one kill at a time"),
            Effect::Report(report) => {
                assert_eq!(report.incarnation, self.durable.incarnation, "the incarnation is durable");
                let obeyed = self.durable.obeyed.map(|rank| rank.epoch).unwrap_or_default();
                assert!(report.epoch <= obeyed, "only durable epochs are told");
                if matches!(report.role, MemberRole::Down { .. }) {
                    assert!(self.process.is_none_or(|boot| boot > report.boot), "down is what is gone");
                }
                if report.role == MemberRole::Primary {
                    assert_eq!(self.open, Some(report.epoch));
                }
                if let Some(last) = self.last_report.replace((*report).clone()) {
                    assert!(report.seq > last.seq && report.boot >= last.boot);
                }
            }
            Effect::Update { .. } | Effect::Warn(_) | Effect::Exit(_) => {}
        }
    }

    fn watch_operation(&mut self, id: CallId, operation: Operation) {
        assert_eq!(self.running, None, "one operation at a time");
        assert_eq!(self.kill, None, "nothing begins beside a kill");
        if let Some(epoch) = operation.epoch() {
            let obeyed = self.durable.obeyed.expect("an order is durable before it is obeyed");
            assert_eq!(epoch, obeyed.epoch, "only the highest rank is obeyed");
            let boot = self.process.expect("orders are for running servers");
            match &operation {
                Operation::Promote { .. } => {
                    assert!(matches!(obeyed.stage, Stage::Decided | Stage::Turn(_)));
                    assert_eq!(self.durable.promoted, Some(epoch));
                    let this = (epoch, self.durable.incarnation, boot);
                    assert!(self.opened.iter().all(|other| other.0 != epoch || *other == this), "opened once");
                    self.opened.push(this);
                    self.open_before = self.open.replace(epoch);
                }
                Operation::Drain { .. } => {
                    assert!(matches!(obeyed.stage, Stage::Decided | Stage::Turn(_)));
                    assert_eq!(self.durable.promoted, Some(epoch));
                    assert_eq!(self.open, None, "what is open has applied all");
                }
                Operation::Freeze { rank } => assert_eq!(*rank, obeyed),
                Operation::StepDown { rank, .. } => {
                    // At its end it does so by itself, in the rank in which it opened.
                    let ends = self.machine.ending.is_some() && rank.stage == Stage::Decided;
                    assert!(*rank == obeyed || ends, "{rank} while {obeyed} is obeyed");
                    assert!(self.open.is_none_or(|open| open == epoch), "it steps down in the epoch of its opening");
                }
                Operation::Follow { .. } | Operation::CopyFrom { .. } => assert_eq!(obeyed.stage, Stage::Decided),
                Operation::Provision | Operation::Start { .. } | Operation::Stop { .. } => {
                    unreachable!("no epoch")
                }
            }
        }
        let may_be_open =
            matches!(operation, Operation::Promote { .. } | Operation::StepDown { .. } | Operation::Stop { .. });
        assert!(may_be_open || self.open.is_none(), "a writable server is killed before anything else: {operation:?}");
        if matches!(operation, Operation::Start { .. } | Operation::Provision) {
            assert_eq!(self.process, None, "what runs is not started");
        }
        self.running = Some((id, operation));
    }

    fn end_process(&mut self) {
        self.process = None;
        self.open = None;
        self.open_before = None; // a promotion that is answered later was of the process that is gone
    }

    fn answer(&mut self, how: u8) {
        let Some((id, operation)) = self.running.take() else { return };
        let failed = how.is_multiple_of(4);
        let outcome = match &operation {
            _ if failed => {
                Outcome::Failed(failure(if how == 8 { ErrorKind::Storage } else { ErrorKind::Other }, how == 16))
            }
            Operation::Freeze { .. } | Operation::StepDown { .. } => frozen("0-1-5"),
            Operation::Drain { .. } => Outcome::Drained(Drained {
                position: gtids("0-1-5"),
                unapplied: u64::from(how.is_multiple_of(3)),
                done: !how.is_multiple_of(3),
                obstacle: how.is_multiple_of(7).then(|| "1062".to_owned()),
            }),
            Operation::Promote { .. } if how.is_multiple_of(7) => Outcome::Promoted(Promoted::Incomplete("x".into())),
            Operation::Promote { .. } if how.is_multiple_of(5) => {
                Outcome::Promoted(Promoted::Applying { unapplied: 2 })
            }
            Operation::Promote { .. } => Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))),
            Operation::Follow { .. } if how.is_multiple_of(7) => Outcome::Followed(Followed::Errant("x".into())),
            Operation::Follow { .. } if how.is_multiple_of(5) => {
                Outcome::Followed(Followed::HistoryMissing("x".into()))
            }
            Operation::Follow { .. } => Outcome::Followed(Followed::Attached),
            Operation::Start { .. } | Operation::CopyFrom { .. } => {
                Outcome::Started(Started { kept: !how.is_multiple_of(3) })
            }
            Operation::Provision | Operation::Stop { .. } => Outcome::Done,
        };
        let before = self.process;
        match &operation {
            Operation::Start { boot, .. } | Operation::CopyFrom { boot, .. } => {
                self.end_process();
                self.process = (!failed).then_some(*boot);
            }
            Operation::Stop { .. } => self.end_process(),
            Operation::StepDown { .. } if !failed => self.open = None,
            Operation::Promote { .. }
                if matches!(outcome, Outcome::Promoted(Promoted::Incomplete(_) | Promoted::Applying { .. })) =>
            {
                self.open = self.open_before;
            }
            Operation::StepDown { .. }
            | Operation::Provision
            | Operation::Freeze { .. }
            | Operation::Drain { .. }
            | Operation::Promote { .. }
            | Operation::Follow { .. } => {}
        }
        self.feed(Input::Finished { id, outcome });
        if matches!(operation, Operation::CopyFrom { .. } | Operation::Stop { .. })
            && let Some(boot) = before
        {
            self.feed(Input::Exited { boot, exit: Exit { description: "status 0".into(), expected: true } });
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Feed(input) => self.feed(*input),
            Step::Answer(how) => self.answer(how),
            Step::Probe(how) => {
                let Some(id) = self.probe.take() else { return };
                let replication = following_status(LinkState::Connected).replication;
                let result = match how % 8 {
                    0 => Err(failure(ErrorKind::Timeout, false)),
                    1 => Ok(primary_status(u32::from(how % 3))),
                    2 => Ok(ServerStatus { replication, ..status() }),
                    _ => {
                        let writable = self.open.is_some();
                        Ok(ServerStatus { writable, replicas: u32::from(how % 3), ..status() })
                    }
                };
                self.feed(Input::Probed { id, result });
            }
            Step::Killed => {
                let Some(id) = self.kill.take() else { return };
                let boot = self.process;
                self.end_process();
                self.feed(Input::Killed { id });
                if let Some(boot) = boot {
                    self.feed(Input::Exited { boot, exit: exit() });
                }
            }
            Step::Crash => {
                // While its data is copied the process is the operation's own affair.
                let copying = matches!(self.running, Some((_, Operation::CopyFrom { .. })));
                let Some(boot) = self.process.filter(|_| !copying) else { return };
                self.end_process();
                self.feed(Input::Exited { boot, exit: exit() });
            }
            Step::Persist => {
                let Some((revision, state)) = self.machine.checkpoint() else { return };
                let state = state.clone();
                assert!(state.obeyed >= self.durable.obeyed && state.promoted >= self.durable.promoted);
                self.durable = state;
                self.machine.handle_persisted(revision);
                self.drain();
            }
            Step::Pass(ms) => {
                let until = self.now.after(ms);
                while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
                    self.now = due;
                    self.machine.handle_timeout(due);
                    self.drain();
                }
                self.now = until;
            }
            Step::Die => {
                let opened = std::mem::take(&mut self.opened);
                let next = Self::new(self.durable.clone(), self.now);
                *self = Self { opened, ..next };
                self.feed(Input::Connected);
                self.feed(Input::Launch { task: task() });
            }
            Step::Repeat(which) => {
                if !self.inputs.is_empty() {
                    let input = self.inputs[which % self.inputs.len()].clone();
                    // The end of a start is only told after it ended, that of a kill only when that is done; one that was
                    // made up before may fit by now.
                    let untrue = matches!(&input, Input::Exited { boot, .. } if self.process == Some(*boot))
                        || matches!(&input, Input::Killed { id } if self.kill == Some(*id));
                    if !untrue {
                        self.feed(input);
                    }
                }
            }
        }
    }

    /// No more faults: everything is answered well. The member must come to rest where the last order put it.
    fn heal(&mut self) {
        self.feed(Input::Connected);
        for _ in 0..400 {
            self.step(Step::Persist);
            self.step(Step::Killed);
            self.answer(1);
            if let Some(id) = self.probe.take() {
                let healthy = if self.open.is_some() { primary_status(1) } else { self.replica_status() };
                self.feed(Input::Probed { id, result: Ok(healthy) });
            }
            self.step(Step::Pass(250)); // longer in all than an unstable server rests
            let last = self.last_report.as_ref().map_or(0, |report| report.seq);
            self.feed(heard(self.durable.incarnation, last, 100, false));
        }
    }

    fn replica_status(&self) -> ServerStatus {
        let Some(Goal { order: Order::Follow { primary, .. }, .. }) = &self.machine.goal else { return status() };
        let mut status = following_status(LinkState::Connected);
        if let Some(replication) = &mut status.replication {
            replication.source = primary.clone();
        }
        status
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn promises_are_kept_and_goals_reached(steps in proptest::collection::vec(step(), 1..200)) {
        let mut world = World::new(ExecutorState::default(), Millis(0));
        world.feed(Input::Connected);
        world.feed(Input::Launch { task: task() });
        for step in steps {
            // Answers and exits are only told when they are true; stale ones may be made up.
            if let Step::Feed(input) = &step
                && let Input::Killed { id } = &**input
                && world.kill == Some(*id)
            {
                continue;
            }
            if let Step::Feed(input) = &step
                && let Input::Exited { boot, .. } = &**input
                && (world.process == Some(*boot) || matches!(world.running, Some((_, Operation::CopyFrom { .. }))))
            {
                continue;
            }
            world.step(step);
        }
        world.heal();
        if world.machine.ending.is_some() {
            world.step(Step::Pass(60_000));
            prop_assert!(world.machine.is_over());
        } else {
            let report = world.last_report.clone().expect("reports are sent");
            let goal = world.machine.goal.clone();
            let reached = match goal.as_ref().map(|goal| &goal.order) {
                None => report.role == MemberRole::Idle,
                Some(Order::Freeze | Order::Detach) => report.role == MemberRole::Frozen,
                Some(Order::Follow { .. }) => report.role == MemberRole::Following { connected: true },
                Some(order) => {
                    let current = goal.as_ref().is_some_and(|goal| goal.boot == Some(report.boot));
                    // Nobody decides what comes next, so it may have opened again.
                    let back = world.machine.taken_back.is_some_and(|rank| goal.as_ref().is_some_and(|g| g.rank == rank));
                    let steps_down = matches!(order, Order::StepDown { .. });
                    let opens_again = back && world.machine.server.opened_by.is_some();
                    report.role
                        == match (current, steps_down) {
                            (true, true) if !opens_again => MemberRole::SteppedDown,
                            (true, _) => MemberRole::Primary,
                            (false, _) => MemberRole::Idle,
                        }
                }
            };
            prop_assert!(reached, "{:?} {:?}", goal, report);
        }
    }
}
