//! The stock scheduler on a real Mesos and a real `ZooKeeper`, everything a process of its own.

use crate::{Api, Directory, Failure, Member, MesosOptions, Process, RealMesos, ZooKeeper, program, within};
use rustix::process::Signal;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The unix user that executors and databases run as.
const USER: &str = "nobody";
const READY: Duration = Duration::from_secs(90);
const LOG_LINES: usize = 80;

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct StockOptions {
    /// Master and agents.
    pub mesos: MesosOptions,
    /// Whether `ZooKeeper` is an ensemble of three instead of one server.
    pub ensemble: bool,
    /// More flags of the schedulers, with their values.
    pub flags: Vec<(&'static str, String)>,
    /// How many files each scheduler may have open.
    pub open_files: Option<u64>,
}

/// Mesos, `ZooKeeper`, and schedulers that can be started and killed. Dropping it ends everything.
#[derive(Debug)]
pub struct Stock {
    schedulers: Vec<Option<(Child, Process)>>,
    /// What agents run the tasks with.
    pub mesos: RealMesos,
    /// Where state, discovery and election are.
    pub zookeeper: ZooKeeper,
    flags: Vec<(&'static str, String)>,
    open_files: Option<u64>,
    directory: Directory,
}

impl Stock {
    /// Starts Mesos and `ZooKeeper`; `None`, after saying so loudly, when one of them is missing.
    ///
    /// # Errors
    /// When one of them does not start.
    ///
    /// # Panics
    /// When one of them is missing, in CI.
    pub async fn prepare(options: StockOptions) -> Result<Option<Self>, Failure> {
        if !RealMesos::is_installed() {
            return Ok(None);
        }
        let zookeeper = if options.ensemble { ZooKeeper::ensemble().await? } else { ZooKeeper::single().await? };
        let Some(zookeeper) = zookeeper else { return Ok(None) };
        let mesos = RealMesos::start(options.mesos).await?;
        let directory = Directory::new()?;
        std::fs::create_dir_all(directory.path())?;
        let this = Self {
            schedulers: Vec::new(),
            mesos,
            zookeeper,
            flags: options.flags,
            open_files: options.open_files,
            directory,
        };
        let path = |name: &str| this.directory.path().join(name);
        for (name, content) in [("key", [7; 32].as_slice()), ("admin.yml", b"username: root\npassword: secret\n")] {
            std::fs::write(path(name), content)?;
            for_executors(&path(name))?;
        }
        std::fs::copy(program("cotton-executor")?, path("cotton-executor"))?;
        Ok(Some(this))
    }

    /// Gives every scheduler from now on one more flag, or another value of a flag.
    pub fn flag(&mut self, name: &'static str, value: String) {
        self.flags.retain(|(other, _)| *other != name);
        self.flags.push((name, value));
    }

    /// Where files are that agents and executors can read.
    pub fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// So many agents, one `ZooKeeper`, and one scheduler that leads.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start(agents: u16) -> Result<Option<Self>, Failure> {
        let mesos = MesosOptions { agents, ..MesosOptions::default() };
        Self::start_with(StockOptions { mesos, ..StockOptions::default() }).await
    }

    /// As [`Stock::prepare`], and with one scheduler that leads.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start_with(options: StockOptions) -> Result<Option<Self>, Failure> {
        let Some(mut this) = Self::prepare(options).await? else { return Ok(None) };
        this.start_scheduler(0)?;
        this.until_ready(0).await?;
        Ok(Some(this))
    }

    /// Starts the scheduler with this number, for the first time or after it ended. It need not lead.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it runs.
    pub fn start_scheduler(&mut self, number: usize) -> Result<(), Failure> {
        if self.schedulers.len() <= number {
            self.schedulers.resize_with(number + 1, || None);
        }
        assert!(self.schedulers[number].is_none(), "it runs");
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let log = File::options().create(true).append(true).open(path(&format!("scheduler-{number}.log")))?;
        let program = program("cotton-scheduler")?;
        let mut command = Command::new(if self.open_files.is_some() { "prlimit".as_ref() } else { program.as_path() });
        if let Some(files) = self.open_files {
            command.arg(format!("--nofile={files}:{files}")).arg(&program);
        }
        let zk = self.zookeeper.url("", "/mysos");
        let usual = [
            ("port", self.port(number).to_string()),
            ("mesos_master", self.mesos.master().to_string()),
            ("framework_user", USER.to_owned()),
            ("executor_uri", path("cotton-executor")),
            ("executor_cmd", "./cotton-executor".to_owned()),
            ("zk_url", zk),
            ("admin_keypath", path("admin.yml")),
            ("scheduler_keypath", path("key")),
            ("work_dir", path(&format!("work-{number}"))),
        ];
        let usual = usual.into_iter().filter(|(flag, _)| self.flags.iter().all(|(other, _)| other != flag));
        for (flag, value) in usual.chain(self.flags.iter().cloned()) {
            command.arg(format!("--{flag}={value}"));
        }
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        let process = Process::open(child.id()).ok_or_else(|| Failure::new("the scheduler ended at once"))?;
        self.schedulers[number] = Some((child, process));
        Ok(())
    }

    fn port(&self, number: usize) -> u16 {
        self.directory.ports().0 + u16::try_from(number).unwrap_or(u16::MAX)
    }

    /// Waits until a scheduler leads and is connected.
    ///
    /// # Errors
    /// When it does not; tells the end of its log.
    pub async fn until_ready(&self, number: usize) -> Result<(), Failure> {
        let ready = self.api(number).until_ready(READY).await;
        ready.map_err(|failure| Failure::new(format!("{failure}\n{}", self.log_end(number))))
    }

    /// The API of a scheduler; one that does not lead points to the one that does.
    pub fn api(&self, number: usize) -> Api {
        Api::new(self.port(number))
    }

    /// Sends a signal to a scheduler, such as to stop it and to let it go on.
    pub fn signal_scheduler(&self, number: usize, with: Signal) {
        if let Some((_, process)) = &self.schedulers[number] {
            process.signal(with);
        }
    }

    /// SIGKILL to a scheduler; returns when it is gone.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub async fn kill_scheduler(&mut self, number: usize) -> Result<(), Failure> {
        let gone = || Failure::new("that scheduler does not run");
        let (mut child, process) = self.schedulers[number].take().ok_or_else(gone)?;
        process.kill();
        process.ended(READY).await?;
        child.wait()?;
        Ok(())
    }

    /// Waits until a scheduler ends by itself.
    ///
    /// # Errors
    /// When it does not run, or does not end within `limit`.
    pub async fn scheduler_ended(&mut self, number: usize, limit: Duration) -> Result<ExitStatus, Failure> {
        let gone = || Failure::new("that scheduler does not run");
        let (_, process) = self.schedulers[number].as_ref().ok_or_else(gone)?;
        process.ended(limit).await?;
        let (mut child, _) = self.schedulers[number].take().ok_or_else(gone)?;
        Ok(child.wait()?)
    }

    /// SIGKILL to an agent and everything that runs there, as a machine that loses its power.
    ///
    /// # Errors
    /// When the agent does not run.
    pub fn kill_machine(&mut self, agent: u16) -> Result<(), Failure> {
        self.mesos.kill_agent(agent)?;
        for process in self.mesos.task_processes(agent) {
            process.kill();
        }
        Ok(())
    }

    /// The last lines that a scheduler logged.
    pub fn log_end(&self, number: usize) -> String {
        let path = self.directory.path().join(format!("scheduler-{number}.log"));
        let log = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// The running servers (mysqld) of the first so many agents, each with the number of its agent.
    pub fn servers(&self, agents: u16) -> Vec<(u16, Process)> {
        self.processes(agents, Process::is_server)
    }

    /// The running executors of the first so many agents, each with the number of its agent.
    pub fn executors(&self, agents: u16) -> Vec<(u16, Process)> {
        self.processes(agents, Process::is_executor)
    }

    /// The server of a member, and on which agent it runs.
    ///
    /// # Errors
    /// When it does not run.
    pub fn server(&self, member: &Member) -> Result<(u16, Process), Failure> {
        of(self.servers(self.mesos.agents()), member)
    }

    /// The executor of a member, and on which agent it runs.
    ///
    /// # Errors
    /// When it does not run.
    pub fn executor(&self, member: &Member) -> Result<(u16, Process), Failure> {
        of(self.executors(self.mesos.agents()), member)
    }

    /// With the task that each belongs to.
    fn processes(&self, agents: u16, is: fn(&Process) -> bool) -> Vec<(u16, Process)> {
        let of =
            |agent: u16| self.mesos.task_processes(agent).into_iter().filter(is).map(move |process| (agent, process));
        let known = |(agent, mut process): (u16, Process)| {
            process.task = process.task.or_else(|| task_of(&process.command));
            (agent, process)
        };
        (0..agents).flat_map(of).map(known).collect()
    }

    /// Whether a scheduler leads and is connected.
    pub async fn is_ready(&self, number: usize) -> bool {
        self.api(number).until_ready(Duration::ZERO).await.is_ok()
    }

    /// Waits until a scheduler points to another.
    ///
    /// # Errors
    /// When it does not.
    pub async fn until_following(&self, number: usize) -> Result<(), Failure> {
        let follows = async {
            loop {
                let answer = self.api(number).send(reqwest::Method::GET, "/readyz", None).await;
                if answer.is_ok_and(|(_, said)| said["detail"].as_str().is_some_and(|text| text.contains("stands by")))
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await; // it has to be started before it can tell anything
            }
        };
        within(READY, "the scheduler stands by", follows).await
    }
}

/// The one among processes that is a member's.
/// Lets nobody but us and executors, which run as another user, read a file.
///
/// # Errors
/// When we may not say so.
pub fn for_executors(secret: &std::path::Path) -> Result<(), Failure> {
    let group = is_root().then(|| group_of(USER)).transpose()?;
    std::os::unix::fs::chown(secret, None, group)?;
    Ok(std::fs::set_permissions(secret, Permissions::from_mode(if is_root() { 0o640 } else { 0o600 }))?)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn group_of(user: &str) -> Result<u32, Failure> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == user);
    let group = fields.and_then(|fields| fields.get(3)?.parse().ok());
    group.ok_or_else(|| Failure::new(format!("there is no user '{user}'")))
}

fn of(processes: Vec<(u16, Process)>, member: &Member) -> Result<(u16, Process), Failure> {
    let found = processes.into_iter().find(|(_, process)| process.task.as_ref() == Some(&member.task));
    found.ok_or_else(|| Failure::new(format!("{} does not run", member.task)))
}

/// The task of a server, from where its configuration is.
fn task_of(command: &[String]) -> Option<String> {
    let path = command.iter().find_map(|argument| argument.strip_prefix("--defaults-file="))?;
    let mut parts = path.split('/').skip_while(|part| *part != "executors");
    parts.nth(1).map(str::to_owned)
}

impl Drop for Stock {
    fn drop(&mut self) {
        for (mut child, process) in self.schedulers.iter_mut().filter_map(Option::take) {
            process.kill();
            let _reaped = child.wait();
        }
    }
}
