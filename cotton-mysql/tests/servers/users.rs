//! Accounts that are asked for, what is kept in order on an open primary, and who may read the binary logs.

use crate::support::{Member, PATIENCE, Servers, USER, USER_PASSWORD, cluster, code, rows, until};
use cotton_core::Sealed;
use cotton_core::account::{Account, AccountKind, Accounts};
use cotton_core::ports::mysql::MySql;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use std::collections::BTreeMap;
use std::time::Duration;

on_each_server!(
    accounts_are_made_changed_and_dropped,
    what_was_broken_is_put_right,
    the_password_is_the_one_that_cotton_knows,
    two_accounts_leave_room_for_replicas,
    events_run_on_the_primary_only,
    disabled_events_stay_disabled,
    an_event_that_was_just_disabled_stays_so_after_a_switchover,
    time_zones_have_names,
    only_members_acknowledge,
);

#[expect(clippy::unnecessary_wraps, reason = "as a list of accounts has it, with those that were dropped")]
fn account(kind: AccountKind, databases: &[&str], password: &str) -> Option<Account> {
    let databases = databases.iter().map(|&name| name.to_owned()).collect();
    Some(Account { kind, databases, password: Sealed::new(password) })
}

fn accounts<const N: usize>(list: [(&str, Option<Account>); N]) -> BTreeMap<String, Option<Account>> {
    list.into_iter().map(|(name, account)| (name.to_owned(), account)).collect()
}

/// As a scheduler says it while the cluster's user has the password of its creation.
fn told(revision: u64, others: BTreeMap<String, Option<Account>>) -> Accounts {
    Accounts { revision, user: None, others }
}

/// Waits until somebody is let in, also the next time: sessions end once after a new password.
async fn enters(member: &Member, user: &str, password: &str) -> Conn {
    let start = std::time::Instant::now();
    loop {
        let enter = || Conn::new(member.address(user, password));
        if enter().await.is_ok()
            && let Ok(conn) = enter().await
        {
            return conn;
        }
        assert!(start.elapsed() < PATIENCE, "{user} is never let in");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn accounts_are_made_changed_and_dropped(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    primary.client().await.query_drop("CREATE DATABASE app_x").await.expect("another database");
    let list = accounts([
        ("writer", account(AccountKind::ReadWrite, &["app_x"], "w1")),
        ("reader", account(AccountKind::ReadOnly, &[], "r1")),
    ]);
    primary.instance.set_accounts(told(1, list.clone()));
    let mut writer = enters(primary, "writer", "w1").await;
    writer.query_drop("CREATE TABLE app_x.more (id INT PRIMARY KEY)").await.expect("all work");
    writer.query_drop("INSERT INTO app_x.more VALUES (1)").await.expect("its database");
    for sql in ["CREATE TABLE app.more (i INT)", "CREATE DATABASE appyx"] {
        assert!(matches!(code(writer.query_drop(sql).await), 1142 | 1044), "{sql}");
    }
    primary.client().await.query_drop("INSERT INTO app.t VALUES (1, 'x')").await.expect("insert");
    replica.until_caught_up(primary).await;
    // MySQL 5.6 counts a transaction as executed a moment before others see it
    let replicated = async || rows(&mut enters(replica, "reader", "r1").await).await == [1];
    until("the row is there by replication", replicated).await;
    let mut reader = enters(primary, "reader", "r1").await;
    for sql in ["INSERT INTO app.t VALUES (2, 'x')", "CREATE DATABASE other", "DROP TABLE app.t"] {
        assert!(matches!(code(reader.query_drop(sql).await), 1142 | 1044), "{sql}");
    }
    for mut conn in [writer, reader] {
        for sql in ["SELECT * FROM mysql.user", "SET GLOBAL read_only = 0", "CREATE USER x@'%' IDENTIFIED BY 'x'"] {
            assert!(matches!(code(conn.query_drop(sql).await), 1142 | 1227), "{sql}");
        }
    }
    // nothing is written for what is right
    let before = primary.probe().await.position;
    primary.instance.set_accounts(told(2, list));
    let list = accounts([("writer", account(AccountKind::ReadWrite, &["app_x"], "w2")), ("reader", None)]);
    primary.instance.set_accounts(told(3, list));
    enters(primary, "writer", "w2").await;
    assert!(primary.probe().await.position.count_beyond(&before) <= 4, "a password, a drop, two limits");
    assert_eq!(code(Conn::new(primary.address("writer", "w1")).await), 1045);
    until("dropped", || async {
        matches!(
            Conn::new(replica.address("reader", "r1")).await,
            Err(mysql_async::Error::Server(_) | mysql_async::Error::Driver(_))
        )
    })
    .await;
}

async fn what_was_broken_is_put_right(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let mut admin = members[0].admin().await;
    admin.query_drop("DROP USER cotton_repl@'%'").await.expect("as root");
    admin.query_drop("GRANT SUPER, FILE, CREATE USER, REPLICATION SLAVE ON *.* TO orders@'%'").await.expect("as root");
    admin.query_drop("CREATE USER own@'%' IDENTIFIED BY 'own'").await.expect("as before this version");
    admin.query_drop("GRANT SELECT ON app.* TO own@'%' WITH GRANT OPTION").await.expect("as before this version");
    members[0].instance.set_accounts(told(1, BTreeMap::new()));
    until("replicas get in", || async {
        let password = crate::support::REPL_PASSWORD;
        Conn::new(members[0].address("cotton_repl", password)).await.is_ok()
    })
    .await;
    until("nothing too much", || async {
        let grants: Vec<String> = members[0].admin().await.query("SHOW GRANTS FOR orders@'%'").await.expect("grants");
        !grants.iter().any(|row| {
            row.contains("SUPER")
                || row.contains("FILE")
                || row.contains("CREATE USER")
                || row.contains("REPLICATION SLAVE")
        })
    })
    .await;
    until("nothing to hand on", || async {
        let grants: Vec<String> = members[0].admin().await.query("SHOW GRANTS FOR own@'%'").await.expect("grants");
        grants.iter().any(|row| row.contains("SELECT")) && !grants.iter().any(|row| row.contains("GRANT OPTION"))
    })
    .await;
    let admin_words =
        if servers == Servers::MySql97 { ("STOP REPLICA", "START REPLICA") } else { ("STOP SLAVE", "START SLAVE") };
    let mut replica = members[1].admin().await;
    replica.query_drop(admin_words.0).await.expect("stop");
    members[1].attach(&members[0], false).await;
    members[1].until_caught_up(&members[0]).await;
}

/// What its user does to its own account in SQL is taken back; another password comes from cotton only.
async fn the_password_is_the_one_that_cotton_knows(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    let own = |revision, password: Option<&str>| Accounts {
        user: password.map(Sealed::new),
        ..told(revision, BTreeMap::new())
    };
    // nothing is done before it was told in this term, and nothing is written for what is right
    let refused = code(Box::pin(replica.client()).await.query_drop(set_own(servers, "on a replica")).await);
    assert_eq!(refused, 1290, "a replica is read-only for that, too");
    let mut session = primary.client().await;
    session.query_drop(set_own(servers, "by-hand")).await.expect("a user may change its own password");
    enters(primary, USER, "by-hand").await;
    primary.instance.set_accounts(own(0, None));
    enters(primary, USER, USER_PASSWORD).await;
    assert_eq!(code(Conn::new(primary.address(USER, "by-hand")).await), 1045);
    let id = session.id();
    until("sessions of who has changed it end", || async {
        let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE ID = {id}");
        primary.admin().await.query_first::<u64, _>(sql).await.expect("sessions") == Some(0)
    })
    .await;
    let before = primary.probe().await.position;
    primary.instance.set_accounts(own(1, None));
    primary.instance.set_accounts(own(2, Some("rotated")));
    enters(primary, USER, "rotated").await;
    assert_eq!(primary.probe().await.position.count_beyond(&before), 1, "the password only");
    assert_eq!(code(Conn::new(primary.address(USER, USER_PASSWORD)).await), 1045);

    // what administrators can do, and older forms of passwords
    let mut admin = primary.admin().await;
    let by_hand: &[&str] = match servers {
        Servers::MySql56 => &["SET PASSWORD FOR orders@'%' = ''"],
        Servers::MySql97 => {
            &["ALTER USER orders@'%' ACCOUNT LOCK", "ALTER USER orders@'%' PASSWORD EXPIRE", "DROP USER orders@'%'"]
        }
        Servers::MariaDb | Servers::MariaDb118 => &[
            "ALTER USER orders@'%' ACCOUNT LOCK",
            "ALTER USER orders@'%' REQUIRE X509",
            "SET old_passwords = 1, PASSWORD FOR orders@'%' = PASSWORD('x')",
        ],
    };
    for (revision, sql) in (3..).zip(by_hand) {
        admin.query_drop(*sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(Conn::new(primary.address(USER, "rotated")).await.is_err(), "{sql}");
        primary.instance.set_accounts(own(revision, Some("rotated")));
        enters(primary, USER, "rotated").await;
    }

    // whoever is primary next waits to be told: it was launched with the first password
    replica.until_caught_up(primary).await;
    primary.instance.kill().await;
    replica.instance.freeze().await.expect("freeze");
    replica.promote(0).await;
    replica.instance.set_accounts(own(9, Some("rotated")));
    let mut client = enters(replica, USER, "rotated").await;
    client.query_drop("CREATE TABLE app.later (i INT PRIMARY KEY)").await.expect("with all its privileges");
    assert_eq!(code(Conn::new(replica.address(USER, USER_PASSWORD)).await), 1045);
}

/// How a user changes its own password.
fn set_own(servers: Servers, password: &str) -> String {
    match servers {
        Servers::MySql97 => format!("ALTER USER CURRENT_USER() IDENTIFIED BY '{password}'"),
        Servers::MariaDb | Servers::MariaDb118 | Servers::MySql56 => format!("SET PASSWORD = PASSWORD('{password}')"),
    }
}

/// As many connections of an account as it gets.
async fn herd(member: &Member, user: &str, password: &str) -> Vec<Conn> {
    let mut herd = Vec::new();
    loop {
        match Conn::new(member.address(user, password)).await {
            Ok(conn) => herd.push(conn),
            Err(mysql_async::Error::Server(error)) => {
                assert!(matches!(error.code, 1203 | 1226), "{user} after {}: {error}", herd.len());
                return herd;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

async fn two_accounts_leave_room_for_replicas(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 3, acks).await else { return };
    let primary = &members[0];
    primary.instance.set_accounts(told(1, accounts([("second", account(AccountKind::ReadWrite, &[], "s"))])));
    enters(primary, "second", "s").await;
    let limits = || async {
        let sql = "SELECT max_user_connections FROM mysql.user WHERE User IN ('orders', 'second')";
        let limits: Vec<u64> = primary.admin().await.query(sql).await.expect("limits");
        limits
    };
    until("they share", || async { limits().await.iter().all(|most| *most == limits_of(24)) }).await;
    let herds = (herd(primary, USER, USER_PASSWORD).await, herd(primary, "second", "s").await);
    assert!(herds.0.len() >= 10 && herds.1.len() >= 10, "all but sessions that are just ending");
    // both replicas lose their links, and are let in again
    let mut admin = primary.admin().await;
    let sql = "SELECT ID FROM information_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%'";
    let links: Vec<u64> = admin.query(sql).await.expect("links");
    assert_eq!(links.len(), 2);
    for id in links {
        admin.query_drop(format!("KILL CONNECTION {id}")).await.expect("kill");
    }
    until("replicas are back", || async {
        let now: Vec<u64> = primary.admin().await.query(sql).await.expect("links");
        now.len() == 2
    })
    .await;
    let mut client = herds.0.into_iter().next().expect("some");
    client.query_drop("INSERT INTO app.t VALUES (1, 'x')").await.expect("acknowledged");
    for replica in &members[1..] {
        replica.until_caught_up(primary).await; // 5.6 acknowledges nothing
    }
    primary.instance.kill().await;
    for replica in &members[1..] {
        replica.instance.freeze().await.expect("freeze");
    }
    members[1].promote(acks).await;
    members[2].attach(&members[1], acks > 0).await;
    assert_eq!(rows(&mut members[1].client().await).await, [1]);
}

const fn limits_of(all: u64) -> u64 {
    all / 2
}

/// A replica forgets whether an event was enabled. What a user has disabled must not run after a failover; what is altered
/// or made meanwhile must.
async fn disabled_events_stay_disabled(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 2, acks).await else { return };
    let mut client = members[0].client().await;
    client
        .query_drop("CREATE TABLE app.ticks (id INT AUTO_INCREMENT PRIMARY KEY, what VARBINARY(20))")
        .await
        .expect("table");
    client.query_drop("SET NAMES latin1").await.expect("as old programs do");
    let every = |name: &str, state: &str| {
        format!(
            "CREATE EVENT app.{name} ON SCHEDULE EVERY 1 SECOND {state} DO INSERT INTO app.ticks (what) VALUES (CONCAT('{name}',              HEX(CONVERT('\u{e4}' USING utf8mb4))))"
        )
    };
    for (name, state) in [("runs", ""), ("never", "DISABLE"), ("stopped", ""), ("`a-gain`", "DISABLE")] {
        client
            .query_drop(every(&name.replace('`', ""), state).replace("app.a-gain", "app.`a-gain`"))
            .await
            .expect(name);
    }
    client.query_drop("ALTER EVENT app.stopped DISABLE").await.expect("altered");
    client.query_drop("ALTER EVENT app.`a-gain` ENABLE").await.expect("altered");
    let noted = |what: &'static str, wanted: &'static str, member: &'static usize| {
        let member = &members[*member];
        until(what, move || async move {
            let sql = "SELECT GROUP_CONCAT(event_name ORDER BY 1) FROM mysql.cotton_disabled_events";
            let names = member.admin().await.query_first::<Option<String>, _>(sql).await;
            names.ok().flatten().flatten().unwrap_or_default() == wanted
        })
    };
    members[0].instance.set_accounts(told(1, BTreeMap::new())); // it looks again
    noted("noted on the primary", "never,stopped", &0).await;
    noted("noted on the replica", "never,stopped", &1).await;
    let before = members[0].probe().await.position;
    members[0].instance.kill().await;
    members[1].instance.freeze().await.expect("freeze");
    members[1].promote(acks).await;
    assert!(members[1].probe().await.position.contains(&before) || acks == 0);
    if acks > 0 {
        members[0].instance.start().await.expect("start");
        members[0].attach(&members[1], true).await;
    }
    let states = || async {
        let sql = "SELECT GROUP_CONCAT(EVENT_NAME, ' ', STATUS, ' ', CHARACTER_SET_CLIENT ORDER BY 1) FROM \
                   information_schema.EVENTS WHERE EVENT_SCHEMA = 'app'";
        members[1].admin().await.query_first::<String, _>(sql).await.expect("events").unwrap_or_default()
    };
    let expected = "a-gain ENABLED latin1,never DISABLED latin1,runs ENABLED latin1,stopped DISABLED latin1";
    until("as before", || async { states().await == expected }).await;
    // what it enables later is not held to be disabled the next time
    let mut client = members[1].client().await;
    client.query_drop("ALTER EVENT app.stopped ENABLE").await.expect("altered");
    client.query_drop("DROP EVENT app.never").await.expect("dropped");
    members[1].instance.set_accounts(told(2, BTreeMap::new()));
    noted("forgotten", "", &1).await;
    let ran = "SELECT COUNT(*) FROM app.ticks WHERE what LIKE 'never%'";
    assert_eq!(client.query_first::<u64, _>(ran).await.expect("count"), Some(0));
    let sql = "SELECT COUNT(DISTINCT HEX(what)) FROM app.ticks WHERE what LIKE 'runs%'";
    assert_eq!(client.query_first::<u64, _>(sql).await.expect("count"), Some(1), "its text is read as it was written");
}

/// They come with the data directory: nothing is written for them on an open primary.
async fn time_zones_have_names(servers: Servers) {
    let Some(members) = cluster(servers, 1, 0).await else { return };
    let mut client = members[0].client().await;
    for (moment, expected) in
        [("2026-01-01 00:00:00", "01:00:00"), ("2026-07-01 00:00:00", "02:00:00"), ("2036-07-01 00:00:00", "02:00:00")]
    {
        let sql = format!("SELECT TIME_FORMAT(CONVERT_TZ('{moment}', 'UTC', 'Europe/Berlin'), '%H:%i:%s')");
        assert_eq!(
            client.query_first::<Option<String>, _>(sql).await.expect("converts"),
            Some(Some(expected.to_owned()))
        );
    }
    client.query_drop("SET time_zone = 'America/New_York'").await.expect("a name");
    let sql = "SELECT FROM_UNIXTIME(60), FROM_UNIXTIME(1767225600)";
    let times: Option<(String, String)> = client.query_first(sql).await.expect("times");
    let trimmed =
        times.map(|(a, b)| (a.trim_end_matches(".000000").to_owned(), b.trim_end_matches(".000000").to_owned()));
    assert_eq!(trimmed, Some(("1969-12-31 19:01:00".to_owned(), "2025-12-31 19:00:00".to_owned())));
    let mut admin = members[0].admin().await;
    let counts =
        "SELECT COUNT(*) FROM mysql.time_zone_name UNION ALL SELECT COUNT(DISTINCT Time_zone_id) FROM mysql.time_zone";
    let counts: Vec<u64> = admin.query(counts).await.expect("counts");
    assert!(counts[0] > 400 && counts[1] > 250, "{counts:?}");
}

/// Nothing has looked since the user disabled it: the primary that steps down does.
async fn an_event_that_was_just_disabled_stays_so_after_a_switchover(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 2, acks).await else { return };
    let mut client = members[0].client().await;
    client.query_drop("CREATE EVENT app.now ON SCHEDULE EVERY 1 HOUR DO DO 1").await.expect("made");
    client.query_drop("ALTER EVENT app.now DISABLE").await.expect("altered");
    let stepped_down = members[0].instance.step_down(5_000).await.expect("steps down");
    until("the replica has all", || async { members[1].probe().await.position.contains(&stepped_down.position) }).await;
    members[1].instance.freeze().await.expect("freeze");
    members[1].promote(acks).await;
    members[0].attach(&members[1], acks > 0).await; // or nobody acknowledges what is to be noted
    members[1].instance.set_accounts(told(1, BTreeMap::new()));
    let states = || async {
        let sql =
            "SELECT GROUP_CONCAT(EVENT_NAME, ' ', STATUS) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'app'";
        members[1].admin().await.query_first::<String, _>(sql).await.expect("events").unwrap_or_default()
    };
    until("disabled by a user, and not for being a replica", || async { states().await == "now DISABLED" }).await;
}

async fn events_run_on_the_primary_only(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 2, acks).await else { return };
    let mut client = members[0].client().await;
    client
        .query_drop("CREATE TABLE app.ticks (id INT AUTO_INCREMENT PRIMARY KEY, port INT, at TIMESTAMP(6))")
        .await
        .expect("table");
    let tick =
        "CREATE EVENT app.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.ticks (port, at) VALUES (@@port, NOW(6))";
    client.query_drop(tick).await.expect("the user may make events");
    let ticks = |member: usize, port: u16| {
        let member = &members[member];
        async move {
            let sql = format!("SELECT COUNT(*) FROM app.ticks WHERE port = {port}");
            member.client().await.query_first::<u64, _>(sql).await.expect("count").unwrap_or_default()
        }
    };
    let (first, second) = (members[0].endpoint.port, members[1].endpoint.port);
    until("it runs", || async { ticks(0, first).await >= 2 }).await;
    members[1].until_caught_up(&members[0]).await;
    assert_eq!(ticks(1, second).await, 0, "a replica runs none");
    members[0].instance.step_down(1000).await.expect("step down");
    members[1].until_caught_up(&members[0]).await;
    members[1].instance.freeze().await.expect("freeze");
    members[1].promote(acks).await;
    members[0].attach(&members[1], acks > 0).await;
    until("it runs on the successor", || async { ticks(1, second).await >= 2 }).await;
    members[0].until_caught_up(&members[1]).await;
    let before = ticks(0, first).await;
    let more = ticks(1, second).await + 2;
    until("it goes on", || async { ticks(1, second).await >= more }).await;
    assert_eq!(ticks(0, first).await, before, "not where it ran before");
    let sql = "SELECT CONCAT(DEFINER, ' ', STATUS) FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'";
    let event: Option<String> = members[1].client().await.query_first(sql).await.expect("events");
    assert_eq!(event.as_deref(), Some("orders@% ENABLED"), "still its user's");
}

/// A server of somebody else replicates with the account for readers, and says that it acknowledges.
async fn only_members_acknowledge(servers: Servers) {
    if !servers.has_semi_sync() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    let Some(stranger) = Member::running(servers).await else { return };
    members[0].instance.set_accounts(told(1, accounts([("cdc", account(AccountKind::Replication, &[], "c"))])));
    enters(&members[0], "cdc", "c").await;
    enters(&members[1], "cdc", "c").await;
    // the cluster's user cannot, wherever
    for member in &members {
        assert!(
            refuses(&stranger, member, servers, USER, USER_PASSWORD).await,
            "the cluster's user reads no binary logs"
        );
    }
    assert!(refuses(&stranger, &members[0], servers, "cdc", "c").await, "not from the primary");
    assert_eq!(members[0].probe().await.replicas, 1, "the member");
    // from a replica it gets all there is
    assert!(!refuses(&stranger, &members[1], servers, "cdc", "c").await, "from a replica");
    let mut client = members[0].client().await;
    client.query_drop("INSERT INTO app.t VALUES (1, 'x')").await.expect("acknowledged by the member");
    until("the change is read", || async {
        let ids: Result<Vec<u64>, _> = stranger.admin().await.query("SELECT id FROM app.t").await;
        ids.is_ok_and(|ids| ids == [1])
    })
    .await;
    // that replica becomes primary: the reader is sent away, and its acknowledgement counts for nothing
    members[0].instance.kill().await;
    members[1].instance.freeze().await.expect("freeze");
    members[1].promote(1).await;
    until("it is sent away", || async {
        let sql = "SELECT ID FROM information_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%'";
        let links: Vec<u64> = members[1].admin().await.query(sql).await.expect("links");
        links.is_empty()
    })
    .await;
    assert!(refuses(&stranger, &members[1], servers, "cdc", "c").await, "not from a primary");
    let mut client = members[1].client().await;
    let insert = client.query_drop("INSERT INTO app.t VALUES (2, 'x')");
    assert!(tokio::time::timeout(Duration::from_secs(2), insert).await.is_err(), "nobody acknowledges it");
}

/// Whether a server refuses the stranger as a replica with semi-sync that says who it is in this way.
async fn refuses(stranger: &Member, source: &Member, servers: Servers, user: &str, password: &str) -> bool {
    let mut admin = stranger.admin().await;
    let (host, port) = (&source.endpoint.host, source.endpoint.port);
    let words: [String; 5] = if servers == Servers::MySql97 {
        [
            "STOP REPLICA".to_owned(),
            "SET GLOBAL rpl_semi_sync_replica_enabled = ON".to_owned(),
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}', SOURCE_PORT = {port}, SOURCE_USER = '{user}', \
                     SOURCE_PASSWORD = {}, SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
                quoted(password)
            ),
            "START REPLICA".to_owned(),
            "SHOW REPLICA STATUS".to_owned(),
        ]
    } else {
        [
            "STOP SLAVE".to_owned(),
            "SET GLOBAL rpl_semi_sync_slave_enabled = ON".to_owned(),
            format!(
                "CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, MASTER_USER = '{user}', MASTER_PASSWORD = {}, \
                     MASTER_USE_GTID = slave_pos",
                quoted(password)
            ),
            "START SLAVE".to_owned(),
            "SHOW SLAVE STATUS".to_owned(),
        ]
    };
    for sql in &words[..4] {
        admin.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let row: Row = admin.query_first(&words[4]).await.expect("status").expect("configured");
        let text = |name: &str| {
            let index = row.columns_ref().iter().position(|column| column.name_str() == name);
            index.and_then(|index| row.get::<Option<String>, usize>(index).flatten()).unwrap_or_default()
        };
        let (running, log) = (
            text("Slave_IO_Running") + &text("Replica_IO_Running"),
            text("Master_Log_File") + &text("Source_Log_File"),
        );
        let error = text("Last_IO_Error");
        if !error.is_empty() {
            assert!(error.contains("denied"), "{error}");
            return true;
        }
        if running == "Yes" && !log.is_empty() {
            return false;
        }
        assert!(std::time::Instant::now() < deadline, "neither let in nor refused: {running}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
