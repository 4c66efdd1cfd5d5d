//! Tasks to start, and what runs them.

use crate::wire::common::{Base64, DurationInfo, Id, KillPolicy};
use crate::wire::resource::Resource;
use serde::Serialize;

/// A task to start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewTask {
    /// Its name, for people.
    pub name: String,
    /// Which.
    pub task_id: Id,
    /// Where.
    pub agent_id: Id,
    /// What it gets.
    pub resources: Vec<Resource>,
    /// What runs it.
    pub executor: ExecutorInfo,
    /// For its executor.
    pub data: Base64,
    /// How to kill it.
    pub kill_policy: KillPolicy,
    /// How others find it.
    pub discovery: DiscoveryInfo,
}

/// What runs a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExecutorInfo {
    /// Always `CUSTOM` here.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Which.
    pub executor_id: Id,
    /// Whose.
    pub framework_id: Id,
    /// Its name, for people.
    pub name: String,
    /// Where it comes from, for people and statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How to start it.
    pub command: CommandInfo,
    /// What it gets.
    pub resources: Vec<Resource>,
    /// How long it may take to end.
    pub shutdown_grace_period: DurationInfo,
}

/// How to start a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandInfo {
    /// Whether `value` is a line for `/bin/sh`.
    pub shell: bool,
    /// The line, or the path of the program.
    pub value: String,
    /// What to fetch into the sandbox before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<Uri>,
    /// What to add to its environment.
    #[serde(skip_serializing_if = "Environment::is_empty")]
    pub environment: Environment,
    /// Unix user; that of the framework, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Something to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uri {
    /// From where.
    pub value: String,
    /// Whether to make it executable; such files are never unpacked.
    pub executable: bool,
    /// Whether to unpack it, if it is an archive.
    pub extract: bool,
    /// Whether the agent may keep it for the next time.
    pub cache: bool,
}

/// An environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// What is in it.
    pub variables: Vec<Variable>,
}

impl Environment {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }
}

/// An entry of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How others find a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiscoveryInfo {
    /// `FRAMEWORK`, `CLUSTER` or `EXTERNAL`.
    pub visibility: &'static str,
    /// Under which name.
    pub name: String,
    /// Where it listens.
    pub ports: DiscoveryPorts,
}

/// Where a task listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiscoveryPorts {
    /// The ports.
    pub ports: Vec<DiscoveryPort>,
}

/// Where a task listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiscoveryPort {
    /// Its number.
    pub number: u16,
    /// What listens there.
    pub name: &'static str,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}
