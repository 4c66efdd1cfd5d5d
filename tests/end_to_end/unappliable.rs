//! Statements that the primary executes and no replica can apply, as settings of a session bring about that are not replicated:
//! all replicas are replaced, by copies, which have the result of the statement.

use crate::{Outcome, SOME, STEP, nothing_twice};
use cotton_tests::{Client, Flavour, Options, RealCotton, Wanted, Writer};
use mysql_async::prelude::Queryable;

/// What a user of that server says.
fn statements(flavour: Flavour) -> Vec<String> {
    if flavour == Flavour::MySql97 {
        return vec![
            "SET SESSION div_precision_increment = 30".to_owned(),
            "CREATE TABLE w.g (a INT PRIMARY KEY, b DECIMAL(40, 30) AS (a / 10000000) VIRTUAL, UNIQUE (b))".to_owned(),
            "INSERT INTO w.g (a) VALUES (1), (2), (3)".to_owned(),
        ];
    }
    let column = |n: u32| format!("c{n} VARCHAR(255) CHARACTER SET latin1 NOT NULL DEFAULT ''");
    let columns: Vec<String> = (1..=60).map(column).collect();
    vec![
        "SET SESSION innodb_strict_mode = OFF".to_owned(),
        format!("CREATE TABLE w.g (a INT PRIMARY KEY, {}) ROW_FORMAT = COMPACT", columns.join(", ")),
        "INSERT INTO w.g (a) VALUES (1), (2), (3)".to_owned(),
    ]
}

async fn replaced_by_copies(flavour: Flavour) -> Outcome {
    if flavour.programs().is_none() {
        return Ok(());
    }
    let cotton = RealCotton::start(Options { flavour, agents: 4, ..Options::default() }).await?;
    let api = cotton.api();
    let resources = serde_json::json!({ "cpus": 0.5, "mem": "400mb", "disk": "512mb" });
    let wanted = Wanted { resources, durability: Some("semi_sync"), ..Wanted::small(3) };
    let created = api.create("a", &wanted).await?;
    let first = api.until_healthy("a", 3 * STEP).await?;
    let client = Client::new(wanted.user, created.password);
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;

    let primary = first.primary()?.endpoint.clone();
    let mut conn = client.connect(&primary).await?;
    conn.query_drop("CREATE DATABASE w").await?;
    let said = tokio::spawn(async move {
        for statement in statements(flavour) {
            conn.query_drop(statement).await?; // the last of them may wait for a replica that can go on
        }
        Ok::<_, mysql_async::Error>(())
    });
    let old: Vec<u64> = first.replicas().map(|member| member.id).collect();
    let rid =
        |cluster: &cotton_tests::Cluster| cluster.is_healthy() && old.iter().all(|id| cluster.member(*id).is_none());
    let seen = api.until("a", 6 * STEP, "rid of them", rid).await?;
    said.await.expect("no panic")?;
    let events = api.events("a", 0).await?;
    let launched = events.iter().filter(|event| event.kind == "launching").count();
    assert_eq!((seen.epoch, launched), (1, 3 + old.len()), "each is replaced once: {events:#?}");
    writer.progress(SOME, STEP).await?;
    for endpoint in seen.endpoints()? {
        let mut conn = client.connect(&endpoint).await?;
        let rows: Option<u64> = conn.query_first("SELECT COUNT(*) FROM w.g").await?;
        assert_eq!(rows, Some(3), "{endpoint}");
    }
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_are_replaced_by_copies() -> Outcome {
    for flavour in [Flavour::MariaDb118, Flavour::MySql97] {
        replaced_by_copies(flavour).await?;
    }
    Ok(())
}

/// A replica of MariaDB that repeats `NEXTVAL` takes the number of the next transaction for it, and refuses that one. A
/// switchover or a failover in that moment must not take it for applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_passes_over_no_acknowledged_row() -> Outcome {
    let flavour = Flavour::MariaDb118;
    if flavour.programs().is_none() {
        return Ok(());
    }
    let cotton = RealCotton::start(Options { flavour, agents: 4, ..Options::default() }).await?;
    let api = cotton.api();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(3) };
    let created = api.create("a", &wanted).await?;
    let first = api.until_healthy("a", 3 * STEP).await?;
    let client = Client::new(wanted.user, created.password);
    let primary = first.primary()?.endpoint.clone();
    let mut conn = client.connect(&primary).await?;
    for statement in [
        "CREATE DATABASE r",
        "CREATE SEQUENCE r.s",
        "CREATE TABLE r.a (id INT PRIMARY KEY)",
        "INSERT INTO r.a VALUES (1), (2)",
        "CREATE TABLE r.w (i INT PRIMARY KEY)",
    ] {
        conn.query_drop(statement).await?;
    }
    let mut events = api.stream("a", None).await?;
    conn.query_drop("ALTER TABLE r.a ADD n BIGINT DEFAULT NEXTVAL(r.s)").await?;
    conn.query_drop("INSERT INTO r.w VALUES (1)").await?;
    let _refused = api.switchover("a", None).await; // or made, if that is seen in time
    events.until(STEP, "a replica is replaced", |event| event.kind == "leaving").await?;
    let old: Vec<u64> = first.replicas().map(|member| member.id).collect();
    let rid =
        |cluster: &cotton_tests::Cluster| cluster.is_healthy() && old.iter().all(|id| cluster.member(*id).is_none());
    let seen = api.until("a", 4 * STEP, "rid of those that lack it", rid).await?;
    for endpoint in seen.endpoints()? {
        let mut conn = client.connect(&endpoint).await?;
        let rows: Option<u64> = conn.query_first("SELECT COUNT(*) FROM r.w").await?;
        let numbers: Vec<u64> = conn.query("SELECT n FROM r.a ORDER BY id").await?;
        assert_eq!((rows, numbers), (Some(1), vec![1, 2]), "{endpoint}");
    }
    nothing_twice(&cotton, &api, &[&seen]).await
}
