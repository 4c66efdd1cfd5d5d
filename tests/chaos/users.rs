//! What users of the cluster do, with the account that it gives them: nothing that is forbidden to them works, and nothing
//! that they are allowed may cost a commit or keep the cluster from healing.

use crate::rng::Rng;
use crate::scene::Scene;
use cotton_core::Endpoint;
use cotton_tests::Failure;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::time::Duration;
use tokio::net::TcpStream;

/// Rows of a table without a key, each of which an applier looks for in all of it.
const ROWS: u64 = 4_000;
/// How long a statement may take before the user gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One thing that users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// Transactions that were begun on replicas and rest: they hold what they have read.
    IdleReaders,
    /// `LOCK TABLES` on replicas, and what would be a global lock.
    LockTables,
    /// Changes of tables, one after another.
    Ddl,
    /// Updates of a table without a key.
    UpdateWithoutKey,
    /// Statements on replicas that could write there.
    Errants,
    /// As many idle connections to every member as are let in.
    Herd,
    /// Temporary tables, on every member.
    TemporaryTables,
    /// A transaction with many rows that rests before it is committed.
    BigTransaction,
    /// Row locks that are held on the primary.
    RowLocks,
    /// Events that write every second.
    Events,
    /// Many tables are made, and dropped.
    ManyTables,
    /// A distributed transaction is prepared, and whoever did that leaves.
    Prepared,
    /// Idle connections to the API.
    HerdAtTheApi,
}

impl User {
    pub(crate) const ALL: [Self; 13] = [
        Self::IdleReaders,
        Self::LockTables,
        Self::Ddl,
        Self::UpdateWithoutKey,
        Self::Errants,
        Self::Herd,
        Self::TemporaryTables,
        Self::BigTransaction,
        Self::RowLocks,
        Self::Events,
        Self::ManyTables,
        Self::Prepared,
        Self::HerdAtTheApi,
    ];

    /// Does it, for some seconds; what statements are answered does not matter.
    pub(crate) async fn act(self, scene: &Scene<'_>, mut rng: Rng) -> Result<(), Failure> {
        let for_a_while = rng.ms(2_000, 7_000);
        let primary = scene.before.primary()?.endpoint.clone();
        let replicas: Vec<Endpoint> = scene.before.replicas().map(|member| member.endpoint.clone()).collect();
        let everywhere: Vec<Endpoint> = scene.before.members.iter().map(|member| member.endpoint.clone()).collect();
        match self {
            Self::IdleReaders => {
                let twice: Vec<Endpoint> = replicas.iter().chain(&replicas).cloned().collect();
                let held = speak_everywhere(scene, &twice, &READING).await;
                scene.note(&format!("{} transactions rest on replicas", held.len()));
                tokio::time::sleep(for_a_while).await;
            }
            Self::LockTables => {
                let held = speak_everywhere(scene, &replicas, &LOCKING).await;
                scene.note(&format!("{} sessions on replicas lock tables", held.len()));
                tokio::time::sleep(for_a_while).await;
            }
            Self::Ddl => {
                scene.note("tables are changed");
                speak(scene, &primary, &ddl(&mut rng)).await;
            }
            Self::UpdateWithoutKey => {
                let times = 1 + rng.below(3);
                scene.note(&format!("{times} updates of {ROWS} rows without a key"));
                let update = "UPDATE chaos.keyless SET c = c + 1".to_owned();
                speak(scene, &primary, &vec![update; usize::try_from(times).unwrap_or(1)]).await;
            }
            Self::Errants => {
                let replica = rng.pick(&replicas).cloned().ok_or_else(|| Failure::new("there is no replica"))?;
                scene.note(&format!("statements at {replica} that could write there"));
                speak(scene, &replica, &errants()).await;
            }
            Self::Herd => {
                let held = herd(scene, &everywhere).await;
                scene.note(&format!("{} connections rest", held.len()));
                tokio::time::sleep(for_a_while).await;
            }
            Self::TemporaryTables => {
                scene.note("temporary tables are made everywhere");
                let _held = speak_everywhere(scene, &everywhere, &TEMPORARY).await;
                tokio::time::sleep(for_a_while / 2).await;
            }
            Self::BigTransaction => {
                let insert = "INSERT INTO chaos.side (a) SELECT a FROM chaos.side LIMIT 3000";
                scene.note("a transaction of many rows rests");
                if let Some(mut conn) = speak(scene, &primary, &["BEGIN", insert, insert]).await {
                    tokio::time::sleep(for_a_while / 2).await;
                    let _whatever = tokio::time::timeout(PATIENCE, conn.query_drop("COMMIT")).await;
                }
                speak(scene, &primary, &["DELETE FROM chaos.side WHERE id > 6000"]).await;
            }
            Self::RowLocks => {
                scene.note("rows are locked");
                let _held =
                    speak(scene, &primary, &["BEGIN", "SELECT * FROM chaos.accounts WHERE id < 20 FOR UPDATE"]).await;
                tokio::time::sleep(for_a_while / 2).await;
            }
            Self::Events => {
                scene.note("an event writes every second");
                let made = "CREATE EVENT IF NOT EXISTS chaos.tick ON SCHEDULE EVERY 1 SECOND DO \
                            INSERT INTO chaos.side (a) VALUES (1)";
                speak(scene, &primary, &[made]).await;
                tokio::time::sleep(for_a_while).await;
            }
            Self::Prepared => {
                scene.note("a distributed transaction is prepared");
                drop(speak(scene, &primary, &PREPARED).await);
                tokio::time::sleep(for_a_while / 4).await;
            }
            Self::HerdAtTheApi => {
                let address = scene.api.base().trim_start_matches("http://");
                let mut held = Vec::new();
                for _ in 0..300 {
                    held.extend(TcpStream::connect(address).await.ok());
                }
                scene.note(&format!("{} connections to the API rest", held.len()));
                tokio::time::sleep(for_a_while).await;
            }
            Self::ManyTables => {
                let (name, tables) = (rng.below(1_000), 40);
                scene.note(&format!("{tables} tables are made, and some are dropped"));
                let make = |n| format!("CREATE TABLE IF NOT EXISTS chaos.m{name}_{n} (id INT PRIMARY KEY, a INT)");
                let drop = |n| format!("DROP TABLE chaos.m{name}_{n}");
                let said: Vec<String> = (0..tables).map(make).chain((0..tables / 2).map(drop)).collect();
                speak(scene, &primary, &said).await;
            }
        }
        Ok(())
    }
}

/// Makes the tables that users work with.
pub(crate) async fn prepare(scene: &Scene<'_>) -> Result<(), Failure> {
    let primary = scene.before.primary()?.endpoint.clone();
    let rows = |first: u64| {
        let rows: Vec<String> = (first..first + 500).map(|n| format!("({n},'row {n}',0)")).collect();
        format!("INSERT INTO chaos.keyless VALUES {}", rows.join(","))
    };
    let mut said = vec![
        "CREATE TABLE chaos.keyless (a INT, b VARCHAR(40), c INT)".to_owned(),
        "CREATE TABLE chaos.side (id INT PRIMARY KEY AUTO_INCREMENT, a INT)".to_owned(),
        "INSERT INTO chaos.side (a) VALUES (1),(2),(3)".to_owned(),
    ];
    said.extend((0..ROWS).step_by(500).map(rows));
    for _ in 0..10 {
        said.push("INSERT INTO chaos.side (a) SELECT a FROM chaos.side".to_owned());
    }
    for statement in said {
        scene.ledger.client().run(&primary, &statement).await?;
    }
    Ok(())
}

/// What must not go on when the members are compared.
pub(crate) async fn end(scene: &Scene<'_>, primary: &Endpoint) -> Result<(), Failure> {
    let client = scene.ledger.client();
    client.run(primary, "DROP EVENT IF EXISTS chaos.tick").await?;
    let mut conn = client.connect(primary).await?;
    let prepared: Vec<mysql_async::Row> = conn.query("XA RECOVER").await?;
    if !prepared.is_empty() {
        conn.query_drop("XA COMMIT 'chaos'").await?;
    }
    Ok(())
}

/// As many connections as each of these lets in.
async fn herd(scene: &Scene<'_>, to: &[Endpoint]) -> Vec<Conn> {
    const MANY: usize = 80;
    let mut held = Vec::new();
    for endpoint in to {
        for _ in 0..MANY {
            let Ok(conn) = scene.ledger.client().connect(endpoint).await else { break };
            held.push(conn);
        }
    }
    held
}

/// As [`speak`], on a connection to each of these.
async fn speak_everywhere(scene: &Scene<'_>, to: &[Endpoint], said: &[&str]) -> Vec<Conn> {
    let mut held = Vec::new();
    for endpoint in to {
        held.extend(speak(scene, endpoint, said).await);
    }
    held
}

/// Says all this on a connection of its own, which is then left as it is; a user that is not answered gives up.
async fn speak<T: AsRef<str>>(scene: &Scene<'_>, to: &Endpoint, said: &[T]) -> Option<Conn> {
    let spoken = async {
        let mut conn = scene.ledger.client().connect(to).await.ok()?;
        for statement in said {
            match conn.query_drop(statement.as_ref()).await {
                Ok(()) | Err(mysql_async::Error::Server(_)) => {} // refused, which is an answer
                Err(_) => return None,
            }
        }
        Some(conn)
    };
    tokio::time::timeout(PATIENCE, spoken).await.ok().flatten()
}

/// A table from its making to its end, and changes of those that are written to.
fn ddl(rng: &mut Rng) -> [String; 10] {
    let name = format!("c{}", rng.below(1_000_000));
    [
        format!("ALTER TABLE chaos.side ADD COLUMN {name} INT DEFAULT 7"),
        format!("CREATE TABLE chaos.{name} (id INT PRIMARY KEY) AS SELECT 1 AS id"),
        format!("ALTER TABLE chaos.moves ADD INDEX {name} (amount), ALGORITHM = COPY"),
        format!("INSERT INTO chaos.side (a) VALUES ({})", rng.below(1_000)),
        format!("RENAME TABLE chaos.{name} TO chaos.{name}x"),
        format!("ALTER TABLE chaos.moves DROP INDEX {name}"),
        format!("CREATE OR REPLACE VIEW chaos.view AS SELECT * FROM chaos.{name}x"),
        format!("TRUNCATE TABLE chaos.{name}x"),
        format!("DROP TABLE chaos.{name}x"),
        format!("ALTER TABLE chaos.side DROP COLUMN {name}"),
    ]
}

/// Holds what it has read.
const READING: [&str; 3] = ["BEGIN", "SELECT COUNT(*) FROM chaos.moves", "SELECT * FROM chaos.side LIMIT 1"];

/// Locks of tables, and what would lock all of them.
const LOCKING: [&str; 3] = [
    "FLUSH TABLES WITH READ LOCK",
    "LOCK TABLES chaos.moves READ, chaos.accounts READ, chaos.side WRITE",
    "SELECT GET_LOCK('cotton', 1)",
];

/// Outlives its session.
const PREPARED: [&str; 5] = [
    "XA START 'chaos'",
    "INSERT INTO chaos.side (a) VALUES (5)",
    "UPDATE chaos.side SET a = a + 1 WHERE id = 1",
    "XA END 'chaos'",
    "XA PREPARE 'chaos'",
];

/// All that can be done with a table of one's own; the last one is kept.
const TEMPORARY: [&str; 8] = [
    "CREATE TEMPORARY TABLE chaos.t (a INT PRIMARY KEY, b TEXT)",
    "INSERT INTO chaos.t SELECT id, id FROM chaos.moves LIMIT 1000",
    "ALTER TABLE chaos.t ADD COLUMN c INT",
    "UPDATE chaos.t, chaos.side SET c = side.a",
    "TRUNCATE TABLE chaos.t",
    "DROP TEMPORARY TABLE chaos.t",
    "DROP TEMPORARY TABLE IF EXISTS chaos.nosuch",
    "CREATE TEMPORARY TABLE chaos.held AS SELECT * FROM chaos.side",
];

/// What a read-only server may still write to its binary log, or should refuse.
fn errants() -> Vec<&'static str> {
    vec![
        "ANALYZE TABLE chaos.nosuch",
        "ANALYZE TABLE chaos.side",
        "OPTIMIZE TABLE chaos.nosuch",
        "OPTIMIZE TABLE chaos.side",
        "REPAIR TABLE chaos.nosuch",
        "CHECK TABLE chaos.side",
        "FLUSH TABLES",
        "FLUSH TABLES chaos.side",
        "FLUSH BINARY LOGS",
        "FLUSH STATUS",
        "CREATE TEMPORARY TABLE chaos.t (a INT)",
        "DROP TEMPORARY TABLE IF EXISTS chaos.t",
        "DROP TEMPORARY TABLE IF EXISTS chaos.nosuch",
        "DROP TABLE IF EXISTS chaos.nosuch",
        "INSERT INTO chaos.side (a) VALUES (1)",
        "CREATE DATABASE elsewhere",
        "SET SESSION sql_log_bin = OFF",
        "SET GLOBAL read_only = OFF",
        "SET SESSION gtid_domain_id = 7",
        "SET SESSION server_id = 77",
        "SET SESSION gtid_next = 'AUTOMATIC'",
        "SET STATEMENT max_statement_time = 1 FOR ANALYZE TABLE chaos.nosuch",
        "XA START 'chaos'",
        "XA END 'chaos'",
        "XA PREPARE 'chaos'",
        "XA COMMIT 'chaos'",
        "STOP SLAVE",
        "STOP REPLICA",
        "RESET MASTER",
        "PURGE BINARY LOGS BEFORE NOW()",
        "KILL 5",
        "SET PASSWORD = PASSWORD('other')",
        "GRANT ALL ON *.* TO CURRENT_USER()",
        "CREATE SEQUENCE chaos.s",
        "DO SLEEP(0.1)",
    ]
}
