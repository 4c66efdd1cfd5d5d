//! What an administrator on a bad day changes of the settings that keep commits.

use crate::support::{Member, Servers, cluster, insert, until};
use cotton_core::account::Accounts;
use cotton_core::ports::mysql::MySql;
use mysql_async::Row;
use mysql_async::prelude::Queryable;

on_each_server!(what_keeps_commits_is_put_right, commits_that_did_not_wait_any_more_wait_again);

/// A variable, what it shall be, and what somebody makes of it.
type Change = (String, &'static str, &'static str);

fn changes(servers: Servers) -> Vec<Change> {
    let of_all = [("sync_binlog", "1", "0"), ("innodb_flush_log_at_trx_commit", "1", "2")];
    let mut changes: Vec<Change> = of_all.map(|(name, right, wrong)| (name.to_owned(), right, wrong)).to_vec();
    let (source, replica) = if servers.is_mariadb() { ("master", "slave") } else { ("source", "replica") };
    if servers.has_semi_sync() {
        let of_acks = [
            ("enabled".to_owned(), "1", "0"),
            ("timeout".to_owned(), "31536000000", "100"),
            (format!("wait_no_{replica}"), "1", "0"),
            ("wait_point".to_owned(), "AFTER_SYNC", "AFTER_COMMIT"),
        ];
        changes.extend(of_acks.map(|(name, right, wrong)| (format!("rpl_semi_sync_{source}_{name}"), right, wrong)));
    }
    if servers == Servers::MySql97 {
        changes.push(("offline_mode".to_owned(), "0", "1"));
        changes.push(("rpl_semi_sync_source_wait_for_replica_count".to_owned(), "1", "2"));
    }
    changes
}

async fn what_keeps_commits_is_put_right(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 2, acks).await else { return };
    let primary = &members[0];
    let changes = changes(servers);
    let mut admin = primary.admin().await;
    let until_is = async |name: &str, right: &str| {
        let sql = format!("SELECT @@GLOBAL.{name}");
        let value = async || primary.admin().await.query_first::<String, _>(&sql).await.expect("answer");
        until(name, async || value().await.as_deref() == Some(right)).await;
    };
    for revision in 1..=2 {
        for (name, _, wrong) in &changes {
            let wrong = if wrong.starts_with('A') { format!("'{wrong}'") } else { (*wrong).to_owned() };
            admin.query_drop(format!("SET GLOBAL {name} = {wrong}")).await.expect(name);
        }
        primary.instance.set_accounts(Accounts { revision, ..Accounts::default() }); // looks after everything at once
        for (name, right, _) in &changes {
            until_is(name, right).await;
        }
    }
    if acks > 0 {
        // and by that commits wait again, which another promotion may want otherwise
        let off = format!("SELECT @@GLOBAL.{}", changes[2].0);
        primary.promote(0).await;
        let name = &changes[0].0;
        admin.query_drop(format!("SET GLOBAL {name} = 0")).await.expect("set");
        primary.instance.set_accounts(Accounts { revision: 3, ..Accounts::default() });
        until_is(name, "1").await;
        assert_eq!(admin.query_first::<String, _>(off).await.expect("answer").as_deref(), Some("0"), "as was wanted");
    }
}

/// A server that waited in vain for as long as it was told to does not wait any more, though that is switched on.
async fn commits_that_did_not_wait_any_more_wait_again(servers: Servers) {
    if !servers.has_semi_sync() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    let source = if servers.is_mariadb() { "master" } else { "source" };
    let mut admin = primary.admin().await;
    admin.query_drop(format!("SET GLOBAL rpl_semi_sync_{source}_timeout = 100")).await.expect("set");
    replica.instance.freeze().await.expect("freeze");
    insert(&mut primary.client().await, 1).await.expect("answered without a replica");
    let status = format!("SHOW GLOBAL STATUS LIKE 'rpl_semi_sync_{source}_status'");
    let waits = async || {
        let row: Option<(String, String)> = primary.admin().await.query_first(&status).await.expect("answer");
        row.is_some_and(|(_, value)| value == "ON")
    };
    assert!(!waits().await, "it gave up");
    primary.instance.set_accounts(Accounts { revision: 1, ..Accounts::default() });
    until("it waits again", waits).await;
    let mut client = primary.client().await;
    let commit = tokio::spawn(async move { insert(&mut client, 2).await });
    let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE '%semi-sync ACK%'";
    until("a commit waits", async || {
        assert!(!commit.is_finished(), "nobody has acknowledged it");
        primary.admin().await.query_first::<u64, _>(sql).await.expect("answer") != Some(0)
    })
    .await;
    replica.attach(primary, true).await;
    commit.await.expect("no panic").expect("acknowledged");
    replica.until_has(&[1, 2].into()).await;
}

/// A server that came up open for writes after `SET PERSIST` would be a second primary.
#[tokio::test]
async fn what_was_made_lasting_does_not_last() {
    let Some(member) = Member::running(Servers::MySql97).await else { return };
    let mut admin = member.admin().await;
    for sql in ["SET PERSIST super_read_only = OFF", "SET PERSIST read_only = OFF", "SET PERSIST sync_binlog = 0"] {
        admin.query_drop(sql).await.expect(sql);
    }
    drop(admin);
    member.instance.stop(20_000).await;
    member.instance.start().await.expect("start");
    let sql = "SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only, @@GLOBAL.sync_binlog";
    let row: Row = member.admin().await.query_first(sql).await.expect("answer").expect("a row");
    assert_eq!(mysql_async::from_row::<(u8, u8, u8)>(row), (1, 1, 1));
    assert!(!member.probe().await.writable);
}
