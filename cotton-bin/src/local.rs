//! A whole cotton on one machine, without Mesos and without ZooKeeper: an in-process stand-in for both, the scheduler,
//! and the API. Executors and databases are processes of their own, which outlive this one when it is killed.
//!
//! One process works on a directory at a time: it holds `cotton.lock` there.

use crate::api::{self, ApiConfig, Hosts};
use crate::cli::write_api_file;
use crate::discovery::FileDiscovery;
use crate::executor::chain;
use crate::front::Front;
use crate::preflight::{self, PreflightError};
use crate::secret::{KeyError, SealingKey};
use crate::signals::Signals;
use crate::store::{FileStore, StoreError};
use crate::trust::{UntrustedDirectory, own_directory};
use cotton_core::cluster::Timing;
use cotton_core::driver::scheduler::{self, Ports as SchedulerPorts, Scheduler};
use cotton_core::driver::{Handle, Records};
use cotton_core::fleet::Config as FleetConfig;
use cotton_core::resources::MIB;
use cotton_core::spec::Limits;
use cotton_core::{AgentId, PortError, Ports, Resources};
use cotton_mesos::local::{AgentConfig, ExecutorCommand, Local, LocalConfig};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

/// What each simulated agent pretends to have.
pub const AGENT: Resources =
    Resources { cpus_milli: 64_000, mem_bytes: 64 * 1024 * MIB, disk_bytes: 1024 * 1024 * MIB };

/// Ports of members, below those that the kernel gives to outgoing connections.
pub const MEMBER_PORTS: (u16, u16) = (30_000, 32_767);

const PORTS_PER_AGENT: u16 = 100;
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Why cotton cannot run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemError {
    /// A file or directory.
    #[error("could not {operation} '{path}': {source}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process works there.
    #[error("another cotton works on '{0}': stop it first, or choose another directory")]
    Locked(PathBuf),
    /// Databases run as another user when we are root, and that user cannot get there.
    #[error(
        "databases do not run as root, and only root can enter '{closed}': choose another place, or open that one \
         with 'chmod o+x {closed}'"
    )]
    Closed {
        /// The directory in the way.
        closed: PathBuf,
    },
    /// Others can change what is in the directory.
    #[error(transparent)]
    Untrusted(#[from] UntrustedDirectory),
    /// There is no executor.
    #[error("there is no executor at '{0}': build it with 'cargo build --bin cotton-executor'")]
    NoExecutor(PathBuf),
    /// The address of the API is taken.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Too many agents for too few ports.
    #[error("{agents} agents need at least {agents} ports, and there are {ports}")]
    Ports {
        /// How many agents.
        agents: u16,
        /// How many ports.
        ports: u32,
    },
    /// Signals cannot be listened to.
    #[error("could not listen to signals: {0}")]
    Signals(io::Error),
    /// The scheduler has ended without an error, and nobody has asked it to.
    #[error("the scheduler has ended")]
    Ended,
    /// The key.
    #[error("{}", chain(.0))]
    Key(#[from] KeyError),
    /// Starting would do harm.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The state.
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    /// The simulated agents.
    #[error("{}", .0.chain())]
    Mesos(#[from] cotton_mesos::Error),
    /// The scheduler.
    #[error("{}", .0.chain())]
    Scheduler(#[from] PortError),
}

/// What is to run, and where.
#[derive(Clone, Debug)]
pub struct SystemConfig {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// File with the key that seals passwords; `None` keeps one in the directory, made when missing.
    pub key_file: Option<PathBuf>,
    /// Address to listen on.
    pub address: IpAddr,
    /// Names by which people reach that address, besides those of the machine.
    pub hostnames: Vec<String>,
    /// Port to listen on; `None` takes the one of the last time, 8765, or any.
    pub port: Option<u16>,
    /// Number of simulated agents.
    pub agents: u16,
    /// First and last port of members.
    pub member_ports: (u16, u16),
    /// The executor's program; `None` looks beside this one.
    pub executor: Option<PathBuf>,
    /// Directory with the database server's programs; `None` takes those of the system.
    pub mysql_bin_dir: Option<PathBuf>,
    /// Times of clusters.
    pub timing: Timing,
}

impl SystemConfig {
    /// The defaults on a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            key_file: None,
            address: [127, 0, 0, 1].into(),
            hostnames: Vec::new(),
            port: None,
            agents: 6,
            member_ports: MEMBER_PORTS,
            executor: None,
            mysql_bin_dir: None,
            timing: Timing::default(),
        }
    }
}

/// A running cotton. Dropping it is like killing it: executors and databases live on.
#[derive(Debug)]
pub struct System {
    handle: Handle,
    local: Arc<Local>,
    url: String,
    scheduler: JoinHandle<Result<(), PortError>>,
    front: Front,
    _lock: File,
}

impl System {
    /// Starts everything; what ran on the directory before goes on.
    ///
    /// # Errors
    /// When something is in the way; the error says what to do.
    pub async fn start(config: SystemConfig) -> Result<Self, SystemError> {
        let dir = absolute(&config.dir)?;
        let executor = find_executor(config.executor.as_deref())?;
        make_dir(&dir)?;
        if let Some(programs) = &config.mysql_bin_dir {
            is_open(&absolute(programs)?)?;
        }
        let lock = lock(&dir)?;
        // Everything is looked at before any task is started: see `preflight`.
        let state_dir = dir.join("state");
        let store = FileStore::open_beside(state_dir.clone()).await?;
        let mut records = Records::read(&store).await?;
        preflight::agents_belong(&dir, &state_dir, &records, &Local::remembered(&dir)?)?;
        let (key, key_file) = key(&dir, config.key_file.as_deref(), &records)?;
        preflight::key_opens(&key, &key_file, &records)?;
        let executor = executor_command(executor, &key_file, &config);
        preflight::executor_runs(&executor).await?;
        let listener = listen(&dir, &config).await?;
        let address =
            listener.local_addr().map_err(|source| SystemError::Listen { address: wanted(&config, 0), source })?;
        let url = format!("http://{}:{}", host(address.ip()), address.port());

        let local = LocalConfig::new(&dir, agents(config.agents, config.member_ports)?, executor);
        let local = Arc::new(Local::open(local)?);
        records.put_on_volumes(); // so have the agents, with what earlier versions left in sandboxes
        let limits = Limits { agent_max: Some(AGENT), ..Limits::default() };
        let discovery = FileDiscovery::open(&dir.join("discovery")).map_err(file("prepare", dir.join("discovery")))?;
        let ports =
            SchedulerPorts { mesos: Arc::clone(&local) as _, state: Arc::new(store), discovery: Arc::new(discovery) };
        let timing = config.timing.into();
        let fleet = FleetConfig { timing, limits: limits.clone(), volumes: true, ..FleetConfig::default() };
        let Scheduler { handle, ended } = scheduler::start_with(fleet, records, ports, Arc::new(unix_ms)).await?;

        let stopping = watch::Sender::new(false);
        let api = ApiConfig {
            key,
            limits,
            cluster_url_prefix: format!("{url}/api/v1/clusters/"),
            hosts: Arc::new(Hosts::new(config.address, &config.hostnames)),
            stopping: stopping.subscribe(),
            agents: Some(Arc::clone(&local)),
        };
        let router = api::router(Arc::new(handle.clone()), api);
        let front = Front::start(listener, stopping, router);
        write_api_file(&dir, &url).map_err(file("write", dir.join("api.json")))?;
        Ok(Self { handle, local, url, scheduler: ended, front, _lock: lock })
    }

    /// To command and watch the scheduler.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The simulated agents.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Where the API is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the scheduler ends by itself, which it does for reasons that a person must mend.
    ///
    /// # Errors
    /// That reason.
    pub async fn ended(&mut self) -> Result<(), SystemError> {
        Err(why_ended((&mut self.scheduler).await).map_or(SystemError::Ended, SystemError::Scheduler))
    }

    /// Stops the scheduler, then the databases, cleanly. Started again on the directory, everything is back.
    pub async fn shutdown(mut self) {
        self.handle.stop().await; // first, so that it does not take the stopped databases for dead ones
        self.front.stop().await;
        self.local.shutdown(STOP_GRACE).await;
    }

    /// Runs until Ctrl-C, a kill or the end of the terminal, then stops everything cleanly. A second signal does not wait
    /// for that.
    ///
    /// # Errors
    /// When the scheduler ends by itself.
    pub async fn run_until_signal(mut self) -> Result<(), SystemError> {
        let mut signals = Signals::new().map_err(SystemError::Signals)?;
        tokio::select! {
            ended = self.ended() => {
                ended?;
                return Err(SystemError::Ended);
            }
            () = signals.any() => {}
        }
        tracing::info!("stopping the databases; Ctrl-C again leaves them running");
        tokio::select! {
            () = self.shutdown() => tracing::info!("stopped; started again on the directory, everything is back"),
            () = signals.any() => tracing::warn!("left: what runs on is found again at the next start"),
        }
        Ok(())
    }
}

/// Why a scheduler's loop ended; `None` when it was asked to, or cancelled. Its panic goes on here.
pub(crate) fn why_ended(result: Result<Result<(), PortError>, JoinError>) -> Option<PortError> {
    match result {
        Ok(result) => result.err(),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => None,
        },
    }
}

fn find_executor(given: Option<&Path>) -> Result<PathBuf, SystemError> {
    let beside = || {
        let this = std::env::current_exe().unwrap_or_default();
        this.with_file_name("cotton-executor")
    };
    let path = given.map_or_else(beside, Path::to_owned);
    if !path.is_file() {
        return Err(SystemError::NoExecutor(path));
    }
    absolute(&path)
}

fn executor_command(program: PathBuf, key_file: &Path, config: &SystemConfig) -> ExecutorCommand {
    // clients find members at 127.0.0.1
    let members = if config.address.is_unspecified() { config.address } else { [127, 0, 0, 1].into() };
    let mut environment = BTreeMap::from([
        ("COTTON_KEY_FILE".to_owned(), key_file.display().to_string()),
        ("COTTON_BIND_ADDRESS".to_owned(), members.to_string()),
    ]);
    if let Some(dir) = &config.mysql_bin_dir {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        environment.insert("COTTON_MYSQL_BIN_DIR".to_owned(), dir.display().to_string());
    }
    if let Ok(level) = std::env::var("COTTON_LOG") {
        environment.insert("COTTON_LOG".to_owned(), level);
    }
    ExecutorCommand { program, args: Vec::new(), environment }
}

/// Agents with ports of their own. Which ones does not depend on how many agents there are, as long as there is room, so
/// that more agents can be had at the next start.
fn agents(count: u16, (first, last): (u16, u16)) -> Result<Vec<AgentConfig>, SystemError> {
    let ports = (u32::from(last) + 1).saturating_sub(first.into());
    let each = (ports / u32::from(count.max(1))).min(PORTS_PER_AGENT.into());
    let each = u16::try_from(each).ok().filter(|&each| each > 0 && count > 0);
    let each = each.ok_or(SystemError::Ports { agents: count, ports })?;
    let agent = |number: u16| AgentConfig {
        id: AgentId::new(format!("agent-{}", number + 1)),
        host: "127.0.0.1".to_owned(),
        resources: AGENT,
        ports: Ports::new([(first + number * each, first + number * each + (each - 1))]),
        attributes: BTreeMap::new(),
    };
    Ok((0..count).map(agent).collect())
}

fn absolute(path: &Path) -> Result<PathBuf, SystemError> {
    std::path::absolute(path).map_err(file("find", path.to_owned()))
}

/// Makes the directory, which databases' own user must be able to enter.
fn make_dir(dir: &Path) -> Result<(), SystemError> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(file("make", dir.to_owned()))?;
    own_directory(dir)?;
    is_open(dir)
}

/// Whether databases can get there.
fn is_open(path: &Path) -> Result<(), SystemError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(()); // databases run as we do
    }
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        let mode = ancestor.metadata().map_err(file("look at", ancestor.to_owned()))?.permissions().mode();
        if mode & 0o001 == 0 {
            return Err(SystemError::Closed { closed: ancestor.to_owned() });
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, SystemError> {
    let path = dir.join("cotton.lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let mut lock = lock.map_err(file("open", path.clone()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SystemError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => return Err(file("lock", path)(source)),
    }
    let noted = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())); // for people who wonder
    noted.map_err(file("write", path))?;
    Ok(lock)
}

/// The key, and its file. A key is made only where nothing was sealed with another one.
fn key(dir: &Path, given: Option<&Path>, records: &Records) -> Result<(SealingKey, PathBuf), SystemError> {
    if let Some(path) = given {
        return Ok((SealingKey::load(path)?, absolute(path)?));
    }
    let path = dir.join("key");
    if records.has_clusters() && !path.try_exists().map_err(file("look for", path.clone()))? {
        return Err(PreflightError::KeyMissing { key: path, state: dir.join("state") }.into());
    }
    Ok((SealingKey::load_or_create(&path)?, path))
}

async fn listen(dir: &Path, config: &SystemConfig) -> Result<TcpListener, SystemError> {
    const USUAL_PORT: u16 = 8765;
    let last = std::fs::read_to_string(dir.join("api.json")).ok();
    let last = last.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let last = last.and_then(|value| value["url"].as_str()?.rsplit_once(':')?.1.parse().ok());
    let ports = config.port.map_or_else(|| vec![last.unwrap_or(USUAL_PORT), 0], |port| vec![port]);
    let mut refused = None;
    for port in ports {
        let address = wanted(config, port);
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(source) => refused = Some(SystemError::Listen { address, source }),
        }
    }
    Err(refused.expect("there is at least one port to try"))
}

fn wanted(config: &SystemConfig, port: u16) -> SocketAddr {
    SocketAddr::new(config.address, port)
}

/// The host under which people reach an address.
pub(crate) fn host(address: IpAddr) -> String {
    if !address.is_unspecified() {
        return SocketAddr::new(address, 0).to_string().trim_end_matches(":0").to_owned(); // with brackets where needed
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "127.0.0.1".to_owned() } else { name.trim().to_owned() }
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn file(operation: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> SystemError {
    move |source| SystemError::File { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_have_ports_of_their_own_that_stay() {
        let ports = |count| -> Vec<_> {
            let agents = agents(count, MEMBER_PORTS).expect("enough ports");
            agents.iter().map(|agent| agent.ports.ranges().to_vec()).collect()
        };
        assert_eq!(ports(2), [[(30_000, 30_099)], [(30_100, 30_199)]]);
        assert_eq!(ports(6)[..2], ports(2));
        assert_eq!(ports(27).len(), 27);
        assert_eq!(agents(3, (65_533, 65_535)).expect("enough")[2].ports.ranges(), [(65_535, 65_535)]);
        for (count, range) in [(0, (1, 100)), (4, (65_533, 65_535)), (1, (2, 1))] {
            assert!(agents(count, range).is_err(), "{count} {range:?}");
        }
    }

    #[test]
    fn one_process_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = lock(dir.path()).expect("is free");
        assert!(matches!(lock(dir.path()), Err(SystemError::Locked(_))));
        drop(first);
        lock(dir.path()).expect("is free again");
    }

    #[test]
    fn hosts() {
        assert_eq!(host([127, 0, 0, 1].into()), "127.0.0.1");
        assert_eq!(host("::1".parse().expect("valid")), "[::1]");
        assert!(!host([0, 0, 0, 0].into()).is_empty());
    }
}
