//! Finds the server's programs and asks them what they are.

use crate::dialect::Dialect;
use crate::dirs::{Dirs, check_reachable};
use crate::install::Installed;
use crate::{Error, RunAs, files};
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub(crate) const INSTALL: &str = "install mariadb-server-core, mariadb-client-core and mariadb-backup (Debian), or a MySQL server, \
                       or say in which directory its programs are";

/// Where a maker may put programs beside the directory of the server.
const BESIDE: [&str; 3] = ["bin", "sbin", "scripts"];

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) mysqld: PathBuf,
    pub(crate) setpriv: PathBuf,
    prlimit: PathBuf,
    dirs: Vec<PathBuf>,
    /// What the server must always be told.
    arguments: Vec<String>,
    /// Directories of libraries that could be needed.
    libraries: Vec<PathBuf>,
    /// Sets an environment for the server alone, when they are: the programs of the system have their own.
    env: Option<PathBuf>,
}

/// What the server says about itself.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) dialect: Dialect,
    /// Directory of the SQL files that make the system tables of MySQL 5.6.
    pub(crate) share: PathBuf,
    /// Whether it can replicate semi-synchronously.
    pub(crate) semi_sync: bool,
    /// Whether it has the clone plugin.
    pub(crate) clone: bool,
}

impl Programs {
    /// What was installed; with no directory of it, in `PATH` and the usual directories of system programs.
    pub(crate) fn of(installed: Installed) -> Result<Self, Error> {
        let Installed { programs, arguments, libraries } = installed;
        let dirs = if programs.is_empty() { system() } else { programs };
        let mysqld = search(&dirs, &["mariadbd", "mysqld"], INSTALL)?;
        let setpriv = search(&system(), &["setpriv"], "install util-linux")?;
        let prlimit = search(&system(), &["prlimit"], "install util-linux")?;
        Ok(Self { mysqld, setpriv, prlimit, dirs, arguments, libraries, env: None })
    }

    /// One of the server's other programs: in the same directories, or in one beside the server's.
    pub(crate) fn tool(&self, names: &[&str], advice: &str) -> Result<PathBuf, Error> {
        let mut dirs = self.dirs.clone();
        let above = self.mysqld.parent().and_then(Path::parent);
        dirs.extend(above.into_iter().flat_map(|above| BESIDE.map(|name| above.join(name))));
        search(&dirs, names, advice)
    }

    /// A command that hands its options on to the server. Scripts split them at spaces.
    pub(crate) fn tool_for_the_server(
        &self,
        program: &Path,
        dirs: &Dirs,
        configuration: &str,
    ) -> Result<std::process::Command, Error> {
        if let Some(argument) = self.arguments.iter().find(|argument| argument.contains(char::is_whitespace)) {
            let program = program.display();
            return Err(Error::Config(format!(
                "{program} cannot take {argument}: install the server in a path without spaces"
            )));
        }
        let mut command = self.command(program, dirs, files::SERVER);
        command.arg(configuration).args(&self.arguments);
        Ok(command)
    }

    /// A command of the server itself. The option of its configuration must come first, others may follow.
    pub(crate) fn server(&self, dirs: &Dirs, configuration: &str) -> std::process::Command {
        let mut command = self.command(&self.mysqld, dirs, files::SERVER);
        command.arg(configuration).args(&self.arguments);
        command
    }

    /// A command that runs as the server does, ends with the thread that starts it, and may have so many files open.
    pub(crate) fn command(&self, program: &Path, dirs: &Dirs, files: u64) -> std::process::Command {
        let mut command = std::process::Command::new(&self.setpriv);
        command.arg("--pdeathsig=KILL");
        if let Some(RunAs { uid, gid }) = dirs.owner {
            command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
        }
        command.arg("--").arg(&self.prlimit).arg(format!("--nofile={}:", files::granted(files)));
        if let Some(env) = &self.env {
            let mut setting = std::ffi::OsString::from("LD_LIBRARY_PATH=");
            setting.push(std::env::join_paths(&self.libraries).unwrap_or_default());
            command.arg(env).arg(setting);
        }
        command.arg(program).current_dir(&dirs.root).env("HOME", &dirs.root);
        command.env_remove("MYSQL_HOME").env_remove("MYSQLD_PARENT_PID").env_remove("NOTIFY_SOCKET");
        command
    }

    /// Asks the server for its version and its directories.
    pub(crate) async fn examine(&mut self, dirs: &Dirs) -> Result<Server, Error> {
        if let Some(owner) = dirs.owner {
            let real = self.mysqld.canonicalize().map_err(|e| Error::file("find", &self.mysqld, e))?;
            check_reachable(&real, owner)?;
        }
        let mut version = self.ask(dirs, &["--version"]).await;
        let lacks = |error: &Error| matches!(error, Error::Ended { how, .. } if how.contains("shared libraries"));
        if version.as_ref().is_err_and(lacks) && !self.libraries.is_empty() {
            self.env = Some(search(&system(), &["env"], "install coreutils")?);
            version = self.ask(dirs, &["--version"]).await;
        }
        let dialect = Dialect::parse(&version?)?;
        let help = self.ask(dirs, &["--verbose", "--help"]).await?;
        let setting = |name: &str| {
            let line = help.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map(|value| PathBuf::from(value.trim())).filter(|path| path.is_absolute())
        };
        let share = setting("character-sets-dir").and_then(|dir| Some(dir.parent()?.to_owned()));
        let share = share.ok_or_else(|| Error::answer("mysqld --verbose --help", "no character-sets-dir"))?;
        let plugins = setting("plugin-dir").unwrap_or_default();
        let has = |name: &str| plugins.join(name).is_file();
        let semi_sync = dialect.is_mariadb()
            || if dialect.has_new_words() { has("semisync_source.so") } else { has("semisync_master.so") };
        Ok(Server { dialect, share, semi_sync, clone: dialect.has_clone() && has("mysql_clone.so") })
    }

    async fn ask(&self, dirs: &Dirs, args: &[&str]) -> Result<String, Error> {
        let mut command = self.server(dirs, "--no-defaults");
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = crate::process::run(command, Vec::new(), std::time::Duration::from_secs(20)).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.trim_end().lines().last().unwrap_or_default();
        let how = format!("{}: {last}", crate::process::describe(output.status));
        Err(Error::Ended { what: self.mysqld.display().to_string(), how })
    }
}

/// `PATH`, and the usual directories of system programs.
fn system() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    dirs.extend(["/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from));
    dirs
}

fn search(dirs: &[PathBuf], names: &[&str], advice: &str) -> Result<PathBuf, Error> {
    let found = names.iter().find_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()));
    found.ok_or_else(|| {
        let searched = dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
        Error::ProgramMissing { program: names.join(" or "), searched, advice: advice.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_may_be_beside_the_directory_of_the_server() {
        let tree = tempfile::tempdir().expect("temporary directory");
        for file in ["sbin/mariadbd", "scripts/mariadb-install-db", "bin/mbstream"] {
            let path = tree.path().join(file);
            std::fs::create_dir_all(path.parent().expect("below the tree")).expect("directories");
            std::fs::write(path, "").expect("a file");
        }
        let installed = |argument: &str| Installed {
            programs: vec![tree.path().join("sbin")],
            arguments: vec![argument.to_owned()],
            libraries: Vec::new(),
        };
        let programs = Programs::of(installed("--basedir=/opt/x")).expect("there is a server");
        for (name, place) in [("mariadb-install-db", "scripts"), ("mbstream", "bin"), ("mariadbd", "sbin")] {
            assert_eq!(programs.tool(&[name], INSTALL).expect(name), tree.path().join(place).join(name));
        }
        let script = programs.tool(&["mariadb-install-db"], INSTALL).expect("as before");
        let dirs = Dirs { root: "/srv/m".into(), owner: None };
        programs.tool_for_the_server(&script, &dirs, "--no-defaults").expect("no spaces");
        let programs = Programs::of(installed("--basedir=/opt/my server")).expect("there is a server");
        let refused = programs.tool_for_the_server(&script, &dirs, "--no-defaults").expect_err("it would be split");
        assert!(refused.to_string().contains("without spaces"), "{refused}");
    }

    #[test]
    fn a_missing_server_says_what_to_install() {
        let empty = tempfile::tempdir().expect("temporary directory");
        let installed = Installed { programs: vec![empty.path().to_owned()], ..Installed::default() };
        let error = Programs::of(installed).expect_err("nothing there");
        let text = error.to_string();
        assert!(text.contains("mariadbd or mysqld") && text.contains("mariadb-server-core"), "{text}");
        assert!(text.contains(&empty.path().display().to_string()), "{text}");
    }
}
