//! Statements of a cluster's user that must be refused: they reach for accounts, files, the server's settings or what keeps
//! commits. Each is tried on an open primary, where nothing but the privilege stands in its way.

use crate::support::{Member, Servers, USER, cluster, code};
use cotton_core::ports::mysql::MySql;
use mysql_async::prelude::Queryable;

on_each_server!(
    no_statement_reaches_beyond_the_databases,
    files_stay_in_the_data_directory,
    no_database_takes_the_place_of_a_file
);

/// On every server.
const EVERYWHERE: &[&str] = &[
    // accounts
    "CREATE USER x@'%' IDENTIFIED BY 'x'",
    "DROP USER cotton_repl@'%'",
    "DROP USER cotton@localhost",
    "RENAME USER root@localhost TO root@'%'",
    "SET PASSWORD FOR cotton_repl@'%' = '*0000000000000000000000000000000000000000'",
    "GRANT ALL PRIVILEGES ON *.* TO orders@'%'",
    "GRANT SELECT ON app.* TO cotton_repl@'%'",
    "GRANT SUPER ON *.* TO orders@'%'",
    "GRANT PROXY ON cotton@localhost TO orders@'%'",
    "REVOKE ALL PRIVILEGES, GRANT OPTION FROM cotton@localhost",
    "SHOW GRANTS FOR cotton@localhost",
    // the server's own tables
    "SELECT * FROM mysql.user",
    "SELECT * FROM mysql.db",
    "INSERT INTO mysql.func VALUES ('f', 0, 'x.so', 'function')",
    "INSERT INTO mysql.plugin VALUES ('f', 'x.so')",
    "DELETE FROM mysql.db",
    "TRUNCATE TABLE mysql.db",
    "DROP TABLE mysql.db",
    "ALTER TABLE mysql.db COMMENT = 'x'",
    "RENAME TABLE mysql.db TO app.db",
    "CREATE TABLE mysql.x (i INT)",
    "CREATE VIEW mysql.v AS SELECT 1",
    "CREATE PROCEDURE mysql.p() SELECT 1",
    "CREATE EVENT mysql.e ON SCHEDULE EVERY 1 SECOND DO SET @a = 1",
    "CREATE TEMPORARY TABLE mysql.t (i INT)",
    "LOCK TABLES mysql.db WRITE",
    "OPTIMIZE TABLE mysql.db",
    "ANALYZE TABLE mysql.db",
    "DROP DATABASE mysql",
    "ALTER DATABASE mysql CHARACTER SET latin1",
    "UPDATE performance_schema.setup_consumers SET ENABLED = 'YES'",
    // somebody else's name
    "CREATE DEFINER = cotton@localhost VIEW app.v AS SELECT 1",
    "CREATE DEFINER = root@localhost PROCEDURE app.p() SELECT 1",
    "CREATE DEFINER = cotton@localhost FUNCTION app.f() RETURNS INT RETURN 1",
    "CREATE DEFINER = cotton@localhost EVENT app.e ON SCHEDULE EVERY 1 SECOND DO SET @a = 1",
    "CREATE DEFINER = cotton@localhost TRIGGER app.r BEFORE INSERT ON app.t FOR EACH ROW SET @a = 1",
    // code
    "INSTALL PLUGIN x SONAME 'x.so'",
    "UNINSTALL PLUGIN x",
    "CREATE FUNCTION f RETURNS INTEGER SONAME 'x.so'",
    "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'x')",
    // settings
    "SET GLOBAL read_only = 0",
    "SET GLOBAL event_scheduler = 1",
    "SET GLOBAL max_connections = 1",
    "SET GLOBAL max_user_connections = 0",
    "SET GLOBAL local_infile = 1",
    "SET GLOBAL general_log = 1",
    "SET GLOBAL general_log_file = '/tmp/cotton-must-not-exist'",
    "SET GLOBAL slow_query_log_file = '/tmp/cotton-must-not-exist'",
    "SET GLOBAL init_connect = 'x'",
    "SET GLOBAL sync_binlog = 0",
    "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
    "SET SESSION sql_log_bin = 0",
    // files
    "SELECT 1 INTO OUTFILE '/tmp/cotton-must-not-exist'",
    "SELECT 1 INTO DUMPFILE '/tmp/cotton-must-not-exist'",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE app.t",
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE app.t",
    // binary logs, replication, the process
    "FLUSH TABLES",
    "FLUSH TABLES WITH READ LOCK",
    "FLUSH TABLES app.t WITH READ LOCK",
    "FLUSH PRIVILEGES",
    "FLUSH LOGS",
    "FLUSH STATUS",
    "FLUSH USER_RESOURCES",
    "PURGE BINARY LOGS BEFORE NOW()",
    "BINLOG 'xx'",
];

const MARIADB: &[&str] = &[
    "ALTER USER root@localhost ACCOUNT UNLOCK",
    "ALTER USER orders@'%' WITH MAX_USER_CONNECTIONS 0",
    "GRANT SELECT ON app.* TO newone@'%' IDENTIFIED BY 'x'",
    "SHOW CREATE USER cotton@localhost",
    "CREATE ROLE r",
    "SET ROLE root",
    "SELECT * FROM mysql.global_priv",
    "UPDATE mysql.global_priv SET Priv = '{}'",
    "UPDATE mysql.proc SET definer = 'cotton@localhost'",
    "DELETE FROM mysql.gtid_slave_pos",
    "SELECT * FROM performance_schema.threads",
    "SHOW ENGINE INNODB STATUS",
    "DROP DATABASE sys",
    "CREATE OR REPLACE VIEW sys.version AS SELECT 1",
    "DROP PROCEDURE sys.execute_prepared_stmt",
    "INSTALL SONAME 'ha_connect'",
    "SET GLOBAL gtid_slave_pos = ''",
    "SET GLOBAL rpl_semi_sync_master_enabled = 0",
    "SET SESSION gtid_domain_id = 7",
    "SET SESSION gtid_seq_no = 7000",
    "SET SESSION server_id = 7",
    "SET SESSION binlog_format = STATEMENT",
    "SET STATEMENT sql_log_bin = 0 FOR INSERT INTO app.t VALUES (1, 'x')",
    "BACKUP STAGE START",
    "SHUTDOWN",
    "RESET MASTER",
    "RESET SLAVE ALL",
    "STOP SLAVE",
    "CHANGE MASTER TO MASTER_HOST = 'x'",
];

const MYSQL_5_6: &[&str] = &[
    "SELECT * FROM mysql.slave_master_info",
    "UPDATE mysql.proc SET definer = 'cotton@localhost'",
    "SHOW ENGINE INNODB STATUS",
    "SET SESSION binlog_format = STATEMENT",
    "SET SESSION gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:7'",
    "RESET MASTER",
    "RESET SLAVE ALL",
    "STOP SLAVE",
    "CHANGE MASTER TO MASTER_HOST = 'x'",
];

const MYSQL_9_7: &[&str] = &[
    "ALTER USER root@localhost ACCOUNT UNLOCK",
    "ALTER USER orders@'%' WITH MAX_USER_CONNECTIONS 0",
    "ALTER USER 'mysql.sys'@localhost ACCOUNT UNLOCK",
    "SHOW CREATE USER cotton@localhost",
    "CREATE ROLE r",
    "SELECT * FROM mysql.slave_master_info",
    "SELECT * FROM mysql.gtid_executed",
    "UPDATE sys.sys_config SET value = '1'",
    "DROP DATABASE sys",
    "DROP PROCEDURE sys.execute_prepared_stmt",
    "CREATE PROCEDURE sys.p() SELECT 1",
    "TRUNCATE TABLE performance_schema.events_waits_history",
    "SET PERSIST max_connections = 1",
    "SET PERSIST_ONLY max_connections = 1",
    "SET GLOBAL super_read_only = 0",
    "SET GLOBAL rpl_semi_sync_source_enabled = 0",
    "SET SESSION gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:7'",
    "SET SESSION binlog_row_image = MINIMAL",
    "INSTALL COMPONENT 'file://component_validate_password'",
    "CREATE TABLESPACE s ADD DATAFILE 's.ibd'",
    "CREATE UNDO TABLESPACE s ADD DATAFILE 's.ibu'",
    "ALTER UNDO TABLESPACE innodb_undo_001 SET INACTIVE",
    "ALTER INSTANCE ROTATE INNODB MASTER KEY",
    "ALTER INSTANCE DISABLE INNODB REDO_LOG",
    "CLONE LOCAL DATA DIRECTORY = '/tmp/cotton-must-not-exist'",
    "CLONE INSTANCE FROM x@'127.0.0.1':3306 IDENTIFIED BY 'x'",
    "SET ROLE cotton@localhost",
    "LOCK INSTANCE FOR BACKUP",
    "FLUSH OPTIMIZER_COSTS",
    "RESET BINARY LOGS AND GTIDS",
    "RESET REPLICA ALL",
    "STOP REPLICA",
    "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'x'",
    "SHUTDOWN",
    "RESTART",
];

/// How servers say that somebody may not do that. No number of a syntax error, of something unknown, or of a server that is
/// read-only: those would hide that a statement could be done.
const REFUSED: [u16; 16] = [
    1044, // no right to this database
    1045, // no right, says 5.6 and LOAD DATA
    1142, // no right to this table
    1227, // a privilege is missing
    1290, // an option keeps it from that: secure_file_priv
    1370, // no right to this routine
    1419, // trigger of another definer without SUPER
    1698, // no right to hand on
    1131, // anonymous users only
    1148, // LOCAL is off
    3948, // the same
    1133, // no such account to change
    3530, // no such role of theirs
    4166, // LOCAL is off, says MariaDB
    1959, // no such role of theirs, says MariaDB
    3630, // two privileges are missing
];

fn of(servers: Servers) -> impl Iterator<Item = &'static str> {
    let own = match servers {
        Servers::MariaDb | Servers::MariaDb118 => MARIADB,
        Servers::MySql97 => MYSQL_9_7,
        Servers::MySql56 => MYSQL_5_6,
    };
    // From 11 on, MariaDB resets no more than the session's own counters by that.
    let harmless = move |sql: &&str| servers == Servers::MariaDb118 && *sql == "FLUSH STATUS";
    EVERYWHERE.iter().chain(own).copied().filter(move |sql| !harmless(sql))
}

async fn accounts(member: &Member) -> Vec<(String, String)> {
    let mut admin = member.admin().await;
    admin.query("SELECT User, Host FROM mysql.user ORDER BY User, Host").await.expect("accounts")
}

async fn no_statement_reaches_beyond_the_databases(servers: Servers) {
    let Some(members) = cluster(servers, 1, 0).await else { return };
    let before = accounts(&members[0]).await;
    let mut done = Vec::new();
    for sql in of(servers) {
        let mut conn = members[0].client().await; // one that was refused LOCAL may be out of step
        let attempt = conn.query_drop(sql).await;
        match &attempt {
            Err(mysql_async::Error::Server(error)) if REFUSED.contains(&error.code) => {}
            other => done.push(format!("{sql}: {other:?}")),
        }
    }
    assert!(done.is_empty(), "{servers:?} did not refuse {done:#?}");
    assert_eq!(accounts(&members[0]).await, before);
    assert!(members[0].probe().await.writable);
    let mut admin = members[0].admin().await;
    let file: Vec<Option<String>> = admin.query("SELECT @@GLOBAL.secure_file_priv").await.expect("variable");
    assert!(!file.contains(&Some(String::new())), "files are not open, whoever gets the privilege");
    assert!(!std::path::Path::new("/tmp/cotton-must-not-exist").exists());
    assert_eq!(
        code(Box::pin(members[0].client()).await.query_drop("SELECT load_file('/etc/passwd') + nothing").await),
        1054
    );
    let seen: Vec<String> =
        members[0].client().await.query("SELECT DISTINCT USER FROM information_schema.processlist").await.expect("own");
    if servers != Servers::MySql97 {
        assert_eq!(seen, [USER], "statements of others, and the passwords in them, are not seen");
    }
}

/// `DATA DIRECTORY` needs no privilege, so it must lead nowhere.
async fn files_stay_in_the_data_directory(servers: Servers) {
    let Some(members) = cluster(servers, 1, 0).await else { return };
    let elsewhere = crate::support::directory();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(elsewhere.path(), mode).expect("it is ours");
    let directory = elsewhere.path().display();
    let mut conn = members[0].client().await;
    for (name, engine) in [("i", "InnoDB"), ("m", "MyISAM"), ("a", "Aria")] {
        let options = format!("ENGINE = {engine} DATA DIRECTORY = '{directory}'");
        let partition = format!(
            "ENGINE = {engine} PARTITION BY RANGE (i) (PARTITION p VALUES LESS THAN (9) \
                                 DATA DIRECTORY = '{directory}')"
        );
        for (part, options) in [("", options), ("p", partition)] {
            // refused or ignored, as the server likes
            let _ = conn.query_drop(format!("CREATE TABLE app.{name}{part} (i INT) {options}")).await;
        }
    }
    let there: Vec<_> = std::fs::read_dir(elsewhere.path()).expect("a directory").flatten().collect();
    if servers == Servers::MySql56 {
        return; // its InnoDB knows no way to forbid that: there the server's uid is what keeps it in
    }
    assert!(there.is_empty(), "{there:?}");
}

/// Names that are refused, or can be had without harm: the server starts again.
async fn no_database_takes_the_place_of_a_file(servers: Servers) {
    let Some(members) = cluster(servers, 1, 0).await else { return };
    let names = [
        "aria_log_control",
        "ib_buffer_pool",
        "ib_logfile0",
        "ib_logfile1",
        "ib_logfile2",
        "ib_logfile101",
        "ibdata1",
        "ibdata2",
        "ibtmp1",
        "mariadb_backup_info",
        "mariadb_backup_checkpoints",
        "mariadb_backup_binlog_info",
        "tails",
        "undo001",
        "undo003",
        "undo_001",
        "undo_003",
        "xtrabackup_info",
        "xtrabackup_checkpoints",
        "xtrabackup_binlog_pos_innodb",
        "#mysql50#ib_logfile1",
        "#mysql50#aria_log.00000002",
        "#mysql50#binlog.000009",
        "#innodb_redo",
        "binlog",
        "relay",
        "mysql_upgrade_info",
    ];
    let mut client = members[0].client().await;
    let mut made = Vec::new();
    for name in names {
        if client.query_drop(format!("CREATE DATABASE `{name}`")).await.is_ok() {
            made.push(name);
        }
    }
    eprintln!("{servers:?}: {made:?}");
    assert!(made.contains(&"binlog"), "databases can be made");
    members[0].instance.kill().await;
    members[0].instance.start().await.expect("it starts again");
    for name in made {
        let listed: Option<String> =
            members[0].client().await.query_first(format!("SHOW DATABASES LIKE '{name}'")).await.expect("list");
        assert!(listed.is_some(), "{name} is still there");
    }
}
