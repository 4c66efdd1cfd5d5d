//! Which members leave when fewer are wanted. (First cut: the policy follows.)

use crate::{AgentId, MemberId};

/// What is known of a member that could leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which member.
    pub member: MemberId,
    /// Whether it is the primary, which never leaves.
    pub primary: bool,
    /// Whether it is what it shall be.
    pub healthy: bool,
    /// Where it is.
    pub agent: AgentId,
    /// In which zone, where agents have zones.
    pub zone: Option<String>,
    /// Seconds behind the primary, where known.
    pub lag_s: Option<u64>,
}

/// The members that leave.
pub fn victims(candidates: &[Candidate], count: usize) -> Vec<MemberId> {
    candidates.iter().rev().filter(|c| !c.primary).take(count).map(|c| c.member).collect()
}
