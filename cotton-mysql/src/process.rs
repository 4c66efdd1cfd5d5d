//! Child processes that end with us.
//!
//! `setpriv --pdeathsig` makes the kernel kill a child when the *thread* that started it ends. Worker threads of a
//! runtime come and go, so all children are started by one thread that lives as long as the process. Another thread
//! per server waits for its end.

use crate::Error;
use cotton_core::ports::mysql::Exit;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::{oneshot, watch};

type Request = (Command, oneshot::Sender<io::Result<Child>>);

/// Starts a child from the thread that never ends.
pub(crate) async fn spawn(command: Command) -> Result<Child, Error> {
    static STARTER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let failed = |source| Error::System { what: "start a process", source };
    let starter = STARTER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        let run = move || {
            for (mut command, reply) in requests {
                if let Err(Ok(mut unwanted)) = reply.send(command.spawn()) {
                    // nobody waits for it any more
                    let _ = unwanted.kill();
                    let _ = unwanted.wait();
                }
            }
        };
        // when there is no thread, the channel is closed and every request says so
        let _ = std::thread::Builder::new().name("starts-mysqld".to_owned()).spawn(run);
        sender
    });
    let gone = || failed(io::Error::other("the thread that starts processes is gone"));
    let (reply, answer) = oneshot::channel();
    starter.send((command, reply)).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?.map_err(failed)
}

/// Runs a program to its end, feeding it `input`; kills it at the deadline or when nobody waits any more.
pub(crate) async fn run(mut command: Command, input: Vec<u8>, limit: Duration) -> Result<Output, Error> {
    let what = "run a program of the server";
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = spawn(command).await?;
    let stdin = child.stdin.take();
    let guard = KillOnDrop(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
    let (reply, answer) = oneshot::channel();
    let wait = move || {
        let feeder = stdin.map(|mut stdin| {
            std::thread::spawn(move || {
                let _ = stdin.write_all(&input); // a program that does not read says why in its exit status
            })
        });
        let output = child.wait_with_output();
        if let Some(feeder) = feeder {
            let _ = feeder.join();
        }
        let _ = reply.send(output); // nobody waits any more: killed by the guard
    };
    std::thread::Builder::new().spawn(wait).map_err(|source| Error::System { what, source })?;
    let output = tokio::time::timeout(limit, answer).await.map_err(|_| Error::Timeout { what, after: limit })?;
    guard.disarm();
    output.map_err(io::Error::other).flatten().map_err(|source| Error::System { what, source })
}

/// A program that runs beside us, with streams; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) async fn start(command: Command) -> Result<Self, Error> {
        spawn(command).await.map(|child| Self(Some(child)))
    }

    pub(crate) fn stdin(&mut self) -> io::Result<tokio::process::ChildStdin> {
        let stdin = self.0.as_mut().and_then(|child| child.stdin.take()).ok_or(io::ErrorKind::NotConnected)?;
        tokio::process::ChildStdin::from_std(stdin)
    }

    pub(crate) fn stdout(&mut self) -> io::Result<tokio::process::ChildStdout> {
        let stdout = self.0.as_mut().and_then(|child| child.stdout.take()).ok_or(io::ErrorKind::NotConnected)?;
        tokio::process::ChildStdout::from_std(stdout)
    }

    /// Collects what it says on its standard error, up to the end of it. Not by a file: the disk may be full.
    pub(crate) fn said(&mut self) -> io::Result<tokio::task::JoinHandle<String>> {
        let stderr = self.0.as_mut().and_then(|child| child.stderr.take()).ok_or(io::ErrorKind::NotConnected)?;
        let mut stderr = tokio::process::ChildStderr::from_std(stderr)?;
        Ok(tokio::spawn(async move {
            const MOST: usize = 64 * 1024;
            let (mut text, mut part) = (Vec::new(), vec![0; 4096]);
            while let Ok(len @ 1..) = stderr.read(&mut part).await {
                text.extend_from_slice(&part[..len]);
                let surplus = text.len().saturating_sub(MOST);
                text.drain(..surplus);
            }
            String::from_utf8_lossy(&text).into_owned()
        }))
    }

    /// Waits for its end, at most so long.
    pub(crate) async fn wait(mut self, limit: Duration) -> Result<ExitStatus, Error> {
        let what = "wait for a program of the server";
        let Some(mut child) = self.0.take() else {
            return Err(Error::System { what, source: io::ErrorKind::NotConnected.into() });
        };
        let guard = KillOnDrop(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
        let (reply, answer) = oneshot::channel();
        let wait = move || drop(reply.send(child.wait()));
        std::thread::Builder::new().spawn(wait).map_err(|source| Error::System { what, source })?;
        let status = tokio::time::timeout(limit, answer).await.map_err(|_| Error::Timeout { what, after: limit })?;
        guard.disarm();
        status.map_err(io::Error::other).flatten().map_err(|source| Error::System { what, source })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            // its death is certain and near, but not ours to wait for here
            let _ = std::thread::Builder::new().spawn(move || child.wait());
        }
    }
}

/// Kills a process that is being waited for by a thread, when the future that wanted its result is dropped.
struct KillOnDrop(Option<Pid>);

impl KillOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// How a process ended, for people.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("status {code}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// How a program ended that wrote to its standard error, for people.
pub(crate) fn describe_with_reason(output: &Output) -> String {
    let reason = error_line(&String::from_utf8_lossy(&output.stderr)).unwrap_or_default();
    format!("{}: {reason}", describe(output.status))
}

/// A running mysqld.
#[derive(Debug)]
pub(crate) struct Mysqld {
    pid: Pid,
    /// `None` once it was reaped: its pid may then be another's.
    child: Arc<Mutex<Option<Child>>>,
    expected: Arc<AtomicBool>,
    hushed: AtomicBool,
    ended: watch::Receiver<Option<Exit>>,
}

impl Mysqld {
    /// Starts it and watches over it.
    pub(crate) async fn start(command: Command, error_log: PathBuf) -> Result<Self, Error> {
        let log_from = std::fs::metadata(&error_log).map_or(0, |meta| meta.len());
        let child = spawn(command).await?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::System { what: "start", source: io::Error::other("strange process id") })?;
        let child = Arc::new(Mutex::new(Some(child)));
        let expected = Arc::new(AtomicBool::new(false));
        let (tell, ended) = watch::channel(None);
        let this = Self {
            pid,
            child: Arc::clone(&child),
            expected: Arc::clone(&expected),
            hushed: AtomicBool::default(),
            ended,
        };
        let wait = move || {
            // leave it a zombie until the lock is held, so that nobody signals a pid that is another's by then
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
            let reaped = lock(&child).take().map(|mut child| child.wait());
            let how = match reaped {
                Some(Ok(status)) => describe(status),
                Some(Err(error)) => format!("an unknown status: {error}"),
                None => "an unknown status".to_owned(),
            };
            let expected = expected.load(Ordering::SeqCst);
            let reason = if expected || how == "signal 9" { None } else { last_error(&error_log, log_from) };
            let description = reason.map_or_else(|| how.clone(), |reason| format!("{how}: {reason}"));
            tell.send_replace(Some(Exit { description, expected }));
        };
        let waiting = std::thread::Builder::new().name("waits-for-mysqld".to_owned()).spawn(wait);
        if let Err(source) = waiting {
            this.signal(Signal::KILL);
            return Err(Error::System { what: "watch a process", source });
        }
        Ok(this)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Exit {
        let mut ended = self.ended.clone();
        let exit = ended.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        exit.unwrap_or_else(|| Exit { description: "an unknown status".to_owned(), expected: false })
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.ended.borrow().clone()
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(&self) {
        self.expect_end();
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Lets it shut down, up to `grace`.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.expect_end();
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            self.kill().await;
        }
    }

    pub(crate) fn expect_end(&self) {
        self.expected.store(true, Ordering::SeqCst);
    }

    /// Nobody who waits for the end of a server knows of it.
    pub(crate) fn hush(&self) {
        self.hushed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_hushed(&self) -> bool {
        self.hushed.load(Ordering::SeqCst)
    }

    fn signal(&self, signal: Signal) {
        if lock(&self.child).is_some() {
            let _ = rustix::process::kill_process(self.pid, signal); // it is ours and not reaped
        }
    }
}

impl Drop for Mysqld {
    fn drop(&mut self) {
        self.expect_end();
        self.signal(Signal::KILL);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a process has done by some moment: how much it wrote to its log, read and wrote, and computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    log: u64,
    io: u64,
    /// In ticks of a hundredth of a second.
    cpu: u64,
}

impl Progress {
    /// What idle threads use up meanwhile, in ticks.
    const IDLE_CPU: u64 = 500;

    pub(crate) fn of(mysqld: &Mysqld, error_log: &Path) -> Self {
        let pid = mysqld.pid.as_raw_nonzero();
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        Self {
            log: std::fs::metadata(error_log).map_or(0, |meta| meta.len()),
            io: sum_of_io(&read("io")),
            cpu: cpu_of_stat(&read("stat")),
        }
    }

    /// Whether something was done since `before`.
    pub(crate) fn is_beyond(&self, before: &Self) -> bool {
        self.log != before.log || self.io != before.io || self.cpu > before.cpu + Self::IDLE_CPU
    }
}

/// Bytes read and written by system calls, in `/proc/PID/io`.
fn sum_of_io(text: &str) -> u64 {
    let number =
        |line: &str| line.strip_prefix("rchar: ").or_else(|| line.strip_prefix("wchar: "))?.parse::<u64>().ok();
    text.lines().filter_map(number).sum()
}

/// Time in the user's and the kernel's mode, in `/proc/PID/stat`.
fn cpu_of_stat(text: &str) -> u64 {
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Kills a server that an earlier run of ours left behind, which holds the data directory.
///
/// It is recognised by the configuration file in its arguments, or by one of another sandbox and by working in this data
/// directory, so nothing else is ever killed.
pub(crate) async fn kill_leftover(pid_file: &Path, cnf: &Path, data: &Path) {
    let Some(pid) = std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok()) else { return };
    let Some(process) = Pid::from_raw(pid) else { return };
    let is_ours = || {
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut files = args.split(|byte| *byte == 0).filter_map(|arg| arg.strip_prefix(b"--defaults-file="));
        let works_here = || {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
            cwd.is_some_and(|cwd| std::fs::canonicalize(data).is_ok_and(|data| data == cwd))
        };
        files.any(|file| file == cnf.as_os_str().as_encoded_bytes() || works_here())
    };
    let mut pause = Duration::from_millis(1);
    while is_ours() {
        let _ = rustix::process::kill_process(process, Signal::KILL);
        tokio::time::sleep(pause).await; // not our child: its end cannot be waited for
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The last line of the log that was written since `from` and tells of an error.
pub(crate) fn last_error(log: &Path, from: u64) -> Option<String> {
    error_line(&tail(log, from)?)
}

/// What an applier could not do. Of several workers, MySQL names any that has stopped, and says only in its log what one of
/// them could not do.
pub(crate) fn applier_error(text: String, log: &Path) -> String {
    let told = Some(log).filter(|_| text.contains("_by_worker"));
    told.and_then(last_applier_error).unwrap_or(text)
}

/// The last message of a log that says what an applier could not do, from where it says so.
fn last_applier_error(log: &Path) -> Option<String> {
    const BEGINS: [&str; 2] = ["Could not execute", "; Error '"];
    let text = tail(log, 0)?;
    let begins = |line: &str| BEGINS.iter().find_map(|begin| line.find(begin));
    // a worker also says so that stopped only because another one had
    let line = text.lines().rfind(|line| begins(line).is_some() && !line.contains("at least one previous worker"))?;
    Some(line[begins(line)?..].trim_start_matches("; ").chars().take(300).collect())
}

/// The end of a log, as far as it was written since `from`.
fn tail(log: &Path, from: u64) -> Option<String> {
    const TAIL: u64 = 64 * 1024;
    let mut file = std::fs::File::open(log).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(from.max(len.saturating_sub(TAIL)))).ok()?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The first line that tells of an error, which is mostly the cause, and the last one; without any, the last line.
pub(crate) fn error_line(text: &str) -> Option<String> {
    let is_error = |line: &&str| line.contains("ERROR") || line.contains("[FATAL]") || line.starts_with("mysqld:");
    let noise = |line: &&str| !line.ends_with("Aborting") && !line.is_empty();
    let short = |line: &str| line.chars().take(300).collect::<String>();
    let last = text.lines().filter(noise).rfind(is_error);
    let first = text.lines().filter(noise).find(is_error).filter(|first| Some(*first) != last);
    let last = short(last.or_else(|| text.lines().rfind(noise))?);
    Some(first.map_or_else(|| last.clone(), |first| format!("{} ... {last}", short(first))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn run_feeds_reads_and_limits() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; exit 3"]).stdout(Stdio::piped());
        let output = run(command, b"hello".to_vec(), Duration::from_secs(10)).await.expect("sh is there");
        assert_eq!((output.stdout.as_slice(), output.status.code()), (b"hello".as_slice(), Some(3)));
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = run(command, Vec::new(), Duration::from_millis(20)).await.expect_err("too slow");
        assert!(matches!(error, Error::Timeout { .. }));
        assert!(run(Command::new("/nonexistent"), Vec::new(), Duration::from_secs(1)).await.is_err());
    }

    #[test]
    fn progress_is_seen() {
        assert_eq!(sum_of_io("rchar: 5\nwchar: 7\nsyscr: 100\nread_bytes: 1\n"), 12);
        assert_eq!(cpu_of_stat("1 (a) b) S 2 3 4 5 6 7 8 9 10 11 400 30 0 0"), 430);
        let before = Progress { log: 1, io: 1, cpu: 1 };
        assert!(!before.is_beyond(&before) && !Progress { cpu: 400, ..before }.is_beyond(&before), "idle");
        for now in [Progress { log: 2, ..before }, Progress { io: 2, ..before }, Progress { cpu: 600, ..before }] {
            assert!(now.is_beyond(&before), "{now:?}");
        }
    }

    #[test]
    fn last_error_finds_the_reason() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let old = "1 [ERROR] of an earlier start\n";
        let text = "2 [Note] fine\n3 [ERROR] port is taken\n4 [ERROR] Aborting\n\n5 [Note] shutdown complete\n";
        std::fs::write(file.path(), format!("{old}{text}")).expect("temporary file");
        assert_eq!(last_error(file.path(), old.len() as u64).as_deref(), Some("3 [ERROR] port is taken"));
        assert_eq!(last_error(Path::new("/nonexistent"), 0), None);
        assert_eq!(last_applier_error(file.path()), None);
        let text = "[ERROR] Worker 1 failed executing '7:6'; Could not execute Update_rows event on table s.t\n\
                    [ERROR] Worker 2 failed executing '7:7'; Could not execute Write_rows event on table s.t; Replica \
                    worker has stopped after at least one previous worker encountered an error\n";
        std::fs::write(file.path(), text).expect("temporary file");
        let told = last_applier_error(file.path());
        assert_eq!(told.as_deref(), Some("Could not execute Update_rows event on table s.t"));
    }
}
