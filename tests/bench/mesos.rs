//! The same on a real Mesos with a real `ZooKeeper`: what a failover costs there, and how long there is no scheduler.
//!
//! `ZooKeeper` has a tick of 200 ms, so that a session of 4 s really ends after 4 s.

use crate::Effort;
use crate::load::{Load, Round, STEP};
use crate::measurement::{Measurement, ms};
use cotton_tests::{Api, Failure, Flavour, MesosOptions, Settings, Stock, StockOptions, Wanted, within};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Of a fleet whose scheduler is restarted.
const CLUSTERS: usize = 20;

/// As it is without Mesos: the primary's server is killed.
pub(crate) async fn failover(effort: Effort) -> Result<Option<Measurement>, Failure> {
    let Some(stock) = start(3).await? else { return Ok(None) };
    let mut load = Load::start(stock.api(0)).await?;
    let rounds = load.fail_over(effort.rounds(40, 5), &|member| Ok(stock.server(member)?.1)).await?;
    load.finish().await?;
    let write = |round: &Round| ms(round.write);
    Ok(Some(Measurement::of("mesos.failover.kill_to_write_ms", &rounds.iter().map(write).collect::<Vec<_>>())))
}

/// Agent, executor and server of the primary are stopped together, as a machine whose network is cut; nobody's
/// connection to them breaks. They go on once another member takes writes.
pub(crate) async fn agent_cut(effort: Effort) -> Result<Option<Measurement>, Failure> {
    let Some(stock) = start(3).await? else { return Ok(None) };
    let mut load = Load::start(stock.api(0)).await?;
    let mut times = Vec::new();
    for number in 1..=effort.rounds(20, 2) {
        load.settle().await?;
        let old = load.cluster.primary()?;
        let (agent, server) = stock.server(old)?;
        let (_, executor) = stock.executor(old)?;
        let signal = |with: Signal| {
            stock.mesos.signal_agent(agent, with);
            executor.signal(with);
            server.signal(with);
        };
        let cut = Instant::now();
        signal(Signal::STOP);
        let write = load.first_elsewhere(cut).await;
        signal(Signal::CONT);
        let write = write.map_err(|failure| Failure::new(format!("{failure}\n{}", stock.log_end(0))))?;
        println!("agent cut {number:2}: write after {:.0} ms", ms(write));
        times.push(ms(write));
        load.until_whole().await?;
    }
    load.finish().await?;
    Ok(Some(Measurement::of("mesos.agent_cut.to_write_ms", &times)))
}

/// A scheduler that may have 128 files open, and 300 clients that rest on connections to its API and come again whenever they
/// are sent away.
pub(crate) async fn idle_clients(effort: Effort) -> Result<Option<Measurement>, Failure> {
    const FILES: u64 = 128;
    const CLIENTS: usize = 300;
    const AGAIN: Duration = Duration::from_millis(100);
    let Some(stock) = start_with(3, Some(FILES)).await? else { return Ok(None) };
    let mut load = Load::start(stock.api(0)).await?;
    let address = stock.api(0).base().trim_start_matches("http://").to_owned();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let address = address.clone();
        clients.spawn(async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(&address).await {
                    let _closed = stream.read(&mut [0; 512]).await; // it says nothing, so this is the end
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    let rounds = load.fail_over(effort.rounds(20, 3), &|member| Ok(stock.server(member)?.1)).await?;
    clients.shutdown().await;
    load.finish().await?;
    let write = |round: &Round| ms(round.write);
    Ok(Some(Measurement::of("mesos.idle_clients.kill_to_write_ms", &rounds.iter().map(write).collect::<Vec<_>>())))
}

/// A scheduler with some clusters is killed, and started again at once; then the leader of two is killed.
pub(crate) async fn scheduler(effort: Effort) -> Result<Vec<Measurement>, Failure> {
    let Some(mut stock) = start(4).await? else { return Ok(Vec::new()) };
    for number in 0..CLUSTERS {
        stock.api(0).create(&format!("bench{number}"), &Wanted::small(1)).await?;
    }
    all_healthy(&stock.api(0)).await?;
    let mut restarts = Vec::new();
    for number in 1..=effort.rounds(20, 3) {
        let killed = Instant::now();
        stock.kill_scheduler(0).await?;
        stock.start_scheduler(0)?;
        stock.until_ready(0).await?;
        restarts.push(ms(killed.elapsed()));
        println!("scheduler restart {number:2}: ready after {:.0} ms", restarts[number - 1]);
        all_healthy(&stock.api(0)).await?;
    }
    let mut takeovers = Vec::new();
    stock.start_scheduler(1)?;
    for number in 1..=effort.rounds(40, 3) {
        let (standby, leader) = (number % 2, (number + 1) % 2);
        stock.until_following(standby).await?;
        all_healthy(&stock.api(leader)).await?;
        let killed = Instant::now();
        stock.kill_scheduler(leader).await?;
        stock.until_ready(standby).await?;
        takeovers.push(ms(killed.elapsed()));
        println!("leader takeover {number:2}: the standby leads after {:.0} ms", takeovers[number - 1]);
        stock.start_scheduler(leader)?;
    }
    Ok(vec![
        Measurement::of("mesos.scheduler_restart_ms", &restarts),
        Measurement::of("mesos.leader_takeover_ms", &takeovers),
    ])
}

/// With the time that a Mesos in production takes to notice a silent agent (75 s), which nothing here may wait for.
async fn start(agents: u16) -> Result<Option<Stock>, Failure> {
    start_with(agents, None).await
}

/// As [`start`], with schedulers that may have only so many files open.
async fn start_with(agents: u16, open_files: Option<u64>) -> Result<Option<Stock>, Failure> {
    Flavour::MariaDb.require()?;
    let pings = [("AGENT_PING_TIMEOUT", "15secs"), ("MAX_AGENT_PING_TIMEOUTS", "5")];
    let master: Settings = pings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let mesos = MesosOptions { agents, master, ..MesosOptions::default() };
    Stock::start_with(StockOptions { mesos, open_files, ..StockOptions::default() }).await
}

async fn all_healthy(api: &Api) -> Result<(), Failure> {
    let healthy = async {
        loop {
            let clusters = api.clusters().await?;
            if clusters.len() == CLUSTERS && clusters.iter().all(cotton_tests::Cluster::is_healthy) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // there is no event for all of them
        }
    };
    within(STEP, "all clusters are healthy", healthy).await?
}
