//! `cotton-executor`: runs one member, as told by the agent that started it.
//!
//! All it needs is in its environment: what Mesos sets for an executor, and
//! - `COTTON_KEY_FILE`: file with the key that opens the member's passwords (required)
//! - `COTTON_MYSQL_BIN_DIR`: directory with the database server's programs, when not those of the system
//! - `COTTON_BIND_ADDRESS`: address that the database server listens on, when not all
//! - `COTTON_LOG`: what to log

use crate::secret::{KeyError, OpenError, SealingKey};
use async_trait::async_trait;
use bytes::Bytes;
use cotton_core::ports::executor_link::{ExecutorLink, LinkEvent};
use cotton_core::ports::mesos::TaskState;
use cotton_core::protocol::{self, MemberTask, ProtocolError};
use cotton_core::{Durability, PortError, TaskId};
use cotton_mesos::executor::EnvironmentError;
use cotton_mesos::{ExecutorEnvironment, HttpExecutorLink, LinkError};
use cotton_mysql::{Instance, InstanceConfig, Passwords};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const TOLD_TIMEOUT: Duration = Duration::from_secs(30);

/// The environment of a process, or what stands for it in a test.
pub type Environment = BTreeMap<String, String>;

/// Why a member does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// Not started by an agent.
    #[error("not started by a Mesos agent: {0}")]
    Environment(#[from] EnvironmentError),
    /// The connection to the agent could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A port failed.
    #[error("{}", .0.chain())]
    Port(#[from] PortError),
    /// No key.
    #[error("COTTON_KEY_FILE is not set: it must name the file with the key that opens passwords")]
    NoKey,
    /// A bad key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The task's passwords.
    #[error(transparent)]
    Password(#[from] OpenError),
    /// The task.
    #[error("the task is not understood: {0}")]
    Task(#[from] ProtocolError),
    /// The database server.
    #[error(transparent)]
    MySql(#[from] cotton_mysql::Error),
}

/// Runs the member that the agent launches, until its task has ended.
///
/// # Errors
/// When there is no agent, or the member cannot be run; the agent has been told then.
pub async fn run(environment: &Environment) -> Result<(), ExecutorError> {
    let mesos = ExecutorEnvironment::from_map(environment)?;
    let sandbox = mesos.sandbox.clone();
    let link = HttpExecutorLink::start(mesos)?;
    let mut heard = VecDeque::new();
    let (task, data) = loop {
        let event = link.next_event().await?;
        if matches!(event, LinkEvent::Shutdown { .. }) {
            return Ok(());
        }
        heard.push_back(event.clone());
        if let LinkEvent::Launch { task, data } = event {
            break (task, data);
        }
    };
    let instance = match open(&data, &sandbox, environment) {
        Ok(instance) => instance,
        Err(error) => {
            tell_failure(&link, &task, &error).await;
            return Err(error);
        }
    };
    let link = Replayed { heard: Mutex::new(heard), link };
    drop((Arc::new(link), Arc::new(instance)));
    Ok(())
}

/// Makes sense of a task.
fn open(data: &[u8], sandbox: &Path, environment: &Environment) -> Result<Instance, ExecutorError> {
    let task: MemberTask = protocol::decode(data)?;
    let key_file = environment.get("COTTON_KEY_FILE").ok_or(ExecutorError::NoKey)?;
    let key = SealingKey::load(Path::new(key_file))?;
    let passwords = Passwords {
        user: key.open(&task.secrets.user)?,
        admin: key.open(&task.secrets.admin)?,
        replication: key.open(&task.secrets.replication)?,
    };
    let root = sandbox.join("mysql");
    let server_id = task.member.server_id();
    let mut config = InstanceConfig::new(root, task.endpoint, server_id, task.resources, task.user, passwords);
    config.semi_sync = task.durability == Durability::SemiSync;
    config.programs = environment.get("COTTON_MYSQL_BIN_DIR").map(Into::into);
    if let Some(address) = environment.get("COTTON_BIND_ADDRESS") {
        config.bind_address.clone_from(address);
    }
    Ok(Instance::new(config)?)
}

async fn tell_failure(link: &HttpExecutorLink, task: &TaskId, error: &ExecutorError) {
    let told = async {
        link.update(task, TaskState::Failed, &chain(error)).await?;
        while link.next_event().await? != LinkEvent::Acknowledged(TaskState::Failed) {}
        Ok::<_, PortError>(())
    };
    match tokio::time::timeout(TOLD_TIMEOUT, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %error.chain(), "could not tell the agent"),
        Err(_) => tracing::warn!("the agent has not acknowledged that the task failed"),
    }
}

/// An error with its causes, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// A link that repeats what had to be heard before the member could be set up.
#[derive(Debug)]
struct Replayed {
    heard: Mutex<VecDeque<LinkEvent>>,
    link: HttpExecutorLink,
}

#[async_trait]
impl ExecutorLink for Replayed {
    async fn next_event(&self) -> Result<LinkEvent, PortError> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match heard {
            Some(event) => Ok(event),
            None => self.link.next_event().await,
        }
    }

    async fn update(&self, task: &TaskId, state: TaskState, message: &str) -> Result<(), PortError> {
        self.link.update(task, state, message).await
    }

    async fn send(&self, data: Bytes) -> Result<(), PortError> {
        self.link.send(data).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotton_core::{Endpoint, MemberId, Resources, Secrets};
    use secrecy::SecretString;

    fn task(key: &SealingKey) -> Vec<u8> {
        let seal = |clear: &str| key.seal(&SecretString::from(clear)).expect("randomness");
        protocol::encode(&MemberTask {
            cluster: "a".parse().expect("valid"),
            member: MemberId(0),
            endpoint: Endpoint::new("127.0.0.1", 31_000),
            resources: Resources::DEFAULT,
            user: "jane".to_owned(),
            secrets: Secrets { user: seal("u"), admin: seal("a"), replication: seal("r") },
            durability: Durability::SemiSync,
            backup_id: None,
        })
    }

    #[test]
    fn a_task_that_makes_no_sense_is_refused_in_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let key_file = dir.path().join("key");
        let key = SealingKey::load_or_create(&key_file).expect("made");
        let path = key_file.display().to_string();
        let with = |name: &str, value: &str| Environment::from([(name.to_owned(), value.to_owned())]);
        let refused = |data: &[u8], environment: &Environment| {
            open(data, dir.path(), environment).map(|_| ()).map_err(|error| chain(&error)).expect_err("refused")
        };
        assert!(refused(b"{}", &with("COTTON_KEY_FILE", &path)).starts_with("the task is not understood: "));
        assert!(refused(&task(&key), &Environment::new()).starts_with("COTTON_KEY_FILE is not set"));
        assert!(refused(&task(&key), &with("COTTON_KEY_FILE", "/none")).contains("/none"));
        let other = SealingKey::new([9; 32]);
        assert!(refused(&task(&other), &with("COTTON_KEY_FILE", &path)).contains("sealed with another key"));
    }
}
