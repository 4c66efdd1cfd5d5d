//! Tasks of this framework that no record accounts for. They may be what is left of a later record that was lost, so they
//! are left alone until a person has decided. A task is killed by itself on durable facts only: its cluster was deleted,
//! or its member was given up and enough complete copies of the data are there.

use super::{Effect, Fleet, Left};
use crate::cluster;
use crate::ports::mesos::{MesosCall, TaskState};
use crate::protocol::{self, Identity, Report};
use crate::{AgentId, ClusterName, Millis, TaskId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A task that no record accounts for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownTask {
    /// Which.
    pub task: TaskId,
    /// Where it runs.
    pub agent: AgentId,
    /// Whose it says to be; `None` when its name tells nothing.
    pub cluster: Option<ClusterName>,
    /// Why it is not known.
    pub why: WhyUnknown,
    /// Whether its executor has said what is needed to adopt it.
    pub identified: bool,
}

/// What is known of one.
#[derive(Clone, Debug)]
pub(super) struct Unknown {
    pub(super) agent: AgentId,
    pub(super) why: WhyUnknown,
    /// What it was launched to run, as it says.
    pub(super) identity: Option<Box<Identity>>,
    pub(super) report: Option<Box<Report>>,
}

/// Why a task is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyUnknown {
    /// There is no record of such a cluster, and none that it was deleted.
    NoRecord,
    /// The record of its cluster is damaged.
    Damaged,
    /// It is newer than the record of its cluster.
    Newer,
    /// Its member was given up; it goes once the cluster has enough complete copies without it.
    GivenUp,
    /// Its name is not one that this scheduler gives.
    Foreign,
}

impl std::fmt::Display for WhyUnknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoRecord => "there is no record of its cluster",
            Self::Damaged => "the record of its cluster is damaged",
            Self::Newer => "it is newer than the record of its cluster",
            Self::GivenUp => "its member was given up; it ends once there are enough complete copies without it",
            Self::Foreign => "its name is not one that this scheduler gives",
        })
    }
}

impl Left {
    /// Why a task that is no member's present one is left alone.
    const fn why_unknown(self) -> WhyUnknown {
        match self {
            Self::NoRecord => WhyUnknown::NoRecord,
            Self::Damaged => WhyUnknown::Damaged,
            Self::Newer => WhyUnknown::Newer,
            Self::Deleted | Self::GivenUp | Self::Awaited | Self::Kept | Self::NotSaved | Self::Member => {
                WhyUnknown::GivenUp
            }
        }
    }
}

/// What is to become of a task that is no member's present one.
enum Fate {
    /// Nobody wants it, durably.
    Ends,
    Stays(WhyUnknown),
}

impl Fleet {
    /// Tasks that no record accounts for, as far as they were heard of.
    pub fn unknown(&self) -> impl Iterator<Item = UnknownTask> {
        self.unknown.iter().map(|(task, unknown)| UnknownTask {
            task: task.clone(),
            agent: unknown.agent.clone(),
            cluster: task.parse().ok().map(|(name, ..)| name),
            why: unknown.why,
            identified: unknown.identity.is_some(),
        })
    }

    /// A task runs that is no member's present one.
    pub(super) fn on_unknown(&mut self, now: Millis, task: TaskId, agent: AgentId, state: TaskState) {
        match self.fate(now, &task) {
            // What cannot be reached cannot be killed: its agent tells of it when it is back.
            Fate::Ends if state == TaskState::Unreachable => drop(self.unknown.remove(&task)),
            Fate::Ends => {
                self.unknown.remove(&task);
                self.end_unknown(task, agent);
            }
            Fate::Stays(why) => {
                let known = self.unknown.remove(&task);
                let (identity, report) = known.map_or((None, None), |known| (known.identity, known.report));
                if identity.is_none() && matches!(why, WhyUnknown::NoRecord | WhyUnknown::Newer) {
                    self.ask_identity(&task, &agent);
                }
                self.unknown.insert(task.clone(), Unknown { agent, why, identity, report });
                self.tell_outdated(now, &task);
            }
        }
    }

    /// A task that was not known is gone.
    pub(super) fn forget_unknown(&mut self, now: Millis, task: &TaskId) {
        if self.unknown.remove(task).is_some() {
            self.tell_outdated(now, task);
        }
    }

    /// Decides again about all of them: which clusters were deleted is durable now.
    pub(super) fn judge_all_unknown(&mut self, now: Millis) {
        let names = self.unknown.keys().filter_map(|task| task.parse().ok()).map(|(name, ..)| name);
        for name in names.collect::<BTreeSet<ClusterName>>() {
            self.judge_unknown(now, &name);
        }
    }

    /// Decides again about the tasks of a cluster that has changed.
    pub(super) fn judge_unknown(&mut self, now: Millis, name: &ClusterName) {
        if self.unknown.is_empty() {
            return;
        }
        let of_cluster = |task: &TaskId| task.parse().is_ok_and(|(of, ..)| of == *name);
        let tasks: Vec<TaskId> = self.unknown.keys().filter(|task| of_cluster(task)).cloned().collect();
        for task in tasks {
            if let Fate::Ends = self.fate(now, &task)
                && let Some(unknown) = self.unknown.remove(&task)
            {
                self.end_unknown(task, unknown.agent);
            }
        }
    }

    /// Whether tasks of that name run that are none of the cluster's, if there is such a cluster.
    pub(super) fn has_unknown(&self, name: &ClusterName) -> bool {
        self.unknown.keys().any(|task| task.parse().is_ok_and(|(of, ..)| of == *name))
    }

    fn fate(&self, now: Millis, task: &TaskId) -> Fate {
        let Ok((name, member, run)) = task.parse() else { return Fate::Stays(WhyUnknown::Foreign) };
        let left = self.left(now, &name, member);
        let cluster = self.slots.get(&name).map(|slot| &slot.cluster);
        let Some(cluster) = cluster.filter(|cluster| member >= cluster.state().first_member) else {
            return if left == Left::Deleted { Fate::Ends } else { Fate::Stays(left.why_unknown()) };
        };
        let durable = cluster.persisted() == cluster.revision();
        if cluster.state().deleting && durable {
            return Fate::Ends;
        }
        let known = cluster.state().members.get(&member);
        match left {
            Left::Deleted | Left::GivenUp => Fate::Ends,
            // Its volume is kept, and needs no task.
            Left::Kept if cluster.can_spare_data(now) => Fate::Ends,
            Left::Member if known.is_some_and(|known| run > known.run) => Fate::Stays(WhyUnknown::Newer),
            // It is the member's own: taken up when the master says, asked, that it runs, see `Fleet::on_status`.
            Left::Member if known.is_some_and(|known| known.resting && run == known.run) => {
                Fate::Stays(WhyUnknown::GivenUp)
            }
            // An earlier run of a member whose data is on a volume: that stays.
            Left::Member if durable => Fate::Ends,
            Left::Kept
            | Left::Member
            | Left::Awaited
            | Left::NotSaved
            | Left::Newer
            | Left::NoRecord
            | Left::Damaged => Fate::Stays(left.why_unknown()),
        }
    }

    fn end_unknown(&mut self, task: TaskId, agent: AgentId) {
        // Ours, but nobody wants it: it need not wait for a successor.
        let data = protocol::encode(&protocol::ToExecutor::LetGo).into();
        let message = MesosCall::Message { task: task.clone(), agent: agent.clone(), data };
        self.calls.extend([message, MesosCall::Kill { task, agent }].map(Effect::Mesos));
    }

    /// A cluster whose record is older than its tasks must know that.
    fn tell_outdated(&mut self, now: Millis, task: &TaskId) {
        let Ok((name, ..)) = task.parse() else { return };
        let newer = |(other, unknown): (&TaskId, &Unknown)| {
            unknown.why == WhyUnknown::Newer && other.parse().is_ok_and(|(of, ..)| of == name)
        };
        let unknown = self.unknown.iter().any(newer);
        self.tell(now, &name, cluster::Input::Outdated { unknown });
    }
}

/// Agents of tasks that are not known.
pub(super) fn agents<'a>(tasks: impl Iterator<Item = &'a Unknown>) -> BTreeSet<&'a AgentId> {
    tasks.map(|unknown| &unknown.agent).collect()
}
