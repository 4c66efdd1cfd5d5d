//! What operators are promised, on a real Mesos with a real `ZooKeeper`: the stock programs, and everything killed once.

mod faults;
mod lifecycle;
mod packaging;

use cotton_tests::{Client, Cluster, Failure, Member, Process, Stock, Wanted};
use std::time::{Duration, Instant};

type Outcome = Result<(), Failure>;

/// Far more than any step takes, so that a failure is one, and not a slow machine.
const STEP: Duration = Duration::from_mins(2);
/// Rows that a load must get acknowledged before and after whatever is done to it.
const SOME: usize = 100;

/// A healthy cluster of that size.
async fn cluster(stock: &Stock, name: &str, size: u32) -> Result<(Client, Cluster), Failure> {
    let wanted = Wanted::small(size);
    let created = stock.api(0).create(name, &wanted).await?;
    let healthy = stock.api(0).until_healthy(name, STEP).await;
    let cluster = healthy.map_err(|failure| Failure::new(format!("{failure}\n{}", stock.log_end(0))))?;
    Ok((Client::new(wanted.user, created.password), cluster))
}

/// The server of a member, and on which of so many agents it runs.
fn server_of(stock: &Stock, agents: u16, member: &Member) -> Result<(u16, Process), Failure> {
    process_of(stock.servers(agents), member)
}

/// The one among processes that is a member's.
fn process_of(processes: Vec<(u16, Process)>, member: &Member) -> Result<(u16, Process), Failure> {
    let found = processes.into_iter().find(|(_, process)| process.task.as_ref() == Some(&member.task));
    found.ok_or_else(|| Failure::new(format!("{} does not run", member.task)))
}

/// Every member has one executor and one server, and nothing else runs, once what has ended its task is gone.
async fn nothing_twice(stock: &Stock, agents: u16, cluster: &Cluster) -> Outcome {
    let start = Instant::now();
    let mut wanted: Vec<_> = cluster.members.iter().map(|member| member.task.clone()).collect();
    wanted.sort_unstable();
    loop {
        let tasks = |processes: Vec<(u16, Process)>| {
            let mut tasks: Vec<_> = processes.into_iter().filter_map(|(_, process)| process.task).collect();
            tasks.sort_unstable();
            tasks
        };
        let (executors, servers) = (tasks(stock.executors(agents)), tasks(stock.servers(agents)));
        if executors == wanted && servers == wanted {
            return Ok(());
        }
        if start.elapsed() > STEP {
            let words = format!("members {wanted:?} have executors {executors:?} and servers {servers:?}");
            return Err(Failure::new(words));
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // an executor says that its task has ended before it ends
    }
}
