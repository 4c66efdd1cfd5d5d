//! What users are promised, end to end: the real programs, real servers, signals from outside, and the API.
//!
//! One file a theme. Tests wait for events with deadlines, never for time to pass.

mod agents;
mod bad_input;
mod demo;
mod engines;
mod errant;
mod failing;
mod failover;
mod full_disks;
mod health;
mod levers;
mod lifecycle;
mod other_servers;
mod recovery;
mod scaling;
mod slow_appliers;
mod switchover;
mod unappliable;
mod users;
mod wrong_starts;

use cotton_tests::{Api, Client, Cluster, Directory, Failure, Flavour, Member, Options, Process, RealCotton, Wanted};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

type Outcome = Result<(), Failure>;

/// Far more than any step takes, so that a failure is one, and not a slow machine.
const STEP: Duration = Duration::from_secs(90);
/// Rows that a load must get acknowledged before and after whatever is done to it.
const SOME: usize = 100;

/// A cotton with MariaDB; `None` when that is not there.
async fn cotton() -> Result<Option<RealCotton>, Failure> {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(None);
    }
    RealCotton::start(Options::default()).await.map(Some)
}

/// A healthy cluster of that size.
async fn cluster(cotton: &RealCotton, name: &str, size: u32) -> Result<(Client, Cluster), Failure> {
    let wanted = Wanted::small(size);
    let created = cotton.api().create(name, &wanted).await?;
    let cluster = cotton.api().until_healthy(name, STEP).await?;
    Ok((Client::new(wanted.user, created.password), cluster))
}

/// Process ids of the servers, by task.
fn server_pids(directory: &Directory) -> BTreeMap<String, u32> {
    directory.servers().into_iter().map(|(task, server)| (task, server.pid)).collect()
}

/// Every member that these clusters have now has one executor and one server, and nothing else runs, once what has
/// ended its task is gone.
async fn nothing_twice(directory: &Directory, api: &Api, clusters: &[&Cluster]) -> Outcome {
    let start = Instant::now();
    loop {
        let mut wanted = Vec::new();
        for cluster in clusters {
            let members = api.cluster(&cluster.name).await?.map(|cluster| cluster.members).unwrap_or_default();
            wanted.extend(members.into_iter().map(|member| member.task));
        }
        wanted.sort_unstable();
        let processes = directory.processes();
        let tasks = |is: fn(&Process) -> bool| {
            let mut tasks: Vec<_> = processes.iter().filter(|p| is(p)).filter_map(|p| p.task.clone()).collect();
            tasks.sort_unstable();
            tasks
        };
        let (executors, servers) = (tasks(Process::is_executor), tasks(Process::is_server));
        if executors == wanted && servers == wanted {
            return Ok(());
        }
        if start.elapsed() > STEP {
            let words = format!("members {wanted:?} have executors {executors:?} and servers {servers:?}");
            return Err(Failure::new(words));
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // an executor says that its task has ended before it ends
    }
}

/// A primary that was killed either came back with its data, or was given up because it held what nobody acknowledged.
async fn came_back_or_was_errant(api: &Api, seen: &Cluster, old: &Member) -> Outcome {
    if let Some(member) = seen.member(old.id) {
        let is_replica = member.task == old.task && member.role == "replica";
        return if is_replica { Ok(()) } else { Err(Failure::new(format!("it came back as {member:?}"))) };
    }
    let events = api.events(&seen.name, 0).await?;
    let left = events.iter().find(|event| event.kind == "leaving" && event.member() == Some(old.id));
    match left.map(|event| event.text.as_str()) {
        Some(reason) if reason.contains("holds transactions that the primary lacks") => Ok(()),
        reason => Err(Failure::new(format!("it was not restarted in place: {reason:?}"))),
    }
}
