//! Positions in replication: GTID sets of MySQL and MariaDB, compared and combined by us.

pub mod mariadb;
pub mod mysql;

use serde::{Deserialize, Serialize};
use std::fmt;

pub use mariadb::MariaDbGtids;
pub use mysql::MySqlGtids;

/// What a server has received or executed, in its own dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GtidSet {
    /// Nothing yet: equal to an empty set of either dialect.
    #[default]
    Empty,
    /// MySQL: `uuid[:tag]:interval` sets.
    MySql(MySqlGtids),
    /// MariaDB: `domain-server-seq`.
    MariaDb(MariaDbGtids),
}

/// How two positions relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GtidOrder {
    /// The same transactions.
    Equal,
    /// The first has all of the second, and more.
    Ahead,
    /// The second has all of the first, and more.
    Behind,
    /// Each has what the other lacks, or the dialects differ.
    Diverged,
}

impl GtidSet {
    /// Whether there is no transaction in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::MySql(set) => set.is_empty(),
            Self::MariaDb(set) => set.is_empty(),
        }
    }

    /// Whether every transaction of `other` is in `self`. False when the dialects differ and `other` is not empty.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (_, other) if other.is_empty() => true,
            (Self::MySql(a), Self::MySql(b)) => a.contains(b),
            (Self::MariaDb(a), Self::MariaDb(b)) => a.contains(b),
            _ => false,
        }
    }

    /// How `self` relates to `other`.
    pub fn order(&self, other: &Self) -> GtidOrder {
        match (self.contains(other), other.contains(self)) {
            (true, true) => GtidOrder::Equal,
            (true, false) => GtidOrder::Ahead,
            (false, true) => GtidOrder::Behind,
            (false, false) => GtidOrder::Diverged,
        }
    }

    /// Whether `self` has all of `other` and more.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        self.order(other) == GtidOrder::Ahead
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(set) => set.fmt(f),
        }
    }
}
