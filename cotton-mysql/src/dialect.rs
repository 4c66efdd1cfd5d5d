//! Statements and names by server: MariaDB, old MySQL (5.6 to 8.0.25) and today's MySQL.

use crate::Error;
use std::fmt;

/// Which family of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    MariaDb,
    MySql,
}

/// Family and version of a server, and with them what it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) flavour: Flavour,
    pub(crate) version: (u16, u16, u16),
}

/// Statements that differ in words only.
pub(crate) struct Statements {
    pub(crate) replica_status: &'static str,
    pub(crate) start: &'static str,
    pub(crate) stop: &'static str,
    pub(crate) start_receiver: &'static str,
    pub(crate) stop_receiver: &'static str,
    pub(crate) start_applier: &'static str,
    pub(crate) forget: &'static str,
    /// Without the common prefix `rpl_semi_sync_`.
    pub(crate) semi_sync_source: &'static str,
    pub(crate) semi_sync_replica: &'static str,
    pub(crate) wait_acks: Option<&'static str>,
}

const OLD: Statements = Statements {
    replica_status: "SHOW SLAVE STATUS",
    start: "START SLAVE",
    stop: "STOP SLAVE",
    start_receiver: "START SLAVE IO_THREAD",
    stop_receiver: "STOP SLAVE IO_THREAD",
    start_applier: "START SLAVE SQL_THREAD",
    forget: "RESET SLAVE ALL",
    semi_sync_source: "master",
    semi_sync_replica: "slave",
    wait_acks: None,
};

const OLD_WITH_ACKS: Statements = Statements { wait_acks: Some("wait_for_slave_count"), ..OLD };

const NEW: Statements = Statements {
    replica_status: "SHOW REPLICA STATUS",
    start: "START REPLICA",
    stop: "STOP REPLICA",
    start_receiver: "START REPLICA IO_THREAD",
    stop_receiver: "STOP REPLICA IO_THREAD",
    start_applier: "START REPLICA SQL_THREAD",
    forget: "RESET REPLICA ALL",
    semi_sync_source: "source",
    semi_sync_replica: "replica",
    wait_acks: Some("wait_for_replica_count"),
};

impl Dialect {
    /// From what `mysqld --version` prints, or from what `SELECT VERSION()` answers.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let flavour = if text.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
        // "mysqld  Ver 9.7.4 for Linux ..." and "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for ..."
        let number = text.split_once("Ver ").map_or(text, |(_, rest)| rest).trim_start();
        let number = number.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default();
        let mut parts = number.split('.').map_while(|part| part.parse::<u16>().ok());
        let (Some(major), Some(minor)) = (parts.next(), parts.next()) else {
            return Err(Error::answer("version", text.trim()));
        };
        let version = (major, minor, parts.next().unwrap_or_default());
        let this = Self { flavour, version };
        let oldest = match flavour {
            Flavour::MariaDb => (10, 6, 0),
            Flavour::MySql => (5, 6, 5),
        };
        if version < oldest {
            let text = format!("{this} is too old: MariaDB 10.6 or later, or MySQL 5.6.5 or later is needed");
            return Err(Error::Unsupported(text));
        }
        Ok(this)
    }

    pub(crate) fn is_mariadb(self) -> bool {
        self.flavour == Flavour::MariaDb
    }

    /// Whether this is MySQL of at least that version.
    pub(crate) fn is_mysql_from(self, version: (u16, u16, u16)) -> bool {
        self.flavour == Flavour::MySql && self.version >= version
    }

    /// Whether this is MySQL before that version.
    pub(crate) fn is_mysql_before(self, version: (u16, u16, u16)) -> bool {
        self.flavour == Flavour::MySql && self.version < version
    }

    /// Source and replica instead of master and slave.
    pub(crate) fn has_new_words(self) -> bool {
        self.is_mysql_from((8, 0, 26))
    }

    pub(crate) fn has_super_read_only(self) -> bool {
        self.is_mysql_from((5, 7, 8))
    }

    /// Whether accounts can be kept from those that may make accounts, and privileges be taken back in one database.
    pub(crate) fn has_system_user(self) -> bool {
        self.is_mysql_from((8, 0, 17))
    }

    /// Whether another server's data can be cloned over SQL.
    pub(crate) fn has_clone(self) -> bool {
        self.is_mysql_from((8, 0, 17))
    }

    pub(crate) fn statements(self) -> &'static Statements {
        if self.has_new_words() {
            &NEW
        } else if self.is_mysql_from((5, 7, 3)) {
            &OLD_WITH_ACKS
        } else {
            &OLD
        }
    }

    /// A status column under its old or new name.
    pub(crate) fn column(self, old: &'static str, new: &'static str) -> &'static str {
        if self.has_new_words() { new } else { old }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.flavour {
            Flavour::MariaDb => "MariaDB",
            Flavour::MySql => "MySQL",
        };
        let (major, minor, patch) = self.version;
        write!(f, "{name} {major}.{minor}.{patch}")
    }
}

/// A text as an SQL literal.
///
/// # Errors
/// When it holds control characters, which no statement of ours may.
pub(crate) fn quote(text: &str) -> Result<String, Error> {
    if text.chars().any(char::is_control) {
        return Err(Error::Config("names and passwords must not contain control characters".to_owned()));
    }
    Ok(format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let parse = |text: &str| Dialect::parse(text).map(|d| d.to_string()).map_err(|error| error.to_string());
        let maria = "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)";
        assert_eq!(parse(maria).as_deref(), Ok("MariaDB 10.11.19"));
        assert_eq!(parse("/x/mysqld  Ver 9.7.4 for Linux on x86_64 (Ubuntu)").as_deref(), Ok("MySQL 9.7.4"));
        assert_eq!(parse("/x/mysqld  Ver 5.6.24 for Linux on x86_64 (MySQL)").as_deref(), Ok("MySQL 5.6.24"));
        assert_eq!(parse("10.11.19-MariaDB-log").as_deref(), Ok("MariaDB 10.11.19"));
        assert_eq!(parse("8.0.46").as_deref(), Ok("MySQL 8.0.46"));
        assert!(parse("mysqld  Ver 5.5.60 for Linux").expect_err("too old").contains("too old"));
        assert!(parse("10.5.1-MariaDB").expect_err("too old").contains("too old"));
        assert!(parse("what?").is_err());
    }

    #[test]
    fn words_by_version() {
        let words = |flavour, version| Dialect { flavour, version }.statements();
        assert_eq!(words(Flavour::MariaDb, (11, 4, 0)).stop, "STOP SLAVE");
        assert_eq!(words(Flavour::MariaDb, (11, 4, 0)).wait_acks, None);
        assert_eq!(words(Flavour::MySql, (5, 6, 24)).wait_acks, None);
        assert_eq!(words(Flavour::MySql, (5, 7, 42)).wait_acks, Some("wait_for_slave_count"));
        assert_eq!(words(Flavour::MySql, (8, 0, 25)).stop, "STOP SLAVE");
        assert_eq!(words(Flavour::MySql, (8, 4, 0)).stop, "STOP REPLICA");
    }

    #[test]
    fn quoting() {
        assert_eq!(quote(r"a'b\").expect("plain"), r"'a''b\\'");
        assert!(quote("a\nb").is_err());
    }
}
