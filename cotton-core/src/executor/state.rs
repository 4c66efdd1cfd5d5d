//! What an executor must remember over its own death.

use crate::Epoch;
use crate::protocol::{Directive, ServerStart, Stage};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a directive stands among all directives: later ones replace earlier ones, never the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank {
    /// The epoch, which decides first.
    pub epoch: Epoch,
    /// The stage within the epoch.
    pub stage: Stage,
}

impl Rank {
    /// The rank of a directive.
    pub const fn of(directive: &Directive) -> Self {
        let (epoch, stage) = directive.rank();
        Self { epoch, stage }
    }

    pub(super) const fn decided(epoch: Epoch) -> Self {
        Self { epoch, stage: Stage::Decided }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Freeze => "freeze",
            Stage::Decided => "decided",
            Stage::Turn(turn) => return write!(f, "epoch {} (turn {turn})", self.epoch),
            Stage::Detach => "detach",
        };
        write!(f, "epoch {} ({stage})", self.epoch)
    }
}

/// The checkpoint: exactly what a restarted executor needs. It lies beside the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorState {
    /// Counts the starts of this member's executor.
    pub incarnation: u64,
    /// Highest rank obeyed; lower ones are refused for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obeyed: Option<Rank>,
    /// Highest epoch in which this member was told to be primary. It opens its server at most once in an epoch: a
    /// server that was restarted needs a new election, however often the old order is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Epoch>,
    /// Epoch in which it was last told to be a primary whose commits are acknowledged, until it has followed another: what
    /// it has beyond the acknowledged ones is then still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Epoch>,
    /// The oldest start of its server of which nothing is lost that it had received or executed; `None` when that is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_since: Option<ServerStart>,
    /// Whether the server ended before its executor did, and was not started since. Only then does
    /// [`Self::kept_since`] hold for the next executor: a start that was never noted may have lost something. What the
    /// end itself has lost is seen when the server starts again, see [`Started`](crate::ports::mysql::Started).
    #[serde(rename = "stopped", default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}
