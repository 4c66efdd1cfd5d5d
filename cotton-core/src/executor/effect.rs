//! What an executor wants done.

use super::input::CallId;
use super::state::Rank;
use crate::ports::mesos::TaskState;
use crate::ports::mysql::{Following, Promotion};
use crate::protocol::Report;
use crate::{Endpoint, Epoch, TaskId};

/// What is done with the server, one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Make the data directory.
    Provision,
    /// Start the server. From its success on, watch for the end of the process and say
    /// [`Input::Exited`](super::Input::Exited) with this number.
    Start {
        /// Number of this start.
        boot: u64,
        /// Whether another primary has taken its place: see [`MySql::start_replaced`](crate::ports::mysql::MySql).
        replaced: bool,
    },
    /// Stop receiving, and tell the position.
    Freeze {
        /// The rank that is obeyed.
        rank: Rank,
    },
    /// Become read-only without losing anything, and tell the last position.
    StepDown {
        /// The rank that is obeyed.
        rank: Rank,
        /// How long running transactions may take to end.
        grace_ms: u64,
    },
    /// Apply what was received, as far as that goes within the time.
    Drain {
        /// The epoch that it is to be primary of.
        epoch: Epoch,
        /// How long the call may take.
        budget_ms: u64,
    },
    /// Open for writes.
    Promote {
        /// The epoch that it is primary of.
        epoch: Epoch,
        /// How.
        promotion: Promotion,
    },
    /// Replicate.
    Follow {
        /// The epoch whose primary it is.
        epoch: Epoch,
        /// From whom and how.
        following: Following,
    },
    /// Replace the data by a donor's; counts as a start, as [`Operation::Start`] does.
    CopyFrom {
        /// The epoch in which this was found necessary.
        epoch: Epoch,
        /// Whom to copy from.
        donor: Endpoint,
        /// Number of the start that it ends with.
        boot: u64,
    },
    /// End the process cleanly.
    Stop {
        /// How long that may take.
        grace_ms: u64,
    },
}

impl Operation {
    /// A short name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Start { .. } => "start",
            Self::Freeze { .. } => "freeze",
            Self::StepDown { .. } => "step_down",
            Self::Drain { .. } => "drain",
            Self::Promote { .. } => "promote",
            Self::Follow { .. } => "follow",
            Self::CopyFrom { .. } => "copy",
            Self::Stop { .. } => "stop",
        }
    }

    /// The epoch that this obeys, if it obeys one.
    pub const fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Provision | Self::Start { .. } | Self::Stop { .. } => None,
            Self::Freeze { rank } | Self::StepDown { rank, .. } => Some(rank.epoch),
            Self::Drain { epoch, .. }
            | Self::Promote { epoch, .. }
            | Self::Follow { epoch, .. }
            | Self::CopyFrom { epoch, .. } => Some(*epoch),
        }
    }
}

/// Why an executor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Its task was killed.
    Killed,
    /// The agent told it to.
    Shutdown,
    /// Its task failed, for this reason.
    Failed(String),
}

/// A wish for the driver: plain data, harmless when repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the state of the task.
    Update {
        /// Which.
        task: TaskId,
        /// What it is now.
        state: TaskState,
        /// Why, for people.
        message: String,
    },
    /// Tell the scheduler what the member is and has.
    Report(Box<Report>),
    /// Do something with the server; answered by [`Input::Finished`](super::Input::Finished).
    Operate {
        /// To be given back with the answer.
        id: CallId,
        /// What to do.
        operation: Operation,
    },
    /// Look at the server, also beside an operation; answered by [`Input::Probed`](super::Input::Probed).
    Probe {
        /// To be given back with the answer.
        id: CallId,
    },
    /// Kill the server process, also beside an operation; answered by [`Input::Killed`](super::Input::Killed).
    Kill {
        /// To be given back with the answer.
        id: CallId,
        /// Why, for people.
        reason: String,
    },
    /// Tell a person.
    Warn(String),
    /// End the executor. Nothing comes after it.
    Exit(ExitReason),
}

impl Effect {
    /// A short name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Update { .. } => "update",
            Self::Report(_) => "report",
            Self::Operate { operation, .. } => operation.name(),
            Self::Probe { .. } => "probe",
            Self::Kill { .. } => "kill",
            Self::Warn(_) => "warn",
            Self::Exit(_) => "exit",
        }
    }
}
