//! An open primary that steps down: nobody's commit is lost, none is answered that nobody has, no restart is needed.

use crate::load::Load;
use crate::support::{Member, PATIENCE, Servers, USER, cluster, code, insert, rows, until};
use cotton_core::gtid::GtidOrder;
use cotton_core::ports::mysql::{MySql, Promotion};
use mysql_async::prelude::Queryable;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

on_each_server!(
    hands_over_under_load,
    a_long_transaction_is_broken_off,
    a_long_statement_is_broken_off,
    a_session_that_waits_is_not_released,
    sessions_that_begin_to_wait_are_not_released,
    it_is_repeated_and_taken_back,
    a_table_lock_is_broken_off,
);

/// `ER_OPTION_PREVENTS_STATEMENT`
const READ_ONLY: u16 = 1290;
/// What the executor allows running transactions.
const GRACE_MS: u64 = 1_000;
/// Sessions that commit at once.
const WRITERS: u64 = 14;
/// Within that, the answer must have come, whatever it is.
const BOUND: Duration = Duration::from_mins(1);

async fn hands_over_under_load(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 3, acks).await else { return };
    let mut members: Vec<Arc<Member>> = members.into_iter().map(Arc::new).collect();
    let load = Load::start(Arc::clone(&members[0]), 4);
    for round in 0..3 {
        load.progress(100).await;
        let (old, new, other) = (Arc::clone(&members[0]), Arc::clone(&members[1]), Arc::clone(&members[2]));
        let (pid, start) = (old.instance.pid(), Instant::now());
        let last = step_down_in_time(&old).await;
        let closed = start.elapsed();
        let status = old.probe().await;
        assert_eq!((status.writable, status.waiting), (false, 0));
        assert_eq!(status.position.order(&last), GtidOrder::Equal, "its last word");
        until("caught up", || async { new.probe().await.position.contains(&last) }).await;
        let (own, a, b) = tokio::join!(old.instance.freeze(), new.instance.freeze(), other.instance.freeze());
        assert_eq!(own.expect("freeze").position.order(&last), GtidOrder::Equal);
        b.expect("freeze");
        let must_contain = a.expect("freeze").position;
        assert!(must_contain.contains(&last));
        new.promote_to(&Promotion { must_contain, acks }).await;
        load.turn_to(Arc::clone(&new));
        old.attach(&new, acks > 0).await;
        other.attach(&new, acks > 0).await;
        assert_eq!(old.instance.pid(), pid, "not restarted");
        load.progress(1).await;
        eprintln!("{servers:?} round {round}: closed after {closed:.1?}, written after {:.1?}", start.elapsed());
        members.rotate_left(1);
    }
    let acknowledged = load.finish().await;
    for member in &members {
        member.until_has(&acknowledged).await;
    }
}

async fn a_long_transaction_is_broken_off(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let mut conn = members[0].client().await;
    conn.query_drop("START TRANSACTION").await.expect("begin");
    insert(&mut conn, 1).await.expect("insert");
    let last = step_down_in_time(&members[0]).await;
    assert!(conn.query_drop("COMMIT").await.is_err(), "it was broken off");
    assert_eq!(members[0].probe().await.position.order(&last), GtidOrder::Equal);
    let mut reader = members[0].client().await;
    assert_eq!(rows(&mut reader).await, [] as [u64; 0], "and rolled back");
    assert_eq!(code(insert(&mut reader, 2).await), READ_ONLY);
}

async fn a_long_statement_is_broken_off(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let mut conn = members[0].client().await;
    let writing = tokio::spawn(async move { conn.query_drop("INSERT INTO app.t SELECT 1, SLEEP(600)").await });
    until("writing", || async { sessions(&members[0], USER, "info LIKE '%SLEEP%'").await == 1 }).await;
    let last = step_down_in_time(&members[0]).await;
    let written = tokio::time::timeout(Duration::from_secs(5), writing).await.expect("ended").expect("no panic");
    written.expect_err("it was broken off");
    let present = rows(&mut members[0].client().await).await;
    // To 5.6 a sleep that is broken off has a value, and the statement goes on to its end: before the last position.
    assert!(present.is_empty() || servers == Servers::MySql56 && present == [1], "{present:?}");
    assert_eq!(members[0].probe().await.position.order(&last), GtidOrder::Equal);
    members[1].until_caught_up(&members[0]).await;
    assert_eq!(rows(&mut members[1].client().await).await, present, "replicas have the same");
}

async fn a_table_lock_is_broken_off(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let mut conn = members[0].client().await;
    conn.query_drop("LOCK TABLES app.t WRITE").await.expect("lock");
    insert(&mut conn, 1).await.expect("insert");
    step_down_in_time(&members[0]).await;
    assert!(insert(&mut conn, 2).await.is_err());
    assert_eq!(rows(&mut members[0].client().await).await, [1], "what was committed stays");
}

/// Only a replica may answer it, or nobody.
async fn a_session_that_waits_is_not_released(servers: Servers) {
    if !servers.has_semi_sync() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let mut conn = members[0].client().await;
    insert(&mut conn, 1).await.expect("acknowledged");
    members[1].instance.kill().await;
    let writing = tokio::spawn(async move { insert(&mut conn, 2).await });
    until("waiting", || async { members[0].probe().await.waiting == 1 }).await;
    let start = Instant::now();
    let stepped = tokio::time::timeout(BOUND, members[0].instance.step_down(GRACE_MS)).await.expect("in bounded time");
    let error = stepped.expect_err("a commit waits");
    eprintln!("{servers:?}: refused after {:.1?}: {}", start.elapsed(), error.chain());
    assert!(!writing.is_finished(), "nobody has it, so nobody is told so");
    assert_eq!(members[0].probe().await.waiting, 1);

    // Taken back: the server is open, and goes on to wait.
    members[0].promote(1).await;
    assert!(members[0].probe().await.writable);
    assert!(!writing.is_finished());
    members[1].instance.start().await.expect("restart");
    members[1].attach(&members[0], true).await;
    let written = tokio::time::timeout(Duration::from_secs(20), writing).await.expect("freed").expect("no panic");
    written.expect("committed");
    insert(&mut members[0].client().await, 3).await.expect("open");
    members[1].until_has(&BTreeSet::from([1, 2, 3])).await;

    // Now that nobody waits, it steps down.
    step_down_in_time(&members[0]).await;
}

/// What holds it up is broken off while others begin to wait, in groups of which one session speaks for all.
async fn sessions_that_begin_to_wait_are_not_released(servers: Servers) {
    if !servers.has_semi_sync() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let members: Vec<Arc<Member>> = members.into_iter().map(Arc::new).collect();
    insert(&mut members[0].client().await, 1).await.expect("acknowledged");
    members[1].instance.kill().await;
    let mut conn = members[0].client().await;
    let long = tokio::spawn(async move { conn.query_drop("INSERT INTO app.t SELECT 2, SLEEP(600)").await });
    until("a long statement", || async { sessions(&members[0], USER, "info LIKE '%SLEEP%'").await == 1 }).await;
    let old = Arc::clone(&members[0]);
    // long enough that the order is seen
    let stepping = tokio::spawn(async move { old.instance.step_down(10 * GRACE_MS).await });
    until("an order to become read-only", || async {
        sessions(&members[0], "cotton", "info LIKE 'SET GLOBAL%'").await == 1
    })
    .await;
    let mut writers = Vec::new();
    for id in 100..100 + WRITERS {
        let mut conn = members[0].client().await;
        writers.push(tokio::spawn(async move { insert(&mut conn, id).await }));
    }
    let stepped = tokio::time::timeout(BOUND, stepping).await.expect("in bounded time").expect("no panic");
    eprintln!("{servers:?}: {:?}", stepped.map(|_| "stepped down").map_err(|error| error.chain()));
    long.await.expect("no panic").expect_err("it was broken off");
    let mut broken_off = 0;
    for writer in writers {
        if let Ok(ended) = tokio::time::timeout(Duration::from_millis(100), writer).await {
            assert!(ended.expect("no panic").is_err(), "nobody has it, and yet its client was told that it is done");
            broken_off += 1;
        }
    }
    eprintln!("{servers:?}: {broken_off} of {WRITERS} sessions were broken off");
}

async fn sessions(member: &Member, user: &str, which: &str) -> usize {
    let text = format!("SELECT id FROM information_schema.processlist WHERE user = '{user}' AND {which}");
    member.admin().await.query::<u64, _>(text).await.expect("sessions").len()
}

async fn it_is_repeated_and_taken_back(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 2, acks).await else { return };
    let mut conn = members[0].client().await;
    insert(&mut conn, 1).await.expect("insert");
    let last = step_down_in_time(&members[0]).await;
    let again = step_down_in_time(&members[0]).await;
    assert_eq!(again.order(&last), GtidOrder::Equal);
    let status = members[1].probe().await;
    assert!(status.replication.is_some(), "replicas stay");
    until("counted", || async { members[0].probe().await.replicas == 1 }).await;
    members[0].promote(acks).await;
    insert(&mut members[0].client().await, 2).await.expect("open again");
    members[1].until_has(&BTreeSet::from([1, 2])).await;
}

async fn step_down_in_time(member: &Member) -> cotton_core::GtidSet {
    let start = Instant::now();
    let position = loop {
        let stepped = tokio::time::timeout(BOUND, member.instance.step_down(GRACE_MS)).await.expect("in bounded time");
        match stepped {
            // a disk stands still: the executor would be told again, too
            Err(error) if error.is_temporary() && start.elapsed() < PATIENCE => eprintln!("  {}", error.chain()),
            stepped => break stepped.expect("step down").position,
        }
    };
    assert!(!member.probe().await.writable);
    position
}
