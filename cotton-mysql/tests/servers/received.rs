//! What was received and not applied outlives the server's process, and is not given up for nothing.

use crate::drain::{drain, stop_applier, until_received};
use crate::support::{Member, Servers, cluster, insert, rows, until};
use cotton_core::ErrorKind;
use cotton_core::GtidSet;
use cotton_core::ports::mysql::{Followed, MySql, Promoted, Promotion};
use mysql_async::prelude::Queryable;
use std::collections::BTreeSet;
use std::path::PathBuf;

on_each_server!(
    received_survives_the_process,
    a_torn_relay_log_counts_up_to_its_tear,
    going_on_keeps_the_relay_logs,
    turning_round_loses_nothing,
    relay_logs_that_are_gone_are_begun_anew,
    a_copy_that_lacks_something_replaces_nothing,
    what_recovery_cuts_off_is_kept,
    a_number_that_the_applier_took_is_not_the_transaction,
    a_number_that_was_taken_before_is_not_the_transaction,
    a_statement_that_only_the_log_knows_is_executed,
);

/// A replica with transactions 0 to 49 received and not applied, and what its primary had. The primary is gone.
async fn received_and_not_applied(servers: Servers) -> Option<(Vec<Member>, GtidSet)> {
    let members = cluster(servers, 2, 0).await?;
    members[1].until_caught_up(&members[0]).await;
    stop_applier(servers, &members[1]).await;
    let mut conn = members[0].client().await;
    for id in 0..50 {
        insert(&mut conn, id).await.expect("insert");
    }
    let wanted = until_received(&members[1], &members[0]).await;
    members[0].instance.kill().await;
    Some((members, wanted))
}

async fn received_survives_the_process(servers: Servers) {
    let Some((mut members, wanted)) = received_and_not_applied(servers).await else { return };
    let mut replica = members.pop().expect("the second");
    // killed, killed again before anything was done, killed while it applies, stopped; also with another executor
    for round in 0..4 {
        if round == 3 {
            replica.instance.stop(20_000).await;
        } else {
            replica.instance.kill().await;
        }
        if round == 1 {
            replica = replica.reopened();
        }
        assert!(replica.instance.start().await.expect("start").kept, "{round}");
        let status = replica.probe().await;
        assert!(status.position.contains(&wanted) && !status.writable, "{round}: {} {wanted}", status.position);
        assert!(round > 1 || status.unapplied >= 50, "{round}: {}", status.unapplied);
        if round > 0 {
            let frozen = replica.instance.freeze().await.expect("freeze");
            assert!(frozen.position.contains(&wanted) && frozen.obstacle.is_none(), "{round}: {frozen:?}");
        }
    }
    let answers = drain(&replica).await;
    assert!(answers.iter().all(|drained| drained.position.contains(&wanted)), "{answers:?}");
    replica.until_has(&(0..50).collect()).await; // what is in the binary log is seen by others a moment later
    let promotion = Promotion { must_contain: wanted, acks: 0 };
    assert!(matches!(replica.instance.promote(&promotion).await, Ok(Promoted::Writable(_))));
    insert(&mut replica.client().await, 50).await.expect("insert");
    // the primary that was lost comes back as its replica
    members[0].instance.start().await.expect("restart");
    members[0].attach(&replica, false).await;
    members[0].until_has(&(0..=50).collect()).await;
}

async fn a_torn_relay_log_counts_up_to_its_tear(servers: Servers) {
    let Some((members, wanted)) = received_and_not_applied(servers).await else { return };
    let replica = &members[1];
    replica.instance.kill().await;
    let (log, bytes) = relay_logs(replica).into_iter().max_by_key(|(_, bytes)| *bytes).expect("there are some");
    let file = std::fs::OpenOptions::new().write(true).open(log).expect("ours");
    file.set_len(bytes - 3).expect("torn in its last event");
    assert!(replica.instance.start().await.expect("start").kept);
    let position = replica.probe().await.position;
    assert!(!position.contains(&wanted), "the last one is not there as a whole");
    let answers = drain(replica).await;
    assert!(answers.iter().all(|drained| drained.position.contains(&position)), "{answers:?}");
    replica.until_has(&(0..49).collect()).await; // what is in the binary log is seen by others a moment later
    let promotion = Promotion { must_contain: position, acks: 0 };
    assert!(matches!(replica.instance.promote(&promotion).await, Ok(Promoted::Writable(_))));
}

/// Names and lengths.
fn relay_logs(member: &Member) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(member.root().join("data")).expect("there is data").flatten();
    let logs = entries.filter(|entry| {
        let name = entry.file_name().into_string().unwrap_or_default();
        name.strip_prefix("relay.").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    logs.map(|entry| (entry.path(), entry.metadata().expect("it is there").len())).collect()
}

/// The receiver has stopped, the applier is behind: what was received is not fetched again, so that it is there all the
/// time.
async fn going_on_keeps_the_relay_logs(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    replica.until_caught_up(primary).await;
    let mut blocker = replica.admin().await;
    blocker.query_drop("FLUSH TABLES WITH READ LOCK").await.expect("block the applier");
    let mut conn = primary.client().await;
    for id in 0..20 {
        insert(&mut conn, id).await.expect("insert");
    }
    until_received(replica, primary).await;
    let stop = if servers == Servers::MySql97 { "STOP REPLICA IO_THREAD" } else { "STOP SLAVE IO_THREAD" };
    replica.admin().await.query_drop(stop).await.expect("stop");
    // the first one, which is all but empty, may go by itself
    let before = relay_logs(replica).into_iter().filter(|(_, bytes)| *bytes > 1024);
    let before: BTreeSet<_> = before.map(|(path, _)| path).collect();
    assert!(!before.is_empty());
    assert_eq!(replica.follow(primary, false).await, Followed::Attached);
    replica.until_connected().await;
    let after: BTreeSet<_> = relay_logs(replica).into_iter().map(|(path, _)| path).collect();
    assert!(after.is_superset(&before), "{before:?} {after:?}");
    blocker.query_drop("UNLOCK TABLES").await.expect("unblock");
    insert(&mut conn, 20).await.expect("insert");
    replica.until_has(&(0..=20).collect()).await;
}

/// A replica that is behind follows another primary, which has all that it received.
async fn turning_round_loses_nothing(servers: Servers) {
    let Some(members) = cluster(servers, 3, 0).await else { return };
    for replica in &members[1..] {
        replica.until_caught_up(&members[0]).await;
    }
    stop_applier(servers, &members[2]).await;
    let mut conn = members[0].client().await;
    for id in 0..30 {
        insert(&mut conn, id).await.expect("insert");
    }
    let wanted = until_received(&members[2], &members[0]).await;
    members[1].until_caught_up(&members[0]).await;
    members[0].instance.kill().await;
    for member in &members[1..] {
        member.instance.freeze().await.expect("freeze");
    }
    stop_applier(servers, &members[2]).await;
    members[2].instance.kill().await;
    members[2].instance.start().await.expect("start");
    members[1].promote(0).await;
    assert_eq!(members[2].follow(&members[1], false).await, Followed::Attached);
    assert!(members[2].probe().await.position.contains(&wanted), "at any time");
    members[2].until_connected().await;
    insert(&mut members[1].client().await, 30).await.expect("insert");
    members[2].until_has(&(0..=30).collect()).await;
}

/// As after a kill in the moment between giving relay logs up and saying so: the server looks for one that is gone.
async fn relay_logs_that_are_gone_are_begun_anew(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    let mut conn = primary.client().await;
    for round in 0..2 {
        replica.until_caught_up(primary).await;
        for _ in 0..3 {
            replica.admin().await.query_drop("FLUSH LOCAL RELAY LOGS").await.expect("another one");
        }
        insert(&mut conn, round).await.expect("insert");
        replica.until_has(&(0..=round).collect()).await;
        replica.instance.kill().await;
        let mut logs = relay_logs(replica);
        let (first, _) = logs.pop().expect("there is one");
        for (log, _) in logs {
            std::fs::remove_file(log).expect("ours");
        }
        let data = replica.root().join("data");
        std::fs::rename(first, data.join("relay.000001")).expect("ours");
        std::fs::write(data.join("relay.index"), "./relay.000001\n").expect("ours");
        replica.instance.start().await.expect("start");
        if round == 0 {
            replica.instance.freeze().await.expect("freeze");
            replica.attach(primary, false).await;
        }
    }
    replica.instance.freeze().await.expect("freeze");
    let position = replica.probe().await.position;
    assert!(position.contains(&primary.probe().await.position), "{position}");
    let promotion = Promotion { must_contain: position, acks: 0 };
    let promoted = replica.instance.promote(&promotion).await;
    assert!(matches!(promoted, Ok(Promoted::Writable(_))), "{promoted:?}");
    assert_eq!(rows(&mut replica.client().await).await, [0, 1]);
}

async fn a_copy_that_lacks_something_replaces_nothing(servers: Servers) {
    if servers == Servers::MySql56 {
        return; // it cannot copy
    }
    let Some(members) = cluster(servers, 3, 0).await else { return };
    let mut conn = members[0].client().await;
    insert(&mut conn, 1).await.expect("insert");
    members[1].until_has(&BTreeSet::from([1])).await;
    members[1].instance.freeze().await.expect("freeze");
    insert(&mut conn, 2).await.expect("insert");
    members[2].until_has(&BTreeSet::from([1, 2])).await;
    let error = members[2].instance.copy_from(&members[1].endpoint).await.expect_err("it would lose the second");
    assert_eq!(error.kind, ErrorKind::Conflict, "{}", error.chain());
    assert!(error.is_temporary() && error.chain().contains("lacks"), "{}", error.chain());
    members[2].instance.provision().await.expect("the data is there");
    members[2].instance.start().await.expect("start");
    assert_eq!(rows(&mut members[2].client().await).await, [1, 2]);
    members[1].instance.copy_from(&members[2].endpoint).await.expect("the other way round");
    assert_eq!(rows(&mut members[1].client().await).await, [1, 2]);
}

/// MariaDB's recovery may cut off what nobody acknowledged: a copy of the log is kept beside the data.
async fn what_recovery_cuts_off_is_kept(servers: Servers) {
    if !servers.is_mariadb() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let (old, replica) = (&members[0], &members[1]);
    let mut conn = old.client().await;
    insert(&mut conn, 1).await.expect("acknowledged");
    replica.until_has(&BTreeSet::from([1])).await;
    replica.instance.freeze().await.expect("freeze");
    let writing = tokio::spawn(async move { insert(&mut conn, 2).await });
    until("waiting", || async { old.probe().await.waiting == 1 }).await;
    old.instance.kill().await;
    writing.await.expect("no panic").expect_err("nobody acknowledged it");
    replica.promote(0).await;
    assert!(!old.instance.start_replaced().await.expect("start").kept, "some may be gone");
    assert_eq!(rows(&mut old.client().await).await, [1], "it is cut off");
    let logs = std::fs::read_dir(old.root().join("tails/1")).expect("kept").flatten();
    let largest = logs.map(|log| log.metadata().expect("it is there").len()).max();
    assert!(largest.is_some_and(|bytes| bytes > 300), "{largest:?}");
    old.attach(replica, false).await;
    // nothing is cut off, nothing is kept
    old.instance.kill().await;
    old.instance.start_replaced().await.expect("start");
    assert_eq!(std::fs::read_dir(old.root().join("tails")).expect("there").count(), 1);
}

/// `NEXTVAL` for the rows that are there: a replica of MariaDB does it once more, and gives it the number of the statement,
/// and the statement the next number, which is that of an acknowledged row.
async fn a_number_that_the_applier_took_is_not_the_transaction(servers: Servers) {
    if !servers.is_mariadb() {
        return;
    }
    let Some(members) = with_a_sequence(servers).await else { return };
    let mut conn = members[0].client().await;
    for sql in [ALTER, ROW] {
        conn.query_drop(sql).await.expect("acknowledged");
    }
    until_refused(&members).await;
    let wanted = until_received(&members[1], &members[0]).await;
    members[0].instance.kill().await;
    it_is_not_there(&members[1], &wanted).await;
    // a start clears what the server says of it
    members[1].instance.kill().await;
    members[1].instance.start().await.expect("start");
    it_is_not_there(&members[1], &wanted).await;
}

const ALTER: &str = "ALTER TABLE app.a ADD n BIGINT DEFAULT NEXTVAL(app.s)";
const ROW: &str = "INSERT INTO app.w VALUES (1)";

async fn with_a_sequence(servers: Servers) -> Option<Vec<Member>> {
    let members = cluster(servers, 2, 1).await?;
    let mut conn = members[0].client().await;
    for sql in [
        "CREATE SEQUENCE app.s",
        "CREATE TABLE app.a (id INT PRIMARY KEY)",
        "INSERT INTO app.a VALUES (1), (2)",
        "CREATE TABLE app.w (i INT PRIMARY KEY)",
    ] {
        conn.query_drop(sql).await.expect(sql);
    }
    members[1].until_caught_up(&members[0]).await;
    Some(members)
}

async fn until_refused(members: &[Member]) {
    let refuses = || async {
        let replication = members[1].probe().await.replication.expect("it replicates");
        replication.error.is_some_and(|error| error.contains("1950"))
    };
    until("it refuses the row", refuses).await;
}

async fn it_is_not_there(replica: &Member, wanted: &GtidSet) {
    let frozen = replica.instance.freeze().await.expect("freeze");
    assert!(frozen.position.contains(wanted) && frozen.unapplied > 0, "received, and not applied: {frozen:?}");
    for _ in 0..3 {
        let drained = replica.instance.drain(1_000).await.expect("drain");
        assert!(!drained.done && drained.obstacle.is_some_and(|text| text.contains("1950")), "it is not there");
        let promotion = Promotion { must_contain: GtidSet::default(), acks: 0 };
        let promoted = replica.instance.promote(&promotion).await.expect("an answer");
        assert!(matches!(promoted, Promoted::Applying { .. }), "an acknowledged row is missing: {promoted:?}");
    }
}

/// A MariaDB that was killed between a statement and the note of its number has executed it.
async fn a_statement_that_only_the_log_knows_is_executed(servers: Servers) {
    if !servers.is_mariadb() {
        return;
    }
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    let mut admin = replica.admin().await;
    for sql in [
        "CREATE TABLE app.d (i INT PRIMARY KEY, j INT)",
        "ALTER TABLE app.d ADD k INT",
        "CREATE INDEX x ON app.d (j)",
        "RENAME TABLE app.d TO app.e",
        "TRUNCATE TABLE app.e",
        "CREATE VIEW app.v AS SELECT i FROM app.e",
        "CREATE TRIGGER app.g BEFORE INSERT ON app.e FOR EACH ROW SET NEW.j = 1",
        "CREATE PROCEDURE app.p() SELECT 1",
        "CREATE SEQUENCE app.q",
        "ANALYZE TABLE app.e",
        "DROP VIEW app.v",
        "DROP TABLE app.e, app.q",
        "CREATE DATABASE appx",
        "DROP DATABASE appx",
    ] {
        replica.until_caught_up(primary).await;
        let noted = async |admin: &mut mysql_async::Conn| {
            let noted: Option<String> = admin.query_first("SELECT @@GLOBAL.gtid_slave_pos").await.expect("answer");
            noted.expect("a position")
        };
        let before = noted(&mut admin).await;
        primary.client().await.query_drop(sql).await.expect(sql);
        replica.until_caught_up(primary).await;
        until("it is noted", async || noted(&mut replica.admin().await).await != before).await;
        admin.query_drop("STOP SLAVE").await.expect("stop");
        admin.query_drop(format!("SET GLOBAL gtid_slave_pos = '{before}'")).await.expect("as if it were not noted");
        let frozen = replica.instance.freeze().await.expect("freeze");
        assert_eq!((frozen.unapplied, &frozen.obstacle), (0, &None), "{sql}: {frozen:?}");
        assert!(frozen.position.contains(&primary.probe().await.position), "{sql}: {frozen:?}");
        replica.attach(primary, false).await;
        assert_ne!(noted(&mut admin).await, before, "{sql}: or it would be executed twice");
    }
}

/// The number is taken, and the transaction to which it belongs comes only later: nothing is passed over by a restart, nor by
/// a copy.
async fn a_number_that_was_taken_before_is_not_the_transaction(servers: Servers) {
    if !servers.is_mariadb() {
        return;
    }
    let Some(members) = with_a_sequence(servers).await else { return };
    members[0].client().await.query_drop(ALTER).await.expect("alter");
    members[1].until_caught_up(&members[0]).await;
    let fresh = Member::running(servers).await.expect("as the others");
    let refused = fresh.instance.copy_from(&members[1].endpoint).await.expect_err("the copy would pass the row over");
    assert!(refused.is_temporary() && refused.chain().contains("has not noted"), "{}", refused.chain());
    members[1].instance.kill().await;
    members[1].instance.start().await.expect("start");
    members[1].attach(&members[0], true).await;
    let mut conn = members[0].client().await;
    let row = tokio::spawn(async move { conn.query_drop(ROW).await });
    until_refused(&members).await;
    row.await.expect("no panic").expect("acknowledged: it is received");
    fresh.instance.start().await.expect("start");
    fresh.instance.copy_from(&members[0].endpoint).await.expect("the primary's copy has it");
    let there: Option<u64> = fresh.admin().await.query_first("SELECT i FROM app.w").await.expect("answer");
    assert_eq!(there, Some(1));
}
