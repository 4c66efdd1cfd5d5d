//! What ends copies of the data, and whether they were the last.

use super::Mutation;
use super::world::World;
use crate::ClusterName;
use crate::protocol::{MemberRole, Report, Stage};
use crate::testkit::invariants::{Life, Task, way_out};
use std::collections::BTreeSet;

/// What of a member's data comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// All of it.
    All,
    /// What it has only received.
    Received,
    /// What does not outlive the process of its server.
    WithProcess,
}

impl World {
    /// R8: something of ours ends data of a member; `how` says what, in words.
    pub(super) fn judge_ending(&mut self, task: Task, how: &str, ends: Ends) {
        let member = &self.members[task];
        let life = member.life;
        if self.lives[life].destroyed.contains(&task) {
            return; // its end is nobody's of ours
        }
        let how = format!("{how} {}", member.task);
        let ids: BTreeSet<u64> = match ends {
            Ends::All => member.server.held().collect(),
            Ends::WithProcess if member.server.keeps_relay => return,
            Ends::Received | Ends::WithProcess => member.server.received().collect(),
        };
        self.judge_ending_of(life, Some(task), &how, &ids);
    }

    /// The same, of transactions that a member holds which may not run.
    pub(super) fn judge_ending_of(&mut self, life: Life, task: Option<Task>, how: &str, ids: &BTreeSet<u64>) {
        if ids.is_empty() || self.lives[life].over || !self.is_known(life) {
            return;
        }
        let elsewhere = self.held_elsewhere(life, task);
        let verdict = self.last_copy.on_ending(self.now, life, how, ids.iter().copied(), &elsewhere);
        self.hold(verdict);
    }

    /// R9: an executor of ours kills its server.
    pub(super) fn judge_kill(&mut self, task: Task, reason: &str) {
        let member = &self.members[task];
        let ends = member.machine.as_ref().is_none_or(crate::executor::Executor::is_ending);
        if member.server.answers() && !member.server.writable && !ends && !self.lives[member.life].over {
            let verdict = way_out::on_killed(&member.task.to_string(), member.server.unapplied(), reason);
            self.hold(verdict);
        }
    }

    /// R9: every cluster says what it waits for.
    pub(super) fn judge_views(&mut self) {
        let local = self.local();
        let Some(scheduler) = &self.scheduler else { return };
        let views = self.store.clusters.keys().filter_map(|name| scheduler.fleet.view(local, name));
        let verdict = views.map(|view| way_out::on_view(&view)).find(Result::is_err);
        if let Some(verdict) = verdict {
            self.hold(verdict);
        }
    }

    /// Whether the stored record of a cluster's name is about this life of it, and wants it to go on.
    fn is_known(&self, life: Life) -> bool {
        let name = &self.lives[life].name;
        self.life_of(name) == Some(life) && self.stored(name).is_some_and(|state| !state.deleting)
    }

    /// What known members but one hold.
    fn held_elsewhere(&self, life: Life, but: Option<Task>) -> BTreeSet<u64> {
        let name = &self.lives[life].name;
        let Some(state) = self.stored(name) else { return BTreeSet::new() };
        let mut held = BTreeSet::new();
        for (task, member) in self.members.iter().enumerate() {
            if member.life == life && Some(task) != but && state.members.contains_key(&member.spec.member) {
                held.extend(member.server.held());
            }
        }
        for (volume, server) in self.left_on_volumes() {
            let Ok((of, member)) = volume.parse() else { continue };
            if of == *name && (state.members.contains_key(&member) || state.kept.contains(&member)) {
                held.extend(server.held());
            }
        }
        held
    }

    /// What a member tells, as a scheduler with a defect understands it.
    pub(super) fn misunderstood(&self, report: &mut Report, name: &ClusterName) {
        let electing = self.stored(name).filter(|state| state.primary.is_none() && !state.deleting);
        let follows = matches!(report.role, MemberRole::Following { .. });
        if self.mutation == Some(Mutation::UnfrozenCounted)
            && let Some(state) = electing.filter(|_| follows)
        {
            (report.epoch, report.stage, report.role) = (state.epoch, Some(Stage::Freeze), MemberRole::Frozen);
        }
        if self.mutation == Some(Mutation::ErrantCounted) {
            report.origin = String::new();
        }
        if self.mutation == Some(Mutation::ReceivedCountsAsApplied) {
            (report.unapplied, report.applied) = (0, Some(report.position.clone()));
        }
        if self.mutation == Some(Mutation::AnswersInvented) {
            report.echo = u64::MAX;
        }
    }
}
