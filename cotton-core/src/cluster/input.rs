//! Facts from outside. Stale, repeated or unknown facts are ignored; they are never errors.

use crate::ports::mesos::TaskState;
use crate::protocol::Report;
use crate::{AgentId, Endpoint, MemberId, OfferId};

/// A fact about one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Mesos says what became of a member's task.
    Task {
        /// Which member.
        member: MemberId,
        /// Its state.
        state: TaskState,
        /// Why, for people.
        message: String,
    },
    /// A member says what it is and has.
    Report {
        /// Which member.
        member: MemberId,
        /// What it says.
        report: Box<Report>,
    },
    /// A task of this cluster runs that the record does not know, and could not have forgotten: a later record has been
    /// lost. `unknown` says whether such tasks are there now.
    Outdated {
        /// Whether there are such tasks.
        unknown: bool,
    },
    /// The connection to Mesos is up (again): whatever was sent before may be lost.
    Connected,
    /// The connection to Mesos is lost: nobody can be heard.
    Disconnected,
    /// Clients no longer see this cluster; answers [`Effect::Withdraw`](super::Effect::Withdraw).
    Withdrawn,
}

/// Where a member was placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The offer that it uses.
    pub offer: OfferId,
    /// On this agent.
    pub agent: AgentId,
    /// Listening there.
    pub endpoint: Endpoint,
    /// In this zone, where agents have zones.
    pub zone: Option<String>,
}
