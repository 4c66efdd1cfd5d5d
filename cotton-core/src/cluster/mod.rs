//! The machine of one MySQL cluster: facts and commands in, wishes out.
//!
//! Inputs only update facts; `reconcile` compares what is with what should be and is the only place that
//! decides. Nothing that follows from a decision leaves before the decision is durable: [`Cluster::poll_effect`]
//! withholds every effect until [`Cluster::handle_persisted`] says that its revision is.
//!
//! What it leaves to others: where members are placed ([`placement`](crate::placement)), who wins an election
//! ([`election`](crate::election)), which member leaves ([`scaling`](crate::scaling)), all I/O (the driver).

mod accounts;
mod acks;
mod applying;
mod cooldown;
mod copies;
mod describe;
mod directives;
mod discovery;
mod effect;
mod elect;
mod errant;
pub mod event;
pub mod explain;
mod failover;
mod input;
mod joining;
mod lag;
pub mod levers;
mod observed;
mod outdated;
mod paused;
mod reconcile;
mod relaunch;
mod rules;
mod silence;
mod stall;
pub mod state;
pub mod switchover;
mod vacate;
pub mod view;
mod volume;

pub use effect::Effect;
pub use input::{Input, Placed};

use crate::cluster::event::{Event, EventKind};
use crate::placement::Avoid;
use crate::ports::mesos::TaskState;
use crate::protocol::{MemberTask, Report, ToExecutor};
use crate::{AgentId, ClusterName, ClusterSpec, Limits, MemberId, Millis, Resources, Revision, SpecError, spec};
use acks::Retirement;
use applying::Applying;
use cooldown::Failovers;
use event::Timeline;
use failover::Election;
use lag::Marks;
use observed::Observed;
use relaunch::Relaunch;
pub use relaunch::Verdict;
use silence::{AckWait, Blocked};
use stall::{Stall, Unread};
use state::{Leaving, Member, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use switchover::Switchover;
use vacate::Pause;
pub(crate) use vacate::SAME_START_MS;

/// Times of a cluster, all in milliseconds. The defaults suit a local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// After how long an unobeyed directive is sent again.
    pub resend_ms: u64,
    /// After how long without a report a member counts as silent.
    pub silence_ms: u64,
    /// After how long an election says what it waits for, or decides without being sure where availability is preferred.
    pub election_ms: u64,
    /// How long an asynchronous election waits for a crashed primary to be restarted in place with its data.
    pub restart_grace_ms: u64,
    /// How long an asynchronous primary may go on without being answered.
    pub lease_ms: u64,
    /// After how long a primary whose lease has run out has certainly noticed that a replica has left it. Longer than
    /// [`ExecutorConfig::replicas_known_ms`](crate::executor::ExecutorConfig::replicas_known_ms).
    pub desertion_ms: u64,
    /// After how long a kill is repeated.
    pub kill_retry_ms: u64,
    /// After how long a member that is to leave is killed although it has not stopped receiving.
    pub detach_ms: u64,
    /// How far behind a replica may be before its cluster says so.
    pub lag_warning_ms: u64,
    /// After how long a primary is replaced whose sessions wait for acknowledgements of what replicas already have.
    pub stall_ms: u64,
    /// How long after that no other primary is replaced for this reason.
    pub stall_pause_ms: u64,
    /// After how long a primary is replaced whose commits wait while no replica receives anything from it.
    pub unread_ms: u64,
    /// In how long at most so many failovers are decided as `failovers_max` says that may lose commits; 0 for no such limit.
    pub failover_cooldown_ms: u64,
    /// How many.
    pub failovers_max: u32,
    /// How long running transactions may take to end before a switchover breaks them off.
    pub step_down_ms: u64,
    /// How much longer a primary may take to step down before that is taken back.
    pub step_down_patience_ms: u64,
    /// How long a switchover waits for its candidate to apply everything.
    pub catch_up_ms: u64,
    /// After how long without success at opening the old primary again another one is elected.
    pub reopen_ms: u64,
    /// Pause after a switchover away from a primary whose storage fails; doubled with each failure in a row.
    pub storage_retry_ms: u64,
    /// The same, away from an agent that is to be taken down.
    pub vacate_retry_ms: u64,
    /// The same, away from an agent that wants the primary to end.
    pub leave_retry_ms: u64,
    /// After how long an unreachable member is replaced.
    pub unreachable_ms: u64,
    /// After how long a member that never reported is replaced.
    pub launch_ms: u64,
    /// After how long a member is replaced whose task has ended and whose volume is not offered.
    pub return_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            resend_ms: 1_000,
            silence_ms: 6_000,
            election_ms: 60_000,
            restart_grace_ms: 3_000,
            lease_ms: 10_000,
            desertion_ms: 3_000,
            kill_retry_ms: 5_000,
            detach_ms: 10_000,
            lag_warning_ms: 30_000,
            stall_ms: 3_000,
            stall_pause_ms: 60_000,
            unread_ms: 20_000,
            failover_cooldown_ms: 600_000,
            failovers_max: 3,
            step_down_ms: 2_000,
            step_down_patience_ms: 4_000,
            catch_up_ms: 10_000,
            reopen_ms: 10_000,
            storage_retry_ms: 300_000,
            vacate_retry_ms: 30_000,
            leave_retry_ms: 2_000,
            unreachable_ms: 30_000,
            launch_ms: 300_000,
            return_ms: 120_000,
        }
    }
}

/// How many more members a cluster wants, and what placement must respect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How many.
    pub count: u32,
    /// Number of the first; the others follow.
    pub first: MemberId,
    /// What each needs, executor included.
    pub resources: Resources,
    /// Agents and zones that its members are on.
    pub occupied: Vec<(AgentId, Option<String>)>,
    /// Agents on which members failed lately: they are used last, and some not yet.
    pub avoid: BTreeMap<AgentId, Avoid>,
}

/// One MySQL cluster. See the [module's documentation](self).
#[derive(Debug)]
pub struct Cluster {
    timing: Arc<Timing>,
    state: State,
    /// Of `state`; grows with every durable change.
    revision: Revision,
    /// Newest revision that was handed out to be saved.
    offered: Revision,
    /// Newest revision known to be durable.
    persisted: Revision,
    effects: VecDeque<(Revision, Effect)>,
    /// Boxed, since a map keeps room for eleven of these, and there are many clusters.
    observed: BTreeMap<MemberId, Box<Observed>>,
    // Boxed, because most of many clusters have none: these, and the two of switchovers.
    election: Option<Box<Election>>,
    retirement: Option<Box<Retirement>>,
    failover: Option<failover::Progress>,
    last_failover: Option<Timeline>,
    failovers: Failovers,
    relaunch: Relaunch,
    /// The primary that people were told to be open, in this run.
    told_open: Option<(crate::Epoch, MemberId)>,
    stall: Option<Stall>,
    /// What the primary had, and when.
    marks: Marks,
    /// Sessions of the primary that wait.
    ack_wait: Option<Box<AckWait>>,
    /// Since when sessions of the primary wait for an acknowledgement, in all of its reports, whatever its position.
    waits_since: Option<Millis>,
    /// Since when commits of the primary wait for room on its disk.
    room_missed_since: Option<Millis>,
    unread: Option<Unread>,
    blocked: Option<Blocked>,
    /// Whether members can be heard at all.
    is_watching: bool,
    /// Until then no stalled primary is replaced: one was a moment ago, and that helped but for so long.
    stall_pause_until: Millis,
    switchover: Option<Box<Switchover>>,
    latest_switchover: Option<Box<view::SwitchoverView>>,
    /// Until when, and for which reason, the cluster hands over only when it is asked to.
    pause: Pause,
    /// Since when the primary is to open again after a switchover that failed.
    reopening_since: Option<Millis>,
    /// A failover that is needed and held back.
    held: Option<paused::Held>,
    /// Agents that are to be taken down, and when.
    vacate: BTreeMap<AgentId, Millis>,
    published: Option<crate::ports::discovery::Published>,
    withdrawn: bool,
    withdraw_sent: Option<Millis>,
    /// When the present primary was decided, as far as this run knows.
    appointed_at: Millis,
    /// The epoch in which nobody is told to follow the primary before it is open: it may never be, and has what must not
    /// spread.
    followers_wait: Option<crate::Epoch>,
    /// Since when this scheduler has been watching; silence cannot be older.
    watching_since: Millis,
    /// Since when this scheduler has heard of any member.
    heard_since: Option<Millis>,
    /// Whether tasks of this cluster run that the record does not know.
    has_unknown: bool,
    /// The time of the latest decision.
    looked_at: Millis,
    /// Since when no primary is known to be open.
    closed_since: Option<Millis>,
    nonce: u64,
    timeout: Option<Millis>,
}

impl Cluster {
    /// A cluster that was just asked for. Its first checkpoint is due at once. Its members are numbered from
    /// `first_member`, above those of earlier clusters of that name: news of those may still be under way.
    ///
    /// # Errors
    /// When the spec breaks a rule.
    pub fn create(
        timing: impl Into<Arc<Timing>>,
        limits: &Limits,
        spec: ClusterSpec,
        order: u64,
        first_member: MemberId,
        nonce: u64,
        now: Millis,
    ) -> Result<Self, SpecError> {
        spec.validate(limits)?;
        let size = spec.size;
        let mut this = Self::with_state(timing.into(), State::new(spec, order, first_member), nonce, now);
        this.is_watching = true; // whoever asked for it was answered by a scheduler that is connected
        this.change(|_| {});
        this.log(now, EventKind::Created { size });
        this.reconcile(now);
        Ok(this)
    }

    /// Resumes from the last checkpoint; whatever it may have left undone is asked for again.
    ///
    /// `nonce` is the first of the numbers that tell fresh reports from older ones: higher in every run of the
    /// scheduler than any used in the runs before.
    pub fn recover(timing: impl Into<Arc<Timing>>, state: State, nonce: u64, now: Millis) -> Self {
        let mut this = Self::with_state(timing.into(), state, nonce, now);
        for id in this.state.members.keys() {
            this.observed.insert(*id, Box::new(Observed { is_from_record: true, ..Observed::new(now) }));
        }
        this.reconcile(now);
        this
    }

    fn with_state(timing: Arc<Timing>, state: State, nonce: u64, now: Millis) -> Self {
        let failovers = Failovers::recover(state.failovers.min(timing.failovers_max), now);
        let followers_wait = state.appointed.as_ref().map(|_| state.epoch); // whether it may open is not known any more
        Self {
            timing,
            state,
            revision: Revision(0),
            offered: Revision(0),
            persisted: Revision(0),
            effects: VecDeque::new(),
            observed: BTreeMap::new(),
            election: None,
            retirement: None,
            failover: None,
            last_failover: None,
            failovers,
            relaunch: Relaunch::default(),
            told_open: None,
            stall: None,
            waits_since: None,
            room_missed_since: None,
            unread: None,
            marks: Marks::default(),
            ack_wait: None,
            blocked: None,
            is_watching: false,
            stall_pause_until: Millis(0),
            switchover: None,
            latest_switchover: None,
            pause: Pause::default(),
            reopening_since: None,
            held: None,
            vacate: BTreeMap::new(),
            published: None,
            withdrawn: false,
            withdraw_sent: None,
            appointed_at: now,
            followers_wait,
            watching_since: now,
            heard_since: None,
            has_unknown: false,
            looked_at: now,
            closed_since: None,
            nonce,
            timeout: None,
        }
    }

    /// Takes a fact; stale, repeated and unknown ones change nothing.
    pub fn handle(&mut self, now: Millis, input: Input) {
        match input {
            Input::Task { member, state, message } => self.on_task(now, member, state, message),
            Input::Report { member, report } => self.on_report(now, member, report),
            Input::Outdated { unknown } => self.on_outdated(now, unknown),
            Input::Connected => self.on_connected(now),
            Input::Disconnected => self.is_watching = false,
            Input::Withdrawn => self.withdrawn = self.state.deleting && self.state.members.is_empty(),
        }
        self.reconcile(now);
    }

    /// Time has come for something; harmless when it has not.
    pub fn handle_timeout(&mut self, now: Millis) {
        self.reconcile(now);
    }

    /// When [`Cluster::handle_timeout`] wants to be called next.
    pub const fn poll_timeout(&self) -> Option<Millis> {
        self.timeout
    }

    /// Asks for another number of members.
    ///
    /// # Errors
    /// When the number is out of bounds, or too small for the cluster's durability.
    pub fn scale(&mut self, now: Millis, limits: &Limits, size: u64) -> Result<(), SpecError> {
        let size = spec::validate_size(size, limits)?;
        spec::validate_durability(size, self.state.spec.durability)?;
        let from = self.state.spec.size;
        if from != size {
            self.change(|state| state.spec.size = size);
            self.log(now, EventKind::Scaled { from, to: size });
            self.reconcile(now);
        }
        Ok(())
    }

    /// Asks to delete the cluster with all its data. Asking again changes nothing.
    pub fn delete(&mut self, now: Millis) {
        if !self.state.deleting {
            self.change(|state| state.deleting = true);
            self.log(now, EventKind::Deleting);
            self.reconcile(now);
        }
    }

    /// How many more members to place, if any.
    pub fn wanted(&self) -> Option<Wanted> {
        let count = self.missing();
        // Where a member was whose volume is missed, there may well be room for another: the volume may be lost.
        let there = self.state.members.values().filter(|member| !(member.resting && member.is_away()));
        (count > 0).then(|| Wanted {
            count,
            first: self.state.next_member,
            resources: self.state.spec.resources,
            occupied: there.map(|m| (m.agent.clone(), m.zone.clone())).collect(),
            avoid: BTreeMap::new(), // the fleet knows them
        })
    }

    /// Places the next member; its launch comes out as an effect once that is durable.
    ///
    /// # Panics
    /// When no member is wanted: see [`Cluster::wanted`].
    pub fn place(&mut self, now: Millis, placed: Placed) -> MemberId {
        self.place_new(now, placed, false)
    }

    fn place_new(&mut self, now: Millis, placed: Placed, volume: bool) -> MemberId {
        assert!(self.missing() > 0, "cluster {} wants no member", self.state.name());
        let id = self.state.next_member;
        let Placed { offer, agent, endpoint, zone } = placed;
        let member = Member {
            agent: agent.clone(),
            run: 0,
            endpoint,
            zone,
            joined: false,
            received: None,
            late: self.state.opened,
            attached: crate::Epoch(0),
            volume,
            resting: false,
            rule: crate::election::PromotionRule::Neutral,
            damaged: false,
            leaving: None,
        };
        let task = self.task(id, &member);
        self.change(|state| {
            state.members.insert(id, member);
            state.next_member = id.next();
        });
        self.observed.insert(id, Box::new(Observed::new(now)));
        self.log(now, EventKind::Launching { member: id, agent: agent.clone() });
        self.want(Effect::Launch { offer, agent, task: Box::new(task) });
        self.reconcile(now);
        id
    }

    /// What a member's executor must know.
    fn task(&self, id: MemberId, member: &Member) -> MemberTask {
        let spec = &self.state.spec;
        MemberTask {
            number: self.state.order,
            cluster: spec.name.clone(),
            member: id,
            endpoint: member.endpoint.clone(),
            resources: spec.task_resources(),
            user: spec.user.clone(),
            secrets: spec.secrets.clone(),
            durability: spec.durability,
            backup_id: spec.backup_id.clone(),
            has_data: member.may_hold_data(),
        }
    }

    /// State to make durable before any further effect, handed out once for each change; then call
    /// [`Cluster::handle_persisted`]. [`Cluster::retry_checkpoint`] hands it out again after a failure.
    pub fn poll_checkpoint(&mut self) -> Option<(Revision, &State)> {
        (self.offered < self.revision).then(|| {
            self.offered = self.revision;
            (self.revision, &self.state)
        })
    }

    /// A state that was handed out is durable now.
    ///
    /// # Panics
    /// When it was never handed out.
    pub fn handle_persisted(&mut self, now: Millis, revision: Revision) {
        assert!(revision <= self.offered, "{revision:?} was never handed out");
        self.persisted = self.persisted.max(revision);
        self.note_durable(now);
        self.decide_kills_again(now);
    }

    /// A kill that waited for the store was decided under what was known then: a primary may be lost since, and whoever is to
    /// leave may hold the best copy that is left.
    fn decide_kills_again(&mut self, now: Millis) {
        let withheld = self.drop_kills();
        if withheld {
            self.reconcile(now);
        }
    }

    /// Takes back the kills that have not left; says whether there are any.
    fn drop_kills(&mut self) -> bool {
        if self.state.deleting {
            return false;
        }
        let mut dropped = BTreeSet::new();
        self.effects.retain(|(_, effect)| {
            let Effect::Kill { member, .. } = effect else { return true };
            dropped.insert(*member);
            false
        });
        for id in &dropped {
            if let Some(observed) = self.observed.get_mut(id) {
                observed.killed_at = None;
            }
        }
        !dropped.is_empty()
    }

    /// Saving failed: the present state is to be handed out again.
    pub fn retry_checkpoint(&mut self) {
        self.offered = self.persisted;
    }

    /// The next effect whose state is durable; `None` while its checkpoint is outstanding.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let (revision, _) = self.effects.front()?;
        if *revision > self.persisted {
            return None;
        }
        let (_, effect) = self.effects.pop_front()?;
        if self.effects.is_empty() {
            self.effects = VecDeque::new(); // most clusters are silent most of the time, and there may be many
        }
        Some(effect)
    }

    /// Whether a member's agent cannot be reached, as far as Mesos knows.
    pub(crate) fn is_unreachable(&self, member: MemberId) -> bool {
        self.observed.get(&member).is_some_and(|observed| observed.unreachable_since.is_some())
    }

    /// Whether an effect is queued, durable or not.
    pub(crate) fn has_effect(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Whether it has been deleted, with all that belonged to it; only its record is left to be removed.
    pub const fn is_gone(&self) -> bool {
        self.withdrawn
    }

    /// Its name.
    pub fn name(&self) -> &ClusterName {
        self.state.name()
    }

    /// The checkpoint as it is now, durable or not.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Newest revision of the state.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Newest revision known to be durable.
    pub const fn persisted(&self) -> Revision {
        self.persisted
    }

    fn on_task(&mut self, now: Millis, id: MemberId, task: TaskState, message: String) {
        let Some(member) = self.state.members.get(&id).filter(|member| !member.resting) else { return };
        let observed = self.observed.entry(id).or_insert_with(|| Box::new(Observed::new(now)));
        if task.is_terminal() {
            let ran = observed.running || observed.report.as_ref().is_some_and(|r| r.role.is_up());
            let useless = !observed.proven && member.leaving.is_none();
            let failed = matches!(task, TaskState::Failed | TaskState::Finished);
            let reason = if message.is_empty() { format!("{task:?}").to_lowercase() } else { message };
            // With the agent, its volumes are gone, too.
            let returns = task != TaskState::Gone && self.shall_return(now, id, member);
            if failed && useless {
                self.launch_failed(now, id, &reason);
            } else if task == TaskState::Dropped && !ran {
                self.launch_dropped(now, id, &reason);
            }
            if returns {
                return self.rest(now, id, reason);
            }
            return self.forget(now, id, reason, task != TaskState::Gone);
        }
        if matches!(task, TaskState::Unreachable | TaskState::Unknown) {
            if observed.unreachable_since.is_none() {
                observed.unreachable_since = Some(now);
                self.log(now, EventKind::Unreachable { member: id });
            }
            return;
        }
        if task == TaskState::Running && !observed.running {
            observed.running = true;
            let endpoint = member.endpoint.clone();
            self.log(now, EventKind::Running { member: id, endpoint });
        }
        if let Some(observed) = self.observed.get_mut(&id) {
            observed.unreachable_since = None;
        }
    }

    fn on_report(&mut self, now: Millis, id: MemberId, report: Box<Report>) {
        if !self.has_task(id) {
            return;
        }
        let observed = self.observed.entry(id).or_insert_with(|| Box::new(Observed::new(now)));
        let silent_ms = observed.silent_ms(now);
        let before = observed.report.clone().filter(|before| before.unapplied > 0 || report.unapplied > 0);
        let Some(news) = observed.take(now, report) else { return };
        if let Some(after) = &observed.report {
            let known = observed.applying.take().map(|applying| *applying);
            observed.applying = Applying::note(known, now, before.as_deref(), after).map(Box::new);
        }
        let is_back = std::mem::take(&mut observed.told.silent);
        self.heard_since.get_or_insert(now);
        for kind in news.into_events(id) {
            self.log(now, kind);
        }
        if is_back {
            self.log(now, EventKind::HeardAgain { member: id, ms: silent_ms });
        }
        self.observe_attachment(id);
        self.observe_lag(now, id);
        self.observe_errant(now, id);
        self.observe_waiting(now, id);
        self.observe_reading(now, id);
        self.observe_acker(id);
        self.forget_unattached(id);
        self.forget_stray(id);
        self.answer_report(now, id);
    }

    /// Asks everyone for a report: what came before the connection may be stale or lost.
    fn on_connected(&mut self, now: Millis) {
        self.is_watching = true;
        self.watching_since = self.watching_since.max(now);
        self.reopening_since = self.reopening_since.map(|_| now); // nobody could be heard before
        for observed in self.observed.values_mut() {
            observed.sent = None;
            observed.killed_at = None;
        }
        let members: Vec<MemberId> = self.state.members.keys().copied().collect();
        for id in members {
            self.ask_for_report(id);
        }
    }

    /// How many more members are wanted: never more tasks than wanted plus the one that is being replaced. Those that are
    /// away do not count: when they end is not up to us, and others may have to be replaced before.
    pub(crate) fn missing(&self) -> u32 {
        let state = &self.state;
        if state.deleting || state.paused || state.outdated || self.relaunch.waits() || self.lacks_data() {
            return 0;
        }
        let size = self.state.spec.size as usize;
        let staying = self.state.staying().count();
        let known = self.state.members.values().filter(|member| !member.is_away()).count();
        let room = (size + 1).saturating_sub(known);
        u32::try_from(size.saturating_sub(staying).min(room)).expect("bounded by the size, which is a u32")
    }

    /// Whether there were data once, and nobody is there who has them: an empty member would have nobody to copy from, and
    /// hide what is wrong.
    pub(super) fn lacks_data(&self) -> bool {
        let is_there = |id: &MemberId| self.observed.get(id).is_some_and(|observed| observed.report.is_some());
        let mut with_data = self.state.members.iter().filter(|(id, m)| m.joined || self.state.witnesses.contains(id));
        self.state.opened && !with_data.any(|(id, member)| !member.resting && is_there(id))
    }

    /// A member's task has ended: nothing may come out for it any more, least of all a launch that is still withheld. Its
    /// volume is released when there may be one.
    fn forget(&mut self, now: Millis, member: MemberId, reason: String, release: bool) {
        self.observed.remove(&member);
        self.relaunch.forget(member);
        self.effects.retain(|(_, effect)| effect.member() != Some(member));
        let mut gone = None;
        self.change(|state| gone = state.members.remove(&member));
        self.log(now, EventKind::Ended { member, reason });
        if let Some(gone) = gone.filter(|gone| gone.volume && release) {
            self.let_go_of_volume(member, &gone);
        }
    }

    fn leave(&mut self, now: Millis, members: &BTreeSet<MemberId>, why: Leaving) {
        let members: Vec<MemberId> = members
            .iter()
            .copied()
            .filter(|id| self.state.members.get(id).is_some_and(|m| m.leaving.is_none()))
            .collect();
        if members.is_empty() {
            return;
        }
        self.change(|state| {
            for id in &members {
                if let Some(member) = state.members.get_mut(id) {
                    member.leaving = Some(why);
                }
            }
        });
        for member in members {
            if let Some(observed) = self.observed.get_mut(&member) {
                (observed.leaving_since, observed.asked_primary) = (Some(now), None);
                observed.to_leave_since = Some(now);
            }
            let keepsake = self.state.members.get(&member).map_or("", |member| member.keepsake(why));
            self.log(now, EventKind::Leaving { member, reason: format!("{}{keepsake}", why.reason()) });
            self.note_hopeless(now, member, why);
        }
    }

    fn change(&mut self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state);
        self.revision.0 += 1;
    }

    /// Queues an effect. While a slow store withholds them, repetitions must not pile up: one that is queued already is
    /// as good, and an order replaces the earlier ones to the same member, a publication all earlier ones.
    fn want(&mut self, effect: Effect) {
        match &effect {
            Effect::Send { member, message: ToExecutor::Directive(_), .. } => {
                if self.effects.iter().any(|(_, queued)| *queued == effect) {
                    return;
                }
                self.effects.retain(|(_, queued)| queued.ordered() != Some(*member));
            }
            Effect::Kill { .. }
            | Effect::Withdraw
            | Effect::Send { message: ToExecutor::LetGo | ToExecutor::Accounts { .. }, .. }
                if self.effects.iter().any(|(_, queued)| *queued == effect) =>
            {
                return;
            }
            Effect::Publish(_) => self.effects.retain(|(_, queued)| !matches!(queued, Effect::Publish(_))),
            Effect::Launch { .. }
            | Effect::Kill { .. }
            | Effect::Release { .. }
            | Effect::Send { .. }
            | Effect::Withdraw
            | Effect::Log(_) => {}
        }
        self.effects.push_back((self.revision, effect));
    }

    fn log(&mut self, at: Millis, kind: EventKind) {
        let epoch = self.state.epoch;
        self.want(Effect::Log(Event { at, epoch, kind }));
    }

    /// Wants to be woken at `at`, if nothing is due earlier.
    fn wake_at(&mut self, at: Millis) {
        self.timeout = crate::time::earliest(self.timeout, Some(at));
    }
}

#[cfg(test)]
mod tests;
