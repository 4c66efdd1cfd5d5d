//! The flags as texts: from the command line, the environment (`COTTON_` and the flag in capitals) and a TOML file with
//! the flags' names as keys. The command line wins over the environment, and that over the file.
#![expect(clippy::doc_markdown, reason = "the words of the flags are shown as help, as they are")]

use super::FlagError;
use crate::trust;
use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// All flags, none of them checked.
#[derive(Debug, Default, Parser, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(
    name = "cotton-scheduler",
    version,
    about = "Runs MySQL clusters on Apache Mesos, or on one machine with --mesos_master=local",
    after_help = "Every flag can also be given as COTTON_ and its name in capitals, such as COTTON_ZK_URL, and in a TOML \
                  file named by --config, which is the place for a --zk_url with a password: arguments can be read by \
                  everybody.",
    args_override_self = false
)]
pub(super) struct Raw {
    /// TOML file with flags, without the dashes, as keys
    #[arg(long = "config", value_name = "FILE", env = "COTTON_CONFIG", value_parser = path())]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,
    /// HTTP API port (required)
    #[arg(long = "port", value_name = "PORT", env = "COTTON_PORT")]
    #[serde(deserialize_with = "text_or_number")]
    pub(super) port: Option<String>,
    /// Address that the API listens on [default: 0.0.0.0, every address; 127.0.0.1 with --mesos_master=local]
    #[arg(long = "listen", value_name = "ADDRESS", env = "COTTON_LISTEN")]
    pub(super) listen: Option<String>,
    /// Names by which clients reach the API, several with commas, besides its addresses and the name of its machine; the
    /// first one is told to other schedulers and to Mesos
    #[arg(long = "hostname", value_name = "NAMES", env = "COTTON_HOSTNAME")]
    pub(super) hostname: Option<String>,
    /// Master: HOST:PORT, several with commas, a 'zk://' URL, or 'local' (required)
    #[arg(long = "mesos_master", value_name = "MASTER", env = "COTTON_MESOS_MASTER")]
    pub(super) mesos_master: Option<String>,
    /// Speak TLS to the masters, and trust only the authorities in this file: certificates in PEM
    #[arg(long = "mesos_ca_file", value_name = "FILE", env = "COTTON_MESOS_CA_FILE")]
    pub(super) mesos_ca_file: Option<PathBuf>,
    /// Unix user of the executors (required with Mesos)
    #[arg(long = "framework_user", value_name = "USER", env = "COTTON_FRAMEWORK_USER")]
    pub(super) framework_user: Option<String>,
    /// Role whose resources are used; with one, members keep their data on persistent volumes [default: *]
    #[arg(long = "framework_role", value_name = "ROLE", env = "COTTON_FRAMEWORK_ROLE")]
    pub(super) framework_role: Option<String>,
    /// Where agents get the executor's package from (required with Mesos)
    #[arg(long = "executor_uri", value_name = "URI", env = "COTTON_EXECUTOR_URI")]
    pub(super) executor_uri: Option<String>,
    /// The command that runs the executor (required with Mesos); with 'local' its program [default: cotton-executor
    /// beside this program]
    #[arg(long = "executor_cmd", value_name = "COMMAND", env = "COTTON_EXECUTOR_CMD")]
    pub(super) executor_cmd: Option<String>,
    /// Environment of the executors: JSON list of {"name": ..., "value": ...}
    #[arg(long = "executor_environ", value_name = "JSON", env = "COTTON_EXECUTOR_ENVIRON")]
    pub(super) executor_environ: Option<String>,
    /// ZooKeeper: zk://[USER:PASSWORD@]SERVERS/PATH (required with Mesos)
    #[arg(long = "zk_url", value_name = "URL", env = "COTTON_ZK_URL", hide_env_values = true)]
    pub(super) zk_url: Option<String>,
    /// How long an election waits for replicas that do not answer, such as 90s or 1m30s [default: 60s]
    #[arg(long = "election_timeout", value_name = "TIME", env = "COTTON_ELECTION_TIMEOUT")]
    pub(super) election_timeout: Option<String>,
    /// How far a replica may be behind the primary before its cluster is degraded, such as 30s or 5m [default: 30s]
    #[arg(long = "lag_warning", value_name = "TIME", env = "COTTON_LAG_WARNING")]
    pub(super) lag_warning: Option<String>,
    /// After three failovers within this time that may have lost commits, an asynchronous cluster waits for its old primary
    /// until they are this long ago; 0s: it never waits [default: 10m]
    #[arg(long = "failover_cooldown", value_name = "TIME", env = "COTTON_FAILOVER_COOLDOWN")]
    pub(super) failover_cooldown: Option<String>,
    /// File on the agents with the MySQL administrator's account: YAML with 'username' and 'password' (required with Mesos)
    #[arg(long = "admin_keypath", value_name = "FILE", env = "COTTON_ADMIN_KEYPATH")]
    pub(super) admin_keypath: Option<String>,
    /// Where local state is [default: mysos in the temporary directory]
    #[arg(long = "work_dir", value_name = "DIR", env = "COTTON_WORK_DIR", value_parser = path())]
    pub(super) work_dir: Option<PathBuf>,
    /// Where state is kept: 'zk' or 'local' [default: zk; local with --mesos_master=local]
    #[arg(long = "state_storage", value_name = "STORAGE", env = "COTTON_STATE_STORAGE")]
    pub(super) state_storage: Option<String>,
    /// File with the 32-byte key that seals passwords (required)
    #[arg(long = "scheduler_keypath", value_name = "FILE", env = "COTTON_SCHEDULER_KEYPATH", value_parser = path())]
    pub(super) scheduler_keypath: Option<PathBuf>,
    /// File on the agents with the same key [default: --scheduler_keypath]
    #[arg(long = "executor_keypath", value_name = "FILE", env = "COTTON_EXECUTOR_KEYPATH")]
    pub(super) executor_keypath: Option<String>,
    /// How long Mesos keeps our tasks while no scheduler is there [default: 14d]
    #[arg(long = "framework_failover_timeout", value_name = "TIME", env = "COTTON_FRAMEWORK_FAILOVER_TIMEOUT")]
    pub(super) framework_failover_timeout: Option<String>,
    /// Archive with the database server, unpacked by each executor: archive=PATH-OR-URI,sha256=HEX[,directory=DIR]
    /// [default: the server that agents have installed]
    #[arg(long = "installer_args", value_name = "ARGS", env = "COTTON_INSTALLER_ARGS")]
    pub(super) installer_args: Option<String>,
    /// Passed to the executors' backup store
    #[arg(long = "backup_store_args", value_name = "ARGS", env = "COTTON_BACKUP_STORE_ARGS")]
    pub(super) backup_store_args: Option<String>,
    /// File to prove with who we are: YAML with 'principal' and 'secret'
    #[arg(long = "framework_authentication_file", value_name = "FILE", env = "COTTON_FRAMEWORK_AUTHENTICATION_FILE", value_parser = path())]
    pub(super) framework_authentication_file: Option<PathBuf>,
    /// What the executors' source begins with
    #[arg(long = "executor_source_prefix", value_name = "PREFIX", env = "COTTON_EXECUTOR_SOURCE_PREFIX")]
    pub(super) executor_source_prefix: Option<String>,
    /// Log more
    #[arg(long = "verbose", env = "COTTON_VERBOSE", num_args = 0..=1, default_missing_value = "true", value_parser = truth)]
    pub(super) verbose: Option<bool>,
}

impl Raw {
    /// Reads the command line and the environment, and the file if one of them names one.
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, FlagError> {
        let raw = Self::try_parse_from(arguments.into_iter().map(with_underscores))?;
        let Some(path) = raw.config.as_ref().filter(|path| is_given(*path)) else { return Ok(raw.or(Self::default())) };
        let invalid = |reason: String| FlagError::Invalid { flag: "config", reason };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| invalid(format!("could not read '{}': {error}", path.display())))?;
        // The whole message would quote the line, and a ZooKeeper URL may hold a password.
        let file: Self = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            invalid(format!("'{}', line {line}: {}", path.display(), error.message()))
        })?;
        let with_password = file.zk_url.as_deref().is_some_and(|url| url.contains('@'));
        if with_password && let Ok(Err(exposed)) = trust::secret_file(path) {
            return Err(invalid(exposed.to_string()));
        }
        Ok(raw.or(file))
    }

    /// These flags, and those of `other` that are missing here. One of Apache Cotton's without a value is missing,
    /// as it was there.
    fn or(self, other: Self) -> Self {
        Self {
            config: self.config,
            port: either(self.port, other.port),
            listen: either(self.listen, other.listen),
            hostname: either(self.hostname, other.hostname),
            mesos_master: either(self.mesos_master, other.mesos_master),
            mesos_ca_file: self.mesos_ca_file.or(other.mesos_ca_file), // without one all goes in clear: not by accident
            framework_user: either(self.framework_user, other.framework_user),
            framework_role: either(self.framework_role, other.framework_role),
            executor_uri: either(self.executor_uri, other.executor_uri),
            executor_cmd: either(self.executor_cmd, other.executor_cmd),
            executor_environ: either(self.executor_environ, other.executor_environ),
            zk_url: either(self.zk_url, other.zk_url),
            election_timeout: either(self.election_timeout, other.election_timeout),
            lag_warning: either(self.lag_warning, other.lag_warning),
            failover_cooldown: either(self.failover_cooldown, other.failover_cooldown),
            admin_keypath: either(self.admin_keypath, other.admin_keypath),
            work_dir: either(self.work_dir, other.work_dir),
            state_storage: either(self.state_storage, other.state_storage),
            scheduler_keypath: either(self.scheduler_keypath, other.scheduler_keypath),
            executor_keypath: either(self.executor_keypath, other.executor_keypath),
            framework_failover_timeout: either(self.framework_failover_timeout, other.framework_failover_timeout),
            installer_args: either(self.installer_args, other.installer_args),
            backup_store_args: either(self.backup_store_args, other.backup_store_args),
            framework_authentication_file: either(
                self.framework_authentication_file,
                other.framework_authentication_file,
            ),
            executor_source_prefix: either(self.executor_source_prefix, other.executor_source_prefix),
            verbose: self.verbose.or(other.verbose),
        }
    }

    /// Flags that only mean something with Mesos, and are given.
    pub(super) fn for_mesos_only(&self) -> Option<&'static str> {
        [
            ("mesos_ca_file", self.mesos_ca_file.is_some()),
            ("framework_user", self.framework_user.is_some()),
            ("framework_role", self.framework_role.is_some()),
            ("executor_uri", self.executor_uri.is_some()),
            ("executor_environ", self.executor_environ.is_some()),
            ("zk_url", self.zk_url.is_some()),
            ("admin_keypath", self.admin_keypath.is_some()),
            ("executor_keypath", self.executor_keypath.is_some()),
            ("framework_failover_timeout", self.framework_failover_timeout.is_some()),
            ("installer_args", self.installer_args.is_some()),
            ("backup_store_args", self.backup_store_args.is_some()),
            ("framework_authentication_file", self.framework_authentication_file.is_some()),
            ("executor_source_prefix", self.executor_source_prefix.is_some()),
            ("state_storage", self.state_storage.as_deref() == Some("zk")),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }
}

fn either<T: AsRef<OsStr>>(first: Option<T>, second: Option<T>) -> Option<T> {
    first.filter(is_given).or(second.filter(is_given))
}

fn is_given<T: AsRef<OsStr>>(value: &T) -> bool {
    !value.as_ref().is_empty()
}

/// A path, or nothing: clap's own would refuse that.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Apache Cotton's `--verbose` had a value, any.
#[expect(clippy::unnecessary_wraps, reason = "as clap calls it")]
fn truth(text: &str) -> Result<bool, std::convert::Infallible> {
    Ok(!["", "0", "false", "no"].contains(&text.to_ascii_lowercase().as_str()))
}

/// `--work-dir=/a-b` is `--work_dir=/a-b`.
fn with_underscores(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument };
    let Some(flag) = text.strip_prefix("--").filter(|flag| !flag.is_empty()) else { return argument };
    let (name, value) = flag.find('=').map_or((flag, ""), |at| flag.split_at(at));
    format!("--{}{value}", name.replace('-', "_")).into()
}

/// In a file, a port may well be a number.
fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u64),
    }
    Ok(Some(match Either::deserialize(deserializer)? {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    }))
}
