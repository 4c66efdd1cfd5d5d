//! The scheduler's side of Mesos: offers and task states come in, launches and kills go out.

use crate::{AgentId, Endpoint, FrameworkId, OfferId, PortError, Ports, Resources, TaskId, VolumeId};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Resources of one agent, offered until accepted, declined or rescinded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Names it in answers.
    pub id: OfferId,
    /// Where the resources are.
    pub agent: AgentId,
    /// Host name under which the agent's tasks are reached.
    pub host: String,
    /// How much.
    pub resources: Resources,
    /// Which TCP ports.
    pub ports: Ports,
    /// What the agent says of itself, such as its rack.
    pub attributes: BTreeMap<String, String>,
    /// What is reserved on this agent for volumes of ours that no task uses; not part of `resources` and `ports`.
    pub held: Vec<Held>,
    /// In how many milliseconds the agent is to be taken down for maintenance; 0 when that time has come.
    pub maintenance_in_ms: Option<u64>,
}

/// What is reserved on an agent for one volume of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which volume.
    pub volume: VolumeId,
    /// Whether it is there, with its data. Otherwise it was never made, or is destroyed already.
    pub exists: bool,
    /// How much is reserved for the task that uses it, the volume itself included.
    pub resources: Resources,
    /// Which TCP ports.
    pub ports: Ports,
}

/// Where a task keeps its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In its sandbox: gone some time after the task.
    #[default]
    Sandbox,
    /// On a volume that is made for it, together with the reservation of all its resources.
    NewVolume(VolumeId),
    /// On a volume that the offer holds.
    Volume(VolumeId),
}

/// A task to start with part of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its id, never used before.
    pub task: TaskId,
    /// Where it shall listen.
    pub endpoint: Endpoint,
    /// For the task itself.
    pub task_resources: Resources,
    /// For its executor.
    pub executor_resources: Resources,
    /// Where its data is.
    pub storage: Storage,
    /// Handed to the executor.
    pub data: Bytes,
}

/// State of a task, as far as it changes what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskState {
    /// Accepted, not yet running.
    Staging,
    /// Its executor works on it.
    Starting,
    /// Running.
    Running,
    /// A kill was received and is being obeyed.
    Killing,
    /// Its agent cannot be reached; it may still run.
    Unreachable,
    /// The master knows neither the task nor its agent. It may have been started without what it knew before, and hear of
    /// them later.
    Unknown,
    /// Ended by itself without an error.
    Finished,
    /// Ended by a kill.
    Killed,
    /// Ended with an error.
    Failed,
    /// Never started: the launch was refused or got lost.
    Dropped,
    /// Ended without news of how, or never known to its agent. A volume that it used may still be there.
    Lost,
    /// Gone for good, together with its agent and everything on that.
    Gone,
}

impl TaskState {
    /// Whether the task will never run again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Killed | Self::Failed | Self::Dropped | Self::Lost | Self::Gone)
    }
}

/// News of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// Which task.
    pub task: TaskId,
    /// Where it is or was.
    pub agent: Option<AgentId>,
    /// What it is now.
    pub state: TaskState,
    /// Why, for people.
    pub message: String,
    /// Present when the sender repeats the news until it is acknowledged.
    pub uuid: Option<Bytes>,
}

/// What became of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeOutcome {
    /// It was made.
    Made,
    /// It was destroyed, and nothing is reserved for it any more.
    Released,
    /// Making or releasing it failed, maybe half way. What is left of it is offered again.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// What Mesos tells a scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MesosEvent {
    /// Connected, under this id.
    Subscribed(FrameworkId),
    /// Connection lost; the port connects again by itself and then says `Subscribed`. Offers are void.
    Disconnected,
    /// Resources to be used or declined.
    Offers(Vec<Offer>),
    /// An offer is void.
    Rescinded(OfferId),
    /// News of a task.
    Status(TaskStatus),
    /// An executor says something.
    Message {
        /// Which task's executor.
        task: TaskId,
        /// What.
        data: Bytes,
    },
    /// An agent is gone; the states of its tasks follow by themselves.
    AgentLost(AgentId),
    /// News of a volume that was asked to be made or released.
    Volume {
        /// Which.
        volume: VolumeId,
        /// What became of it.
        outcome: VolumeOutcome,
    },
    /// An agent is to be taken down for maintenance: to be answered by [`MesosCall::AnswerMaintenance`], once it can be
    /// done without, or cannot. Told again some time after a refusal.
    Maintenance {
        /// Names it in answers.
        id: OfferId,
        /// Which agent.
        agent: AgentId,
        /// In how many milliseconds; 0 when that time has come.
        starts_in_ms: u64,
    },
    /// That maintenance needs no answer any more.
    MaintenanceRescinded(OfferId),
}

/// What a scheduler tells Mesos. Calls are not answered; events tell what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MesosCall {
    /// Uses an offer; the rest of it is declined.
    Accept {
        /// The offer to use.
        offer: OfferId,
        /// Its agent.
        agent: AgentId,
        /// What to start.
        launches: Vec<Launch>,
        /// What is held for these volumes is given up: they are destroyed, with all data, and their reservations end.
        releases: Vec<VolumeId>,
    },
    /// Says whether an agent can be taken down.
    AnswerMaintenance {
        /// Which maintenance.
        id: OfferId,
        /// Whether it can.
        ready: bool,
    },
    /// Gives offers back.
    Decline {
        /// Which.
        offers: Vec<OfferId>,
        /// For how long the same resources need not be offered again, in milliseconds.
        filter_ms: u64,
    },
    /// Ends a task.
    Kill {
        /// Which.
        task: TaskId,
        /// Where it is.
        agent: AgentId,
    },
    /// Confirms news that carried a uuid.
    Acknowledge {
        /// Which task.
        task: TaskId,
        /// Where it is.
        agent: AgentId,
        /// Of the news.
        uuid: Bytes,
    },
    /// Says something to an executor. May get lost.
    Message {
        /// Which task's executor.
        task: TaskId,
        /// Where it is.
        agent: AgentId,
        /// What.
        data: Bytes,
    },
    /// Asks for the states of these tasks; of all, when empty.
    Reconcile(Vec<(TaskId, AgentId)>),
    /// Stop offering.
    Suppress,
    /// Offer again, and forget the filters.
    Revive,
}

impl MesosCall {
    /// A short name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept { .. } => "accept",
            Self::AnswerMaintenance { .. } => "answer_maintenance",
            Self::Decline { .. } => "decline",
            Self::Kill { .. } => "kill",
            Self::Acknowledge { .. } => "acknowledge",
            Self::Message { .. } => "message",
            Self::Reconcile(_) => "reconcile",
            Self::Suppress => "suppress",
            Self::Revive => "revive",
        }
    }
}

/// A connection to Mesos as a scheduler.
#[async_trait]
pub trait Mesos: Send + Sync {
    /// Connects, with the id of an earlier connection when there was one. Events start with
    /// [`MesosEvent::Subscribed`].
    ///
    /// # Errors
    /// When the connection is refused for a reason that will not go away by itself.
    async fn subscribe(&self, framework: Option<FrameworkId>) -> Result<(), PortError>;

    /// The next event; waits for it. Cancelling this call loses nothing.
    ///
    /// # Errors
    /// When no further event can come, for a reason that a person must mend.
    async fn next_event(&self) -> Result<MesosEvent, PortError>;

    /// Hands over a call. Repeating one is harmless, but for an accept: its offer is used up, and what it asks to launch
    /// a second time is reported as dropped or failed.
    ///
    /// # Errors
    /// When it certainly was not taken; a success does not say that it arrives.
    async fn call(&self, call: MesosCall) -> Result<(), PortError>;
}
