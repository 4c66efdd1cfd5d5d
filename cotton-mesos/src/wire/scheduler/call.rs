//! What a scheduler says.

use super::operation::Operation;
use crate::wire::common::{Base64, Id};
use serde::{Deserialize, Serialize};

/// What a scheduler says, with who it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    /// Absent only in the first `SUBSCRIBE` of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework_id: Option<Id>,
    /// What it says.
    #[serde(flatten)]
    pub body: CallBody,
}

/// What a scheduler says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CallBody {
    /// Asks for events; the response does not end.
    Subscribe {
        /// Who asks.
        subscribe: Subscribe,
    },
    /// Says anew who the framework is.
    UpdateFramework {
        /// Who.
        update_framework: UpdateFramework,
    },
    /// Removes the framework and ends all of its tasks.
    Teardown,
    /// Uses offers.
    Accept {
        /// Which, and for what.
        accept: Accept,
    },
    /// Gives offers back.
    Decline {
        /// Which.
        decline: Decline,
    },
    /// Says that agents can be taken down.
    AcceptInverseOffers {
        /// Which requests to leave.
        accept_inverse_offers: AnswerInverseOffers,
    },
    /// Says that agents are not left, or not yet.
    DeclineInverseOffers {
        /// Which requests to leave.
        decline_inverse_offers: AnswerInverseOffers,
    },
    /// Asks for offers, and forgets filters. For all roles of the framework.
    Revive,
    /// Asks for no offers any more. For all roles of the framework.
    Suppress,
    /// Ends a task.
    Kill {
        /// Which.
        kill: Kill,
    },
    /// Ends an executor.
    Shutdown {
        /// Which.
        shutdown: Shutdown,
    },
    /// Confirms news of a task.
    Acknowledge {
        /// Which.
        acknowledge: Acknowledge,
    },
    /// Asks for the states of tasks.
    Reconcile {
        /// Of which; of all, when there is none.
        reconcile: Reconcile,
    },
    /// Confirms news of an operation.
    AcknowledgeOperationStatus {
        /// Which.
        acknowledge_operation_status: AcknowledgeOperation,
    },
    /// Asks for the states of operations.
    ReconcileOperations {
        /// Of which; of all, when there is none.
        reconcile_operations: ReconcileOperations,
    },
    /// Says something to an executor.
    Message {
        /// What, to which.
        message: Message,
    },
}

impl CallBody {
    /// A short name for logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Subscribe { .. } => "SUBSCRIBE",
            Self::UpdateFramework { .. } => "UPDATE_FRAMEWORK",
            Self::Teardown => "TEARDOWN",
            Self::Accept { .. } => "ACCEPT",
            Self::Decline { .. } => "DECLINE",
            Self::AcceptInverseOffers { .. } => "ACCEPT_INVERSE_OFFERS",
            Self::DeclineInverseOffers { .. } => "DECLINE_INVERSE_OFFERS",
            Self::Revive => "REVIVE",
            Self::Suppress => "SUPPRESS",
            Self::Kill { .. } => "KILL",
            Self::Shutdown { .. } => "SHUTDOWN",
            Self::Acknowledge { .. } => "ACKNOWLEDGE",
            Self::Reconcile { .. } => "RECONCILE",
            Self::AcknowledgeOperationStatus { .. } => "ACKNOWLEDGE_OPERATION_STATUS",
            Self::ReconcileOperations { .. } => "RECONCILE_OPERATIONS",
            Self::Message { .. } => "MESSAGE",
        }
    }
}

/// Who subscribes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subscribe {
    /// The framework.
    pub framework_info: FrameworkInfo,
}

/// Who a framework is from now on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpdateFramework {
    /// The framework.
    pub framework_info: FrameworkInfo,
}

/// A framework, as masters know it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameworkInfo {
    /// Unix user of its executors.
    pub user: String,
    /// Its name, for people.
    pub name: String,
    /// Its id, the same as that of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// How long it may be away before it is removed, in seconds.
    pub failover_timeout: f64,
    /// Whether executors outlive their agents.
    pub checkpoint: bool,
    /// For whom it wants resources.
    pub roles: Vec<String>,
    /// Where it runs, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Who it claims to be; must be who it authenticates as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Its page, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webui_url: Option<String>,
    /// What it understands.
    pub capabilities: Vec<Capability>,
}

/// Something that a framework understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// What.
    #[serde(rename = "type")]
    pub kind: CapabilityType,
}

/// What a framework may understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CapabilityType {
    /// Several roles, and offers that say for which.
    MultiRole,
    /// Reservations as lists.
    ReservationRefinement,
    /// Tasks that cannot be reached may still run.
    PartitionAware,
}

/// Offers to use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accept {
    /// The offers, all of one agent and role.
    pub offer_ids: Vec<Id>,
    /// What to do with them.
    pub operations: Vec<Operation>,
    /// What about the rest.
    pub filters: Filters,
}

/// What not to offer again for a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Filters {
    /// For how long.
    pub refuse_seconds: f64,
}

/// Offers to give back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decline {
    /// Which.
    pub offer_ids: Vec<Id>,
    /// For how long not to offer them again.
    pub filters: Filters,
}

/// Requests to leave an agent that are answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerInverseOffers {
    /// Which.
    pub inverse_offer_ids: Vec<Id>,
    /// For how long not to ask again.
    pub filters: Filters,
}

/// A task to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kill {
    /// Which.
    pub task_id: Id,
    /// Where it is.
    pub agent_id: Id,
}

/// An executor to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shutdown {
    /// Which.
    pub executor_id: Id,
    /// Where it is.
    pub agent_id: Id,
}

/// News that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledge {
    /// Where the task is.
    pub agent_id: Id,
    /// Which task.
    pub task_id: Id,
    /// Of the news.
    pub uuid: Base64,
}

/// Tasks whose state is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconcile {
    /// Which; all, when empty.
    pub tasks: Vec<ReconcileTask>,
}

/// A task whose state is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReconcileTask {
    /// Which.
    pub task_id: Id,
    /// Where it should be.
    pub agent_id: Id,
}

/// News of an operation that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AcknowledgeOperation {
    /// On which agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Id>,
    /// Of which resource provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_provider_id: Option<Id>,
    /// Of the news.
    pub uuid: Base64,
    /// Which operation.
    pub operation_id: Id,
}

/// Operations whose state is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReconcileOperations {
    /// Which; all, when empty.
    pub operations: Vec<ReconcileOperation>,
}

/// An operation whose state is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReconcileOperation {
    /// Which.
    pub operation_id: Id,
    /// Where it should be.
    pub agent_id: Id,
}

/// Something said to or by an executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where it is.
    pub agent_id: Id,
    /// Which.
    pub executor_id: Id,
    /// What.
    pub data: Base64,
}
