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
    /// Agents of which it was agreed that they are taken down.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub let_go: BTreeSet<AgentId>,
}

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
            let_go: BTreeSet::new(),
        }
    }
}
