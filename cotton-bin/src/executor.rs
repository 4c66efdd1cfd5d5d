//! `cotton-executor`: runs one member, as told by the agent that started it.
//!
//! All it needs is in its environment: what Mesos sets for an executor, and
//! - `COTTON_KEY_FILE`: file with the key that opens the member's passwords (required)
//! - `COTTON_MYSQL_BIN_DIR`: directory with the database server's programs, when not those of the system
//! - `COTTON_INSTALLER_ARGS`: an archive with the database server, which is unpacked into the sandbox
//! - `COTTON_ADMIN_KEYPATH`: file with an account for the agents' administrators, if they want one
//! - `COTTON_BIND_ADDRESS`: address that the database server listens on, when not all
//! - `COTTON_LOG`: what to log
//!
//! With the argument `--check` it only says whether members could run here with that environment.

use crate::administrator::{self, AdministratorError};
use crate::run_as;
use crate::secret::{KeyError, OpenError, SealingKey};
use cotton_core::driver::executor;
use cotton_core::driver::memory::FileMemory;
use cotton_core::executor::ExecutorConfig;
use cotton_core::ports::mysql::MySql;
use cotton_core::protocol::MemberTask;
use cotton_core::{Durability, ErrorKind, PortError, Sealed};
use cotton_mesos::executor::EnvironmentError;
use cotton_mesos::{ExecutorEnvironment, HttpExecutorLink, LinkError};
use cotton_mysql::install::{FromArchive, Limits, SpecError};
use cotton_mysql::{Instance, InstanceConfig, Passwords, Unseal};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Where a member keeps everything that shall outlive its task, below its sandbox. The scheduler has a persistent volume
/// put there, when there are volumes.
const MEMBER_DIRECTORY: &str = cotton_mesos::VOLUME_PATH;

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
    /// An archive that makes no sense.
    #[error("COTTON_INSTALLER_ARGS: {0}")]
    Archive(#[from] SpecError),
    /// The administrators' account.
    #[error(transparent)]
    Administrator(#[from] AdministratorError),
    /// Two servers.
    #[error("COTTON_INSTALLER_ARGS and COTTON_MYSQL_BIN_DIR both say where the server is: set one of them only")]
    TwoServers,
    /// A bad key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The task's passwords.
    #[error(transparent)]
    Password(#[from] OpenError),
    /// The database server.
    #[error(transparent)]
    MySql(#[from] cotton_mysql::Error),
}

/// Runs the member that the agent launches, until its task has ended.
///
/// # Errors
/// When there is no agent, or it is lost for good.
pub async fn run(environment: Environment) -> Result<(), ExecutorError> {
    let mesos = ExecutorEnvironment::from_map(&environment)?;
    let sandbox = mesos.sandbox.clone();
    let root = sandbox.join(MEMBER_DIRECTORY);
    std::fs::create_dir_all(&root).map_err(|error| {
        PortError::permanent(ErrorKind::Storage, "make the member's directory", root.display().to_string())
            .with_source(error)
    })?;
    let memory = FileMemory::new(root.join("executor.json")); // beside the data, and as long-lived
    let link = HttpExecutorLink::start(mesos)?;
    let make_server = move |task| match open(task, &sandbox, &environment) {
        Ok(instance) => Ok(Arc::new(instance) as Arc<dyn MySql>),
        Err(error) => Err(PortError::permanent(ErrorKind::Invalid, "set up the member", chain(&error))),
    };
    let ended = executor::run(ExecutorConfig::default(), Arc::new(link), Arc::new(memory), make_server).await?;
    tracing::info!(reason = ?ended, "ended");
    Ok(())
}

/// Whether members could run here with this environment, as far as that can be said without one: the key can be read, and
/// the server's programs are there and run. Says which server that is.
///
/// # Errors
/// The first thing that is missing.
pub async fn check(environment: &Environment) -> Result<String, ExecutorError> {
    let key_file = environment.get("COTTON_KEY_FILE").ok_or(ExecutorError::NoKey)?;
    SealingKey::load(Path::new(key_file))?;
    let programs = environment.get("COTTON_MYSQL_BIN_DIR").map(Path::new);
    if let Some(archive) = environment.get("COTTON_INSTALLER_ARGS").filter(|text| !text.is_empty()) {
        let _understood: cotton_mysql::install::ArchiveSpec = archive.parse()?;
        return if programs.is_some() {
            Err(ExecutorError::TwoServers)
        } else {
            Ok("a server out of an archive".to_owned())
        };
    }
    Ok(cotton_mysql::server_version(programs).await?)
}

/// Makes sense of a task.
fn open(task: MemberTask, sandbox: &Path, environment: &Environment) -> Result<Instance, ExecutorError> {
    let key_file = environment.get("COTTON_KEY_FILE").ok_or(ExecutorError::NoKey)?;
    let key = SealingKey::load(Path::new(key_file))?;
    let passwords = Passwords {
        user: key.open(&task.secrets.user)?,
        admin: key.open(&task.secrets.admin)?,
        replication: key.open(&task.secrets.replication)?,
    };
    let (root, server_id) = (sandbox.join(MEMBER_DIRECTORY), task.member.server_id());
    let mut config = InstanceConfig::new(root, task.endpoint, server_id, task.resources, task.user, passwords);
    config.unseal = Some(Unseal(Arc::new(move |sealed: &Sealed| key.open(sealed).ok())));
    config.run_as = run_as::of(task.number, &config.root);
    config.semi_sync = task.durability == Durability::SemiSync;
    config.has_data = task.has_data;
    config.programs = environment.get("COTTON_MYSQL_BIN_DIR").map(Into::into);
    if let Some(address) = environment.get("COTTON_BIND_ADDRESS") {
        config.bind_address.clone_from(address);
    }
    if let Some(path) = environment.get("COTTON_ADMIN_KEYPATH").filter(|path| !path.is_empty()) {
        config.administrator = administrator::load(Path::new(path))?;
        if config.administrator.is_none() {
            tracing::info!(path, "no file: the server gets no account for administrators");
        }
    }
    let Some(archive) = environment.get("COTTON_INSTALLER_ARGS").filter(|text| !text.is_empty()) else {
        return Ok(Instance::new(config)?);
    };
    if config.programs.is_some() {
        return Err(ExecutorError::TwoServers);
    }
    // not below the data, which may be on a volume that outlives the sandbox
    let installer = FromArchive::new(archive.parse()?, sandbox.join("server"), Limits::default());
    Ok(Instance::with_installer(config, Arc::new(installer))?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use cotton_core::{Endpoint, MemberId, Resources, Secrets};
    use secrecy::SecretString;

    fn task(key: &SealingKey) -> MemberTask {
        let seal = |clear: &str| key.seal(&SecretString::from(clear)).expect("randomness");
        MemberTask {
            number: 0,
            cluster: "a".parse().expect("valid"),
            member: MemberId(0),
            endpoint: Endpoint::new("127.0.0.1", 31_000),
            resources: Resources::DEFAULT,
            user: "jane".to_owned(),
            secrets: Secrets { user: seal("u"), admin: seal("a"), replication: seal("r") },
            durability: Durability::SemiSync,
            backup_id: None,
            has_data: false,
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let key_file = dir.path().join("key");
        let key = SealingKey::load_or_create(&key_file).expect("made");
        let path = key_file.display().to_string();
        let with = |name: &str, value: &str| Environment::from([(name.to_owned(), value.to_owned())]);
        let refused = |task: MemberTask, environment: &Environment| {
            open(task, dir.path(), environment).map(|_| ()).map_err(|error| chain(&error)).expect_err("refused")
        };
        assert!(refused(task(&key), &Environment::new()).starts_with("COTTON_KEY_FILE is not set"));
        assert!(refused(task(&key), &with("COTTON_KEY_FILE", "/none")).contains("/none"));
        let other = SealingKey::new([9; 32]);
        assert!(refused(task(&other), &with("COTTON_KEY_FILE", &path)).contains("sealed with another key"));
        let mut archive = with("COTTON_KEY_FILE", &path);
        archive.insert("COTTON_INSTALLER_ARGS".to_owned(), "mysql.tar".to_owned());
        assert!(refused(task(&key), &archive).starts_with("COTTON_INSTALLER_ARGS: 'mysql.tar' is neither archive="));
        archive.insert("COTTON_INSTALLER_ARGS".to_owned(), "archive=/none".to_owned());
        assert!(open(task(&key), dir.path(), &archive).is_ok(), "looked for when it is needed");
        archive.insert("COTTON_MYSQL_BIN_DIR".to_owned(), "/usr/sbin".to_owned());
        assert!(refused(task(&key), &archive).contains("set one of them only"));
    }
}
