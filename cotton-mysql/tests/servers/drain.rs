//! Applying what was received: however slow it is, and whoever holds it back.

use crate::support::{Member, PATIENCE, Servers, cluster, insert, rows, until};
use cotton_core::GtidSet;
use cotton_core::ports::mysql::{Drained, MySql, Promoted, Promotion};
use mysql_async::prelude::Queryable;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

on_each_server!(
    a_long_change_is_waited_for,
    clients_hold_nothing_back,
    prepared_transactions_of_nobody_hold_nothing_back,
    locks_of_our_own_are_waited_for,
    a_broken_applier_is_no_obstacle_to_a_freeze,
    nothing_received_is_passed_over_for_what_was_written_here,
);

/// How long an executor lets one call take.
const BUDGET_MS: u64 = 1_000;

/// How long readers on a replica may delay a failover: two seconds, and as much again for a busy machine.
const DELAY_MAX: Duration = Duration::from_secs(4);

/// Drains as an executor does; gives every answer.
pub(crate) async fn drain(member: &Member) -> Vec<Drained> {
    let start = Instant::now();
    let mut answers = Vec::new();
    loop {
        let asked = Instant::now();
        let drained = member.instance.drain(BUDGET_MS).await.expect("drain");
        assert!(asked.elapsed() < Duration::from_millis(BUDGET_MS) + DELAY_MAX, "a budget is kept");
        let done = drained.done;
        answers.push(drained);
        if done {
            return answers;
        }
        assert!(start.elapsed() < PATIENCE, "{answers:?}");
    }
}

/// Stops the applier, as an error would.
pub(crate) async fn stop_applier(servers: Servers, member: &Member) {
    let stop = if servers == Servers::MySql97 { "STOP REPLICA SQL_THREAD" } else { "STOP SLAVE SQL_THREAD" };
    member.admin().await.query_drop(stop).await.expect("stop");
}

/// Waits until it has received all that the other one has, and gives that.
pub(crate) async fn until_received(replica: &Member, primary: &Member) -> GtidSet {
    let wanted = primary.probe().await.position;
    until("received", || async { replica.probe().await.position.contains(&wanted) }).await;
    wanted
}

async fn a_long_change_is_waited_for(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let mut conn = members[0].client().await;
    conn.query_drop("CREATE TABLE app.l (a INT, b VARCHAR(40), c INT)").await.expect("no key");
    conn.query_drop("INSERT INTO app.l VALUES (1, 'some text', 0)").await.expect("insert");
    let rows_in_l = 12; // MariaDB reads them all for each of them
    for _ in 0..rows_in_l {
        conn.query_drop("INSERT INTO app.l SELECT a + 1, b, c FROM app.l").await.expect("twice as many");
    }
    members[1].until_caught_up(&members[0]).await;
    stop_applier(servers, &members[1]).await;
    conn.query_drop("UPDATE app.l SET c = c + 1").await.expect("update");
    insert(&mut conn, 1).await.expect("insert");
    let wanted = until_received(&members[1], &members[0]).await;
    members[0].instance.kill().await;

    let frozen = members[1].instance.freeze().await.expect("freeze");
    assert!(frozen.position.contains(&wanted) && frozen.obstacle.is_none(), "{frozen:?}");
    let promotion = Promotion { must_contain: wanted.clone(), acks: 0 };
    if servers.is_mariadb() {
        let start = Instant::now();
        let promoted = members[1].instance.promote(&promotion).await.expect("an answer");
        assert!(matches!(promoted, Promoted::Applying { unapplied: 1..=2 }), "{promoted:?}");
        assert!(start.elapsed() < DELAY_MAX, "at once");
        assert!(!members[1].probe().await.writable, "still read-only");
    }
    let answers = drain(&members[1]).await;
    eprintln!("{servers:?}: drained in {} calls", answers.len());
    for drained in &answers {
        assert!(drained.position.contains(&wanted) && drained.obstacle.is_none(), "{drained:?}");
        assert_eq!(drained.done, drained.unapplied == 0, "{drained:?}");
    }
    assert!(answers.is_sorted_by(|a, b| a.unapplied >= b.unapplied), "{answers:?}");
    assert!(!members[1].probe().await.writable, "still read-only");
    assert!(matches!(members[1].instance.promote(&promotion).await, Ok(Promoted::Writable(_))));
    let changed: Option<u64> =
        members[1].client().await.query_first("SELECT COUNT(*) FROM app.l WHERE c = 1").await.expect("count");
    assert_eq!(changed, Some(1 << rows_in_l));
}

async fn clients_hold_nothing_back(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    let mut conn = primary.client().await;
    for id in 0..3 {
        insert(&mut conn, id).await.expect("insert");
    }
    let add = |n: u32| format!("ALTER TABLE app.t ADD COLUMN n{n} INT");
    let holds: [(&[&str], String); 4] = [
        (&["BEGIN", "SELECT * FROM app.t"], add(0)),
        (&["LOCK TABLES app.t READ"], "INSERT INTO app.t (id) VALUES (10)".to_owned()),
        (
            &["BEGIN", "SELECT * FROM app.t WHERE id = 1 LOCK IN SHARE MODE"],
            "UPDATE app.t SET text = 'y' WHERE id = 1".to_owned(),
        ),
        (&["SELECT id, SLEEP(100) FROM app.t"], add(1)),
    ];
    for (hold, change) in holds {
        replica.until_caught_up(primary).await;
        let mut client = replica.client().await;
        let id = client.id();
        let (last, first) = hold.split_last().expect("some statements");
        for statement in first {
            client.query_drop(*statement).await.expect("clients may");
        }
        let last = (*last).to_owned();
        let holding = tokio::spawn(async move {
            let answer = client.query_drop(last).await;
            (client, answer)
        });
        let mut admin = replica.admin().await;
        let is_at_it =
            format!("SELECT COUNT(*) FROM information_schema.processlist WHERE ID = {id} AND STATE LIKE '%leep'");
        let sleeps = hold[0].contains("SLEEP");
        loop {
            let looked: Option<u64> = admin.query_first(&is_at_it).await.expect("look");
            if holding.is_finished() || sleeps && looked == Some(1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        conn.query_drop(&change).await.expect("change");
        conn.query_drop("INSERT INTO app.t (id) SELECT MAX(id) + 100 FROM app.t").await.expect("insert");
        let wanted = until_received(replica, primary).await;
        replica.instance.freeze().await.expect("freeze");
        let start = Instant::now();
        let answers = drain(replica).await;
        let took = start.elapsed();
        eprintln!("{servers:?}: {hold:?} held it back for {took:.1?}");
        assert!(took < DELAY_MAX, "{hold:?}: {took:?}, {answers:?}");
        assert!(answers.last().is_some_and(|drained| drained.position.contains(&wanted)));
        let (mut client, _) = holding.await.expect("no panic");
        assert!(client.query_drop("DO 0").await.is_err(), "{hold:?}: its session was ended");
        replica.attach(primary, false).await;
    }
    // an applier that works, or has nothing to do, disturbs nobody
    replica.until_caught_up(primary).await;
    let mut client = replica.client().await;
    client.query_drop("BEGIN").await.expect("begin");
    assert_eq!(rows(&mut client).await.len(), rows(&mut conn).await.len());
    replica.instance.freeze().await.expect("freeze");
    assert!(drain(replica).await.len() == 1);
    assert_eq!(rows(&mut client).await.len(), rows(&mut conn).await.len(), "still there");
}

/// Also of two: what it received counts, and is applied as far as it goes.
/// A client of a replica prepares a transaction that has only read, and goes.
async fn prepared_transactions_of_nobody_hold_nothing_back(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let mut client = members[0].client().await;
    client.query_drop("CREATE TABLE app.x (a INT PRIMARY KEY)").await.expect("a table");
    until_received(&members[1], &members[0]).await;
    members[1].until_caught_up(&members[0]).await;
    let mut reader = members[1].client().await;
    for sql in ["XA START 'x','b',7", "SELECT * FROM app.x", "XA END 'x','b',7", "XA PREPARE 'x','b',7"] {
        reader.query_drop(sql).await.expect(sql);
    }
    reader.disconnect().await.expect("gone");
    client.query_drop("ALTER TABLE app.x ADD b INT").await.expect("nobody reads here");
    client.query_drop("INSERT INTO app.x VALUES (1, 2)").await.expect("a row");
    until_received(&members[1], &members[0]).await;
    members[0].instance.kill().await;
    members[1].instance.freeze().await.expect("freeze");
    let begun = Instant::now();
    drain(&members[1]).await;
    assert!(begun.elapsed() < DELAY_MAX, "{:?}", begun.elapsed());
    let mut admin = members[1].admin().await;
    assert_eq!(admin.query_first::<u64, _>("SELECT b FROM app.x").await.expect("applied"), Some(2));
}

/// An administrator's lock is nobody's to end; the applier goes on once it is gone.
async fn locks_of_our_own_are_waited_for(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let mut client = members[0].client().await;
    insert(&mut client, 1).await.expect("insert");
    members[1].until_caught_up(&members[0]).await;
    let mut blocker = members[1].admin().await;
    blocker.query_drop("FLUSH TABLES WITH READ LOCK").await.expect("a lock");
    client.query_drop("CREATE TABLE app.later (a INT PRIMARY KEY)").await.expect("nobody holds it up here");
    until_received(&members[1], &members[0]).await;
    members[0].instance.kill().await;
    members[1].instance.freeze().await.expect("freeze");
    for _ in 0..3 {
        let drained = members[1].instance.drain(BUDGET_MS).await.expect("to wait is no failure");
        assert!(!drained.done && drained.unapplied > 0, "{drained:?}");
    }
    blocker.query_drop("UNLOCK TABLES").await.expect("unlock");
    drain(&members[1]).await;
}

async fn a_broken_applier_is_no_obstacle_to_a_freeze(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    let mut conn = primary.client().await;
    insert(&mut conn, 1).await.expect("insert");
    replica.until_has(&BTreeSet::from([1])).await;
    behind_its_back(replica, "DELETE FROM app.t WHERE id = 1").await;
    insert(&mut conn, 2).await.expect("insert");
    conn.query_drop("UPDATE app.t SET text = 'y' WHERE id = 1").await.expect("update");
    insert(&mut conn, 3).await.expect("insert");
    let wanted = until_received(replica, primary).await;
    until("broken", || async { replica.probe().await.replication.is_some_and(|link| !link.applying) }).await;
    primary.instance.kill().await;

    let holds = |position: &GtidSet| assert!(position.contains(&wanted), "{position} {wanted}");
    for round in 0..2 {
        for _ in 0..2 {
            let frozen = replica.instance.freeze().await.expect("it can be reached");
            holds(&frozen.position);
            assert!(frozen.unapplied > 0, "{frozen:?}");
            holds(&replica.probe().await.position);
        }
        if round == 0 {
            // freezing has started the applier again, which takes a moment to fail
            let told = || async {
                let frozen = replica.instance.freeze().await.expect("it can be reached");
                frozen.obstacle.is_some_and(|text| text.contains("1032"))
            };
            until("the obstacle is told", told).await;
        }
        let promotion = Promotion { must_contain: wanted.clone(), acks: 0 };
        let promoted = replica.instance.promote(&promotion).await.expect("an answer");
        assert!(matches!(promoted, Promoted::Applying { unapplied: 1.. }), "{promoted:?}");
        let drained = replica.instance.drain(BUDGET_MS).await.expect("an answer");
        let told = drained.obstacle.as_ref().is_some_and(|text| text.contains("1032"));
        assert!(!drained.done && told, "{drained:?}");
        holds(&drained.position);
        holds(&replica.probe().await.position);
        assert_eq!(rows(&mut replica.client().await).await, [2], "as far as it goes");
        if round == 0 {
            replica.instance.kill().await;
            assert!(replica.instance.start().await.expect("start").kept);
            holds(&replica.probe().await.position);
        }
    }
    behind_its_back(replica, "INSERT INTO app.t VALUES (1, 'x')").await;
    drain(replica).await;
    assert_eq!(replica.promote(0).await.order(&wanted), cotton_core::gtid::GtidOrder::Equal);
    assert_eq!(rows(&mut replica.client().await).await, [1, 2, 3]);
}

/// What a replica writes by itself takes the number of what the primary writes next. MariaDB's applier stops there, and would
/// go on behind it if it were told to begin with the first higher number.
async fn nothing_received_is_passed_over_for_what_was_written_here(servers: Servers) {
    for received in [1, 3] {
        let Some(members) = cluster(servers, 2, 0).await else { return };
        let (primary, replica) = (&members[0], &members[1]);
        let mut conn = primary.client().await;
        insert(&mut conn, 1).await.expect("insert");
        replica.until_has(&BTreeSet::from([1])).await;
        let before = replica.probe().await.position;
        for statement in ["FLUSH STATUS", "ANALYZE TABLE nosuch.nosuch"] {
            let _refused = replica.client().await.query_drop(statement).await; // as the server likes
        }
        let wrote = replica.probe().await.position != before;
        assert!(wrote || servers != Servers::MariaDb118, "this test is about a server that writes such statements");
        for id in 2..2 + received {
            insert(&mut conn, id).await.expect("insert");
        }
        let wanted = until_received(replica, primary).await;
        primary.instance.kill().await;
        let stops = wrote && matches!(servers, Servers::MariaDb | Servers::MariaDb118);
        for round in 0..2 {
            let frozen = replica.instance.freeze().await.expect("it can be reached");
            assert!(frozen.position.contains(&wanted), "{} {wanted}", frozen.position);
            let mut drained = replica.instance.drain(BUDGET_MS).await.expect("an answer");
            while !(drained.done || stops && drained.obstacle.is_some()) {
                drained = replica.instance.drain(BUDGET_MS).await.expect("an answer");
            }
            if stops {
                let told = drained.obstacle.as_ref().is_some_and(|text| text.contains("1950"));
                assert!(!drained.done && told && drained.unapplied > 0, "{drained:?}");
                let promotion = Promotion { must_contain: wanted.clone(), acks: 0 };
                let promoted = replica.instance.promote(&promotion).await.expect("an answer");
                assert!(matches!(promoted, Promoted::Applying { unapplied: 1.. }), "{promoted:?}");
                assert_eq!(rows(&mut replica.client().await).await, [1], "nothing is applied behind a gap");
            }
            if round == 0 {
                replica.instance.kill().await;
                assert!(replica.instance.start().await.expect("start").kept);
                assert!(replica.probe().await.position.contains(&wanted));
            }
        }
        if !stops {
            replica.promote(0).await;
            let all: Vec<u64> = (1..2 + received).collect();
            assert_eq!(rows(&mut replica.client().await).await, all);
        }
    }
}

/// Changes a replica alone, without a trace in its binary log.
async fn behind_its_back(replica: &Member, sql: &str) {
    let mut admin = replica.admin().await;
    let row: Option<(String, String)> =
        admin.query_first("SHOW GLOBAL VARIABLES LIKE 'super_read_only'").await.expect("variables");
    if row.is_some() {
        admin.query_drop("SET GLOBAL super_read_only = OFF").await.expect("it stays read-only for others");
    }
    admin.query_drop("SET SESSION sql_log_bin = OFF").await.expect("not logged");
    admin.query_drop(sql).await.expect("changed");
    if row.is_some() {
        admin.query_drop("SET GLOBAL super_read_only = ON").await.expect("as before");
    }
}
