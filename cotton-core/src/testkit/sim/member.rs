//! A member: the real executor machine as a process on an agent, its disk, and its server.

use super::Mutation;
use super::history::{Data, Txn};
use super::plan::Plan;
use super::server::{Link, Server};
use super::watch::Ends;
use super::world::{Event, World, trace};
use crate::executor::{CallId, Effect, Executor, ExecutorState, ExitReason, Failure, Input, Operation, Outcome};
use crate::ports::mesos::{MesosEvent, TaskState};
use crate::ports::mysql::{Drained, Exit, Followed, Frozen, Promoted, Promotion, ServerStatus, Started};
use crate::protocol::{self, MemberTask, Order, ToExecutor};
use crate::testkit::invariants::{Task, durable_first};
use crate::{ClusterName, Endpoint, Epoch, ErrorKind, GtidSet, MemberId, Millis, Revision, TaskId, VolumeId};
use bytes::Bytes;
use std::collections::VecDeque;

/// How long an operation on a server that does not answer is waited for.
const OPERATION_MS_MAX: u64 = 10_000;
/// The same of a probe, in tenths of a second.
const PROBE_PATIENCE: u32 = 10;
const KILL_GRACE_MS: u64 = 2_000;

/// One task.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Member {
    pub(super) task: TaskId,
    pub(super) spec: MemberTask,
    pub(super) agent: usize,
    pub(super) life: usize,
    pub(super) machine: Option<Executor>,
    /// What lies on its disk.
    pub(super) state: ExecutorState,
    /// The volume that this disk is, if it is one.
    pub(super) volume: Option<VolumeId>,
    saving: bool,
    timer: Option<Millis>,
    pub(super) server: Server,
    /// Counts changes of the link, so that an attempt to connect for an old one is forgotten.
    pub(super) link: u64,
    operation: Option<Underway>,
    /// How often it was asked to apply what it has received.
    drains: u32,
    /// The primary that it began to follow last, and what that had then.
    began_with: Option<(Endpoint, GtidSet)>,
    /// Whether its agent has heard of it; whether it is gone with its agent; whether no process of it is left.
    pub(super) arrived: bool,
    pub(super) lost: bool,
    pub(super) ended: bool,
    /// Task states that are not acknowledged, and whether the last of them was told.
    pub(super) updates: VecDeque<(u64, TaskState, String)>,
    pub(super) closed: bool,
}

#[derive(Clone, Debug)]
struct Underway {
    id: CallId,
    operation: Operation,
    boot: u64,
    give_up: Millis,
    replaces: Option<Replaced>,
}

/// What a copy takes the place of.
#[derive(Clone, Debug)]
struct Replaced {
    data: Data,
    relay: VecDeque<Txn>,
    /// Whether its server ran, and had given nothing up that it had received.
    kept: bool,
}

impl Member {
    pub(super) fn new(task: TaskId, spec: MemberTask, agent: usize, plan: &Plan) -> Self {
        let server_id = u32::try_from(spec.member.server_id()).expect("simulated clusters are small");
        Self {
            task,
            life: spec.secrets.user.as_str().parse().expect("the simulated user's secret is the number of a life"),
            agent,
            machine: None,
            state: ExecutorState::default(),
            volume: None,
            saving: false,
            timer: None,
            server: Server::new(plan.dialect, server_id, plan.keeps_relay),
            link: 0,
            operation: None,
            drains: 0,
            began_with: None,
            arrived: false,
            lost: false,
            ended: false,
            updates: VecDeque::new(),
            closed: false,
            spec,
        }
    }
}

impl World {
    pub(super) fn start_executor(&mut self, task: Task) {
        let (config, now) = (self.plan.executor.clone(), self.now);
        let member = &mut self.members[task];
        member.machine = Some(Executor::new(config, member.state.clone(), now));
        let delay = self.delay((5, 200));
        self.after(delay, Event::ExecutorConnects { task });
        self.pump_executor(task);
    }

    pub(super) fn executor_connects(&mut self, task: Task) {
        let id = self.members[task].task.clone();
        if self.agents[self.members[task].agent].local {
            self.feed_executor(task, Input::Connected);
            let refused = self.is_bad(task) && self.random.chance(300);
            self.feed_executor(
                task,
                if refused {
                    Input::Refused {
                        task: id,
                        reason: "its secrets cannot be opened with the key of this agent".to_owned(),
                    }
                } else {
                    Input::Launch { task: id }
                },
            );
        }
    }

    pub(super) fn kill_executor(&mut self, task: Task) {
        let id = self.members[task].task.clone();
        if self.members[task].machine.is_some() {
            return self.feed_executor(task, Input::Kill { task: id, grace_ms: KILL_GRACE_MS });
        }
        self.update(task, TaskState::Killed, "killed before it ran");
        self.end_task(task);
    }

    pub(super) fn tell_executor(&mut self, task: Task, data: &Bytes) {
        let why = "the scheduler's messages make sense: checked when they left";
        let mut message: ToExecutor = protocol::decode(data).expect(why);
        if self.mutation == Some(Mutation::LeasesForgotten)
            && let ToExecutor::Directive(directive) = &mut message
            && let Order::Promote { lease_ms, .. } | Order::StepDown { lease_ms, .. } | Order::Reopen { lease_ms, .. } =
                &mut directive.order
        {
            *lease_ms = None;
        }
        if self.agents[self.members[task].agent].local {
            self.feed_executor(task, Input::Message(message));
        }
    }

    pub(super) fn feed_executor(&mut self, task: Task, input: Input) {
        let now = self.now;
        if let Some(machine) = &mut self.members[task].machine {
            machine.handle(now, input);
            self.pump_executor(task);
        }
    }

    pub(super) fn wake_executor(&mut self, task: Task, at: Millis) {
        let now = self.now;
        let member = &mut self.members[task];
        if member.timer != Some(at) {
            return;
        }
        member.timer = None;
        if let Some(machine) = &mut member.machine {
            machine.handle_timeout(now);
            self.pump_executor(task);
        }
    }

    /// The executor's driver: persist beside, run what may run.
    fn pump_executor(&mut self, task: Task) {
        loop {
            let member = &mut self.members[task];
            let Some(machine) = &mut member.machine else { return };
            if !member.saving
                && let Some((revision, state)) = machine.checkpoint()
            {
                member.saving = true;
                let state = Box::new(state.clone());
                if self.mutation == Some(Mutation::ExecutorActsBeforeSaved) {
                    machine.handle_persisted(revision);
                }
                let saved = !self.mishap(self.plan.local_saves_fail) && !self.is_bad(task);
                let took = self.delay((1, 20));
                self.after(took, Event::ExecutorSaved { task, revision, state, saved });
                continue;
            }
            let Some(effect) = machine.poll_effect() else { break };
            self.obey_executor(task, effect);
        }
        let member = &mut self.members[task];
        let Some(machine) = &member.machine else { return };
        let due = machine.poll_timeout();
        if due != member.timer {
            member.timer = due;
            if let Some(at) = due {
                self.at(at, Event::ExecutorWakes { task, at });
            }
        }
    }

    pub(super) fn executor_saved(&mut self, task: Task, revision: Revision, state: ExecutorState, saved: bool) {
        let there = saved || self.random.chance(500);
        let member = &mut self.members[task];
        let Some(machine) = &mut member.machine else { return };
        if there {
            member.state = state;
        }
        if saved {
            member.saving = false;
            machine.handle_persisted(revision);
            return self.wake_now(task);
        }
        let detail = "the disk did not take it".to_owned();
        self.feed_executor(task, Input::PersistFailed(Failure { kind: ErrorKind::Storage, permanent: false, detail }));
        self.after(50, Event::ExecutorSavesAgain { task });
    }

    pub(super) fn executor_saves_again(&mut self, task: Task) {
        self.members[task].saving = false;
        self.pump_executor(task);
    }

    fn wake_now(&mut self, task: Task) {
        let now = self.now;
        if let Some(machine) = &mut self.members[task].machine {
            machine.handle_timeout(now);
        }
        self.pump_executor(task);
    }

    fn obey_executor(&mut self, task: Task, effect: Effect) {
        match effect {
            Effect::Update { state, message, .. } => {
                trace!(self, "{}: is {state:?} {message}", self.members[task].task);
                self.update(task, state, &message);
                self.after(2, Event::UpdateTaken { task, state });
            }
            Effect::Report(report) => {
                let mut report = report;
                if self.mutation == Some(Mutation::StartsNotCounted) {
                    report.boot = 1;
                    report.kept_since = None;
                }
                let member = &self.members[task];
                trace!(
                    self,
                    "{}: reports #{} epoch {} {:?} {:?} boot {} at {} {:?}",
                    member.task,
                    report.seq,
                    report.epoch,
                    report.stage,
                    report.role,
                    report.boot,
                    report.position,
                    report.trouble
                );
                let data: Bytes = protocol::encode(&report).into();
                let (id, agent) = (member.task.clone(), member.agent);
                if self.mishap(self.plan.doubled) {
                    self.report(agent, id.clone(), data.clone());
                }
                self.report(agent, id, data);
            }
            Effect::Operate { id, operation } => self.begin_operation(task, id, operation),
            Effect::Probe { id } => {
                let delay = self.delay((1, 20));
                self.after(delay, Event::ProbeLooks { task, id, patience: PROBE_PATIENCE });
            }
            Effect::Kill { id, reason } => {
                trace!(self, "{}: kills its server: {reason}", self.members[task].task);
                self.judge_kill(task, &reason);
                self.judge_ending(task, "an executor kills the server of", Ends::WithProcess);
                if self.mutation == Some(Mutation::StopInsteadOfKill) {
                    self.answer_all(task);
                }
                self.end_server(task, false);
                self.after(2, Event::Killed { task, id });
            }
            Effect::Warn(text) => trace!(self, "{}: warns: {text}", self.members[task].task),
            Effect::Exit(reason) => {
                trace!(self, "{}: exits: {reason:?}", self.members[task].task);
                if matches!(reason, ExitReason::Failed(_)) {
                    if !self.is_on_volume(task) {
                        self.judge_ending(task, "an executor gives up", Ends::All);
                    }
                    self.fail(task, true); // it gave up by itself, and its data with it
                }
                self.end_server(task, false);
                self.members[task].machine = None;
                self.update(task, TaskState::Failed, "executor terminated");
                self.end_task(task);
            }
        }
    }

    fn report(&mut self, agent: usize, task: TaskId, data: Bytes) {
        let lost = self.mishap(self.plan.lost) || self.now < self.silent_until;
        let here = &self.agents[agent];
        if lost || !here.reachable() || !here.registered || !here.local {
            return;
        }
        let Some(connection) = self.master.connection else { return };
        let delay = self.delay(self.plan.network_ms) + self.delay(self.plan.network_ms);
        self.after(delay, Event::ToScheduler { connection, event: Box::new(MesosEvent::Message { task, data }) });
    }

    pub(super) fn update_taken(&mut self, task: Task, state: TaskState) {
        self.feed_executor(task, Input::Acknowledged(state));
    }

    /// No process of the task is left, and its data is nobody's any more, unless it is on a volume.
    pub(super) fn end_task(&mut self, task: Task) {
        let member = &mut self.members[task];
        if member.ended {
            return;
        }
        member.ended = true;
        self.unmount(task);
        let member = &mut self.members[task];
        member.server.data = None;
        let place = (self.agents[member.agent].id.clone(), member.spec.endpoint.port);
        self.no_more.on_ended(&member.task, &place);
    }

    // Operations on the server.

    fn begin_operation(&mut self, task: Task, id: CallId, operation: Operation) {
        let member = &mut self.members[task];
        self.events += 1;
        let boot = member.server.boot;
        let verdict = durable_first::on_operation(&member.state, &operation);
        trace!(self, "{}: begins {operation:?}", self.members[task].task);
        self.hold(verdict);
        let mut delay = self.delay(self.plan.operation_ms);
        let mut replaces = None;
        match &operation {
            Operation::Drain { budget_ms, .. } => delay += budget_ms,
            Operation::CopyFrom { .. } => {
                self.judge_ending(task, "a copy takes the place of the data of", Ends::All);
                let server = &self.members[task].server;
                let (kept, relay) = (server.up && !server.gave_up, server.relay.clone());
                self.end_server(task, true);
                let server = &mut self.members[task].server;
                server.relay.clear();
                replaces = server.data.take().map(|data| Replaced { data, relay, kept });
                delay += self.random.within(100, 2_000);
            }
            Operation::Provision | Operation::Start { .. } => delay += self.random.within(10, 1_000),
            Operation::Freeze { .. }
            | Operation::StepDown { .. }
            | Operation::Promote { .. }
            | Operation::Follow { .. }
            | Operation::Stop { .. } => {}
        }
        if matches!(operation, Operation::Stop { .. }) {
            self.judge_ending(task, "an executor stops the server of", Ends::WithProcess);
        }
        if matches!(operation, Operation::Drain { .. }) {
            self.members[task].drains += 1;
            if self.mutation == Some(Mutation::SlowWinnerKilled) && self.members[task].drains > 3 {
                self.judge_kill(task, "it is slow");
                self.judge_ending(task, "an executor kills the server of", Ends::WithProcess);
                self.end_server(task, false);
            }
        }
        let give_up = self.now.after(OPERATION_MS_MAX);
        self.members[task].operation = Some(Underway { id, operation, boot, give_up, replaces });
        self.after(delay, Event::OperationWorks { task, id });
    }

    pub(super) fn operation_works(&mut self, task: Task, id: CallId) {
        let Some(underway) = self.members[task].operation.clone().filter(|u| u.id == id) else { return };
        let server = &self.members[task].server;
        if server.up
            && server.hung
            && server.boot == underway.boot
            && !matches!(underway.operation, Operation::Stop { .. })
        {
            if self.now < underway.give_up {
                return self.after(100, Event::OperationWorks { task, id });
            }
            // What was asked of a server that hangs may still be done when it wakes up: the executor kills it before.
            return self.operation_fails(task, id, ErrorKind::Timeout, "the server does not answer");
        }
        if let Operation::StepDown { grace_ms, .. } = underway.operation
            && server.boot == underway.boot
            && !server.waiting.is_empty()
        {
            // Nobody begins a transaction any more, and those that wait for an acknowledgement are waited for.
            self.members[task].server.writable = false;
            let began = Millis(underway.give_up.0 - OPERATION_MS_MAX);
            if self.now < began.after(grace_ms) {
                return self.after(20, Event::OperationWorks { task, id });
            }
            self.members[task].server.writable = self.random.chance(700);
            return self.operation_fails(task, id, ErrorKind::Timeout, "sessions wait for acknowledgements");
        }
        let starts = matches!(underway.operation, Operation::Provision | Operation::Start { .. });
        let copies = matches!(underway.operation, Operation::CopyFrom { .. });
        if (starts || copies) && self.is_bad(task) {
            return self.operation_fails(task, id, ErrorKind::Storage, "no space left on device");
        }
        if copies && self.now < self.copies_fail_until {
            return self.operation_fails(task, id, ErrorKind::Other, "the copy broke off");
        }
        let fails = self.mishap(self.plan.operations_fail);
        if fails && self.random.chance(500) {
            return self.operation_fails(task, id, ErrorKind::Other, "failed before it did anything");
        }
        let outcome = self.work(task, &underway);
        if fails {
            return self.operation_fails(task, id, ErrorKind::Other, "failed after it was done");
        }
        let delay = self.delay(self.plan.operation_ms) / 4;
        self.after(delay, Event::OperationEnded { task, id, outcome: Box::new(outcome) });
    }

    fn operation_fails(&mut self, task: Task, id: CallId, kind: ErrorKind, detail: &str) {
        // A start or a copy that fails leaves no process behind.
        let underway = self.members[task].operation.clone().map(|u| u.operation);
        if matches!(underway, Some(Operation::Start { .. } | Operation::CopyFrom { .. })) {
            self.members[task].server.boot = 0; // nobody watches a start that failed
            self.end_server(task, false);
            if matches!(underway, Some(Operation::CopyFrom { .. })) {
                self.members[task].server.data = None;
            }
        }
        let outcome = Outcome::Failed(Failure { kind, permanent: false, detail: detail.to_owned() });
        self.after(1, Event::OperationEnded { task, id, outcome: Box::new(outcome) });
    }

    pub(super) fn operation_ended(&mut self, task: Task, id: CallId, outcome: Outcome) {
        let Some(underway) = self.members[task].operation.take_if(|u| u.id == id) else { return };
        trace!(self, "{}: {} ends: {outcome:?}", self.members[task].task, underway.operation.name());
        self.feed_executor(task, Input::Finished { id, outcome });
    }

    /// Does it.
    fn work(&mut self, task: Task, underway: &Underway) -> Outcome {
        let gone = || {
            let detail = "the server is gone".to_owned();
            Outcome::Failed(Failure { kind: ErrorKind::Unreachable, permanent: false, detail })
        };
        let cut = self.plan.cut_tail;
        if let Operation::Start { replaced: true, .. } = &underway.operation
            && cut
        {
            let (life, ids) = (self.members[task].life, self.members[task].server.tail().collect());
            let how = format!("the start of {} cuts its history off", self.members[task].task);
            self.judge_ending_of(life, Some(task), &how, &ids);
        }
        if let Operation::Follow { .. } = &underway.operation {
            self.members[task].drains = 0;
        }
        let server = &mut self.members[task].server;
        let here = server.answers() && server.boot == underway.boot;
        match &underway.operation {
            Operation::Provision => {
                server.provision();
                Outcome::Done
            }
            Operation::Start { boot, replaced } => {
                let always = self.mutation == Some(Mutation::LossOfReceivedDenied);
                let started = server.start(*boot, cut && *replaced);
                started.map_or_else(gone, |kept| Outcome::Started(Started { kept: kept || always }))
            }
            Operation::Freeze { .. } if here => {
                let writable = server.writable;
                let deaf = self.mutation == Some(Mutation::FreezeNotAwaited);
                if !deaf && let Some((connection, source)) = server.stop_receiving() {
                    self.after(1, Event::DumpLost { task: source, connection });
                }
                if writable {
                    self.hold(Err("a writable server is frozen: its sessions would be answered".to_owned()));
                }
                let server = &self.members[task].server;
                let forgets = self.mutation == Some(Mutation::ReceivedForgotten);
                let position = if forgets { server.executed() } else { server.position() };
                Outcome::Frozen(Frozen { position, unapplied: server.unapplied(), obstacle: server.obstacle() })
            }
            Operation::StepDown { .. } if here => {
                server.writable = false;
                Outcome::Frozen(Frozen { position: server.position(), unapplied: server.unapplied(), obstacle: None })
            }
            Operation::Drain { budget_ms, .. } if here => self.drain(task, *budget_ms),
            Operation::Promote { epoch, promotion } if here => self.promote(task, *epoch, promotion),
            Operation::Follow { following, .. } if here => {
                let (primary, semi_sync) = (following.primary.clone(), following.semi_sync);
                self.follow(task, primary, semi_sync)
            }
            Operation::CopyFrom { donor, boot, .. } => self.copy(task, donor, *boot, underway.replaces.clone()),
            Operation::Stop { .. } => {
                self.answer_all(task);
                self.end_server(task, true);
                Outcome::Done
            }
            Operation::Freeze { .. }
            | Operation::StepDown { .. }
            | Operation::Drain { .. }
            | Operation::Promote { .. }
            | Operation::Follow { .. } => gone(),
        }
    }

    /// Applies what was received, as far as that goes in the time.
    fn drain(&mut self, task: Task, budget_ms: u64) -> Outcome {
        let lost_link = self.members[task].server.stop_receiving();
        if let Some((connection, source)) = lost_link {
            self.after(1, Event::DumpLost { task: source, connection });
        }
        self.members[task].server.blocked_until = Millis(0); // clients that are in the way are ended
        let each = self.apply_ms(task);
        let most = usize::try_from(budget_ms.div_ceil(each)).unwrap_or(usize::MAX);
        let applied = self.members[task].server.drain(most);
        self.ship(task, &applied);
        let server = &self.members[task].server;
        let (unapplied, obstacle) = (server.unapplied(), server.obstacle());
        Outcome::Drained(Drained { position: server.position(), unapplied, done: unapplied == 0, obstacle })
    }

    fn promote(&mut self, task: Task, epoch: Epoch, promotion: &Promotion) -> Outcome {
        let lost_link = self.members[task].server.stop_receiving();
        if let Some((connection, source)) = lost_link {
            self.after(1, Event::DumpLost { task: source, connection });
        }
        let server = &mut self.members[task].server;
        let unapplied = server.unapplied();
        if unapplied > 0 {
            return Outcome::Promoted(Promoted::Applying { unapplied });
        }
        let position = server.position();
        if !position.contains(&promotion.must_contain) {
            return Outcome::Promoted(Promoted::Incomplete(format!("has {position}")));
        }
        let opens = !server.writable || server.epoch != epoch;
        server.open(epoch, promotion.acks);
        if opens {
            self.opened(task, epoch);
        }
        Outcome::Promoted(Promoted::Writable(position))
    }

    fn opened(&mut self, task: Task, epoch: Epoch) {
        trace!(self, "{}: OPEN in epoch {epoch}", self.members[task].task);
        self.opened += 1;
        let member = &self.members[task];
        let (life, id) = (member.life, member.spec.member);
        let verdict = self.one_writer.on_opened(life, epoch, task);
        self.published.on_opened(life, epoch, id);
        let excused = self.lives[life].preference == crate::Preference::Availability && self.lives[life].overwhelmed;
        let data = self.members[task].server.data.as_ref();
        // Whoever opens late, after another in a later epoch, is not where anybody's commits are looked for; that it
        // acknowledges none itself is R1.
        let late = self.one_writer.latest(life).is_some_and(|(latest, _)| latest > epoch);
        let has = |txn| data.is_some_and(|d| d.has_id(txn));
        let lost = if late { Ok(()) } else { self.no_loss.on_opened(life, excused, has) };
        if !late {
            self.last_copy.on_opened(life, has);
        }
        self.hold(verdict);
        self.hold(lost);
    }

    fn follow(&mut self, task: Task, primary: Endpoint, semi_sync: bool) -> Outcome {
        if self.members[task].server.writable {
            self.hold(Err("a writable server is told to follow: its sessions would be answered".to_owned()));
        }
        let Some(source) = self.listening(task, &primary) else {
            let detail = format!("{primary} cannot be reached");
            return Outcome::Failed(Failure { kind: ErrorKind::Unreachable, permanent: false, detail });
        };
        let mine = &self.members[task].server;
        let attached = |l: &Link| l.receiving && l.source == primary && l.semi_sync == semi_sync;
        if mine.link.as_ref().is_some_and(attached) {
            return Outcome::Followed(Followed::Attached);
        }
        if let Some((connection, source)) = self.members[task].server.stop_receiving() {
            self.after(1, Event::DumpLost { task: source, connection });
        }
        let (mine, theirs) = (&self.members[task].server, &self.members[source].server);
        // The primary may still be applying what it received before its promotion.
        if mine.position().errant_against(&theirs.executed()).is_some() && !theirs.writable {
            let detail = "the primary is not open for writes yet and still lacks something".to_owned();
            return Outcome::Failed(Failure { kind: ErrorKind::Other, permanent: false, detail });
        }
        if let Some(errant) = mine.executed().errant_against(&theirs.executed()) {
            return Outcome::Followed(Followed::Errant(errant.to_string()));
        }
        if mine.data.as_ref().zip(theirs.data.as_ref()).is_some_and(|(mine, theirs)| mine.lacks_own(theirs)) {
            return Outcome::Followed(Followed::HistoryMissing("the primary has what was lost here".to_owned()));
        }
        if !theirs.reaches_back_to(mine) {
            return Outcome::Followed(Followed::HistoryMissing("purged".to_owned()));
        }
        let theirs = theirs.executed();
        self.judge_ending(task, "a new source makes away with what was received by", Ends::Received);
        let member = &mut self.members[task];
        member.link += 1;
        let link = member.link;
        if member.began_with.as_ref().is_none_or(|(source, _)| *source != primary) {
            member.began_with = Some((primary.clone(), theirs));
        }
        let server = &mut member.server;
        server.gave_up |= !server.relay.is_empty();
        server.relay.clear(); // a new source: what was received from the old one and not applied is thrown away
        server.acks = 0;
        server.link = Some(Link {
            source: primary,
            semi_sync,
            receiving: true,
            connection: None,
            error: None,
            silent: 0,
            deaf: false,
        });
        let delay = self.delay(self.plan.link_ms);
        self.after(delay, Event::Connect { task, link });
        Outcome::Followed(Followed::Attached)
    }

    /// R8: a member counts as a complete copy.
    pub(super) fn judge_joined(&mut self, name: &ClusterName, id: MemberId) {
        let of_member = |m: &Member| m.spec.cluster == *name && m.spec.member == id && !m.ended;
        let Some(member) = self.members.iter().rfind(|m| of_member(m)).filter(|m| m.server.answers()) else { return };
        let Some((_, wanted)) = member.began_with.as_ref().filter(|_| !member.server.writable) else { return };
        let has = member.server.executed();
        if !has.contains(wanted) {
            let task = member.task.clone();
            self.hold(Err(format!("R8: {task} counts as a complete copy, and has not applied {wanted} but {has}")));
        }
    }

    fn copy(&mut self, task: Task, donor: &Endpoint, boot: u64, replaces: Option<Replaced>) -> Outcome {
        let source = self.listening(task, donor);
        let member = &mut self.members[task];
        member.server.provision();
        let mine = member.server.data.take().expect("provisioned above");
        let Some(theirs) = source.and_then(|s| self.members[s].server.data.as_ref()) else {
            if let Some(Replaced { data, relay, .. }) = replaces {
                let server = &mut self.members[task].server;
                (server.data, server.relay) = (Some(data), relay);
            }
            let detail = format!("{donor} cannot be reached");
            return Outcome::Failed(Failure { kind: ErrorKind::Unreachable, permanent: false, detail });
        };
        let copy = mine.copied_from(theirs);
        let server = &mut self.members[task].server;
        let kept = replaces.as_ref().is_some_and(|replaced| replaced.kept);
        if let Some(Replaced { data, relay, .. }) = replaces
            && data.log.iter().chain(&relay).any(|txn| !copy.has_id(txn.id))
        {
            (server.data, server.relay) = (Some(data), relay);
            let detail = "the copy lacks something that the data has which it would replace".to_owned();
            return Outcome::Failed(Failure { kind: ErrorKind::Other, permanent: false, detail });
        }
        server.data = Some(copy);
        server.clean = true;
        server.relay.clear();
        let _ = server.start(boot, false);
        Outcome::Started(Started { kept })
    }

    /// Which member listens there and can be reached from `from`.
    pub(super) fn listening(&self, from: Task, endpoint: &Endpoint) -> Option<Task> {
        let life = self.members[from].life;
        let there = |m: &Member| m.spec.endpoint == *endpoint && m.life == life && m.server.answers();
        let found = self.members.iter().rposition(there)?;
        self.path(from, found).then_some(found)
    }

    // The server process.

    pub(super) fn probe_looks(&mut self, task: Task, id: CallId, patience: u32) {
        let server = &self.members[task].server;
        let mut status = server.answers().then(|| Box::new(server.status()));
        if let Some(status) = status.as_mut().filter(|_| self.is_bad(task)) {
            status.disk_free_bytes = Some(0);
        }
        if status.is_none() && patience > 0 && server.up {
            return self.after(100, Event::ProbeLooks { task, id, patience: patience - 1 });
        }
        let delay = self.delay((1, 20));
        self.after(delay, Event::Probed { task, id, status });
    }

    pub(super) fn probed(&mut self, task: Task, id: CallId, status: Option<Box<ServerStatus>>) {
        let result = status.map(|s| *s).ok_or_else(|| {
            let detail = "the server does not answer".to_owned();
            Failure { kind: ErrorKind::Timeout, permanent: false, detail }
        });
        self.feed_executor(task, Input::Probed { id, result });
    }

    pub(super) fn killed(&mut self, task: Task, id: CallId) {
        self.feed_executor(task, Input::Killed { id });
    }

    pub(super) fn exited(&mut self, task: Task, boot: u64, expected: bool) {
        let exit = Exit { description: "ended".to_owned(), expected };
        self.feed_executor(task, Input::Exited { boot, exit });
    }

    /// Whether nothing can be started where a member is.
    fn is_bad(&self, task: Task) -> bool {
        self.now < self.agents[self.members[task].agent].bad_until
    }

    /// The server process ends; everybody who was connected to it learns that as soon as the network allows.
    pub(super) fn end_server(&mut self, task: Task, clean: bool) {
        self.end_server_as(task, clean, clean);
    }

    /// The same, where its executor may be surprised by a clean end.
    pub(super) fn end_server_as(&mut self, task: Task, clean: bool, expected: bool) {
        let server = &mut self.members[task].server;
        if !server.up {
            return;
        }
        let boot = server.boot;
        let dumps: Vec<(u64, Task)> = server.dumps.iter().map(|(c, d)| (*c, d.replica)).collect();
        let upstream = server.link.as_ref().and_then(|link| link.connection);
        server.clean = clean;
        server.down();
        trace!(self, "{}: server is gone (boot {boot}, clean {clean})", self.members[task].task);
        for (connection, replica) in dumps {
            if self.path(task, replica) {
                let delay = self.delay(self.plan.link_ms);
                self.after(delay, Event::LinkLost { task: replica, connection });
            }
        }
        if let Some((connection, source)) = upstream
            && self.path(task, source)
        {
            let delay = self.delay(self.plan.link_ms);
            self.after(delay, Event::DumpLost { task: source, connection });
        }
        let delay = self.delay((1, 40));
        self.after(delay, Event::Exited { task, boot, expected });
    }

    /// A clean stop ends the wait of sessions by telling them that their commit is done.
    fn answer_all(&mut self, task: Task) {
        let done = self.members[task].server.release(usize::MAX);
        for txn in done {
            self.acknowledged(task, txn);
        }
    }
}
