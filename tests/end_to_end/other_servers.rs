//! The round of a cluster's life on other servers: today's MariaDB, and Oracle's, the newest dialect and the one that
//! Apache Cotton ran.

use crate::{Outcome, SOME, came_back_or_was_errant, nothing_twice};
use cotton_tests::{Client, Flavour, Options, RealCotton, Wanted, Writer};
use std::time::{Duration, Instant};

/// Longer than elsewhere: MySQL's own making of a data directory was seen to hang on a busy machine; it is then killed
/// after two minutes and repeated.
const STEP: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_11_8() -> Outcome {
    round(Flavour::MariaDb118).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_9_7() -> Outcome {
    round(Flavour::MySql97).await
}

/// Without semi-synchronous replication: what a dead primary alone had acknowledged may be lost with its disk, but not
/// when its server is merely killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_5_6() -> Outcome {
    round(Flavour::MySql56).await
}

async fn round(flavour: Flavour) -> Outcome {
    if flavour.programs().is_none() {
        return Ok(());
    }
    let semi_sync = flavour != Flavour::MySql56;
    let cotton = RealCotton::start(Options { flavour, ..Options::default() }).await?;
    let api = cotton.api();
    let wanted = Wanted {
        durability: Some(if semi_sync { "semi_sync" } else { "async" }),
        resources: serde_json::json!({ "cpus": 0.5, "mem": "400mb", "disk": "512mb" }),
        ..Wanted::small(3)
    };
    let created = api.create("a", &wanted).await?;
    let seen = api.until_healthy("a", STEP).await?;
    let client = Client::new(wanted.user, created.password);
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;

    let old = seen.primary()?.clone();
    let killed = Instant::now();
    cotton.server(&old.task)?.kill();
    if semi_sync {
        writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    }
    let seen = api.until("a", STEP, "failed over and whole", |c| c.epoch > 1 && c.is_healthy()).await?;
    if seen.primary != Some(old.id) {
        came_back_or_was_errant(&api, &seen, &old).await?;
    }
    writer.progress(SOME, STEP).await?;

    for size in [4, 2] {
        api.scale("a", size).await?;
        let scaled = api.until_healthy("a", STEP).await?;
        assert_eq!(scaled.primary, seen.primary);
        writer.progress(SOME, STEP).await?;
    }
    let seen = api.until_healthy("a", STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await?;
    api.delete("a", client.password()).await?;
    api.until_gone("a", STEP).await?;
    nothing_twice(&cotton, &api, &[]).await
}
