//! The checkpoint of the fleet: what belongs to all clusters together.

use crate::{AgentId, ClusterName, FrameworkId, MemberId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Version of the stored form; others are refused in words.
pub const FLEET_STATE_VERSION: u32 = 1;

/// What is kept beside the clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetState {
    /// [`FLEET_STATE_VERSION`].
    pub version: u32,
    /// How Mesos knows us; `None` before the first subscription.
    pub framework: Option<FrameworkId>,
    /// How often a scheduler has been started on this state: numbers that shall never repeat begin with it.
    pub runs: u64,
    /// Where new clusters begin to number their members: above those of every deleted cluster, so that no task id is
    /// ever used twice. News of an old task would be taken for news of the new one.
    #[serde(default)]
    pub first_member: MemberId,
    /// Deleted clusters with the number below which their members were, oldest first: what is left of those belongs to
    /// nobody. (A cluster that is merely not known may have lost its record.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<(ClusterName, MemberId)>,
    /// Clusters whose records were found damaged: what is left of them may be anywhere, so that no later cluster of that name
    /// uses their numbers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub damaged: BTreeSet<ClusterName>,
    /// Agents of which it was agreed that they are taken down.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub let_go: BTreeSet<AgentId>,
}

/// Far more members than one cluster has while its record is lost.
const DAMAGED_NUMBERS: u64 = 1_000;
/// Most deleted clusters that are remembered; what is left of older ones is left alone.
const DELETED_MAX: usize = 1_000;

impl FleetState {
    /// Remembers a cluster that is being deleted; says whether that is news.
    pub(super) fn remember_deleted(&mut self, name: &ClusterName, next: MemberId) -> bool {
        let entry = (name.clone(), next);
        if self.deleted.contains(&entry) {
            return false;
        }
        self.deleted.retain(|(known, _)| known != name);
        self.deleted.push(entry);
        if self.deleted.len() > DELETED_MAX {
            self.deleted.remove(0);
        }
        true
    }

    /// Lets no later cluster use the numbers of one whose record is damaged, which nobody knows. `highest` is the highest next
    /// number of all clusters that are known.
    pub(super) fn pass_damaged(&mut self, damaged: &BTreeSet<ClusterName>, highest: Option<MemberId>) {
        if !damaged.is_subset(&self.damaged) {
            let known = highest.unwrap_or_default().max(self.first_member);
            self.first_member = MemberId(known.0 + DAMAGED_NUMBERS);
        }
        self.damaged.clone_from(damaged);
    }

    /// Whether this member's cluster was deleted.
    pub(super) fn was_deleted(&self, name: &ClusterName, member: MemberId) -> bool {
        self.deleted.iter().any(|(known, below)| known == name && member < *below)
    }
}

impl Default for FleetState {
    fn default() -> Self {
        Self {
            version: FLEET_STATE_VERSION,
            framework: None,
            runs: 0,
            first_member: MemberId(0),
            deleted: Vec::new(),
            damaged: BTreeSet::new(),
            let_go: BTreeSet::new(),
        }
    }
}
