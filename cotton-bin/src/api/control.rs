//! What the API needs of a running scheduler.

use async_trait::async_trait;
use cotton_core::account::{Account, AccountChange};
use cotton_core::cluster::explain::Explanation;
use cotton_core::cluster::levers::Lever;
use cotton_core::driver::handle::Stopped;
use cotton_core::driver::{Handle, LoggedEvent, Metrics};
use cotton_core::fleet::{Left, LeftoverVolumes, UnknownTask};
use cotton_core::{ClusterName, ClusterSpec, ClusterView, CommandError, FrameworkId, MemberId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast;

/// A running scheduler, or in tests something that answers like one. Its one real implementation is [`Handle`], whose
/// documentation holds here.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// See [`Handle::create`].
    async fn create(&self, spec: ClusterSpec) -> Result<(), CommandError>;
    /// See [`Handle::scale`].
    async fn scale(&self, name: &ClusterName, size: u64) -> Result<(), CommandError>;
    /// See [`Handle::switchover`].
    async fn switchover(&self, name: &ClusterName, to: Option<MemberId>) -> Result<(), CommandError>;
    /// See [`Handle::pull`].
    async fn pull(&self, name: &ClusterName, lever: Lever) -> Result<(), CommandError>;
    /// See [`Handle::change_account`].
    async fn change_account(&self, name: &ClusterName, user: &str, change: AccountChange) -> Result<(), CommandError>;
    /// See [`Handle::accounts`].
    async fn accounts(&self, name: &ClusterName) -> Result<Option<BTreeMap<String, Account>>, Stopped>;
    /// See [`Handle::delete`].
    async fn delete(&self, name: &ClusterName) -> Result<(), CommandError>;
    /// See [`Handle::adopt`].
    async fn adopt(&self, name: &ClusterName) -> Result<(), CommandError>;
    /// See [`Handle::discard`].
    async fn discard(&self, name: &ClusterName) -> Result<(), CommandError>;
    /// See [`Handle::unknown`].
    async fn unknown(&self) -> Result<Vec<UnknownTask>, Stopped>;
    /// See [`Handle::left`].
    async fn left(&self, members: Vec<(ClusterName, MemberId)>) -> Result<Vec<Left>, Stopped>;
    /// See [`Handle::leftover_volumes`].
    async fn leftover_volumes(&self) -> Result<LeftoverVolumes, Stopped>;
    /// See [`Handle::release_leftovers`].
    async fn release_leftovers(&self) -> Result<(), Stopped>;
    /// See [`Handle::view`].
    async fn view(&self, name: &ClusterName) -> Result<Option<ClusterView>, Stopped>;
    /// See [`Handle::explain`].
    async fn explain(&self, name: &ClusterName) -> Result<Option<Box<Explanation>>, Stopped>;
    /// See [`Handle::list`].
    async fn list(&self) -> Result<Vec<ClusterView>, Stopped>;
    /// See [`Handle::damaged`].
    async fn damaged(&self) -> Result<BTreeSet<ClusterName>, Stopped>;
    /// See [`Handle::framework`].
    async fn framework(&self) -> Result<Option<FrameworkId>, Stopped>;
    /// See [`Handle::spec`].
    async fn spec(&self, name: &ClusterName) -> Result<Option<ClusterSpec>, Stopped>;
    /// See [`Handle::events`].
    async fn events(&self) -> Result<Vec<Arc<LoggedEvent>>, Stopped>;
    /// See [`Handle::subscribe`].
    fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedEvent>>;
    /// See [`Handle::metrics`].
    async fn metrics(&self) -> Result<Metrics, Stopped>;
}

#[async_trait]
impl ControlPlane for Handle {
    async fn create(&self, spec: ClusterSpec) -> Result<(), CommandError> {
        Self::create(self, spec).await
    }
    async fn scale(&self, name: &ClusterName, size: u64) -> Result<(), CommandError> {
        Self::scale(self, name, size).await
    }
    async fn switchover(&self, name: &ClusterName, to: Option<MemberId>) -> Result<(), CommandError> {
        Self::switchover(self, name, to).await
    }
    async fn pull(&self, name: &ClusterName, lever: Lever) -> Result<(), CommandError> {
        Self::pull(self, name, lever).await
    }
    async fn change_account(&self, name: &ClusterName, user: &str, change: AccountChange) -> Result<(), CommandError> {
        Self::change_account(self, name, user, change).await
    }
    async fn accounts(&self, name: &ClusterName) -> Result<Option<BTreeMap<String, Account>>, Stopped> {
        Self::accounts(self, name).await
    }
    async fn delete(&self, name: &ClusterName) -> Result<(), CommandError> {
        Self::delete(self, name).await
    }
    async fn adopt(&self, name: &ClusterName) -> Result<(), CommandError> {
        Self::adopt(self, name).await
    }
    async fn discard(&self, name: &ClusterName) -> Result<(), CommandError> {
        Self::discard(self, name).await
    }
    async fn unknown(&self) -> Result<Vec<UnknownTask>, Stopped> {
        Self::unknown(self).await
    }
    async fn left(&self, members: Vec<(ClusterName, MemberId)>) -> Result<Vec<Left>, Stopped> {
        Self::left(self, members).await
    }
    async fn leftover_volumes(&self) -> Result<LeftoverVolumes, Stopped> {
        Self::leftover_volumes(self).await
    }
    async fn release_leftovers(&self) -> Result<(), Stopped> {
        Self::release_leftovers(self).await
    }
    async fn view(&self, name: &ClusterName) -> Result<Option<ClusterView>, Stopped> {
        Self::view(self, name).await
    }
    async fn explain(&self, name: &ClusterName) -> Result<Option<Box<Explanation>>, Stopped> {
        Self::explain(self, name).await
    }
    async fn list(&self) -> Result<Vec<ClusterView>, Stopped> {
        Self::list(self).await
    }
    async fn damaged(&self) -> Result<BTreeSet<ClusterName>, Stopped> {
        Self::damaged(self).await
    }
    async fn framework(&self) -> Result<Option<FrameworkId>, Stopped> {
        Self::framework(self).await
    }
    async fn spec(&self, name: &ClusterName) -> Result<Option<ClusterSpec>, Stopped> {
        Self::spec(self, name).await
    }
    async fn events(&self) -> Result<Vec<Arc<LoggedEvent>>, Stopped> {
        Self::events(self).await
    }
    fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedEvent>> {
        Self::subscribe(self)
    }
    async fn metrics(&self) -> Result<Metrics, Stopped> {
        Self::metrics(self).await
    }
}
