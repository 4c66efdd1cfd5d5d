//! Asking Mesos what became of our tasks: of each after every subscription until it has answered, of all every hour.

use crate::ports::mesos::MesosCall;
use crate::{AgentId, Millis, TaskId};
use std::collections::BTreeMap;

const FIRST_RETRY_MS: u64 = 2_000;
const RETRY_MS_MAX: u64 = 30_000;
const IMPLICIT_EVERY_MS: u64 = 3_600_000;

#[derive(Debug, Default)]
pub(super) struct Reconciliation {
    unanswered: BTreeMap<TaskId, AgentId>,
    explicit_due: Option<Millis>,
    retry_ms: u64,
    implicit_due: Option<Millis>,
}

impl Reconciliation {
    pub(super) fn begin(&mut self, now: Millis, tasks: Vec<(TaskId, AgentId)>) {
        self.unanswered = tasks.into_iter().collect();
        self.explicit_due = (!self.unanswered.is_empty()).then_some(now);
        self.retry_ms = FIRST_RETRY_MS;
        self.implicit_due = Some(now); // also finds tasks that we do not know
    }

    pub(super) fn answered(&mut self, task: &TaskId) {
        self.unanswered.remove(task);
        if self.unanswered.is_empty() {
            self.explicit_due = None;
        }
    }

    pub(super) fn next(&self) -> Option<Millis> {
        crate::time::earliest(self.explicit_due, self.implicit_due)
    }

    pub(super) fn due(&mut self, now: Millis) -> Option<MesosCall> {
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
