//! Measures what users feel, and holds it against the bars: prints a table and writes `target/bench/results.json`.
//!
//! `cotton-bench [--quick] [NAME...]`: fewer rounds; only the groups `failover`, `switchover`, `create`, `fleet`, `mesos` (or
//! of these only `failover.kill`, `failover.blocked_applier`, `failover.backlog`, `mesos.failover`, `mesos.agent_cut`,
//! `mesos.idle_clients`, `mesos.scheduler`).
#![allow(clippy::print_stdout, reason = "it is there to be read")]

mod appliers;
mod failover;
mod fleet;
mod load;
mod measurement;
mod mesos;
mod scheduler;

use cotton_tests::Failure;
use measurement::Measurement;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How much to do.
#[derive(Clone, Copy, Debug)]
struct Effort {
    quick: bool,
}

impl Effort {
    /// A number of rounds, or a few when it has to be quick.
    fn rounds(self, rounds: usize, few: usize) -> usize {
        if self.quick { few } else { rounds }
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, dir] = arguments.as_slice()
        && flag == scheduler::FLAG
    {
        return scheduler::main(Path::new(dir));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    arguments.retain(|argument| argument != "--quick");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let measured = match runtime {
        Ok(runtime) => runtime.block_on(interruptible(Effort { quick }, &arguments)),
        Err(error) => Err(error.into()),
    };
    match measured.and_then(|measured| report(&measured)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn interruptible(effort: Effort, groups: &[String]) -> Result<Vec<Measurement>, Failure> {
    tokio::select! {
        measured = measure(effort, groups) => measured, // dropping it cleans up
        _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
    }
}

async fn measure(effort: Effort, groups: &[String]) -> Result<Vec<Measurement>, Failure> {
    if cfg!(debug_assertions) {
        println!("bench: not a release build: the numbers say little");
    }
    let names =
        |name: &str, group: &str| group.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let wanted = |group: &str| groups.is_empty() || groups.iter().any(|name| names(name, group));
    let mut all = Vec::new();
    if wanted("failover.kill") {
        all.extend(failover::failover(effort).await?);
    }
    if wanted("failover.blocked_applier") {
        all.push(appliers::blocked(effort).await?);
    }
    if wanted("failover.backlog") {
        all.push(appliers::backlog(effort).await?);
    }
    if wanted("switchover") {
        all.push(failover::switchover(effort).await?);
    }
    if wanted("create") {
        all.push(failover::create(effort).await?);
    }
    if wanted("fleet") {
        all.extend(fleet::fleet(effort)?);
        all.extend(scheduler::recover(effort).await?);
    }
    if wanted("mesos.failover") {
        all.extend(mesos::failover(effort).await?);
    }
    if wanted("mesos.agent_cut") {
        all.extend(mesos::agent_cut(effort).await?);
    }
    if wanted("mesos.idle_clients") {
        all.extend(mesos::idle_clients(effort).await?);
    }
    if wanted("mesos.scheduler") {
        all.extend(mesos::scheduler(effort).await?);
    }
    Ok(all)
}

fn report(measured: &[Measurement]) -> Result<(), Failure> {
    println!("\n{}", measurement::table(measured));
    // beside the program: target/release/cotton-bench, target/bench/results.json
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).map_or_else(|| PathBuf::from("target"), Path::to_path_buf);
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("results.json");
    let json = serde_json::to_string_pretty(measured).map_err(std::io::Error::from)?;
    std::fs::write(&file, json + "\n")?;
    println!("written to {}", file.display());
    Ok(())
}
