//! Where the cluster runs, and how its processes are found there.

use crate::Options;
use cotton_tests::{
    Api, Failure, Flavour, Member, MesosOptions, Process, RealCotton, SmallDisk, Stock, StockOptions, below,
};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Mutex;

/// Members are replaced by others on other agents.
const AGENTS: u16 = 5;
/// Agents of `cotton local` whose disks can be filled, if we may make such disks.
const SMALL_DISKS: u16 = 2;
/// More than the data of a member takes.
const SMALL_DISK_MIB: u32 = 1024;

/// What runs the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// `cotton local`.
    Local,
    /// `cotton-scheduler` on Mesos and `ZooKeeper`.
    Mesos,
}

#[derive(Debug)]
enum System {
    Local(Box<RealCotton>),
    Mesos(Box<Stock>),
}

/// See the module. Dropping it ends everything.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Given back before what follows removes the directories in which they are.
    small: BTreeMap<String, SmallDisk>,
    system: Mutex<System>,
    /// Everything that agents run is below.
    path: PathBuf,
    api: Api,
    pub(crate) on: On,
}

impl Stage {
    pub(crate) async fn start(options: &Options) -> Result<Self, Failure> {
        options.server.require()?;
        let on = options.on;
        Ok(match on {
            On::Local => {
                let wanted = cotton_tests::Options {
                    flavour: options.server,
                    agents: AGENTS.into(),
                    ..cotton_tests::Options::default()
                };
                let cotton = RealCotton::start(wanted).await?;
                let (path, api) = (cotton.path().to_path_buf(), cotton.api());
                let mut small = BTreeMap::new();
                for agent in (1..=SMALL_DISKS).map(|number| format!("agent-{number}")) {
                    let volumes = path.join("agents").join(&agent).join("volumes");
                    small.extend(SmallDisk::mount(&volumes, SMALL_DISK_MIB)?.map(|disk| (agent, disk)));
                }
                Self { small, system: Mutex::new(System::Local(Box::new(cotton))), path, api, on }
            }
            On::Mesos => {
                let mesos = MesosOptions { agents: AGENTS, ..MesosOptions::default() };
                let mut flags = Vec::new();
                if options.server != Flavour::MariaDb {
                    let bin = options.server.require()?.display().to_string();
                    let variables = serde_json::json!([{ "name": "COTTON_MYSQL_BIN_DIR", "value": bin }]);
                    flags.push(("executor_environ", variables.to_string()));
                }
                let stock = Stock::start_with(StockOptions { mesos, flags, ..StockOptions::default() }).await?;
                let stock = stock.ok_or_else(|| Failure::new("Mesos or ZooKeeper is not installed"))?;
                let (path, api) = (stock.mesos.directory().path().to_path_buf(), stock.api(0));
                Self { small: BTreeMap::new(), system: Mutex::new(System::Mesos(Box::new(stock))), path, api, on }
            }
        })
    }

    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    /// The running server of a member.
    pub(crate) fn server(&self, member: &Member) -> Option<Process> {
        self.process(member, Process::is_server)
    }

    /// The running executor of a member.
    pub(crate) fn executor(&self, member: &Member) -> Option<Process> {
        self.process(member, Process::is_executor)
    }

    fn process(&self, member: &Member, is: fn(&Process) -> bool) -> Option<Process> {
        let task = &member.task;
        let part = format!("/{task}/");
        let belongs = |process: &Process| {
            let named = process.task.as_ref().map(|own| own == task);
            named.unwrap_or_else(|| process.command.iter().any(|argument| argument.contains(&part)))
        };
        below(&self.path).into_iter().filter(is).find(belongs)
    }

    /// Fills the disk of a member for a while; false when its disk is not a small one.
    pub(crate) async fn fill_disk(&self, member: &Member, time: Duration) -> Result<bool, Failure> {
        let Some(disk) = self.small.get(&member.agent) else { return Ok(false) };
        let filled = disk.fill();
        tokio::time::sleep(time).await;
        disk.make_room()?;
        filled.map(|()| true)
    }

    /// SIGKILL to the scheduler, which is started again after a while.
    pub(crate) async fn restart_scheduler(&self, after: Duration) -> Result<(), Failure> {
        let mut system = self.system.lock().await;
        match &mut *system {
            System::Local(cotton) => {
                cotton.kill().await?;
                tokio::time::sleep(after).await;
                cotton.start_again().await
            }
            System::Mesos(stock) => {
                stock.kill_scheduler(0).await?;
                tokio::time::sleep(after).await;
                stock.start_scheduler(0)?;
                stock.until_ready(0).await
            }
        }
    }

    /// SIGSTOP to the scheduler, which goes on after a while.
    pub(crate) async fn stop_scheduler(&self, time: Duration) {
        let signal = async |with: Signal| match &*self.system.lock().await {
            System::Local(cotton) => cotton.process().into_iter().for_each(|process| process.signal(with)),
            System::Mesos(stock) => stock.signal_scheduler(0, with),
        };
        signal(Signal::STOP).await;
        tokio::time::sleep(time).await;
        signal(Signal::CONT).await;
    }

    /// Where clients of the cluster are sent, as they find out without the API.
    pub(crate) async fn published(&self, cluster: &str) -> Result<Option<u16>, Failure> {
        if self.on == On::Local {
            let Ok(text) = std::fs::read_to_string(self.path.join(format!("discovery/{cluster}.json"))) else {
                return Ok(None);
            };
            let said: serde_json::Value = serde_json::from_str(&text).map_err(std::io::Error::from)?;
            let primary = said["primary"].as_u64().map(|member| member.to_string());
            let port = primary.and_then(|primary| said["members"][primary]["port"].as_u64());
            return Ok(port.and_then(|port| port.try_into().ok()));
        }
        let system = self.system.lock().await;
        let System::Mesos(stock) = &*system else { return Ok(None) };
        let client = stock.zookeeper.client().await?;
        let found = cotton_tests::tree(&client, &format!("/mysos/discover/{cluster}/master")).await?;
        let values = found.values().filter_map(|data| serde_json::from_slice::<serde_json::Value>(data).ok());
        let mut ports = values.filter_map(|said| said["serviceEndpoint"]["port"].as_u64());
        Ok(ports.next().and_then(|port| port.try_into().ok()))
    }

    /// The administrator of a member's server.
    pub(crate) async fn admin(&self, cluster: &str, task: &str) -> Result<mysql_async::Conn, Failure> {
        match &*self.system.lock().await {
            System::Local(cotton) => cotton_tests::admin::connect(cotton, cluster, task).await,
            System::Mesos(_) => Err(Failure::new("on Mesos nobody knows the administrator's password")),
        }
    }

    /// The newest lines of what the scheduler, the executors and the servers say.
    pub(crate) async fn logs(&self) -> String {
        let mut text = match &*self.system.lock().await {
            System::Local(cotton) => cotton.log_end(),
            System::Mesos(stock) => stock.log_end(0),
        };
        let mut files = Vec::new();
        find_logs(&self.path, &mut files);
        files.sort();
        for (_, path) in files.into_iter().rev().take(10) {
            const LINES: usize = 30;
            let log = std::fs::read(&path).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
            let _ = write!(text, "\n\n--- {}\n{end}", path.display()); // a String takes everything
        }
        text
    }
}

/// Logs of executors and servers, each with the time of its last line.
fn find_logs(dir: &Path, found: &mut Vec<(std::time::SystemTime, PathBuf)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        let is_log = path.file_name().is_some_and(|name| name == "stderr")
            || path.extension().is_some_and(|extension| extension == "err" || extension == "log");
        if kind.is_dir() {
            find_logs(&path, found);
        } else if is_log && let Ok(changed) = entry.metadata().and_then(|metadata| metadata.modified()) {
            found.push((changed, path));
        }
    }
}
