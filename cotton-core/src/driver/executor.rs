//! The executor's loop: facts in, persist, then effects; the only place on the agent that waits and reads a clock.
//!
//! Everything runs beside the loop: a hanging server, a slow disk or a slow agent delays no kill and no report.
//! One thread is enough; a server dies with the thread that started it, so the runtime's threads must live as long as
//! the executor does.

use crate::account::Accounts;
use crate::executor::{
    CallId, Effect, Executor, ExecutorConfig, ExecutorState, ExitReason, Failure, Input, Operation, Outcome,
};
use crate::ports::executor_link::{ExecutorLink, LinkEvent};
use crate::ports::mesos::TaskState;
use crate::ports::mysql::MySql;
use crate::protocol::{self, Identity, MemberTask, Question, ToExecutor};
use crate::{ErrorKind, Millis, PortError, Revision, TaskId};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

/// A probe that the adapter itself does not end counts as unanswered.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// Reports on their way at the same time; of further ones only the newest is kept.
const REPORTS_MAX: usize = 4;
/// First and longest pause before a failed save is repeated.
const SAVE_RETRY_MS: (u64, u64) = (50, 2_000);
/// For a clean stop when the link to the agent is lost for good.
const ORPHAN_GRACE_MS: u64 = 5_000;
/// Before a closed link is tried again. An agent that is back waits twice as long for its executors.
const LINK_PAUSE: Duration = Duration::from_secs(1);

/// Where one executor's state is kept safe over its death.
#[async_trait]
pub trait ExecutorMemory: Send + Sync {
    /// What was saved last; nothing before the first save.
    ///
    /// # Errors
    /// When it cannot be read. The member must then not be run: nobody knows what it has promised.
    async fn load(&self) -> Result<Option<ExecutorState>, PortError>;

    /// Replaces what was saved. When it returns, a crash of the machine does not undo it.
    ///
    /// # Errors
    /// When it is not certain to be durable; the old or the new state is kept, never a mixture.
    async fn save(&self, state: &ExecutorState) -> Result<(), PortError>;
}

/// Runs the member that the agent launches, until its task has ended.
///
/// `make_server` is called once, for the first task that is understood; when it fails, the task does.
///
/// # Errors
/// When the link to the agent is closed before the member had any data; one that may have some serves on without it.
pub async fn run<F>(
    config: ExecutorConfig,
    link: Arc<dyn ExecutorLink>,
    memory: Arc<dyn ExecutorMemory>,
    make_server: F,
) -> Result<ExitReason, PortError>
where
    F: FnOnce(MemberTask) -> Result<Arc<dyn MySql>, PortError>,
{
    let started = Instant::now();
    let (state, unusable) = match memory.load().await {
        Ok(state) => (state.unwrap_or_default(), None),
        Err(error) => (ExecutorState::default(), Some(error.chain())),
    };
    let mut running = Running {
        machine: Executor::new(config, state, Millis(0)),
        started,
        link,
        memory,
        server: None,
        make_server: Some(make_server),
        member: None,
        accounts: None,
        identity: None,
        unusable,
        lost: None,
        link_pause: None,
        jobs: FuturesUnordered::new(),
        boots: VecDeque::new(),
        watch: None,
        save: None,
        save_failures: 0,
        updates: VecDeque::new(),
        update: None,
        reports: FuturesUnordered::new(),
        next_report: None,
    };
    running.run().await
}

type Job<T> = BoxFuture<'static, T>;

struct Running<F> {
    machine: Executor,
    started: Instant,
    link: Arc<dyn ExecutorLink>,
    memory: Arc<dyn ExecutorMemory>,
    server: Option<Arc<dyn MySql>>,
    make_server: Option<F>,
    /// What it was launched to run.
    member: Option<MemberTask>,
    /// What its server was told of accounts last.
    accounts: Option<Accounts>,
    /// The answer to a scheduler that has no record of that.
    identity: Option<Bytes>,
    /// Why no task can be run here.
    unusable: Option<String>,
    /// Why the link is gone for good.
    lost: Option<PortError>,
    /// A closed link is tried again after this.
    link_pause: Option<Job<()>>,
    /// Operations, probes and kills.
    jobs: FuturesUnordered<Job<Done>>,
    /// Starts whose end is still to come, in order; the first one is being watched.
    boots: VecDeque<u64>,
    watch: Option<Job<Input>>,
    save: Option<Job<(Revision, Result<(), PortError>)>>,
    save_failures: u32,
    updates: VecDeque<(TaskId, TaskState, String)>,
    update: Option<Job<()>>,
    reports: FuturesUnordered<Job<()>>,
    next_report: Option<Bytes>,
}

/// The answer to an effect.
struct Done {
    input: Input,
    /// The start of the server that it completed.
    booted: Option<u64>,
}

/// What the loop woke up for.
enum Woken {
    Ended(Input),
    Done(Done),
    Event(Result<LinkEvent, PortError>),
    Saved(Revision, Result<(), PortError>),
    Sent,
    Timeout,
}

impl<F> Running<F>
where
    F: FnOnce(MemberTask) -> Result<Arc<dyn MySql>, PortError>,
{
    async fn run(&mut self) -> Result<ExitReason, PortError> {
        loop {
            while let Some(effect) = self.machine.poll_effect() {
                if let Effect::Exit(reason) = effect {
                    info!(?reason, "executor ends");
                    return self.lost.take().map_or(Ok(reason), Err);
                }
                self.carry_out(effect);
            }
            self.begin_jobs();
            match self.woken().await {
                Woken::Ended(input) | Woken::Done(Done { input, booted: None }) => self.feed(input),
                Woken::Done(Done { input, booted: Some(boot) }) => {
                    self.boots.push_back(boot);
                    self.feed(input);
                }
                Woken::Event(Ok(event)) => self.on_event(event),
                Woken::Event(Err(error)) => self.on_link_closed(error),
                Woken::Saved(revision, result) => self.on_saved(revision, result),
                Woken::Sent => {}
                Woken::Timeout => self.machine.handle_timeout(self.now()),
            }
        }
    }

    /// Waits for whatever comes first; of several, the end of the server.
    async fn woken(&mut self) -> Woken {
        let due = self.machine.poll_timeout().map(|at| self.started + Duration::from_millis(at.0));
        tokio::select! {
            biased;
            input = job(&mut self.watch) => {
                self.watch = None;
                Woken::Ended(input)
            }
            Some(done) = self.jobs.next(), if !self.jobs.is_empty() => Woken::Done(done),
            event = self.link.next_event(), if self.lost.is_none() && self.link_pause.is_none() => Woken::Event(event),
            () = job(&mut self.link_pause) => {
                self.link_pause = None;
                Woken::Sent
            }
            (revision, result) = job(&mut self.save) => {
                self.save = None;
                Woken::Saved(revision, result)
            }
            () = job(&mut self.update) => {
                self.update = None;
                Woken::Sent
            }
            Some(()) = self.reports.next(), if !self.reports.is_empty() => Woken::Sent,
            () = sleep_until(due.unwrap_or(self.started)), if due.is_some() => Woken::Timeout,
        }
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn feed(&mut self, input: Input) {
        if let Input::Exited { boot, exit } = &input {
            info!(boot, exit = %exit.description, expected = exit.expected, "server ended");
        }
        self.machine.handle(self.now(), input);
    }

    fn on_link_closed(&mut self, error: PortError) {
        warn!(error = %error.chain(), "the link to the agent is closed");
        self.feed(Input::AgentGone { grace_ms: ORPHAN_GRACE_MS });
        if self.machine.is_ending() {
            self.lost = Some(error);
        } else {
            let link = Arc::clone(&self.link);
            self.link_pause = Some(Box::pin(async move {
                sleep(LINK_PAUSE).await;
                link.reopen();
            }));
        }
    }

    fn on_event(&mut self, event: LinkEvent) {
        let input = match event {
            LinkEvent::Connected => Input::Connected,
            LinkEvent::Disconnected => Input::Disconnected,
            LinkEvent::Launch { task, data } => self.launch(task, &data),
            LinkEvent::Kill { task, grace_ms } => Input::Kill { task, grace_ms },
            LinkEvent::Acknowledged(state) => Input::Acknowledged(state),
            LinkEvent::Shutdown { grace_ms } => Input::Shutdown { grace_ms },
            LinkEvent::Message(data) => match protocol::decode(&data) {
                Ok(ToExecutor::Accounts { revision, user, accounts }) => {
                    let told = Accounts { revision, user: user.clone(), others: accounts.clone() };
                    self.accounts = Some(told.clone());
                    if let Some(server) = &self.server {
                        server.set_accounts(told);
                    }
                    Input::Message(ToExecutor::Accounts { revision, user, accounts })
                }
                Ok(message) => Input::Message(message),
                Err(error) => match protocol::decode(&data) {
                    Ok(Question::Identify) => return self.identify(),
                    Err(_) => return warn!(%error, "a message of the scheduler is ignored"),
                },
            },
        };
        self.feed(input);
    }

    fn launch(&mut self, task: TaskId, data: &[u8]) -> Input {
        let Some(make_server) = self.make_server.take() else { return Input::Launch { task } };
        let made = match self.unusable.take() {
            Some(reason) => Err(reason),
            None => match protocol::decode::<MemberTask>(data) {
                Ok(member) => {
                    self.member = Some(member.clone());
                    make_server(member).map_err(|error| error.chain())
                }
                Err(error) => Err(format!("the task is not understood: {error}")),
            },
        };
        match made {
            Ok(server) => {
                self.server = Some(server);
                Input::Launch { task }
            }
            Err(reason) => Input::Refused { task, reason },
        }
    }

    /// Says what it was launched to run.
    fn identify(&mut self) {
        let identity = self.member.clone().map(|identity| Identity { identity, accounts: self.accounts.clone() });
        self.identity = identity.map(|identity| protocol::encode(&identity).into());
    }

    fn carry_out(&mut self, effect: Effect) {
        debug!(effect = effect.name(), "carried out");
        match effect {
            Effect::Operate { id, operation } => self.operate(id, operation),
            Effect::Probe { id } => {
                let server = self.server();
                self.jobs.push(Box::pin(async move {
                    let unanswered = PortError::temporary(ErrorKind::Timeout, "probe the server", "");
                    let result = timeout(PROBE_LIMIT, server.probe()).await.unwrap_or(Err(unanswered));
                    let result = result.map_err(|error| Failure::from(&error));
                    Done { input: Input::Probed { id, result }, booted: None }
                }));
            }
            Effect::Kill { id, reason } => {
                info!(reason, "server is killed");
                let server = self.server.clone();
                self.jobs.push(Box::pin(async move {
                    if let Some(server) = server {
                        server.kill().await;
                    }
                    Done { input: Input::Killed { id }, booted: None }
                }));
            }
            Effect::Report(report) => self.next_report = Some(protocol::encode(&report).into()),
            Effect::Update { task, state, message } => self.updates.push_back((task, state, message)),
            Effect::Warn(text) => warn!("{text}"),
            Effect::Exit(_) => unreachable!("handled by the loop"),
        }
    }

    fn operate(&mut self, id: CallId, operation: Operation) {
        info!(operation = operation.name(), "begun");
        let server = self.server();
        self.jobs.push(Box::pin(async move {
            match perform(&*server, &operation).await {
                Ok(outcome) => {
                    let booted = match operation {
                        Operation::Start { boot, .. } | Operation::CopyFrom { boot, .. } => Some(boot),
                        Operation::Provision
                        | Operation::Freeze { .. }
                        | Operation::StepDown { .. }
                        | Operation::Drain { .. }
                        | Operation::Promote { .. }
                        | Operation::Follow { .. }
                        | Operation::Stop { .. } => None,
                    };
                    Done { input: Input::Finished { id, outcome }, booted }
                }
                Err(error) => {
                    warn!(operation = operation.name(), error = %error.chain(), "failed");
                    let outcome = Outcome::Failed(Failure::from(&error));
                    Done { input: Input::Finished { id, outcome }, booted: None }
                }
            }
        }));
    }

    /// Begins what has to be done in order, or a bounded number of times at once.
    fn begin_jobs(&mut self) {
        // The adapter tells the end of each start in the order of the starts.
        if self.watch.is_none()
            && let Some(boot) = self.boots.pop_front()
        {
            let server = self.server();
            self.watch = Some(Box::pin(async move { Input::Exited { boot, exit: server.exited().await } }));
        }
        if self.save.is_none() {
            self.begin_save();
        }
        if self.update.is_none()
            && let Some((task, state, message)) = self.updates.pop_front()
        {
            let link = Arc::clone(&self.link);
            self.update = Some(Box::pin(async move {
                if let Err(error) = link.update(&task, state, &message).await {
                    warn!(error = %error.chain(), ?state, "the agent was not told the state of the task");
                }
            }));
        }
        if self.reports.len() < REPORTS_MAX
            && let Some(report) = self.identity.take().or_else(|| self.next_report.take())
        {
            let link = Arc::clone(&self.link);
            self.reports.push(Box::pin(async move {
                if let Err(error) = link.send(report).await {
                    debug!(error = %error.chain(), "a report did not leave"); // the next one says it all again
                }
            }));
        }
    }

    fn begin_save(&mut self) {
        let Some((revision, state)) = self.machine.checkpoint() else { return };
        let (state, memory) = (state.clone(), Arc::clone(&self.memory));
        let pause = match self.save_failures {
            0 => 0,
            failures => (SAVE_RETRY_MS.0 << (failures - 1).min(10)).min(SAVE_RETRY_MS.1),
        };
        self.save = Some(Box::pin(async move {
            if pause > 0 {
                sleep(Duration::from_millis(pause)).await;
            }
            (revision, memory.save(&state).await)
        }));
    }

    fn on_saved(&mut self, revision: Revision, result: Result<(), PortError>) {
        match result {
            Ok(()) => {
                self.save_failures = 0;
                self.machine.handle_persisted(revision);
            }
            Err(error) => {
                self.save_failures = self.save_failures.saturating_add(1);
                warn!(error = %error.chain(), "state was not saved");
                self.feed(Input::PersistFailed(Failure::from(&error)));
            }
        }
    }

    /// The machine operates no server before it was given one.
    fn server(&self) -> Arc<dyn MySql> {
        Arc::clone(self.server.as_ref().expect("a server is made before its task is launched"))
    }
}

async fn perform(server: &dyn MySql, operation: &Operation) -> Result<Outcome, PortError> {
    Ok(match operation {
        Operation::Provision => server.provision().await.map(|()| Outcome::Done)?,
        Operation::Start { replaced: false, .. } => Outcome::Started(server.start().await?),
        Operation::Start { replaced: true, .. } => Outcome::Started(server.start_replaced().await?),
        Operation::Freeze { .. } => Outcome::Frozen(server.freeze().await?),
        Operation::StepDown { grace_ms, .. } => Outcome::Frozen(server.step_down(*grace_ms).await?),
        Operation::Drain { budget_ms, .. } => Outcome::Drained(server.drain(*budget_ms).await?),
        Operation::Promote { promotion, .. } => Outcome::Promoted(server.promote(promotion).await?),
        Operation::Follow { following, .. } => Outcome::Followed(server.follow(following).await?),
        Operation::CopyFrom { donor, .. } => match server.copy_from(donor).await {
            Ok(started) => Outcome::Started(started),
            Err(error) => {
                server.kill().await; // an adapter that could not even begin may have left it running
                return Err(error);
            }
        },
        Operation::Stop { grace_ms } => {
            server.stop(*grace_ms).await;
            Outcome::Done
        }
    })
}

/// The result of a job that may not be there; without one, waits for ever.
async fn job<T>(job: &mut Option<Job<T>>) -> T {
    match job {
        Some(job) => job.await,
        None => std::future::pending().await,
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
