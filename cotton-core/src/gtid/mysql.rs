//! GTID sets of MySQL.
use serde::{Deserialize, Serialize};
use std::fmt;

/// A set of MySQL GTIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MySqlGtids(String);

impl MySqlGtids {
    /// Whether empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Superset.
    pub fn contains(&self, other: &Self) -> bool {
        self.0 == other.0 || other.0.is_empty()
    }
}
impl fmt::Display for MySqlGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
