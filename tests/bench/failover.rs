//! Failover, creation and the executors' memory, on real servers.

use crate::Effort;
use crate::load::{Load, NAME, Round, STEP};
use crate::measurement::{Measurement, ms};
use cotton_tests::{Client, Failure, Flavour, Options, RealCotton, Wanted};
use std::time::Instant;

const PHASES: [&str; 5] = [
    "failover.noticed_ms",
    "failover.epoch_durable_ms",
    "failover.frozen_ms",
    "failover.decided_ms",
    "failover.promoted_ms",
];

pub(crate) async fn failover(effort: Effort) -> Result<Vec<Measurement>, Failure> {
    Flavour::MariaDb.require()?;
    let cotton = RealCotton::start(Options { agents: 3, ..Options::default() }).await?;
    let mut load = Load::start(cotton.api()).await?;
    let rounds = load.fail_over(effort.rounds(40, 5), &|member| cotton.server(&member.task)).await?;
    let executors = cotton.executors().into_values().map(|executor| resident_mb(executor.pid));
    let executors = executors.collect::<Result<Vec<_>, _>>()?;
    load.finish().await?;
    let times = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let mut all = vec![
        Measurement::of("failover.kill_to_write_ms", &times(|round| ms(round.write))),
        Measurement::of("failover.kill_to_replica_row_ms", &times(|round| ms(round.replica_row))),
    ];
    for (at, name) in PHASES.into_iter().enumerate() {
        all.push(Measurement::of(name, &rounds.iter().map(|round| round.phases[at]).collect::<Vec<_>>()));
    }
    all.push(Measurement::of("memory.executor_mb", &executors));
    Ok(all)
}

/// The longest pause between two acknowledged writes, around a switchover that somebody asks for.
pub(crate) async fn switchover(effort: Effort) -> Result<Measurement, Failure> {
    Flavour::MariaDb.require()?;
    let cotton = RealCotton::start(Options { agents: 3, ..Options::default() }).await?;
    let mut load = Load::start(cotton.api()).await?;
    let mut times = Vec::new();
    for number in 1..=effort.rounds(40, 5) {
        let gap = ms(load.switch_over_once().await?);
        println!("switchover {number:2}: no acknowledged write for {gap:.1} ms");
        times.push(gap);
    }
    load.finish().await?;
    Ok(Measurement::of("switchover.write_gap_ms", &times))
}

/// From the request to a cluster that is writable with two replicas attached.
pub(crate) async fn create(effort: Effort) -> Result<Measurement, Failure> {
    Flavour::MariaDb.require()?;
    let cotton = RealCotton::start(Options { agents: 3, ..Options::default() }).await?;
    let api = cotton.api();
    let mut times = Vec::new();
    for number in 1..=effort.rounds(20, 3) {
        let name = format!("{NAME}{number}");
        let start = Instant::now();
        let created = api.create(&name, &Wanted::small(3)).await?;
        let cluster = api.until_healthy(&name, STEP).await?;
        times.push(ms(start.elapsed()));
        println!("create {number:2}: {:.0} ms", ms(start.elapsed()));
        let client = Client::new("app", created.password.clone());
        client.run(&cluster.primary()?.endpoint, "CREATE DATABASE it_is_writable").await?;
        api.delete(&name, &created.password).await?;
        api.until_gone(&name, STEP).await?;
    }
    Ok(Measurement::of("create.three_members_ms", &times))
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mb(pid: u32) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| Failure::new(format!("process {pid} tells no resident memory")))
}
