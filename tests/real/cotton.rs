//! A `cotton local` of its own, in a directory of its own.

use crate::processes::kill_below;
use crate::{Api, Failure, Flavour, Process, below, program};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

/// As many at a time as the machines that test it have cores.
static PLACES: Semaphore = Semaphore::const_new(2);

/// How long a start or a clean end may take.
const START: Duration = Duration::from_mins(1);

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which servers its clusters have.
    pub flavour: Flavour,
    /// Number of agents.
    pub agents: u32,
    /// More arguments.
    pub arguments: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { flavour: Flavour::MariaDb, agents: 5, arguments: Vec::new() }
    }
}

/// A running `cotton local`. Dropping it ends it and everything below its directory, and removes that.
#[derive(Debug)]
pub struct RealCotton {
    options: Options,
    dir: PathBuf,
    parent: Option<TempDir>,
    port: u16,
    process: Option<(Child, Process)>,
    _place: SemaphorePermit<'static>,
}

impl RealCotton {
    /// Starts one on an empty directory and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn start(options: Options) -> Result<Self, Failure> {
        let place = PLACES.acquire().await.expect("nobody closes it");
        let open = std::fs::Permissions::from_mode(0o755); // the databases may run as another user
        let parent = tempfile::Builder::new().prefix("cotton-").permissions(open).tempdir()?;
        // as /proc shows it, and long before its name could make the path of a socket too long
        let dir = parent.path().canonicalize()?.join("d");
        let mut this = Self { options, dir, parent: Some(parent), port: 0, process: None, _place: place };
        this.start_again().await?;
        Ok(this)
    }

    /// Starts it on the same directory and port.
    ///
    /// # Errors
    /// When it does not start; tells the end of its log.
    ///
    /// # Panics
    /// When it runs.
    pub async fn start_again(&mut self) -> Result<(), Failure> {
        assert!(self.process.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(program("cotton")?);
        command.arg("local").arg("--dir").arg(&self.dir).args(["--port", &self.port.to_string()]);
        command.args(["--agents", &self.options.agents.to_string()]);
        if self.options.flavour != Flavour::MariaDb {
            command.arg("--flavour").arg(self.options.flavour.require()?);
        }
        command.args(&self.options.arguments).env("NO_COLOR", "1").process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        let pid = child.id();
        let process =
            Process::open(pid).ok_or_else(|| Failure::new(format!("it ended at once\n{}", self.log_end())))?;
        self.process = Some((child, process));
        let start = Instant::now();
        while self.port_of(pid).is_none() {
            let ended = self.process.as_ref().is_some_and(|(_, process)| process.has_ended());
            if ended || start.elapsed() > START {
                let what = if ended { "it ended" } else { "it told no address in time" };
                return Err(Failure::new(format!("cotton local did not start: {what}\n{}", self.log_end())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // it has to be started before it can tell anything
        }
        self.port = self.port_of(pid).unwrap_or_default();
        let ready = self.api().until_ready(START).await;
        ready.map_err(|failure| Failure::new(format!("{failure}\n{}", self.log_end())))
    }

    /// The port that the process with this id says it serves.
    fn port_of(&self, pid: u32) -> Option<u16> {
        let text = std::fs::read_to_string(self.dir.join("api.json")).ok()?;
        let said: serde_json::Value = serde_json::from_str(&text).ok()?;
        if said["pid"] != pid {
            return None;
        }
        said["url"].as_str()?.rsplit_once(':')?.1.trim_end_matches('/').parse().ok()
    }

    /// Ends it as Ctrl-C does, and waits.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn interrupt(&mut self) -> Result<ExitStatus, Failure> {
        self.end(Signal::INT).await
    }

    /// Kills it with SIGKILL; everything it started lives on.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        self.end(Signal::KILL).await.map(drop)
    }

    async fn end(&mut self, signal: Signal) -> Result<ExitStatus, Failure> {
        let not_running = || Failure::new("cotton local does not run");
        let (_, process) = self.process.as_ref().ok_or_else(not_running)?;
        process.signal(signal);
        process.ended(START).await?;
        let (mut child, _) = self.process.take().ok_or_else(not_running)?;
        Ok(child.wait()?)
    }

    /// Its API.
    pub fn api(&self) -> Api {
        Api::new(self.port)
    }

    /// Where its state is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its process.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref().map(|(_, process)| process)
    }

    /// All processes below it, itself excluded.
    pub fn processes(&self) -> Vec<Process> {
        let own = self.process().map(|process| process.pid);
        below(&self.dir).into_iter().filter(|process| Some(process.pid) != own).collect()
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
        let below = Path::new(path).strip_prefix(&self.dir).ok()?;
        let mut parts = below.iter().skip_while(|part| *part != "sandboxes").skip(1);
        Some(parts.next()?.to_str()?.to_owned())
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        const LINES: usize = 60;
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn log(&self) -> PathBuf {
        self.dir.with_file_name("log")
    }
}

impl Drop for RealCotton {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the log of cotton local:\n{}", self.log_end());
        }
        if let Some((mut child, process)) = self.process.take() {
            process.kill();
            let _reaped = child.wait();
        }
        kill_below(&self.dir);
        if std::env::var_os("COTTON_TEST_KEEP").is_some()
            && let Some(parent) = self.parent.take()
        {
            eprintln!("--- kept: {}", parent.keep().display());
        }
    }
}
