//! A directory for one cotton, ports for its members, and everything that runs below it.

use crate::processes::kill_below;
use crate::{Failure, Process, below};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Ports for members: below those that the kernel gives to outgoing connections, above those of the agents' own APIs.
const PORTS: std::ops::Range<u16> = 29_000..32_760;
/// How many one cotton may use.
const PORTS_EACH: u16 = 120;

/// See the module. Dropping it ends everything below it and removes it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    parent: Option<TempDir>,
    ports: (u16, u16),
    _claim: File,
}

impl Directory {
    /// An empty one.
    ///
    /// # Errors
    /// When it cannot be made, or all ports are in use by other tests.
    pub fn new() -> Result<Self, Failure> {
        let open = std::fs::Permissions::from_mode(0o755); // the databases may run as another user
        let parent = tempfile::Builder::new().prefix("cotton-").permissions(open).tempdir()?;
        // as /proc shows it
        let path = parent.path().canonicalize()?.join("d");
        let (ports, claim) = claim_ports()?;
        Ok(Self { path, parent: Some(parent), ports, _claim: claim })
    }

    /// Where it is; not made yet.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// First and last port for members: nobody else's as long as everybody asks here.
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// A file beside it, for what must not be within.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// All processes below it.
    pub fn processes(&self) -> Vec<Process> {
        below(&self.path)
    }

    /// The running servers, by task.
    pub fn servers(&self) -> BTreeMap<String, Process> {
        let servers = self.processes().into_iter().filter(Process::is_server);
        servers.filter_map(|server| Some((self.task_of(&server)?, server))).collect()
    }

    /// The running executors, by task.
    pub fn executors(&self) -> BTreeMap<String, Process> {
        let executors = self.processes().into_iter().filter(Process::is_executor);
        executors.filter_map(|executor| Some((executor.task.clone()?, executor))).collect()
    }

    /// The server of a task.
    ///
    /// # Errors
    /// When it does not run.
    pub fn server(&self, task: &str) -> Result<Process, Failure> {
        self.servers().remove(task).ok_or_else(|| Failure::new(format!("no server of {task} runs")))
    }

    /// The executor of a task.
    ///
    /// # Errors
    /// When it does not run.
    pub fn executor(&self, task: &str) -> Result<Process, Failure> {
        self.executors().remove(task).ok_or_else(|| Failure::new(format!("no executor of {task} runs")))
    }

    /// A server is told where its files are: below a sandbox, which has the name of its task.
    fn task_of(&self, server: &Process) -> Option<String> {
        let path = server.command.iter().find_map(|arg| arg.strip_prefix("--defaults-file="))?;
        let below = Path::new(path).strip_prefix(&self.path).ok()?;
        let mut parts = below.iter().skip_while(|part| *part != "sandboxes").skip(1);
        Some(parts.next()?.to_str()?.to_owned())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        kill_below(&self.path);
        if std::env::var_os("COTTON_TEST_KEEP").is_some()
            && let Some(parent) = self.parent.take()
        {
            eprintln!("--- kept: {}", parent.keep().display());
        }
    }
}

/// Takes ports that no other test on this machine has, for as long as the file is open.
fn claim_ports() -> Result<((u16, u16), File), Failure> {
    let dir = std::env::temp_dir().join("cotton-test-ports");
    DirBuilder::new().recursive(true).mode(0o777).create(&dir)?;
    let firsts = PORTS.step_by(PORTS_EACH.into()).filter(|first| first + PORTS_EACH <= PORTS.end);
    for first in firsts {
        let file = File::options().create(true).truncate(false).write(true).open(dir.join(first.to_string()))?;
        let last = first + PORTS_EACH - 1;
        // What a test that was killed left running still has its ports.
        if file.try_lock().is_ok() && (first..=last).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok()) {
            return Ok(((first, last), file));
        }
    }
    Err(Failure::new(format!("other tests use all ports: see the locks in {}", dir.display())))
}
