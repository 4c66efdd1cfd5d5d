//! Processes below a directory: found in /proc, held by a pidfd, so that a signal never hits another process.

use crate::Failure;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A process that was found below a directory.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The task it belongs to, from the environment that an agent gives to an executor.
    pub task: Option<String>,
    handle: Arc<OwnedFd>,
}

impl Process {
    /// Looks at a process; `None` when it is gone. One that has only just been started may show no command yet.
    pub fn open(pid: u32) -> Option<Self> {
        let id = Pid::from_raw(pid.try_into().ok()?)?;
        let handle = Arc::new(rustix::process::pidfd_open(id, PidfdFlags::empty()).ok()?);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command: Vec<String> = command.split(|b| *b == 0).filter(|arg| !arg.is_empty()).map(text).collect();
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut entries = environment.split(|b| *b == 0);
        let task = entries.find_map(|entry| entry.strip_prefix(b"MESOS_EXECUTOR_ID=")).map(text);
        Some(Self { pid, command, task, handle })
    }

    /// Whether it is a running database server (not one of its tools, and not a bootstrap).
    pub fn is_server(&self) -> bool {
        let has = |prefix: &str| self.command.iter().any(|arg| arg.starts_with(prefix));
        has("--defaults-file=") && !has("--bootstrap") && !has("--initialize")
    }

    /// Whether it is an executor.
    pub fn is_executor(&self) -> bool {
        self.command.first().is_some_and(|program| program.ends_with("cotton-executor"))
    }

    /// Sends a signal; one that is gone needs none.
    pub fn signal(&self, signal: Signal) {
        let _gone = rustix::process::pidfd_send_signal(&*self.handle, signal);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub async fn ended(&self, limit: Duration) -> Result<(), Failure> {
        let this = self.clone();
        let ended = tokio::task::spawn_blocking(move || this.wait(limit)).await;
        let late = || Failure::new(format!("process {} has not ended within {limit:?}: {:?}", self.pid, self.command));
        ended.is_ok_and(|ended| ended).then_some(()).ok_or_else(late)
    }

    /// Waits for its end, blocking the thread; false when it has not ended in time.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
            let mut handles = [PollFd::new(&*self.handle, PollFlags::IN)];
            match rustix::event::poll(&mut handles, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(_) if left.is_zero() => return false,
                Err(_) => {} // interrupted
            }
        }
    }
}

/// All processes that work in `dir`, were started for a task there, or were told a path there.
pub fn below(dir: &Path) -> Vec<Process> {
    let belongs = |pid: u32| {
        let within = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        let names = |file: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            bytes.windows(dir.as_os_str().len()).any(|window| window == dir.as_os_str().as_bytes())
        };
        within || names("cmdline") || names("environ")
    };
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own && belongs(*pid)).filter_map(Process::open).filter(|p| !p.has_ended()).collect()
}

/// Kills all processes below `dir`, also those that they start meanwhile.
pub(crate) fn kill_below(dir: &Path) {
    const ROUNDS_MAX: usize = 50;
    for _ in 0..ROUNDS_MAX {
        let left = below(dir);
        if left.is_empty() {
            return;
        }
        // parents first, so that nobody restarts what was killed
        let (executors, others): (Vec<_>, Vec<_>) = left.into_iter().partition(Process::is_executor);
        for process in executors.iter().chain(&others) {
            process.kill();
        }
        for process in executors.iter().chain(&others) {
            process.wait(Duration::from_secs(5));
        }
    }
}
