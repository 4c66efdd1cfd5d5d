//! A whole scheduler with 10,000 clusters, in a process of its own: how fast it is ready, and how much memory it takes.
//!
//! The process is this program again. Its Mesos is quiet: every task runs, every member reports that it is well.

use crate::Effort;
use crate::failover::resident_mb;
use crate::measurement::{Measurement, ms};
use async_trait::async_trait;
use bytes::Bytes;
use cotton_bin::discovery::FileDiscovery;
use cotton_bin::store::FileStore;
use cotton_core::cluster::state::{Member, State};
use cotton_core::driver::handle::Stopped;
use cotton_core::driver::scheduler::{self, Ports, Scheduler};
use cotton_core::election::PromotionRule;
use cotton_core::fleet::Config;
use cotton_core::fleet::state::FleetState;
use cotton_core::ports::mesos::{Mesos, MesosCall, MesosEvent, TaskState, TaskStatus};
use cotton_core::ports::state_store::{StateKey, StateStore};
use cotton_core::protocol::{self, MemberRole, Report, Stage};
use cotton_core::{
    AgentId, ClusterSpec, ClusterStatus, Durability, Endpoint, Epoch, FrameworkId, GtidSet, MemberId, PortError,
    Preference, Resources, Sealed, Secrets, TaskId,
};
use cotton_tests::{Failure, within};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};

/// The first argument of the process that is measured; the second is its directory.
pub(crate) const FLAG: &str = "--scheduler";

const CLUSTERS: u64 = 10_000;
const MEMBERS: u64 = 3;
const LIMIT: Duration = Duration::from_mins(5);

/// Time until commands are taken, and resident memory once every member has reported.
pub(crate) async fn recover(effort: Effort) -> Result<Vec<Measurement>, Failure> {
    let dir = tempfile::tempdir()?;
    fill(dir.path()).await?;
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for number in 1..=effort.rounds(5, 1) {
        let child = Command::new(std::env::current_exe()?).arg(FLAG).arg(dir.path()).stdout(Stdio::piped()).spawn()?;
        let mut child = KillOnDrop(child);
        let stdout = child.0.stdout.take().ok_or_else(|| Failure::new("no pipe"))?;
        let mut lines = BufReader::new(stdout).lines();
        let mut number_after = |word: &str| {
            let line = lines.next().transpose()?.unwrap_or_default();
            let value = line.strip_prefix(word).and_then(|rest| rest.trim().parse::<f64>().ok());
            value.ok_or_else(|| Failure::new(format!("the scheduler said '{line}' instead of '{word}'")))
        };
        times.push(number_after("ready")?);
        number_after("healthy")?;
        sizes.push(resident_mb(child.0.id())?);
        println!("recover {number}: ready after {:.0} ms, {:.1} MB resident", times[number - 1], sizes[number - 1]);
    }
    Ok(vec![
        Measurement::of("fleet.recover_10000_ms", &times),
        Measurement::of("memory.scheduler_10000_clusters_mb", &sizes),
    ])
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Stores healthy clusters as a scheduler that ran for a while would have left them.
async fn fill(dir: &Path) -> Result<(), Failure> {
    let failed = |error: PortError| Failure::because("the state could not be stored", &error);
    let open = FileStore::open(&dir.join("state")).map_err(|error| Failure::because("no store", &error))?;
    let fleet = FleetState { framework: Some(FrameworkId::from("bench")), ..FleetState::default() };
    let json = |value: serde_json::Result<Vec<u8>>| value.map_err(std::io::Error::from);
    open.save(&StateKey::Fleet, &json(serde_json::to_vec(&fleet))?).await.map_err(failed)?;
    // as a copy of the whole directory would: fsync of each would only take time here
    let clusters = dir.join("state/clusters");
    for number in 0..CLUSTERS {
        let state = state(number);
        std::fs::write(clusters.join(format!("{}.json", state.name())), json(serde_json::to_vec(&state))?)?;
    }
    Ok(())
}

/// A healthy cluster of three, as it is stored.
pub(crate) fn state(number: u64) -> State {
    let sealed = || Sealed::new("c2VhbGVk".repeat(8));
    let spec = ClusterSpec {
        name: format!("cluster-{number:05}").parse().expect("a valid name"),
        size: 3,
        resources: Resources::DEFAULT,
        user: "app".to_owned(),
        secrets: Secrets { user: sealed(), admin: sealed(), replication: sealed() },
        durability: Durability::SemiSync,
        preference: Preference::Consistency,
        backup_id: None,
    };
    let member = |id: u64| {
        let agent = (number + id) % 1_000;
        let port = 31_000 + u16::try_from((number * MEMBERS + id) / 1_000).unwrap_or_default();
        let member = Member {
            run: 0,
            agent: AgentId::new(format!("agent-{agent:03}")),
            endpoint: Endpoint::new(format!("host-{agent:03}.example"), port),
            zone: None,
            joined: true,
            late: false,
            received: None,
            attached: Epoch(1),
            volume: false,
            resting: false,
            rule: PromotionRule::Neutral,
            damaged: false,
            leaving: None,
        };
        (MemberId(id), member)
    };
    State {
        epoch: Epoch(1),
        primary: Some(MemberId(0)),
        last_primary: Some(MemberId(0)),
        last_epoch: Epoch(1),
        opened: true,
        witnesses: [MemberId(0)].into(),
        members: (0..MEMBERS).map(member).collect(),
        next_member: MemberId(MEMBERS),
        ..State::new(spec, number, MemberId(0))
    }
}

/// A Mesos on which all is well.
struct Quiet {
    tell: mpsc::UnboundedSender<MesosEvent>,
    events: Mutex<mpsc::UnboundedReceiver<MesosEvent>>,
}

#[async_trait]
impl Mesos for Quiet {
    async fn subscribe(&self, framework: Option<FrameworkId>) -> Result<(), PortError> {
        let _open = self.tell.send(MesosEvent::Subscribed(framework.unwrap_or_else(|| FrameworkId::from("bench"))));
        Ok(())
    }

    async fn next_event(&self) -> Result<MesosEvent, PortError> {
        let event = self.events.lock().await.recv().await;
        Ok(event.expect("the other end is here, too"))
    }

    async fn call(&self, call: MesosCall) -> Result<(), PortError> {
        if let MesosCall::Reconcile(tasks) = call {
            for (task, agent) in tasks {
                let data = Bytes::from(protocol::encode(&report(&task)));
                let message = String::new();
                let status = TaskStatus {
                    task: task.clone(),
                    agent: Some(agent),
                    state: TaskState::Running,
                    message,
                    uuid: None,
                };
                let _open = self.tell.send(MesosEvent::Status(status));
                let _open = self.tell.send(MesosEvent::Message { task, data });
            }
        }
        Ok(())
    }
}

fn report(task: &TaskId) -> Report {
    let is_primary = task.as_str().ends_with("-0");
    Report {
        incarnation: 1,
        seq: 1,
        echo: 0,
        epoch: Epoch(1),
        stage: Some(Stage::Decided),
        role: if is_primary { MemberRole::Primary } else { MemberRole::Following { connected: true } },
        boot: 1,
        unattached: BTreeSet::new(),
        never_opened: false,
        kept_since: None,
        origin: String::new(),
        position: "0-1-123456".parse().map_or(GtidSet::Empty, GtidSet::MariaDb),
        unapplied: 0,
        applied: None,
        lag_s: (!is_primary).then_some(0),
        read_to: (!is_primary).then_some(protocol::LogPlace { file: 1, offset: 123_456_789 }),
        replicas: is_primary.then_some(2),
        waiting: is_primary.then_some(0),
        disk_free_bytes: Some(1 << 30),
        waits_for_room: false,
        asked_to_leave: false,
        accounts_wanted: false,
        accounts_revision: 0,
        server_version: "10.11.14-MariaDB-0+deb12u2-log".to_owned(),
        trouble: None,
        failed_copies: 0,
        next_copy_ms: None,
    }
}

/// The process that is measured: tells when it is ready and when it is healthy, then waits to be killed.
pub(crate) fn main(dir: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(dir)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(dir: &Path) -> Result<(), Failure> {
    let start = Instant::now();
    let store = FileStore::open(&dir.join("state")).map_err(|error| Failure::because("no store", &error))?;
    let discovery = FileDiscovery::open(&dir.join("discovery"))?;
    let (tell, events) = mpsc::unbounded_channel();
    let mesos = Arc::new(Quiet { tell, events: Mutex::new(events) });
    let ports = Ports { mesos, state: Arc::new(store), discovery: Arc::new(discovery) };
    let started = scheduler::start(Config::default(), ports, Arc::new(|| 0)).await;
    let Scheduler { handle, .. } = started.map_err(|error| Failure::because("no scheduler", &error))?;
    let stopped = |error: Stopped| Failure::because("it stopped", &error);
    let connected = async {
        while handle.metrics().await.map_err(stopped)?.get("framework_registered") != Some(&1) {}
        Ok::<_, Failure>(())
    };
    within(LIMIT, "connected", connected).await??;
    println!("ready {}", ms(start.elapsed()));
    let healthy = async {
        while handle.list().await.map_err(stopped)?.iter().any(|cluster| cluster.status != ClusterStatus::Healthy) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok::<_, Failure>(())
    };
    within(LIMIT, "healthy", healthy).await??;
    println!("healthy {}", ms(start.elapsed()));
    std::future::pending().await
}
