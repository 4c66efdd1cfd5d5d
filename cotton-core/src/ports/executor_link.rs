//! The executor's side of Mesos: a task to run comes in, its states and messages go out.

use crate::ports::mesos::TaskState;
use crate::{PortError, TaskId};
use async_trait::async_trait;
use bytes::Bytes;

/// What the agent tells an executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected to the agent; repeated after every reconnection.
    Connected,
    /// Connection lost; the link connects again by itself.
    Disconnected,
    /// A task to run. Repeated when the agent does not know whether it arrived.
    Launch {
        /// Its id.
        task: TaskId,
        /// What the scheduler said about it.
        data: Bytes,
    },
    /// The task shall end, cleanly within the grace period.
    Kill {
        /// Its id.
        task: TaskId,
        /// How long it may take, in milliseconds.
        grace_ms: u64,
    },
    /// The scheduler says something.
    Message(Bytes),
    /// A state that was sent has been acknowledged.
    Acknowledged(TaskState),
    /// The executor shall end, cleanly within the grace period.
    Shutdown {
        /// How long it may take, in milliseconds.
        grace_ms: u64,
    },
}

/// A connection to the agent as an executor.
#[async_trait]
pub trait ExecutorLink: Send + Sync {
    /// The next event; waits for it. Cancelling this call loses nothing.
    ///
    /// # Errors
    /// When the link is closed: the agent refused us, or stayed away longer than the recovery timeout. No further event comes
    /// then, unless the link is opened again.
    async fn next_event(&self) -> Result<LinkEvent, PortError>;

    /// Tells the state of the task. The link repeats it until acknowledged, also over reconnections, in order.
    ///
    /// # Errors
    /// When it was not taken because the link is closed.
    async fn update(&self, task: &TaskId, state: TaskState, message: &str) -> Result<(), PortError>;

    /// Says something to the scheduler. May get lost; while disconnected it is dropped.
    ///
    /// # Errors
    /// When it certainly did not leave.
    async fn send(&self, data: Bytes) -> Result<(), PortError>;

    /// Has a closed link try again: the agent may be back. Does nothing to one that is open, or that cannot be opened again.
    fn reopen(&self) {}
}
