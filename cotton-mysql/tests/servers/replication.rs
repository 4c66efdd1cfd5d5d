//! Freeze, promote and follow.

use crate::link::Link;
use crate::support::{Member, REPL_PASSWORD, Servers, cluster, insert, rows, until};
use cotton_core::gtid::GtidOrder;
use cotton_core::ports::mysql::{Followed, Following, Frozen, LinkState, MySql, Promoted, Promotion};
use cotton_core::{ErrorKind, GtidSet};
use mysql_async::prelude::Queryable;
use std::collections::BTreeSet;
use std::time::Duration;

on_each_server!(
    rows_travel_and_status_tells,
    each_state_refuses_what_does_not_fit,
    acknowledgements_are_waited_for,
    a_replica_may_follow_with_what_nobody_acknowledged_yet,
    frozen_replicas_acknowledge_nothing,
    received_is_not_lost_when_the_applier_was_stopped,
    a_slow_applier_is_waited_for,
    errant_transactions_are_found,
    missing_history_is_found,
    an_unreachable_primary_is_an_error,
    a_replica_tries_again_for_ever,
);

async fn rows_travel_and_status_tells(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 3, acks).await else { return };
    let mut conn = members[0].client().await;
    for id in 0..10 {
        insert(&mut conn, id).await.expect("insert");
    }
    for replica in &members[1..] {
        replica.until_has(&(0..10).collect()).await;
    }
    let primary = members[0].probe().await;
    assert!(primary.writable && primary.replication.is_none());
    assert_eq!((primary.replicas, primary.waiting), (2, 0));
    assert!(primary.disk_free_bytes.is_some_and(|bytes| bytes > 0));
    let status = members[1].probe().await;
    let replication = status.replication.expect("a replica");
    assert_eq!((&replication.source, replication.link), (&members[0].endpoint, LinkState::Connected));
    assert!(replication.applying && replication.error.is_none() && !status.writable);
    assert!(status.position.contains(&primary.position), "{} {}", status.position, primary.position);
    // repeated orders change nothing
    assert_eq!(members[1].follow(&members[0], acks > 0).await, Followed::Attached);
    members[0].promote(acks).await;

    // a switchover the hard way: the old primary goes down, the others turn round
    members[0].instance.kill().await;
    let frozen = members[1].instance.freeze().await.expect("freeze");
    let again = members[1].instance.freeze().await.expect("again");
    assert_eq!(again.position.order(&frozen.position), GtidOrder::Equal);
    assert_eq!(members[1].probe().await.replication.expect("still").link, LinkState::Stopped);
    members[1].promote(0).await;
    members[2].attach(&members[1], false).await;
    members[0].instance.start().await.expect("restart");
    members[0].attach(&members[1], false).await;
    insert(&mut members[1].client().await, 10).await.expect("insert");
    for member in &members {
        member.until_has(&(0..=10).collect()).await;
    }
    assert_eq!(members[1].probe().await.replicas, 2, "plain replicas are counted too");
}

async fn each_state_refuses_what_does_not_fit(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let error = members[0].instance.freeze().await.expect_err("it is writable");
    assert_eq!(error.kind, ErrorKind::Conflict);
    let following = Following { primary: members[1].endpoint.clone(), semi_sync: false };
    let error = members[0].instance.follow(&following).await.expect_err("it is writable");
    assert_eq!(error.kind, ErrorKind::Conflict);
    let following = Following { primary: members[1].endpoint.clone(), semi_sync: false };
    let error = members[1].instance.follow(&following).await.expect_err("itself");
    assert_eq!(error.kind, ErrorKind::Conflict);

    // more than it has
    let beyond = match servers {
        Servers::MariaDb | Servers::MariaDb118 => GtidSet::mariadb("0-99-1000", "", None),
        Servers::MySql97 | Servers::MySql56 => GtidSet::mysql("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", ""),
    };
    members[0].instance.kill().await;
    members[1].instance.freeze().await.expect("freeze");
    let promotion = Promotion { must_contain: beyond.expect("well formed"), acks: 0 };
    let promoted = members[1].instance.promote(&promotion).await.expect("an answer");
    assert!(matches!(&promoted, Promoted::Incomplete(text) if text.contains("is missing")), "{promoted:?}");
    assert!(!members[1].probe().await.writable, "still read-only");

    if servers == Servers::MySql56 {
        let promotion = Promotion { must_contain: GtidSet::Empty, acks: 1 };
        let error = members[1].instance.promote(&promotion).await.expect_err("there is no plugin");
        assert_eq!(error.kind, ErrorKind::Unsupported, "{}", error.chain());
        assert!(!members[1].probe().await.writable);
        let following = Following { primary: members[0].endpoint.clone(), semi_sync: true };
        let error = members[1].instance.follow(&following).await.expect_err("there is no plugin");
        assert_eq!(error.kind, ErrorKind::Unsupported);
    }
}

async fn acknowledgements_are_waited_for(servers: Servers) {
    if !servers.has_semi_sync() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let mut conn = members[0].client().await;
    insert(&mut conn, 1).await.expect("acknowledged");
    let before = members[0].probe().await.position;
    members[1].instance.kill().await;
    let writing = tokio::spawn(async move { insert(&mut conn, 2).await });
    until("waiting", || async { members[0].probe().await.waiting == 1 }).await;
    until("counted", || async { members[0].probe().await.replicas == 0 }).await;
    tokio::time::sleep(Duration::from_millis(500)).await; // that nothing happens cannot be waited for
    assert!(!writing.is_finished(), "no fallback");
    assert_eq!(rows(&mut members[0].client().await).await, [1], "nobody sees what may yet vanish");
    let position = members[0].probe().await.position;
    assert!(position.is_ahead_of(&before), "what waits may be acknowledged at any moment: {position}");
    members[1].instance.start().await.expect("restart");
    members[1].attach(&members[0], true).await;
    tokio::time::timeout(Duration::from_secs(20), writing).await.expect("freed").expect("no panic").expect("committed");
    members[1].until_has(&BTreeSet::from([1, 2])).await;
    let status = members[0].probe().await;
    assert_eq!((status.waiting, status.replicas), (0, 1));
}

async fn a_replica_may_follow_with_what_nobody_acknowledged_yet(servers: Servers) {
    if !servers.has_semi_sync() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let mut conn = members[0].client().await;
    insert(&mut conn, 1).await.expect("acknowledged");
    members[1].attach(&members[0], false).await;
    let writing = tokio::spawn(async move { insert(&mut conn, 2).await });
    members[1].until_has(&BTreeSet::from([1, 2])).await;
    assert!(!writing.is_finished(), "a replica that acknowledges nothing is not waited for");
    members[1].attach(&members[0], true).await;
    until("counted", || async { members[0].probe().await.replicas == 1 }).await;
    // It is not sent again what it has, and does not acknowledge it by itself: another commit has to come, or a failover.
    let (primary, replica) = (members[0].probe().await, members[1].probe().await);
    assert_eq!(primary.waiting, 1);
    assert!(replica.position.contains(&primary.position), "from which a scheduler can tell");
    writing.abort();
}

async fn received_is_not_lost_when_the_applier_was_stopped(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    members[1].until_caught_up(&members[0]).await;
    let mut admin = members[1].admin().await;
    let stop = if servers == Servers::MySql97 { "STOP REPLICA SQL_THREAD" } else { "STOP SLAVE SQL_THREAD" };
    admin.query_drop(stop).await.expect("stop");
    let mut conn = members[0].client().await;
    for id in 0..50 {
        insert(&mut conn, id).await.expect("insert");
    }
    let wanted = members[0].probe().await.position;
    until("received", || async { members[1].probe().await.position.contains(&wanted) }).await;
    members[0].instance.kill().await;
    let Frozen { position, unapplied, .. } = members[1].instance.freeze().await.expect("freeze");
    assert!(position.contains(&wanted), "{position} {wanted}");
    assert!(servers == Servers::MySql56 || unapplied <= 50, "{unapplied}");
    let promotion = Promotion { must_contain: position, acks: 0 };
    members[1].promote_to(&promotion).await;
    members[1].until_has(&(0..50).collect()).await;
}

async fn a_slow_applier_is_waited_for(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 3, acks).await else { return };
    for replica in &members[1..] {
        replica.until_caught_up(&members[0]).await;
    }
    let mut blocker = members[1].admin().await;
    blocker.query_drop("FLUSH TABLES WITH READ LOCK").await.expect("block the applier");
    let mut conn = members[0].client().await;
    for id in 0..20 {
        insert(&mut conn, id).await.expect("insert");
    }
    let wanted = members[0].probe().await.position;
    for replica in &members[1..] {
        until("received", || async { replica.probe().await.position.contains(&wanted) }).await;
    }
    members[0].instance.kill().await;
    members[2].instance.freeze().await.expect("freeze");
    if servers != Servers::MySql56 {
        let frozen = members[1].instance.freeze().await.expect("freeze does not wait for the applier");
        assert!(frozen.position.contains(&wanted), "received counts");
        assert!((1..=20).contains(&frozen.unapplied), "a blocked applier is seen: {}", frozen.unapplied);
    }
    // the others may turn round before it is ready: what it still applies is not errant here
    let following = Following { primary: members[1].endpoint.clone(), semi_sync: acks > 0 };
    let promotion = Promotion { must_contain: wanted, acks };
    let unblock = async {
        tokio::time::sleep(Duration::from_millis(300)).await; // the others are waiting by then
        blocker.query_drop("UNLOCK TABLES").await.expect("unblock");
    };
    let (_, followed, ()) =
        tokio::join!(members[1].promote_to(&promotion), members[2].instance.follow(&following), unblock);
    assert_eq!(followed.expect("follow"), Followed::Attached);
    insert(&mut members[1].client().await, 20).await.expect("acknowledged");
    for member in &members[1..] {
        member.until_has(&(0..=20).collect()).await;
    }
}

async fn errant_transactions_are_found(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    insert(&mut members[0].client().await, 1).await.expect("insert");
    members[1].until_has(&BTreeSet::from([1])).await;
    members[1].instance.freeze().await.expect("freeze");
    insert(&mut members[0].client().await, 2).await.expect("nobody else has this");
    members[0].instance.kill().await;
    members[1].promote(0).await;
    members[0].instance.start().await.expect("restart");
    for rounds in 0..2 {
        let followed = members[0].follow(&members[1], false).await;
        assert!(matches!(&followed, Followed::Errant(gtids) if !gtids.is_empty()), "{followed:?}");
        assert!(members[0].probe().await.replication.is_none(), "nothing was changed");
        assert_eq!(rows(&mut members[0].client().await).await, [1, 2]);
        if rounds == 0 {
            // on MariaDB now with the same sequence number from another server
            insert(&mut members[1].client().await, 3).await.expect("insert");
        }
    }
}

async fn missing_history_is_found(servers: Servers) {
    let Some(members) = cluster(servers, 1, 0).await else { return };
    let primary = &members[0];
    let mut conn = primary.client().await;
    insert(&mut conn, 1).await.expect("insert");
    let mut admin = primary.admin().await;
    let mut last = String::new();
    for id in 2..4 {
        insert(&mut conn, id).await.expect("insert");
        admin.query_drop("FLUSH BINARY LOGS").await.expect("flush");
        let logs: Vec<mysql_async::Row> = admin.query("SHOW BINARY LOGS").await.expect("logs");
        last = logs.last().and_then(|row| row.get(0)).expect("a name");
    }
    // MariaDB keeps a log until its transactions are certain to be in the engine
    until("purged", || async {
        let mut admin = primary.admin().await;
        admin.query_drop(format!("PURGE BINARY LOGS TO '{last}'")).await.expect("purge");
        let logs: Vec<mysql_async::Row> = admin.query("SHOW BINARY LOGS").await.expect("logs");
        logs.len() == 1
    })
    .await;
    let fresh = Member::running(servers).await.expect("as the others");
    fresh.until_history_is_missing(primary).await;
    assert!(fresh.probe().await.replication.is_none_or(|r| r.link == LinkState::Stopped));
}

async fn an_unreachable_primary_is_an_error(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    insert(&mut members[0].client().await, 1).await.expect("insert");
    members[1].until_has(&BTreeSet::from([1])).await;
    members[0].instance.kill().await;
    let nobody = cotton_core::Endpoint::new("127.0.0.1", crate::support::free_port());
    let following = Following { primary: nobody, semi_sync: false };
    let error = members[1].instance.follow(&following).await.expect_err("nobody there");
    assert_eq!(error.kind, ErrorKind::Unreachable, "{}", error.chain());
    assert!(!error.chain().contains(REPL_PASSWORD) && error.is_temporary());
    let replication = members[1].probe().await.replication.expect("as before");
    assert_eq!((replication.source, replication.applying), (members[0].endpoint.clone(), true));
}

/// Connections that end as soon as they have begun count as failures of their own for the server, beside those that are
/// refused; after some of them a receiver would end if it were allowed to.
async fn a_replica_tries_again_for_ever(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let link = Link::to(members[0].endpoint.to_string()).await.expect("a free port");
    let (host, port) = link.address().split_once(':').expect("host and port");
    let endpoint = cotton_core::Endpoint::new(host, port.parse().expect("a port"));
    let following = Following { primary: endpoint, semi_sync: false };
    assert_eq!(members[1].instance.follow(&following).await.expect("follow"), Followed::Attached);
    members[1].until_connected().await;
    for _ in 0..4 {
        link.break_after(2); // it is past the server's greeting then
        until("broken", || async { !link.is_to_break() }).await;
    }
    members[1].until_connected().await;
    insert(&mut members[0].client().await, 1).await.expect("insert");
    members[1].until_has(&BTreeSet::from([1])).await;
}

/// What makes a freeze a fence: a primary that still lives can confirm nothing any more.
async fn frozen_replicas_acknowledge_nothing(servers: Servers) {
    if !servers.has_semi_sync() {
        return;
    }
    let Some(members) = cluster(servers, 3, 1).await else { return };
    let mut conn = members[0].client().await;
    insert(&mut conn, 1).await.expect("acknowledged");
    for replica in &members[1..] {
        replica.until_has(&BTreeSet::from([1])).await;
        replica.instance.freeze().await.expect("freeze");
    }
    let writing = tokio::spawn(async move { insert(&mut conn, 2).await });
    until("waiting", || async { members[0].probe().await.waiting == 1 }).await;
    tokio::time::sleep(Duration::from_millis(300)).await; // that nothing happens cannot be waited for
    assert!(!writing.is_finished());
    for replica in &members[1..] {
        assert_eq!(rows(&mut replica.client().await).await, [1]);
    }
    writing.abort();
}
