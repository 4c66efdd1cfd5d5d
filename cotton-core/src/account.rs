//! Accounts of a cluster: its own user, whose password can be changed, and further ones. All are asked for by the
//! cluster's owner, made on its primary, and there on every member by replication.

use crate::Sealed;
use crate::spec::{Limits, SpecError, validate_user};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an account is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// All work in its databases, definitions included.
    ReadWrite,
    /// Reads only.
    ReadOnly,
    /// Reads changes from the binary logs of replicas, as tools for change data capture do. Never acknowledges a commit.
    Replication,
}

impl AccountKind {
    /// For tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Replication => "replication",
        }
    }
}

/// One further account. Its name is the key that it is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What it is for.
    pub kind: AccountKind,
    /// Databases that it is confined to; empty for all of the cluster's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// Its password.
    pub password: Sealed,
}

/// The accounts that a primary shall keep, as they are at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Grows with every change.
    pub revision: u64,
    /// Password of the cluster's own user; `None` for the one that the server was made with.
    pub user: Option<Sealed>,
    /// The further ones by name; `None` for those that were dropped.
    pub others: BTreeMap<String, Option<Account>>,
}

/// What is asked of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// Make it.
    Create(Account),
    /// Give it another password; sessions with the old one end.
    Rotate(Sealed),
    /// Remove it; its sessions end.
    Drop,
}

/// Most further accounts of one cluster: they share its connections.
pub const ACCOUNTS_MAX: usize = 16;

/// Most names that a cluster remembers, with those that were dropped.
pub(crate) const NAMES_MAX: usize = 256;

/// Longest name of a database, in bytes.
const DATABASE_BYTES_MAX: usize = 64;

/// Databases of the servers themselves.
const RESERVED_DATABASES: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];

/// How names of files begin that MariaDB, MySQL 5.6 and their backup tools make beside the databases. A database of such a name
/// is a directory in the place of the file: InnoDB does not start any more (`ib_logfile1`), and backups fail or are mixed up
/// with it (`mariadb_backup_info`).
pub const NAMES_OF_FILES: [&str; 9] = [
    "aria_log_control",
    "ib_buffer_pool",
    "ib_logfile",
    "ibdata",
    "ibtmp",
    "mariadb_backup_",
    "undo0",
    "undo1",
    "xtrabackup_",
];

/// What is wrong with an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Its name.
    #[error(transparent)]
    User(#[from] SpecError),
    /// The name of the cluster's own user, whose password only can be changed.
    #[error(
        "'{0}' is the cluster's own user and stays as long as the cluster does: a further account needs another name"
    )]
    OwnUser(String),
    /// A database.
    #[error(
        "'{0}' cannot be granted: a database has 1 to 64 letters, digits, '_', '$' or '-', and is neither the server's own nor called like one of its files"
    )]
    Database(String),
    /// A database that is named twice.
    #[error("'{0}' is named twice: name each database once")]
    DatabaseTwice(String),
    /// It is there already.
    #[error("the cluster has an account '{0}' already")]
    Exists(String),
    /// It is not there.
    #[error("the cluster has no account '{0}'")]
    Unknown(String),
    /// Too many.
    #[error("a cluster has at most {ACCOUNTS_MAX} further accounts, since they share its connections: drop one first")]
    TooMany,
    /// Too many that were dropped.
    #[error("a cluster remembers at most {NAMES_MAX} names of accounts: take one again that was dropped")]
    TooManyNames,
}

/// Checks a name for an account of a cluster whose own user is `own`.
///
/// # Errors
/// The first rule it breaks.
pub fn validate_account(user: &str, databases: &[String], own: &str, limits: &Limits) -> Result<(), AccountError> {
    validate_user(user, limits)?;
    if user == own {
        return Err(AccountError::OwnUser(user.to_owned()));
    }
    let fits = |name: &str| {
        (1..=DATABASE_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-'))
            && !RESERVED_DATABASES.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
            && !NAMES_OF_FILES.iter().any(|file| name.starts_with(file))
    };
    for (at, name) in databases.iter().enumerate() {
        if !fits(name) {
            return Err(AccountError::Database(name.clone()));
        } else if databases[..at].contains(name) {
            return Err(AccountError::DatabaseTwice(name.clone())); // probably another one was meant
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_keep_the_rules() {
        let check = |user: &str, databases: &[&str]| {
            let databases: Vec<String> = databases.iter().map(|&name| name.to_owned()).collect();
            validate_account(user, &databases, "orders", &Limits::default())
        };
        assert_eq!(check("report", &[]), Ok(()));
        assert_eq!(check("report", &["app", "a_b-c$"]), Ok(()));
        assert_eq!(check("report", &["a", "b", "a"]), Err(AccountError::DatabaseTwice("a".to_owned())));
        assert_eq!(check("orders", &[]), Err(AccountError::OwnUser("orders".to_owned())));
        assert!(matches!(check("cotton_repl", &[]), Err(AccountError::User(_))));
        for bad in ["", "ib_logfile1", "mariadb_backup_info", "mysql", "SYS", "a.b", "a`b", "a%", "performance_schema"]
        {
            assert_eq!(check("report", &["app", bad]), Err(AccountError::Database(bad.to_owned())), "{bad}");
        }
    }
}
