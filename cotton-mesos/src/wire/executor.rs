//! The executor API: calls posted to `/api/v1/executor` of an agent, and the events that it streams back.

use super::common::{Base64, Id, KillPolicy, TaskInfo, TaskStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where calls are posted.
pub const PATH: &str = "/api/v1/executor";

/// What an executor says, with who it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Which executor.
    pub executor_id: Id,
    /// Of which framework.
    pub framework_id: Id,
    /// What it says.
    #[serde(flatten)]
    pub body: CallBody,
}

/// What an executor says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CallBody {
    /// Asks for events; the response does not end.
    Subscribe {
        /// What the agent may not know.
        #[serde(default)]
        subscribe: Subscribe,
    },
    /// Tells the state of a task.
    Update {
        /// The state.
        update: Update,
    },
    /// Says something to the scheduler.
    Message {
        /// What.
        message: Message,
    },
    /// Keeps a connection open.
    Heartbeat,
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// What an agent may not know when an executor subscribes (again).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Tasks of which no state was acknowledged yet.
    #[serde(default)]
    pub unacknowledged_tasks: Vec<TaskInfo>,
    /// States that were not acknowledged yet, oldest first.
    #[serde(default)]
    pub unacknowledged_updates: Vec<Update>,
}

/// State of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The state, with a uuid.
    pub status: TaskStatus,
}

/// Arbitrary data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The data.
    pub data: Base64,
}

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// The first event of a subscription.
    Subscribed {
        /// Who is connected with whom.
        subscribed: Subscribed,
    },
    /// A task to run.
    Launch {
        /// The task.
        launch: Launch,
    },
    /// Several tasks to run.
    LaunchGroup {
        /// The tasks.
        launch_group: LaunchGroup,
    },
    /// A task to end.
    Kill {
        /// Which, and how.
        kill: Kill,
    },
    /// The scheduler has acknowledged a state.
    Acknowledged {
        /// Which.
        acknowledged: Acknowledged,
    },
    /// The scheduler says something.
    Message {
        /// What.
        message: Message,
    },
    /// The executor shall end.
    Shutdown,
    /// The executor did something wrong.
    Error {
        /// What.
        error: ErrorText,
    },
    /// The connection is alive.
    Heartbeat,
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// Who is connected with whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The executor, as it was launched.
    #[serde(default)]
    pub executor_info: Value,
    /// Its framework.
    #[serde(default)]
    pub framework_info: Value,
    /// Its agent.
    #[serde(default)]
    pub agent_info: Value,
    /// Its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<Id>,
}

/// A task to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The task.
    pub task: TaskInfo,
}

/// Several tasks to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchGroup {
    /// The group.
    pub task_group: TaskGroup,
}

/// Several tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskGroup {
    /// The tasks.
    pub tasks: Vec<TaskInfo>,
}

/// A task to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Which.
    pub task_id: Id,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

/// A state that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Of which task.
    pub task_id: Id,
    /// The uuid of the update.
    pub uuid: Base64,
}

/// What an executor did wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorText {
    /// In words.
    pub message: String,
}
