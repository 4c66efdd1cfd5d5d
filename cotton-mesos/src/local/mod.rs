//! A master and agents within this process, behind the same port as a real Mesos.
//!
//! Each agent serves the executor API of Mesos on a port of its own on the loopback interface, and starts executors as
//! processes of their own, which outlive this one. See [`Local`] for what is promised about that.

mod config;
mod executors;
mod leftovers;
mod offers;
mod process;
mod scheduler;
mod server;
mod store;
mod task;
mod volume_files;
mod volumes;
mod world;

pub use config::{AgentConfig, ExecutorCommand, LocalConfig};
pub use leftovers::{Leftover, LeftoverKind, NotOurs};
pub use process::PATH;
pub use store::Remembered;

use crate::error::{ConfigError, Error};
use crate::executor::format_duration;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cotton_core::ports::mesos::{Mesos, MesosCall, MesosEvent};
use cotton_core::{AgentId, ErrorKind, FrameworkId, PortError, TaskId};
use process::{Process, Program};
use rustix::process::Signal;
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use store::{Framework, Store, TaskRecord};
use subtle::ConstantTimeEq;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use volume_files::VolumeRecord;
use world::{Action, Phase, Verdict, World};

/// Where the agents' APIs listen: below the ports that the kernel gives to outgoing connections. An executor that tries
/// to reach an absent agent on one of those would now and then be connected with itself.
const API_PORTS: std::ops::Range<u16> = 21_000..29_000;

/// How long a process that was killed may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often, and how many times, the port of an earlier life is tried.
const BIND_RETRY: Duration = Duration::from_millis(10);
const BIND_TRIES_MAX: u32 = 50;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A master and agents within this process.
///
/// - Executors are processes of their own. When this one is killed at any moment, they live on; opened again on the same
///   directory, their agents are back on the same ports, and they subscribe again.
/// - A task whose executor no longer runs when the directory is opened (after [`Local::shutdown`], or a reboot) is
///   started again in its old sandbox. One whose executor ends while this process runs has failed.
/// - Dropping it ends the agents as if this process had been killed.
#[derive(Debug)]
pub struct Local {
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
    servers: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<LocalConfig>,
    store: Store,
    /// What executors show to be let in.
    token: SecretString,
    /// Held while a file of a task is written, so that an older record never replaces a newer one. Taken before `world`.
    saving: Mutex<()>,
    world: Mutex<World>,
    /// Held for reading while an executor is being started.
    starting: RwLock<()>,
    /// Events wait to be taken.
    events: Notify,
    /// The next timeout may have changed.
    timer: Notify,
    /// An executor has ended.
    exits: Notify,
    /// A volume was removed.
    removed: Notify,
    runtime: tokio::runtime::Handle,
}

impl Local {
    /// Brings the agents up, with the tasks that they remember.
    ///
    /// # Errors
    /// When the configuration makes no sense, another process works on the directory, a file in it is damaged, or the
    /// port of an agent is taken.
    ///
    /// # Panics
    /// When called outside of a tokio runtime that has I/O and time enabled.
    pub fn open(config: LocalConfig) -> Result<Self, Error> {
        config.validate()?;
        let store = Store::open(&config.dir)?;
        let life = crate::new_uuid().map_err(Error::Random)?;
        let life = u64::from_be_bytes(std::array::from_fn(|at| life[at]));
        let framework = if let Some(framework) = store.framework()? {
            framework
        } else {
            let mut token = [0u8; 32];
            getrandom::fill(&mut token).map_err(Error::Random)?;
            let framework = Framework { id: format!("local-{life:016x}"), token: STANDARD.encode(token).into() };
            store.save_framework(&framework)?;
            framework
        };
        let configured = |id: &AgentId| config.agents.iter().any(|agent| agent.id == *id);
        if let Some(missing) = store.agents_with_tasks()?.into_iter().find(|id| !configured(id)) {
            return Err(ConfigError::AgentMissing(missing.to_string()).into());
        }
        let config = Arc::new(config);
        let mut world = World::new(config.clone(), FrameworkId::from(framework.id.as_str()), format!("{life:016x}"));
        let (mut listeners, mut adopted) = (Vec::new(), Vec::new());
        let running = process::find_executors().map_err(|error| Error::file("read", "/proc", error))?;
        for agent in &config.agents {
            store.make_agent(&agent.id)?;
            for ended in store.ended(&agent.id)? {
                store.keep_data(&agent.id, &ended)?;
            }
            store.collect(&agent.id, config.sandboxes_kept, config.sandboxes_kept_for)?;
            let (listener, port) = listen(&store, &agent.id)?;
            listeners.push((agent.id.clone(), listener));
            let mut tasks = Vec::new();
            for mut record in store.tasks(&agent.id)? {
                let key = (store.sandbox(&agent.id, &record.task), record.task.as_str().to_owned());
                let process = match running.get(&key).map(|pid| Process::open(*pid)).transpose() {
                    Ok(process) => process,
                    Err(error) if process::is_gone(&error) => None,
                    Err(error) => return Err(Error::file("watch the executor in", key.0, error)),
                };
                if process.is_none() {
                    let kept = store.keep_data(&agent.id, &record)?;
                    record.volume = record.volume.or(kept);
                }
                if let Some(process) = &process {
                    // It may have been stopped as a part of a simulated partition.
                    process::signal_tree(process.pid, Signal::CONT)?;
                }
                tasks.push((record.clone(), process.as_ref().map(|process| process.pid)));
                adopted.extend(process.map(|process| (agent.id.clone(), record.task, process)));
            }
            world.add_agent(Instant::now(), agent.clone(), port, tasks, store.volumes(&agent.id)?);
        }
        let inner = Arc::new(Inner {
            config,
            store,
            token: framework.token,
            saving: Mutex::default(),
            world: Mutex::new(world),
            starting: RwLock::default(),
            events: Notify::new(),
            timer: Notify::new(),
            exits: Notify::new(),
            removed: Notify::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        let stop = watch::Sender::new(false);
        let serve = |(agent, listener)| {
            inner.runtime.spawn(server::serve(Arc::downgrade(&inner), agent, listener, stop.subscribe()))
        };
        let servers = Mutex::new(listeners.into_iter().map(serve).collect());
        for (agent, task, process) in adopted {
            inner.watch(agent, task, process);
        }
        inner.runtime.spawn(keep_time(inner.clone(), stop.subscribe()));
        inner.run(|_, _| ());
        Ok(Self { inner, stop, servers })
    }

    /// What agents remember in a directory, without starting or changing anything there.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn remembered(dir: &std::path::Path) -> Result<Remembered, Error> {
        Store::remembered(dir)
    }

    /// Ends all executors cleanly. Their tasks are started again when the directory is opened the next time; the
    /// scheduler is told nothing. What has not ended after the grace period is killed.
    pub async fn shutdown(&self, grace: Duration) {
        let ids: Vec<AgentId> = self.inner.config.agents.iter().map(|agent| agent.id.clone()).collect();
        for id in ids {
            if let Err(error) = self.restore_agent(&id).await {
                tracing::warn!(agent = %id, error = %error, "could not wake an agent for its shutdown");
            }
        }
        self.inner.run(|world, now| world.shut_down(now, grace));
        let all_ended = async {
            loop {
                let exit = self.inner.exits.notified();
                if !self.inner.world().has_processes() {
                    break;
                }
                exit.await;
            }
        };
        if tokio::time::timeout(grace + KILL_TIMEOUT, all_ended).await.is_err() {
            tracing::error!("some executors do not end, although they were killed");
        }
    }

    /// Ends the agents as dropping does, and waits until their ports are free again. Executors live on.
    pub async fn close(&self) {
        self.stop();
        let servers = std::mem::take(&mut *self.servers.lock().unwrap_or_else(PoisonError::into_inner));
        for server in servers {
            // A connection that is not closed by the other side is no reason to wait for long.
            let _slow = tokio::time::timeout(CLOSE_TIMEOUT, server).await;
        }
    }

    /// Kills an agent: its executors and all that they started get SIGKILL, and its tasks are gone for good.
    ///
    /// # Errors
    /// When there is no such agent, or a process may not be signalled.
    pub async fn kill_agent(&self, agent: &AgentId) -> Result<(), Error> {
        let pids = self.pids(agent)?;
        // First of all, so that nothing that the end of its executors brings about is told.
        self.inner.run(|world, now| world.agent_dead(now, agent));
        signal_all(pids, Signal::KILL).await
    }

    /// Cuts an agent off, as a lost network would: its executors and all that they started are stopped, connections to
    /// them stay open and silent, and the agent says nothing any more.
    ///
    /// # Errors
    /// When there is no such agent, or a process may not be signalled.
    pub async fn cut_agent(&self, agent: &AgentId) -> Result<(), Error> {
        let pids = self.pids(agent)?;
        self.inner.run(|world, now| world.cut(now, agent));
        signal_all(pids, Signal::STOP).await
    }

    /// Brings back an agent that was cut off or killed; the latter without its tasks.
    ///
    /// # Errors
    /// When there is no such agent, or a process may not be signalled.
    pub async fn restore_agent(&self, agent: &AgentId) -> Result<(), Error> {
        signal_all(self.pids(agent)?, Signal::CONT).await?;
        self.inner.run(|world, now| world.restore(now, agent));
        Ok(())
    }

    /// The working directory of a task's executor.
    pub fn sandbox(&self, agent: &AgentId, task: &TaskId) -> PathBuf {
        self.inner.store.sandbox(agent, task)
    }

    /// The process of a task's executor, while it runs.
    pub fn executor_pid(&self, task: &TaskId) -> Option<u32> {
        self.inner.world().pid_of(task).and_then(|pid| u32::try_from(pid).ok())
    }

    fn stop(&self) {
        self.inner.world().close();
        // What has begun before that is awaited; nothing begins after it.
        drop(self.inner.starting.write());
        drop(self.inner.saving.lock());
        self.inner.store.unlock();
        self.stop.send_replace(true);
        self.inner.events.notify_one();
    }

    fn pids(&self, agent: &AgentId) -> Result<Vec<i32>, Error> {
        self.inner.world().pids(agent).ok_or_else(|| Error::NoSuchAgent(agent.to_string()))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stop();
    }
}

#[async_trait]
impl Mesos for Local {
    async fn subscribe(&self, framework: Option<FrameworkId>) -> Result<(), PortError> {
        let (ours, has_tasks) = {
            let world = self.inner.world();
            (world.framework.clone(), world.has_tasks())
        };
        if let Some(theirs) = framework.filter(|id| *id != ours) {
            if has_tasks {
                let what = format!(
                    "the tasks here are those of framework '{ours}', and the scheduler's state is of '{theirs}'"
                );
                return Err(PortError::permanent(ErrorKind::Conflict, "subscribe to the local agents", what));
            }
            tracing::info!(%theirs, %ours, "these agents are new to the scheduler's state");
        }
        self.inner.run(|world, _| world.subscribe());
        Ok(())
    }

    async fn next_event(&self) -> Result<MesosEvent, PortError> {
        // There may always be another event, such as an offer for each that is declined; others must have their turn.
        tokio::task::coop::consume_budget().await;
        loop {
            let more = self.inner.events.notified();
            {
                let mut world = self.inner.world();
                if world.phase != Phase::Open {
                    let context = "the local agents are shutting down";
                    return Err(PortError::permanent(ErrorKind::Unreachable, "receive from mesos", context));
                }
                if let Some(event) = world.pop_event() {
                    return Ok(event);
                }
            }
            more.await;
        }
    }

    async fn call(&self, call: MesosCall) -> Result<(), PortError> {
        self.inner.run(|world, now| world.call(now, call));
        Ok(())
    }
}

impl Inner {
    /// Does something with the world, and then all that follows from it.
    fn run<R>(self: &Arc<Self>, change: impl FnOnce(&mut World, Instant) -> R) -> R {
        let (result, actions) = {
            let mut world = self.world();
            let now = Instant::now();
            let result = change(&mut world, now);
            world.settle(now);
            if !world.events.is_empty() || world.phase != Phase::Open {
                self.events.notify_one();
            }
            (result, std::mem::take(&mut world.actions))
        };
        self.timer.notify_one();
        self.act(actions);
        result
    }

    fn act(self: &Arc<Self>, actions: VecDeque<Action>) {
        for action in actions {
            let this = self.clone();
            // All of these wait for disks or walk through /proc.
            self.runtime.spawn_blocking(move || match action {
                Action::Save { agent, task } => this.save(&agent, &task).unwrap_or_else(|error| {
                    tracing::error!(task = %task, error = %error.chain(), "could not save the state of a task");
                }),
                Action::Start { agent, task } => this.start(&agent, &task),
                Action::KillTree { pid } => {
                    if let Err(error) = process::signal_tree(pid, Signal::KILL) {
                        tracing::error!(error = %error.chain(), "could not kill an executor");
                    }
                }
                Action::End { agent, record } => this.end(&agent, &record),
                Action::Remove { agent, record } => this.remove(&agent, record),
            });
        }
    }

    /// Saves a task's newest record. What waits for it goes on even when it fails: executors hold the truth, and a full
    /// disk must not hide their states.
    fn save(self: &Arc<Self>, agent: &AgentId, task: &TaskId) -> Result<(), Error> {
        let _one_at_a_time = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let to_save = self.world().to_save(agent, task);
        let Some((record, revision, durable)) = to_save else { return Ok(()) };
        let result = self.store.save_task(agent, &record, durable);
        self.run(|world, _| world.saved(agent, task, revision));
        result
    }

    fn start(self: &Arc<Self>, agent: &AgentId, task: &TaskId) {
        let prepare = || {
            self.save(agent, task)?;
            let sandbox = self.store.make_sandbox(agent, task)?;
            let volume = self.world().volume_for(agent, task);
            if let Some(record) = volume {
                self.store.mount(agent, task, &record)?;
                self.run(|world, _| world.made(agent, &record.volume));
            }
            Ok::<_, Error>(sandbox)
        };
        let sandbox = match prepare() {
            Ok(sandbox) => sandbox,
            Err(error) => return self.run(|world, _| world.start_failed(agent, task, error.chain())),
        };
        let _starting = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        if !self.run(|world, _| world.may_start(agent, task)) {
            return self.exits.notify_waiters();
        }
        let environment = self.executor_environment(agent, task, &sandbox);
        let ExecutorCommand { program, args, .. } = &self.config.executor;
        let _in_runtime = self.runtime.enter();
        let process = match Process::start(&Program { path: program, args, environment, sandbox: &sandbox }) {
            Ok(process) => process,
            Err(error) => {
                let reason = format!("could not start {}: {error}", program.display());
                return self.run(|world, _| world.start_failed(agent, task, reason));
            }
        };
        let pid = process.pid;
        let verdict = self.run(|world, now| world.started(now, agent, task, pid));
        self.watch(agent.clone(), task.clone(), process);
        let signal = match verdict {
            Verdict::Keep => return,
            Verdict::Kill => Signal::KILL,
            Verdict::Stop => Signal::STOP,
        };
        if let Err(error) = process::signal_tree(pid, signal) {
            tracing::error!(error = %error.chain(), "could not signal an executor");
        }
    }

    fn watch(self: &Arc<Self>, agent: AgentId, task: TaskId, process: Process) {
        let this = self.clone();
        self.runtime.spawn(async move {
            let pid = process.pid;
            let how = process.ended().await;
            tracing::debug!(%task, pid, how, "an executor ended");
            this.run(|world, _| world.ended(&agent, &task, pid, &how));
            this.exits.notify_waiters();
        });
    }

    fn end(self: &Arc<Self>, agent: &AgentId, record: &TaskRecord) {
        let _one_at_a_time = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if self.world().phase == Phase::Closed {
            return;
        }
        let (keep, keep_for) = (self.config.sandboxes_kept, self.config.sandboxes_kept_for);
        let task = &record.task;
        let kept = self.store.keep_data(agent, record);
        let put_away = kept.and_then(|kept| self.store.end_task(agent, task, keep, keep_for).map(|()| kept));
        match put_away {
            Ok(kept) => self.run(|world, _| world.put_away(agent, record, kept)),
            Err(error) => {
                tracing::error!(%task, error = %error.chain(), "could not put an ended task away");
                self.run(|world, _| world.put_away(agent, record, None));
            }
        }
    }

    fn remove(self: &Arc<Self>, agent: &AgentId, record: VolumeRecord) {
        if self.world().phase == Phase::Closed {
            return;
        }
        let failed = self.store.remove_volume(agent, &record.volume).map_err(|error| error.chain()).err();
        self.run(|world, _| world.removed(agent, record, failed));
        self.removed.notify_waiters();
    }

    /// What a Mesos agent tells an executor.
    fn executor_environment(
        &self,
        agent: &AgentId,
        task: &TaskId,
        sandbox: &std::path::Path,
    ) -> BTreeMap<String, String> {
        let (framework, port) = {
            let world = self.world();
            (world.framework.to_string(), world.agents.get(agent).map_or(0, |agent| agent.port))
        };
        let endpoint = format!("{}:{port}", Ipv4Addr::LOCALHOST);
        let sandbox = sandbox.display().to_string();
        let mut environment = self.config.executor.environment.clone();
        environment.extend(
            [
                ("MESOS_AGENT_ENDPOINT", endpoint.clone()),
                ("MESOS_SLAVE_PID", format!("slave(1)@{endpoint}")),
                ("MESOS_SLAVE_ID", agent.to_string()),
                ("MESOS_FRAMEWORK_ID", framework),
                ("MESOS_EXECUTOR_ID", task.to_string()),
                ("MESOS_DIRECTORY", sandbox.clone()),
                ("MESOS_SANDBOX", sandbox),
                ("MESOS_CHECKPOINT", "1".into()),
                ("MESOS_RECOVERY_TIMEOUT", format_duration(self.config.executor_recovery_timeout)),
                ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "500ms".into()),
                ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", self.token.expose_secret().to_owned()),
                ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", format_duration(self.config.kill_grace)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        environment
    }

    /// Whether a caller of an agent's API is one of our executors.
    fn is_authorized(&self, authorization: Option<&[u8]>) -> bool {
        let token = authorization.and_then(|value| value.strip_prefix(b"Bearer "));
        token.is_some_and(|token| token.ct_eq(self.token.expose_secret().as_bytes()).into())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn signal_all(pids: Vec<i32>, signal: Signal) -> Result<(), Error> {
    let signalled = tokio::task::spawn_blocking(move || {
        let results: Vec<_> = pids.into_iter().map(|pid| process::signal_tree(pid, signal)).collect();
        results.into_iter().collect::<Result<(), _>>()
    });
    signalled.await.unwrap_or(Ok(()))
}

/// Calls the world when its time has come.
async fn keep_time(inner: Arc<Inner>, mut stop: watch::Receiver<bool>) {
    let stopped = stop.wait_for(|stop| *stop);
    let work = async {
        loop {
            let changed = inner.timer.notified();
            let next = inner.world().next_timeout();
            match next {
                Some(at) if at <= Instant::now() => inner.run(|_, _| ()),
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    };
    tokio::select! { _ = stopped => {}, () = work => {} }
}

/// Listens on a port that a moment ago may have been that of an earlier life in this very process.
fn bind_again(port: u16) -> std::io::Result<TcpListener> {
    let mut tries = 0;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries < BIND_TRIES_MAX => {
                tries += 1;
                std::thread::sleep(BIND_RETRY);
            }
            result => return result,
        }
    }
}

/// Listens on the port of an agent: that of its earlier life, or else a free one.
fn listen(store: &Store, agent: &AgentId) -> Result<(tokio::net::TcpListener, u16), Error> {
    let listener = if let Some(port) = store.agent_port(agent)? {
        bind_again(port).map_err(|source| Error::PortTaken {
            agent: agent.to_string(),
            port,
            path: store.agent_file(agent),
            source,
        })?
    } else {
        let mut seed = [0u8; 2];
        getrandom::fill(&mut seed).map_err(Error::Random)?;
        let (first, count) = (u16::from_be_bytes(seed), API_PORTS.end - API_PORTS.start);
        let ports = (0..count).map(|n| API_PORTS.start + (first % count + n) % count);
        let mut free = ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        free.next().ok_or_else(|| Error::NoPort(agent.to_string()))?
    };
    let ready = || {
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok((tokio::net::TcpListener::from_std(listener)?, port))
    };
    let (listener, port) = ready().map_err(|error| Error::file("listen for", format!("agent '{agent}'"), error))?;
    store.save_agent_port(agent, port)?;
    Ok((listener, port))
}

#[cfg(test)]
mod tests;
