//! Operations that were asked for, by their ids, and what news of them means to the port.
//!
//! An id says what it is about: `<step>.<volume>.<process>.<number>`. So the news of operations that an earlier process has
//! asked for are understood, too.

use crate::wire::common::Id;
use crate::wire::scheduler::call::{AcknowledgeOperation, ReconcileOperation};
use crate::wire::scheduler::operation::{Operation, OperationState, OperationStatus};
use cotton_core::ports::mesos::{MesosEvent, VolumeOutcome};
use cotton_core::{AgentId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// A part of making or releasing a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Before `Create`.
    Reserve,
    /// The volume is made with it.
    Create,
    /// Before `Unreserve`.
    Destroy,
    /// Nothing has to be done after it.
    DestroyLast,
    /// Nothing is left after it.
    Unreserve,
}

const STEPS: [(Step, &str); 5] = [
    (Step::Reserve, "reserve"),
    (Step::Create, "create"),
    (Step::Destroy, "destroy"),
    (Step::DestroyLast, "destroy-last"),
    (Step::Unreserve, "unreserve"),
];

/// Operations that were asked for.
#[derive(Debug, Default)]
pub(super) struct Operations {
    /// Another number in each process, so that no id is used twice.
    process: u64,
    last: u64,
    /// Not answered yet.
    pending: BTreeMap<Id, Pending>,
}

#[derive(Debug)]
struct Pending {
    volume: VolumeId,
    agent: AgentId,
    /// Nobody could say what became of it: to be asked again when its agent is there again.
    is_cut_off: bool,
}

impl Operations {
    pub(super) fn new(process: u64) -> Self {
        Self { process, ..Self::default() }
    }

    /// The id for a new operation, which is waited for from now on.
    pub(super) fn ask(&mut self, step: Step, volume: &VolumeId, agent: &AgentId) -> Id {
        self.last += 1;
        let word = STEPS.iter().find(|(known, _)| *known == step).map_or("", |(_, word)| word);
        let id = Id::new(format!("{word}.{volume}.{:x}.{}", self.process, self.last));
        let pending = Pending { volume: volume.clone(), agent: agent.clone(), is_cut_off: false };
        self.pending.insert(id.clone(), pending);
        id
    }

    /// What to tell the port of operations that were never taken.
    pub(super) fn on_refused(&mut self, operations: &[Operation], reason: &str) -> Vec<MesosEvent> {
        let mut volumes = BTreeSet::new();
        for pending in operations.iter().filter_map(|operation| self.pending.remove(operation.id()?)) {
            volumes.insert(pending.volume);
        }
        volumes.into_iter().map(|volume| failed(volume, reason)).collect()
    }

    /// What news of an operation means.
    pub(super) fn on_status(&mut self, status: &OperationStatus) -> Option<MesosEvent> {
        let id = status.operation_id.as_ref()?;
        let (step, volume, process) = parse(id)?;
        let is_release = matches!(step, Step::Destroy | Step::DestroyLast | Step::Unreserve);
        if process == self.process && !self.pending.contains_key(id) {
            return None; // told before
        }
        let reason = match status.state {
            OperationState::OperationPending => return None,
            OperationState::OperationUnreachable | OperationState::OperationRecovering => {
                if let Some(pending) = self.pending.get_mut(id) {
                    pending.is_cut_off = true;
                }
                return None;
            }
            OperationState::OperationFinished => {
                self.pending.remove(id);
                let outcome = match step {
                    Step::Reserve | Step::Destroy => return None,
                    Step::Create => VolumeOutcome::Made,
                    Step::DestroyLast | Step::Unreserve => VolumeOutcome::Released,
                };
                return Some(MesosEvent::Volume { volume, outcome });
            }
            OperationState::OperationGoneByOperator if is_release => {
                self.forget(&volume);
                return Some(MesosEvent::Volume { volume, outcome: VolumeOutcome::Released });
            }
            OperationState::OperationGoneByOperator => "the agent is gone",
            OperationState::OperationFailed => "it failed",
            OperationState::OperationError => "it is not allowed",
            OperationState::OperationDropped => "it did not reach the agent",
            OperationState::OperationUnknown => "nobody knows what became of it",
        };
        // Those after it can only fail, too.
        self.forget(&volume);
        let message = status.message.as_deref().filter(|message| !message.is_empty());
        let word = STEPS.iter().find(|(known, _)| *known == step).map_or("", |(_, word)| word);
        Some(failed(volume, &format!("{word}: {}", message.unwrap_or(reason))))
    }

    /// All that is not answered yet.
    pub(super) fn unanswered(&self) -> Vec<ReconcileOperation> {
        self.pending.iter().map(|(id, pending)| question(id, &pending.agent)).collect()
    }

    /// Agents are there: what is to be asked about them again.
    pub(super) fn on_agents<'a>(&mut self, agents: impl Iterator<Item = &'a Id>) -> Vec<ReconcileOperation> {
        if !self.pending.values().any(|pending| pending.is_cut_off) {
            return Vec::new();
        }
        let agents: BTreeSet<&str> = agents.map(|agent| agent.value.as_str()).collect();
        let mut questions = Vec::new();
        for (id, pending) in &mut self.pending {
            if pending.is_cut_off && agents.contains(pending.agent.as_str()) {
                pending.is_cut_off = false;
                questions.push(question(id, &pending.agent));
            }
        }
        questions
    }

    fn forget(&mut self, volume: &VolumeId) {
        self.pending.retain(|_, pending| pending.volume != *volume);
    }
}

/// What confirms news of an operation; `None` when nobody waits for that.
pub(super) fn acknowledgement(status: OperationStatus) -> Option<AcknowledgeOperation> {
    Some(AcknowledgeOperation {
        uuid: status.uuid?.value,
        operation_id: status.operation_id?,
        agent_id: status.agent_id,
        resource_provider_id: status.resource_provider_id,
    })
}

/// That a volume was not made or released.
pub(super) fn failed(volume: VolumeId, reason: &str) -> MesosEvent {
    MesosEvent::Volume { volume, outcome: VolumeOutcome::Failed { reason: reason.to_owned() } }
}

fn parse(id: &Id) -> Option<(Step, VolumeId, u64)> {
    let mut parts = id.value.split('.');
    let (word, volume, process) = (parts.next()?, parts.next()?, parts.next()?);
    let step = STEPS.iter().find(|(_, known)| *known == word)?.0;
    Some((step, VolumeId::from(volume), u64::from_str_radix(process, 16).ok()?))
}

fn question(id: &Id, agent: &AgentId) -> ReconcileOperation {
    ReconcileOperation { operation_id: id.clone(), agent_id: Id::new(agent.as_str()) }
}
