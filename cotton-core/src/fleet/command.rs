//! Why a user's command was refused.

use crate::cluster::switchover::SwitchoverError;
use crate::{ClusterName, SpecError};

/// Why a user's command was refused; nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Not subscribed to Mesos for the first time yet.
    #[error("service unavailable, try again later")]
    NotConnected,
    /// A cluster of that name exists, or is still being deleted.
    #[error("cluster '{0}' already exists")]
    Exists(ClusterName),
    /// No such cluster.
    #[error("cluster '{0}' not found")]
    NotFound(ClusterName),
    /// It is being deleted.
    #[error("cluster '{0}' is being deleted")]
    Deleting(ClusterName),
    /// Its stored state was damaged and kept aside; the name is taken until a person has looked at it.
    #[error("the stored state of cluster '{0}' is damaged and was kept aside: restore or remove it, then restart")]
    Damaged(ClusterName),
    /// The request itself is bad.
    #[error(transparent)]
    Invalid(#[from] SpecError),
    /// The primary cannot hand over.
    #[error(transparent)]
    Switchover(#[from] SwitchoverError),
    /// The change could not be made durable; it may or may not be in force.
    #[error("the change could not be saved: {0}")]
    NotSaved(String),
    /// The scheduler is shutting down.
    #[error("the scheduler is not running")]
    Stopped,
}

#[cfg(feature = "driver")]
impl From<crate::driver::handle::Stopped> for CommandError {
    fn from(_: crate::driver::handle::Stopped) -> Self {
        Self::Stopped
    }
}
