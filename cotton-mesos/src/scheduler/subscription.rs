//! Subscribing, reading events, and subscribing again.

use super::Shared;
use super::error::SchedulerError;
use super::state::{Plan, Session};
use super::translate;
use crate::stream::RecordStream;
use crate::wire::common::Id;
use crate::wire::scheduler::call::{Call, CallBody};
use crate::wire::scheduler::event::{Event, Failure, Subscribed};
use cotton_core::ports::mesos::MesosEvent;
use cotton_core::{AgentId, Endpoint, FrameworkId};
use reqwest::header::HeaderValue;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Largest event: the states of a large cluster's offers fit in easily.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// A subscription that lasted for so long was a good one: the next attempt comes soon again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// How often in a row one master may point to another.
const REDIRECTS_MAX: usize = 5;
/// The pace of heartbeats, when the master does not say.
const HEARTBEATS_EVERY: Duration = Duration::from_secs(15);

/// Who waits to learn whether the first attempt was refused.
type First = Option<oneshot::Sender<Result<(), SchedulerError>>>;

/// Stays subscribed until refused for good.
pub(super) async fn run(shared: Arc<Shared>, first: oneshot::Sender<Result<(), SchedulerError>>) {
    let mut first = Some(first);
    let (mut backoff, mut failures, mut redirects) = (BACKOFF_FIRST, 0u32, 0usize);
    let mut redirected: Option<Endpoint> = None;
    loop {
        let began = Instant::now();
        let (error, detected) = match shared.detector.leader().await {
            Err(error) => (SchedulerError::Detector(Arc::new(error)), None),
            Ok(detected) => {
                let master = redirected.take().unwrap_or_else(|| detected.clone());
                let error = tokio::select! {
                    error = shared.subscription(&master, &mut first) => error,
                    () = shared.detector.changed(&detected) => SchedulerError::LeaderChanged,
                };
                if let SchedulerError::Redirected(to) = &error
                    && redirects < REDIRECTS_MAX
                {
                    tracing::debug!(from = %master, %to, "redirected to the leading master");
                    redirects += 1;
                    redirected = Some(to.clone());
                    continue;
                }
                (error, Some(detected))
            }
        };
        redirects = 0;
        let was_subscribed = shared.disconnect();
        if error.is_permanent() {
            tracing::error!(error = %chain(&error), "Mesos is lost for good");
            shared.inbox.close(error.clone());
            if let Some(first) = first.take() {
                let _nobody_waits = first.send(Err(error));
            }
            return;
        }
        if let Some(first) = first.take() {
            let _nobody_waits = first.send(Ok(())); // not refused, just not possible yet
        }
        let is_new_leader = matches!(error, SchedulerError::LeaderChanged);
        if is_new_leader || (was_subscribed && began.elapsed() >= GOOD_AFTER) {
            (backoff, failures) = (BACKOFF_FIRST, 0);
        }
        failures += 1;
        if was_subscribed || failures == 1 {
            tracing::warn!(error = %chain(&error), "no connection to Mesos; trying again");
        } else {
            tracing::debug!(error = %chain(&error), failures, "no connection to Mesos");
        }
        let pause = tokio::time::sleep(backoff);
        backoff = (backoff * 2).min(shared.config.backoff_max.max(BACKOFF_FIRST));
        match detected {
            Some(master) if !is_new_leader => {
                shared.detector.failed(&master);
                // The pause is for this master.
                tokio::select! { () = pause => {}, () = shared.detector.changed(&master) => backoff = BACKOFF_FIRST }
            }
            _ => pause.await,
        }
    }
}

impl Shared {
    /// Subscribes and reads events until the end; says why it ended.
    async fn subscription(self: &Arc<Self>, master: &Endpoint, first: &mut First) -> SchedulerError {
        let framework = self.state().framework.clone();
        if let Err(error) = self.check_roles(master, framework.as_ref()).await {
            return error;
        }
        let subscribe = translate::subscribe(&self.config, framework.as_ref());
        let framework_id = framework.map(|id| Id::new(id.as_str()));
        let call = Call { framework_id, body: CallBody::Subscribe { subscribe } };
        let (response, stream_id) = match self.client.subscribe(master, &call).await {
            Ok(subscribed) => subscribed,
            Err(error) => return error,
        };
        let (lost, mut losses) = mpsc::channel(1);
        let reading = self.read_events(RecordStream::new(response, EVENT_BYTES_MAX), master, stream_id, lost, first);
        tokio::select! {
            error = reading => error,
            Some(reason) = losses.recv() => SchedulerError::Stale(reason),
        }
    }

    async fn read_events(
        self: &Arc<Self>,
        mut stream: RecordStream,
        master: &Endpoint,
        stream_id: HeaderValue,
        lost: mpsc::Sender<String>,
        first: &mut First,
    ) -> SchedulerError {
        let mut silence_max = self.config.call_timeout;
        // Gone with this call, which tells those that wait for an answer to theirs.
        let (_alive, over) = watch::channel(());
        loop {
            let record = match stream.next(silence_max).await {
                Ok(record) => record,
                Err(end) => return end.into(),
            };
            let event = match serde_json::from_slice::<Event>(&record) {
                Ok(event) => event,
                Err(error) => return SchedulerError::Event(Arc::new(error)),
            };
            if let Event::Error { error } = event {
                return self.on_error(error.message);
            }
            if let Event::Subscribed { subscribed } = event {
                silence_max = heartbeat_limit(&subscribed);
                let framework = FrameworkId::from(subscribed.framework_id.value.as_str());
                let (master, stream_id) = (master.clone(), stream_id.clone());
                let session = Session { framework, master, stream_id, lost: lost.clone(), over: over.clone() };
                let is_back = {
                    let state = self.state();
                    state.framework.as_ref() == Some(&session.framework) && !state.has_subscribed
                };
                if is_back {
                    self.update_framework(&session).await;
                }
                if let Err(error) = self.on_subscribed(session) {
                    return error;
                }
                if let Some(first) = first.take() {
                    let _nobody_waits = first.send(Ok(()));
                }
            } else if !matches!(event, Event::Heartbeat) {
                if self.state().session.is_none() {
                    return SchedulerError::NotAMaster("its first event is not SUBSCRIBED");
                }
                self.inbox.room().await;
                self.on_event(event);
            }
        }
    }

    fn on_subscribed(self: &Arc<Self>, session: Session) -> Result<(), SchedulerError> {
        let framework = session.framework.clone();
        let mut state = self.state();
        if let Some(expected) = state.framework.clone().filter(|known| *known != framework) {
            return Err(SchedulerError::OtherFramework { expected, found: framework });
        }
        tracing::info!(%framework, master = %session.master, "subscribed");
        let plan = state.on_subscribed(session);
        drop(state);
        self.follow(plan);
        Ok(())
    }

    /// Every error event is the end: Mesos sends it when it will not have the framework, or not any more.
    fn on_error(&self, message: String) -> SchedulerError {
        let (framework, by_us) = {
            let state = self.state();
            (state.framework.clone(), state.is_being_torn_down)
        };
        match framework {
            Some(framework) if message.contains("has been removed") && by_us => SchedulerError::TornDown(framework),
            Some(framework) if message.contains("has been removed") => SchedulerError::Removed(framework),
            Some(framework) if message.contains("failed over") => SchedulerError::Superseded(framework),
            _ => SchedulerError::Master(message),
        }
    }

    fn on_event(self: &Arc<Self>, event: Event) {
        match event {
            Event::Offers { offers } => {
                let plan = self.state().on_offers(offers.offers, SystemTime::now());
                self.follow(plan);
            }
            Event::Rescind { rescind } => {
                let plan = self.state().on_rescind(&rescind.offer_id.value);
                self.follow(plan);
            }
            Event::Update { update } => {
                let event = self.state().on_update(update);
                self.inbox.push(event);
            }
            Event::Message { message } => {
                let task = message.executor_id.value.as_str().into();
                self.inbox.push(MesosEvent::Message { task, data: message.data.0 });
            }
            Event::Failure { failure: Failure { agent_id: Some(agent), executor_id: None, .. } } => {
                self.inbox.push(MesosEvent::AgentLost(AgentId::from(agent.value.as_str())));
            }
            // The state of its task says the same, and is repeated until acknowledged.
            Event::Failure { failure } => tracing::debug!(?failure, "an executor ended"),
            Event::InverseOffers { inverse_offers } => {
                let plan = self.state().on_inverse_offers(inverse_offers.inverse_offers, SystemTime::now());
                self.follow(plan);
            }
            Event::RescindInverseOffer { rescind_inverse_offer } => {
                let id = rescind_inverse_offer.inverse_offer_id.value;
                let event = self.state().on_rescind_inverse_offer(&id);
                self.inbox.push_all(event);
            }
            Event::UpdateOperationStatus { update_operation_status } => {
                let status = update_operation_status.status;
                tracing::debug!(?status, "news of an operation");
                let plan = self.state().on_operation(status);
                self.follow(plan);
            }
            Event::Unknown => tracing::debug!("ignored an event of an unknown type"),
            // Seen to before.
            Event::Subscribed { .. } | Event::Error { .. } | Event::Heartbeat => {}
        }
    }

    fn follow(self: &Arc<Self>, plan: Plan) {
        self.inbox.push_all(plan.events);
        plan.posts.into_iter().for_each(|body| self.post_later(body));
    }

    /// Posts what follows from an event. Without success, the offers that it is about come back when they time out.
    fn post_later(self: &Arc<Self>, body: CallBody) {
        let this = self.clone();
        tokio::spawn(async move {
            let _in_order = this.posting.lock().await;
            let Some(session) = this.state().session.clone() else { return };
            if let Err(refusal) = this.post(&session, body).await {
                tracing::debug!(error = %refusal.error(), "the master did not take a call");
            }
        });
    }

    /// The subscription is over.
    pub(super) fn disconnect(&self) -> bool {
        let was_subscribed = self.state().disconnect();
        if was_subscribed {
            self.inbox.push(MesosEvent::Disconnected);
        }
        was_subscribed
    }
}

/// How long a living master is silent at most: one heartbeat may be late, none may be missed.
fn heartbeat_limit(subscribed: &Subscribed) -> Duration {
    let interval = subscribed.heartbeat_interval_seconds.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    interval.filter(|interval| !interval.is_zero()).unwrap_or(HEARTBEATS_EVERY).mul_f64(1.5) + Duration::from_secs(1)
}

/// An error and its causes on one line.
fn chain(error: &SchedulerError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
