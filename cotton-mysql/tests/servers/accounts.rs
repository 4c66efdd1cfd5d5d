//! Who gets in, and what the cluster's user may do.

use crate::support::{ADMIN_PASSWORD, Member, REPL_PASSWORD, Servers, USER, USER_PASSWORD, cluster, code};
use cotton_core::ports::mysql::MySql;
use cotton_mysql::Administrator;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

on_each_server!(
    nothing_is_open,
    administrators_come_over_the_socket,
    a_replica_refuses_the_users_writes,
    the_user_can_work
);

const DENIED: u16 = 1045;

/// For unknown users MySQL makes up a way to authenticate, which the driver may not know.
fn is_denied(attempt: Result<Conn, mysql_async::Error>) -> bool {
    matches!(&attempt, Err(mysql_async::Error::Driver(_))) || matches!(code(attempt), DENIED | 3118 | 4151)
}

/// The account that those who run the machines may have: a name of their own, or root.
async fn administrators_come_over_the_socket(servers: Servers) {
    let Some(programs) = servers.programs() else { return };
    for user in ["dba", "root"] {
        let account = Administrator { user: user.to_owned(), password: "dba' pass".into() };
        let member = Member::new(programs.clone(), |config| config.administrator = Some(account));
        member.provision().await;
        member.instance.start().await.expect("start");
        let socket = member.instance.socket().expect("it runs").display().to_string();
        let with = |password: &str| {
            OptsBuilder::default().socket(Some(&socket)).user(Some(user)).pass(Some(password.to_owned()))
        };
        let mut conn = Conn::new(with("dba' pass")).await.expect("over the socket");
        let grants: Vec<String> = conn.query("SHOW GRANTS").await.expect("its own");
        assert!(grants.iter().any(|grant| grant.contains("WITH GRANT OPTION")), "{grants:?}");
        conn.query_drop("SET GLOBAL max_connections = @@max_connections").await.expect("it may do everything");
        assert_eq!(code(Conn::new(with("wrong")).await), DENIED);
        assert!(is_denied(Conn::new(member.address(user, "dba' pass")).await), "not over the network");
        assert!(member.probe().await.position.is_empty(), "made without a trace in the binary log");
        member.instance.kill().await;
    }
}

async fn nothing_is_open(servers: Servers) {
    let Some(programs) = servers.programs() else { return };
    let member = Member::new(programs, |_| {});
    member.provision().await;
    member.instance.provision().await.expect("again: nothing to do");
    member.instance.start().await.expect("start");
    let attempts = [
        ("root", ""),
        ("root", ADMIN_PASSWORD),
        ("cotton", ""),
        ("cotton", ADMIN_PASSWORD), // the right one, but over TCP
        ("cotton_repl", ""),
        ("cotton_repl", "wrong"),
        (USER, ""),
        (USER, "wrong"),
        ("", ""),
        ("mysql.sys", ""),
        ("mariadb.sys", ""),
    ];
    for (user, password) in attempts {
        let attempt = Conn::new(member.address(user, password)).await;
        assert!(is_denied(attempt), "{user} {password}");
    }
    for (user, password) in [(USER, USER_PASSWORD), ("cotton_repl", REPL_PASSWORD)] {
        let conn = Conn::new(member.address(user, password)).await;
        conn.expect("the right password").disconnect().await.expect("disconnect");
    }
    let mut admin = member.admin().await;
    let accounts: Vec<(String, String)> =
        admin.query("SELECT User, Host FROM mysql.user ORDER BY User, Host").await.expect("accounts");
    let mut accounts: Vec<String> = accounts.into_iter().map(|(user, host)| format!("{user}@{host}")).collect();
    accounts.retain(|account| !account.starts_with("mysql.") && !account.starts_with("mariadb."));
    assert_eq!(accounts, ["cotton@localhost", "cotton_repl@%", "orders@%", "root@localhost"]);
    let status = member.probe().await;
    assert!(status.position.is_empty(), "a fresh server has no history: {}", status.position);
    assert!(!status.writable && status.replication.is_none());

    // no secret in a file or in arguments
    let pid = member.instance.pid().expect("it runs");
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("proc");
    let cnf = std::fs::read_to_string(member.root().join("my.cnf")).expect("my.cnf");
    for secret in [ADMIN_PASSWORD, REPL_PASSWORD, USER_PASSWORD] {
        assert!(!arguments.contains(secret) && !cnf.contains(secret));
    }
    let uid = std::fs::metadata(format!("/proc/{pid}")).map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
    assert_ne!(uid.expect("proc"), 0, "not root");
    let left: Vec<_> = std::fs::read_dir(member.root().join("tmp")).expect("tmp").flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".secret")), "{left:?}");
}

async fn a_replica_refuses_the_users_writes(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    members[1].until_caught_up(&members[0]).await;
    let mut conn = members[1].client().await;
    let writes = ["INSERT INTO app.t VALUES (1, 'x')", "CREATE DATABASE other", "DROP TABLE app.t"];
    for sql in writes {
        let code = code(conn.query_drop(sql).await);
        assert!(matches!(code, 1290 | 1836), "{sql}: {code}");
    }
    let powers = [
        "SET GLOBAL read_only = 0",
        "SET SESSION sql_log_bin = 0",
        "FLUSH PRIVILEGES",
        "SHUTDOWN",
        "SELECT 1 INTO OUTFILE '/tmp/cotton-must-not-exist'",
        "SELECT LOAD_FILE('/etc/passwd') INTO @x; SELECT IF(@x IS NULL, 1, 0) FROM mysql.nowhere",
    ];
    for sql in powers {
        let code = code(conn.query_drop(sql).await);
        assert!(matches!(code, 1227 | 1290 | 1064 | 1045 | 1146 | 1142), "{sql}: {code}");
    }
    for sql in ["STOP SLAVE", "RESET SLAVE ALL", "RESET MASTER", "STOP REPLICA", "RESET BINARY LOGS AND GTIDS"] {
        let code = code(conn.query_drop(sql).await);
        assert!(matches!(code, 1227 | 1064 | 1045), "{sql}: {code}"); // 5.6 says 1045
    }
    assert!(members[1].probe().await.replication.is_some(), "still a replica");
}

async fn the_user_can_work(servers: Servers) {
    let Some(members) = cluster(servers, 1, 0).await else { return };
    let mut conn = members[0].client().await;
    let work = [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.a (id INT PRIMARY KEY, n INT)",
        "CREATE VIEW shop.v AS SELECT id FROM shop.a",
        "CREATE FUNCTION shop.f(x INT) RETURNS INT RETURN x + 1",
        "CREATE TRIGGER shop.t BEFORE INSERT ON shop.a FOR EACH ROW SET NEW.n = shop.f(NEW.id)",
        "INSERT INTO shop.a (id) VALUES (1), (2)",
        "CREATE DEFINER = CURRENT_USER SQL SECURITY DEFINER VIEW shop.w AS SELECT id FROM shop.v",
        "CREATE PROCEDURE shop.p() INSERT IGNORE INTO shop.a (id) VALUES (4)",
        "CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DO CALL shop.p()",
        "SELECT * FROM shop.w",
        "CALL shop.p()",
        "DROP EVENT shop.e",
        "CREATE TEMPORARY TABLE shop.tmp (i INT)",
        "LOCK TABLES shop.a READ",
        "UNLOCK TABLES",
        "ALTER TABLE shop.a ADD COLUMN text VARCHAR(10)",
        "TRUNCATE TABLE shop.a",
        "SHOW PROCESSLIST",
    ];
    for sql in work {
        conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    // but not the server's own tables
    for sql in ["DELETE FROM mysql.user", "CREATE TABLE mysql.x (i INT)", "UPDATE mysql.user SET User = 'x'"] {
        let code = code(conn.query_drop(sql).await);
        assert!(matches!(code, 1142 | 1044 | 1045 | 1227 | 1288 | 1348 | 1471), "{sql}: {code}");
    }
}
