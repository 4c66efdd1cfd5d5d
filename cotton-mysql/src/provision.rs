//! Makes an empty data directory with all accounts and time zones: in a directory of its own that is renamed when it is complete and
//! on disk. No network is open meanwhile, and no binary log written.
//!
//! Each flavour makes the system tables in its maker's way: MySQL by `--initialize`, MariaDB by `mariadb-install-db`, which
//! knows the names of that version's files. Only MySQL 5.6 gets them from us: its script is written in Perl, and packages of
//! the server alone do not have it.

use crate::cnf::{Sizes, bootstrap_options};
use crate::dialect::Dialect;
use crate::dirs::{Dirs, ensure_uuid, random_hex, sync_dir};
use crate::programs::{INSTALL, Programs, Server};
use crate::{Error, InstanceConfig, accounts, process, started, zones};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Does nothing when there is a data directory: what is there is complete.
pub(crate) async fn provision(
    config: &InstanceConfig,
    programs: &Programs,
    dirs: &Dirs,
    server: &Server,
) -> Result<(), Error> {
    restore(dirs)?;
    if dirs.data().exists() {
        return Ok(());
    }
    ensure_new(config, dirs)?;
    dirs.prepare()?;
    dirs.sweep();
    let building = dirs.building();
    remove_dir(&building)?;
    dirs.make_own(&building)?;
    let made = initialise(config, programs, dirs, server, &building).await;
    let finished = match made {
        Ok(()) => finish(config, dirs, server.dialect, &building).await,
        Err(error) => Err(error),
    };
    if finished.is_err() {
        let _ = remove_dir(&building); // the reason above is what matters
    }
    finished
}

/// Refuses to make an empty directory where a server had its data: it would vouch for what it does not have.
fn ensure_new(config: &InstanceConfig, dirs: &Dirs) -> Result<(), Error> {
    if config.has_data || dirs.last_start().exists() { Err(Error::DataGone(dirs.data())) } else { Ok(()) }
}

/// Finishes or takes back a replacement of the data directory that was interrupted.
fn restore(dirs: &Dirs) -> Result<(), Error> {
    let (data, old) = (dirs.data(), dirs.replaced());
    if !old.exists() {
        return Ok(());
    }
    if data.exists() {
        return remove_dir(&old);
    }
    fs::rename(&old, &data).map_err(|e| Error::file("put back", &old, e))
}

/// Makes a complete directory durable and gives it its name, in place of what has that name; its server gets a new
/// `server_id`, and on MySQL a new UUID.
pub(crate) async fn finish(
    config: &InstanceConfig,
    dirs: &Dirs,
    dialect: Dialect,
    building: &Path,
) -> Result<(), Error> {
    let _ = fs::remove_file(building.join("auto.cnf")); // of the server that made it
    if !dialect.is_mariadb() {
        ensure_uuid(dirs, building)?;
    }
    let (from, to, old, root) = (building.to_owned(), dirs.data(), dirs.replaced(), dirs.root.clone());
    dirs.next_server_id(config.server_id)?;
    let rename = move || {
        sync_tree(&from)?;
        if to.exists() {
            if old.exists() {
                fs::remove_dir_all(&old)?;
            }
            fs::rename(&to, &old)?; // at any moment, there is one of them
        }
        fs::rename(&from, &to)?;
        sync_dir(&root)?;
        if old.exists() { fs::remove_dir_all(&old) } else { Ok(()) }
    };
    let done = tokio::task::spawn_blocking(rename).await.map_err(io::Error::other).flatten();
    done.map_err(|e| Error::file("make durable", building, e))?;
    started::anew(dirs)
}

async fn initialise(
    config: &InstanceConfig,
    programs: &Programs,
    dirs: &Dirs,
    server: &Server,
    building: &Path,
) -> Result<(), Error> {
    let dialect = server.dialect;
    let accounts = accounts::bootstrap(dialect, config, &random_hex(24)?)?;
    let statements = zones::statements() + &accounts;
    let mut command = offline(config, programs, dirs, dialect, building);
    let mut secret_file = None;
    let mut input = Vec::new();
    if dialect.is_mysql_from((5, 7, 6)) {
        let file = SecretFile::write(dirs, &statements)?;
        command.arg("--initialize-insecure").arg(format!("--init-file={}", file.0.display()));
        if dialect.is_mysql_before((8, 0, 0)) {
            command.arg("--early-plugin-load=");
        }
        secret_file = Some(file);
    } else {
        command.arg("--bootstrap");
        if dialect.is_mariadb() {
            install_db(config, programs, dirs, dialect, building).await?;
            input.extend_from_slice(b"USE mysql;\n");
        } else {
            input = system_tables(server)?;
        }
        input.extend_from_slice(statements.as_bytes());
    }
    let output = process::run(command, input, config.timing.provision).await?;
    drop(secret_file);
    if output.status.success() {
        return Ok(());
    }
    let how = process::describe_with_reason(&output);
    Err(Error::Ended { what: format!("{} while it made a data directory", programs.mysqld.display()), how })
}

/// Lets MariaDB's own script make the system tables. Its `root` has no password until the accounts are made; until then no
/// server but the script's own opens the directory, and that one listens nowhere.
async fn install_db(
    config: &InstanceConfig,
    programs: &Programs,
    dirs: &Dirs,
    dialect: Dialect,
    building: &Path,
) -> Result<(), Error> {
    let script = programs.tool(&["mariadb-install-db", "mysql_install_db"], INSTALL)?;
    let mut command = programs.tool_for_the_server(&script, dirs, "--no-defaults")?;
    command.env("MYSQLD_BOOTSTRAP", &programs.mysqld);
    command.env("TMPDIR", dirs.tmp()); // the script splits arguments at spaces, except for this one:
    command.arg(format!("--datadir={}", building.display()));
    // no look-up of the host's name, no database `test`
    command.args(["--force", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    command.args(bootstrap_options(dialect, &Sizes::of(config)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = process::run(command, Vec::new(), config.timing.provision).await?;
    if output.status.success() {
        return Ok(());
    }
    // what the script itself misses, it tells on its standard output
    let told = String::from_utf8_lossy(&output.stdout);
    let how = match told.lines().find(|line| line.contains("FATAL ERROR")) {
        Some(line) => format!("{}: {line}", process::describe(output.status)),
        None => process::describe_with_reason(&output),
    };
    Err(Error::Ended { what: format!("{} while it made a data directory", script.display()), how })
}

/// A command of the server that is not for clients: it works on `directory`, has no network, and its output is read.
pub(crate) fn offline(
    config: &InstanceConfig,
    programs: &Programs,
    dirs: &Dirs,
    dialect: Dialect,
    directory: &Path,
) -> Command {
    let mut command = programs.server(dirs, "--no-defaults");
    command.arg(format!("--datadir={}", directory.display()));
    command.arg(format!("--tmpdir={}", dirs.tmp().display()));
    command.args(bootstrap_options(dialect, &Sizes::of(config)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the install script of MySQL 5.6 would feed to the server.
fn system_tables(server: &Server) -> Result<Vec<u8>, Error> {
    let mut text = b"CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\n".to_vec();
    for name in ["mysql_system_tables.sql", "mysql_system_tables_data.sql"] {
        let path = server.share.join(name);
        text.extend(fs::read(&path).map_err(|e| Error::file("read", path, e))?);
        text.push(b'\n');
    }
    text.extend_from_slice(b"USE mysql;\n");
    Ok(text)
}

/// A file that only the server can read, removed when dropped.
pub(crate) struct SecretFile(pub(crate) PathBuf);

impl SecretFile {
    pub(crate) fn write(dirs: &Dirs, text: &str) -> Result<Self, Error> {
        let path = dirs.tmp().join(format!("{}.secret", random_hex(8)?));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let this = Self(path);
        let write = |mut file: fs::File| file.write_all(text.as_bytes());
        file.and_then(write).map_err(|e| Error::file("write", &this.0, e))?;
        dirs.give(&this.0)?;
        Ok(this)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A directory that is removed when dropped, if it is still there.
pub(crate) struct RemoveOnDrop(pub(crate) PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Err(error) = remove_dir(&self.0) {
            tracing::warn!(%error, "a temporary directory is left");
        }
    }
}

/// Removes a directory, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", dir, error)),
        _ => Ok(()),
    }
}

/// Makes every file and directory below durable.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunAs;

    #[test]
    fn data_that_is_gone_is_not_made_anew() {
        let root = tempfile::tempdir().expect("a directory");
        let dirs = Dirs::new(root.path(), RunAs::default());
        let mut config = crate::config::tests::example();
        ensure_new(&config, &dirs).expect("no server was here");
        config.has_data = true;
        ensure_new(&config, &dirs).expect_err("whoever launched it knows of data");
        config.has_data = false;
        started::anew(&dirs).expect("noted");
        let refused = ensure_new(&config, &dirs).expect_err("a server was here").to_string();
        assert!(refused.contains("is missing") && refused.contains("cotton rebuild"), "{refused}");
    }

    /// A replacement stops after each of its steps; what is found then is one complete directory, the newest.
    #[test]
    fn a_replacement_that_was_interrupted_is_finished_or_taken_back() {
        for (there, replaced, expected) in [
            (Some("old"), None, Some("old")),        // nothing was begun
            (None, Some("old"), Some("old")),        // the old one had lost its name, the new one had none yet
            (Some("new"), Some("old"), Some("new")), // the old one was still to be removed
            (Some("new"), None, Some("new")),        // it was done
            (None, None, None),                      // a first start
        ] {
            let root = tempfile::tempdir().expect("a directory");
            let dirs = Dirs::new(root.path(), RunAs::default());
            for (at, what) in [(dirs.data(), there), (dirs.replaced(), replaced)] {
                if let Some(what) = what {
                    fs::create_dir(&at).expect("made");
                    fs::write(at.join("which"), what).expect("written");
                }
            }
            restore(&dirs).expect("nothing is in the way");
            let found = fs::read_to_string(dirs.data().join("which")).ok();
            assert_eq!(found.as_deref(), expected);
            assert!(!dirs.replaced().exists());
        }
    }
}
