//! An executor's connection to its agent, over the v1 HTTP API.
//!
//! Two tasks work behind [`HttpExecutorLink`]: one subscribes, reads events, and subscribes again when the stream ends;
//! the other posts the states that are not acknowledged yet, in order, and again until they are. What the agent may not
//! know goes along with every subscription, so neither side's restart loses a state or a task.

mod environment;

pub use environment::{EnvironmentError, ExecutorEnvironment, format_duration, parse_duration};

use crate::error::LinkError;
use crate::stream::RecordStream;
use crate::wire::common::{Base64, DurationInfo, Id, Source, TaskInfo, TaskState as WireState, TaskStatus};
use crate::wire::executor::{Call, CallBody, Event, Message, PATH, Subscribe, Update};
use async_trait::async_trait;
use bytes::Bytes;
use cotton_core::ports::executor_link::{ExecutorLink, LinkEvent};
use cotton_core::ports::mesos::TaskState;
use cotton_core::{PortError, TaskId};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Largest event that an agent may send.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// States that may wait for their acknowledgement. A task has only a handful of them.
const UNACKNOWLEDGED_MAX: usize = 256;
/// Events that may wait to be taken by the executor; then the connection is no longer read.
const EVENTS_MAX: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a state may stay unacknowledged before it is posted again.
const RESEND_AFTER: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
/// Longest pause between attempts to connect, when the agent does not ask for a shorter one. An agent that was restarted
/// ends executors that are not back within 2 s (by default), and allows pauses just as long; so that is no help.
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// How long the agent may take to be there for the first time.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_mins(1);
/// Silence that is never taken for a broken connection, whatever the pace of heartbeats.
const SILENCE_MIN: Duration = Duration::from_secs(20);

/// A connection to the agent that started this executor. Dropping it ends the connection.
#[derive(Debug)]
pub struct HttpExecutorLink {
    shared: Arc<Shared>,
    events: tokio::sync::Mutex<mpsc::Receiver<Result<LinkEvent, LinkError>>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    environment: ExecutorEnvironment,
    client: reqwest::Client,
    url: String,
    authorization: Option<HeaderValue>,
    state: Mutex<State>,
    /// Something may be there to post.
    wake: Notify,
    /// A closed link is to be tried again.
    reopen: Notify,
    /// Held while a call is posted, so that one kept-alive connection does for all.
    posting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    /// Why nothing can be said to the agent any more, unless the link is opened again.
    closed: Option<LinkError>,
    /// Whether that was told.
    told_closed: bool,
    /// Oldest first.
    unacknowledged: VecDeque<Pending>,
    /// Tasks of which no state was acknowledged yet.
    tasks: BTreeMap<String, TaskInfo>,
    /// How long tasks may take to end when a kill does not say.
    graces_ms: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Pending {
    status: TaskStatus,
    state: TaskState,
    uuid: Bytes,
    /// When to post it (again).
    due: Instant,
}

impl HttpExecutorLink {
    /// Starts to connect; [`LinkEvent::Connected`] says when it is done. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the authentication token cannot be sent in a header, or no HTTP client can be made.
    pub fn start(environment: ExecutorEnvironment) -> Result<Self, LinkError> {
        let mut authorization = None;
        if let Some(token) = &environment.token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| LinkError::Token)?;
            value.set_sensitive(true);
            authorization = Some(value);
        }
        let builder = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(1)
            .tcp_keepalive(Duration::from_secs(15));
        #[cfg(feature = "tls")]
        let builder = builder.tls_certs_only([]); // the agent speaks http, and the machine may have no authorities
        let client = builder.build().map_err(|error| LinkError::http("make a client", error))?;
        let url = format!("http://{}{PATH}", environment.agent);
        let (state, wake, posting) = <(Mutex<State>, Notify, tokio::sync::Mutex<()>)>::default();
        let reopen = Notify::new();
        let shared = Arc::new(Shared { environment, client, url, authorization, state, wake, reopen, posting });
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let reader = tokio::spawn(read_loop(shared.clone(), sender));
        let poster = tokio::spawn(post_loop(shared.clone()));
        Ok(Self { shared, events: tokio::sync::Mutex::new(receiver), tasks: [reader, poster] })
    }

    /// Who this executor is.
    pub fn environment(&self) -> &ExecutorEnvironment {
        &self.shared.environment
    }
}

impl Drop for HttpExecutorLink {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[async_trait]
impl ExecutorLink for HttpExecutorLink {
    async fn next_event(&self) -> Result<LinkEvent, PortError> {
        let mut events = self.events.lock().await;
        if self.shared.state().told_closed {
            return Err(self.shared.closed_error().into_port("receive from the agent"));
        }
        match events.recv().await {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let mut state = self.shared.state();
                state.told_closed = state.closed.is_some();
                Err(error.into_port("receive from the agent"))
            }
            None => Err(self.shared.closed_error().into_port("receive from the agent")),
        }
    }

    async fn update(&self, task: &TaskId, state: TaskState, message: &str) -> Result<(), PortError> {
        let refuse = |error: LinkError| error.into_port("tell the state of a task");
        let wire = match state {
            TaskState::Starting => WireState::TaskStarting,
            TaskState::Running => WireState::TaskRunning,
            TaskState::Killing => WireState::TaskKilling,
            TaskState::Finished => WireState::TaskFinished,
            TaskState::Killed => WireState::TaskKilled,
            TaskState::Failed => WireState::TaskFailed,
            TaskState::Staging
            | TaskState::Unreachable
            | TaskState::Unknown
            | TaskState::Dropped
            | TaskState::Lost
            | TaskState::Gone => {
                return Err(refuse(LinkError::NotForExecutors(state)));
            }
        };
        let uuid = crate::new_uuid().map_err(|error| refuse(LinkError::Random(error)))?;
        let status = TaskStatus {
            task_id: Id::new(task.as_str()),
            state: wire,
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
            source: Some(Source::SourceExecutor),
            reason: None,
            agent_id: None,
            executor_id: Some(Id::new(&self.shared.environment.executor)),
            timestamp: SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64()),
            uuid: Some(Base64(uuid.clone())),
        };
        {
            let mut shared = self.shared.state();
            if let Some(error) = &shared.closed {
                return Err(refuse(error.clone()));
            }
            if shared.unacknowledged.len() >= UNACKNOWLEDGED_MAX {
                return Err(refuse(LinkError::TooManyUpdates));
            }
            shared.unacknowledged.push_back(Pending { status, state, uuid, due: Instant::now() });
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    async fn send(&self, data: Bytes) -> Result<(), PortError> {
        let refuse = |error: LinkError| error.into_port("send to the scheduler");
        let connected = {
            let state = self.shared.state();
            if let Some(error) = &state.closed {
                return Err(refuse(error.clone()));
            }
            state.connected
        };
        if !connected {
            return Ok(());
        }
        self.shared.post(CallBody::Message { message: Message { data: Base64(data) } }).await.map_err(refuse)
    }

    fn reopen(&self) {
        let mut state = self.shared.state();
        if state.told_closed {
            (state.closed, state.told_closed) = (None, false);
            self.shared.reopen.notify_one();
        }
    }
}

/// Why a subscription ended.
enum End {
    /// It may come back.
    Lost(LinkError),
    /// It will not.
    Refused(LinkError),
    /// Nobody takes events any more.
    Unused,
}

type Events = mpsc::Sender<Result<LinkEvent, LinkError>>;

async fn read_loop(shared: Arc<Shared>, events: Events) {
    let environment = &shared.environment;
    let (mut lost_at, mut patience) = (Instant::now(), FIRST_CONNECT_TIMEOUT);
    let mut backoff = BACKOFF_FIRST;
    loop {
        let (end, was_connected) = shared.subscription(&events).await;
        if was_connected {
            patience = if environment.checkpoint { environment.recovery_timeout } else { Duration::ZERO };
            (lost_at, backoff) = (Instant::now(), BACKOFF_FIRST);
            if events.send(Ok(LinkEvent::Disconnected)).await.is_err() {
                return;
            }
        }
        let error = match end {
            End::Unused => return,
            End::Refused(error) => error,
            End::Lost(error) => {
                tracing::debug!(error = %error, "no connection to the agent");
                let left = patience.saturating_sub(lost_at.elapsed());
                if left.is_zero() {
                    LinkError::AgentGone { after: patience, cause: Box::new(error) }
                } else {
                    tokio::time::sleep(backoff.min(left)).await;
                    backoff = (backoff * 2).min(environment.backoff_max.clamp(BACKOFF_FIRST, BACKOFF_MAX));
                    continue;
                }
            }
        };
        // Only the executor knows whether it goes on without its agent: see `Input::AgentGone`.
        shared.state().closed = Some(error.clone());
        if events.send(Err(error)).await.is_err() {
            return;
        }
        shared.reopen.notified().await;
        (lost_at, backoff) = (Instant::now(), BACKOFF_FIRST);
    }
}

async fn post_loop(shared: Arc<Shared>) {
    loop {
        let woken = shared.wake.notified();
        let due = {
            let state = shared.state();
            let first = state.unacknowledged.iter().map(|pending| pending.due).min();
            first.filter(|_| state.connected && state.closed.is_none())
        };
        match due {
            Some(due) if due <= Instant::now() => shared.post_due().await,
            Some(due) => drop(tokio::time::timeout_at(due, woken).await),
            None => woken.await,
        }
    }
}

impl Shared {
    /// Subscribes and reads events until the end; also says whether the agent accepted the subscription.
    async fn subscription(&self, events: &Events) -> (End, bool) {
        let mut stream = match self.subscribe().await {
            Ok(response) => RecordStream::new(response, EVENT_BYTES_MAX),
            Err(end) => return (end, false),
        };
        let mut silence = Silence::default();
        let mut connected = false;
        let end = loop {
            let record = match stream.next(silence.limit()).await {
                Ok(record) => record,
                Err(end) => break End::Lost(end.into()),
            };
            let event = match serde_json::from_slice::<Event>(&record) {
                Ok(event) => event,
                Err(error) => break End::Lost(LinkError::event(error)),
            };
            connected |= matches!(event, Event::Subscribed { .. });
            silence.heard(&event);
            if let Err(end) = self.on_event(event, events).await {
                break end;
            }
        };
        self.state().connected = false;
        (end, connected)
    }

    async fn subscribe(&self) -> Result<reqwest::Response, End> {
        let subscribe = {
            let mut state = self.state();
            let resend = Instant::now() + RESEND_AFTER;
            state.unacknowledged.iter_mut().for_each(|pending| pending.due = resend);
            Subscribe {
                unacknowledged_tasks: state.tasks.values().cloned().collect(),
                unacknowledged_updates: state
                    .unacknowledged
                    .iter()
                    .map(|pending| Update { status: pending.status.clone() })
                    .collect(),
            }
        };
        let sent = timeout(CALL_TIMEOUT, self.request(CallBody::Subscribe { subscribe }).send()).await;
        let response = match sent {
            Err(_) => return Err(End::Lost(LinkError::Silent)),
            Ok(Err(error)) => return Err(End::Lost(LinkError::http("subscribe", error))),
            Ok(Ok(response)) => response,
        };
        match response.status() {
            StatusCode::OK => Ok(response),
            // An agent that has just been started knows its executors, or even its own routes, only a little later.
            status @ (StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE) => {
                Err(End::Lost(LinkError::status(status, response).await))
            }
            status if status.is_server_error() => Err(End::Lost(LinkError::status(status, response).await)),
            status => Err(End::Refused(LinkError::status(status, response).await)),
        }
    }

    async fn on_event(&self, event: Event, events: &Events) -> Result<(), End> {
        match event {
            Event::Subscribed { .. } => {
                self.state().connected = true;
                self.wake.notify_one();
                emit(events, LinkEvent::Connected).await
            }
            Event::Launch { launch } => self.on_launch(launch.task, events).await,
            Event::LaunchGroup { launch_group } => {
                for task in launch_group.task_group.tasks {
                    self.on_launch(task, events).await?;
                }
                Ok(())
            }
            Event::Kill { kill } => {
                let task = &kill.task_id.value;
                let grace = kill.kill_policy.and_then(|policy| policy.grace_period).map(DurationInfo::as_millis);
                let grace = grace.or_else(|| self.state().graces_ms.get(task).copied());
                let grace_ms = grace.unwrap_or_else(|| self.shutdown_grace_ms());
                emit(events, LinkEvent::Kill { task: TaskId::from(task.as_str()), grace_ms }).await
            }
            Event::Acknowledged { acknowledged } => {
                let found = {
                    let mut state = self.state();
                    state.tasks.remove(&acknowledged.task_id.value);
                    let at = state.unacknowledged.iter().position(|pending| pending.uuid == acknowledged.uuid.0);
                    at.and_then(|at| state.unacknowledged.remove(at))
                };
                match found {
                    Some(pending) => emit(events, LinkEvent::Acknowledged(pending.state)).await,
                    None => Ok(()),
                }
            }
            Event::Message { message } => emit(events, LinkEvent::Message(message.data.0)).await,
            Event::Shutdown => emit(events, LinkEvent::Shutdown { grace_ms: self.shutdown_grace_ms() }).await,
            Event::Error { error } => Err(End::Refused(LinkError::Agent(error.message))),
            Event::Heartbeat => Ok(()),
            Event::Unknown => {
                tracing::debug!("ignored an event of an unknown type");
                Ok(())
            }
        }
    }

    async fn on_launch(&self, task: TaskInfo, events: &Events) -> Result<(), End> {
        let id = task.task_id.value.clone();
        let data = task.data.clone().unwrap_or_default().0;
        {
            let mut state = self.state();
            let grace = task.kill_policy.and_then(|policy| policy.grace_period);
            state.graces_ms.extend(grace.map(|grace| (id.clone(), grace.as_millis())));
            state.tasks.insert(id.clone(), task);
        }
        emit(events, LinkEvent::Launch { task: TaskId::from(id.as_str()), data }).await
    }

    /// Posts what is due, oldest first, until one fails.
    async fn post_due(&self) {
        loop {
            let next = {
                let (mut state, now) = (self.state(), Instant::now());
                let found = state.unacknowledged.iter_mut().find(|pending| pending.due <= now);
                found.map(|pending| {
                    pending.due = now + RESEND_AFTER;
                    (pending.uuid.clone(), Update { status: pending.status.clone() })
                })
            };
            let Some((uuid, update)) = next else { return };
            if let Err(error) = self.post(CallBody::Update { update }).await {
                tracing::debug!(error = %error, "the agent did not take a state; it will be sent again");
                let retry = Instant::now() + self.environment.backoff_max.min(Duration::from_millis(500));
                let mut state = self.state();
                // Everything from here on waits, so that the order stays.
                let later = state.unacknowledged.iter_mut().skip_while(|pending| pending.uuid != uuid);
                later.for_each(|pending| pending.due = retry);
                return;
            }
        }
    }

    async fn post(&self, body: CallBody) -> Result<(), LinkError> {
        let _one_at_a_time = self.posting.lock().await;
        let exchange = async {
            let response = self.request(body).send().await.map_err(|error| LinkError::http("call", error))?;
            let status = response.status();
            if !status.is_success() {
                return Err(LinkError::status(status, response).await);
            }
            // Read to the end, so that the connection can be used again.
            response.bytes().await.map(drop).map_err(|error| LinkError::http("call", error))
        };
        timeout(CALL_TIMEOUT, exchange).await.unwrap_or(Err(LinkError::Silent))
    }

    fn request(&self, body: CallBody) -> reqwest::RequestBuilder {
        let call = Call {
            executor_id: Id::new(&self.environment.executor),
            framework_id: Id::new(self.environment.framework.as_str()),
            body,
        };
        let json = serde_json::to_vec(&call).expect("calls have only string keys");
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.header(ACCEPT, "application/json").body(json)
    }

    fn shutdown_grace_ms(&self) -> u64 {
        u64::try_from(self.environment.shutdown_grace.as_millis()).unwrap_or(u64::MAX)
    }

    fn closed_error(&self) -> LinkError {
        self.state().closed.clone().unwrap_or(LinkError::Closed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn emit(events: &Events, event: LinkEvent) -> Result<(), End> {
    events.send(Ok(event)).await.map_err(|_| End::Unused)
}

/// Tells a broken connection from a quiet one. Agents do not say how often they send heartbeats (those of Mesos: every
/// 30 minutes), so their pace is taken from the stream itself.
#[derive(Default)]
struct Silence {
    last: Option<Instant>,
    gap: Option<Duration>,
}

impl Silence {
    fn heard(&mut self, event: &Event) {
        if matches!(event, Event::Heartbeat) {
            let now = Instant::now();
            self.gap = self.last.map(|last| now - last).max(self.gap);
            self.last = Some(now);
        }
    }

    fn limit(&self) -> Duration {
        self.gap.map_or(Duration::from_hours(24), |gap| (gap * 4).max(SILENCE_MIN))
    }
}
