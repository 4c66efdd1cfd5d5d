//! What must hold once a fault is over, as others see it: clients, `ZooKeeper`, and Mesos.

use crate::{Outcome, STEP};
use cotton_core::Endpoint;
use cotton_tests::{Cluster, Event, Failure, Process, Stock, Writer, tree};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Stops writing. No acknowledged row of the healthy cluster is lost, discovery is right, and there is no task or
/// process too many.
pub(crate) async fn whole(stock: &Stock, writer: Writer, cluster: &Cluster) -> Outcome {
    nothing_lost(stock, writer, cluster).await?;
    nothing_else_runs(stock, &[cluster]).await
}

/// Stops writing. No acknowledged row of the healthy cluster is lost, and clients find its members.
pub(crate) async fn nothing_lost(stock: &Stock, writer: Writer, cluster: &Cluster) -> Outcome {
    writer.finish_and_compare(&cluster.endpoints()?, STEP).await?;
    let primary = cluster.primary()?.endpoint.clone();
    let replicas = cluster.replicas().map(|member| member.endpoint.clone()).collect();
    until("clients find it", &(BTreeSet::from([primary]), replicas), async || {
        let found = discovered(stock, &cluster.name).await?;
        Ok((found["master"].clone(), found["slaves"].clone()))
    })
    .await
}

/// Every member has one task, one executor and one server, and nothing else runs, once what has ended its task is gone.
pub(crate) async fn nothing_else_runs(stock: &Stock, clusters: &[&Cluster]) -> Outcome {
    let members = clusters.iter().flat_map(|cluster| &cluster.members);
    let mut wanted: Vec<_> = members.map(|member| member.task.clone()).collect();
    wanted.sort_unstable();
    let names = |processes: Vec<(u16, Process)>| {
        let mut names: Vec<_> = processes.into_iter().filter_map(|(_, process)| process.task).collect();
        names.sort_unstable();
        names
    };
    let agents = stock.mesos.agents();
    let wanted = [("tasks", wanted.clone()), ("executors", wanted.clone()), ("servers", wanted)];
    until("only these run", &wanted, async || {
        let (executors, servers) = (names(stock.executors(agents)), names(stock.servers(agents)));
        Ok([("tasks", tasks(stock).await?), ("executors", executors), ("servers", servers)])
    })
    .await
}

/// Waits until what is looked at is as wanted. Who does not answer is asked again.
pub(crate) async fn until<T: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: &T,
    look: impl AsyncFn() -> Result<T, Failure>,
) -> Outcome {
    until_within(STEP, what, wanted, look).await
}

/// As [`until`], with a deadline of its own.
pub(crate) async fn until_within<T: PartialEq + std::fmt::Debug>(
    limit: Duration,
    what: &str,
    wanted: &T,
    look: impl AsyncFn() -> Result<T, Failure>,
) -> Outcome {
    let start = Instant::now();
    loop {
        let seen = match look().await {
            Ok(seen) if seen == *wanted => return Ok(()),
            Ok(seen) => format!("there is {seen:?}"),
            Err(failure) => failure.to_string(),
        };
        if start.elapsed() > limit {
            return Err(Failure::new(format!("not within {limit:?}: {what}: {wanted:?}; {seen}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // neither Mesos nor ZooKeeper calls us
    }
}

/// What happened to the cluster, whose primary never was lost. So whenever its epoch changed, one handed over to another.
pub(crate) async fn no_primary_lost(stock: &Stock) -> Result<Vec<Event>, Failure> {
    let events = stock.api(0).events("a", 0).await?;
    assert_eq!(count(&events, "primary_lost"), 0, "{events:#?}");
    Ok(events)
}

/// How many events of a kind there are.
pub(crate) fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|event| event.kind == kind).count()
}

/// Tells how long nothing was acknowledged. It is no failure when that is long: nobody knows what else this machine had to do.
pub(crate) fn tell_pause(what: &str, writer: &Writer, since: Instant) {
    eprintln!("writes paused for {} ms when {what}", writer.longest_pause(since).as_millis());
}

/// All tasks that Mesos has and that have not ended, or of which it does not know that we know that they have.
pub(crate) async fn tasks(stock: &Stock) -> Result<Vec<String>, Failure> {
    let said = stock.mesos.operator(json!({ "type": "GET_TASKS" })).await?;
    let lists = ["pending_tasks", "tasks", "unreachable_tasks", "orphan_tasks"].map(|list| &said["get_tasks"][list]);
    let tasks = lists.into_iter().filter_map(Value::as_array).flatten();
    let mut names: Vec<_> = tasks.filter_map(|task| task["task_id"]["value"].as_str().map(str::to_owned)).collect();
    names.sort_unstable();
    Ok(names)
}

/// The groups of a cluster in `ZooKeeper`, and where their members are.
async fn discovered(stock: &Stock, cluster: &str) -> Result<BTreeMap<String, BTreeSet<Endpoint>>, Failure> {
    let client = stock.zookeeper.client().await?;
    let dir = format!("/mysos/discover/{cluster}/");
    let mut groups: BTreeMap<String, BTreeSet<Endpoint>> =
        ["master", "slaves"].map(|n| (n.to_owned(), BTreeSet::new())).into();
    for (path, data) in tree(&client, dir.trim_end_matches('/')).await? {
        let Some((group, _member)) = path.strip_prefix(&dir).and_then(|below| below.split_once('/')) else { continue };
        let said: Value = serde_json::from_slice(&data).map_err(|error| Failure::because(&path, &error))?;
        let endpoint = serde_json::from_value(said["serviceEndpoint"].clone());
        let endpoint = endpoint.map_err(|error| Failure::because(&path, &error))?;
        groups.entry(group.to_owned()).or_default().insert(endpoint);
    }
    Ok(groups)
}
