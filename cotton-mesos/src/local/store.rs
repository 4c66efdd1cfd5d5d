//! What the agents keep on disk, so that they can be killed at any moment.
//!
//! ```text
//! DIR/lock                              held while a process works here; contains its pid
//! DIR/framework.json                    the framework id, and the token that executors authenticate with
//! DIR/agents/AGENT/agent.json           the port of the agent's API
//! DIR/agents/AGENT/tasks/TASK.json      one file a task, until its end has been acknowledged
//! DIR/agents/AGENT/ended/TASK.json      then here, as long as its sandbox is kept
//! DIR/agents/AGENT/sandboxes/TASK/      working directory of its executor
//! DIR/agents/AGENT/volumes/             what outlives tasks: see `volume_files`
//! ```
//!
//! A file is written to a temporary name and renamed, so that it is never half there; what must survive a crash of the
//! machine is also flushed to the disk before the call returns. Task files hold sealed secrets only, and are readable by
//! their owner alone nevertheless; sandboxes can be entered by anybody, since the server in them has another user.

use super::process;
use crate::error::Error;
use crate::wire::common::Base64;
use cotton_core::ports::mesos::TaskState;
use cotton_core::{AgentId, FrameworkId, Resources, TaskId, VolumeId};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often, and how many times, a lock is tried whose holder is dead.
const LOCK_RETRY: Duration = Duration::from_millis(5);
const LOCK_TRIES_MAX: u32 = 1000;

/// A task, as an agent remembers it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TaskRecord {
    pub(super) task: TaskId,
    pub(super) port: u16,
    /// Of the task and its executor together.
    pub(super) resources: Resources,
    pub(super) data: Base64,
    /// Newest state that is known.
    pub(super) state: State,
    pub(super) message: String,
    /// A kill was asked for: never start it again.
    pub(super) kill_requested: bool,
    /// Where its data is, when that outlives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) volume: Option<VolumeId>,
    /// States that the scheduler has not acknowledged yet, oldest first.
    pub(super) updates: VecDeque<StoredUpdate>,
    /// Uuids of the last states that it has.
    pub(super) acknowledged: VecDeque<Base64>,
}

/// A state that the scheduler has not acknowledged yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredUpdate {
    pub(super) uuid: Base64,
    pub(super) state: State,
    pub(super) message: String,
    /// The record must have been saved in this revision before the scheduler is told.
    #[serde(skip)]
    pub(super) revision: u64,
}

/// The states that a task on an agent can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Staging,
    Starting,
    Running,
    Killing,
    Finished,
    Killed,
    Failed,
}

impl State {
    pub(super) fn to_port(self) -> TaskState {
        match self {
            Self::Staging => TaskState::Staging,
            Self::Starting => TaskState::Starting,
            Self::Running => TaskState::Running,
            Self::Killing => TaskState::Killing,
            Self::Finished => TaskState::Finished,
            Self::Killed => TaskState::Killed,
            Self::Failed => TaskState::Failed,
        }
    }

    pub(super) fn is_terminal(self) -> bool {
        self.to_port().is_terminal()
    }
}

/// The directory.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    lock: File,
}

#[derive(Serialize, Deserialize)]
struct AgentFile {
    port: u16,
}

#[derive(Serialize, Deserialize)]
struct FrameworkFile {
    framework_id: String,
    token: String,
}

/// What agents remember in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Whose they are; `None` when nobody ever was there, or has removed that.
    pub framework: Option<FrameworkId>,
    /// How many tasks and volumes there are.
    pub members: usize,
}

/// Who we are.
#[derive(Debug)]
pub(super) struct Framework {
    pub(super) id: String,
    /// What executors show to be let in.
    pub(super) token: SecretString,
}

impl Store {
    /// Makes the directory when it is not there, and locks it.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        make_dir(dir, 0o755)?;
        // Executors run elsewhere, so what they are told must not depend on where we are.
        let dir = dir.canonicalize().map_err(|error| Error::file("find", dir, error))?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o644).open(&path);
        let mut lock = opened.map_err(|error| Error::file("open", &path, error))?;
        let mut tries = 0;
        while let Err(error) = lock.try_lock() {
            if let TryLockError::Error(error) = error {
                return Err(Error::file("lock", &path, error));
            }
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            let holder = holder.trim().to_owned();
            if tries == LOCK_TRIES_MAX || holder.parse().map_or(true, process::is_alive) {
                let pid = if holder.is_empty() { "(unknown)".into() } else { holder };
                return Err(Error::Locked { dir, pid });
            }
            // Killed while it was starting an executor: that has the lock, too, until it becomes another program. Only
            // from then on it can be found by its environment, so it is good to wait for it.
            tries += 1;
            std::thread::sleep(LOCK_RETRY);
        }
        let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(|error| Error::file("write", &path, error))?;
        Ok(Self { dir, lock })
    }

    pub(super) fn remembered(dir: &Path) -> Result<Remembered, Error> {
        let file = read_json::<FrameworkFile>(&dir.join("framework.json"))?;
        let mut members = 0;
        for agent in list(&dir.join("agents"))? {
            for kind in ["tasks", "volumes"] {
                let dir = dir.join("agents").join(&agent).join(kind);
                members += list(&dir)?.iter().filter(|name| is_json(name)).count();
            }
        }
        Ok(Remembered { framework: file.map(|file| FrameworkId::from(file.framework_id.as_str())), members })
    }

    /// Lets others work on the directory. Nothing must be written to it after that.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::error!(dir = %self.dir.display(), error = %error, "could not unlock a directory");
        }
    }

    pub(super) fn sandbox(&self, agent: &AgentId, task: &TaskId) -> PathBuf {
        self.agent_dir(agent).join("sandboxes").join(task.as_str())
    }

    pub(super) fn agent_file(&self, agent: &AgentId) -> PathBuf {
        self.agent_dir(agent).join("agent.json")
    }

    /// Makes the directories of an agent.
    pub(super) fn make_agent(&self, agent: &AgentId) -> Result<(), Error> {
        make_dir(&self.dir.join("agents"), 0o755)?;
        let dir = self.agent_dir(agent);
        make_dir(&dir, 0o755)?;
        make_dir(&dir.join("sandboxes"), 0o755)?;
        make_dir(&dir.join("volumes"), 0o755)?;
        make_dir(&dir.join("tasks"), 0o700)?;
        make_dir(&dir.join("ended"), 0o700)
    }

    pub(super) fn make_sandbox(&self, agent: &AgentId, task: &TaskId) -> Result<PathBuf, Error> {
        let sandbox = self.sandbox(agent, task);
        make_dir(&sandbox, 0o755)?;
        Ok(sandbox)
    }

    pub(super) fn agent_port(&self, agent: &AgentId) -> Result<Option<u16>, Error> {
        Ok(read_json::<AgentFile>(&self.agent_file(agent))?.map(|file| file.port))
    }

    pub(super) fn save_agent_port(&self, agent: &AgentId, port: u16) -> Result<(), Error> {
        write_json(&self.agent_file(agent), &AgentFile { port }, true)
    }

    pub(super) fn framework(&self) -> Result<Option<Framework>, Error> {
        let file = read_json::<FrameworkFile>(&self.dir.join("framework.json"))?;
        Ok(file.map(|file| Framework { id: file.framework_id, token: file.token.into() }))
    }

    pub(super) fn save_framework(&self, framework: &Framework) -> Result<(), Error> {
        let token = framework.token.expose_secret().to_owned();
        let file = FrameworkFile { framework_id: framework.id.clone(), token };
        write_json(&self.dir.join("framework.json"), &file, true)
    }

    /// The agents that have tasks or volumes.
    pub(super) fn agents_with_tasks(&self) -> Result<Vec<AgentId>, Error> {
        let mut agents = Vec::new();
        for name in list(&self.dir.join("agents"))? {
            let agent = AgentId::from(name.as_str());
            let dir = self.agent_dir(&agent);
            if !list(&dir.join("tasks"))?.is_empty() || !list(&dir.join("volumes"))?.is_empty() {
                agents.push(agent);
            }
        }
        Ok(agents)
    }

    pub(super) fn tasks(&self, agent: &AgentId) -> Result<Vec<TaskRecord>, Error> {
        self.records(agent, "tasks")
    }

    /// Tasks that have ended and whose sandboxes are still there.
    pub(super) fn ended(&self, agent: &AgentId) -> Result<Vec<TaskRecord>, Error> {
        self.records(agent, "ended")
    }

    fn records(&self, agent: &AgentId, kind: &str) -> Result<Vec<TaskRecord>, Error> {
        let dir = self.agent_dir(agent).join(kind);
        let mut records = Vec::new();
        for name in list(&dir)?.into_iter().filter(|name| is_json(name)) {
            records.extend(read_json(&dir.join(name))?);
        }
        Ok(records)
    }

    pub(super) fn save_task(&self, agent: &AgentId, record: &TaskRecord, durable: bool) -> Result<(), Error> {
        write_json(&self.task_file(agent, "tasks", &record.task), record, durable)
    }

    /// Puts the file of a task away, and removes the oldest sandboxes of ended tasks beyond what is kept.
    pub(super) fn end_task(
        &self,
        agent: &AgentId,
        task: &TaskId,
        keep: usize,
        keep_for: Duration,
    ) -> Result<(), Error> {
        let (from, to) = (self.task_file(agent, "tasks", task), self.task_file(agent, "ended", task));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("move", from, error)),
        }
        self.collect(agent, keep, keep_for)
    }

    /// Removes the oldest sandboxes of ended tasks beyond what is kept.
    pub(super) fn collect(&self, agent: &AgentId, keep: usize, keep_for: Duration) -> Result<(), Error> {
        let dir = self.agent_dir(agent).join("ended");
        let mut ended = Vec::new();
        for name in list(&dir)?.into_iter().filter(|name| is_json(name)) {
            let modified = std::fs::metadata(dir.join(&name)).and_then(|metadata| metadata.modified());
            ended.extend(modified.ok().map(|modified| (modified, name)));
        }
        ended.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = SystemTime::now().checked_sub(keep_for).unwrap_or(SystemTime::UNIX_EPOCH);
        for (at, (modified, name)) in ended.into_iter().enumerate() {
            if at < keep && modified >= oldest {
                continue;
            }
            let task = TaskId::from(name.strip_suffix(".json").unwrap_or(&name));
            if self.holds_data(agent, &task) {
                continue; // data is removed with its volume only
            }
            match self.remove_sandbox(agent, &task) {
                Err(Error::NotOurs(why)) => tracing::warn!(%task, %why, "left a sandbox where it is"),
                result => result?,
            }
        }
        Ok(())
    }

    pub(super) fn agent_dir(&self, agent: &AgentId) -> PathBuf {
        self.dir.join("agents").join(agent.as_str())
    }

    fn task_file(&self, agent: &AgentId, kind: &str, task: &TaskId) -> PathBuf {
        self.agent_dir(agent).join(kind).join(format!("{task}.json"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing the file would not do it while a process that is just being started has it, too.
        self.unlock();
    }
}

pub(super) fn is_json(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "json")
}

pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let result = DirBuilder::new().recursive(true).mode(mode).create(path).and_then(|()| {
        // The mode given above is cut by the umask.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    });
    result.map_err(|error| Error::file("make directory", path, error))
}

/// Names in a directory, in order; none when it is not there.
pub(super) fn list(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("list", dir, error)),
    };
    let names: io::Result<Vec<String>> =
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect();
    let mut names = names.map_err(|error| Error::file("list", dir, error))?;
    names.sort_unstable();
    Ok(names)
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Corrupt { path: path.into(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T, durable: bool) -> Result<(), Error> {
    let json = serde_json::to_vec(value).expect("records have only string keys");
    let temporary = path.with_extension("json.new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&json)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) if durable => File::open(dir)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|error| Error::file("write", path, error))
}
