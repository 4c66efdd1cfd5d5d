//! Few descriptors and a herd of idle connections: what the scheduler has to do goes on, and others are answered.

use crate::{Outcome, SOME, STEP, cluster};
use cotton_tests::{Failure, Flavour, Options, RealCotton, Writer};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Descriptors of every process, as its hard limit.
const FILES: u64 = 128;
const IDLE: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_stop_neither_answers_nor_failovers_nor_saving() -> Outcome {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(());
    }
    let mut cotton = RealCotton::start(Options { open_files: Some(FILES), ..Options::default() }).await?;
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let address = api.base().trim_start_matches("http://").to_owned();
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| TcpStream::connect(&address)).collect::<Result<_, _>>()?;

    let old = seen.primary()?.clone();
    let killed = Instant::now();
    cotton.server(&old.task)?.kill();
    writer.first_elsewhere(old.endpoint.port, killed, Duration::from_secs(10)).await?;
    let asked = Instant::now();
    let seen = api.cluster("a").await?.ok_or_else(|| Failure::new("it is gone"))?;
    assert!(asked.elapsed() < Duration::from_secs(2), "answered after {:?}", asked.elapsed());
    assert_eq!(seen.epoch, 2);
    let pid = cotton.process().ok_or_else(|| Failure::new("it has ended"))?.pid;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    assert!(open < 110, "{open} of {FILES} descriptors are used");
    writer.progress(SOME, STEP).await?;
    drop(idle);

    // what was decided meanwhile is on disk
    cotton.kill().await?;
    cotton.start_again().await?;
    let seen = cotton.api().until_healthy("a", STEP).await?;
    assert!(seen.epoch >= 2 && seen.primary != Some(old.id), "{seen:?}");
    Ok(())
}
