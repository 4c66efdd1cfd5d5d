//! The scheduler as a process: the real fleet, driven in the order of the real driver, on a store that is slow and
//! fails. It can die at any point, and begins again from nothing but what is stored.

use super::plan::Moment;
use super::watch::Ends;
use super::world::{Event, World, trace};
use super::{Mutation, plan};
use crate::cluster::state::State;
use crate::fleet::state::FleetState;
use crate::fleet::{self, Checkpoint, Config, Effect, Fleet, Record};
use crate::ports::discovery::Published;
use crate::ports::mesos::{MesosCall, MesosEvent};
use crate::ports::state_store::StateKey;
use crate::protocol::{self, MemberRole, ToExecutor};
use crate::testkit::invariants::{durable_first, withdrawal};
use crate::{ClusterName, EventKind, FrameworkId, MemberId, Millis, Revision};
use std::collections::{BTreeMap, BTreeSet};

/// A running scheduler.
#[derive(Debug)]
pub(super) struct Scheduler {
    pub(super) fleet: Fleet,
    pub(super) run: u64,
    started: Millis,
    timer: Option<Millis>,
    subscribing: bool,
    /// What members have told it last to be.
    said: BTreeMap<(ClusterName, MemberId), MemberRole>,
    publications: BTreeMap<ClusterName, Publication>,
}

/// What clients shall see of a cluster, as the driver keeps it.
#[derive(Clone, Debug, Default)]
struct Publication {
    number: u64,
    wanted: Option<Published>,
    busy: bool,
}

/// What survives the scheduler.
#[derive(Debug, Default)]
pub(super) struct Store {
    bytes: BTreeMap<StateKey, Vec<u8>>,
    /// The clusters' records once more, to compare effects with.
    pub(super) clusters: BTreeMap<ClusterName, State>,
}

impl World {
    pub(super) fn start_scheduler(&mut self) {
        if self.scheduler.is_some() {
            return;
        }
        if self.now < self.unreadable_until {
            // It says which key is missing, and ends before it has done anything.
            return self.at(self.unreadable_until, Event::SchedulerStarts);
        }
        self.runs += 1;
        let why = "the store gives back what was saved";
        let (mut stored, mut clusters) = (None, Vec::new());
        for (key, bytes) in &self.store.bytes {
            match key {
                StateKey::Fleet => stored = Some(serde_json::from_slice::<FleetState>(bytes).expect(why)),
                StateKey::Cluster(_) => clusters.push(serde_json::from_slice::<State>(bytes).expect(why)),
            }
        }
        if self.mutation == Some(Mutation::OpeningForgotten) {
            for state in &mut clusters {
                state.opened = false;
            }
        }
        trace!(self, "scheduler: run {} starts with {} clusters", self.runs, clusters.len());
        let config =
            Config { timing: self.plan.timing.clone().into(), volumes: self.plan.volumes, ..Config::default() };
        let fleet = Fleet::recover(config, stored, clusters, BTreeSet::new(), Millis(0));
        self.scheduler = Some(Scheduler {
            fleet,
            run: self.runs,
            started: self.now,
            timer: None,
            subscribing: false,
            said: BTreeMap::new(),
            publications: BTreeMap::new(),
        });
        if self.mutation == Some(Mutation::WithdrawnUnheard) {
            for (name, epoch) in self.store.clusters.iter().map(|(n, s)| (n.clone(), s.epoch)).collect::<Vec<_>>() {
                self.decide_publication(&name, Published { epoch, primary: None, members: BTreeMap::new() });
            }
        }
        self.pump();
    }

    /// Ends the process; what it had under way may or may not have happened.
    pub(super) fn crash_scheduler(&mut self, down_ms: u64) {
        let Some(scheduler) = self.scheduler.take() else { return };
        trace!(self, "FAULT scheduler: run {} is killed for {down_ms} ms", scheduler.run);
        let mine = |event: &Event| matches!(event, Event::SaveApplied { run, .. } if *run == scheduler.run);
        let under_way: Vec<(Millis, u64)> = self.queue.iter().filter(|(_, e)| mine(e)).map(|(k, _)| *k).collect();
        for key in under_way {
            let Some(Event::SaveApplied { checkpoint, .. }) = self.queue.remove(&key) else { continue };
            if self.random.chance(500) {
                self.put(&checkpoint);
            }
        }
        self.master.connection = None;
        self.after(down_ms, Event::SchedulerStarts);
    }

    /// Time on the scheduler's own clock, which begins with its process.
    pub(super) fn local(&self) -> Millis {
        Millis(self.scheduler.as_ref().map_or(0, |s| self.now.since(s.started)))
    }

    pub(super) fn fleet(&mut self) -> Option<&mut Fleet> {
        self.scheduler.as_mut().map(|s| &mut s.fleet)
    }

    pub(super) fn is_running(&self, run: u64) -> bool {
        self.scheduler.as_ref().is_some_and(|s| s.run == run)
    }

    pub(super) fn wake_scheduler(&mut self, run: u64, at: Millis) {
        let now = self.local();
        let Some(scheduler) = self.scheduler.as_mut().filter(|s| s.run == run && s.timer == Some(at)) else { return };
        scheduler.timer = None;
        scheduler.fleet.handle_timeout(now);
        self.pump();
    }

    pub(super) fn tell_scheduler(&mut self, connection: u64, event: MesosEvent) {
        if self.master.connection != Some(connection) {
            return;
        }
        self.feed(event);
    }

    /// Hands the fleet a fact, as the driver does.
    pub(super) fn feed(&mut self, mut event: MesosEvent) {
        let now = self.local();
        if self.mutation.is_some()
            && let MesosEvent::Message { task, data } = &mut event
            && let (Ok((name, ..)), Ok(mut report)) = (task.parse(), protocol::decode::<protocol::Report>(data))
        {
            self.misunderstood(&mut report, &name);
            *data = protocol::encode(&report).into();
        }
        if let (MesosEvent::Message { task, data }, Some(scheduler)) = (&event, &mut self.scheduler)
            && let (Ok((name, member, _)), Ok(report)) = (task.parse(), protocol::decode::<protocol::Report>(data))
        {
            scheduler.said.insert((name, member), report.role);
        }
        if let Some(fleet) = self.fleet() {
            fleet.handle(now, fleet::Input::Mesos(event));
            self.pump();
        }
    }

    /// Persists what changed, then runs what follows.
    pub(super) fn pump(&mut self) {
        while let Some(checkpoint) = self.fleet().and_then(Fleet::poll_checkpoint) {
            self.save(checkpoint);
        }
        while let Some(effect) = self.fleet().and_then(Fleet::poll_effect) {
            self.carry_out(effect);
            if let Some(down_ms) = self.crash_now.take() {
                return self.crash_scheduler(down_ms);
            }
        }
        let Some(scheduler) = &mut self.scheduler else { return };
        let due = scheduler.fleet.poll_timeout();
        if due == scheduler.timer {
            return;
        }
        scheduler.timer = due;
        if let Some(at) = due {
            let (run, when) = (scheduler.run, Millis(scheduler.started.0.saturating_add(at.0)));
            self.at(when, Event::SchedulerWakes { run, at });
        }
    }

    fn save(&mut self, checkpoint: Checkpoint) {
        let Some(run) = self.scheduler.as_ref().map(|s| s.run) else { return };
        let (key, revision) = (checkpoint.key(), checkpoint.revision);
        let troubled = self.now < self.store_trouble_until;
        let fails = self.mishap(self.plan.saves_fail) || troubled && self.random.chance(500);
        let mut took = self.delay(self.plan.store_ms);
        if troubled {
            took += self.random.within(100, 2_000);
        }
        // It takes effect somewhere within; a failure may have taken effect all the same.
        let effect = self.random.within(0, took);
        if !fails || self.random.chance(500) {
            self.after(effect, Event::SaveApplied { run, checkpoint: Box::new(checkpoint) });
        }
        self.after(took, Event::SaveEnded { run, key: key.clone(), revision, saved: !fails });
        if self.mutation == Some(Mutation::EffectsBeforePersist) {
            let now = self.local();
            if let Some(fleet) = self.fleet() {
                fleet.handle_persisted(now, &key, revision);
            }
        }
    }

    pub(super) fn apply_save(&mut self, run: u64, checkpoint: &Checkpoint) {
        if self.is_running(run) {
            self.put(checkpoint);
        }
    }

    fn put(&mut self, checkpoint: &Checkpoint) {
        match (checkpoint.key(), checkpoint.bytes()) {
            (key, Some(bytes)) => drop(self.store.bytes.insert(key, bytes)),
            (key, None) => drop(self.store.bytes.remove(&key)),
        }
        match &checkpoint.record {
            Record::Fleet(_) => {}
            Record::Cluster(state) => {
                self.no_more.on_stored(self.now, state);
                drop(self.store.clusters.insert(state.name().clone(), (**state).clone()));
            }
            Record::Gone(name) => drop(self.store.clusters.remove(name)),
        }
    }

    pub(super) fn end_save(&mut self, run: u64, key: &StateKey, revision: Revision, saved: bool) {
        if !self.is_running(run) {
            return;
        }
        if !saved {
            trace!(self, "store: {key} is not saved");
            return self.after(100, Event::SaveAgain { run, key: key.clone() });
        }
        let now = self.local();
        let Some(scheduler) = &mut self.scheduler else { return };
        if self.mutation != Some(Mutation::EffectsBeforePersist) {
            scheduler.fleet.handle_persisted(now, key, revision);
        }
        if *key == StateKey::Fleet && !scheduler.subscribing {
            scheduler.subscribing = true;
            let framework = scheduler.fleet.framework().cloned();
            let delay = self.delay(self.plan.network_ms);
            self.after(delay, Event::Subscribe { run, framework });
        }
        self.pump();
    }

    pub(super) fn save_again(&mut self, run: u64, key: &StateKey) {
        if self.is_running(run)
            && let Some(fleet) = self.fleet()
        {
            fleet.handle_not_persisted(key);
            self.pump();
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Mesos(call) => self.call_mesos(call),
            Effect::Publish(name, published) => {
                self.decide_publication(&name, published);
            }
            Effect::Withdraw(name) => {
                self.hold(durable_first::on_withdraw(self.stored(&name), &name));
                self.publish(&name, None);
            }
            Effect::Log(name, event) => {
                trace!(self, "scheduler: '{name}' epoch {}: {}", event.epoch, event.kind);
                if let (Some(Mutation::LeavingNotAwaited), EventKind::Leaving { member, .. }) =
                    (self.mutation, &event.kind)
                {
                    self.kill_at_once(&name, *member);
                }
                if let EventKind::Joined { member } = event.kind {
                    self.judge_joined(&name, member);
                }
                if let Some(moment) = moment(&event.kind) {
                    self.trigger(moment);
                }
            }
        }
    }

    fn trigger(&mut self, moment: Moment) {
        for trigger in self.plan.triggers.clone() {
            if trigger.when != moment || !self.mishap(trigger.permille) {
                continue;
            }
            let at_once = self.random.chance(500);
            if let (plan::Fault::SchedulerCrash(down_ms), true) = (trigger.fault, at_once) {
                self.crash_now = Some(down_ms);
            } else {
                let soon = self.random.below(30);
                self.after(soon, Event::Fault(trigger.fault));
            }
        }
    }

    fn call_mesos(&mut self, call: MesosCall) {
        self.judge_call(&call);
        let Some(connection) = self.master.connection else { return }; // nobody takes it
        let repeatable = !matches!(call, MesosCall::Accept { .. });
        if repeatable && self.mishap(self.plan.doubled) {
            self.send_to_master(connection, call.clone());
        }
        self.send_to_master(connection, call);
    }

    /// A defect: who is to leave is killed whatever it has.
    fn kill_at_once(&mut self, name: &ClusterName, id: MemberId) {
        let of_member = |m: &super::member::Member| m.spec.cluster == *name && m.spec.member == id && !m.ended;
        let Some(number) = self.members.iter().rposition(of_member) else { return };
        let Some(connection) = self.master.connection else { return };
        self.judge_task_kill(number);
        let (task, agent) = (self.members[number].task.clone(), self.agents[self.members[number].agent].id.clone());
        self.send_to_master(connection, MesosCall::Kill { task, agent });
    }

    /// R8: the scheduler kills a task.
    fn judge_task_kill(&mut self, number: usize) {
        let ends = if self.is_on_volume(number) { Ends::WithProcess } else { Ends::All };
        self.judge_ending(number, "the scheduler kills", ends);
    }

    fn send_to_master(&mut self, connection: u64, call: MesosCall) {
        let at = self.now.after(self.random.delay(self.plan.network_ms)).max(self.master.last_call);
        self.master.last_call = at;
        self.at(at, Event::ToMaster { connection, call: Box::new(call) });
    }

    fn judge_call(&mut self, call: &MesosCall) {
        if let MesosCall::Kill { task, .. } = call
            && let Some(number) = self.members.iter().rposition(|m| m.task == *task && !m.ended)
        {
            self.judge_task_kill(number);
        }
        let verdict = match call {
            MesosCall::Accept { launches, releases, .. } => launches
                .iter()
                .try_for_each(|launch| {
                    let task = protocol::decode(&launch.data).map_err(|e| format!("a launch makes no sense: {e}"))?;
                    let task: protocol::MemberTask = task;
                    durable_first::on_launch(self.stored(&task.cluster), &task)
                })
                .and_then(|()| {
                    releases.iter().try_for_each(|volume| {
                        let (name, member) =
                            volume.parse().map_err(|error| format!("a release makes no sense: {error}"))?;
                        durable_first::on_release(self.stored(&name), member)
                    })
                }),
            MesosCall::Kill { task, .. } => match task.parse() {
                Ok((name, id, run)) => durable_first::on_kill(self.stored(&name), id, run),
                Err(error) => Err(format!("a task is killed that is not ours: {error}")),
            },
            MesosCall::Message { task, data, .. } => match (task.parse(), protocol::decode::<ToExecutor>(data)) {
                (Ok((name, id, _)), Ok(ToExecutor::Directive(directive))) => {
                    trace!(self, "scheduler: tells {task} {directive:?}");
                    durable_first::on_directive(self.stored(&name), &name, id, &directive)
                }
                (Ok(_), Ok(ToExecutor::Heard { .. } | ToExecutor::Accounts { .. } | ToExecutor::LetGo)) => Ok(()),
                (task, message) => Err(format!("a message makes no sense: {task:?} {message:?}")),
            },
            MesosCall::Acknowledge { task, uuid, .. } => match (task.parse(), self.master.told.get(uuid)) {
                (Ok((name, id, run)), Some(news)) => durable_first::on_acknowledge(self.stored(&name), id, run, *news),
                (Ok(_), None) | (Err(_), _) => Ok(()),
            },
            MesosCall::AnswerMaintenance { id, ready } => return self.judge_answer(id, *ready),
            MesosCall::Decline { .. } | MesosCall::Reconcile(_) | MesosCall::Suppress | MesosCall::Revive => Ok(()),
        };
        self.hold(verdict);
    }

    fn decide_publication(&mut self, name: &ClusterName, published: Published) {
        self.hold(durable_first::on_publish(self.stored(name), name, &published));
        let heard = self.scheduler.as_ref().is_some_and(|s| s.said.keys().any(|(of, _)| of == name));
        let shown = self.discovery.get(name);
        let primary = shown.and_then(|shown| shown.primary);
        let closed = primary.and_then(|id| self.scheduler.as_ref()?.said.get(&(name.clone(), id)));
        let closed = closed.is_some_and(|role| *role != MemberRole::Primary);
        self.hold(withdrawal::on_publish(self.stored(name), name, shown, &published, closed, heard));
        self.publish(name, Some(published));
    }

    fn publish(&mut self, name: &ClusterName, wanted: Option<Published>) {
        let Some(scheduler) = &mut self.scheduler else { return };
        let publication = scheduler.publications.entry(name.clone()).or_default();
        publication.number += 1;
        publication.wanted = wanted;
        self.start_publication(name);
    }

    fn start_publication(&mut self, name: &ClusterName) {
        let Some(scheduler) = &mut self.scheduler else { return };
        let run = scheduler.run;
        let Some(publication) = scheduler.publications.get_mut(name).filter(|p| !p.busy) else { return };
        publication.busy = true;
        let Publication { number, wanted, .. } = publication.clone();
        let done = !self.mishap(self.plan.publications_fail);
        let took = self.random.within(1, 30);
        self.after(took, Event::PublicationEnded { run, name: name.clone(), number, wanted, done });
    }

    pub(super) fn end_publication(
        &mut self,
        run: u64,
        name: &ClusterName,
        number: u64,
        wanted: Option<Published>,
        done: bool,
    ) {
        // A failure may have taken effect, and so may what a dead scheduler had under way.
        if done || self.random.chance(500) {
            self.show(name, wanted);
        }
        let now = self.local();
        let Some(scheduler) = self.scheduler.as_mut().filter(|s| s.run == run) else { return };
        let Some(publication) = scheduler.publications.get_mut(name) else { return };
        publication.busy = false;
        if !done {
            return self.after(100, Event::PublishAgain { run, name: name.clone() });
        }
        let (latest, withdrawn) = (publication.number == number, publication.wanted.is_none());
        if !latest {
            self.start_publication(name);
        } else if withdrawn {
            scheduler.publications.remove(name);
            scheduler.fleet.handle(now, fleet::Input::Withdrawn(name.clone()));
            self.pump();
        }
    }

    pub(super) fn publish_again(&mut self, run: u64, name: &ClusterName) {
        if self.is_running(run) {
            self.start_publication(name);
        }
    }

    /// The fake directory: refuses an epoch lower than the one it shows.
    fn show(&mut self, name: &ClusterName, wanted: Option<Published>) {
        let Some(published) = wanted else {
            trace!(self, "discovery: '{name}' is withdrawn");
            self.discovery.remove(name);
            return;
        };
        if self.discovery.get(name).is_some_and(|shown| shown.epoch > published.epoch) {
            return;
        }
        trace!(self, "discovery: '{name}' {published:?}");
        if let Some(life) = self.life_of(name) {
            let verdict = self.published.on_published(life, &published);
            self.hold(verdict);
            if let Some(endpoint) = published.primary.and_then(|p| published.members.get(&p)) {
                let remembered = &mut self.lives[life].remembered;
                if remembered.last() != Some(endpoint) {
                    remembered.push(endpoint.clone());
                }
            }
        }
        self.discovery.insert(name.clone(), published);
    }

    /// The life that the stored record of a name belongs to.
    pub(super) fn life_of(&self, name: &ClusterName) -> Option<usize> {
        self.stored(name).and_then(|state| state.spec.secrets.user.as_str().parse().ok())
    }

    pub(super) fn subscribe(&mut self, run: u64, framework: Option<FrameworkId>) {
        if !self.is_running(run) {
            return;
        }
        if self.now < self.master.away_until {
            let wait = self.master.away_until.since(self.now) + 10;
            return self.after(wait, Event::Subscribe { run, framework });
        }
        let connection = self.number();
        let known = self.master.framework.get_or_insert_with(|| FrameworkId::new("framework-1")).clone();
        if framework.is_some_and(|f| f != known) {
            self.hold(Err("the scheduler subscribes with another framework's id".to_owned()));
        }
        trace!(self, "master: scheduler run {run} subscribed");
        self.master.on_subscribed(connection, self.now);
        self.forget_questions();
        self.send_to_scheduler(MesosEvent::Subscribed(known));
        self.after(5, Event::AllocateSoon);
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a new kind of event is no moment for a fault until somebody says so"
)]
const fn moment(kind: &EventKind) -> Option<Moment> {
    Some(match kind {
        EventKind::Launching { .. } => Moment::Launching,
        EventKind::PrimaryLost { .. } => Moment::Lost,
        EventKind::Frozen { .. } => Moment::Frozen,
        EventKind::Elected { .. } => Moment::Elected,
        EventKind::Promoted { .. } => Moment::Promoted,
        EventKind::Leaving { .. } => Moment::Leaving,
        EventKind::Scaled { .. } => Moment::Scaled,
        EventKind::Deleting => Moment::Deleting,
        EventKind::Joined { .. } => Moment::Joined,
        EventKind::SwitchingOver { .. } => Moment::SwitchingOver,
        EventKind::SwitchoverFailed { .. } => Moment::SwitchoverFailed,
        _ => return None,
    })
}
