//! Durable state of the scheduler: one record for the fleet, one for each cluster.

use crate::{ClusterName, PortError};
use async_trait::async_trait;
use std::fmt;

/// Which record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKey {
    /// What belongs to all clusters together.
    Fleet,
    /// One cluster.
    Cluster(ClusterName),
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet state"),
            Self::Cluster(name) => write!(f, "state of cluster '{name}'"),
        }
    }
}

/// One record as it was found. A damaged one is reported beside the others, never instead of them.
#[derive(Debug)]
pub struct Stored {
    /// Which record.
    pub key: StateKey,
    /// Its bytes as they were saved, or why they could not be read.
    pub value: Result<Vec<u8>, PortError>,
}

/// A place that keeps bytes safe: when a call returns, a crash of the machine does not undo it.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// All records, in the order of their keys. A record that was set aside is reported as damaged until a person has
    /// restored or removed it, unless a newer one has taken its place.
    ///
    /// # Errors
    /// When not even a list of them can be had.
    async fn load(&self) -> Result<Vec<Stored>, PortError>;

    /// Replaces one record as a whole.
    ///
    /// # Errors
    /// When it is not certain to be durable; the record then is the old or the new one, never a mixture.
    async fn save(&self, key: &StateKey, value: &[u8]) -> Result<(), PortError>;

    /// Removes one record; removing what is not there succeeds.
    ///
    /// # Errors
    /// When it is not certain to be gone.
    async fn remove(&self, key: &StateKey) -> Result<(), PortError>;

    /// Puts a record aside that makes no sense to the caller, for a person to look at, and says where it is.
    /// May be repeated.
    ///
    /// # Errors
    /// When it could not be moved; it is then still in its place.
    async fn set_aside(&self, key: &StateKey) -> Result<String, PortError>;
}
