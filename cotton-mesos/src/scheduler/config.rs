//! Who we are to a master, and how tasks are run.

use secrecy::SecretString;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a framework may be away before Mesos removes it and ends its tasks, when nothing else is said: two weeks, so
/// that a scheduler that is down over a holiday costs nobody a database.
pub const FAILOVER_TIMEOUT: Duration = Duration::from_hours(14 * 24);

/// What [`HttpMesos`](super::HttpMesos) needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// Who subscribes.
    pub framework: FrameworkConfig,
    /// What runs each task.
    pub executor: ExecutorConfig,
    /// With what to authenticate, when the masters ask for that.
    pub credential: Option<Credential>,
    /// Speaks TLS to the masters, and trusts only the authorities in this file (PEM). Without it, nothing is encrypted.
    #[cfg(feature = "tls")]
    pub ca_file: Option<std::path::PathBuf>,
    /// How long an executor may take to end its task when it is killed; less, if an agent is drained with less. A primary
    /// hands over in that time.
    pub kill_grace: Duration,
    /// Longest pause between attempts to connect.
    pub backoff_max: Duration,
    /// How long a connection, a call, or the first event may take.
    pub call_timeout: Duration,
}

impl SchedulerConfig {
    /// With defaults for all else: no authentication, no TLS, 30 s for kills and 10 s for calls, attempts to connect at most
    /// 5 s apart.
    pub fn new(framework: FrameworkConfig, executor: ExecutorConfig) -> Self {
        Self {
            framework,
            executor,
            credential: None,
            #[cfg(feature = "tls")]
            ca_file: None,
            kill_grace: Duration::from_secs(30),
            backoff_max: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
        }
    }

    /// Who we are to Mesos.
    pub(super) fn principal(&self) -> Option<&str> {
        let proven = self.credential.as_ref().map(|credential| credential.principal.as_str());
        proven.or(self.framework.principal.as_deref())
    }
}

/// A framework, as masters know it. Everything but the principal may be changed between two subscriptions; a master refuses
/// another principal in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameworkConfig {
    /// Its name, for people.
    pub name: String,
    /// Unix user that executors run as.
    pub user: String,
    /// For whom it wants resources. What is reserved for such a role comes beside what is not reserved at all. With
    /// several roles, each offer is for one of them only.
    pub roles: Vec<String>,
    /// Who it claims to be when there is no credential; with one, it is the credential's.
    pub principal: Option<String>,
    /// How long it may be away before it is removed, and its tasks with it.
    pub failover_timeout: Duration,
    /// Its page, for people who look at the master's.
    pub webui_url: Option<String>,
    /// Where it runs, for the same people.
    pub hostname: Option<String>,
}

impl FrameworkConfig {
    /// With the role of everybody (`*`), [`FAILOVER_TIMEOUT`] and nothing else.
    pub fn new(name: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            user: user.into(),
            roles: vec!["*".to_owned()],
            principal: None,
            failover_timeout: FAILOVER_TIMEOUT,
            webui_url: None,
            hostname: None,
        }
    }
}

/// With what to authenticate: HTTP basic authentication.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Who.
    pub principal: String,
    /// The proof.
    pub secret: SecretString,
}

/// What runs each task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutorConfig {
    /// A line for `/bin/sh`, run in the sandbox, such as `exec ./cotton-executor`. Never secrets: anybody can see them.
    pub command: String,
    /// What agents fetch into the sandbox before.
    pub uris: Vec<ExecutorUri>,
    /// What to add to its environment. Never secrets: masters and agents show it.
    pub environment: BTreeMap<String, String>,
    /// Its name, for people.
    pub name: String,
    /// `ExecutorInfo.source` is `<prefix>.<cluster>.<member>`, as Apache Cotton's; without a prefix, `<cluster>.<member>`.
    pub source_prefix: Option<String>,
}

impl ExecutorConfig {
    /// Runs `command`, and fetches nothing.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            uris: Vec::new(),
            environment: BTreeMap::new(),
            name: "cotton.executor".to_owned(),
            source_prefix: None,
        }
    }
}

/// Something that agents fetch into the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorUri {
    /// From where: a path on the agent, or `http:`, `https:`, `hdfs:`, ...
    pub value: String,
    /// Whether it is a program. Programs are not unpacked.
    pub executable: bool,
    /// Whether to unpack it.
    pub extract: bool,
    /// Whether the agent may keep it for the next time.
    pub cache: bool,
}

impl ExecutorUri {
    /// A program, as Apache Cotton's `--executor_uri`.
    pub fn program(value: impl Into<String>) -> Self {
        Self { value: value.into(), executable: true, extract: false, cache: false }
    }
}
