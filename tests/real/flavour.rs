//! Which servers there are to test with.

use crate::Failure;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A family of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MariaDB, from the system's packages.
    MariaDb,
    /// MariaDB 11.8, as `tests/real/mysql/mariadb-trixie-fetch.sh` unpacks it.
    MariaDb118,
    /// The newest MySQL, as `tests/real/mysql/mysql-sid-fetch.sh` unpacks it.
    MySql97,
    /// MySQL 5.6, as `tests/real/mysql/mysql-5.6-fetch.sh` unpacks it: without semi-synchronous replication.
    MySql56,
}

impl Flavour {
    /// Where its programs are; `None`, after saying so loudly, when it is not there.
    ///
    /// # Panics
    /// When it is not there in CI: a server that cannot be had is a failure there.
    pub fn programs(self) -> Option<PathBuf> {
        if self == Self::MariaDb118 && system_is("11.8.") {
            eprintln!("{self:?} is the system's own: tested as MariaDb");
            return None;
        }
        let found = self.find();
        if found.is_none() {
            assert!(std::env::var_os("CI").is_none(), "{self:?} is not installed: run 'scripts/setup --all'");
            eprintln!("SKIPPED: {self:?} is not installed: run 'scripts/setup --all'");
        }
        found
    }

    /// As [`programs`](Self::programs), for programs that need it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn require(self) -> Result<PathBuf, Failure> {
        let missing = || Failure::new(format!("{self:?} is not installed: run 'make setup'"));
        self.find().ok_or_else(missing)
    }

    fn find(self) -> Option<PathBuf> {
        match self {
            Self::MariaDb => system(),
            Self::MariaDb118 => fetched("mariadb-11.8"),
            Self::MySql97 => fetched("sid"),
            Self::MySql56 => fetched("npm-5.6"),
        }
    }
}

fn system() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).find(|dir| dir.join("mariadbd").is_file())
}

/// Whether the system's MariaDB is of this version.
fn system_is(version: &str) -> bool {
    let told = system().and_then(|dir| Command::new(dir.join("mariadbd")).arg("--version").output().ok());
    told.is_some_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("Ver {version}")))
}

/// A server in the cache; copied to where the account that it will run as gets, since a home is often closed to it.
fn fetched(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("COTTON_MYSQL_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/cotton-mysql")))?;
    let dir = cache.join(name);
    if !["bin/mysqld", "bin/mariadbd"].iter().any(|program| dir.join(program).exists()) {
        return None;
    }
    let open = std::env::temp_dir().join("cotton-test-servers");
    let script = "mkdir -p \"$2\" && exec 9>\"$2/.lock\" && flock 9 && cd \"$2\" && \
                  { [ -e \"$3\" ] || { cp -a --reflink=auto \"$1\" \"$3.new\" && chmod 755 . \"$3.new\" && mv \"$3.new\" \"$3\"; }; }";
    let copied = Command::new("sh").args(["-c", script, "sh"]).arg(&dir).arg(&open).arg(name).status();
    copied.is_ok_and(|status| status.success()).then(|| open.join(name).join("bin"))
}
