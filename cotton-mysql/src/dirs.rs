//! Where the files of one server are, and who may reach them.
//!
//! Below the root: `data/` (complete or absent), `tmp/`, `log/`, `my.cnf`, and `server-id`, which counts the ids
//! used so far; `last-start`, and `tails/` with what was given up. The unix socket is in `run/`, or, since its path must be short, in a private directory below
//! the system's temporary directory, whose name `run-dir` keeps so that it can be removed after a crash.

use crate::dialect::Dialect;
use crate::{Error, RunAs};
use rustix::fs::{Gid, Uid};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest path of a unix socket, without its final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The directories of one server.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    pub(crate) root: PathBuf,
    /// Who the files belong to; `None` when that is ourselves.
    pub(crate) owner: Option<RunAs>,
}

impl Dirs {
    pub(crate) fn new(root: &Path, run_as: RunAs) -> Self {
        let owner = rustix::process::geteuid().is_root().then_some(run_as);
        Self { root: root.to_owned(), owner }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Refuses to start a server on data that another kind of server has made: it would fail after it has written to it.
    pub(crate) fn ensure_made_by(&self, dialect: Dialect) -> Result<(), Error> {
        let (file, maker) = if dialect.is_mariadb() { ("mysql.ibd", "MySQL") } else { ("aria_log_control", "MariaDB") };
        if !self.data().join(file).is_file() {
            return Ok(()); // a directory would be a database, which somebody may call like this
        }
        let data = self.data().display().to_string();
        Err(Error::Conflict(format!(
            "{data} has data of {maker}, and the server here is {dialect}: use the server that made it"
        )))
    }

    /// Where a data directory is that is being replaced, until its successor has its name.
    pub(crate) fn replaced(&self) -> PathBuf {
        self.root.join("data.replaced")
    }

    /// Where a data directory grows until it is complete.
    pub(crate) fn building(&self) -> PathBuf {
        self.root.join("data.building")
    }

    /// The same for a copy, which the server itself may have to make.
    pub(crate) fn copying(&self) -> PathBuf {
        self.tmp().join("data.copying")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The only place where statements could read or write files. Nobody has the privilege.
    pub(crate) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn error_log(&self) -> PathBuf {
        self.log().join("error.log")
    }

    pub(crate) fn cnf(&self) -> PathBuf {
        self.root.join("my.cnf")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.log().join("mysqld.pid")
    }

    /// What is known of the server's last process, see [`started`](crate::started).
    pub(crate) fn last_start(&self) -> PathBuf {
        self.root.join("last-start")
    }

    /// Makes root, `tmp/` and `log/`, and checks that the server will get there.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.root).map_err(|e| Error::file("create", &self.root, e))?;
        if let Some(owner) = self.owner {
            // the root itself must let the server pass; what is below belongs to it
            let mode = fs::metadata(&self.root).map_err(|e| Error::file("look at", &self.root, e))?.mode();
            if mode & 0o011 != 0o011 {
                let open = fs::Permissions::from_mode((mode & 0o7777) | 0o011);
                fs::set_permissions(&self.root, open).map_err(|e| Error::file("open", &self.root, e))?;
            }
            check_reachable(&self.root, owner)?;
        }
        for dir in [self.tmp(), self.log(), self.files()] {
            self.make_own(&dir)?;
        }
        Ok(())
    }

    /// Removes what an interrupted provision or copy left behind. Nothing of ours may be running.
    pub(crate) fn sweep(&self) {
        let is_left = |name: &str| name.ends_with(".secret") || name.starts_with("backup-") || name == "data.copying";
        for entry in fs::read_dir(self.tmp()).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_left) {
                let path = entry.path();
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }; // next time again
            }
        }
    }

    /// Makes a directory for the server alone, if it is not there.
    pub(crate) fn make_own(&self, dir: &Path) -> Result<(), Error> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::file("create", dir, error));
            }
            _ => {}
        }
        self.give(dir)
    }

    /// Hands a file or directory to the server.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Error> {
        let Some(RunAs { uid, gid }) = self.owner else { return Ok(()) };
        rustix::fs::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|e| Error::file("change the owner of", path, e.into()))
    }

    /// A directory for the socket, private and with a short path.
    pub(crate) fn socket_dir(&self) -> Result<SocketDir, Error> {
        let noted = self.root.join("run-dir");
        if let Ok(old) = fs::read_to_string(&noted) {
            SocketDir { path: old.trim().into(), keep: false }.remove();
        }
        let near = self.root.join("run");
        if near.as_os_str().len() + "/mysqld.sock".len() <= SOCKET_PATH_BYTES_MAX {
            self.make_own(&near)?;
            remove_socket(&near); // of a server that was killed
            return Ok(SocketDir { path: near, keep: true });
        }
        let far = std::env::temp_dir().join(format!("cotton-{}", random_hex(8)?));
        fs::write(&noted, far.display().to_string()).map_err(|e| Error::file("write", &noted, e))?;
        fs::DirBuilder::new().mode(0o700).create(&far).map_err(|e| Error::file("create", &far, e))?;
        let dir = SocketDir { path: far, keep: false };
        self.give(&dir.path)?;
        if dir.socket().as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let path = dir.path.display().to_string();
            dir.remove();
            return Err(Error::Config(format!("path of the unix socket would be too long in {path}: shorten TMPDIR")));
        }
        Ok(dir)
    }

    /// A `server_id` that was never used before, for a new data directory or one that lost its tail.
    pub(crate) fn next_server_id(&self, base: u64) -> Result<u64, Error> {
        let first = u64::from(self.data().exists()); // without a note, a data directory uses the base
        let generation = self.generation()?.map_or(first, |last| last + 1);
        let path = self.generation_file();
        let write = || -> io::Result<()> {
            let temporary = path.with_extension("new");
            fs::write(&temporary, generation.to_string())?;
            fs::File::open(&temporary)?.sync_all()?;
            fs::rename(&temporary, &path)?;
            sync_dir(&self.root)
        };
        write().map_err(|e| Error::file("write", &path, e))?;
        server_id(base, generation)
    }

    /// The present `server_id`.
    pub(crate) fn server_id(&self, base: u64) -> Result<u64, Error> {
        server_id(base, self.generation()?.unwrap_or_default())
    }

    fn generation_file(&self) -> PathBuf {
        self.root.join("server-id")
    }

    fn generation(&self) -> Result<Option<u64>, Error> {
        let path = self.generation_file();
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Error::answer("read server-id", "not a number")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", path, error)),
        }
    }
}

fn server_id(base: u64, generation: u64) -> Result<u64, Error> {
    // server_id has 32 bits
    if generation >> (32 - crate::config::SERVER_ID_BITS) != 0 {
        return Err(Error::Config("this member used 4096 server ids: replace it by a new one".to_owned()));
    }
    Ok((generation << crate::config::SERVER_ID_BITS) | base)
}

fn remove_socket(dir: &Path) {
    for name in ["mysqld.sock", "mysqld.sock.lock"] {
        let _ = fs::remove_file(dir.join(name)); // usually gone with the server
    }
}

/// Directory of a unix socket; when it is not below the root, it is removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketDir {
    path: PathBuf,
    keep: bool,
}

impl SocketDir {
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("mysqld.sock")
    }

    fn remove(self) {
        drop(self);
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if !self.keep {
            remove_socket(&self.path);
            let _ = fs::remove_dir(&self.path); // not when others put something there
        }
    }
}

/// Makes a directory's entries durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Gives a MySQL data directory a UUID of its own, unless it has one.
///
/// The server would make one itself at its first start. MySQL 5.6 makes it out of the time and of what is the same for all
/// servers of a machine, so that servers that start at the same moment can get the same, and then never replicate (error
/// 1593).
pub(crate) fn ensure_uuid(dirs: &Dirs, data: &Path) -> Result<(), Error> {
    let path = data.join("auto.cnf");
    if path.exists() {
        return Ok(());
    }
    let temporary = data.join("auto.cnf.new");
    let text = format!("[auto]\nserver-uuid={}\n", random_uuid()?);
    let write = || -> io::Result<()> {
        fs::write(&temporary, text)?;
        fs::File::open(&temporary)?.sync_all()
    };
    write().map_err(|e| Error::file("write", &temporary, e))?;
    dirs.give(&temporary)?;
    let rename = fs::rename(&temporary, &path).and_then(|()| sync_dir(data));
    rename.map_err(|e| Error::file("write", &path, e))
}

/// A UUID of version 4.
fn random_uuid() -> Result<String, Error> {
    let hex = random_hex(16)?;
    let variant = match hex.as_bytes()[16] {
        b'0'..=b'3' => '8',
        b'4'..=b'7' => '9',
        b'8' | b'9' | b'a' | b'b' => 'a',
        _ => 'b',
    };
    Ok(format!("{}-{}-4{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]))
}

/// Random text that nobody knows.
pub(crate) fn random_hex(bytes: usize) -> Result<String, Error> {
    use io::Read;
    use std::fmt::Write;
    let mut random = vec![0; bytes];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read.map_err(|e| Error::file("read", "/dev/urandom", e))?;
    Ok(random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    }))
}

/// Whether that account gets to a file or directory, by the modes of its parents and of itself.
pub(crate) fn check_reachable(path: &Path, who: RunAs) -> Result<(), Error> {
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    for dir in above {
        let meta = fs::metadata(dir).map_err(|e| Error::file("look at", dir, e))?;
        let bit = match (meta.uid() == who.uid, meta.gid() == who.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if meta.mode() & bit == 0 {
            let RunAs { uid, gid } = who;
            return Err(Error::Config(format!(
                "the server runs as uid {uid}, gid {gid}, which cannot pass {}: allow it with chmod o+x, or choose \
                 another place",
                dir.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(root: &Path) -> Dirs {
        Dirs { root: root.to_owned(), owner: None }
    }

    #[test]
    fn every_data_directory_has_a_new_server_id() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dirs = dirs(root.path());
        assert_eq!(dirs.server_id(7).expect("none yet"), 7);
        assert_eq!(dirs.next_server_id(7).expect("first"), 7);
        assert_eq!(dirs.server_id(7).expect("first"), 7);
        assert_eq!(dirs.next_server_id(7).expect("second"), (1 << 20) | 7);
        assert_eq!(dirs.server_id(7).expect("second"), (1 << 20) | 7);
        assert!(server_id(7, 4096).is_err());
        fs::remove_file(dirs.generation_file()).expect("it was there");
        fs::create_dir(dirs.data()).expect("a data directory of unknown origin");
        assert_eq!(dirs.next_server_id(7).expect("not the base"), (1 << 20) | 7);
    }

    #[test]
    fn uuids_are_random_and_kept() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dirs = dirs(root.path());
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..40 {
            let data = root.path().join(n.to_string());
            fs::create_dir(&data).expect("made");
            ensure_uuid(&dirs, &data).expect("written");
            let text = fs::read_to_string(data.join("auto.cnf")).expect("it is there");
            let uuid = text.strip_prefix("[auto]\nserver-uuid=").expect("as MySQL writes it").trim_end();
            let parts: Vec<&str> = uuid.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{uuid}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
            assert!(parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit()), "{uuid}");
            assert!(seen.insert(uuid.to_owned()), "{uuid} twice");
            ensure_uuid(&dirs, &data).expect("nothing to do");
            assert_eq!(fs::read_to_string(data.join("auto.cnf")).expect("it is there"), text);
        }
    }

    #[test]
    fn socket_paths_are_short_and_cleaned_up() {
        let root = tempfile::tempdir().expect("temporary directory");
        let near = dirs(root.path()).socket_dir().expect("short path");
        assert!(near.socket().starts_with(root.path()));
        let long = root.path().join("x".repeat(100));
        fs::create_dir(&long).expect("long path");
        let far = dirs(&long).socket_dir().expect("elsewhere");
        let path = far.path.clone();
        assert!(far.socket().as_os_str().len() <= SOCKET_PATH_BYTES_MAX && path.exists());
        std::mem::forget(far); // as after a crash
        let second = dirs(&long).socket_dir().expect("another one");
        assert!(!path.exists() && second.path.exists());
        let path = second.path.clone();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn unreachable_parents_are_named() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
        let who = RunAs { uid: 54321, gid: 54321 };
        let error = check_reachable(root.path(), who).expect_err("closed").to_string();
        assert!(error.contains("chmod") && error.contains(&root.path().display().to_string()), "{error}");
        assert!(check_reachable(Path::new("/usr/bin"), who).is_ok());
    }
}
