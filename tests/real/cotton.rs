//! A `cotton local` of its own, in a directory of its own.

use crate::{Api, Directory, Failure, Flavour, Process, program};
use rustix::process::Signal;
use std::fs::File;
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// As many at a time as the machines that test it have cores.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Waits for a place; it is free again when the value is dropped.
pub(crate) async fn place() -> SemaphorePermit<'static> {
    PLACES.acquire().await.expect("nobody closes it")
}

/// How long a start or a clean end may take.
const START: Duration = Duration::from_secs(90);

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which servers its clusters have.
    pub flavour: Flavour,
    /// Number of agents.
    pub agents: u32,
    /// More arguments.
    pub arguments: Vec<String>,
    /// How many files each of its processes may have open.
    pub open_files: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { flavour: Flavour::MariaDb, agents: 5, arguments: Vec::new(), open_files: None }
    }
}

/// A running `cotton local`. Dropping it ends it and everything below its directory, and removes that.
#[derive(Debug)]
pub struct RealCotton {
    options: Options,
    port: u16,
    process: Option<(Child, Process)>,
    directory: Directory,
    _place: SemaphorePermit<'static>,
}

impl RealCotton {
    /// Starts one on an empty directory and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(options: Options) -> Result<Self, Failure> {
        Self::start_in(options, Directory::new()?).await
    }

    /// Starts one on a directory with something in it, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_in(options: Options, directory: Directory) -> Result<Self, Failure> {
        let place = place().await;
        let mut this = Self { options, port: 0, process: None, directory, _place: place };
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
        let program = program("cotton")?;
        let mut command =
            Command::new(if self.options.open_files.is_some() { "prlimit".as_ref() } else { program.as_path() });
        if let Some(files) = self.options.open_files {
            command.arg(format!("--nofile={files}:{files}")).arg(&program);
        }
        command.arg("local").arg("--dir").arg(self.path()).args(["--port", &self.port.to_string()]);
        command.args(["--agents", &self.options.agents.to_string()]);
        let (first, last) = self.ports();
        command.arg("--member-ports").arg(format!("{first}-{last}"));
        if self.options.flavour != Flavour::MariaDb {
            command.arg("--mysql-bin-dir").arg(self.options.flavour.require()?);
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

    /// Starts it with arguments of its own, which must fail; gives the last line of its log, which says why.
    ///
    /// # Errors
    /// When it starts all the same, or does not end.
    pub async fn refused_with(&mut self, arguments: &[&str]) -> Result<String, Failure> {
        let usual = self.options.arguments.clone();
        self.options.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let started = self.start_again().await;
        self.options.arguments = usual;
        if started.is_ok() {
            return Err(Failure::new("it started"));
        }
        if let Some((mut child, process)) = self.process.take() {
            process.ended(START).await?;
            child.wait()?;
        }
        Ok(self.log_end().lines().last().unwrap_or_default().to_owned())
    }

    /// Waits until its log says something for the `times`th time.
    ///
    /// # Errors
    /// When it does not.
    pub async fn says(&self, text: &str, times: usize) -> Result<(), Failure> {
        let start = Instant::now();
        while std::fs::read_to_string(self.log()).unwrap_or_default().matches(text).count() < times {
            if start.elapsed() > START {
                return Err(Failure::new(format!("it does not say '{text}':\n{}", self.log_end())));
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // a log has no events
        }
        Ok(())
    }

    /// The port that the process with this id says it serves.
    fn port_of(&self, pid: u32) -> Option<u16> {
        let text = std::fs::read_to_string(self.path().join("api.json")).ok()?;
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

    /// Its process.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref().map(|(_, process)| process)
    }

    /// All processes below it, itself excluded.
    pub fn members_processes(&self) -> Vec<Process> {
        let own = self.process().map(|process| process.pid);
        self.processes().into_iter().filter(|process| Some(process.pid) != own).collect()
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        const LINES: usize = 60;
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn log(&self) -> PathBuf {
        self.directory.beside("log")
    }
}

impl Deref for RealCotton {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.directory
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
    }
}
