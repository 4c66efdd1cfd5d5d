//! What operators are promised, on a real Mesos with a real `ZooKeeper`: the stock programs, and everything killed once.

mod agents;
mod checks;
mod discovery;
mod drain;
mod faults;
mod framework;
mod isolation;
mod lifecycle;
mod maintenance;
mod packaging;
mod quorum;
mod stale;
mod tls;
mod unknown;
mod volumes;

use cotton_tests::{Client, Cluster, Failure, Stock, Wanted, Writer};
use std::time::Duration;

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

/// A cluster of three under load.
async fn loaded(stock: &Stock) -> Result<(Writer, Cluster), Failure> {
    let (client, seen) = cluster(stock, "a", 3).await?;
    let writer = Writer::start(&stock.api(0), "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    Ok((writer, seen))
}
