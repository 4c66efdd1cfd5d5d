//! The world: everything that exists, one queue of what will happen, and one hand that makes it happen.
//!
//! All randomness comes from one generator, all collections are ordered, and nothing runs beside anything else:
//! one seed gives one run, to the last line of its trace.

use super::chaos::Cut;
use super::maintenance::Window;
use super::master::{Agent, Master};
use super::member::Member;
use super::operator::Operator;
use super::plan::{Fault, Plan};
use super::random::Random;
use super::scheduler::{Scheduler, Store};
use super::volumes::Volume;
use super::{Mutation, Without};
use crate::cluster::state::State;
use crate::executor::{CallId, ExecutorState, Outcome};
use crate::fleet::Checkpoint;
use crate::ports::discovery::Published;
use crate::ports::mesos::{Launch, MesosCall, MesosEvent, TaskState};
use crate::ports::mysql::ServerStatus;
use crate::ports::state_store::StateKey;
use crate::testkit::invariants::last_copy::LastCopy;
use crate::testkit::invariants::no_loss::NoLoss;
use crate::testkit::invariants::no_more_than_wanted::NoMoreThanWanted;
use crate::testkit::invariants::one_writer::OneWriter;
use crate::testkit::invariants::published_primary::PublishedPrimary;
use crate::testkit::invariants::{Life, Task, Verdict};
use crate::{ClusterName, Durability, FrameworkId, Millis, Preference, Revision, TaskId, VolumeId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    // The scheduler and what it talks to.
    SchedulerStarts,
    SchedulerWakes { run: u64, at: Millis },
    SaveApplied { run: u64, checkpoint: Box<Checkpoint> },
    SaveEnded { run: u64, key: StateKey, revision: Revision, saved: bool },
    SaveAgain { run: u64, key: StateKey },
    PublicationEnded { run: u64, name: ClusterName, number: u64, wanted: Option<Published>, done: bool },
    PublishAgain { run: u64, name: ClusterName },
    ToScheduler { connection: u64, event: Box<MesosEvent> },
    // Mesos.
    Subscribe { run: u64, framework: Option<FrameworkId> },
    ToMaster { connection: u64, call: Box<MesosCall> },
    Allocate,
    AllocateSoon,
    AgentGivenUp { agent: usize, cut: u64 },
    // What reaches an agent.
    Launch { agent: usize, task: Task, launch: Box<Launch> },
    Kill { agent: usize, task: TaskId },
    Acknowledged { agent: usize, task: TaskId, uuid: u64 },
    Message { agent: usize, task: TaskId, data: Bytes },
    UpdateAgain { task: Task, uuid: u64 },
    // Executors.
    ExecutorConnects { task: Task },
    ExecutorWakes { task: Task, at: Millis },
    ExecutorSaved { task: Task, revision: Revision, state: Box<ExecutorState>, saved: bool },
    ExecutorSavesAgain { task: Task },
    UpdateTaken { task: Task, state: TaskState },
    OperationWorks { task: Task, id: CallId },
    OperationEnded { task: Task, id: CallId, outcome: Box<Outcome> },
    ProbeLooks { task: Task, id: CallId, patience: u32 },
    Probed { task: Task, id: CallId, status: Option<Box<ServerStatus>> },
    Killed { task: Task, id: CallId },
    Exited { task: Task, boot: u64, expected: bool },
    // Servers.
    Connect { task: Task, link: u64 },
    Receive { task: Task, connection: u64, txns: Vec<super::history::Txn>, place: usize },
    Acknowledge { task: Task, connection: u64, place: usize },
    Apply { task: Task, boot: u64 },
    LinkLost { task: Task, connection: u64 },
    DumpLost { task: Task, connection: u64 },
    Unhang { task: Task, boot: u64 },
    Tick,
    // Clients, users, faults.
    Write { life: Life },
    WriteAt { task: Task },
    Order { index: usize },
    Confirm { index: usize, run: u64, revision: Revision },
    Fault(Fault),
    Mend(Cut),
    AskMaintenance { agent: usize },
    Heal,
}

/// One life of a cluster.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) name: ClusterName,
    pub(super) durability: Durability,
    pub(super) preference: Preference,
    /// Members that failed since the cluster was last healthy, and whether the data of one was destroyed.
    pub(super) failing: BTreeMap<Task, Millis>,
    pub(super) destroyed: BTreeSet<Task>,
    /// Whether more failed at once than the policy allows for, ever.
    pub(super) overwhelmed: bool,
    pub(super) bereft: bool,
    /// Its user has deleted it.
    pub(super) over: bool,
    pub(super) last_acknowledged: Option<Millis>,
    /// Places that clients remember as primaries.
    pub(super) remembered: Vec<crate::Endpoint>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) mutation: Option<Mutation>,
    pub(super) now: Millis,
    pub(super) random: Random,
    pub(super) queue: BTreeMap<(Millis, u64), Event>,
    queued: u64,
    pub(super) trace: Option<Vec<String>>,
    pub(super) violation: Option<String>,
    /// Faults have stopped, since when, whether all is well since then, and whether that was seen to the end.
    pub(super) calm: bool,
    pub(super) healing_since: Millis,
    pub(super) healed: Option<Millis>,
    pub(super) over: bool,
    pub(super) store: Store,
    pub(super) discovery: BTreeMap<ClusterName, Published>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) runs: u64,
    pub(super) crash_now: Option<u64>,
    pub(super) silent_until: Millis,
    pub(super) store_trouble_until: Millis,
    pub(super) strangers_until: Millis,
    pub(super) copies_fail_until: Millis,
    /// Until then no scheduler can read its records.
    pub(super) unreadable_until: Millis,
    pub(super) master: Master,
    pub(super) agents: Vec<Agent>,
    /// Agents that are to be taken down.
    pub(super) windows: BTreeMap<usize, Window>,
    pub(super) members: Vec<Member>,
    pub(super) volumes: BTreeMap<VolumeId, Volume>,
    pub(super) lives: Vec<Living>,
    pub(super) operator: Operator,
    pub(super) numbers: u64,
    pub(super) replayable: Vec<(usize, TaskId, Bytes)>,
    pub(super) one_writer: OneWriter,
    pub(super) no_loss: NoLoss,
    pub(super) last_copy: LastCopy,
    pub(super) published: PublishedPrimary,
    pub(super) no_more: NoMoreThanWanted,
    pub(super) events: u64,
    pub(super) opened: u64,
}

/// Writes a line of the trace, when there is one.
macro_rules! trace {
    ($world:expr, $($arg:tt)*) => {
        if let Some(lines) = &mut $world.trace {
            lines.push(format!("{:>7} {}", $world.now.0, format_args!($($arg)*)));
        }
    };
}
pub(super) use trace;

impl World {
    pub(super) fn new(seed: u64, mutation: Option<Mutation>, without: &Without, traced: bool) -> Self {
        let plan = Plan::new(seed).without(without);
        let mut random = Random::new(seed);
        let agents = (0..plan.agents).map(|i| Agent::new(i, &plan, &mut random)).collect();
        let mut this = Self {
            mutation,
            now: Millis(0),
            random,
            queue: BTreeMap::new(),
            queued: 0,
            trace: traced.then(Vec::new),
            violation: None,
            calm: false,
            healing_since: Millis(0),
            healed: None,
            over: false,
            store: Store::default(),
            discovery: BTreeMap::new(),
            scheduler: None,
            runs: 0,
            crash_now: None,
            silent_until: Millis(0),
            store_trouble_until: Millis(0),
            strangers_until: Millis(0),
            copies_fail_until: Millis(0),
            unreadable_until: Millis(0),
            master: Master::default(),
            agents,
            windows: BTreeMap::new(),
            members: Vec::new(),
            volumes: BTreeMap::new(),
            lives: Vec::new(),
            operator: Operator::new(&plan),
            numbers: 0,
            replayable: Vec::new(),
            one_writer: OneWriter::default(),
            no_loss: NoLoss::default(),
            last_copy: LastCopy::default(),
            published: PublishedPrimary::default(),
            no_more: NoMoreThanWanted::default(),
            events: 0,
            opened: 0,
            plan,
        };
        trace!(this, "seed {seed}: {:?}", this.plan);
        this.after(0, Event::SchedulerStarts);
        this.after(100, Event::Allocate);
        this.after(500, Event::Tick);
        for index in 0..this.plan.orders.len() {
            let at = this.plan.orders[index].0;
            this.after(at, Event::Order { index });
        }
        for index in 0..this.plan.faults.len() {
            let (at, fault) = this.plan.faults[index];
            this.after(at, Event::Fault(fault));
        }
        let end = this.plan.chaos_ms;
        this.after(end, Event::Heal);
        this
    }

    /// Lets the next thing happen; false when the run is over.
    pub(super) fn step(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.events += 1;
        if let Some(agent) = self.place_of(&event)
            && self.agents[agent].frozen
        {
            self.agents[agent].waiting.push(event); // its time stands still
            return true;
        }
        self.happen(event);
        true
    }

    pub(super) fn after(&mut self, ms: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now.after(ms), self.queued), event);
    }

    pub(super) fn at(&mut self, at: Millis, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Takes note of the first broken rule.
    pub(super) fn hold(&mut self, verdict: Verdict) {
        if let Err(text) = verdict
            && self.violation.is_none()
        {
            trace!(self, "VIOLATION {text}");
            self.violation = Some(text);
        }
    }

    pub(super) fn delay(&mut self, range: (u64, u64)) -> u64 {
        self.random.delay(range)
    }

    /// A chance that does not exist any more once faults have stopped.
    pub(super) fn mishap(&mut self, permille: u64) -> bool {
        self.random.chance(permille) && !self.calm
    }

    pub(super) fn stored(&self, name: &ClusterName) -> Option<&State> {
        self.store.clusters.get(name)
    }

    /// Tasks of a name that have not ended, wherever they are.
    pub(super) fn running(&self, name: &ClusterName) -> BTreeSet<TaskId> {
        let alive = self.members.iter().filter(|m| !m.ended && m.spec.cluster == *name);
        alive.map(|m| m.task.clone()).collect()
    }

    /// The agent on which an event happens, if it happens on one.
    fn place_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Launch { agent, .. }
            | Event::Kill { agent, .. }
            | Event::Acknowledged { agent, .. }
            | Event::Message { agent, .. } => Some(*agent),
            Event::UpdateAgain { task, .. }
            | Event::ExecutorConnects { task }
            | Event::ExecutorWakes { task, .. }
            | Event::ExecutorSaved { task, .. }
            | Event::ExecutorSavesAgain { task }
            | Event::UpdateTaken { task, .. }
            | Event::OperationWorks { task, .. }
            | Event::OperationEnded { task, .. }
            | Event::ProbeLooks { task, .. }
            | Event::Probed { task, .. }
            | Event::Killed { task, .. }
            | Event::Exited { task, .. }
            | Event::Connect { task, .. }
            | Event::Receive { task, .. }
            | Event::Acknowledge { task, .. }
            | Event::Apply { task, .. }
            | Event::LinkLost { task, .. }
            | Event::DumpLost { task, .. }
            | Event::Unhang { task, .. }
            | Event::WriteAt { task, .. } => Some(self.members[*task].agent),
            Event::SchedulerStarts
            | Event::SchedulerWakes { .. }
            | Event::SaveApplied { .. }
            | Event::SaveEnded { .. }
            | Event::SaveAgain { .. }
            | Event::PublicationEnded { .. }
            | Event::PublishAgain { .. }
            | Event::ToScheduler { .. }
            | Event::Subscribe { .. }
            | Event::ToMaster { .. }
            | Event::Allocate
            | Event::AllocateSoon
            | Event::AgentGivenUp { .. }
            | Event::Tick
            | Event::Write { .. }
            | Event::Order { .. }
            | Event::Confirm { .. }
            | Event::Fault(_)
            | Event::Mend(_)
            | Event::AskMaintenance { .. }
            | Event::Heal => None,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::SchedulerStarts => self.start_scheduler(),
            Event::SchedulerWakes { run, at } => self.wake_scheduler(run, at),
            Event::SaveApplied { run, checkpoint } => self.apply_save(run, &checkpoint),
            Event::SaveEnded { run, key, revision, saved } => self.end_save(run, &key, revision, saved),
            Event::SaveAgain { run, key } => self.save_again(run, &key),
            Event::PublicationEnded { run, name, number, wanted, done } => {
                self.end_publication(run, &name, number, wanted, done);
            }
            Event::PublishAgain { run, name } => self.publish_again(run, &name),
            Event::ToScheduler { connection, event } => self.tell_scheduler(connection, *event),
            Event::Subscribe { run, framework } => self.subscribe(run, framework),
            Event::ToMaster { connection, call } => self.tell_master(connection, *call),
            Event::Allocate => self.allocate(true),
            Event::AllocateSoon => self.allocate(false),
            Event::AgentGivenUp { agent, cut } => self.give_up_agent(agent, cut),
            Event::Launch { agent, task, launch } => self.launch(agent, task, &launch),
            Event::Kill { agent, task } => self.kill_task(agent, &task),
            Event::Acknowledged { agent, task, uuid } => self.acknowledged_update(agent, &task, uuid),
            Event::Message { agent, task, data } => self.message(agent, &task, &data),
            Event::UpdateAgain { task, uuid } => self.update_again(task, uuid),
            Event::ExecutorConnects { task } => self.executor_connects(task),
            Event::ExecutorWakes { task, at } => self.wake_executor(task, at),
            Event::ExecutorSaved { task, revision, state, saved } => self.executor_saved(task, revision, *state, saved),
            Event::ExecutorSavesAgain { task } => self.executor_saves_again(task),
            Event::UpdateTaken { task, state } => self.update_taken(task, state),
            Event::OperationWorks { task, id } => self.operation_works(task, id),
            Event::OperationEnded { task, id, outcome } => self.operation_ended(task, id, *outcome),
            Event::ProbeLooks { task, id, patience } => self.probe_looks(task, id, patience),
            Event::Probed { task, id, status } => self.probed(task, id, status),
            Event::Killed { task, id } => self.killed(task, id),
            Event::Exited { task, boot, expected } => self.exited(task, boot, expected),
            Event::Connect { task, link } => self.connect(task, link),
            Event::Receive { task, connection, txns, place } => self.receive(task, connection, &txns, place),
            Event::Acknowledge { task, connection, place } => self.acknowledge(task, connection, place),
            Event::Apply { task, boot } => self.apply(task, boot),
            Event::LinkLost { task, connection } => self.link_lost(task, connection),
            Event::DumpLost { task, connection } => self.dump_lost(task, connection),
            Event::Unhang { task, boot } => self.unhang(task, boot),
            Event::Tick => self.tick(),
            Event::Write { life } => self.write(life),
            Event::WriteAt { task } => self.write_at(task),
            Event::Order { index } => self.order(index),
            Event::Confirm { index, run, revision } => self.confirm(index, run, revision),
            Event::Fault(fault) => self.strike(fault),
            Event::Mend(cut) => self.mend(cut),
            Event::AskMaintenance { agent } => self.ask_maintenance(agent),
            Event::Heal => self.heal(),
        }
    }
}
