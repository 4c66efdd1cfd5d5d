//! Wishes for the driver: plain data, harmless when repeated, fenced by the epoch they carry.

use super::event::Event;
use crate::ports::discovery::Published;
use crate::protocol::{MemberTask, ToExecutor};
use crate::{AgentId, MemberId, OfferId};

/// A wish of one cluster. Comes out only after the state that it follows from is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a member's task.
    Launch {
        /// With this offer.
        offer: OfferId,
        /// On this agent.
        agent: AgentId,
        /// What its executor must know.
        task: Box<MemberTask>,
    },
    /// End a member's task.
    Kill {
        /// Which member.
        member: MemberId,
        /// Where it is.
        agent: AgentId,
    },
    /// Destroy the volume of a member that is gone for good, with all its data.
    Release {
        /// Whose.
        member: MemberId,
    },
    /// Say something to a member's executor.
    Send {
        /// Which member.
        member: MemberId,
        /// Where it is.
        agent: AgentId,
        /// What.
        message: ToExecutor,
    },
    /// Make this what clients see.
    Publish(Published),
    /// Remove all that clients see.
    Withdraw,
    /// Tell people.
    Log(Event),
}

impl Effect {
    /// The member that it is done to.
    pub const fn member(&self) -> Option<MemberId> {
        match self {
            Self::Launch { task, .. } => Some(task.member),
            Self::Kill { member, .. } | Self::Send { member, .. } => Some(*member),
            Self::Release { .. } // not for it, but after it
            | Self::Publish(_) | Self::Withdraw | Self::Log(_) => None,
        }
    }

    /// The member that it tells what to be.
    pub(super) const fn ordered(&self) -> Option<MemberId> {
        match self {
            Self::Send { member, message: ToExecutor::Directive(_), .. } => Some(*member),
            Self::Launch { .. }
            | Self::Kill { .. }
            | Self::Release { .. }
            | Self::Send {
                message: ToExecutor::Heard { .. } | ToExecutor::Accounts { .. } | ToExecutor::LetGo, ..
            }
            | Self::Publish(_)
            | Self::Withdraw
            | Self::Log(_) => None,
        }
    }

    /// A short name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Launch { .. } => "launch",
            Self::Kill { .. } => "kill",
            Self::Release { .. } => "release",
            Self::Send { .. } => "send",
            Self::Publish(_) => "publish",
            Self::Withdraw => "withdraw",
            Self::Log(_) => "log",
        }
    }
}
