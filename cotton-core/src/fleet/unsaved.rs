//! Records that cannot be saved: since when, and why. Nothing that depends on them is done meanwhile, so people are told.

use crate::cluster::view::{Reason, ReasonCode};
use crate::ports::state_store::StateKey;
use crate::{ClusterName, Millis};
use std::collections::BTreeMap;

#[derive(Debug)]
struct Unsaved {
    since: Millis,
    error: String,
}

/// All such records.
#[derive(Debug, Default)]
pub(super) struct Unsavable {
    records: BTreeMap<StateKey, Unsaved>,
}

impl Unsavable {
    pub(super) fn failed(&mut self, now: Millis, key: &StateKey, error: String) {
        let since = self.records.get(key).map_or(now, |unsaved| unsaved.since);
        self.records.insert(key.clone(), Unsaved { since, error });
    }

    pub(super) fn saved(&mut self, key: &StateKey) {
        self.records.remove(key);
    }

    /// What keeps that cluster from being served, and since when: its own record, or the one that all need.
    pub(super) fn of(&self, now: Millis, name: &ClusterName) -> Option<(Millis, Reason)> {
        let own = self.records.get(&StateKey::Cluster(name.clone()));
        let Unsaved { since, error } = own.or_else(|| self.records.get(&StateKey::Fleet))?;
        let whose = if own.is_some() { "its latest change" } else { "the scheduler's record" };
        let seconds = now.since(*since) / 1_000;
        let text = format!("{whose} could not be saved for {seconds} s, and is tried again: {error}");
        Some((*since, Reason { code: ReasonCode::NotSaved, member: None, text }))
    }
}
