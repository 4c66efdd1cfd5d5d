//! Wishes of the fleet, and what it wants to be made durable.

use super::state::FleetState;
use crate::cluster::event::Event;
use crate::cluster::state::State;
use crate::ports::discovery::Published;
use crate::ports::mesos::MesosCall;
use crate::ports::state_store::StateKey;
use crate::{ClusterName, Revision};

/// A wish for the driver. Harmless when repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell Mesos. Calls are to be made in this order.
    Mesos(MesosCall),
    /// Make this what clients see; later ones for the same cluster replace earlier ones.
    Publish(ClusterName, Published),
    /// Remove what clients see; answered with [`Input::Withdrawn`](super::Input::Withdrawn).
    Withdraw(ClusterName),
    /// Tell people.
    Log(ClusterName, Event),
}

/// A record to be made durable; answered with [`Fleet::handle_persisted`](super::Fleet::handle_persisted) or
/// [`Fleet::handle_not_persisted`](super::Fleet::handle_not_persisted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its revision.
    pub revision: Revision,
    /// What to do.
    pub record: Record,
}

/// What is to become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Replace the fleet's.
    Fleet(FleetState),
    /// Replace a cluster's.
    Cluster(Box<State>),
    /// Remove a cluster's.
    Gone(ClusterName),
}

impl Checkpoint {
    /// Which record it is about.
    pub fn key(&self) -> StateKey {
        match &self.record {
            Record::Fleet(_) => StateKey::Fleet,
            Record::Cluster(state) => StateKey::Cluster(state.name().clone()),
            Record::Gone(name) => StateKey::Cluster(name.clone()),
        }
    }

    /// The record's new bytes; `None` when it is to be removed.
    ///
    /// # Panics
    /// Never: both kinds of state are representable in JSON.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let why = "states have only string and number keys";
        match &self.record {
            Record::Fleet(state) => Some(serde_json::to_vec_pretty(state).expect(why)),
            Record::Cluster(state) => Some(serde_json::to_vec_pretty(state).expect(why)),
            Record::Gone(_) => None,
        }
    }
}
