//! Flags of `cotton-scheduler`: Apache Cotton's names, with underscores; dashes are accepted, too.

pub mod credentials;
mod mesos;
mod raw;

pub use mesos::{MesosFlags, StateStorage};

use super::duration;
use cotton_core::cluster::Timing;
use raw::Raw;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// Shortest `--election_timeout`: the longest that a member which is well takes to answer, with some seconds to spare. The
/// lease of an asynchronous primary runs for 10 s, and its end is noticed 3 s later.
const ELECTION_TIMEOUT_MIN: Duration = Duration::from_secs(15);
const ELECTION_TIMEOUT_WHY: &str = "members that are well may take as long to answer, and would be passed over with all \
                                    that only they have";

/// What `cotton-scheduler` was told, checked.
#[derive(Clone, Debug)]
pub struct SchedulerFlags {
    /// Port of the HTTP API.
    pub port: u16,
    /// Address of the HTTP API. Unless told, that is every address, as Apache Cotton's, since users, and standbys that
    /// point to the leader, are on other machines; or loopback with [`Master::Local`], whose members are there, too.
    pub listen: IpAddr,
    /// Names by which clients reach the API, besides those of the machine; others are told the first one.
    pub hostnames: Vec<String>,
    /// Where local state is; with [`Master::Local`] also discovery and the agents' sandboxes.
    pub work_dir: PathBuf,
    /// File with the 32-byte key that seals passwords.
    pub scheduler_keypath: PathBuf,
    /// How long an election waits for replicas that do not answer.
    pub election_timeout: Duration,
    /// How far behind a replica may be before its cluster says so.
    pub lag_warning: Duration,
    /// For how long no failover that may lose commits is decided after three in such a time; zero for never.
    pub failover_cooldown: Duration,
    /// Whether to log more.
    pub verbose: bool,
    /// What to run on.
    pub master: Master,
}

/// What to run on.
#[derive(Clone, Debug)]
pub enum Master {
    /// This machine alone.
    Local {
        /// The executor's program; beside this one when not given.
        executor_cmd: Option<PathBuf>,
    },
    /// Apache Mesos.
    Mesos(Box<MesosFlags>),
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
        "--{0} has no meaning with --mesos_master=local, which takes --port, --listen, --hostname, --work_dir, --scheduler_keypath, \
         --election_timeout, --lag_warning, --failover_cooldown, --executor_cmd, --state_storage=local and --verbose: leave it out, or name a master"
    )]
    WithoutMesos(&'static str),
}

impl SchedulerFlags {
    /// Reads a command line, program name first, the environment, and the file that `--config` names.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, FlagError> {
        let raw = Raw::read(arguments)?;
        let port = raw.port.as_ref().ok_or(FlagError::Missing("port"))?;
        let port = port.parse().map_err(|_| invalid("port", format!("'{port}' is no port from 0 to 65535")))?;
        let listen = raw.listen.as_deref().map(listen).transpose()?;
        let hostnames = raw.hostname.as_deref().map(hostnames).transpose()?.unwrap_or_default();
        let master = raw.mesos_master.clone().ok_or(FlagError::Missing("mesos_master"))?;
        let is_local = master == "local";
        if let Some(flag) = raw.for_mesos_only().filter(|_| is_local) {
            return Err(FlagError::WithoutMesos(flag));
        }
        let scheduler_keypath = raw.scheduler_keypath.clone().ok_or(FlagError::Missing("scheduler_keypath"))?;
        let election_timeout = raw.election_timeout.as_deref().unwrap_or("60s");
        let election_timeout = duration::parse(election_timeout).map_err(|e| invalid("election_timeout", e))?;
        if election_timeout < ELECTION_TIMEOUT_MIN {
            return Err(invalid("election_timeout", too_short(ELECTION_TIMEOUT_MIN, ELECTION_TIMEOUT_WHY)));
        }
        let lag_warning = raw.lag_warning.as_deref().unwrap_or("30s");
        let lag_warning = duration::parse(lag_warning).map_err(|e| invalid("lag_warning", e))?;
        let failover_cooldown = raw.failover_cooldown.as_deref().unwrap_or("10m");
        let failover_cooldown = duration::parse(failover_cooldown).map_err(|e| invalid("failover_cooldown", e))?;
        let master = if is_local {
            Master::Local { executor_cmd: raw.executor_cmd.clone().map(PathBuf::from) }
        } else {
            Master::Mesos(Box::new(MesosFlags::check(&raw, master, &scheduler_keypath)?))
        };
        Ok(Self {
            port,
            listen: listen.unwrap_or(if is_local { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED }.into()),
            hostnames,
            work_dir: raw.work_dir.unwrap_or_else(|| std::env::temp_dir().join("mysos")),
            scheduler_keypath,
            election_timeout,
            lag_warning,
            failover_cooldown,
            verbose: raw.verbose.unwrap_or_default(),
            master,
        })
    }
}

impl SchedulerFlags {
    /// The times of clusters, as far as flags change them.
    pub fn timing(&self) -> Timing {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (election_ms, lag_warning_ms) = (ms(self.election_timeout), ms(self.lag_warning));
        let failover_cooldown_ms = ms(self.failover_cooldown);
        Timing { election_ms, lag_warning_ms, failover_cooldown_ms, ..Timing::default() }
    }
}

fn listen(text: &str) -> Result<IpAddr, FlagError> {
    text.parse().map_err(|_| invalid("listen", format!("'{text}' is no IP address, such as 127.0.0.1, 0.0.0.0 or ::")))
}

fn hostnames(text: &str) -> Result<Vec<String>, FlagError> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let check = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.chars().all(allowed) {
            return Ok(name.to_owned());
        }
        let how = "names have no scheme, port or path, as in cotton.example.com,cotton";
        Err(invalid("hostname", format!("'{name}' is no name of a host: {how}")))
    };
    names.map(check).collect()
}

fn too_short(least: Duration, why: &str) -> String {
    format!("it must be at least {}s: {why}", least.as_secs())
}

fn invalid(flag: &'static str, reason: impl std::fmt::Display) -> FlagError {
    FlagError::Invalid { flag, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn parse(flags: &str) -> Result<SchedulerFlags, String> {
        let arguments = std::iter::once("cotton-scheduler").chain(flags.split_whitespace());
        SchedulerFlags::parse(arguments.map(OsString::from)).map_err(|error| error.to_string())
    }

    fn refused(flags: &str) -> String {
        parse(flags).map(drop).expect_err(flags)
    }

    const MESOS: &str = "--port 8080 --mesos_master zk://z/mesos --scheduler_keypath /k --framework_user mysql \
                         --executor_uri /x.tgz --executor_cmd ./cotton-executor --zk_url zk://u:p@z:2181/mysos \
                         --admin_keypath /admin.yml";

    #[test]
    fn on_one_machine() {
        let least = parse("--port 8080 --mesos_master local --scheduler_keypath /k").expect("enough");
        assert_eq!(least.election_timeout, Duration::from_mins(1));
        assert_eq!(least.work_dir, std::env::temp_dir().join("mysos"));
        assert!(matches!(least.master, Master::Local { executor_cmd: None }) && !least.verbose);
        let most = parse(
            "--port=8080 --mesos-master=local --scheduler-keypath=/k-1 --work-dir=/w-1 --election_timeout 1m30s --lag_warning 5s \
             --failover_cooldown 0s --executor-cmd /e --state_storage local --verbose",
        );
        let most = most.expect("all make sense");
        assert_eq!((most.port, most.election_timeout, most.verbose), (8080, Duration::from_secs(90), true));
        assert_eq!((least.lag_warning, most.lag_warning), (Duration::from_secs(30), Duration::from_secs(5)));
        assert_eq!([least.timing(), most.timing()].map(|timing| timing.failover_cooldown_ms), [600_000, 0]);
        assert_eq!((most.work_dir, most.scheduler_keypath), ("/w-1".into(), "/k-1".into()));
        assert!(matches!(most.master, Master::Local { executor_cmd: Some(path) } if path.as_os_str() == "/e"));
        for flag in ["zk_url", "framework_user", "executor_uri", "admin_keypath", "installer_args", "executor_keypath"]
        {
            let error = refused(&format!("--port 1 --mesos_master local --{flag} x"));
            assert!(error.starts_with(&format!("--{flag} has no meaning with --mesos_master=local")), "{error}");
        }
        let error = refused("--port 1 --mesos_master local --state_storage zk");
        assert!(error.starts_with("--state_storage has no meaning"), "{error}");
    }

    #[test]
    fn where_it_listens() {
        let local = "--port 1 --mesos_master local --scheduler_keypath /k";
        let of = |flags: &str| parse(flags).map(|flags| (flags.listen.to_string(), flags.hostnames));
        assert_eq!(of(local), Ok(("127.0.0.1".to_owned(), vec![])));
        assert_eq!(of(MESOS), Ok(("0.0.0.0".to_owned(), vec![])));
        assert_eq!(of(&format!("{MESOS} --listen ::1")), Ok(("::1".to_owned(), vec![])));
        let named = of(&format!("{local} --listen=10.0.0.1 --hostname=db.example,db2"));
        assert_eq!(named, Ok(("10.0.0.1".to_owned(), vec!["db.example".to_owned(), "db2".to_owned()])));
        assert!(refused(&format!("{MESOS} --listen eth0")).starts_with("Invalid --listen: 'eth0' is no IP address"));
        let error = refused(&format!("{MESOS} --hostname http://a:1"));
        assert!(error.starts_with("Invalid --hostname: 'http://a:1' is no name of a host"), "{error}");
    }

    /// As Apache Cotton, whose start scripts pass on what they have not.
    #[test]
    fn without_a_value_a_flag_is_not_given() {
        let flags = ["executor_environ", "framework_authentication_file", "framework_role", "config", "work_dir"];
        let empty: String = flags.map(|flag| format!(" --{flag}=")).concat();
        let parsed = parse(&format!("{MESOS}{empty}")).expect("as without them");
        let Master::Mesos(mesos) = parsed.master else { panic!("not local") };
        assert!(mesos.executor_environ.is_empty() && mesos.credentials.is_none() && mesos.role == "*");
        let missing = refused(&format!("{} --framework_user=", MESOS.replace("--framework_user mysql", "")));
        assert!(missing.contains("framework_user"), "{missing}");
        let null = parse(&format!("{MESOS} --executor_environ=null")).expect("nothing");
        assert!(matches!(null.master, Master::Mesos(mesos) if mesos.executor_environ.is_empty()));
        for (text, verbose) in
            [("--verbose", true), ("--verbose=1", true), ("--verbose 1", true), ("--verbose=0", false)]
        {
            assert_eq!(parse(&format!("{MESOS} {text}")).expect(text).verbose, verbose, "{text}");
        }
    }

    #[test]
    fn on_mesos() {
        let flags = parse(MESOS).expect("enough");
        let Master::Mesos(mesos) = flags.master else { panic!("not local") };
        assert_eq!((mesos.master.as_str(), mesos.zk_url.expose_secret()), ("zk://z/mesos", "zk://u:p@z:2181/mysos"));
        assert_eq!((mesos.role.as_str(), mesos.user.as_str()), ("*", "mysql"));
        assert_eq!((mesos.executor_uri.as_str(), mesos.executor_cmd.as_str()), ("/x.tgz", "./cotton-executor"));
        assert_eq!((mesos.executor_keypath.as_str(), mesos.admin_keypath.as_str()), ("/k", "/admin.yml"));
        assert_eq!(mesos.failover_timeout, Duration::from_hours(14 * 24));
        assert_eq!(mesos.state_storage, StateStorage::ZooKeeper);
        assert!(mesos.credentials.is_none() && mesos.executor_environ.is_empty() && mesos.ca_file.is_none());
        assert!(!format!("{mesos:?}").contains("u:p"), "the password is not shown");
        let environ = r#"--executor_environ=[{"name":"A","value":"b=c"},{"name":"B","value":""}]"#;
        let more = format!(
            "{MESOS} --installer_args archive=/opt/x.tar --mesos_ca_file /dev/null --framework_role db --executor_keypath /e/k --framework_failover_timeout 1d --state_storage files {environ}"
        );
        let Master::Mesos(mesos) = parse(&more).expect("all make sense").master else { panic!("not local") };
        assert_eq!((mesos.role.as_str(), mesos.executor_keypath.as_str()), ("db", "/e/k"));
        assert_eq!(mesos.ca_file.as_deref(), Some(Path::new("/dev/null")));
        assert_eq!(mesos.failover_timeout, Duration::from_hours(24));
        assert_eq!(mesos.installer_args.as_deref(), Some("archive=/opt/x.tar"));
        assert_eq!(mesos.state_storage, StateStorage::Local);
        assert_eq!(mesos.executor_environ["A"], "b=c");
        assert_eq!(mesos.executor_environ["B"], "");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(refused(""), "Must specify --port");
        assert_eq!(refused("--port 1"), "Must specify --mesos_master");
        assert_eq!(refused("--port 1 --mesos_master local"), "Must specify --scheduler_keypath");
        let all: Vec<&str> = MESOS.split_whitespace().collect();
        for pair in all.chunks(2) {
            let others: Vec<&str> = all.chunks(2).filter(|other| *other != pair).flatten().copied().collect();
            assert_eq!(refused(&others.join(" ")), format!("Must specify {}", pair[0]));
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let rest = "--mesos_master local --scheduler_keypath /k";
        assert_eq!(refused(&format!("--port x {rest}")), "Invalid --port: 'x' is no port from 0 to 65535");
        assert_eq!(
            refused(&format!("--port 1 {rest} --election_timeout 60")),
            "Invalid --election_timeout: time must be in the form XdYhZmWs (such as 90s or 1h30m), not '60'"
        );
        assert_eq!(
            refused(&format!("--port 1 {rest} --election_timeout 14s")),
            format!("Invalid --election_timeout: it must be at least 15s: {ELECTION_TIMEOUT_WHY}")
        );
        parse(&format!("--port 1 {rest} --election_timeout 15s")).expect("long enough");
        assert!(refused("--nonsense 1").contains("unexpected argument '--nonsense'"));
        for (flags, reason) in [
            ("--installer_args mysql.tar.gz", "Invalid --installer_args: 'mysql.tar.gz' is neither archive=, sha256="),
            ("--installer_args archive=http://h/x.tar", "Invalid --installer_args: sha256= is missing"),
            ("--framework_failover_timeout soon", "Invalid --framework_failover_timeout: time must be"),
            (
                "--framework_failover_timeout 0s",
                "Invalid --framework_failover_timeout: it must be at least 5s: when no",
            ),
            (
                "--framework_failover_timeout 4s",
                "Invalid --framework_failover_timeout: it must be at least 5s: when no",
            ),
            ("--mesos_ca_file /none", "Invalid --mesos_ca_file: could not read '/none'"),
            ("--mesos_ca_file=", "error: a value is required for '--mesos_ca_file <FILE>'"),
            (
                "--framework_authentication_file /none",
                "Invalid --framework_authentication_file: could not read '/none'",
            ),
            ("--executor_environ {}", "Invalid --executor_environ: it must be a JSON list"),
            (
                r#"--executor_environ [{"name":"MYSOS_DEFAULTS_FILE","value":"x"}]"#,
                "Invalid --executor_environ: 'MYSOS_DEF",
            ),
            (r#"--executor_environ [{"name":"","value":"x"}]"#, "Invalid --executor_environ: '' cannot be the name"),
            (
                r#"--executor_environ [{"name":"A","value":"x"},{"name":"A","value":"y"}]"#,
                "Invalid --executor_environ: 'A' is there twice",
            ),
        ] {
            let error = refused(&format!("{MESOS} {flags}"));
            assert!(error.starts_with(reason), "{error}");
        }
        let error = refused(&MESOS.replace("zk://u:p@z:2181", "http://u:p@z"));
        assert!(error.starts_with("Invalid --zk_url: it must begin with 'zk://'") && !error.contains("u:p"), "{error}");
    }

    #[test]
    fn a_file_fills_in_what_is_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cotton.toml");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        let config = format!("--config {}", path.display());
        write("port = 1\nmesos_master = \"local\"\nscheduler_keypath = \"/k\"\nverbose = true\n");
        let flags = parse(&config).expect("enough");
        assert_eq!((flags.port, flags.scheduler_keypath, flags.verbose), (1, "/k".into(), true));
        let flags = parse(&format!("{config} --port 2 --verbose=false")).expect("enough");
        assert_eq!((flags.port, flags.verbose), (2, false), "the command line wins");
        write("port = 1\nzk_url = \"zk://u:secret@z/\"\nprot = 2\n");
        let error = refused(&config);
        assert!(error.contains("line 3") && error.contains("prot") && !error.contains("secret"), "{error}");
        write("port = 1\nmesos_master = \"local\"\nzk_url = \"zk://u:secret@z/\"\n");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        mode(0o644);
        let error = refused(&config);
        assert!(error.starts_with("Invalid --config: '") && error.contains("chmod 600"), "{error}");
        mode(0o600);
        assert!(refused(&config).starts_with("--zk_url has no meaning"));
        write("port = \n");
        assert!(refused(&config).contains("line 1"));
        assert!(refused("--config /none").starts_with("Invalid --config: could not read '/none'"));
    }
}
