//! What a master says.

use super::call::Message;
use super::operation::OperationStatus;
use crate::wire::common::{DurationInfo, Id, TaskStatus};
use crate::wire::resource::{AllocationInfo, Attribute, Domain, Resource};
use serde::Deserialize;
use serde_json::Value;

/// What a master says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// The first event of a subscription.
    Subscribed {
        /// As whom.
        subscribed: Subscribed,
    },
    /// Resources.
    Offers {
        /// Where, how much.
        offers: Offers,
    },
    /// Requests to leave agents.
    InverseOffers {
        /// Which.
        inverse_offers: InverseOffers,
    },
    /// An offer is void.
    Rescind {
        /// Which.
        rescind: Rescind,
    },
    /// A request to leave an agent is void.
    RescindInverseOffer {
        /// Which.
        rescind_inverse_offer: RescindInverseOffer,
    },
    /// News of a task.
    Update {
        /// What.
        update: Update,
    },
    /// News of an operation on resources.
    UpdateOperationStatus {
        /// What.
        update_operation_status: UpdateOperationStatus,
    },
    /// An executor says something.
    Message {
        /// What.
        message: Message,
    },
    /// An agent was removed, or an executor ended.
    Failure {
        /// Which.
        failure: Failure,
    },
    /// The framework did something wrong, or is no more.
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

/// As whom, and with whom.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Subscribed {
    /// The framework.
    pub framework_id: Id,
    /// How often heartbeats come.
    #[serde(default)]
    pub heartbeat_interval_seconds: Option<f64>,
    /// The master.
    #[serde(default)]
    pub master_info: Value,
}

/// Several offers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Offers {
    /// The offers.
    #[serde(default)]
    pub offers: Vec<Offer>,
}

/// Resources of an agent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Offer {
    /// Which.
    pub id: Id,
    /// Of which agent.
    pub agent_id: Id,
    /// The agent's host.
    pub hostname: String,
    /// The resources.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// What the agent says of itself.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
    /// Where the agent is.
    #[serde(default)]
    pub domain: Option<Domain>,
    /// For which role.
    #[serde(default)]
    pub allocation_info: Option<AllocationInfo>,
    /// When the agent will not be available, if that is known.
    #[serde(default)]
    pub unavailability: Option<Unavailability>,
}

/// Several requests to leave agents.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct InverseOffers {
    /// The requests.
    #[serde(default)]
    pub inverse_offers: Vec<InverseOffer>,
}

/// A request to leave an agent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct InverseOffer {
    /// Which.
    pub id: Id,
    /// Which agent; resources anywhere, when absent.
    #[serde(default)]
    pub agent_id: Option<Id>,
    /// When it will not be available.
    #[serde(default)]
    pub unavailability: Option<Unavailability>,
}

/// A request to leave an agent that is void.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RescindInverseOffer {
    /// Which.
    pub inverse_offer_id: Id,
}

/// When an agent will not be available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Unavailability {
    /// From when on.
    pub start: Time,
    /// For how long; for ever, when absent.
    #[serde(default)]
    pub duration: Option<DurationInfo>,
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Time {
    /// Nanoseconds since 1970.
    pub nanoseconds: i64,
}

/// An offer that is void.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rescind {
    /// Which.
    pub offer_id: Id,
}

/// News of a task.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Update {
    /// The news.
    pub status: TaskStatus,
}

/// News of an operation on resources.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct UpdateOperationStatus {
    /// The news.
    pub status: OperationStatus,
}

/// What failed: with an executor, that one ended; without, the agent was removed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// Which agent, or where the executor was.
    #[serde(default)]
    pub agent_id: Option<Id>,
    /// Which executor.
    #[serde(default)]
    pub executor_id: Option<Id>,
    /// How it ended.
    #[serde(default)]
    pub status: Option<i64>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorText {
    /// In words.
    pub message: String,
}
