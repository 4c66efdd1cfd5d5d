//! Tables without transactions: three rows, the beginning of the binary logs is gone, and a member more is wanted.

use crate::{Outcome, STEP};
use cotton_tests::{Client, Cluster, Flavour, Options, RealCotton, Wanted, admin};
use mysql_async::prelude::Queryable;
use std::time::Instant;

const ROWS: &str = "SELECT a FROM s.kept ORDER BY a";

async fn start(flavour: Flavour) -> Result<Option<(RealCotton, Client, Cluster)>, cotton_tests::Failure> {
    if flavour.programs().is_none() {
        return Ok(None);
    }
    let cotton = RealCotton::start(Options { flavour, ..Options::default() }).await?;
    let wanted = match flavour {
        Flavour::MariaDb | Flavour::MariaDb118 => Wanted::small(2),
        Flavour::MySql97 | Flavour::MySql56 => Wanted {
            resources: serde_json::json!({ "cpus": 0.5, "mem": "400mb", "disk": "512mb" }),
            ..Wanted::small(2)
        },
    };
    let created = cotton.api().create("a", &wanted).await?;
    let seen = cotton.api().until_healthy("a", 3 * STEP).await?;
    let client = Client::new(wanted.user, created.password);
    client.run(&seen.primary()?.endpoint, "CREATE DATABASE s").await?;
    Ok(Some((cotton, client, seen)))
}

/// Three rows, of which the binary logs know nothing any more.
async fn forget_three_rows(cotton: &RealCotton, client: &Client, seen: &Cluster) -> Outcome {
    let primary = seen.primary()?;
    client.run(&primary.endpoint, "INSERT INTO s.kept VALUES (1), (2), (3)").await?;
    for replica in seen.replicas() {
        client.until_has(&replica.endpoint, ROWS, &[1, 2, 3].into(), STEP).await?;
    }
    let mut admin = admin::connect(cotton, "a", &primary.task).await?;
    let begun = Instant::now();
    loop {
        admin.query_drop("FLUSH BINARY LOGS").await?;
        client.run(&primary.endpoint, "CREATE TABLE IF NOT EXISTS s.filler (a INT)").await?;
        admin.query_drop("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").await?;
        let logs: Vec<mysql_async::Row> = admin.query("SHOW BINARY LOGS").await?;
        let first = logs.first().and_then(|row| row.get::<String, _>(0)).unwrap_or_default();
        if !first.ends_with(".000001") && !first.ends_with(".000002") {
            return Ok(());
        }
        assert!(begun.elapsed() < STEP, "the beginning stays: {first}");
    }
}

/// Refused; as an ordinary table its rows are everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_9_7_refuses_them() -> Outcome {
    let Some((cotton, client, seen)) = start(Flavour::MySql97).await? else { return Ok(()) };
    let endpoint = &seen.primary()?.endpoint;
    for engine in ["MyISAM", "MEMORY"] {
        let refused = client.run(endpoint, &format!("CREATE TABLE s.kept (a INT) ENGINE = {engine}")).await;
        assert!(refused.is_err_and(|why| why.to_string().contains("is disabled")), "{engine}");
    }
    client.run(endpoint, "CREATE TABLE s.kept (a INT PRIMARY KEY)").await?;
    forget_three_rows(&cotton, &client, &seen).await?;
    cotton.api().scale("a", 3).await?;
    let three = cotton.api().until_healthy("a", 3 * STEP).await?;
    for endpoint in three.endpoints()? {
        assert_eq!(client.numbers(&endpoint, ROWS).await?, [1, 2, 3].into());
    }
    Ok(())
}

/// What MariaDB overlooks is named, and the member joins once it is mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_names_what_a_copy_would_lack() -> Outcome {
    let Some((cotton, client, seen)) = start(Flavour::MariaDb).await? else { return Ok(()) };
    let endpoint = &seen.primary()?.endpoint;
    client.run(endpoint, "CREATE TABLE s.other (a INT) ENGINE = MEMORY").await?;
    let made = "SELECT COUNT(*) FROM information_schema.tables WHERE TABLE_NAME = 'other' AND ENGINE = 'InnoDB'";
    assert_eq!(client.numbers(endpoint, made).await?, [1].into(), "InnoDB in its place");
    let overlooked = "CREATE TABLE s.kept (a INT) PARTITION BY HASH(a) (PARTITION p ENGINE = MEMORY)";
    client.run(endpoint, overlooked).await?;
    forget_three_rows(&cotton, &client, &seen).await?;
    cotton.api().scale("a", 3).await?;
    let named = |cluster: &Cluster| {
        cluster.reasons.iter().any(|r| r.text.contains("s.kept (MEMORY)") && r.text.contains("ENGINE = InnoDB"))
    };
    let seen = cotton.api().until("a", STEP, "it says which table", named).await?;
    assert_ne!(seen.status, "healthy");
    client.run(endpoint, "ALTER TABLE s.kept ENGINE = InnoDB").await?;
    let three = cotton.api().until_healthy("a", STEP).await?;
    for endpoint in three.endpoints()? {
        client.until_has(&endpoint, ROWS, &[1, 2, 3].into(), STEP).await?;
    }
    Ok(())
}

/// It cannot refuse them, and has no tool to copy with: the member does not join, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_5_6_refuses_to_copy() -> Outcome {
    let Some((cotton, client, seen)) = start(Flavour::MySql56).await? else { return Ok(()) };
    client.run(&seen.primary()?.endpoint, "CREATE TABLE s.kept (a INT) ENGINE = MyISAM").await?;
    forget_three_rows(&cotton, &client, &seen).await?;
    cotton.api().scale("a", 3).await?;
    let told = |cluster: &Cluster| cluster.reasons.iter().any(|r| r.text.contains("cannot copy another server's data"));
    let seen = cotton.api().until("a", 2 * STEP, "it says why", told).await?;
    assert_ne!(seen.status, "healthy");
    Ok(())
}
