//! All clusters of one framework: offers, task ownership, reconciliation with Mesos, the framework's id.
//!
//! What a satisfied fleet costs does not depend on its size: clusters that want members, have something to save, to
//! send, or a deadline are kept in indexes, and nothing else is looked at.

mod accept;
mod adoption;
mod command;
mod describe;
mod effect;
mod failing;
mod left;
mod maintenance;
mod news;
mod offers;
mod reconciliation;
mod slot;
pub mod state;
mod unknown;
mod unsaved;
mod volumes;

pub use command::CommandError;
pub use describe::Counters;
pub use effect::{Checkpoint, Effect, Record};
pub use left::{Left, LeftoverVolumes};
pub use unknown::{UnknownTask, WhyUnknown};

use crate::cluster::state::{Member, State};
use crate::cluster::{self, Cluster, Timing, Verdict};
use crate::placement::{PlacementPolicy, Spread};
use crate::ports::mesos::{Launch, MesosCall, MesosEvent, Storage};
use crate::ports::state_store::StateKey;
use crate::protocol;
use crate::{AgentId, ClusterName, EventKind, Limits, MemberId, Millis, Resources, Revision, TaskId, VolumeId};
use accept::{Accepts, Gathered};
use failing::Failing;
use maintenance::Maintenance;
use offers::OfferFlow;
use reconciliation::Reconciliation;
use slot::Slot;
use state::FleetState;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use unknown::Unknown;
use unsaved::Unsavable;
use volumes::Releasing;

/// How a fleet works.
#[derive(Debug)]
pub struct Config {
    /// Times of its clusters, which share them.
    pub timing: Arc<Timing>,
    /// What users may ask for.
    pub limits: Limits,
    /// Which member goes where.
    pub placement: Box<dyn PlacementPolicy>,
    /// Whether members keep their data on persistent volumes, for which a role is needed to reserve under.
    pub volumes: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { timing: Arc::default(), limits: Limits::default(), placement: Box::<Spread>::default(), volumes: false }
    }
}

/// A fact about the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// From Mesos.
    Mesos(MesosEvent),
    /// Clients no longer see this cluster.
    Withdrawn(ClusterName),
}

/// All clusters of one framework. See the [module's documentation](self).
#[derive(Debug)]
pub struct Fleet {
    config: Config,
    state: FleetState,
    revision: Revision,
    offered: Revision,
    persisted: Revision,
    /// The fleet's own record is being saved; the next waits for it, since a store may finish two in any order.
    saving: bool,
    /// Nothing leaves before this revision is durable: the run's number, under which things are said, and the
    /// framework's id.
    gate: Revision,
    /// Withdrawals that wait for the fleet's own record, which must rule out the cluster's task ids before its record goes.
    withheld: BTreeSet<ClusterName>,
    /// The latest time that was told.
    now: Millis,
    connected: bool,
    /// Boxed, since the leaves of a map keep room for eleven, and are about half full.
    slots: BTreeMap<ClusterName, Box<Slot>>,
    /// In the order of creation: all clusters.
    order: BTreeSet<(u64, ClusterName)>,
    next_order: u64,
    /// Clusters whose stored state could not be read. Their tasks are left alone.
    damaged: BTreeSet<ClusterName>,
    /// Tasks that no record accounts for, as far as they were heard of, where they are, and why.
    unknown: BTreeMap<TaskId, Unknown>,
    /// Since when there has been a subscription.
    subscribed_since: Millis,
    /// In the order of creation: who wants members.
    wanting: BTreeSet<(u64, ClusterName)>,
    to_save: BTreeSet<ClusterName>,
    unsavable: Unsavable,
    to_run: BTreeSet<ClusterName>,
    deadlines: BTreeSet<(Millis, ClusterName)>,
    calls: VecDeque<Effect>,
    accepts: Accepts,
    flow: OfferFlow,
    releasing: Releasing,
    failing: Failing,
    maintenance: Maintenance,
    reconciliation: Reconciliation,
    counters: Counters,
}

impl Fleet {
    /// Resumes from what was stored. `damaged` names clusters whose record was there but could not be read: their
    /// names stay taken and their tasks stay alone until a person has looked.
    pub fn recover(
        config: Config,
        stored: Option<FleetState>,
        clusters: Vec<State>,
        damaged: BTreeSet<ClusterName>,
        now: Millis,
    ) -> Self {
        let mut state = stored.unwrap_or_default();
        state.runs += 1;
        state.pass_damaged(&damaged, clusters.iter().map(|cluster| cluster.next_member).max());
        let maintenance = Maintenance::recover(&state.let_go, now);
        let mut this = Self {
            config,
            state,
            revision: Revision(1),
            gate: Revision(1),
            withheld: BTreeSet::new(),
            offered: Revision(0),
            persisted: Revision(0),
            saving: false,
            now,
            connected: false,
            slots: BTreeMap::new(),
            order: BTreeSet::new(),
            next_order: 0,
            damaged,
            unknown: BTreeMap::new(),
            subscribed_since: now,
            wanting: BTreeSet::new(),
            to_save: BTreeSet::new(),
            unsavable: Unsavable::default(),
            to_run: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            calls: VecDeque::new(),
            accepts: Accepts::default(),
            flow: OfferFlow::default(),
            releasing: Releasing::default(),
            failing: Failing::default(),
            maintenance,
            reconciliation: Reconciliation::default(),
            counters: Counters::default(),
        };
        for state in clusters {
            let name = state.name().clone();
            this.next_order = this.next_order.max(state.order + 1);
            this.order.insert((state.order, name.clone()));
            if state.deleting {
                this.retire_numbers(state.name(), state.next_member);
            }
            let mut cluster = Cluster::recover(Arc::clone(&this.config.timing), state, this.nonce_base(), now);
            cluster.vacate(now, this.maintenance.soon().clone());
            this.slots.insert(name.clone(), Box::new(Slot::new(cluster)));
            this.settle(&name);
        }
        this
    }

    /// Takes a fact.
    pub fn handle(&mut self, now: Millis, input: Input) {
        self.now = now;
        match input {
            Input::Mesos(event) => self.on_mesos(now, event),
            Input::Withdrawn(name) => self.tell(now, &name, cluster::Input::Withdrawn),
        }
    }

    /// Time has come for something; harmless when it has not.
    pub fn handle_timeout(&mut self, now: Millis) {
        self.now = now;
        while let Some((at, name)) = self.deadlines.first().cloned() {
            if at > now {
                break;
            }
            self.deadlines.remove(&(at, name.clone()));
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.deadline = None;
                slot.cluster.handle_timeout(now);
                self.settle(&name);
            }
        }
        while let Some(gathered) = self.accepts.overdue(now) {
            self.accept(gathered);
        }
        if self.releasing.handle_timeout(now) && self.flow.is_suppressed() {
            self.flow.wanted_more();
        }
        self.update_maintenance(now);
        if self.connected {
            if let Some(call) = self.reconciliation.due(now) {
                self.calls.push_back(Effect::Mesos(call));
            }
            self.ask_for_offers(now);
        }
    }

    /// When [`Fleet::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let cluster = self.deadlines.first().map(|(at, _)| *at);
        let mesos = self
            .connected
            .then(|| {
                let calls = crate::time::earliest(self.reconciliation.next(), self.flow.next());
                crate::time::earliest(calls, self.releasing.next(self.now))
            })
            .flatten();
        let others = crate::time::earliest(self.accepts.next(), self.maintenance.next(self.now, self.connected));
        crate::time::earliest(crate::time::earliest(cluster, mesos), others)
    }

    /// The next record to be made durable. A cluster has at most one under way; different clusters do not wait for
    /// one another.
    pub fn poll_checkpoint(&mut self) -> Option<Checkpoint> {
        if self.offered < self.revision && !self.saving {
            self.offered = self.revision;
            self.saving = true;
            return Some(Checkpoint { revision: self.revision, record: Record::Fleet(self.state.clone()) });
        }
        while let Some(name) = self.to_save.pop_first() {
            if let Some(checkpoint) = self.slots.get_mut(&name).and_then(|slot| slot.poll_checkpoint()) {
                return Some(checkpoint);
            }
        }
        None
    }

    /// A record that was handed out is durable now.
    pub fn handle_persisted(&mut self, now: Millis, key: &StateKey, revision: Revision) {
        self.now = now;
        self.unsavable.saved(key);
        match key {
            StateKey::Fleet => {
                self.saving = false;
                self.persisted = self.persisted.max(revision);
                if self.persisted == self.revision {
                    self.calls.extend(std::mem::take(&mut self.withheld).into_iter().map(Effect::Withdraw));
                    self.judge_all_unknown(now);
                }
            }
            StateKey::Cluster(name) => {
                let Some(slot) = self.slots.get_mut(name) else { return };
                slot.saving = false;
                if slot.removing {
                    return self.forget(now, name);
                }
                slot.cluster.handle_persisted(now, revision);
                self.settle(name);
            }
        }
    }

    /// A record that was handed out could not be made durable: that is told, with the reason, until one of it is.
    /// [`Self::handle_not_persisted`] follows.
    pub fn note_not_persisted(&mut self, now: Millis, key: &StateKey, error: String) {
        self.unsavable.failed(now, key, error);
    }

    /// A record that was handed out could not be made durable; it will be handed out again, as it is by then. Whoever
    /// calls this waits a little before.
    pub fn handle_not_persisted(&mut self, key: &StateKey) {
        match key {
            StateKey::Fleet => {
                self.saving = false;
                self.offered = self.persisted;
            }
            StateKey::Cluster(name) => {
                if let Some(slot) = self.slots.get_mut(name) {
                    slot.saving = false;
                    slot.cluster.retry_checkpoint();
                    self.settle(name);
                }
            }
        }
    }

    /// The next effect whose state is durable.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.persisted < self.gate {
            return None;
        }
        loop {
            if let Some(call) = self.calls.pop_front() {
                return Some(call);
            }
            let name = self.to_run.first()?.clone();
            let Some(slot) = self.slots.get_mut(&name) else {
                self.to_run.remove(&name);
                continue;
            };
            if let Some(call) = slot.poll_acknowledgement() {
                return Some(Effect::Mesos(call));
            }
            match slot.cluster.poll_effect() {
                Some(effect) => self.translate(&name, effect),
                None => {
                    self.to_run.remove(&name);
                }
            }
        }
    }

    /// Where a member that is being launched keeps its data.
    fn storage(&self, name: &ClusterName, member: MemberId) -> Storage {
        let known = self.slots.get(name).and_then(|slot| slot.cluster.state().members.get(&member));
        match known {
            Some(Member { volume: true, run: 0, .. }) => Storage::NewVolume(VolumeId::of(name, member)),
            Some(Member { volume: true, .. }) => Storage::Volume(VolumeId::of(name, member)),
            Some(Member { volume: false, .. }) | None => Storage::Sandbox,
        }
    }

    /// A member's present task.
    fn task_of(&self, name: &ClusterName, member: MemberId) -> Option<TaskId> {
        self.run_of(name, member).map(|run| TaskId::of(name, member, run))
    }

    /// Which run of a member its present task is.
    fn run_of(&self, name: &ClusterName, member: MemberId) -> Option<u32> {
        self.slots.get(name)?.cluster.run_of(member)
    }

    /// Hands a cluster a fact and updates the indexes.
    fn tell(&mut self, now: Millis, name: &ClusterName, input: cluster::Input) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.cluster.handle(now, input);
            self.settle(name);
        }
    }

    /// Brings the indexes in line with a cluster that may have changed.
    fn settle(&mut self, name: &ClusterName) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let deadline = slot.cluster.poll_timeout();
        if deadline != slot.deadline {
            if let Some(old) = slot.deadline.take() {
                self.deadlines.remove(&(old, name.clone()));
            }
            slot.deadline = deadline;
            self.deadlines.extend(deadline.map(|at| (at, name.clone())));
        }
        let (order, missing) = (slot.cluster.state().order, slot.cluster.missing() + slot.cluster.returning_count());
        if missing > slot.missing {
            self.flow.wanted_more();
        }
        slot.missing = missing;
        slot.wanting = missing > 0;
        if slot.wanting {
            self.wanting.insert((order, name.clone()));
        } else {
            self.wanting.remove(&(order, name.clone()));
            (slot.refused, slot.cannot_return) = (None, None);
        }
        let verdicts: Vec<_> = std::iter::from_fn(|| slot.cluster.poll_verdict()).collect();
        let epoch = slot.cluster.state().epoch;
        if slot.has_work() {
            self.to_run.insert(name.clone());
        }
        self.to_save.insert(name.clone());
        let members = slot.cluster.state().members.len();
        let fewer = members < std::mem::replace(&mut slot.members, members);
        if fewer {
            self.cancel_forgotten(name);
        }
        for (agent, verdict) in verdicts {
            self.judge_agent(name, epoch, agent, verdict);
        }
        self.judge_unknown(self.now, name);
    }

    /// Takes note of how an agent has served a cluster.
    fn judge_agent(&mut self, name: &ClusterName, epoch: crate::Epoch, agent: AgentId, verdict: Verdict) {
        match verdict {
            Verdict::Works => self.failing.works(&agent, name),
            Verdict::Failed(reason) => {
                let (failures, retry_ms) = self.failing.failed(self.now, &agent, name, reason.clone());
                let kind = EventKind::AgentFailing { agent, reason, failures, retry_ms };
                self.calls.push_back(Effect::Log(name.clone(), crate::Event { at: self.now, epoch, kind }));
            }
        }
    }

    /// What was forgotten before its launch was durable never has one; its offer must not wait for that.
    fn cancel_forgotten(&mut self, name: &ClusterName) {
        let forgotten = |task: &&TaskId| {
            task.parse().is_ok_and(|(of, member, run)| of == *name && self.run_of(name, member) != Some(run))
        };
        let forgotten: Vec<TaskId> = self.accepts.waiting().filter(forgotten).cloned().collect();
        for task in forgotten {
            self.cancel_launch(&task);
        }
    }

    fn forget(&mut self, now: Millis, name: &ClusterName) {
        let Some(slot) = self.slots.remove(name) else { return };
        let (order, epoch) = (slot.cluster.state().order, slot.cluster.state().epoch);
        let place = (order, name.clone());
        self.order.remove(&place);
        self.wanting.remove(&place);
        if let Some(at) = slot.deadline {
            self.deadlines.remove(&(at, name.clone()));
        }
        self.to_run.remove(name);
        self.to_save.remove(name);
        self.failing.forget_cluster(name);
        self.calls.extend(slot.acknowledgements().map(Effect::Mesos));
        let event = crate::Event { at: now, epoch, kind: EventKind::Deleted };
        self.calls.push_back(Effect::Log(name.clone(), event));
    }

    /// Turns a cluster's wish into the fleet's.
    fn translate(&mut self, name: &ClusterName, effect: cluster::Effect) {
        let effect = match effect {
            cluster::Effect::Launch { offer, agent, task } => {
                let Some(id) = self.task_of(name, task.member) else { return };
                let storage = self.storage(name, task.member);
                let launch = Launch {
                    task: id,
                    endpoint: task.endpoint.clone(),
                    task_resources: task.resources,
                    executor_resources: Resources::EXECUTOR,
                    storage,
                    data: protocol::encode(&*task).into(),
                };
                if let Some(gathered) = self.accepts.ready(self.now, offer, agent, launch) {
                    self.accept(gathered);
                }
                return;
            }
            cluster::Effect::Kill { member, agent } => {
                let Some(task) = self.task_of(name, member) else { return };
                self.cancel_launch(&task);
                Effect::Mesos(MesosCall::Kill { task, agent })
            }
            cluster::Effect::Release { member } => return self.look_for(VolumeId::of(name, member)),
            cluster::Effect::Send { member, agent, message } => {
                let Some(task) = self.task_of(name, member) else { return };
                let data = protocol::encode(&message).into();
                Effect::Mesos(MesosCall::Message { task, agent, data })
            }
            cluster::Effect::Publish(published) => Effect::Publish(name.clone(), published),
            cluster::Effect::Withdraw if self.persisted < self.revision => {
                self.withheld.insert(name.clone());
                return;
            }
            cluster::Effect::Withdraw => Effect::Withdraw(name.clone()),
            cluster::Effect::Log(event) => {
                let (kind, counters) = (&event.kind, &mut self.counters);
                counters.elections += u64::from(matches!(kind, EventKind::PrimaryLost { .. }));
                counters.failovers += u64::from(matches!(kind, EventKind::FailedOver { .. }));
                counters.switchovers += u64::from(matches!(kind, EventKind::SwitchedOver { .. }));
                counters.switchovers_failed += u64::from(matches!(kind, EventKind::SwitchoverFailed { .. }));
                Effect::Log(name.clone(), event)
            }
        };
        self.calls.push_back(effect);
    }

    fn accept(&mut self, gathered: Gathered) {
        let Gathered { offer, agent, launches, releases } = gathered;
        if launches.is_empty() && releases.is_empty() {
            return self.decline(vec![offer]);
        }
        self.counters.tasks_launched += launches.len() as u64;
        self.reconciliation.expect(self.now, launches.iter().map(|launch| (launch.task.clone(), agent.clone())));
        self.calls.push_back(Effect::Mesos(MesosCall::Accept { offer, agent, launches, releases }));
    }

    /// A launch that still waits for others must not go out after the kill of its task.
    fn cancel_launch(&mut self, task: &TaskId) {
        if let Some(gathered) = self.accepts.cancel(task) {
            self.accept(gathered);
        }
    }

    /// Lets no later cluster use the numbers below `next`. Durable before the record of the cluster that used them is
    /// removed, since the withdrawal that goes before waits for it.
    fn retire_numbers(&mut self, name: &ClusterName, next: MemberId) {
        let deleted = self.state.remember_deleted(name, next);
        if self.state.first_member < next || deleted {
            self.state.first_member = self.state.first_member.max(next);
            self.revision.0 += 1;
        }
    }

    /// First of the numbers of this run that shall never repeat.
    const fn nonce_base(&self) -> u64 {
        self.state.runs << 32
    }

    /// Gives a cluster its next member; `None` when it wants none any more: a placement may have changed its mind.
    fn place(&mut self, now: Millis, name: &ClusterName, placed: cluster::Placed) -> Option<MemberId> {
        let slot = self.slots.get_mut(name).filter(|slot| slot.cluster.missing() > 0)?;
        let cluster = &mut slot.cluster;
        let member =
            if self.config.volumes { cluster.place_on_volume(now, placed) } else { cluster.place(now, placed) };
        self.settle(name);
        Some(member)
    }
}

#[cfg(test)]
mod tests;
