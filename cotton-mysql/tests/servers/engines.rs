//! Tables without transactions: they cannot be made, or are named where a copy would lose them.

use crate::support::{Member, Servers, cluster, code, rows};
use cotton_core::ErrorKind;
use cotton_core::ports::mysql::MySql;
use mysql_async::prelude::Queryable;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;

on_each_server!(
    tables_without_transactions_are_refused,
    what_the_server_makes_for_itself_is_as_before,
    a_session_makes_no_table_in_memory_that_is_too_large_for_others,
    a_copy_that_would_lack_rows_is_refused,
    a_copy_has_the_rows_of_every_engine_that_it_can,
);

/// MySQL's and MariaDB's ways to say no to an engine, and to `CREATE TABLE ... SELECT` where that is no transaction.
const REFUSALS: [u16; 4] = [3161, 1290, 1286, 1786];

async fn engine(member: &Member, table: &str) -> Option<String> {
    let sql =
        format!("SELECT ENGINE FROM information_schema.tables WHERE TABLE_SCHEMA = 'app' AND TABLE_NAME = '{table}'");
    member.admin().await.query_first(sql).await.expect("tables")
}

/// A primary with the database `app`.
async fn primary(servers: Servers) -> Option<Member> {
    Some(cluster(servers, 1, 0).await?.remove(0))
}

async fn tables_without_transactions_are_refused(servers: Servers) {
    let Some(primary) = primary(servers).await else { return };
    let mut client = primary.client().await;
    // 5.6 has no way to refuse these
    let built_in = ["MyISAM", "MEMORY", "HEAP", "CSV", "MRG_MYISAM"];
    let engines = ["ARCHIVE", "BLACKHOLE", "FEDERATED", "Aria", "SPIDER", "CONNECT", "S3", "EXAMPLE", "NDB"];
    let engines = engines.iter().chain(built_in.iter().filter(|_| servers != Servers::MySql56));
    for engine_name in engines {
        if servers.is_mariadb() {
            // InnoDB in its place
            client.query_drop("SET sql_mode = DEFAULT").await.expect("a client's own business");
            for rest in ["", " SELECT 1 AS b", " PARTITION BY HASH(a) PARTITIONS 2"] {
                let sql =
                    format!("CREATE OR REPLACE TABLE app.x (a INT NOT NULL DEFAULT 0) ENGINE = {engine_name}{rest}");
                client.query_drop(&sql).await.expect(&sql);
                assert_eq!(engine(&primary, "x").await.as_deref(), Some("InnoDB"), "{sql}");
            }
            let sql = format!("CREATE OR REPLACE TEMPORARY TABLE app.scratch (a INT) ENGINE = {engine_name}");
            client.query_drop(&sql).await.expect(&sql);
            client.query_drop("SET sql_mode = CONCAT(@@sql_mode, ',NO_ENGINE_SUBSTITUTION')").await.expect("also");
        }
        for rest in ["", " SELECT 1 AS b"] {
            let sql = format!("CREATE TABLE app.y (a INT NOT NULL) ENGINE = {engine_name}{rest}");
            let refused = code(client.query_drop(&sql).await);
            assert!(REFUSALS.contains(&refused), "{refused}: {sql}");
        }
        let refused = code(client.query_drop(format!("ALTER TABLE app.t ENGINE = {engine_name}")).await);
        assert!(REFUSALS.contains(&refused), "{refused}: {engine_name}");
        assert_eq!(engine(&primary, "t").await.as_deref(), Some("InnoDB"));
    }
    if servers == Servers::MySql56 {
        return;
    }
    let copied = code(client.query_drop("CREATE TABLE app.x2 LIKE mysql.general_log").await);
    assert!(REFUSALS.contains(&copied) || copied == 1142, "{copied}"); // users cannot even read that
    // as dumps do
    client.query_drop("SET sql_mode = ''").await.expect("a client's own business");
    client.query_drop("CREATE TABLE app.y (a INT) ENGINE = MyISAM").await.expect("with another engine");
    assert_eq!(engine(&primary, "y").await.as_deref(), Some("InnoDB"));
    client.query_drop("SET default_storage_engine = MyISAM").await.expect("a client's own business");
    let _ = client.query_drop("CREATE TABLE app.z (a INT)").await; // MySQL refuses, MariaDB takes InnoDB
    assert!(engine(&primary, "z").await.is_none_or(|engine| engine == "InnoDB"));
    let name = if servers.is_mariadb() { "enforce_storage_engine" } else { "disabled_storage_engines" };
    for scope in ["SESSION", "GLOBAL", "PERSIST_ONLY"] {
        client.query_drop(format!("SET {scope} {name} = ''")).await.expect_err("not for users");
    }
}

async fn what_the_server_makes_for_itself_is_as_before(servers: Servers) {
    let Some(primary) = primary(servers).await else { return };
    let mut client = primary.client().await;
    client.query_drop("SET tmp_table_size = 1024").await.expect("a client's own business");
    client.query_drop("INSERT INTO app.t VALUES (1, 'x'), (2, 'y')").await.expect("insert");
    for _ in 0..8 {
        let sql = "INSERT INTO app.t SELECT id + (SELECT MAX(id) FROM app.t), REPEAT(text, 2) FROM (SELECT id, LEFT(text, 50) \
                   AS text FROM app.t) AS more";
        client.query_drop(sql).await.expect("double");
    }
    let groups: Vec<(String, u64)> = client
        .query("SELECT CAST(CONCAT(id, REPEAT(text, 100)) AS CHAR(10000)) AS k, COUNT(*) FROM app.t GROUP BY k ORDER BY 2, 1")
        .await
        .expect("on disk");
    assert_eq!(groups.len(), 512);
    client.query_drop("CREATE TEMPORARY TABLE app.scratch (a INT PRIMARY KEY)").await.expect("of a client");
    client.query_drop("INSERT INTO app.scratch VALUES (1)").await.expect("insert");
    client.query_drop("ANALYZE TABLE app.t").await.expect("statistics");
    if servers.is_mariadb() {
        client.query_drop("CREATE SEQUENCE app.s").await.expect("of InnoDB");
        client.query_drop("SELECT NEXT VALUE FOR app.s").await.expect("a number");
    }
    client
        .query_drop("CREATE TABLE app.p (a INT NOT NULL) PARTITION BY HASH(a) PARTITIONS 2")
        .await
        .expect("partitions");
    for sql in
        ["ALTER TABLE app.p ENGINE = InnoDB", "CREATE TABLE app.q LIKE app.p", "ALTER TABLE app.p REMOVE PARTITIONING"]
    {
        client.query_drop(sql).await.expect(sql);
    }
    let done: Vec<(String, String, String, String)> = client.query("OPTIMIZE TABLE app.q").await.expect("optimize");
    assert!(done.iter().all(|(_, _, kind, _)| kind != "error"), "{done:?}");
}

/// Appliers have the limit of their server: on a table that a session made larger, all of them stopped with error 1114.
async fn a_session_makes_no_table_in_memory_that_is_too_large_for_others(servers: Servers) {
    if servers == Servers::MySql97 {
        return; // makes none
    }
    let Some(primary) = primary(servers).await else { return };
    let mut client = primary.client().await;
    client.query_drop("SET SESSION max_heap_table_size = 1024 * 1024 * 1024").await.expect("as far as possible");
    let sql = "SELECT @@SESSION.max_heap_table_size, @@GLOBAL.max_heap_table_size";
    let limits: Option<(u64, u64)> = client.query_first(sql).await.expect("limits");
    assert!(limits.is_some_and(|(own, applier)| own <= applier), "{limits:?}");
}

/// Executes a statement with a MySQL server that has none of our settings.
fn by_another_server(member: &Member, statement: &str) {
    let data = member.root().join("data");
    let owner = std::fs::metadata(&data).expect("there is data");
    let script = member.dir.path().join("script.sql");
    std::fs::write(&script, format!("{statement}\nSHUTDOWN;\n")).expect("ours");
    let programs = member.config.programs.clone().expect("MySQL is not the system's");
    let mut server = std::process::Command::new(programs.join("mysqld"));
    server.args(["--no-defaults", "--skip-networking", "--skip-log-bin", "--mysqlx=OFF", "--secure-file-priv=NULL"]);
    server.arg(format!("--datadir={}", data.display())).arg(format!("--init-file={}", script.display()));
    server
        .arg(format!("--socket={}", data.join("s").display()))
        .arg(format!("--log-error={}", data.join("said.err").display()));
    let ended = server.uid(owner.uid()).gid(owner.gid()).status().expect("it runs");
    let said = std::fs::read_to_string(data.join("said.err")).unwrap_or_default();
    assert!(ended.success(), "{said}");
    std::fs::remove_file(data.join("said.err")).expect("its log");
}

/// As a server of old may have them, or one that overlooks them: a table of this engine with three rows.
async fn make_kept(servers: Servers, primary: &Member, engine_name: &str) {
    let mut admin = primary.admin().await;
    match servers {
        Servers::MariaDb | Servers::MariaDb118 => {
            // overlooked when it is named for partitions only
            let parts = format!("PARTITION BY HASH(a) (PARTITION p ENGINE = {engine_name})");
            let mut client = primary.client().await;
            client.query_drop(format!("CREATE TABLE app.kept (a INT NOT NULL) {parts}")).await.expect("overlooked");
        }
        Servers::MySql97 => {
            // what is disabled is said in the file that is written at each start: so by another server, without that
            primary.instance.stop(20_000).await;
            by_another_server(primary, &format!("CREATE TABLE app.kept (a INT) ENGINE = {engine_name};"));
            primary.instance.start().await.expect("start");
            primary.promote(0).await;
        }
        Servers::MySql56 => {
            admin.query_drop(format!("CREATE TABLE app.kept (a INT) ENGINE = {engine_name}")).await.expect("made");
        }
    }
    primary.client().await.query_drop("INSERT INTO app.kept VALUES (1), (2), (3)").await.expect("insert");
    assert_eq!(engine(primary, "kept").await.as_deref(), Some(engine_name));
}

async fn a_copy_that_would_lack_rows_is_refused(servers: Servers) {
    if servers == Servers::MySql56 {
        return; // refuses every copy
    }
    let Some(primary) = primary(servers).await else { return };
    make_kept(servers, &primary, if servers.is_mariadb() { "MEMORY" } else { "MyISAM" }).await;
    let fresh = Member::running(servers).await.expect("as the other");
    let before = fresh.probe().await.position;
    let error = fresh.instance.copy_from(&primary.endpoint).await.expect_err("rows would be lost");
    let text = error.chain();
    assert!(text.contains("app.kept (") && text.contains("ENGINE = InnoDB"), "{text}");
    if servers == Servers::MySql97 {
        assert_eq!(error.kind, ErrorKind::Unsupported, "{text}");
    }
    fresh.instance.start().await.expect("its own data is there");
    assert_eq!(fresh.probe().await.position, before);

    // done as it says
    primary.client().await.query_drop("ALTER TABLE app.kept ENGINE = InnoDB").await.expect("alter");
    fresh.instance.copy_from(&primary.endpoint).await.expect("copy");
    let kept: Vec<u64> = fresh.client().await.query("SELECT a FROM app.kept ORDER BY a").await.expect("rows");
    assert_eq!(kept, [1, 2, 3]);
}

/// MariaDB's backup has these tables, too, and the position fits while they are written.
async fn a_copy_has_the_rows_of_every_engine_that_it_can(servers: Servers) {
    if !servers.is_mariadb() {
        return;
    }
    let Some(members) = cluster(servers, 2, 1).await else { return };
    for engine_name in ["MyISAM", "Aria"] {
        make_kept(servers, &members[0], engine_name).await;
        let mut client = members[0].client().await;
        let writer = tokio::spawn(async move {
            for a in 4..20_000_u64 {
                if client.query_drop(format!("INSERT INTO app.kept VALUES ({a})")).await.is_err() {
                    return;
                }
            }
        });
        let fresh = Member::running(servers).await.expect("as the others");
        for donor in [&members[1], &members[0]] {
            fresh.instance.copy_from(&donor.endpoint).await.expect("copy");
            fresh.attach(&members[0], true).await;
        }
        writer.abort();
        let _ = writer.await;
        fresh.until_caught_up(&members[0]).await;
        members[1].until_caught_up(&members[0]).await;
        let sql = "SELECT COUNT(*), COUNT(DISTINCT a), SUM(a) FROM app.kept";
        let mut seen: Vec<Option<(u64, u64, u64)>> = Vec::new();
        for member in [&members[0], &members[1], &fresh] {
            seen.push(member.client().await.query_first(sql).await.expect("sums"));
        }
        assert!(seen.iter().all(|sums| *sums == seen[0]), "{engine_name}: {seen:?}");
        assert!(rows(&mut fresh.client().await).await.is_empty());
        fresh.instance.kill().await;
        members[0].client().await.query_drop("DROP TABLE app.kept").await.expect("drop");
        members[1].until_caught_up(&members[0]).await;
    }
}
