//! What is checked before any task is started: a wrong start must not touch what is there. With another key, or without a
//! server, every member would end while it is set up.

use crate::secret::SealingKey;
use cotton_core::FrameworkId;
use cotton_core::driver::Records;
use cotton_mesos::local::{ExecutorCommand, Remembered};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long the executor may take to look around.
const CHECK_TIMEOUT: Duration = Duration::from_mins(1);
/// Most clusters that an error names.
const NAMES_MAX: usize = 5;

/// Why nothing is started. In each case everything was left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// There are records, and no key.
    #[error(
        "key file '{key}' is missing, and there are clusters in '{state}' whose passwords only that key opens: bring it \
         back from where it was moved, or from a backup; nothing was started or changed"
    )]
    KeyMissing {
        /// Where it should be.
        key: PathBuf,
        /// Where the records are.
        state: PathBuf,
    },
    /// Another key.
    #[error(
        "the key in '{key}' does not open the passwords of {clusters}: name the key that they were sealed with; nothing \
         was started or changed"
    )]
    WrongKey {
        /// Its file.
        key: PathBuf,
        /// Which clusters, for people.
        clusters: String,
    },
    /// The executor cannot be started.
    #[error("the executor '{program}' cannot be started: {source}; nothing was started or changed")]
    Executor {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The executor says that members could not run.
    #[error("members could not run, says the executor '{program}': {reason}; nothing was started or changed")]
    Refused {
        /// The program.
        program: PathBuf,
        /// In its words.
        reason: String,
    },
    /// The agents know tasks, and the state knows another framework, or none.
    #[error(
        "the members in '{agents}' do not belong to the records in '{state}': the members are those of framework \
         '{theirs}', the records those of {ours}. Bring back the directory that belongs to the other, or move one of them \
         away; nothing was started or changed"
    )]
    Foreign {
        /// Directory of the agents.
        agents: PathBuf,
        /// Directory of the records.
        state: PathBuf,
        /// Of the agents.
        theirs: String,
        /// Of the records, for people.
        ours: String,
    },
    /// There are clusters, and the agents remember nothing.
    #[error(
        "there are clusters in '{state}', and nothing of their members in '{agents}': bring that directory back, or move \
         '{state}' away to begin anew; nothing was started or changed"
    )]
    NoAgents {
        /// Directory of the agents.
        agents: PathBuf,
        /// Directory of the records.
        state: PathBuf,
    },
}

/// Whether the key opens every password of every record that can be read.
///
/// # Errors
/// When it does not.
pub(crate) fn key_opens(key: &SealingKey, file: &Path, records: &Records) -> Result<(), PreflightError> {
    let closed = records.clusters().iter().filter(|state| {
        let secrets = &state.spec.secrets;
        [&secrets.user, &secrets.admin, &secrets.replication].into_iter().any(|sealed| key.open(sealed).is_err())
    });
    let closed: Vec<&str> = closed.map(|state| state.name().as_str()).collect();
    if closed.is_empty() {
        return Ok(());
    }
    let named = closed[..closed.len().min(NAMES_MAX)].iter().map(|name| format!("'{name}'")).collect::<Vec<_>>();
    let (count, named) = (closed.len(), named.join(", "));
    let more = if count > NAMES_MAX { ", ..." } else { "" };
    let all = records.clusters().len();
    let which = if count == all { format!("all {all} clusters") } else { format!("{count} of {all} clusters") };
    Err(PreflightError::WrongKey { key: file.to_owned(), clusters: format!("{which} ({named}{more})") })
}

/// Whether agents and records know each other. `remembered` is what the agents' directory holds.
///
/// # Errors
/// When members or records would be taken for somebody else's.
pub(crate) fn agents_belong(
    dir: &Path,
    state: &Path,
    records: &Records,
    remembered: &Remembered,
) -> Result<(), PreflightError> {
    let ours = records.fleet().and_then(|fleet| fleet.framework.as_ref());
    let theirs = remembered.framework.as_ref();
    let agents = || dir.join("agents");
    if remembered.members == 0 {
        // A member that joined has a task or a volume for as long as it is recorded.
        let has_data = records.clusters().iter().filter(|state| !state.deleting);
        if has_data.flat_map(|state| state.members.values()).any(|member| member.joined) {
            return Err(PreflightError::NoAgents { agents: agents(), state: state.to_owned() });
        }
        return Ok(());
    }
    if theirs == ours && ours.is_some() {
        return Ok(());
    }
    let name = |id: Option<&FrameworkId>| id.map_or_else(|| "(unknown)".to_owned(), ToString::to_string);
    let said = ours.map_or_else(|| "no framework: there are none".to_owned(), |id| format!("framework '{id}'"));
    Err(PreflightError::Foreign { agents: agents(), state: state.to_owned(), theirs: name(theirs), ours: said })
}

/// Has the executor say whether members could run with the environment that they would get.
///
/// # Errors
/// When it cannot be started, or says no.
pub(crate) async fn executor_runs(executor: &ExecutorCommand) -> Result<(), PreflightError> {
    let program = || executor.program.clone();
    let cannot = |source| PreflightError::Executor { program: program(), source };
    let mut command = Command::new(&executor.program);
    command.arg("--check").env_clear().env("PATH", cotton_mesos::local::PATH).envs(&executor.environment);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let answer = tokio::time::timeout(CHECK_TIMEOUT, command.output()).await;
    let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(cannot)?;
    let said = String::from_utf8_lossy(&answer.stderr);
    let last = said.trim_end().lines().last().unwrap_or_default();
    if answer.status.success() {
        tracing::info!("{last}");
        return Ok(());
    }
    let reason = if last.is_empty() { answer.status.to_string() } else { last.to_owned() };
    Err(PreflightError::Refused { program: program(), reason })
}

#[cfg(test)]
mod tests;
