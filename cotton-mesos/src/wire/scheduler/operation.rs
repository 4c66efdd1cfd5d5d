//! What can be done with offers, and news of it.

use super::task::NewTask;
use crate::wire::common::{Base64, Id};
use crate::wire::resource::Resource;
use serde::{Deserialize, Serialize};

/// What to do with offers. Masters obey one after the other, each with what is left by those before.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    /// Start tasks.
    Launch {
        /// Which.
        launch: Launch,
    },
    /// Reserve resources.
    Reserve {
        /// Names it in news.
        id: Id,
        /// Which, with the new reservation as the last one.
        reserve: Resources,
    },
    /// End reservations.
    Unreserve {
        /// Names it in news.
        id: Id,
        /// Of which; of each the last reservation ends.
        unreserve: Resources,
    },
    /// Make persistent volumes.
    Create {
        /// Names it in news.
        id: Id,
        /// Which.
        create: Volumes,
    },
    /// Destroy persistent volumes, with what is on them.
    Destroy {
        /// Names it in news.
        id: Id,
        /// Which.
        destroy: Volumes,
    },
}

impl Operation {
    /// What names it in news.
    pub const fn id(&self) -> Option<&Id> {
        match self {
            Self::Launch { .. } => None,
            Self::Reserve { id, .. }
            | Self::Unreserve { id, .. }
            | Self::Create { id, .. }
            | Self::Destroy { id, .. } => Some(id),
        }
    }
}

/// Tasks to start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Launch {
    /// The tasks.
    pub task_infos: Vec<NewTask>,
}

/// Resources that are reserved, or not any more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resources {
    /// The resources.
    pub resources: Vec<Resource>,
}

/// Volumes to make or destroy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Volumes {
    /// The disks that they are.
    pub volumes: Vec<Resource>,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are those of Mesos, which documents them")]
pub enum OperationState {
    OperationPending,
    OperationFinished,
    OperationFailed,
    OperationError,
    OperationDropped,
    OperationUnreachable,
    OperationGoneByOperator,
    OperationRecovering,
    /// Also what an unknown name is read as.
    #[serde(other)]
    OperationUnknown,
}

/// News of an operation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct OperationStatus {
    /// Which; absent when it was given no id.
    #[serde(default)]
    pub operation_id: Option<Id>,
    /// How far it is.
    pub state: OperationState,
    /// Why, for people.
    #[serde(default)]
    pub message: Option<String>,
    /// On which agent.
    #[serde(default)]
    pub agent_id: Option<Id>,
    /// Of which resource provider; of the agent itself, when absent.
    #[serde(default)]
    pub resource_provider_id: Option<Id>,
    /// Present when the news has to be acknowledged.
    #[serde(default)]
    pub uuid: Option<Uuid>,
}

/// A uuid: `{"value": "<base64>"}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Uuid {
    /// Its bytes.
    pub value: Base64,
}
