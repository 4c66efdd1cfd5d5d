//! The checkpoint of the fleet: what belongs to all clusters together.

use crate::{FrameworkId, MemberId};
use serde::{Deserialize, Serialize};

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
}

impl Default for FleetState {
    fn default() -> Self {
        Self { version: FLEET_STATE_VERSION, framework: None, runs: 0, first_member: MemberId(0) }
    }
}
