//! What an executor gets to know.

use crate::ports::mesos::TaskState;
use crate::ports::mysql::{Drained, Exit, Followed, Frozen, Promoted, ServerStatus, Started};
use crate::protocol::ToExecutor;
use crate::{ErrorKind, PortError, TaskId};

/// Names one call of the machine to its server, so that an answer finds its question. Never used twice in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A failure at a port, as far as it changes what is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its cause.
    pub kind: ErrorKind,
    /// Whether the same call would fail again.
    pub permanent: bool,
    /// For people.
    pub detail: String,
}

impl From<&PortError> for Failure {
    fn from(error: &PortError) -> Self {
        Self { kind: error.kind, permanent: !error.is_temporary(), detail: error.chain() }
    }
}

/// What became of an [`Operation`](super::Operation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of provisioning, copying, stopping: done.
    Done,
    /// Of starting.
    Started(Started),
    /// Of freezing and of stepping down: what replication cannot move any more.
    Frozen(Frozen),
    /// Of draining.
    Drained(Drained),
    /// Of promoting.
    Promoted(Promoted),
    /// Of following.
    Followed(Followed),
    /// Of any operation: it failed.
    Failed(Failure),
}

/// A fact from outside. Stale, duplicate or unknown facts are ignored; they are never errors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "most inputs are probes")]
pub enum Input {
    /// The link to the agent is up.
    Connected,
    /// The link to the agent is down; nothing that is said now would arrive.
    Disconnected,
    /// The agent has been away for longer than it allows, or does not know this executor.
    AgentGone {
        /// Within which time to end, if that is to be the end.
        grace_ms: u64,
    },
    /// A task to run, understood, and with a server made for it.
    Launch {
        /// Its id.
        task: TaskId,
    },
    /// A task to run that makes no sense.
    Refused {
        /// Its id.
        task: TaskId,
        /// Why it cannot be run.
        reason: String,
    },
    /// The task shall end.
    Kill {
        /// Its id.
        task: TaskId,
        /// How long a clean end may take.
        grace_ms: u64,
    },
    /// The executor shall end.
    Shutdown {
        /// How long a clean end may take.
        grace_ms: u64,
    },
    /// A task state arrived.
    Acknowledged(TaskState),
    /// The scheduler says something.
    Message(ToExecutor),
    /// Answers [`Effect::Operate`](super::Effect::Operate).
    Finished {
        /// Which call.
        id: CallId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Answers [`Effect::Probe`](super::Effect::Probe).
    Probed {
        /// Which call.
        id: CallId,
        /// What was seen.
        result: Result<ServerStatus, Failure>,
    },
    /// Answers [`Effect::Kill`](super::Effect::Kill): the process is gone.
    Killed {
        /// Which call.
        id: CallId,
    },
    /// The server process ended.
    Exited {
        /// Which start of it, see [`Operation::Start`](super::Operation::Start).
        boot: u64,
        /// How.
        exit: Exit,
    },
    /// The checkpoint could not be made durable; the driver tries again.
    PersistFailed(Failure),
}
