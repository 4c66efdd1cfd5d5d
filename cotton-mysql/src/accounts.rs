//! The accounts of a server: what each may do, and the statements of the bootstrap that make them. No binary log holds
//! those; what is changed later is changed by [`upkeep`](crate::upkeep) on the open primary.
//!
//! - `root` exists because system tables want it; it is locked and nobody knows its password, unless those who run the
//!   machines want it for themselves.
//! - They may have one account, of any name, which can do everything and comes from `localhost` only.
//! - [`ADMIN`] can do everything and comes from `localhost` only: over the unix socket, since names are not resolved.
//! - [`REPLICATION`] is what replicas connect with. Nobody else may acknowledge commits.
//! - The cluster's user may do everything in its databases. It makes no accounts and hands on no privileges; it does not
//!   reach the server's own tables, and has none of the privileges that pass `read_only` or change it, skip the binary
//!   log, read or write files, stop the server or control replication. Where the list of sessions shows statements
//!   with their passwords (MariaDB, old MySQL), it sees its own sessions only.
//! - Further accounts are made by [`upkeep`](crate::upkeep) when they are asked for, with no more than the cluster's user.

use crate::cnf::Sizes;
use crate::dialect::{Dialect, quote};
use crate::grants::Grants;
use crate::{Error, InstanceConfig};
use cotton_core::account::{AccountKind, NAMES_OF_FILES};
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
    if dialect.has_system_user() {
        // the second lets a recipient see, without reading any, whether a clone would lack tables
        line(&format!("GRANT BACKUP_ADMIN, SHOW VIEW ON *.* TO {REPLICATION}@'%'"));
        // a clone goes on while clients are cut off for it
        line(&format!("GRANT CONNECTION_ADMIN ON *.* TO {REPLICATION}@'%'"));
        line(&format!("GRANT SYSTEM_USER ON *.* TO {REPLICATION}@'%'"));
    }
    let account = format!("{user}@'%'");
    line(&format!("CREATE USER {account} IDENTIFIED BY {user_secret}"));
    for statement in Grants::default().change_to(&of_user(dialect), &account) {
        line(&statement);
    }
    line(&limit_connections(dialect, &account, Sizes::of(config).user_connections));
    let mut text = lines.join("\n");
    text.push('\n');
    Ok(text)
}

/// Says how many connections an account may have at once.
pub(crate) fn limit_connections(dialect: Dialect, account: &str, most: u64) -> String {
    if dialect.is_mysql_before((5, 7, 6)) {
        format!("GRANT USAGE ON *.* TO {account} WITH MAX_USER_CONNECTIONS {most}")
    } else {
        format!("ALTER USER {account} WITH MAX_USER_CONNECTIONS {most}")
    }
}

/// What lets an account read the binary logs as replicas do.
pub(crate) const READ_BINLOG: &str = "REPLICATION SLAVE";

/// What shows the state of the binary logs, as a reader of changes needs it, too.
pub(crate) fn see_binlog(dialect: Dialect) -> &'static str {
    if dialect.is_mariadb() { "BINLOG MONITOR" } else { "REPLICATION CLIENT" }
}

/// Everywhere but in the server's own databases.
const EVERYWHERE: &str = "`%`.*";

/// What the cluster's user may do.
pub(crate) fn of_user(dialect: Dialect) -> Grants {
    let mut grants = Grants::default();
    grants.grant("*.*", ["SHOW DATABASES", see_binlog(dialect)]);
    if dialect.has_system_user() {
        grants.grant("*.*", ["PROCESS", "SELECT", "XA_RECOVER_ADMIN"]);
        grants.grant("*.*", WORK);
        if dialect.is_mysql_from((8, 0, 20)) {
            grants.grant("*.*", ["SHOW_ROUTINE"]);
        }
        keep_out(dialect, &mut grants);
        return grants;
    }
    if dialect.is_mariadb() {
        grants.grant("*.*", ["SLAVE MONITOR"]);
    }
    grants.grant(EVERYWHERE, ["ALL PRIVILEGES"]);
    keep_out(dialect, &mut grants);
    grants
}

/// What a further account of that kind may do, in all databases or in these.
pub(crate) fn of_account(dialect: Dialect, kind: AccountKind, databases: &[String]) -> Grants {
    let mut grants = Grants::default();
    if kind == AccountKind::Replication {
        grants.grant("*.*", [READ_BINLOG, see_binlog(dialect)]);
    }
    let privileges: &[&str] = match kind {
        AccountKind::ReadOnly => &["SELECT", "SHOW VIEW"],
        AccountKind::Replication => &["SELECT", "SHOW VIEW", "LOCK TABLES"],
        AccountKind::ReadWrite if dialect.has_system_user() => &WORK,
        AccountKind::ReadWrite => &["ALL PRIVILEGES"],
    };
    let writes = kind == AccountKind::ReadWrite;
    if databases.is_empty() {
        let everywhere = if dialect.has_system_user() { "*.*" } else { EVERYWHERE };
        grants.grant(everywhere, privileges.iter().copied());
        if writes && dialect.has_system_user() {
            grants.grant(everywhere, ["SELECT"]);
        }
        keep_out(dialect, &mut grants);
        return grants;
    }
    for database in databases {
        // `_` stands for any character, unless privileges can be taken back in one database
        let name = if dialect.has_system_user() { database.clone() } else { database.replace('_', "\\_") };
        let on = format!("`{name}`.*");
        // the servers print the whole of what one database has as one word
        let privileges = if writes { &["ALL PRIVILEGES"] } else { privileges };
        grants.grant(&on, privileges.iter().copied());
    }
    grants
}

/// Keeps whoever is let in everywhere out of the databases of the server itself.
fn keep_out(dialect: Dialect, grants: &mut Grants) {
    if dialect.has_system_user() {
        // what is granted on `*.*` is taken back there, see `partial_revokes` in cnf
        let given: Vec<&str> = WORK.into_iter().chain(["SELECT"]).filter(|right| grants.has("*.*", right)).collect();
        grants.except("`mysql`.*", given.iter().copied());
        let written = given.iter().copied().filter(|right| !matches!(*right, "SELECT" | "EXECUTE" | "SHOW VIEW"));
        grants.except("`sys`.*", written.clone());
        let known = written.filter(|right| matches!(*right, "INSERT" | "UPDATE" | "DELETE" | "DROP"));
        grants.except("`performance_schema`.*", known);
        return;
    }
    // The more exact database name wins, so each of these takes away what `%` gives; something harmless must be granted.
    grants.grant("`mysql`.*", ["SHOW VIEW"]);
    grants.grant("`mysql`.`proc`", ["SELECT"]); // for dumps of routines
    grants.grant("`mysql`.`time_zone_name`", ["SELECT"]);
    grants.grant("`performance_schema`.*", ["LOCK TABLES"]);
    if !dialect.is_mysql_before((5, 7, 7)) {
        grants.grant("`sys`.*", ["SELECT", "EXECUTE", "SHOW VIEW"]);
    }
    // MySQL from 5.7 on refuses what would hurt it, and names with other characters are written to disk in another way, unless
    // they begin with this.
    grants.grant("`#mysql50#%`.*", ["SHOW VIEW"]);
    for name in NAMES_OF_FILES {
        grants.grant(&format!("`{}%`.*", name.replace('_', "\\_")), ["SHOW VIEW"]);
    }
}

/// What work in databases takes, on servers that name each privilege; without reading.
const WORK: [&str; 17] = [
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
    "EVENT",
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
    fn nobody_but_us_has_what_reaches_beyond_databases() {
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
            "CREATE USER",
            "CREATE ROLE",
            "CREATE TABLESPACE",
            "FLUSH_TABLES",
            "GRANT OPTION",
        ];
        for dialect in [(MariaDb, (10, 11, 19)), (MySql, (5, 6, 24)), (MySql, (5, 7, 42)), (MySql, (9, 7, 4))] {
            let dialect = Dialect { flavour: dialect.0, version: dialect.1 };
            let mut all = vec![of_user(dialect)];
            for kind in [AccountKind::ReadOnly, AccountKind::ReadWrite, AccountKind::Replication] {
                all.push(of_account(dialect, kind, &[]));
                all.push(of_account(dialect, kind, &["app".to_owned()]));
            }
            for grants in all {
                for privilege in kept {
                    assert!(!grants.has("*.*", privilege), "{privilege} on {dialect}");
                }
                assert!(!grants.has("*.*", "ALL PRIVILEGES"), "{dialect}");
            }
            assert!(!of_user(dialect).has("*.*", READ_BINLOG), "only members acknowledge");
            let text = text(dialect.flavour, dialect.version);
            assert!(!text.contains("ALL PRIVILEGES ON *.* TO 'orders'"), "{text}");
            let of_user = text.lines().filter(|line| line.contains("'orders'"));
            assert!(!of_user.into_iter().any(|line| line.contains("GRANT OPTION")), "{text}");
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
