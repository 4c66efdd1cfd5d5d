//! Which member goes to which offer: a pure function of what is wanted and what is offered.
//!
//! The fleet asks a [`PlacementPolicy`] and carries out its [`Plan`]. The default, [`Spread`], serves clusters in the
//! order given, keeps the members of a cluster on different agents, and in different zones while there are enough.
//! An embedder brings another policy by implementing the trait; [`Plan::verify`] holds every policy to the rules that
//! do not depend on taste. Whatever is not placed is explained, offer by offer, for those who wonder why they wait.

mod plan;
mod spread;

pub use plan::{Assignment, Avoid, OfferRefusal, Plan, PlanError, REFUSALS_KEPT, Refusal, Tally, Unplaced};
pub(crate) use spread::MAINTENANCE_AHEAD_MS;
pub use spread::Spread;

use crate::ClusterName;
use crate::cluster::Wanted;
use crate::ports::mesos::Offer;
use std::fmt::Debug;

/// Members that one cluster wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want<'a> {
    /// Whose.
    pub cluster: &'a ClusterName,
    /// How many, how large, and beside whom: no second member may be put on an agent that is occupied.
    pub wanted: &'a Wanted,
}

/// Decides which member goes where.
///
/// Must be a pure function: the same wants and offers give the same plan, so that runs can be repeated.
pub trait PlacementPolicy: Debug + Send + Sync {
    /// Makes a plan. Earlier wants come first. Offers of the same agent may come in pieces; each stands for itself.
    fn place(&self, wants: &[Want<'_>], offers: &[Offer]) -> Plan;
}

#[cfg(test)]
mod tests;
