//! Statements of a cluster's user on a replica: none writes a transaction into the replica's own binary log, which the primary
//! would lack, but for those that no server can be told to refuse. These are known by name here, so that one more is noticed.

use crate::support::{Member, Servers, cluster, until};
use mysql_async::prelude::Queryable;

on_each_server!(no_statement_on_a_replica_writes_a_transaction_but_those_that_are_known);

/// Made on the primary, so that there is something to try it on.
const PREPARED: &[&str] = &[
    "CREATE TABLE app.p (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2",
    "CREATE VIEW app.v AS SELECT id FROM app.t",
    "CREATE PROCEDURE app.r() SELECT 1",
    "CREATE EVENT app.e ON SCHEDULE EVERY 1 DAY DO SET @a = 1",
    "INSERT INTO app.t VALUES (1, 'x')",
];

const EVERYWHERE: &[&str] = &[
    "ANALYZE TABLE app.t",
    "ANALYZE TABLE app.nosuch",
    "ANALYZE TABLE app.v",
    "ANALYZE NO_WRITE_TO_BINLOG TABLE app.t",
    "OPTIMIZE TABLE app.t",
    "OPTIMIZE TABLE app.nosuch",
    "REPAIR TABLE app.t",
    "REPAIR TABLE app.nosuch",
    "ALTER TABLE app.p ANALYZE PARTITION ALL",
    "ALTER TABLE app.p OPTIMIZE PARTITION ALL",
    "ALTER TABLE app.p REPAIR PARTITION ALL",
    "ALTER TABLE app.p CHECK PARTITION ALL",
    "CHECK TABLE app.t",
    "CHECKSUM TABLE app.t",
    "CACHE INDEX app.t IN default",
    "LOAD INDEX INTO CACHE app.t",
    "FLUSH TABLES",
    "FLUSH TABLES app.t",
    "FLUSH LOCAL TABLES app.t",
    "FLUSH TABLES app.t FOR EXPORT",
    "FLUSH LOGS",
    "FLUSH PRIVILEGES",
    "FLUSH STATUS",
    "FLUSH HOSTS",
    "FLUSH USER_RESOURCES",
    "RESET QUERY CACHE",
    "CREATE TEMPORARY TABLE app.tmp (i INT)",
    "CREATE TEMPORARY TABLE app.tmp (i INT); INSERT INTO app.tmp VALUES (1); TRUNCATE TABLE app.tmp; DROP TABLE app.tmp",
    "CREATE TEMPORARY TABLE app.tmp (i INT); DROP TEMPORARY TABLE app.tmp",
    "CREATE TEMPORARY TABLE app.tmp (i INT); ALTER TABLE app.tmp ADD COLUMN j INT; ANALYZE TABLE app.tmp",
    "CREATE TEMPORARY TABLE app.tmp (i INT) ENGINE = MyISAM; INSERT INTO app.tmp SELECT id FROM app.t",
    "CREATE TEMPORARY TABLE app.tmp LIKE app.t",
    "CREATE TEMPORARY TABLE app.tmp AS SELECT * FROM app.t",
    "CREATE TEMPORARY TABLE app.tmp (i INT); BEGIN; INSERT INTO app.tmp VALUES (1); COMMIT",
    "CREATE TEMPORARY TABLE app.tmp (i INT); BEGIN; INSERT INTO app.tmp VALUES (1); ROLLBACK",
    "DROP TEMPORARY TABLE IF EXISTS app.nosuch",
    "DROP TEMPORARY TABLE IF EXISTS nosuch.nosuch",
    "DROP TABLE IF EXISTS app.nosuch",
    "DROP VIEW IF EXISTS app.nosuch",
    "DROP DATABASE IF EXISTS nosuch",
    "DROP PROCEDURE IF EXISTS app.nosuch",
    "DROP TRIGGER IF EXISTS app.nosuch",
    "DROP EVENT IF EXISTS app.nosuch",
    "CREATE TABLE IF NOT EXISTS app.t (id INT)",
    "CREATE DATABASE IF NOT EXISTS app",
    "CREATE TABLE app.x (i INT)",
    "CREATE TABLE app.x LIKE app.t",
    "CREATE TABLE app.x AS SELECT * FROM app.t",
    "INSERT INTO app.t VALUES (2, 'x')",
    "INSERT IGNORE INTO app.t VALUES (1, 'x')",
    "UPDATE app.t SET id = id WHERE FALSE",
    "DELETE FROM app.t WHERE FALSE",
    "DELETE FROM app.t LIMIT 0",
    "REPLACE INTO app.t VALUES (1, 'x')",
    "TRUNCATE TABLE app.t",
    "ALTER TABLE app.t ADD COLUMN c INT",
    "ALTER TABLE app.t COMMENT = ''",
    "RENAME TABLE app.t TO app.u",
    "CREATE INDEX i ON app.t (text)",
    "ALTER EVENT app.e DISABLE",
    "ALTER EVENT app.e ENABLE",
    "DROP EVENT app.e",
    "CREATE EVENT app.f ON SCHEDULE EVERY 1 DAY DO SET @a = 1",
    "ALTER PROCEDURE app.r COMMENT 'x'",
    "ALTER DATABASE app CHARACTER SET utf8mb4",
    "CREATE OR REPLACE VIEW app.v AS SELECT 2",
    "CALL app.r()",
    "SET PASSWORD = PASSWORD('x')",
    "GRANT SELECT ON app.* TO orders@'%'",
    "REVOKE SELECT ON app.* FROM orders@'%'",
    "BEGIN; SELECT * FROM app.t FOR UPDATE; COMMIT",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT; COMMIT",
    "BEGIN; SAVEPOINT a; ROLLBACK TO SAVEPOINT a; COMMIT",
    "LOCK TABLES app.t READ; UNLOCK TABLES",
    "LOCK TABLES app.t WRITE; UNLOCK TABLES",
    "HANDLER app.t OPEN; HANDLER app.t CLOSE",
    "XA START 'x'; XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'",
    "XA START 'x'; XA END 'x'; XA PREPARE 'x'; XA ROLLBACK 'x'",
    "XA START 'x'; SELECT * FROM app.t FOR UPDATE; XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'",
    "XA START 'x'; XA END 'x'; XA COMMIT 'x' ONE PHASE",
    "PREPARE s FROM 'ANALYZE TABLE app.t'",
    "KILL CONNECTION_ID()",
    "KILL QUERY CONNECTION_ID()",
    "DO GET_LOCK('x', 0)",
    "SELECT RELEASE_LOCK('x')",
    "SET @a = 1",
    "SET SESSION sql_mode = ''",
    "SET autocommit = 0",
    "HELP 'x'",
    "USE app",
];

const MARIADB: &[&str] = &[
    "ANALYZE TABLE app.t PERSISTENT FOR ALL",
    "ANALYZE UPDATE app.t SET id = id WHERE FALSE",
    "ANALYZE FORMAT=JSON DELETE FROM app.t WHERE FALSE",
    "REPAIR VIEW app.v",
    "CHECK VIEW app.v",
    "CHECK TABLE app.t FOR UPGRADE",
    "CREATE OR REPLACE TEMPORARY TABLE app.tmp (i INT); CREATE OR REPLACE TEMPORARY TABLE app.tmp (j INT)",
    "CREATE TEMPORARY SEQUENCE app.ts; SELECT NEXTVAL(app.ts)",
    "SELECT NEXTVAL(app.s)",
    "SELECT SETVAL(app.s, 100)",
    "ALTER SEQUENCE app.s RESTART",
    "SET STATEMENT max_statement_time = 1 FOR ANALYZE TABLE app.t",
    "SET STATEMENT max_statement_time = 1 FOR SELECT 1",
    "BEGIN NOT ATOMIC SELECT 1; END",
    "EXECUTE IMMEDIATE 'SELECT 1'",
    "ALTER USER USER() IDENTIFIED BY 'x'",
    "SET PASSWORD = 'x'",
    "SET ROLE NONE",
    "SET DEFAULT ROLE NONE",
    "DROP TEMPORARY SEQUENCE IF EXISTS app.nosuch",
    "DROP SEQUENCE IF EXISTS app.nosuch",
    "DROP PACKAGE IF EXISTS app.nosuch",
    "ALTER TABLE IF EXISTS app.nosuch ADD COLUMN c INT",
    "RENAME TABLE IF EXISTS app.nosuch TO app.other",
    "FLUSH QUERY CACHE",
    "FLUSH TABLE_STATISTICS",
    "INSTALL SONAME 'ha_connect'",
    "SHUTDOWN",
];

const MYSQL_9_7: &[&str] = &[
    "ANALYZE TABLE app.t UPDATE HISTOGRAM ON text",
    "ANALYZE TABLE app.t DROP HISTOGRAM ON text",
    "EXPLAIN ANALYZE SELECT * FROM app.t",
    "CREATE TEMPORARY TABLE app.tmp (i INT) START TRANSACTION",
    "ALTER USER USER() IDENTIFIED BY 'x'",
    "ALTER USER USER() DISCARD OLD PASSWORD",
    "SET PASSWORD = 'x'",
    "SET ROLE NONE",
    "SET DEFAULT ROLE NONE TO orders@'%'",
    "DROP USER IF EXISTS nosuch@'%'",
    "DROP ROLE IF EXISTS nosuch",
    "DROP SPATIAL REFERENCE SYSTEM IF EXISTS 9999999",
    "DROP RESOURCE GROUP nosuch",
    "DROP SERVER IF EXISTS nosuch",
    "IMPORT TABLE FROM 'x.sdi'",
    "FLUSH OPTIMIZER_COSTS",
    "FLUSH ENGINE LOGS",
    "FLUSH ERROR LOGS",
    "RESET PERSIST",
    "SET RESOURCE GROUP USR_default",
    "TABLE app.t",
    "RESTART",
    "SHUTDOWN",
];

/// Statements that write a transaction, and that no privilege or setting keeps somebody from who may read and write tables.
/// None changes a row. See `docs/failover.md`.
fn known(servers: Servers) -> &'static [&'static str] {
    match servers {
        Servers::MariaDb => &[], // 10.11 writes what succeeded only
        Servers::MariaDb118 => &[
            "ANALYZE TABLE app.nosuch",
            "ANALYZE TABLE app.v",
            "REPAIR TABLE app.nosuch",
            "FLUSH STATUS",
            "CREATE TEMPORARY TABLE app.tmp (i INT); ALTER TABLE app.tmp ADD COLUMN j INT; ANALYZE TABLE app.tmp",
            "ANALYZE TABLE app.t PERSISTENT FOR ALL",
        ],
        Servers::MySql97 => &[
            "ANALYZE TABLE app.nosuch",
            "ANALYZE TABLE app.v",
            "REPAIR TABLE app.t",
            "REPAIR TABLE app.nosuch",
            "CREATE TEMPORARY TABLE app.tmp (i INT); ALTER TABLE app.tmp ADD COLUMN j INT; ANALYZE TABLE app.tmp",
            "ANALYZE TABLE app.t UPDATE HISTOGRAM ON text",
            "ANALYZE TABLE app.t DROP HISTOGRAM ON text",
        ],
        // and temporary tables, whose end is written, too, some when their session has ended
        Servers::MySql56 => &[
            "ANALYZE TABLE app.nosuch",
            "ANALYZE TABLE app.v",
            "REPAIR TABLE app.t",
            "REPAIR TABLE app.nosuch",
            "DROP TEMPORARY TABLE IF EXISTS app.nosuch",
            "DROP TEMPORARY TABLE IF EXISTS nosuch.nosuch",
            "ALTER DATABASE app CHARACTER SET utf8mb4",
        ],
    }
}

/// What it has written itself, in the server's notation: what the primary does meanwhile comes by replication.
async fn written(member: &Member) -> Vec<String> {
    let origin = member.probe().await.origin;
    let mut admin = member.admin().await;
    let sql = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('gtid_binlog_state', 'gtid_executed')";
    let rows: Vec<(String, String)> = admin.query(sql).await.expect("variables");
    let all = rows.into_iter().map(|row| row.1).collect::<String>().to_ascii_lowercase();
    let (uuid, server) = (origin.to_ascii_lowercase(), format!("-{origin}-"));
    let parts = all.split(',').map(str::trim);
    parts.filter(|part| part.starts_with(&uuid) || part.contains(&server)).map(str::to_owned).collect()
}

async fn no_statement_on_a_replica_writes_a_transaction_but_those_that_are_known(servers: Servers) {
    let Some(members) = cluster(servers, 2, 0).await else { return };
    let (primary, replica) = (&members[0], &members[1]);
    let mut conn = primary.client().await;
    for sql in PREPARED {
        conn.query_drop(*sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let own = match servers {
        Servers::MariaDb | Servers::MariaDb118 => {
            conn.query_drop("CREATE SEQUENCE app.s").await.expect("sequence");
            MARIADB
        }
        Servers::MySql97 => MYSQL_9_7,
        Servers::MySql56 => &[],
    };
    replica.until_caught_up(primary).await;
    let mut before = written(replica).await;
    let mut wrote = Vec::new();
    for statements in EVERYWHERE.iter().chain(own) {
        if let Ok(mut client) = replica.try_client().await {
            for sql in statements.split("; ") {
                // refused or not: what counts is what it leaves
                let _answer = client.query_drop(sql).await;
            }
            let _closed = client.disconnect().await;
        }
        let after = written(replica).await;
        if after != before {
            wrote.push(*statements);
        }
        before = after;
    }
    assert_eq!(written(replica).await, before);
    if servers == Servers::MySql56 {
        wrote.retain(|statements| !statements.starts_with("CREATE TEMPORARY TABLE"));
    }
    assert_eq!(wrote, known(servers), "{servers:?}");
    primary.client().await.query_drop("INSERT INTO app.t VALUES (7, 'x')").await.expect("insert");
    if servers == Servers::MariaDb118 {
        // the transaction has a number that the replica used itself
        until("stopped", || async {
            let error = replica.probe().await.replication.and_then(|replication| replication.error);
            error.is_some_and(|error| error.contains("out-of-order"))
        })
        .await;
    } else {
        replica.until_has(&[1, 7].into()).await;
    }
}
