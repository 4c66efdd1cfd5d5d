//! Processes of executors: started apart from us, found again by their environment, watched by pidfd, signalled with all
//! their descendants.
//!
//! An executor leads its own process group, so that an interrupt typed at the terminal does not reach it. It is known by
//! the pair of `MESOS_EXECUTOR_ID` and `MESOS_DIRECTORY` in its environment: that is there from the moment at which it
//! exists, so no crash of ours between starting it and writing something down can lose it.

use crate::error::Error;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::io::unix::AsyncFd;

/// What executors find programs with.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often a tree is walked again because it grew while it was being signalled.
const WALKS_MAX: usize = 8;

/// An executor, and how to learn that it ended.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    pidfd: AsyncFd<OwnedFd>,
    /// Absent when an earlier life of ours is its parent.
    child: Option<Child>,
}

/// What to start.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) path: &'a Path,
    pub(super) args: &'a [String],
    pub(super) environment: BTreeMap<String, String>,
    pub(super) sandbox: &'a Path,
}

impl Process {
    /// Starts an executor in its sandbox. Must be called within a tokio runtime.
    pub(super) fn start(program: &Program<'_>) -> io::Result<Self> {
        let log = |name: &str| {
            let file = std::fs::File::options().create(true).append(true).open(program.sandbox.join(name))?;
            io::Result::Ok(Stdio::from(file))
        };
        let child = Command::new(program.path)
            .args(program.args)
            .env_clear()
            .env("PATH", PATH)
            .envs(&program.environment)
            .current_dir(program.sandbox)
            .stdin(Stdio::null())
            .stdout(log("stdout")?)
            .stderr(log("stderr")?)
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let mut this = Self::open(pid)?;
        this.child = Some(child);
        Ok(this)
    }

    /// Takes over an executor that is not our child. Must be called within a tokio runtime.
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        let id = Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let pidfd = rustix::process::pidfd_open(id, PidfdFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "sound for an OwnedFd, whose descriptor never changes; the successor is unsafe")]
        let pidfd = AsyncFd::new(pidfd)?;
        Ok(Self { pid, pidfd, child: None })
    }

    /// Waits for its end, ends what is left of its process group, and says how it ended.
    pub(super) async fn ended(mut self) -> String {
        if let Err(error) = self.pidfd.readable().await {
            tracing::error!(pid = self.pid, error = %error, "could not wait for an executor");
        }
        // Its pid is not given to another process as long as it has not been waited for.
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _nothing_left = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => status.to_string(),
            _ => "no exit status known".into(),
        }
    }
}

/// Whether a process runs.
pub(super) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok();
    stat.and_then(|stat| Stat::parse(&String::from_utf8_lossy(&stat))).is_some_and(|stat| stat.is_alive())
}

/// The executors that run, by sandbox.
pub(super) fn find_executors() -> io::Result<BTreeMap<(PathBuf, String), i32>> {
    let mut found: BTreeMap<(PathBuf, String), (u64, i32)> = BTreeMap::new();
    for stat in stats()?.values().filter(|stat| stat.pid == stat.group && stat.is_alive()) {
        let environment = match std::fs::read(format!("/proc/{}/environ", stat.pid)) {
            Ok(environment) => environment,
            // Of another user: none of ours.
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => continue,
            Err(error) => return Err(error),
        };
        let get = |name: &str| {
            let mut entries = environment.split(|byte| *byte == 0);
            entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        };
        let (Some(directory), Some(id)) = (get("MESOS_DIRECTORY"), get("MESOS_EXECUTOR_ID")) else { continue };
        let key = (PathBuf::from(OsStr::from_bytes(directory)), String::from_utf8_lossy(id).into_owned());
        // What an executor started may have inherited its environment, but is younger.
        let entry = found.entry(key).or_insert((stat.started, stat.pid));
        *entry = (*entry).min((stat.started, stat.pid));
    }
    Ok(found.into_iter().map(|(key, (_, pid))| (key, pid)).collect())
}

/// Signals a process, its process group and all descendants. Repeats until no new ones turn up.
///
/// # Errors
/// When one of them may not be signalled; the others have been.
pub(super) fn signal_tree(root: i32, signal: Signal) -> Result<(), Error> {
    let (mut done, mut refused) = (BTreeSet::new(), None);
    for _ in 0..WALKS_MAX {
        let new: Vec<i32> = tree(root).into_iter().filter(|pid| !done.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            done.insert(pid);
            let Some(id) = Pid::from_raw(pid) else { continue };
            match rustix::process::kill_process(id, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => refused = Some((pid, errno)),
            }
        }
    }
    match refused {
        None => Ok(()),
        Some((pid, errno)) => Err(Error::Signal {
            pid,
            hint: "it belongs to another user; run this program as root or as that user",
            source: errno.into(),
        }),
    }
}

/// A process, what descends from it, and the rest of its process group, top down.
fn tree(root: i32) -> Vec<i32> {
    let Ok(stats) = stats() else { return vec![root] };
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = stats.values().filter(|stat| stat.parent == parent || (stat.group == root && parent == root));
        let children: Vec<i32> = children.map(|stat| stat.pid).filter(|pid| !found.contains(pid)).collect();
        found.extend(children);
    }
    found
}

struct Stat {
    pid: i32,
    state: u8,
    parent: i32,
    group: i32,
    started: u64,
}

impl Stat {
    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }

    /// From `/proc/<pid>/stat`: `pid (name) state parent group ...`; the name may contain anything.
    fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        Some(Self {
            pid: head.split_once(' ')?.0.parse().ok()?,
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Whether a process ended while it was looked at. Any other error must not make it seem so.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn stats() -> io::Result<BTreeMap<i32, Stat>> {
    let mut stats = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path.file_name().is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
        if !is_process {
            continue;
        }
        let text = match std::fs::read(path.join("stat")) {
            Ok(text) => text,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        if let Some(stat) = Stat::parse(&String::from_utf8_lossy(&text)) {
            stats.insert(stat.pid, stat);
        }
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_odd_names() {
        let line = "12 (a) b (c) S 3 4 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0 184";
        let stat = Stat::parse(line).expect("well-formed");
        assert_eq!((stat.pid, stat.state, stat.parent, stat.group, stat.started), (12, b'S', 3, 4, 777));
        assert!(Stat::parse("12 (a").is_none() && Stat::parse("").is_none());
    }

    #[test]
    fn this_process_is_found() {
        let me = i32::try_from(std::process::id()).expect("pids are small");
        assert!(stats().expect("there is /proc")[&me].is_alive());
        assert_eq!(tree(me).first(), Some(&me));
    }
}
