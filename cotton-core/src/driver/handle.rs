//! How the rest of a program talks to a running scheduler.

use crate::account::{Account, AccountChange};
use crate::cluster::event::Event;
use crate::cluster::explain::Explanation;
use crate::cluster::levers::Lever;
use crate::cluster::view::ClusterView;
use crate::fleet::{CommandError, Left, LeftoverVolumes, UnknownTask};
use crate::{ClusterName, ClusterSpec, FrameworkId, MemberId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};

/// An [`Event`] with its cluster, the wall-clock time and a number that only grows within one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Position in the log.
    pub number: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// Whose.
    pub cluster: ClusterName,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Counters and gauges of the scheduler, by name without prefix, in alphabetical order.
pub type Metrics = BTreeMap<&'static str, u64>;

/// What a [`Handle`] sends to the loop.
#[derive(Debug)]
pub(crate) enum Request {
    Create(Box<ClusterSpec>, oneshot::Sender<Result<(), CommandError>>),
    Scale(ClusterName, u64, oneshot::Sender<Result<(), CommandError>>),
    Switchover(ClusterName, Option<MemberId>, oneshot::Sender<Result<(), CommandError>>),
    Pull(ClusterName, Lever, oneshot::Sender<Result<(), CommandError>>),
    ChangeAccount(ClusterName, String, AccountChange, oneshot::Sender<Result<(), CommandError>>),
    Accounts(ClusterName, oneshot::Sender<Option<BTreeMap<String, Account>>>),
    Delete(ClusterName, oneshot::Sender<Result<(), CommandError>>),
    Adopt(ClusterName, oneshot::Sender<Result<(), CommandError>>),
    Discard(ClusterName, oneshot::Sender<Result<(), CommandError>>),
    Unknown(oneshot::Sender<Vec<UnknownTask>>),
    Left(Vec<(ClusterName, MemberId)>, oneshot::Sender<Vec<Left>>),
    LeftoverVolumes(oneshot::Sender<LeftoverVolumes>),
    ReleaseLeftovers(oneshot::Sender<()>),
    View(ClusterName, oneshot::Sender<Option<ClusterView>>),
    Explain(ClusterName, oneshot::Sender<Option<Box<Explanation>>>),
    List(oneshot::Sender<Vec<ClusterView>>),
    Damaged(oneshot::Sender<BTreeSet<ClusterName>>),
    Framework(oneshot::Sender<Option<FrameworkId>>),
    Spec(ClusterName, oneshot::Sender<Option<ClusterSpec>>),
    Events(oneshot::Sender<Vec<Arc<LoggedEvent>>>),
    Metrics(oneshot::Sender<Metrics>),
    Stop,
}

/// A cheap, cloneable way to command and watch a running scheduler. Every command is answered only after what it
/// changed is durable.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<Arc<LoggedEvent>>,
}

/// The scheduler has stopped; no answer will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler is not running")]
pub struct Stopped;

impl Handle {
    pub(crate) fn new(requests: mpsc::Sender<Request>, events: broadcast::Sender<Arc<LoggedEvent>>) -> Self {
        Self { requests, events }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Asks for a new cluster.
    ///
    /// # Errors
    /// When the name is taken, the spec is bad, the scheduler is not connected, or it stopped.
    pub async fn create(&self, spec: ClusterSpec) -> Result<(), CommandError> {
        self.ask(|answer| Request::Create(Box::new(spec), answer)).await?
    }

    /// Asks for another number of members.
    ///
    /// # Errors
    /// When there is no such cluster, it is being deleted, the number is out of bounds, or the scheduler stopped.
    pub async fn scale(&self, name: &ClusterName, size: u64) -> Result<(), CommandError> {
        self.ask(|answer| Request::Scale(name.clone(), size, answer)).await?
    }

    /// Asks the primary of a cluster to hand over to `to`, or to the replica that suits best. That it has begun is
    /// durable when this returns; how it ended is told by [`Handle::view`].
    ///
    /// # Errors
    /// When there is no such cluster, it is being deleted, the primary cannot hand over, or the scheduler stopped.
    pub async fn switchover(&self, name: &ClusterName, to: Option<MemberId>) -> Result<(), CommandError> {
        self.ask(|answer| Request::Switchover(name.clone(), to, answer)).await?
    }

    /// Does what a person has decided of a cluster; that it was decided is durable when this returns.
    ///
    /// # Errors
    /// When there is no such cluster, it is being deleted, that cannot be done, or the scheduler stopped.
    pub async fn pull(&self, name: &ClusterName, lever: Lever) -> Result<(), CommandError> {
        self.ask(|answer| Request::Pull(name.clone(), lever, answer)).await?
    }

    /// Makes, changes or drops a further account. The primary is told when that is durable, and does it at once if commits
    /// can be acknowledged.
    ///
    /// # Errors
    /// When there is no such cluster, it is being deleted, the account cannot be so, or the scheduler stopped.
    pub async fn change_account(
        &self,
        name: &ClusterName,
        user: &str,
        change: AccountChange,
    ) -> Result<(), CommandError> {
        self.ask(|answer| Request::ChangeAccount(name.clone(), user.to_owned(), change, answer)).await?
    }

    /// The further accounts of a cluster, by name.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn accounts(&self, name: &ClusterName) -> Result<Option<BTreeMap<String, Account>>, Stopped> {
        self.ask(|answer| Request::Accounts(name.clone(), answer)).await
    }

    /// Asks to delete a cluster with all its data. Checking the password is the caller's part, see [`Handle::spec`].
    ///
    /// # Errors
    /// When there is no such cluster or the scheduler stopped.
    pub async fn delete(&self, name: &ClusterName) -> Result<(), CommandError> {
        self.ask(|answer| Request::Delete(name.clone(), answer)).await?
    }

    /// Makes a cluster of tasks of which there is no record; see [`Fleet::adopt`](crate::fleet::Fleet::adopt).
    ///
    /// # Errors
    /// When there are none, they have not said what they are, or the scheduler stopped.
    pub async fn adopt(&self, name: &ClusterName) -> Result<(), CommandError> {
        self.ask(|answer| Request::Adopt(name.clone(), answer)).await?
    }

    /// Gives up tasks of which there is no record, with all their data.
    ///
    /// # Errors
    /// When there are none, or the scheduler stopped.
    pub async fn discard(&self, name: &ClusterName) -> Result<(), CommandError> {
        self.ask(|answer| Request::Discard(name.clone(), answer)).await?
    }

    /// Tasks that no record accounts for: left alone until a person has decided.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn unknown(&self) -> Result<Vec<UnknownTask>, Stopped> {
        self.ask(Request::Unknown).await
    }

    /// What has become of what each of these members left behind.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn left(&self, members: Vec<(ClusterName, MemberId)>) -> Result<Vec<Left>, Stopped> {
        self.ask(|answer| Request::Left(members, answer)).await
    }

    /// Volumes without a member of which is known that they are there, or may be.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn leftover_volumes(&self) -> Result<LeftoverVolumes, Stopped> {
        self.ask(Request::LeftoverVolumes).await
    }

    /// Looks for volumes that nobody needs, to release them. That each was released is an event.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn release_leftovers(&self) -> Result<(), Stopped> {
        self.ask(Request::ReleaseLeftovers).await
    }

    /// A snapshot of one cluster.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn view(&self, name: &ClusterName) -> Result<Option<ClusterView>, Stopped> {
        self.ask(|answer| Request::View(name.clone(), answer)).await
    }

    /// Explains one cluster to a person who has to decide.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn explain(&self, name: &ClusterName) -> Result<Option<Box<Explanation>>, Stopped> {
        self.ask(|answer| Request::Explain(name.clone(), answer)).await
    }

    /// Snapshots of all clusters, in the order of their creation.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn list(&self) -> Result<Vec<ClusterView>, Stopped> {
        self.ask(Request::List).await
    }

    /// Clusters whose stored state could not be read: left alone until a person has looked.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn damaged(&self) -> Result<BTreeSet<ClusterName>, Stopped> {
        self.ask(Request::Damaged).await
    }

    /// As what Mesos knows the scheduler, which stays the same as long as its state is kept; `None` before it was connected.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn framework(&self) -> Result<Option<FrameworkId>, Stopped> {
        self.ask(Request::Framework).await
    }

    /// What was asked for, sealed secrets included.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn spec(&self, name: &ClusterName) -> Result<Option<ClusterSpec>, Stopped> {
        self.ask(|answer| Request::Spec(name.clone(), answer)).await
    }

    /// The latest events of all clusters, oldest first; bounded.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn events(&self) -> Result<Vec<Arc<LoggedEvent>>, Stopped> {
        self.ask(Request::Events).await
    }

    /// Events from now on. A receiver that is too slow misses the oldest ones and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedEvent>> {
        self.events.subscribe()
    }

    /// Counters and gauges, with Apache Cotton's names.
    ///
    /// # Errors
    /// When the scheduler stopped.
    pub async fn metrics(&self) -> Result<Metrics, Stopped> {
        self.ask(Request::Metrics).await
    }

    /// Ends the loop after what is under way has been persisted. Databases run on.
    pub async fn stop(&self) {
        let _ = self.requests.send(Request::Stop).await; // an error means: stopped already
        self.requests.closed().await;
    }
}
