//! A scheduler's connection to Mesos, over the v1 HTTP API: [`HttpMesos`].
//!
//! It follows Mesos' documents "Scheduler HTTP API", "Designing Highly Available Mesos Frameworks", "Task State
//! Reconciliation", "Roles", "Reservation" and "Authentication", and what a master of 1.11.0 was seen to do
//! (`tests/real/mesos/README.md`):
//!
//! - **Subscription.** One request, whose response are the events; calls are further requests, which name the subscription
//!   by its `Mesos-Stream-Id`. Calls are posted one after the other, so Mesos gets them in the order in which they were
//!   made. The framework id goes along with every subscription but the first of all, and a master that answers with
//!   another one is refused: there is never a second framework by accident. Capabilities are `MULTI_ROLE`,
//!   `RESERVATION_REFINEMENT` and `PARTITION_AWARE`; checkpointing is on. `REGION_AWARE` is not there, so Mesos offers
//!   nothing outside of the masters' region, which replication is too slow for.
//! - **A connection is given up** when it ends, a heartbeat is missed, its stream is damaged, another master leads
//!   ([`MasterDetector`]), a call gets no answer or is refused for what it names the subscription by. Offers are void then,
//!   and [`Disconnected`](MesosEvent::Disconnected) is told. A new subscription is tried with growing pauses and without
//!   end, also while a master is starting (404, 503); a redirection (307) is followed at once.
//! - **It is given up for good**, in words, when credentials are wrong, or a master sends an `ERROR`: when the framework was
//!   removed, another scheduler took its place, or what it says of itself (role, user, principal) is not allowed.
//! - **Offers** of one agent and role are joined into one; see `offers.rs`. What is reserved for our role is used beside and
//!   before what is not reserved; each part of a task says which it is. Revocable and shared resources, disks with a
//!   source, volumes of others and what others have reserved under labels are not touched.
//! - **Volumes** are made by one `ACCEPT` with `RESERVE`, `CREATE` and `LAUNCH`. Everything that the task and its executor
//!   use is reserved for the volume, the port included, so that the task can come back as it was; what an operator has
//!   reserved for the role is used as it is. Marks in the reservations and the volume's id (`marks.rs`) say whose they are, so
//!   that what is left of a sequence that failed half way is found in offers, and nothing has to be remembered here.
//!   Operations have ids (`operations.rs`), their news are acknowledged at once, as offers tell the same later, and told
//!   once. After a subscription, those without an answer are asked for.
//! - **Launches** that cannot be right are not posted: with an offer that is void, or for more than it has. Their tasks are
//!   told to be dropped, as Mesos would. A task that was launched before is not launched again.
//! - **Executors**: one for each task, under the task's id, started from [`ExecutorConfig`]. Mesos never ends executors that
//!   are not its own, so one that told the end of its task gets a `SHUTDOWN` when that was acknowledged.
//! - **Inverse offers** (maintenance) are answered by the port's user; without an answer, the operator sees that this
//!   framework has not agreed yet.
//! - **Flags that changed** since the framework was last here are taken over by Mesos, or refused or logged in words; see
//!   `roles.rs`.
//! - **News** is acknowledged only by the port's user, and only when Mesos repeats it (that is, when it has a uuid). News
//!   made by a master has none.

mod accept;
mod client;
mod config;
mod detector;
mod error;
mod inbox;
mod maintenance;
mod marks;
mod offers;
mod operations;
mod pool;
mod probe;
mod roles;
mod state;
mod stock;
mod subscription;
#[cfg(feature = "tls")]
mod tls;
mod translate;

pub use config::{Credential, ExecutorConfig, ExecutorUri, FAILOVER_TIMEOUT, FrameworkConfig, SchedulerConfig};
pub use detector::{MASTER_PORT, MasterDetector, MasterList, MasterListError};
pub use error::SchedulerError;
pub use probe::MasterProbe;

use crate::wire::common::Id;
use crate::wire::scheduler::call::{Call, CallBody};
use async_trait::async_trait;
use client::{Client, Refusal};
use cotton_core::ports::mesos::{Mesos, MesosCall, MesosEvent};
use cotton_core::{FrameworkId, PortError};
use inbox::Inbox;
use state::{Session, State};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A scheduler's connection to Mesos. Dropping it ends the connection; the framework stays, for its failover timeout.
#[derive(Debug)]
pub struct HttpMesos {
    shared: Arc<Shared>,
    /// What keeps the subscription.
    keeper: Mutex<Option<JoinHandle<()>>>,
    /// Held while subscribing or tearing down.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    config: SchedulerConfig,
    client: Client,
    detector: Arc<dyn MasterDetector>,
    inbox: Inbox,
    state: Mutex<State>,
    /// Held while something is posted, so that Mesos gets all in order.
    posting: tokio::sync::Mutex<()>,
}

impl HttpMesos {
    /// Prepares a connection; [`Mesos::subscribe`] makes it.
    ///
    /// # Errors
    /// When the principal cannot be sent, the file with the authority's certificates is of no use, or there are no random
    /// numbers.
    pub fn new(config: SchedulerConfig, detector: Arc<dyn MasterDetector>) -> Result<Self, SchedulerError> {
        let client = Client::new(&config)?;
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let salt = getrandom::u32().map_err(SchedulerError::Random)?;
        // Two that begin within the same moment differ, too.
        let process = (u64::try_from(began).unwrap_or(0) << 16) | u64::from(salt & 0xffff);
        let (inbox, posting) = <(Inbox, tokio::sync::Mutex<()>)>::default();
        let state = Mutex::new(State::new(process));
        let shared = Arc::new(Shared { config, client, detector, inbox, state, posting });
        Ok(Self { shared, keeper: Mutex::default(), changing: tokio::sync::Mutex::default() })
    }

    /// Whether there is a subscription, and every change of that.
    pub fn subscribed(&self) -> watch::Receiver<bool> {
        self.shared.state().subscribed.subscribe()
    }

    /// Removes the framework: Mesos kills its tasks, and never takes it back under its id. There are no more events but
    /// those that came before.
    ///
    /// # Errors
    /// When Mesos did not confirm it; the connection goes on then.
    pub async fn teardown(&self) -> Result<(), PortError> {
        let _one_at_a_time = self.changing.lock().await;
        let refuse = |error: SchedulerError| error.into_port("tear the framework down");
        let session = {
            let mut state = self.shared.state();
            let session = state.session.clone().ok_or_else(|| refuse(SchedulerError::NotConnected))?;
            state.is_being_torn_down = true;
            session
        };
        let call = Call { framework_id: Some(Id::new(session.framework.as_str())), body: CallBody::Teardown };
        let result = {
            let _in_order = self.shared.posting.lock().await;
            // Masters end the subscription before they answer, so that is not waited for here.
            self.shared.client.call(&session.master, &session.stream_id, &call).await
        };
        if let Err(refusal) = result {
            self.shared.state().is_being_torn_down = false;
            return Err(refuse(refusal.into_error()));
        }
        self.end_keeper().await;
        self.shared.state().disconnect();
        self.shared.inbox.close(SchedulerError::TornDown(session.framework));
        Ok(())
    }

    async fn end_keeper(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            keeper.abort();
            let _cancelled = keeper.await;
        }
    }
}

impl Drop for HttpMesos {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner) {
            keeper.abort();
        }
    }
}

#[async_trait]
impl Mesos for HttpMesos {
    /// Returns when subscribed, or refused for good, or when the first attempt failed, or took too long; in the last two
    /// cases it goes on trying.
    async fn subscribe(&self, framework: Option<FrameworkId>) -> Result<(), PortError> {
        let _one_at_a_time = self.changing.lock().await;
        self.end_keeper().await;
        {
            let mut state = self.shared.state();
            state.disconnect();
            (state.framework, state.is_being_torn_down) = (framework, false);
        }
        self.shared.inbox.reset();
        let (sender, first) = oneshot::channel();
        let keeper = tokio::spawn(subscription::run(self.shared.clone(), sender));
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        match timeout(self.shared.config.call_timeout, first).await {
            Ok(Ok(Err(error))) => Err(error.into_port("subscribe to mesos")),
            _ => Ok(()),
        }
    }

    async fn next_event(&self) -> Result<MesosEvent, PortError> {
        self.shared.inbox.next().await.map_err(|error| error.into_port("receive from mesos"))
    }

    async fn call(&self, call: MesosCall) -> Result<(), PortError> {
        self.shared.call(call).await.map_err(|error| error.into_port("call mesos"))
    }
}

impl Shared {
    async fn call(&self, call: MesosCall) -> Result<(), SchedulerError> {
        let _in_order = self.posting.lock().await;
        if let Some(error) = self.inbox.closed() {
            return Err(error);
        }
        let (session, plan) = {
            let mut state = self.state();
            let session = state.session.clone().ok_or(SchedulerError::NotConnected)?;
            let plan = state.plan(&self.config, &session.framework, call);
            (session, plan)
        };
        self.inbox.push_all(plan.events);
        let mut result = Ok(());
        for body in plan.posts {
            match self.post(&session, body.clone()).await {
                Ok(()) => {}
                Err(Refusal::Unknown(error)) => {
                    tracing::warn!(call = body.name(), %error, "nobody knows whether Mesos took a call");
                }
                Err(Refusal::NotTaken(error)) => {
                    let events = self.state().on_refused(&body, &error.to_string());
                    self.inbox.push_all(events);
                    result = Err(error);
                }
            }
        }
        result
    }

    /// Posts a call, at most until the subscription is over. Gives that up when the master does not take its calls.
    async fn post(&self, session: &Session, body: CallBody) -> Result<(), Refusal> {
        let mut over = session.over.clone();
        if over.has_changed().is_err() {
            return Err(Refusal::NotTaken(SchedulerError::NotConnected));
        }
        let call = Call { framework_id: Some(Id::new(session.framework.as_str())), body };
        let result = tokio::select! {
            result = self.client.call(&session.master, &session.stream_id, &call) => result,
            _ = over.changed() => Err(Refusal::Unknown(SchedulerError::NotConnected)),
        };
        if let Err(refusal) = &result
            && refusal.ends_subscription()
        {
            let _said_before = session.lost.try_send(refusal.error().to_string());
        }
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
