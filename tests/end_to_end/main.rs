//! What users are promised, end to end: the real programs, real servers, signals from outside, and the API.
//!
//! One file a theme. Tests wait for events with deadlines, never for time to pass.

mod bad_input;
mod failover;
mod lifecycle;
mod other_servers;
mod recovery;
mod scaling;

use cotton_core::Endpoint;
use cotton_tests::{Client, Cluster, Directory, Failure, Flavour, Options, RealCotton, Wanted};
use std::collections::BTreeMap;
use std::time::Duration;

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

/// Where its members are, the primary first.
fn endpoints(cluster: &Cluster) -> Result<Vec<Endpoint>, Failure> {
    let primary = cluster.primary()?.endpoint.clone();
    Ok(std::iter::once(primary).chain(cluster.replicas().map(|member| member.endpoint.clone())).collect())
}

/// Process ids of the servers, by task.
fn server_pids(directory: &Directory) -> BTreeMap<String, u32> {
    directory.servers().into_iter().map(|(task, server)| (task, server.pid)).collect()
}

/// Every member has one executor and one server, and nothing else runs.
fn nothing_twice(directory: &Directory, clusters: &[&Cluster]) -> Outcome {
    let mut wanted: Vec<&str> = clusters.iter().flat_map(|c| c.members.iter().map(|m| m.task.as_str())).collect();
    wanted.sort_unstable();
    let processes = directory.processes();
    let mut executors: Vec<_> =
        processes.iter().filter(|p| p.is_executor()).filter_map(|p| p.task.as_deref()).collect();
    let mut servers: Vec<_> = processes.iter().filter(|p| p.is_server()).filter_map(|p| p.task.as_deref()).collect();
    executors.sort_unstable();
    servers.sort_unstable();
    if executors != wanted || servers != wanted {
        return Err(Failure::new(format!("members {wanted:?} have executors {executors:?} and servers {servers:?}")));
    }
    Ok(())
}
