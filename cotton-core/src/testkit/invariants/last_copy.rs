//! R8: nothing of ours ends the last copy. What clients were told to be done is taken from no member, by ending its task,
//! killing its server, pointing it elsewhere, or replacing its data, while no other known member has it.
//!
//! What an election could not save is looked for no more: with asynchronous commits, or where availability is preferred,
//! some may be lost, and the other rules say when.

use super::{Life, Verdict};
use crate::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// A copy that was destroyed so lately, in milliseconds, may not be missed yet.
const UNNOTICED_MS: u64 = 10_000;

/// What clients were promised, by life.
#[derive(Debug, Default)]
pub(crate) struct LastCopy {
    promised: BTreeMap<Life, BTreeSet<u64>>,
    destroyed: Vec<(Millis, Life, BTreeSet<u64>)>,
}

impl LastCopy {
    /// A client was told that this is done.
    pub(crate) fn on_acknowledged(&mut self, life: Life, txn: u64) {
        self.promised.entry(life).or_default().insert(txn);
    }

    /// A member opened; what it lacks is lost, and was allowed to be.
    pub(crate) fn on_opened(&mut self, life: Life, has: impl Fn(u64) -> bool) {
        if let Some(promised) = self.promised.get_mut(&life) {
            promised.retain(|txn| has(*txn));
        }
    }

    /// A copy was destroyed by nobody of ours.
    pub(crate) fn on_destroyed(&mut self, now: Millis, life: Life, held: BTreeSet<u64>) {
        self.destroyed.retain(|(at, ..)| now.since(*at) < UNNOTICED_MS);
        self.destroyed.push((now, life, held));
    }

    /// Something of ours ends a copy of these: `how` says what, in words. `elsewhere` is what other known members hold.
    pub(crate) fn on_ending(
        &self,
        now: Millis,
        life: Life,
        how: &str,
        ends: impl Iterator<Item = u64>,
        elsewhere: &BTreeSet<u64>,
    ) -> Verdict {
        let Some(promised) = self.promised.get(&life) else { return Ok(()) };
        let unnoticed = |txn: u64| {
            let lately = |(at, of, held): &(Millis, Life, BTreeSet<u64>)| {
                *of == life && now.since(*at) < UNNOTICED_MS && held.contains(&txn)
            };
            self.destroyed.iter().any(lately)
        };
        let last: Vec<u64> =
            ends.filter(|txn| promised.contains(txn) && !elsewhere.contains(txn) && !unnoticed(*txn)).collect();
        if last.is_empty() {
            return Ok(());
        }
        Err(format!("R8: {how}, and no other member has the acknowledged transactions {last:?}"))
    }
}
