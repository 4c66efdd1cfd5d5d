//! R5: once faults stop and everything that was cut is back, every cluster is at its size, healthy and writable, or
//! deleted, within a bounded time.
//!
//! Two excuses exist. A cluster that lost more copies at once than its policy allows for has nobody left of whom it
//! could be sure. It must say so: status `waiting`, with the reason. And of two members, the replica is not replaced because
//! somebody wrote there: commits would not be acknowledged meanwhile.

use super::Verdict;
use crate::ports::discovery::Published;
use crate::{ClusterName, ClusterStatus, ClusterView, Durability};

/// What is known of one cluster from outside.
#[derive(Debug)]
pub(crate) struct Outside<'a> {
    pub(crate) name: &'a ClusterName,
    /// Members wanted; `None` when it shall not exist.
    pub(crate) wanted: Option<u32>,
    pub(crate) view: Option<ClusterView>,
    pub(crate) published: Option<&'a Published>,
    /// Tasks of that name that have not ended.
    pub(crate) tasks: usize,
    pub(crate) stored: bool,
    /// Whether a client's write was acknowledged lately.
    pub(crate) written: bool,
    /// Whether more failed at once than the policy allows for.
    pub(crate) excused: bool,
}

/// Why the cluster is not as it should be, if it is not.
pub(crate) fn check(outside: &Outside<'_>) -> Verdict {
    let Outside { name, wanted, view, published, tasks, stored, written, excused } = outside;
    let Some(size) = *wanted else {
        if view.is_none() && published.is_none() && *tasks == 0 && !stored {
            return Ok(());
        }
        let seen = view.as_ref().map(|view| (view.status, &view.reasons));
        return Err(format!(
            "R5: deleted '{name}' is still there: {seen:?}, {published:?}, {tasks} tasks, stored {stored}"
        ));
    };
    let Some(view) = view else { return Err(format!("R5: '{name}' does not exist")) };
    // Or the only one that has received everything cannot apply it, and says why.
    let cannot = |trouble: &String| trouble.starts_with("cannot apply what it has received");
    let stuck = view.members.iter().any(|member| member.trouble.as_ref().is_some_and(cannot));
    let waits = view.status == ClusterStatus::Waiting || stuck && view.status == ClusterStatus::FailingOver;
    if waits && *excused && !view.reasons.is_empty() {
        return Ok(());
    }
    // The only other copy is not given up by itself, though somebody wrote there: a person decides, and is told.
    let errant = view.members.iter().any(|member| member.errant.is_some());
    if view.status == ClusterStatus::Degraded && errant && size == 2 && !view.reasons.is_empty() {
        return Ok(());
    }
    // With nobody to acknowledge, commits wait: that is what was asked for.
    let alone = size == 1 && view.durability == Durability::SemiSync;
    let status = if alone { ClusterStatus::Blocked } else { ClusterStatus::Healthy };
    let members = view.members.len();
    let complete = members == size as usize && *tasks == members && view.size == size;
    let shown = published.is_some_and(|p| p.epoch == view.epoch && p.primary.is_some() && p.primary == view.primary);
    let readable = published.is_some_and(|p| p.members.len() == members);
    if view.status == status && complete && shown && readable && (*written || alone) {
        return Ok(());
    }
    Err(format!(
        "R5: '{name}' is {:?} in epoch {} with {members} of {size} members and {tasks} tasks, primary {:?}, published \
         {published:?}, written {written}, excused {excused}: {:?}",
        view.status, view.epoch, view.primary, view.reasons
    ))
}
