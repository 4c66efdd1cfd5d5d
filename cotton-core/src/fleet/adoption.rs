//! Making a record again from what executors know, and giving tasks up for good: what a person decides of tasks that no
//! record accounts for.

use super::unknown::{Unknown, WhyUnknown};
use super::{CommandError, Effect, Fleet, Slot};
use crate::account::Accounts;
use crate::cluster::event::{Event, EventKind};
use crate::cluster::state::{Acker, Member, State};
use crate::cluster::{self, Cluster};
use crate::ports::mesos::MesosCall;
use crate::protocol::{self, Identity, MemberRole, MemberTask, Question, Report, Stage};
use crate::{AgentId, ClusterName, ClusterSpec, Durability, Epoch, MemberId, Millis, Preference, Resources, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A task that is adopted.
struct Found {
    task: TaskId,
    run: u32,
    agent: AgentId,
    identity: MemberTask,
    accounts: Accounts,
    report: Box<Report>,
}

impl Found {
    /// The start of its server, which may acknowledge.
    fn start(&self, member: MemberId) -> Acker {
        Acker { member, incarnation: self.report.incarnation, boot: self.report.boot }
    }
}

impl Fleet {
    /// Makes a cluster of the tasks of that name of which there is no record, or adds them to the record that is older.
    ///
    /// A primary that is open stays primary. Otherwise all members are frozen first, and one is elected that has all that
    /// any of them has.
    ///
    /// # Errors
    /// When there are no such tasks, or not all of them have said what they are.
    pub fn adopt(&mut self, now: Millis, name: &ClusterName) -> Result<(), CommandError> {
        if self.damaged.contains(name) {
            return Err(CommandError::Damaged(name.clone()));
        }
        let found = self.identified(name)?;
        let ids: Vec<MemberId> = found.keys().copied().collect();
        for found in found.values() {
            self.unknown.remove(&found.task);
        }
        let volumes = self.config.volumes;
        let members = found.iter().map(|(id, found)| (*id, member(found, volumes)));
        if let Some(slot) = self.slots.get_mut(name) {
            let starts = found.iter().map(|(id, found)| found.start(*id));
            slot.cluster.add(now, members.collect(), starts.collect());
            self.settle(name);
            self.tell(now, name, cluster::Input::Outdated { unknown: self.has_newer(name) });
        } else {
            let state = record(&found, self.next_order, volumes);
            let timing = Arc::clone(&self.config.timing);
            let mut cluster = Cluster::adopt(timing, state, self.nonce_base(), now);
            cluster.vacate(now, self.maintenance.soon().clone());
            self.order.insert((self.next_order, name.clone()));
            self.next_order += 1;
            self.slots.insert(name.clone(), Box::new(Slot::new(cluster)));
        }
        self.tell(now, name, cluster::Input::Connected);
        self.log(now, name, EventKind::Adopted { members: ids });
        self.ask_for_offers(now);
        Ok(())
    }

    /// Gives up the tasks of that name that no record accounts for, with all their data.
    ///
    /// # Errors
    /// When there are no such tasks, or the record of the cluster is damaged.
    pub fn discard(&mut self, now: Millis, name: &ClusterName) -> Result<(), CommandError> {
        if self.damaged.contains(name) {
            return Err(CommandError::Damaged(name.clone()));
        }
        let given_up = |(task, unknown): (&TaskId, &Unknown)| {
            let (of, member, _) = task.parse().ok()?;
            (of == *name && unknown.why != WhyUnknown::GivenUp).then(|| (task.clone(), member))
        };
        let tasks: BTreeMap<TaskId, MemberId> = self.unknown.iter().filter_map(given_up).collect();
        let next = tasks.values().max().ok_or_else(|| CommandError::NotFound(name.clone()))?.next();
        self.log(now, name, EventKind::Discarded { tasks: tasks.keys().cloned().collect() });
        if let Some(slot) = self.slots.get_mut(name) {
            // Numbers that were used: once that is durable, they are those of members that were given up.
            slot.cluster.pass(next);
            for task in tasks.keys() {
                if let Some(unknown) = self.unknown.get_mut(task) {
                    unknown.why = WhyUnknown::GivenUp;
                }
            }
            self.settle(name);
            self.tell(now, name, cluster::Input::Outdated { unknown: self.has_newer(name) });
        } else {
            self.retire_numbers(name, next);
        }
        Ok(())
    }

    /// What was asked for of a cluster of which there is no record, as far as its executors tell.
    pub fn unknown_spec(&self, name: &ClusterName) -> Option<ClusterSpec> {
        let tasks = self.unknown.iter().filter(|(task, _)| task.parse().is_ok_and(|(of, ..)| of == *name));
        let known = tasks.filter_map(|(_, unknown)| unknown.identity.as_deref());
        let newest = known.max_by_key(|known| known.accounts.as_ref().map(|accounts| accounts.revision))?;
        Some(spec(&newest.identity, newest.accounts.as_ref(), 1))
    }

    /// Asks a task that is not known what it is.
    pub(super) fn ask_identity(&mut self, task: &TaskId, agent: &AgentId) {
        let data = protocol::encode(&Question::Identify).into();
        self.calls.push_back(Effect::Mesos(MesosCall::Message { task: task.clone(), agent: agent.clone(), data }));
    }

    /// A task that is not known says something.
    pub(super) fn on_unknown_message(&mut self, task: &TaskId, data: &[u8]) {
        let Some(unknown) = self.unknown.get_mut(task) else { return };
        if let Ok(known @ Identity { .. }) = protocol::decode(data) {
            let identity = &known.identity;
            let is_its = task
                .parse()
                .is_ok_and(|(name, member, _)| (name, member) == (identity.cluster.clone(), identity.member));
            unknown.identity = Some(Box::new(known)).filter(|_| is_its);
        } else if let Ok(report) = protocol::decode::<Report>(data) {
            let ask = unknown.identity.is_none();
            let agent = unknown.agent.clone();
            unknown.report = Some(Box::new(report));
            if ask {
                self.ask_identity(task, &agent); // the question may have been lost
            }
        } else {
            self.counters.messages_malformed += 1;
        }
    }

    fn identified(&mut self, name: &ClusterName) -> Result<BTreeMap<MemberId, Found>, CommandError> {
        let (mut found, mut silent) = (BTreeMap::new(), Vec::new());
        for (task, unknown) in &self.unknown {
            let Ok((of, member, run)) = task.parse() else { continue };
            if of != *name || unknown.why == WhyUnknown::GivenUp {
                continue;
            }
            let (Some(known), Some(report)) = (unknown.identity.as_deref().cloned(), unknown.report.clone()) else {
                silent.push((task.clone(), unknown.agent.clone()));
                continue;
            };
            let agent = unknown.agent.clone();
            let (identity, accounts) = (known.identity, known.accounts.unwrap_or_default());
            found.insert(member, Found { task: task.clone(), run, agent, identity, accounts, report });
        }
        for (task, agent) in &silent {
            self.ask_identity(task, agent);
        }
        if !silent.is_empty() {
            let tasks = silent.into_iter().map(|(task, _)| task).collect();
            return Err(CommandError::NotIdentified { cluster: name.clone(), tasks });
        }
        if found.is_empty() { Err(CommandError::NotFound(name.clone())) } else { Ok(found) }
    }

    fn has_newer(&self, name: &ClusterName) -> bool {
        let newer = |(task, unknown): (&TaskId, &Unknown)| {
            unknown.why == WhyUnknown::Newer && task.parse().is_ok_and(|(of, ..)| of == *name)
        };
        self.unknown.iter().any(newer)
    }

    fn log(&mut self, now: Millis, name: &ClusterName, kind: EventKind) {
        let epoch = self.slots.get(name).map_or(Epoch(0), |slot| slot.cluster.state().epoch);
        self.calls.push_back(Effect::Log(name.clone(), Event { at: now, epoch, kind }));
    }
}

fn member(found: &Found, volume: bool) -> Member {
    Member {
        agent: found.agent.clone(),
        run: found.run,
        endpoint: found.identity.endpoint.clone(),
        zone: None,
        joined: true,
        received: None,
        late: false,
        rule: crate::election::PromotionRule::Neutral,
        attached: Epoch(0),
        volume,
        resting: false,
        damaged: false,
        leaving: None,
    }
}

fn spec(identity: &MemberTask, accounts: Option<&Accounts>, size: u32) -> ClusterSpec {
    let mut secrets = identity.secrets.clone();
    if let Some(password) = accounts.and_then(|accounts| accounts.user.clone()) {
        secrets.user = password;
    }
    let preference = match identity.durability {
        Durability::SemiSync => Preference::Consistency,
        Durability::Async => Preference::Availability,
    };
    ClusterSpec {
        name: identity.cluster.clone(),
        size,
        resources: identity.resources.plus(&Resources::EXECUTOR),
        user: identity.user.clone(),
        secrets,
        durability: identity.durability,
        preference,
        backup_id: identity.backup_id.clone(),
    }
}

/// How many numbers of members a record that is made again passes over: more than any cluster has used up meanwhile.
const SKIPPED: u64 = 1_000;

/// The record of a cluster that is known by its tasks alone.
fn record(found: &BTreeMap<MemberId, Found>, order: u64, volumes: bool) -> State {
    let (first, newest) = (found.keys().min().copied().unwrap_or_default(), found.iter().next_back());
    let (last, newest) = newest.expect("there is one, which was checked");
    let size = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let accounts = found.values().map(|found| &found.accounts).max_by_key(|accounts| accounts.revision);
    let mut state = State::new(spec(&newest.identity, accounts, size), order, first);
    if let Some(Accounts { revision, others, .. }) = accounts {
        (state.accounts_revision, state.accounts) = (*revision, others.clone());
    }
    // Numbers above the highest that runs may have been used: what they named may still be on some volume.
    state.next_member = MemberId(last.0.saturating_add(SKIPPED));
    state.members = found.iter().map(|(id, found)| (*id, member(found, volumes))).collect();
    state.opened = true;
    let report = |id: &MemberId| found.get(id).map(|found| &*found.report);
    state.epoch = found.keys().filter_map(report).map(|report| report.epoch).max().unwrap_or(Epoch(1));
    let epoch = state.epoch;
    let current = |id: &&MemberId| report(id).is_some_and(|report| report.epoch == epoch);
    let open =
        found.keys().filter(current).find(|id| report(id).is_some_and(|report| report.role == MemberRole::Primary));
    let Some((primary, open)) = open.and_then(|id| Some((*id, report(id)?))) else {
        state.outdated = true; // nobody knows who has what
        return state;
    };
    (state.primary, state.last_primary, state.last_epoch) = (Some(primary), Some(primary), epoch);
    state.witnesses = BTreeSet::from([primary]);
    state.floor = open.position.clone(); // what was acknowledged before is in it
    state.turn = if let Some(Stage::Turn(turn)) = open.stage { turn } else { 0 };
    state.ackers = found.iter().filter(|(id, _)| **id != primary).map(|(id, found)| found.start(*id)).collect();
    for (id, member) in &mut state.members {
        let Some(report) = report(id) else { continue };
        let follows = matches!(report.role, MemberRole::Following { .. }) && report.epoch == epoch;
        if follows || *id == primary {
            member.attached = epoch;
        }
    }
    state
}
