//! The stock scheduler on Apache Mesos and `ZooKeeper`: it stands for election, and runs clusters while it leads.
//!
//! Several may run; one leads, the others point to it. A leader that loses its place stops at once and stands again: its
//! writes to `ZooKeeper` are refused from that moment on, and Mesos listens to the next one.

use crate::api::{self, ApiConfig, Hosts};
use crate::config::scheduler::{MesosFlags, SchedulerFlags, StateStorage};
use crate::executor::chain;
use crate::front::Front;
use crate::local::{host, unix_ms, why_ended};
use crate::patience::Patience;
use crate::preflight::{self, PreflightError};
use crate::secret::{KeyError, SealingKey};
use crate::signals::Signals;
use crate::store::{FileStore, StoreError};
use crate::trust::{UntrustedDirectory, own_directory};
use cotton_core::driver::Records;
use cotton_core::driver::scheduler::{self, Ports, Scheduler};
use cotton_core::fleet::Config as FleetConfig;
use cotton_core::ports::state_store::StateStore;
use cotton_core::spec::Limits;
use cotton_core::{ErrorKind, PortError};
use cotton_mesos::scheduler::{
    Credential, ExecutorConfig, ExecutorUri, FrameworkConfig, HttpMesos, MasterDetector, MasterList, MasterListError,
    MasterProbe, SchedulerConfig, SchedulerError,
};
use cotton_mesos::zookeeper::{
    Election, ElectionConfig, Leadership, Standing, UrlError, ZkMasterDetector, ZkUrl, look_at_records,
};
use secrecy::ExposeSecret;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// After so long without contact to `ZooKeeper`, another scheduler takes over.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);
/// How often it is looked whether the leading master can be reached.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// A pause before what failed at the beginning of a term is tried again.
const BEGIN_AGAIN: Duration = Duration::from_millis(500);
/// With less, people may not notice in time that no scheduler runs.
const FAILOVER_TIMEOUT_SAFE: Duration = Duration::from_hours(24);
/// Apache Cotton's name, by which operators know the framework.
const FRAMEWORK: &str = "mysos";
const EXECUTOR: &str = "mysos.executor";

/// Why the scheduler does not run, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The key.
    #[error("{}", chain(.0))]
    Key(#[from] KeyError),
    /// `--zk_url`.
    #[error("Invalid --zk_url: {0}")]
    ZkUrl(UrlError),
    /// `--mesos_master`, as a `zk://` URL.
    #[error("Invalid --mesos_master: {0}")]
    MasterUrl(UrlError),
    /// `--mesos_master`, as a list.
    #[error("Invalid --mesos_master: {0}")]
    MasterList(#[from] MasterListError),
    /// The port of the API is taken.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be listened to.
    #[error("could not listen to signals: {0}")]
    Signals(io::Error),
    /// Leading would do harm.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Local state.
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    /// The directory of local state.
    #[error("Invalid --work_dir: {0}")]
    Untrusted(#[from] UntrustedDirectory),
    /// The connection to Mesos could not be prepared.
    #[error("{}", chain(.0))]
    Mesos(#[from] SchedulerError),
    /// The scheduler stopped for a reason that a person must mend.
    #[error("{}", .0.chain())]
    Scheduler(#[from] PortError),
    /// The scheduler has ended without an error, and nobody has asked it to.
    #[error("the scheduler has ended")]
    Ended,
}

/// Runs until a signal comes, or a person must mend something. Databases run on in either case.
///
/// # Errors
/// The reason, when there is no signal.
pub async fn run(flags: SchedulerFlags, mesos: MesosFlags) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let mut stock = Stock::start(flags, mesos).await?;
    let ended = tokio::select! {
        ended = stock.stand() => ended.map(|never| match never {}),
        () = signals.any() => {
            tracing::info!("stopping; the databases run on");
            Ok(())
        }
    };
    stock.front.stop().await;
    ended
}

/// What stays the same over all terms.
struct Stock {
    flags: SchedulerFlags,
    mesos: MesosFlags,
    key: SealingKey,
    zk_url: ZkUrl,
    masters: Masters,
    /// How others reach this machine.
    hostname: String,
    /// Where others reach the API.
    url: String,
    hosts: Arc<Hosts>,
    front: Front,
}

/// How the leading master is found.
enum Masters {
    List(String),
    ZooKeeper(ZkUrl),
}

/// How a term ended that did not end in an error.
enum Term {
    Lost(String),
    /// Somebody else subscribed as our framework, and this scheduler leads all the same.
    Superseded(PortError),
}

impl Stock {
    async fn start(flags: SchedulerFlags, mesos: MesosFlags) -> Result<Self, RunError> {
        let key = SealingKey::load(&flags.scheduler_keypath)?;
        if mesos.state_storage == StateStorage::Local {
            let dir = flags.work_dir.clone();
            make_own(&dir).map_err(|source| UntrustedDirectory::Unknown { path: dir, source })??;
        }
        let zk_url: ZkUrl = mesos.zk_url.expose_secret().parse().map_err(RunError::ZkUrl)?;
        let masters = if mesos.master.starts_with("zk://") {
            Masters::ZooKeeper(mesos.master.parse().map_err(RunError::MasterUrl)?)
        } else {
            let _checked: MasterList = mesos.master.parse()?;
            Masters::List(mesos.master.clone())
        };
        let address = SocketAddr::new(flags.listen, flags.port);
        let listen = |source| RunError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let port = listener.local_addr().map_err(listen)?.port();
        let hostname = flags.hostnames.first().cloned().unwrap_or_else(|| host(address.ip()));
        let url = format!("http://{hostname}:{port}");
        if address.ip().is_loopback() && flags.hostnames.is_empty() {
            tracing::warn!(
                api = url,
                "nobody on another machine is pointed to this scheduler; --hostname says how it is reached"
            );
        }
        let hosts = Arc::new(Hosts::new(address.ip(), &flags.hostnames));
        let front = Front::start(
            listener,
            watch::Sender::new(false),
            api::standby(None, "this one has just been started", Arc::clone(&hosts)),
        );
        tracing::info!(api = url, "running");
        if mesos.failover_timeout < FAILOVER_TIMEOUT_SAFE {
            tracing::warn!(
                "--framework_failover_timeout is {:?}: when no scheduler has been connected for so long, Mesos ends every \
                 database",
                mesos.failover_timeout
            );
        }
        Ok(Self { flags, mesos, key, zk_url, masters, hostname, url, hosts, front })
    }

    fn standby(&self, leader: Option<String>, why: &str) {
        self.front.show(api::standby(leader, why, Arc::clone(&self.hosts)));
    }

    /// Does not even stand for election with another key than that of the clusters, or where a later version has written.
    /// What cannot be read now is found out by whoever leads: `begin` looks again.
    async fn check_records(&self) -> Result<(), RunError> {
        if self.mesos.state_storage == StateStorage::Local {
            return Ok(()); // looked at as soon as this one leads; nobody else can
        }
        match look_at_records(&self.zk_url, SESSION_TIMEOUT).await.and_then(Records::of) {
            Ok(records) => Ok(preflight::key_opens(&self.key, &self.flags.scheduler_keypath, &records)?),
            Err(error) if error.kind == ErrorKind::Unsupported => Err(RunError::Scheduler(error)),
            Err(error) => {
                tracing::info!(error = %error.chain(), "could not look at the state yet");
                Ok(())
            }
        }
    }

    /// Stands for election, leads when elected, stands again.
    async fn stand(&self) -> Result<std::convert::Infallible, RunError> {
        self.check_records().await?;
        let (_probe, has_master) = self.watch_master()?;
        let config = ElectionConfig {
            url: self.zk_url.clone(),
            api: self.url.clone(),
            session_timeout: SESSION_TIMEOUT,
            has_master: Some(has_master),
        };
        let election = Election::start(config);
        let mut standing = election.standing();
        let mut patience = Patience::new();
        loop {
            let now = standing.borrow_and_update().clone();
            tracing::info!("this scheduler {now}");
            match now {
                Standing::Leading(leadership) => {
                    patience.begin_term();
                    let why = loop {
                        match self.lead(&leadership, &mut patience).await? {
                            Term::Lost(why) => break why,
                            Term::Superseded(error) => {
                                tracing::error!(error = %error.chain(), "it is this one that leads: subscribing again");
                            }
                        }
                    };
                    tracing::warn!("this scheduler leads no more: {why}");
                }
                Standing::Following { leader } => {
                    // an earlier run of this scheduler leads until its session ends: nobody is sent in a circle
                    let leader = leader.filter(|leader| *leader != self.url);
                    self.standby(leader, "an election is under way");
                }
                Standing::Apart { why } => self.standby(None, &why),
            }
            if standing.changed().await.is_err() {
                return Err(RunError::Ended);
            }
        }
    }

    /// One term; without Mesos it ends when patience does.
    async fn lead(&self, leadership: &Leadership, patience: &mut Patience) -> Result<Term, RunError> {
        self.standby(None, "this one leads and is connecting to Mesos");
        let begun = tokio::select! {
            begun = self.begin(leadership) => begun,
            why = leadership.lost() => return Ok(Term::Lost(why)),
        };
        let (Scheduler { handle, ended }, subscribed) = match begun {
            Ok(begun) => begun,
            Err(RunError::Scheduler(error)) => return lost_or(leadership, error).await,
            Err(error) => return Err(error),
        };
        let mut ended = AbortOnDrop(ended);
        let streams = EndOnDrop(watch::Sender::new(false));
        self.front.show(api::router(
            Arc::new(handle.clone()),
            ApiConfig {
                key: self.key.clone(),
                limits: Limits::default(),
                cluster_url_prefix: self.zk_url.cluster_url_prefix(),
                hosts: Arc::clone(&self.hosts),
                stopping: streams.0.subscribe(),
                agents: None,
            },
        ));
        tokio::select! {
            why = leadership.lost() => Ok(Term::Lost(why)),
            why = patience.used_up(subscribed, async || leadership.has_successor().await.unwrap_or(false)) => {
                leadership.give_way(&why);
                Ok(Term::Lost(leadership.lost().await))
            }
            result = &mut ended.0 => match why_ended(result) {
                Some(error) => lost_or(leadership, error).await,
                None => Err(RunError::Ended),
            },
        }
    }

    /// Reads the state and connects to Mesos. What fails only for now, such as the connection to `ZooKeeper`, is tried
    /// again from the start: what became of a write without an answer is seen then.
    async fn begin(&self, leadership: &Leadership) -> Result<(Scheduler, watch::Receiver<bool>), RunError> {
        loop {
            let (ports, subscribed) = self.ports(leadership).await?;
            let fleet = FleetConfig {
                timing: self.flags.timing().into(),
                limits: Limits::default(),
                volumes: self.mesos.volumes(),
                ..FleetConfig::default()
            };
            let begun = async {
                let records = Records::read(&*ports.state).await?;
                preflight::key_opens(&self.key, &self.flags.scheduler_keypath, &records)?;
                Ok(scheduler::start_with(fleet, records, ports, Arc::new(unix_ms)).await?)
            };
            match begun.await {
                Err(RunError::Scheduler(error)) if error.is_temporary() => {
                    tracing::warn!(error = %error.chain(), "could not begin to lead; trying again");
                    tokio::time::sleep(BEGIN_AGAIN).await;
                }
                started => return Ok((started?, subscribed)),
            }
        }
    }

    /// The ports, and whether the one to Mesos has a subscription.
    async fn ports(&self, leadership: &Leadership) -> Result<(Ports, watch::Receiver<bool>), RunError> {
        let state: Arc<dyn StateStore> = match self.mesos.state_storage {
            StateStorage::ZooKeeper => Arc::new(leadership.state_store()),
            StateStorage::Local => {
                let dir = self.flags.work_dir.join("state");
                Arc::new(FileStore::open_beside(dir).await?)
            }
        };
        let mesos = Arc::new(HttpMesos::new(self.mesos_config(), self.detector()?)?);
        let subscribed = mesos.subscribed();
        Ok((Ports { mesos, state, discovery: Arc::new(leadership.discovery()) }, subscribed))
    }

    /// What finds the leading master, anew: each connection goes its own way through a list.
    fn detector(&self) -> Result<Arc<dyn MasterDetector>, RunError> {
        Ok(match &self.masters {
            Masters::List(list) => Arc::new(list.parse::<MasterList>()?),
            Masters::ZooKeeper(url) => Arc::new(ZkMasterDetector::start(url.clone(), SESSION_TIMEOUT)),
        })
    }

    /// Looks again and again whether the leading master can be reached from here: leaders give way to those that can.
    fn watch_master(&self) -> Result<(AbortOnDrop<()>, watch::Receiver<bool>), RunError> {
        let probe = MasterProbe::new(&self.mesos_config(), self.detector()?)?;
        let (tell, has_master) = watch::channel(false);
        let watching = tokio::spawn(async move {
            loop {
                let reaches = probe.reaches_leader().await;
                tell.send_if_modified(|known| std::mem::replace(known, reaches) != reaches);
                tokio::time::sleep(PROBE_EVERY).await;
            }
        });
        Ok((AbortOnDrop(watching), has_master))
    }

    fn mesos_config(&self) -> SchedulerConfig {
        let flags = &self.mesos;
        let mut framework = FrameworkConfig::new(FRAMEWORK, &flags.user);
        framework.roles = vec![flags.role.clone()];
        framework.failover_timeout = flags.failover_timeout;
        framework.webui_url = Some(self.url.clone());
        framework.hostname = Some(self.hostname.clone());
        let mut executor = ExecutorConfig::new(&flags.executor_cmd);
        executor.uris = vec![ExecutorUri::program(&flags.executor_uri)];
        EXECUTOR.clone_into(&mut executor.name);
        executor.source_prefix.clone_from(&flags.executor_source_prefix);
        let mut set = |name: &str, value: &str| drop(executor.environment.insert(name.to_owned(), value.to_owned()));
        set("COTTON_KEY_FILE", &flags.executor_keypath);
        set("COTTON_ADMIN_KEYPATH", &flags.admin_keypath);
        if let Some(args) = &flags.installer_args {
            set("COTTON_INSTALLER_ARGS", args);
        }
        if let Some(args) = &flags.backup_store_args {
            set("COTTON_BACKUP_STORE_ARGS", args);
        }
        executor.environment.extend(flags.executor_environ.clone());
        let mut config = SchedulerConfig::new(framework, executor);
        #[cfg(feature = "tls")]
        config.ca_file.clone_from(&flags.ca_file);
        config.credential = flags
            .credentials
            .as_ref()
            .map(|own| Credential { principal: own.principal.clone(), secret: own.secret.clone() });
        config
    }
}

/// The directory of local state, made if there is none.
fn make_own(dir: &Path) -> io::Result<Result<(), UntrustedDirectory>> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    Ok(own_directory(dir))
}

/// What an error of the scheduler means. One that has lost its place may hear of it from Mesos, to which its successor has
/// subscribed, before it hears of it from `ZooKeeper`. If nobody has succeeded it, whoever subscribed had no right to: such
/// as a former leader that was stopped, in the moment before it hears that it leads no more.
async fn lost_or(leadership: &Leadership, error: PortError) -> Result<Term, RunError> {
    match tokio::time::timeout(SESSION_TIMEOUT * 2, leadership.lost()).await {
        Ok(why) => Ok(Term::Lost(why)),
        Err(_) if is_superseded(&error) => Ok(Term::Superseded(error)),
        Err(_) => Err(RunError::Scheduler(error)),
    }
}

fn is_superseded(error: &PortError) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<SchedulerError>())
        .any(|cause| matches!(cause, SchedulerError::Superseded(_)))
}

/// Ends streams of events with the term: whoever reads one finds the next leader then.
struct EndOnDrop(watch::Sender<bool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Ends the scheduler's loop with the term.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
