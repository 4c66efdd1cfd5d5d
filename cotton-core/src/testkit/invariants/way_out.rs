//! R9: every state ends by itself or by what a person can do, and the cluster says what it waits for. Being slow is not
//! being lost: nobody's server is killed while it applies what it has received.

use super::Verdict;
use crate::{ClusterStatus, ClusterView};

/// What a cluster says of itself, at any time. Of one that is deleted and has no members any more, there is nothing to say.
pub(crate) fn on_view(view: &ClusterView) -> Verdict {
    let is_gone = view.status == ClusterStatus::Deleting && view.members.is_empty();
    if view.status == ClusterStatus::Healthy || !view.reasons.is_empty() || is_gone {
        return Ok(());
    }
    Err(format!("R9: '{}' is {:?} in epoch {} and says no reason", view.name, view.status, view.epoch))
}

/// An executor kills its server, which is read-only and answers, and has so much left to apply.
pub(crate) fn on_killed(task: &str, unapplied: u64, reason: &str) -> Verdict {
    if unapplied == 0 {
        return Ok(());
    }
    Err(format!("R9: {task} has {unapplied} transactions left to apply, and its server is killed: {reason}"))
}
