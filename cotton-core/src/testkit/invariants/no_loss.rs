//! R2: with semi-synchronous commits, an acknowledged transaction is never lost while fewer members fail at once than
//! the policy allows for.
//!
//! The check is stricter than the rule where a cluster prefers consistency: no member may *ever* open for writes
//! without all that was acknowledged before, however many members failed. When too many did, the cluster has to
//! wait and say so. Only where availability is preferred is a loss excused, and only when a second member failed before
//! the cluster had recovered from the first.

use super::{Life, Verdict};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct NoLoss {
    acknowledged: BTreeMap<Life, Vec<u64>>,
}

impl NoLoss {
    /// A client was told that this is done.
    pub(crate) fn on_acknowledged(&mut self, life: Life, txn: u64) {
        self.acknowledged.entry(life).or_default().push(txn);
    }

    /// How many transactions were acknowledged.
    pub(crate) fn count(&self, life: Life) -> usize {
        self.acknowledged.get(&life).map_or(0, Vec::len)
    }

    /// A member opened; `has` tells what it holds.
    pub(crate) fn on_opened(&mut self, life: Life, excused: bool, has: impl Fn(u64) -> bool) -> Verdict {
        let Some(all) = self.acknowledged.get_mut(&life) else { return Ok(()) };
        let lost: Vec<u64> = all.iter().copied().filter(|txn| !has(*txn)).collect();
        if lost.is_empty() {
            return Ok(());
        }
        if excused {
            all.retain(|txn| !lost.contains(txn)); // lost once is lost for good
            return Ok(());
        }
        Err(format!("R2: acknowledged transactions {lost:?} are missing on a member that opens for writes"))
    }

    /// A replica says that its copy is complete, and has had the time to make it so.
    pub(crate) fn on_settled(primary: &[u64], replica: impl Fn(u64) -> bool) -> Verdict {
        let missing: Vec<u64> = primary.iter().copied().filter(|txn| !replica(*txn)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("R2: a replica counts as a full copy and silently lacks transactions {missing:?}"))
    }
}
