//! Flags of `cotton-scheduler`: Apache Cotton's names, with underscores; dashes are accepted, too.

use super::duration;
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What `cotton-scheduler` was told, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerFlags {
    /// Port of the HTTP API, on every address.
    pub port: u16,
    /// Where state, discovery and the agents' sandboxes are.
    pub work_dir: PathBuf,
    /// File with the 32-byte key that seals passwords.
    pub scheduler_keypath: PathBuf,
    /// How long an election waits for replicas that do not answer.
    pub election_timeout: Duration,
    /// The executor's program; beside this one when not given.
    pub executor_cmd: Option<PathBuf>,
    /// Whether to log more.
    pub verbose: bool,
}

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// Help or version was asked for, or clap cannot make sense of the command line.
    #[error(transparent)]
    Clap(#[from] clap::Error),
    /// A required flag is missing. The text is Apache Cotton's.
    #[error("Must specify --{0}")]
    Missing(&'static str),
    /// A value makes no sense.
    #[error("Invalid --{flag}: {reason}")]
    Invalid {
        /// Which flag.
        flag: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// For Mesos only.
    #[error(
        "--{0} comes with Mesos support in a later release; this one runs everything on one machine with \
         --mesos_master=local, and takes --port, --work_dir, --scheduler_keypath, --election_timeout, --executor_cmd, \
         --state_storage=local and --verbose"
    )]
    Later(&'static str),
}

#[derive(Debug, Parser)]
#[command(
    name = "cotton-scheduler",
    version,
    about = "Runs MySQL clusters; this release on one machine (--mesos_master=local), with Mesos in a later one",
    args_override_self = false
)]
struct Raw {
    /// HTTP API port (required)
    #[arg(long = "port", value_name = "PORT")]
    port: Option<String>,
    /// Master to connect to (required); only 'local' in this release
    #[arg(long = "mesos_master", value_name = "MASTER")]
    mesos_master: Option<String>,
    /// File with the 32-byte key that seals passwords (required)
    #[arg(long = "scheduler_keypath", value_name = "FILE")]
    scheduler_keypath: Option<PathBuf>,
    /// Where local state is [default: mysos in the temporary directory]
    #[arg(long = "work_dir", value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// How long an election waits for replicas that do not answer, such as 90s or 1m30s [default: 60s]
    #[arg(long = "election_timeout", value_name = "TIME")]
    election_timeout: Option<String>,
    /// The executor's program [default: cotton-executor beside this program]
    #[arg(long = "executor_cmd", value_name = "PROGRAM")]
    executor_cmd: Option<PathBuf>,
    /// Where state is kept; only 'local' in this release
    #[arg(long = "state_storage", value_name = "STORAGE")]
    state_storage: Option<String>,
    /// Log more
    #[arg(long = "verbose")]
    verbose: bool,
    #[arg(long = "framework_user", hide = true)]
    framework_user: Option<String>,
    #[arg(long = "framework_role", hide = true)]
    framework_role: Option<String>,
    #[arg(long = "executor_uri", hide = true)]
    executor_uri: Option<String>,
    #[arg(long = "executor_environ", hide = true)]
    executor_environ: Option<String>,
    #[arg(long = "zk_url", hide = true)]
    zk_url: Option<String>,
    #[arg(long = "admin_keypath", hide = true)]
    admin_keypath: Option<String>,
    #[arg(long = "framework_failover_timeout", hide = true)]
    framework_failover_timeout: Option<String>,
    #[arg(long = "installer_args", hide = true)]
    installer_args: Option<String>,
    #[arg(long = "backup_store_args", hide = true)]
    backup_store_args: Option<String>,
    #[arg(long = "framework_authentication_file", hide = true)]
    framework_authentication_file: Option<String>,
    #[arg(long = "executor_source_prefix", hide = true)]
    executor_source_prefix: Option<String>,
}

impl SchedulerFlags {
    /// Reads a command line, program name first.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, FlagError> {
        let raw = Raw::try_parse_from(arguments.into_iter().map(with_underscores))?;
        for (flag, given) in [
            ("framework_user", raw.framework_user.is_some()),
            ("framework_role", raw.framework_role.is_some()),
            ("executor_uri", raw.executor_uri.is_some()),
            ("executor_environ", raw.executor_environ.is_some()),
            ("zk_url", raw.zk_url.is_some()),
            ("admin_keypath", raw.admin_keypath.is_some()),
            ("framework_failover_timeout", raw.framework_failover_timeout.is_some()),
            ("installer_args", raw.installer_args.is_some()),
            ("backup_store_args", raw.backup_store_args.is_some()),
            ("framework_authentication_file", raw.framework_authentication_file.is_some()),
            ("executor_source_prefix", raw.executor_source_prefix.is_some()),
            ("mesos_master", raw.mesos_master.as_deref().is_some_and(|master| master != "local")),
            ("state_storage", raw.state_storage.as_deref() == Some("zk")),
        ] {
            if given {
                return Err(FlagError::Later(flag));
            }
        }
        let port = raw.port.ok_or(FlagError::Missing("port"))?;
        let port = port.parse().map_err(|_| invalid("port", format!("'{port}' is no port from 0 to 65535")))?;
        raw.mesos_master.ok_or(FlagError::Missing("mesos_master"))?;
        let scheduler_keypath = raw.scheduler_keypath.ok_or(FlagError::Missing("scheduler_keypath"))?;
        let election_timeout = raw.election_timeout.as_deref().unwrap_or("60s");
        let election_timeout = duration::parse(election_timeout).map_err(|e| invalid("election_timeout", e))?;
        Ok(Self {
            port,
            work_dir: raw.work_dir.unwrap_or_else(|| std::env::temp_dir().join("mysos")),
            scheduler_keypath,
            election_timeout,
            executor_cmd: raw.executor_cmd,
            verbose: raw.verbose,
        })
    }
}

fn invalid(flag: &'static str, reason: impl std::fmt::Display) -> FlagError {
    FlagError::Invalid { flag, reason: reason.to_string() }
}

/// `--work-dir=/a-b` is `--work_dir=/a-b`.
fn with_underscores(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument };
    let Some(flag) = text.strip_prefix("--").filter(|flag| !flag.is_empty()) else { return argument };
    let (name, value) = flag.find('=').map_or((flag, ""), |at| flag.split_at(at));
    format!("--{}{value}", name.replace('-', "_")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &str) -> Result<SchedulerFlags, String> {
        let arguments = std::iter::once("cotton-scheduler").chain(flags.split_whitespace());
        SchedulerFlags::parse(arguments.map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_least_and_the_most() {
        let least = parse("--port 8080 --mesos_master local --scheduler_keypath /k").expect("enough");
        assert_eq!(least.election_timeout, Duration::from_mins(1));
        assert_eq!(least.work_dir, std::env::temp_dir().join("mysos"));
        let most = parse(
            "--port=8080 --mesos-master=local --scheduler-keypath=/k-1 --work-dir=/w-1 --election_timeout 1m30s \
             --executor-cmd /e --state_storage local --verbose",
        );
        let wanted = SchedulerFlags {
            port: 8080,
            work_dir: "/w-1".into(),
            scheduler_keypath: "/k-1".into(),
            election_timeout: Duration::from_secs(90),
            executor_cmd: Some("/e".into()),
            verbose: true,
        };
        assert_eq!(most, Ok(wanted));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(parse(""), Err("Must specify --port".to_owned()));
        assert_eq!(parse("--port 1"), Err("Must specify --mesos_master".to_owned()));
        assert_eq!(parse("--port 1 --mesos_master local"), Err("Must specify --scheduler_keypath".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let rest = "--mesos_master local --scheduler_keypath /k";
        assert_eq!(
            parse(&format!("--port x {rest}")),
            Err("Invalid --port: 'x' is no port from 0 to 65535".to_owned())
        );
        let time = parse(&format!("--port 1 {rest} --election_timeout 60")).expect_err("no unit");
        assert_eq!(
            time,
            "Invalid --election_timeout: time must be in the form XdYhZmWs (such as 90s or 1h30m), not '60'"
        );
        assert!(parse("--nonsense 1").expect_err("unknown").contains("unexpected argument '--nonsense'"));
    }

    #[test]
    fn what_needs_mesos_says_so() {
        for flag in [
            "zk_url",
            "framework_user",
            "framework_role",
            "executor_uri",
            "executor_environ",
            "admin_keypath",
            "framework_failover_timeout",
            "installer_args",
            "backup_store_args",
            "framework_authentication_file",
            "executor_source_prefix",
            "mesos_master",
        ] {
            let error = parse(&format!("--{flag} zk://x")).expect_err("later");
            assert!(error.starts_with(&format!("--{flag} comes with Mesos support in a later release")), "{error}");
        }
        assert!(parse("--state_storage zk").expect_err("later").contains("later release"));
    }
}
