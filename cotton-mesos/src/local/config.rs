//! What is to be simulated, and where.

use crate::error::ConfigError;
use cotton_core::{AgentId, Ports, Resources};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What [`Local`](super::Local) is to simulate, and where.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Where agents keep their state and the sandboxes of tasks. Must be enterable by the user of the databases.
    pub dir: PathBuf,
    /// The agents.
    pub agents: Vec<AgentConfig>,
    /// What to run for each task.
    pub executor: ExecutorCommand,
    /// How long executors live without us.
    pub executor_recovery_timeout: Duration,
    /// How long an agent is silent before its tasks are called unreachable.
    pub unreachable_timeout: Duration,
    /// How long an executor may take to end its task cleanly.
    pub kill_grace: Duration,
    /// How many sandboxes of ended tasks each agent keeps.
    pub sandboxes_kept: usize,
    /// For how long.
    pub sandboxes_kept_for: Duration,
}

/// One agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Its id, also the name of its directory.
    pub id: AgentId,
    /// Host under which its tasks are reached; an address of this machine.
    pub host: String,
    /// What it has.
    pub resources: Resources,
    /// Ports that its tasks may use.
    pub ports: Ports,
    /// What it says of itself.
    pub attributes: BTreeMap<String, String>,
}

/// The program that runs a task.
#[derive(Clone, Debug)]
pub struct ExecutorCommand {
    /// The program, as an absolute path.
    pub program: PathBuf,
    /// Its arguments. Never secrets: anybody can see them.
    pub args: Vec<String>,
    /// What to add to its environment.
    pub environment: BTreeMap<String, String>,
}

impl LocalConfig {
    /// A configuration with the defaults of everything that has one: executors wait a day for us, agents are unreachable
    /// after 5 s, kills may take 10 s, and each agent keeps the last 10 sandboxes of ended tasks for 7 days.
    pub fn new(dir: impl Into<PathBuf>, agents: Vec<AgentConfig>, executor: ExecutorCommand) -> Self {
        Self {
            dir: dir.into(),
            agents,
            executor,
            executor_recovery_timeout: Duration::from_hours(24),
            unreachable_timeout: Duration::from_secs(5),
            kill_grace: Duration::from_secs(10),
            sandboxes_kept: 10,
            sandboxes_kept_for: Duration::from_hours(7 * 24),
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.agents.is_empty() {
            return Err(ConfigError::NoAgent);
        }
        for (at, agent) in self.agents.iter().enumerate() {
            let id = agent.id.as_str();
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            if !(1..=64).contains(&id.len()) || id.starts_with('.') || !id.bytes().all(allowed) {
                return Err(ConfigError::AgentId(id.into()));
            }
            for other in &self.agents[..at] {
                if other.id == agent.id {
                    return Err(ConfigError::AgentTwice(id.into()));
                }
                let mut pairs =
                    agent.ports.ranges().iter().flat_map(|a| other.ports.ranges().iter().map(move |b| (a, b)));
                if other.host == agent.host && pairs.any(|(a, b)| a.0 <= b.1 && b.0 <= a.1) {
                    return Err(ConfigError::SharedPorts(other.id.to_string(), id.into()));
                }
            }
        }
        Ok(())
    }
}
