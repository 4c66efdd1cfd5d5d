//! Real servers for tests: found, started on free ports, stopped with the test.
#![allow(
    dead_code,
    missing_docs,
    clippy::missing_panics_doc,
    clippy::option_option,
    reason = "each test crate uses its part"
)]

use cotton_core::ports::mysql::{Followed, Following, LinkState, MySql, Promoted, Promotion, ServerStatus};
use cotton_core::resources::MIB;
use cotton_core::{Endpoint, GtidSet, Resources, Sealed};
use cotton_mysql::{Instance, InstanceConfig, Passwords, Unseal};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use rustix::process::{Pid, Signal};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) const USER: &str = "orders";
pub(crate) const USER_PASSWORD: &str = "user pa'ss\\word";
pub(crate) const ADMIN_PASSWORD: &str = "admin-password";
pub(crate) const REPL_PASSWORD: &str = "repl-password";

/// A family of servers to test with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    /// The system's.
    MariaDb,
    MariaDb118,
    MySql97,
    MySql56,
}

impl Servers {
    /// Where its programs are; `None` (after saying so loudly) when it is not there, which in CI is a failure.
    #[expect(clippy::option_option, reason = "not there, there by itself, there in a directory")]
    pub(crate) fn programs(self) -> Option<Option<PathBuf>> {
        let found = match self {
            Self::MariaDb => Path::new("/usr/sbin/mariadbd").exists().then_some(None),
            Self::MariaDb118 if system_is("11.8.") => {
                eprintln!("{self:?} is the system's own: tested as MariaDb");
                return None;
            }
            Self::MariaDb118 => fetched("mariadb-11.8").map(Some),
            Self::MySql97 => fetched("sid").map(Some),
            Self::MySql56 => fetched("npm-5.6").map(Some),
        };
        if found.is_none() {
            assert!(std::env::var_os("CI").is_none(), "{self:?} is not installed");
            eprintln!("SKIPPED: {self:?} is not installed");
        }
        found
    }
}

impl Servers {
    pub(crate) fn has_semi_sync(self) -> bool {
        self != Self::MySql56
    }

    pub(crate) fn is_mariadb(self) -> bool {
        matches!(self, Self::MariaDb | Self::MariaDb118)
    }

    /// An empty data directory of this kind of server, made once by each run.
    async fn template(self) -> PathBuf {
        static MADE: tokio::sync::Mutex<Vec<Servers>> = tokio::sync::Mutex::const_new(Vec::new());
        let mut made = MADE.lock().await;
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = parent.join(format!("template-{self:?}-{}", std::process::id()));
        if !made.contains(&self) {
            let member = Member::new(self.programs().expect("looked for before"), |_| {});
            member.provision().await;
            for entry in std::fs::read_dir(parent).expect("made by cargo").flatten() {
                let name = entry.file_name().into_string().unwrap_or_default();
                let of = name.strip_prefix("template-").and_then(|rest| rest.rsplit('-').next());
                if of.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                    let _ = std::fs::remove_dir_all(entry.path()); // of an earlier run
                }
            }
            let copied = Command::new("cp").arg("-a").arg(member.root().join("data")).arg(&path).status();
            assert!(copied.expect("cp runs").success());
            let _ = std::fs::remove_file(path.join("auto.cnf")); // on MySQL: each copy gets a UUID of its own
            made.push(self);
        }
        path
    }
}

/// Whether the system's MariaDB is of this version.
fn system_is(version: &str) -> bool {
    let told = Command::new("/usr/sbin/mariadbd").arg("--version").output();
    told.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("Ver {version}")))
}

/// A server unpacked into the cache; copied to where its account gets when the cache is closed to it.
fn fetched(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("COTTON_MYSQL_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/cotton-mysql")))?;
    let dir = cache.join(name);
    if !["bin/mysqld", "bin/mariadbd"].iter().any(|program| dir.join(program).exists()) {
        return None;
    }
    let open = std::env::temp_dir().join("cotton-test-servers");
    let script = "mkdir -p \"$2\" && exec 9>\"$2/.lock\" && flock 9 && cd \"$2\" && \
                  { [ -e \"$3\" ] || { cp -a --reflink=auto \"$1\" \"$3.new\" && chmod 755 . \"$3.new\" && mv \"$3.new\" \"$3\"; }; }";
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(&dir).arg(&open).arg(name).status();
    assert!(status.expect("sh runs").success(), "copying {name}");
    Some(open.join(name).join("bin"))
}

/// Far more than anything takes, so that a failure is one and not a slow machine, or a disk that stands still.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Below those that the system gives to whoever asks for any: between here and the server's start one could be taken.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let seed = u64::from(std::process::id()) * 101 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(20_000 + seed % 12_000).expect("below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One server with its directory.
pub(crate) struct Member {
    pub(crate) instance: Arc<Instance>,
    pub(crate) config: InstanceConfig,
    pub(crate) endpoint: Endpoint,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn config(programs: Option<PathBuf>, root: &Path, server_id: u64) -> InstanceConfig {
    let endpoint = Endpoint::new("127.0.0.1", free_port());
    let passwords =
        Passwords { user: USER_PASSWORD.into(), admin: ADMIN_PASSWORD.into(), replication: REPL_PASSWORD.into() };
    let resources = Resources { cpus_milli: 1000, mem_bytes: 128 * MIB, disk_bytes: 1024 * MIB };
    let mut config = InstanceConfig::new(root.join("m"), endpoint, server_id, resources, USER, passwords);
    config.programs = programs;
    config.unseal = Some(Unseal(Arc::new(|sealed: &Sealed| Some(sealed.as_str().into()))));
    (config.timing.probe, config.timing.statement) = (PATIENCE, PATIENCE); // a busy machine is not what is tested
    config.bind_address = "127.0.0.1".into();
    config
}

/// A directory that other accounts may pass.
pub(crate) fn directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix("cotton-mysql-").permissions(permissions).tempdir().expect("temporary directory")
}

impl Member {
    pub(crate) fn new(programs: Option<PathBuf>, edit: impl FnOnce(&mut InstanceConfig)) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let dir = directory();
        let mut config = config(programs, dir.path(), LAST.fetch_add(1, Ordering::Relaxed) + 1);
        edit(&mut config);
        let endpoint = config.endpoint.clone();
        let instance = Arc::new(Instance::new(config.clone()).expect("programs are there"));
        Self { instance, config, endpoint, dir }
    }

    /// Makes the data directory. MySQL's own making of one was seen to hang on a busy machine: then again, as an executor.
    pub(crate) async fn provision(&self) {
        for _ in 0..2 {
            match self.instance.provision().await {
                Err(error) if error.is_temporary() => eprintln!("  {}", error.chain()),
                made => return made.expect("provision"),
            }
        }
        self.instance.provision().await.expect("provision");
    }

    /// The same directory with another executor.
    pub(crate) fn reopened(self) -> Self {
        let instance = Arc::new(Instance::new(self.config.clone()).expect("programs are there"));
        Self { instance, ..self }
    }

    /// With a data directory that was made once and copied since.
    pub(crate) async fn ready(servers: Servers, edit: impl FnOnce(&mut InstanceConfig)) -> Option<Self> {
        let this = Self::new(servers.programs()?, edit);
        let template = servers.template().await;
        std::fs::create_dir_all(this.root()).expect("directory");
        let copied = Command::new("cp").arg("-a").arg(&template).arg(this.root().join("data")).status();
        assert!(copied.expect("cp runs").success());
        Some(this)
    }

    /// Ready and started.
    pub(crate) async fn running(servers: Servers) -> Option<Self> {
        let this = Self::ready(servers, |_| {}).await?;
        this.instance.start().await.expect("start");
        Some(this)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("m")
    }

    pub(crate) fn address(&self, user: &str, password: &str) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname(self.endpoint.host.clone())
            .tcp_port(self.endpoint.port)
            .user(Some(user))
            .pass(Some(password))
            .prefer_socket(false)
    }

    /// A connection of the cluster's user.
    pub(crate) async fn client(&self) -> Conn {
        Conn::new(self.address(USER, USER_PASSWORD)).await.expect("the cluster's user gets in")
    }

    pub(crate) async fn try_client(&self) -> Result<Conn, mysql_async::Error> {
        Conn::new(self.address(USER, USER_PASSWORD)).await
    }

    /// A connection of the account that manages the server.
    pub(crate) async fn admin(&self) -> Conn {
        let socket = self.instance.socket().expect("it runs").display().to_string();
        let opts = OptsBuilder::default().socket(Some(socket)).user(Some("cotton")).pass(Some(ADMIN_PASSWORD));
        Conn::new(opts).await.expect("admin gets in")
    }

    pub(crate) async fn probe(&self) -> ServerStatus {
        self.instance.probe().await.expect("it answers")
    }

    pub(crate) async fn promote(&self, acks: u32) -> GtidSet {
        self.promote_to(&Promotion { must_contain: GtidSet::Empty, acks }).await
    }

    /// As an executor does: what was received is applied first.
    pub(crate) async fn promote_to(&self, promotion: &Promotion) -> GtidSet {
        let start = Instant::now();
        loop {
            match self.instance.promote(promotion).await.expect("promote") {
                Promoted::Writable(position) => return position,
                Promoted::Incomplete(text) => panic!("incomplete: {text}"),
                Promoted::Applying { unapplied } => {
                    let drained = self.instance.drain(1_000).await.expect("drain");
                    assert!(start.elapsed() < PATIENCE, "{unapplied} to apply: {drained:?}");
                }
            }
        }
    }

    pub(crate) async fn follow(&self, primary: &Self, semi_sync: bool) -> Followed {
        let following = Following { primary: primary.endpoint.clone(), semi_sync };
        for _ in 0..5 {
            match self.instance.follow(&following).await {
                Err(error) if error.is_temporary() => eprintln!("  {}", error.chain()),
                other => return other.expect("follow"),
            }
        }
        panic!("it does not follow");
    }

    /// Follows until it is told that the primary's binary logs do not reach back: MariaDB's refusal may come when `follow`
    /// has waited for long enough.
    pub(crate) async fn until_history_is_missing(&self, primary: &Self) {
        until("refused", || async { matches!(self.follow(primary, false).await, Followed::HistoryMissing(_)) }).await;
    }

    pub(crate) async fn attach(&self, primary: &Self, semi_sync: bool) {
        assert_eq!(self.follow(primary, semi_sync).await, Followed::Attached);
        self.until_connected().await;
    }

    pub(crate) async fn until_connected(&self) {
        let start = Instant::now();
        loop {
            let status = self.probe().await;
            if status.replication.as_ref().is_some_and(|r| r.link == LinkState::Connected && r.applying) {
                return;
            }
            if start.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.root().join("log/error.log")).unwrap_or_default();
                panic!("never connected: {status:#?}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until it has applied all that `other` has.
    pub(crate) async fn until_caught_up(&self, other: &Self) {
        let wanted = other.probe().await.position;
        until("caught up", || async {
            let mut admin = self.admin().await;
            let sql = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('gtid_binlog_pos', 'gtid_executed')";
            let rows: Vec<(String, String)> = admin.query(sql).await.expect("variables");
            let text = rows.into_iter().next().map(|row| row.1).unwrap_or_default();
            let mine = match &wanted {
                GtidSet::MariaDb(_) => GtidSet::mariadb(&text, "", None),
                GtidSet::MySql(_) | GtidSet::Empty => GtidSet::mysql(&text.replace('\n', ""), ""),
            };
            mine.expect("well formed").contains(&wanted)
        })
        .await;
    }

    /// Waits until all of these rows are there.
    pub(crate) async fn until_has(&self, ids: &std::collections::BTreeSet<u64>) {
        let mut client = self.client().await;
        let (mut progress, mut missing) = (Instant::now(), usize::MAX);
        loop {
            // the table may not have come yet
            let present: Vec<u64> = client.query("SELECT id FROM app.t ORDER BY id").await.unwrap_or_default();
            let lost: Vec<_> = ids.iter().filter(|id| present.binary_search(id).is_err()).collect();
            if lost.is_empty() {
                return;
            }
            if lost.len() < missing {
                (progress, missing) = (Instant::now(), lost.len()); // on a busy machine an applier is far behind
            }
            let idle = progress.elapsed() >= PATIENCE;
            assert!(!idle, "{missing} lost, the first is {:?}: {:?}", lost.first(), self.probe().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: i32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("it is there");
}

/// Polls until it holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl FnMut() -> F) {
    until_within(PATIENCE, what, holds).await;
}

/// As [`until`], with a deadline of its own.
pub(crate) async fn until_within<F: Future<Output = bool>>(limit: Duration, what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < limit, "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A primary with a table, and replicas.
pub(crate) async fn cluster(servers: Servers, size: usize, acks: u32) -> Option<Vec<Member>> {
    let mut members = Vec::new();
    for _ in 0..size {
        members.push(Member::ready(servers, |_| {}).await?);
    }
    let mut starting = tokio::task::JoinSet::new();
    for instance in members.iter().map(|member| Arc::clone(&member.instance)) {
        starting.spawn(async move { instance.start().await });
    }
    while let Some(started) = starting.join_next().await {
        started.expect("no panic").expect("start");
    }
    for replica in &members[1..] {
        assert_eq!(replica.follow(&members[0], acks > 0).await, Followed::Attached);
    }
    members[0].promote(acks).await;
    for replica in &members[1..] {
        replica.until_connected().await;
    }
    let mut conn = members[0].client().await;
    conn.query_drop("CREATE DATABASE app").await.expect("create database");
    conn.query_drop("CREATE TABLE app.t (id BIGINT PRIMARY KEY, text VARCHAR(100))").await.expect("create table");
    Some(members)
}

pub(crate) async fn rows(conn: &mut Conn) -> Vec<u64> {
    conn.query("SELECT id FROM app.t ORDER BY id").await.expect("rows")
}

pub(crate) async fn insert(conn: &mut Conn, id: u64) -> Result<(), mysql_async::Error> {
    conn.query_drop(format!("INSERT INTO app.t VALUES ({id}, 'x')")).await
}

/// The server's error number.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, mysql_async::Error>) -> u16 {
    match result.expect_err("refused") {
        mysql_async::Error::Server(error) => error.code,
        other @ (mysql_async::Error::Driver(_)
        | mysql_async::Error::Io(_)
        | mysql_async::Error::Other(_)
        | mysql_async::Error::Url(_)) => panic!("not an answer of the server: {other}"),
    }
}
