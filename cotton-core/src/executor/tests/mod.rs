//! The machine driven by hand, one behaviour a test; `random` drives it at random against a toy model.

mod draining;
mod ending;
mod fencing;
mod life;
mod orders;
mod random;
mod reports;
mod step_down;

use super::*;
use crate::ports::mysql::{Exit, Following, Frozen, LinkState, Promoted, Replication, ServerStatus, Started};
use crate::protocol::{Directive, MemberRole, Report, ToExecutor};
use crate::{Endpoint, Epoch, ErrorKind, GtidSet, MemberId};

/// A machine with a clock and a driver that answers nothing by itself.
struct Bench {
    machine: Executor,
    now: Millis,
    /// Whether checkpoints become durable at once.
    durable: bool,
    effects: Vec<Effect>,
    /// The newest report, taken or not.
    reported: Option<Report>,
    /// The probe that was not answered yet.
    probing: Option<CallId>,
}

fn task() -> TaskId {
    TaskId::from("mysos-a-0")
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new("127.0.0.1", port)
}

fn gtids(text: &str) -> GtidSet {
    GtidSet::MariaDb(text.parse().expect("a valid position"))
}

/// The answer to a start, with or without all that the server had received before.
fn started(kept: bool) -> Outcome {
    Outcome::Started(Started { kept })
}

/// The answer to a freeze: all of that, and applied.
fn frozen(position: &str) -> Outcome {
    Outcome::Frozen(Frozen { position: gtids(position), unapplied: 0, obstacle: None })
}

fn failure(kind: ErrorKind, permanent: bool) -> Failure {
    Failure { kind, permanent, detail: "no luck".to_owned() }
}

fn status() -> ServerStatus {
    ServerStatus {
        version: "10.11".to_owned(),
        writable: false,
        position: gtids("0-1-5"),
        unapplied: 0,
        origin: "1".to_owned(),
        applied: gtids("0-1-5"),
        replication: None,
        replicas: 0,
        waiting: 0,
        disk_free_bytes: Some(1 << 40),
        waits_for_room: false,
        data_gone: false,
    }
}

fn following_status(link: LinkState) -> ServerStatus {
    let replication =
        Replication { source: endpoint(1), link, applying: true, lag_s: Some(0), read_to: None, error: None };
    ServerStatus { replication: Some(replication), ..status() }
}

fn primary_status(replicas: u32) -> ServerStatus {
    ServerStatus { writable: true, replicas, ..status() }
}

fn freeze() -> Order {
    Order::Freeze
}

fn promote() -> Order {
    Order::Promote { must_contain: GtidSet::Empty, acks: 1, lease_ms: None }
}

fn leased() -> Order {
    Order::Promote { must_contain: GtidSet::Empty, acks: 0, lease_ms: Some(5_000) }
}

fn step_down(turn: u32) -> Order {
    Order::StepDown { turn, grace_ms: 2_000, lease_ms: None }
}

fn reopen(turn: u32) -> Order {
    Order::Reopen { turn, must_contain: GtidSet::Empty, acks: 1, lease_ms: None }
}

fn follow() -> Order {
    follow_from(1, &[])
}

fn follow_from(port: u16, donors: &[u16]) -> Order {
    let donors = donors.iter().map(|port| endpoint(*port)).collect();
    Order::Follow { primary: endpoint(port), primary_id: MemberId(9), semi_sync: true, donors, copy: false }
}

fn directive(epoch: u64, order: Order) -> Input {
    Input::Message(ToExecutor::Directive(Directive { epoch: Epoch(epoch), order }))
}

fn heard(incarnation: u64, seq: u64, nonce: u64, report_now: bool) -> Input {
    Input::Message(ToExecutor::Heard { incarnation, seq, nonce, report_now, others: 1 })
}

fn exit() -> Exit {
    Exit { description: "signal 9".to_owned(), expected: false }
}

impl Bench {
    fn new() -> Self {
        Self::with(ExecutorState::default())
    }

    fn with(state: ExecutorState) -> Self {
        // Most tests are about other things than the pause for a successor.
        let config = ExecutorConfig { restart_hold_ms: 0, ..ExecutorConfig::default() };
        let machine = Executor::new(config, state, Millis(1000));
        Self { machine, now: Millis(1000), durable: true, effects: Vec::new(), reported: None, probing: None }
    }

    /// Launched, provisioned, started, looked at.
    fn up() -> Self {
        let mut bench = Self::new();
        bench.feed(Input::Connected);
        bench.feed(Input::Launch { task: task() });
        bench.finish("provision", Outcome::Done);
        bench.finish("start", started(false));
        bench.probe(status());
        assert_eq!(bench.report().role, MemberRole::Idle);
        bench.effects.clear();
        bench
    }

    fn primary(epoch: u64) -> Self {
        Self::primary_by(epoch, promote())
    }

    /// Open for writes by that order, and heard of.
    fn primary_by(epoch: u64, order: Order) -> Self {
        let mut bench = Self::up();
        bench.feed(directive(epoch, order));
        let seq = bench.report().seq;
        bench.feed(heard(1, seq, 0, false));
        bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-5"))));
        bench.probe(primary_status(1));
        assert_eq!(bench.report().role, MemberRole::Primary);
        bench.effects.clear();
        bench
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        self.drain();
    }

    fn persist(&mut self) {
        if let Some((revision, _)) = self.machine.checkpoint() {
            self.machine.handle_persisted(revision);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match &effect {
                Effect::Report(report) => self.reported = Some((**report).clone()),
                Effect::Probe { id } => self.probing = Some(*id),
                Effect::Update { .. }
                | Effect::Operate { .. }
                | Effect::Kill { .. }
                | Effect::Warn(_)
                | Effect::Exit(_) => {}
            }
            self.effects.push(effect);
            assert!(self.effects.len() < 10_000, "no end of {:?}", self.effects.last());
        }
        if self.durable && self.machine.checkpoint().is_some() {
            self.persist();
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now.after(ms);
        let mut turns = 0;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.drain();
            turns += 1;
            assert!(turns < 10_000, "time does not pass");
        }
        self.now = until;
        self.machine.handle_timeout(self.now);
        self.drain();
    }

    /// Takes the one effect of this name that was made, and forgets the ones before it.
    fn take(&mut self, name: &str) -> Effect {
        let names: Vec<_> = self.effects.iter().map(Effect::name).collect();
        let at = names.iter().position(|found| *found == name).unwrap_or_else(|| panic!("no {name} in {names:?}"));
        self.effects.drain(..=at).next_back().expect("one at least")
    }

    fn has(&self, name: &str) -> bool {
        self.effects.iter().any(|effect| effect.name() == name)
    }

    fn finish(&mut self, name: &str, outcome: Outcome) -> Operation {
        let Effect::Operate { id, operation } = self.take(name) else { panic!("{name} is no operation") };
        self.feed(Input::Finished { id, outcome });
        operation
    }

    fn fail(&mut self, name: &str) -> Operation {
        self.finish(name, Outcome::Failed(failure(ErrorKind::Other, false)))
    }

    fn probe_result(&mut self, result: Result<ServerStatus, Failure>) {
        for turn in 0.. {
            if self.probing.is_some() {
                break;
            }
            assert!(turn < 100, "no probe comes: {:?}", self.machine);
            let at = self.machine.poll_timeout().expect("a probe comes some time");
            self.pass(at.since(self.now));
        }
        self.effects.retain(|effect| effect.name() != "probe");
        let id = self.probing.take().expect("waited for");
        self.feed(Input::Probed { id, result });
    }

    fn probe(&mut self, status: ServerStatus) {
        self.probe_result(Ok(status));
    }

    fn killed(&mut self) {
        let Effect::Kill { id, .. } = self.take("kill") else { panic!("a kill is a kill") };
        self.feed(Input::Killed { id });
    }

    /// The newest report.
    fn report(&self) -> Report {
        self.reported.clone().expect("a report")
    }

    fn updates(&self) -> Vec<TaskState> {
        let update = |effect: &Effect| if let Effect::Update { state, .. } = effect { Some(*state) } else { None };
        self.effects.iter().filter_map(update).collect()
    }

    fn names(&self) -> Vec<&'static str> {
        self.effects.iter().map(Effect::name).collect()
    }
}
