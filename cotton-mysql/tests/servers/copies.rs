//! Copies of a working server's data, where binary logs do not reach back.

use crate::load::Load;
use crate::support::{Member, Servers, cluster, insert, rows, until};
use cotton_core::ErrorKind;
use cotton_core::ports::mysql::MySql;
use mysql_async::prelude::Queryable;
use std::sync::Arc;

on_each_server!(
    a_copy_is_complete_and_can_follow,
    a_copy_of_a_busy_replica_has_what_it_says,
    what_the_donor_has_not_committed_is_not_in_the_copy,
    a_copy_that_breaks_changes_nothing,
    the_last_member_gives_a_copy_while_commits_wait,
    many_tables_and_few_files,
);

/// Forgets the beginning of a primary's history.
async fn purge(primary: &Member) {
    let mut admin = primary.admin().await;
    admin.query_drop("FLUSH BINARY LOGS").await.expect("flush");
    let logs: Vec<mysql_async::Row> = admin.query("SHOW BINARY LOGS").await.expect("logs");
    let last: String = logs.last().and_then(|row| row.get(0)).expect("a name");
    until("purged", || async {
        // MariaDB keeps a log until its transactions are certain to be in the engine
        let mut admin = primary.admin().await;
        admin.query_drop(format!("PURGE BINARY LOGS TO '{last}'")).await.expect("purge");
        let logs: Vec<mysql_async::Row> = admin.query("SHOW BINARY LOGS").await.expect("logs");
        logs.first().and_then(|row| row.get::<String, _>(0)) == Some(last.clone())
    })
    .await;
}

async fn a_copy_is_complete_and_can_follow(servers: Servers) {
    if servers == Servers::MySql56 {
        let Some(members) = cluster(servers, 2, 0).await else { return };
        let error = members[1].instance.copy_from(&members[0].endpoint).await.expect_err("no tool");
        assert_eq!(error.kind, ErrorKind::Unsupported, "{}", error.chain());
        assert!(members[1].instance.pid().is_some(), "nothing was touched");
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let members: Vec<Arc<Member>> = members.into_iter().map(Arc::new).collect();
    let load = Load::start(Arc::clone(&members[0]), 2);
    load.progress(200).await;
    purge(&members[0]).await;
    let without_data = Member::new(servers.programs().expect("as before"), |_| {});
    without_data.instance.copy_from(&members[1].endpoint).await.expect("copy");
    without_data.attach(&members[0], true).await;
    without_data.instance.kill().await;
    without_data.instance.exited().await;
    let exit = tokio::time::timeout(std::time::Duration::from_millis(50), without_data.instance.exited()).await;
    assert!(exit.is_err(), "nobody was told of the server that made the copy: {exit:?}");

    let fresh = Member::running(servers).await.expect("as the others");
    fresh.until_history_is_missing(&members[0]).await;
    for donor in [&members[1], &members[0]] {
        let before = fresh.instance.pid();
        fresh.instance.copy_from(&donor.endpoint).await.expect("copy");
        assert_ne!(fresh.instance.pid(), before);
        assert!(fresh.instance.exited().await.expected, "of the start before");
        let files = std::fs::read_dir(fresh.root().join("data")).expect("its data");
        let names = files.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned());
        let notes: Vec<String> = names.filter(|name| name.contains("backup")).collect();
        assert!(notes.is_empty(), "{notes:?}");
        let status = fresh.probe().await;
        assert!(!status.writable && !status.position.is_empty() && status.replication.is_none(), "{status:?}");
        fresh.attach(&members[0], true).await;
        load.progress(100).await;
    }
    let acknowledged = load.finish().await;
    fresh.until_has(&acknowledged).await;
    let mut ids = vec![];
    for member in [&fresh, members[0].as_ref(), members[1].as_ref()] {
        let mut admin = member.admin().await;
        ids.push(admin.query_first::<u64, _>("SELECT @@server_id").await.expect("a number"));
    }
    assert!(ids[0] != ids[1] && ids[0] != ids[2]);

    // the copy becomes primary: it must not let others believe that its logs hold everything
    for member in &members {
        member.instance.kill().await;
    }
    fresh.instance.freeze().await.expect("freeze");
    fresh.promote(0).await;
    insert(&mut fresh.client().await, 1_000_000).await.expect("insert");
    let empty = Member::running(servers).await.expect("as the others");
    empty.until_history_is_missing(&fresh).await;
    // while a member that has the history goes on with it
    members[1].instance.start().await.expect("restart");
    members[1].attach(&fresh, false).await;
    members[1].until_has(&acknowledged.into_iter().chain([1_000_000]).collect()).await;
}

/// Appliers in parallel note their position after they have committed.
async fn a_copy_of_a_busy_replica_has_what_it_says(servers: Servers) {
    if !servers.is_mariadb() {
        return; // MySQL keeps its position with its data
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let members: Vec<Arc<Member>> = members.into_iter().map(Arc::new).collect();
    let load = Load::start(Arc::clone(&members[0]), 16);
    load.progress(200).await;
    let fresh = Member::running(servers).await.expect("as the others");
    for donor in [&members[1], &members[0], &members[1]] {
        let has = fresh.probe().await.position; // a donor that is behind that is refused
        until("the donor has that", async || donor.probe().await.applied.contains(&has)).await;
        fresh.instance.copy_from(&donor.endpoint).await.expect("copy");
        // each transaction is a row, but for the two that made the table
        let sql = "SELECT CAST(SUBSTRING_INDEX(@@GLOBAL.gtid_binlog_pos, '-', -1) AS SIGNED) - COUNT(*) FROM app.t";
        let beside: Option<i64> = fresh.admin().await.query_first(sql).await.expect("positions");
        assert_eq!(beside, Some(2), "{:?}", fresh.probe().await);
    }
    load.finish().await;
    // no transaction of an engine: the applier notes it in one of its own
    members[0].client().await.query_drop("ALTER TABLE app.t ADD more INT").await.expect("alter");
    members[1].until_caught_up(&members[0]).await;
    fresh.instance.copy_from(&members[1].endpoint).await.expect("copy");
    assert_eq!(fresh.probe().await.position, members[0].probe().await.position);
}

/// Appliers in parallel: while one waits for a lock, those behind it have prepared their transactions and wait for it.
async fn what_the_donor_has_not_committed_is_not_in_the_copy(servers: Servers) {
    if !servers.is_mariadb() {
        return; // MySQL's clone waits until all is committed
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let mut client = members[0].client().await;
    insert(&mut client, 1).await.expect("acknowledged");
    members[1].until_has(&[1].into()).await;
    let mut lock = members[1].admin().await;
    lock.query_drop("BEGIN").await.expect("begin");
    lock.query_drop("SELECT * FROM app.t WHERE id = 1 LOCK IN SHARE MODE").await.expect("lock");
    client.query_drop("UPDATE app.t SET id = 2 WHERE id = 1").await.expect("acknowledged");
    for id in 10..13 {
        insert(&mut client, id).await.expect("acknowledged");
    }
    until("appliers wait for the first", || async {
        let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE STATE LIKE '%prior transaction%'";
        let count: Option<u64> = members[1].admin().await.query_first(sql).await.expect("the list");
        count >= Some(1)
    })
    .await;
    let fresh = Member::running(servers).await.expect("as the others");
    fresh.instance.copy_from(&members[1].endpoint).await.expect("copy");
    assert_eq!(rows(&mut fresh.client().await).await, [1]);
    fresh.attach(&members[0], true).await;
    fresh.until_has(&[2, 10, 11, 12].into()).await;
    drop(lock);
    members[1].until_has(&[2, 10, 11, 12].into()).await;
}

async fn a_copy_that_breaks_changes_nothing(servers: Servers) {
    if servers == Servers::MySql56 {
        return;
    }
    let Some(members) = cluster(servers, 2, 0).await else { return };
    insert(&mut members[0].client().await, 1).await.expect("insert");
    members[1].until_has(&[1].into()).await;
    let mut client = members[0].client().await;
    client.query_drop("CREATE TABLE app.big (id INT PRIMARY KEY AUTO_INCREMENT, text LONGTEXT)").await.expect("create");
    client.query_drop("INSERT INTO app.big (text) VALUES (REPEAT('x', 1000000))").await.expect("insert");
    for _ in 0..6 {
        client.query_drop("INSERT INTO app.big (text) SELECT text FROM app.big").await.expect("insert");
    }
    members[1].until_caught_up(&members[0]).await;
    members[1].instance.freeze().await.expect("freeze");
    let position = members[1].probe().await.position;
    let (recipient, donor) = (Arc::clone(&members[1].instance), members[0].endpoint.clone());
    let copying = tokio::spawn(async move { recipient.copy_from(&donor).await });
    let place = members[1].root().join("tmp/data.copying");
    until("under way", || async { place.join("ibdata1").exists() }).await;
    members[0].instance.kill().await;
    let error = copying.await.expect("no panic").expect_err("the donor is dead");
    assert!(error.is_temporary(), "{}", error.chain());
    eprintln!("{}", error.chain());
    assert!(members[1].instance.pid().is_none() && !place.exists());
    assert!(members[1].instance.exited().await.expected);
    members[1].instance.provision().await.expect("nothing to do");
    members[1].instance.start().await.expect("with its old data");
    members[1].until_has(&[1].into()).await;
    // what was only received then may be applied now
    let now = members[1].probe().await.position;
    assert!(now.contains(&position) && position.contains(&now), "{now:?} {position:?}");
    let error = members[1].instance.copy_from(&members[0].endpoint).await.expect_err("nobody there");
    assert!(error.is_temporary(), "{}", error.chain());
}

/// All replicas are gone for good, commits wait, and the binary logs do not reach back.
async fn the_last_member_gives_a_copy_while_commits_wait(servers: Servers) {
    if !servers.has_semi_sync() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let mut client = members[0].client().await;
    insert(&mut client, 1).await.expect("acknowledged");
    purge(&members[0]).await;
    members[1].instance.kill().await;
    let mut writing = vec![tokio::spawn(async move { insert(&mut client, 2).await })];
    until("waiting", || async { members[0].probe().await.waiting == 1 }).await;
    for id in 10..18 {
        // They form a group behind the first: one of them waits for all.
        let mut client = members[0].client().await;
        writing.push(tokio::spawn(async move { insert(&mut client, id).await }));
    }
    let fresh = Member::running(servers).await.expect("as the others");
    let copied = fresh.instance.copy_from(&members[0].endpoint).await;
    copied.expect("commits that wait do not keep a copy waiting");
    for writer in writing.extract_if(.., |writer| writer.is_finished()) {
        let written = writer.await.expect("no panic");
        assert!(written.is_err(), "no replica has it, and yet its client was told that it is done");
    }
    fresh.attach(&members[0], true).await;
    for writer in writing {
        let _ = writer.await.expect("no panic"); // sessions were ended; their transactions stay
    }
    insert(&mut members[0].client().await, 3).await.expect("acknowledged");
    fresh.until_has(&[1, 2, 3].into()).await;
}

/// The tool opens all tables at once; a soft limit of 1,024 is what services start with.
async fn many_tables_and_few_files(servers: Servers) {
    if servers == Servers::MySql56 {
        return; // no tool
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let soft = rustix::process::Rlimit { current: Some(1024), maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, soft).expect("the hard limit stays");
    let Some(donor) = Member::running(servers).await else { return };
    donor.promote(0).await;
    let mut client = donor.client().await;
    client.query_drop("CREATE DATABASE many").await.expect("a database");
    for first in (0..1300).step_by(100) {
        let tables = (first..first + 100).map(|n| format!("CREATE TABLE many.t{n} (id INT PRIMARY KEY)"));
        client.query_drop(tables.collect::<Vec<_>>().join("; ")).await.expect("tables");
    }
    client.query_drop("INSERT INTO many.t1299 VALUES (7)").await.expect("a row");
    let fresh = Member::running(servers).await.expect("as the donor");
    fresh.instance.copy_from(&donor.endpoint).await.expect("a copy");
    let mut admin = fresh.admin().await;
    let count = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'many'";
    assert_eq!(admin.query_first::<u64, _>(count).await.expect("a number"), Some(1300));
    assert_eq!(admin.query_first::<u64, _>("SELECT id FROM many.t1299").await.expect("a number"), Some(7));
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("as it was");
}
