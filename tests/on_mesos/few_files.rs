//! A scheduler with few descriptors and a herd of idle connections: state in `ZooKeeper`, Mesos and clients are served.

use crate::{Outcome, SOME, STEP, checks};
use cotton_tests::{Failure, MesosOptions, Stock, StockOptions};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_stop_nothing() -> Outcome {
    let mesos = MesosOptions { agents: 3, ..MesosOptions::default() };
    let options = StockOptions { mesos, open_files: Some(128), ..StockOptions::default() };
    let Some(mut stock) = Stock::start_with(options).await? else { return Ok(()) };
    let (writer, seen) = crate::loaded(&stock).await?;
    let api = stock.api(0);
    let address = api.base().trim_start_matches("http://").to_owned();
    let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&address)).collect::<Result<_, _>>()?;

    let old = seen.primary()?.clone();
    let (_, server) = stock.server(&old)?;
    let killed = Instant::now();
    server.kill();
    writer.first_elsewhere(old.endpoint.port, killed, Duration::from_secs(10)).await?;
    let asked = Instant::now();
    let seen = api.cluster("a").await?.ok_or_else(|| Failure::new("it is gone"))?;
    assert!(asked.elapsed() < Duration::from_secs(2), "answered after {:?}", asked.elapsed());
    assert_eq!(seen.epoch, 2);
    writer.progress(SOME, STEP).await?;
    drop(idle);

    stock.kill_scheduler(0).await?;
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let seen = api.until_healthy("a", STEP).await?;
    assert_eq!(seen.epoch, 2, "what was decided meanwhile was saved");
    checks::whole(&stock, writer, &seen).await
}
