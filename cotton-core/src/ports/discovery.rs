//! Telling clients where the primary and the replicas of a cluster are.

use crate::{ClusterName, Endpoint, Epoch, MemberId, PortError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All that clients may know of one cluster. Publishing replaces what was published before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Epoch in which the primary was promoted.
    pub epoch: Epoch,
    /// The primary, once it is open for writes.
    pub primary: Option<MemberId>,
    /// Every member that clients may read from, the primary included.
    pub members: BTreeMap<MemberId, Endpoint>,
}

/// Where clients look clusters up.
#[async_trait]
pub trait Discovery: Send + Sync {
    /// Makes `published` what clients see of `cluster`; repeating it changes nothing, and an epoch lower than the
    /// one published is refused with [`ErrorKind::Conflict`](crate::ErrorKind::Conflict).
    ///
    /// # Errors
    /// When it is not certain that clients see it.
    async fn publish(&self, cluster: &ClusterName, published: &Published) -> Result<(), PortError>;

    /// Removes all that clients see of `cluster`; removing what is not there succeeds.
    ///
    /// # Errors
    /// When it is not certain that it is gone.
    async fn withdraw(&self, cluster: &ClusterName) -> Result<(), PortError>;
}
