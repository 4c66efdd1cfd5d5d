//! What can go wrong here, by cause, and what it means at a port.

use crate::recordio::RecordError;
use crate::stream::StreamEnd;
use cotton_core::ports::mesos::TaskState;
use cotton_core::{ErrorKind, PortError};
use reqwest::StatusCode;
use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest part of an answer that is repeated in an error.
const ANSWER_CHARS_MAX: usize = 300;

/// The beginning of an answer, for an error.
pub(crate) async fn beginning(mut response: reqwest::Response) -> String {
    match tokio::time::timeout(Duration::from_secs(1), response.chunk()).await {
        Ok(Ok(Some(chunk))) => String::from_utf8_lossy(&chunk).chars().take(ANSWER_CHARS_MAX).collect(),
        _ => String::new(),
    }
}

/// Why an executor and its agent do not understand each other.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No connection, or it broke.
    #[error("could not {doing} over HTTP")]
    Http {
        /// What was tried.
        doing: &'static str,
        /// What failed.
        source: Arc<reqwest::Error>,
    },
    /// The agent answered with an error.
    #[error("the agent answered {status}: {answer}")]
    Status {
        /// Its status.
        status: StatusCode,
        /// The beginning of its answer.
        answer: String,
    },
    /// No answer, or no heartbeats, in time.
    #[error("the agent is silent")]
    Silent,
    /// The agent ended the stream of events.
    #[error("the agent closed the connection")]
    Closed,
    /// The stream of events is damaged.
    #[error("events are not framed as expected")]
    Record(#[source] RecordError),
    /// An event is not what the API says.
    #[error("an event is not understood")]
    Event(#[source] Arc<serde_json::Error>),
    /// The agent sent an error event.
    #[error("the agent reports an error: {0}")]
    Agent(String),
    /// The agent stayed away for too long.
    #[error("the agent did not come back within {after:?}")]
    AgentGone {
        /// How long it was waited for.
        after: Duration,
        /// Why the last attempt failed.
        #[source]
        cause: Box<LinkError>,
    },
    /// Only agents and masters may say that a task is in this state.
    #[error("an executor cannot say that a task is {0:?}")]
    NotForExecutors(TaskState),
    /// So many states wait for their acknowledgement that no more are taken.
    #[error("too many states are not acknowledged")]
    TooManyUpdates,
    /// The authentication token has characters that a header cannot hold.
    #[error("MESOS_EXECUTOR_AUTHENTICATION_TOKEN cannot be sent in a header")]
    Token,
    /// The system gave no random numbers.
    #[error("no random numbers")]
    Random(#[source] getrandom::Error),
}

impl From<StreamEnd> for LinkError {
    fn from(end: StreamEnd) -> Self {
        match end {
            StreamEnd::Silent => Self::Silent,
            StreamEnd::Closed => Self::Closed,
            StreamEnd::Broken(error) => Self::http("read events", error),
            StreamEnd::Damaged(error) => Self::Record(error),
        }
    }
}

impl LinkError {
    pub(crate) fn http(doing: &'static str, source: reqwest::Error) -> Self {
        // The address is the agent's; it says nothing that is not known.
        Self::Http { doing, source: Arc::new(source.without_url()) }
    }

    pub(crate) fn event(source: serde_json::Error) -> Self {
        Self::Event(Arc::new(source))
    }

    pub(crate) async fn status(status: StatusCode, response: reqwest::Response) -> Self {
        Self::Status { status, answer: beginning(response).await }
    }

    pub(crate) fn into_port(self, operation: &'static str) -> PortError {
        let (kind, permanent) = match &self {
            Self::Http { .. } | Self::Closed => (ErrorKind::Unreachable, false),
            Self::AgentGone { .. } => (ErrorKind::Unreachable, true),
            Self::Silent => (ErrorKind::Timeout, false),
            Self::Status { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (ErrorKind::Denied, true),
                status if status.is_client_error() => (ErrorKind::Invalid, true),
                _ => (ErrorKind::Unreachable, false),
            },
            Self::Record(_) | Self::Event(_) => (ErrorKind::Corrupt, false),
            Self::Agent(_) | Self::NotForExecutors(_) | Self::Token => (ErrorKind::Invalid, true),
            Self::TooManyUpdates => (ErrorKind::Conflict, false),
            Self::Random(_) => (ErrorKind::Other, false),
        };
        let error = if permanent {
            PortError::permanent(kind, operation, "")
        } else {
            PortError::temporary(kind, operation, "")
        };
        error.with_source(self)
    }
}

/// Why the in-process master and agents cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process works on the same directory.
    #[error("{dir} is in use by process {pid}: stop that one first, or use another directory")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who has it, as far as known.
        pid: String,
    },
    /// A file or directory cannot be read or written.
    #[error("could not {doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// A file does not contain what was written to it.
    #[error("{path} is damaged: restore it, or move it away to go on without it")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The port of an agent is taken.
    #[error(
        "port {port} of agent '{agent}' is taken by another program: stop that one; or, when no executor of this agent \
         runs any more, delete {path} to have another port chosen"
    )]
    PortTaken {
        /// The agent.
        agent: String,
        /// Its port.
        port: u16,
        /// Where the port is kept.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// No port is left for an agent.
    #[error("no free port for agent '{0}'")]
    NoPort(String),
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A directory is not one of a simulated agent's own.
    #[error(transparent)]
    NotOurs(#[from] crate::local::NotOurs),
    /// There is no such agent.
    #[error("there is no agent '{0}'")]
    NoSuchAgent(String),
    /// A process cannot be signalled.
    #[error("could not signal process {pid}: {hint}")]
    Signal {
        /// Which.
        pid: i32,
        /// What to do about it.
        hint: &'static str,
        /// What failed.
        source: std::io::Error,
    },
    /// The system gave no random numbers.
    #[error("no random numbers")]
    Random(#[source] getrandom::Error),
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two agents have the same id.
    #[error("two agents are called '{0}'")]
    AgentTwice(String),
    /// An agent's id cannot be the name of a directory.
    #[error("agent id '{0}' must be 1 to 64 characters of a-z, A-Z, 0-9, '_', '-' or '.', not starting with '.'")]
    AgentId(String),
    /// Two agents on one host share ports.
    #[error("agents '{0}' and '{1}' are on the same host and have ports in common")]
    SharedPorts(String, String),
    /// An agent of earlier still has tasks.
    #[error("agent '{0}' has tasks in this directory: keep at least as many agents as before until they are deleted")]
    AgentMissing(String),
    /// There is no agent.
    #[error("at least one agent is needed")]
    NoAgent,
}

impl Error {
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { doing, path: path.into(), source }
    }

    /// This error and its causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
