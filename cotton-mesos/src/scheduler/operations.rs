//! Operations that were asked for, by their ids, and what news of them means to the port.
//!
//! An id says what it is about: `<step>.<volume>.<process>.<number>`. So the news of operations that an earlier process has
//! asked for are understood, too. They are repeated until acknowledged, also long after others have been told; processes are
//! numbered by the time at which they began, so that what is older than what is known already can be told from it.

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
    /// Another number in each process, so that no id is used twice; larger in later ones.
    process: u64,
    last: u64,
    /// Not answered yet.
    pending: BTreeMap<Id, Pending>,
    /// Process and number of the latest operation on each volume of which something is known.
    latest: BTreeMap<VolumeId, (u64, u64)>,
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
        self.latest.insert(volume.clone(), (self.process, self.last));
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
        let (step, volume, process, number) = parse(id)?;
        let is_ours = process == self.process;
        let is_old = self.latest.get(&volume).is_some_and(|latest| (process, number) <= *latest);
        let known = if is_ours { !self.pending.contains_key(id) } else { is_old };
        if known {
            return None;
        }
        let event = self.meaning(id, step, volume.clone(), status);
        if event.is_some() && !is_ours {
            self.latest.insert(volume, (process, number));
        }
        event
    }

    fn meaning(&mut self, id: &Id, step: Step, volume: VolumeId, status: &OperationStatus) -> Option<MesosEvent> {
        let is_release = matches!(step, Step::Destroy | Step::DestroyLast | Step::Unreserve);
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

fn parse(id: &Id) -> Option<(Step, VolumeId, u64, u64)> {
    let mut parts = id.value.split('.');
    let (word, volume, process, number) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let step = STEPS.iter().find(|(_, known)| *known == word)?.0;
    Some((step, VolumeId::from(volume), u64::from_str_radix(process, 16).ok()?, number.parse().ok()?))
}

fn question(id: &Id, agent: &AgentId) -> ReconcileOperation {
    ReconcileOperation { operation_id: id.clone(), agent_id: Id::new(agent.as_str()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> VolumeId {
        VolumeId::from("mysos-a_b-c-3")
    }

    fn agent() -> AgentId {
        AgentId::from("S0")
    }

    fn status(id: &Id, state: OperationState) -> OperationStatus {
        OperationStatus {
            operation_id: Some(id.clone()),
            state,
            message: None,
            agent_id: None,
            resource_provider_id: None,
            uuid: None,
        }
    }

    fn outcome(event: Option<MesosEvent>) -> Option<VolumeOutcome> {
        let MesosEvent::Volume { volume: found, outcome } = event? else { panic!("not of a volume") };
        assert_eq!(found, volume());
        Some(outcome)
    }

    #[test]
    fn the_last_step_says_that_all_is_done() {
        for (steps, done) in [
            (&[Step::Reserve, Step::Create][..], VolumeOutcome::Made),
            (&[Step::Create], VolumeOutcome::Made),
            (&[Step::Destroy, Step::Unreserve], VolumeOutcome::Released),
            (&[Step::DestroyLast], VolumeOutcome::Released),
            (&[Step::Unreserve], VolumeOutcome::Released),
        ] {
            let mut operations = Operations::new(7);
            let ids: Vec<Id> = steps.iter().map(|step| operations.ask(*step, &volume(), &agent())).collect();
            assert_eq!(operations.unanswered().len(), ids.len());
            let finished = |id: &Id| status(id, OperationState::OperationFinished);
            let mut later = Operations::new(8);
            let mut told: Vec<_> = ids.iter().map(|id| outcome(operations.on_status(&finished(id)))).collect();
            assert_eq!(told.pop(), Some(Some(done.clone())));
            assert!(told.iter().all(Option::is_none));
            assert!(operations.unanswered().is_empty());
            let last = ids.last().expect("a step");
            assert_eq!(operations.on_status(&finished(last)), None, "told once");
            assert_eq!(outcome(later.on_status(&finished(last))), Some(done), "an earlier process asked");
        }
        assert_eq!(Operations::default().on_status(&status(&Id::new("x"), OperationState::OperationFailed)), None);
    }

    #[test]
    fn what_is_older_than_what_is_known_is_not_told() {
        let mut first = Operations::new(1);
        let (create, unreserve) =
            (first.ask(Step::Create, &volume(), &agent()), first.ask(Step::Unreserve, &volume(), &agent()));
        let finished = |id: &Id| status(id, OperationState::OperationFinished);
        let mut later = Operations::new(2);
        assert_eq!(outcome(later.on_status(&finished(&create))), Some(VolumeOutcome::Made));
        assert_eq!(later.on_status(&finished(&create)), None, "repeated, as it was not acknowledged");
        assert_eq!(outcome(later.on_status(&finished(&unreserve))), Some(VolumeOutcome::Released));
        let mut even_later = Operations::new(3);
        assert_eq!(outcome(even_later.on_status(&finished(&unreserve))), Some(VolumeOutcome::Released));
        assert_eq!(even_later.on_status(&finished(&create)), None, "it is not there any more");
        let mut busy = Operations::new(4);
        let own = busy.ask(Step::Create, &volume(), &agent());
        assert_eq!(busy.on_status(&finished(&unreserve)), None, "that was the one before");
        assert_eq!(outcome(busy.on_status(&finished(&own))), Some(VolumeOutcome::Made));
    }

    #[test]
    fn a_failure_is_told_once_with_its_reason() {
        let mut operations = Operations::default();
        let reserve = operations.ask(Step::Reserve, &volume(), &agent());
        let create = operations.ask(Step::Create, &volume(), &agent());
        let failure = OperationStatus {
            message: Some("not authorized".into()),
            ..status(&reserve, OperationState::OperationError)
        };
        let reason = "reserve: not authorized".to_owned();
        assert_eq!(outcome(operations.on_status(&failure)), Some(VolumeOutcome::Failed { reason }));
        assert_eq!(operations.on_status(&status(&create, OperationState::OperationError)), None);

        let destroy = operations.ask(Step::Destroy, &volume(), &agent());
        let gone = operations.on_status(&status(&destroy, OperationState::OperationGoneByOperator));
        assert_eq!(outcome(gone), Some(VolumeOutcome::Released), "nothing is left, as was asked for");

        let create = operations.ask(Step::Create, &volume(), &agent());
        let refused = Operation::Create {
            id: create,
            create: crate::wire::scheduler::operation::Volumes { volumes: Vec::new() },
        };
        let told = operations.on_refused(std::slice::from_ref(&refused), "why");
        assert_eq!(told, [failed(volume(), "why")]);
        assert!(operations.on_refused(&[refused], "why").is_empty());
    }

    #[test]
    fn what_is_cut_off_is_asked_for_again() {
        let mut operations = Operations::default();
        let id = operations.ask(Step::Create, &volume(), &agent());
        let here = Id::new("S0");
        assert!(operations.on_agents([&here].into_iter()).is_empty(), "it may just take a while");
        for state in [OperationState::OperationUnreachable, OperationState::OperationRecovering] {
            assert_eq!(operations.on_status(&status(&id, state)), None);
            assert!(operations.on_agents([&Id::new("S1")].into_iter()).is_empty());
            assert_eq!(operations.on_agents([&here].into_iter()), [question(&id, &agent())]);
            assert!(operations.on_agents([&here].into_iter()).is_empty(), "once");
        }
        let unknown = outcome(operations.on_status(&status(&id, OperationState::OperationUnknown)));
        assert!(matches!(unknown, Some(VolumeOutcome::Failed { reason }) if reason.contains("nobody knows")));
    }
}
