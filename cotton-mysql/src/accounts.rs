//! The accounts of a server, made in its bootstrap and never again, so that no binary log holds them.
//!
//! - `root` exists because system tables want it; it is locked and nobody knows its password, unless those who run the
//!   machines want it for themselves.
//! - They may have one account, of any name, which can do everything and comes from `localhost` only.
//! - [`ADMIN`] can do everything and comes from `localhost` only: over the unix socket, since names are not resolved.
//! - [`REPLICATION`] is what replicas connect with.
//! - The cluster's user may do everything in its databases and hand that on; it may not write the server's own tables,
//!   and has none of the privileges that pass `read_only` or change it, skip the binary log, read or write files, stop
//!   the server or control replication.
//!
//! Before MySQL 8.0.16 a user who may create accounts can rename and take over any account. That is mischief by a
//! cluster's owner within the own cluster, which we document and do not try to prevent.

use crate::dialect::{Dialect, quote};
use crate::{Error, InstanceConfig};
use secrecy::ExposeSecret;

/// Manages the server over its unix socket.
pub(crate) const ADMIN: &str = "cotton";
/// Used by replicas.
pub(crate) const REPLICATION: &str = "cotton_repl";
/// Names that the cluster's user cannot have.
pub(crate) const RESERVED: [&str; 7] =
    [ADMIN, REPLICATION, "root", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema"];

/// Longest user name of MySQL 5.6, in bytes.
const OLD_USER_BYTES_MAX: usize = 16;

/// Statements, one a line, that leave exactly our accounts. `unknown` becomes the password that nobody knows.
pub(crate) fn bootstrap(dialect: Dialect, config: &InstanceConfig, unknown: &str) -> Result<String, Error> {
    let administrator = config.administrator.as_ref();
    let too_long = |user: &str| dialect.is_mysql_before((5, 7, 8)) && user.len() > OLD_USER_BYTES_MAX;
    if too_long(&config.user) || administrator.is_some_and(|account| too_long(&account.user)) {
        return Err(Error::Config(format!("user name must be at most {OLD_USER_BYTES_MAX} bytes on {dialect}")));
    }
    let user = quote(&config.user)?;
    let secret = |secret: &secrecy::SecretString| quote(secret.expose_secret());
    let passwords = &config.passwords;
    let (user_secret, admin_secret) = (secret(&passwords.user)?, secret(&passwords.admin)?);
    let repl_secret = secret(&passwords.replication)?;
    let root = administrator.filter(|account| account.user == "root");
    let root_secret = root.map_or_else(|| quote(unknown), |account| secret(&account.password))?;
    let mut lines: Vec<String> = Vec::new();
    let mut line = |text: &str| lines.push(format!("{text};"));

    if dialect.is_mariadb() {
        line("FLUSH PRIVILEGES"); // the bootstrap runs without the grant tables
        line("DELETE FROM mysql.global_priv WHERE User='' OR (User='root' AND Host<>'localhost')");
        line("DELETE FROM mysql.db");
        line("FLUSH PRIVILEGES");
    } else if dialect.is_mysql_before((5, 7, 6)) {
        line("FLUSH PRIVILEGES");
        line("DELETE FROM mysql.user WHERE User='' OR Host<>'localhost'");
        line("DELETE FROM mysql.db");
        line("FLUSH PRIVILEGES");
    }
    if dialect.is_mysql_before((5, 7, 6)) {
        line(&format!("SET PASSWORD FOR root@localhost = PASSWORD({root_secret})"));
    } else {
        let lock = if root.is_some() { "" } else { " ACCOUNT LOCK" };
        line(&format!("ALTER USER root@localhost IDENTIFIED BY {root_secret}{lock}"));
    }
    if let Some(account) = administrator.filter(|account| account.user != "root") {
        let (name, secret) = (quote(&account.user)?, secret(&account.password)?);
        line(&format!("CREATE USER {name}@localhost IDENTIFIED BY {secret}"));
        line(&format!("GRANT ALL PRIVILEGES ON *.* TO {name}@localhost WITH GRANT OPTION"));
    }

    line(&format!("CREATE USER {ADMIN}@localhost IDENTIFIED BY {admin_secret}"));
    line(&format!("GRANT ALL PRIVILEGES ON *.* TO {ADMIN}@localhost WITH GRANT OPTION"));
    line(&format!("CREATE USER {REPLICATION}@'%' IDENTIFIED BY {repl_secret}"));
    // the second lets a replica see where the binary logs begin
    let monitor = if dialect.is_mariadb() { "BINLOG MONITOR" } else { "REPLICATION CLIENT" };
    line(&format!("GRANT REPLICATION SLAVE, {monitor} ON *.* TO {REPLICATION}@'%'"));
    line(&format!("CREATE USER {user}@'%' IDENTIFIED BY {user_secret}"));
    if dialect.is_mysql_from((8, 0, 17)) {
        // the second lets a recipient see, without reading any, whether a clone would lack tables
        line(&format!("GRANT BACKUP_ADMIN, SHOW VIEW ON *.* TO {REPLICATION}@'%'"));
        line(&format!("GRANT SYSTEM_USER ON *.* TO {REPLICATION}@'%'"));
        line(&format!("GRANT {} ON *.* TO {user}@'%' WITH GRANT OPTION", user_privileges(dialect).join(", ")));
        let kept_out = MYSQL_SCHEMA_REVOKED.join(", ");
        line(&format!("REVOKE {kept_out} ON mysql.* FROM {user}@'%'")); // needs partial_revokes, see cnf
    } else {
        line(&format!("GRANT {} ON *.* TO {user}@'%'", user_privileges(dialect).join(", ")));
        line(&format!("GRANT ALL PRIVILEGES ON `%`.* TO {user}@'%' WITH GRANT OPTION"));
        // the more exact database name wins, so this takes away what `%` gives
        line(&format!("GRANT SELECT ON mysql.* TO {user}@'%'"));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    Ok(text)
}

/// Global privileges of the cluster's user.
fn user_privileges(dialect: Dialect) -> Vec<&'static str> {
    let mut all = vec!["PROCESS", "SHOW DATABASES", "CREATE USER", "REPLICATION SLAVE"];
    if dialect.is_mariadb() {
        all.extend(["BINLOG MONITOR", "SLAVE MONITOR"]);
        return all;
    }
    all.extend(["REPLICATION CLIENT", "CREATE TABLESPACE"]);
    if dialect.is_mysql_from((8, 0, 17)) {
        all.extend(["SELECT", "CREATE ROLE", "DROP ROLE"]);
        all.extend(MYSQL_SCHEMA_REVOKED);
        all.extend(["APPLICATION_PASSWORD_ADMIN", "XA_RECOVER_ADMIN"]);
    }
    if dialect.is_mysql_from((8, 0, 23)) {
        all.extend(["SHOW_ROUTINE", "FLUSH_OPTIMIZER_COSTS", "FLUSH_STATUS", "FLUSH_TABLES", "FLUSH_USER_RESOURCES"]);
    }
    all
}

/// Given everywhere, taken back on the schema `mysql`, which holds the grant tables.
const MYSQL_SCHEMA_REVOKED: [&str; 16] = [
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "ALTER",
    "INDEX",
    "REFERENCES",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "TRIGGER",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::example;
    use crate::dialect::Flavour::{self, MariaDb, MySql};

    fn text(flavour: Flavour, version: (u16, u16, u16)) -> String {
        bootstrap(Dialect { flavour, version }, &example(), "nobody-knows").expect("plain names")
    }

    #[test]
    fn the_cluster_user_has_nothing_that_passes_read_only() {
        let kept = [
            "SUPER",
            "READ ONLY ADMIN",
            "READ_ONLY ADMIN",
            "BINLOG ADMIN",
            "BINLOG REPLAY",
            "REPLICATION SLAVE ADMIN",
            "REPLICATION MASTER ADMIN",
            "CONNECTION ADMIN",
            "CONNECTION_ADMIN",
            "SYSTEM_VARIABLES_ADMIN",
            "SESSION_VARIABLES_ADMIN",
            "SET USER",
            "FILE",
            "SHUTDOWN",
            "RELOAD",
            "ROLE_ADMIN",
        ];
        for dialect in [(MariaDb, (10, 11, 19)), (MySql, (5, 6, 24)), (MySql, (5, 7, 42)), (MySql, (9, 7, 4))] {
            let dialect = Dialect { flavour: dialect.0, version: dialect.1 };
            for privilege in user_privileges(dialect) {
                assert!(!kept.contains(&privilege), "{privilege} on {dialect}");
            }
            let text = text(dialect.flavour, dialect.version);
            assert!(!text.contains("ALL PRIVILEGES ON *.* TO 'orders'"), "{text}");
        }
    }

    #[test]
    fn one_statement_a_line() {
        for (flavour, version) in [(MariaDb, (10, 11, 19)), (MySql, (5, 6, 24)), (MySql, (9, 7, 4))] {
            let text = text(flavour, version);
            assert!(text.lines().all(|line| line.ends_with(';') && line.matches(';').count() == 1), "{text}");
        }
    }

    #[test]
    fn secrets_cannot_break_out() {
        let mut config = example();
        config.passwords.user = "x'; DROP".into();
        let text =
            bootstrap(Dialect { flavour: MariaDb, version: (10, 11, 0) }, &config, "n").expect("quotes are fine");
        assert!(text.contains("IDENTIFIED BY 'x''; DROP'"), "{text}");
        config.passwords.user = "x\ny".into();
        assert!(bootstrap(Dialect { flavour: MariaDb, version: (10, 11, 0) }, &config, "n").is_err());
    }

    #[test]
    fn long_names_do_not_fit_5_6() {
        let mut config = example();
        config.user = "x".repeat(17);
        let old = Dialect { flavour: MySql, version: (5, 6, 24) };
        assert!(bootstrap(old, &config, "n").expect_err("too long").to_string().contains("16 bytes"));
        config.user = "x".repeat(16);
        assert!(bootstrap(old, &config, "n").is_ok());
        config.administrator = Some(crate::config::tests::administrator(&"x".repeat(17)));
        assert!(bootstrap(old, &config, "n").is_err());
    }
}
