//! GTID sets of MariaDB.
use serde::{Deserialize, Serialize};
use std::fmt;

/// A set of MariaDB GTIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MariaDbGtids(String);

impl MariaDbGtids {
    /// Whether empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Superset.
    pub fn contains(&self, other: &Self) -> bool {
        self.0 == other.0 || other.0.is_empty()
    }
}
impl fmt::Display for MariaDbGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
