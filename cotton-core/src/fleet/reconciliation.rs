//! Asking Mesos what became of our tasks: of each after every subscription until it has answered, of each that was
//! launched and is not heard of, of all every hour.

use crate::ports::mesos::MesosCall;
use crate::{AgentId, Millis, TaskId};
use std::collections::BTreeMap;

const FIRST_RETRY_MS: u64 = 2_000;
const RETRY_MS_MAX: u64 = 30_000;
const IMPLICIT_EVERY_MS: u64 = 3_600_000;
/// After how long a launch that nobody speaks of is asked after: it may never have arrived.
const LAUNCH_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Reconciliation {
    unanswered: BTreeMap<TaskId, AgentId>,
    explicit_due: Option<Millis>,
    retry_ms: u64,
    implicit_due: Option<Millis>,
    /// Launched, and when to ask after them; those that are due become unanswered.
    launched: BTreeMap<TaskId, (Millis, AgentId)>,
}

impl Reconciliation {
    pub(super) fn begin(&mut self, now: Millis, tasks: Vec<(TaskId, AgentId)>) {
        self.unanswered = tasks.into_iter().collect();
        self.launched.clear();
        self.explicit_due = (!self.unanswered.is_empty()).then_some(now);
        self.retry_ms = FIRST_RETRY_MS;
        self.implicit_due = Some(now); // also finds tasks that we do not know
    }

    /// These were launched; news of them is expected.
    pub(super) fn expect(&mut self, now: Millis, tasks: impl Iterator<Item = (TaskId, AgentId)>) {
        self.launched.extend(tasks.map(|(task, agent)| (task, (now.after(LAUNCH_MS), agent))));
    }

    /// There is news of a task, or nobody wants to know any more.
    pub(super) fn answered(&mut self, task: &TaskId) {
        self.launched.remove(task);
        self.unanswered.remove(task);
        if self.unanswered.is_empty() {
            self.explicit_due = None;
        }
    }

    pub(super) fn next(&self) -> Option<Millis> {
        let launched = self.launched.values().map(|(due, _)| *due).min();
        crate::time::earliest(crate::time::earliest(self.explicit_due, self.implicit_due), launched)
    }

    pub(super) fn due(&mut self, now: Millis) -> Option<MesosCall> {
        let overdue: Vec<TaskId> =
            self.launched.iter().filter(|(_, (due, _))| *due <= now).map(|(task, _)| task.clone()).collect();
        if !overdue.is_empty() {
            let launched = &mut self.launched;
            self.unanswered
                .extend(overdue.into_iter().filter_map(|task| launched.remove(&task).map(|(_, agent)| (task, agent))));
            self.explicit_due = Some(now);
            self.retry_ms = FIRST_RETRY_MS;
        }
        if self.explicit_due.is_some_and(|at| at <= now) {
            self.explicit_due = Some(now.after(self.retry_ms));
            self.retry_ms = (self.retry_ms * 2).min(RETRY_MS_MAX);
            return Some(MesosCall::Reconcile(self.unanswered.clone().into_iter().collect()));
        }
        if self.implicit_due.is_some_and(|at| at <= now) {
            self.implicit_due = Some(now.after(IMPLICIT_EVERY_MS));
            return Some(MesosCall::Reconcile(Vec::new()));
        }
        None
    }
}
