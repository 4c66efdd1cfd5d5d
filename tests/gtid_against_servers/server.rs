//! Starts a bare server for one test, on a unix socket and if wanted on loopback; gone with all its files when dropped.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Any uid but root's: servers refuse to run as root.
const UID: u32 = 54321;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    MySql97,
    MySql56,
    /// The system's.
    MariaDb,
    MariaDb118,
}

/// A server with `root` without a password on its socket, and `repl` likewise on loopback.
pub(crate) struct Server {
    child: Child,
    pub(crate) conn: Conn,
    pub(crate) port: u16,
    _dir: TempDir,
}

impl Flavour {
    /// Its program; `None`, said loudly, when it is not there. In CI that is a failure.
    pub(crate) fn program(self) -> Option<PathBuf> {
        let cache = std::env::var_os("COTTON_MYSQL_CACHE").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/cotton-mysql"));
        let cache = cache.or_else(home).unwrap_or_default();
        let program = match self {
            Self::MySql97 => cache.join("sid/bin/mysqld"),
            Self::MySql56 => cache.join("npm-5.6/bin/mysqld"),
            Self::MariaDb => PathBuf::from("/usr/sbin/mariadbd"),
            Self::MariaDb118 => cache.join("mariadb-11.8/bin/mariadbd"),
        };
        if self == Self::MariaDb118 && system_is("11.8.") {
            eprintln!("{self:?} is the system's own: tested as MariaDb");
            return None;
        }
        if program.exists() {
            return Some(program);
        }
        assert!(std::env::var_os("CI").is_none(), "{self:?} is missing: {} is not there", program.display());
        eprintln!("SKIPPED: no {self:?}, looked for {}", program.display());
        None
    }

    fn options(self, dir: &Path, id: u32, port: u16) -> Vec<String> {
        let mut options = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", dir.join("data").display()),
            format!("--tmpdir={}", dir.join("tmp").display()),
            format!("--socket={}", dir.join("socket").display()),
            format!("--pid-file={}", dir.join("pid").display()),
            format!("--server-id={id}"),
            "--log-bin=binlog".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--port={port}"),
            "--skip-name-resolve".to_owned(),
        ];
        options.extend(
            match self {
                Self::MySql97 => {
                    ["--mysqlx=OFF", "--secure-file-priv=NULL", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"]
                        .as_slice()
                }
                Self::MySql56 => &["--log-slave-updates", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"],
                Self::MariaDb | Self::MariaDb118 => {
                    &["--log-slave-updates", "--gtid-strict-mode=1", "--skip-slave-start"]
                }
            }
            .iter()
            .map(|option| (*option).to_owned()),
        );
        options
    }
}

impl Server {
    /// Starts one with a new data directory, or a copy of `seed`.
    pub(crate) async fn start(flavour: Flavour, program: &Path, id: u32, seed: Option<&Path>) -> Self {
        let dir = scratch();
        let data = dir.path().join("data");
        match seed {
            Some(seed) => assert!(run("cp").arg("-a").arg(seed).arg(&data).status().expect("cp runs").success()),
            None => initialise(flavour, program, dir.path()),
        }
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            free.local_addr().expect("bound").port()
        };
        let mut child = as_nobody(program)
            .args(flavour.options(dir.path(), id, port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server's program runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut start_up = Vec::new();
        let ready =
            log.by_ref().inspect(|line| start_up.push(line.clone())).any(|line| line.contains("ready for conn"));
        if !ready {
            child.wait().expect("a child");
            panic!("{flavour:?} did not start:\n{}", start_up.join("\n"));
        }
        // A full pipe would stop the server.
        std::thread::spawn(move || log.for_each(drop));
        let opts = OptsBuilder::default().user(Some("root")).socket(dir.path().join("socket").to_str());
        let conn = Conn::new(opts).await.expect("root may connect");
        Self { child, conn, port, _dir: dir }
    }

    pub(crate) async fn run(&mut self, statement: &str) {
        self.conn.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// The first column of the first row, as text; NULL is empty.
    pub(crate) async fn ask(&mut self, query: &str) -> String {
        let answer: Result<Option<Option<String>>, _> = self.conn.query_first(query).await;
        answer.unwrap_or_else(|error| panic!("{query}: {error}")).flatten().unwrap_or_default()
    }

    /// A column of `SHOW SLAVE STATUS`; empty when there is none.
    pub(crate) async fn slave_status(&mut self, column: &str) -> String {
        let row: Option<Row> = self.conn.query_first("SHOW SLAVE STATUS").await.expect("root may ask");
        let value = row.and_then(|mut row| row.take_opt::<Option<String>, _>(column));
        value.map(|value| value.expect("text")).unwrap_or_default().unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A data directory that servers can be started on copies of.
pub(crate) fn seed(flavour: Flavour, program: &Path) -> (TempDir, PathBuf) {
    let dir = scratch();
    initialise(flavour, program, dir.path());
    let data = dir.path().join("data");
    (dir, data)
}

fn initialise(flavour: Flavour, program: &Path, dir: &Path) {
    fs::create_dir(dir.join("data")).expect("a directory of ours");
    give_away(&dir.join("data"));
    let script = match flavour {
        Flavour::MariaDb => PathBuf::from("/usr/bin/mariadb-install-db"),
        Flavour::MariaDb118 => program.with_file_name("mariadb-install-db"),
        Flavour::MySql97 | Flavour::MySql56 => program.to_owned(),
    };
    let mut command = as_nobody(&script);
    command.args(&flavour.options(dir, 1, 0)[..3]).stdin(Stdio::null()).stdout(Stdio::null());
    match flavour {
        Flavour::MariaDb | Flavour::MariaDb118 => {
            let accounts = dir.join("accounts.sql");
            let statements = "FLUSH PRIVILEGES;\nDELETE FROM mysql.global_priv WHERE User='';\nFLUSH PRIVILEGES;\n\
                              CREATE USER repl@'%';\nGRANT REPLICATION SLAVE ON *.* TO repl@'%';\n";
            fs::write(&accounts, statements).expect("a file of ours");
            give_away(&accounts);
            command.args(["--force", "--skip-test-db", "--auth-root-authentication-method=normal"]);
            command.arg(format!("--extra-file={}", accounts.display()));
        }
        Flavour::MySql56 => {
            let sql = File::open(program.with_file_name("../share/bootstrap.sql"));
            command.arg("--bootstrap").stdin(sql.expect("fetched with the server"));
        }
        Flavour::MySql97 => drop(command.arg("--initialize-insecure").arg("--secure-file-priv=NULL")),
    }
    let done = command.stderr(Stdio::piped()).output().expect("the server's program runs");
    assert!(done.status.success(), "no data directory: {}", String::from_utf8_lossy(&done.stderr));
}

/// Whether the system's MariaDB is of this version.
fn system_is(version: &str) -> bool {
    let told = run("/usr/sbin/mariadbd").arg("--version").output();
    told.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("Ver {version}")))
}

/// A directory that the server's user may use.
fn scratch() -> TempDir {
    let dir = tempfile::Builder::new().prefix("cotton-gtid-").tempdir().expect("a temporary directory");
    fs::create_dir(dir.path().join("tmp")).expect("a directory of ours");
    give_away(dir.path());
    give_away(&dir.path().join("tmp"));
    dir
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc is there").uid() == 0
}

fn give_away(path: &Path) {
    if is_root() {
        chown(path, Some(UID), Some(UID)).expect("root may");
    }
}

fn run(program: &str) -> Command {
    Command::new(program)
}

/// Not as root, and ending with this process. The capability lets it read programs in root's own cache.
fn as_nobody(program: &Path) -> Command {
    let mut command = run("setpriv");
    command.arg("--pdeathsig=KILL");
    if is_root() {
        command.args([&format!("--reuid={UID}"), &format!("--regid={UID}"), "--clear-groups"]);
        command.args(["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]);
    }
    command.arg(program);
    command
}

/// Tries until it holds, for what no event tells.
pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: waited 90 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
