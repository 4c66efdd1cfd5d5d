//! Positions in replication: GTID sets of MySQL and MariaDB, compared and combined by us, so that an election needs no
//! server to decide.
//!
//! Questions are asked of [`GtidSet`], answers differ by dialect: MySQL's sets name every transaction and are compared
//! as sets; MariaDB's positions name the last ones, and [`mariadb`] tells what follows from that.

mod interval;
pub mod mariadb;
pub mod mysql;

use serde::{Deserialize, Serialize};
use std::fmt;

pub use mariadb::MariaDbGtids;
pub use mysql::MySqlGtids;

/// Why a text is not a GTID set. Places are counted in bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GtidError {
    /// MySQL.
    #[error("expected a server uuid (8-4-4-4-12 hex digits) at byte {at} of GTID set")]
    Uuid {
        /// Where.
        at: usize,
    },
    /// MySQL.
    #[error("tag at byte {at} of GTID set is longer than 32 characters")]
    TagTooLong {
        /// Where it begins.
        at: usize,
    },
    /// MySQL: a server or tag without transactions.
    #[error("expected ':' and a transaction number at byte {at} of GTID set")]
    NoInterval {
        /// Where.
        at: usize,
    },
    /// MySQL: neither another interval nor another server follows.
    #[error("expected ':', ',' or the end at byte {at} of GTID set")]
    Separator {
        /// Where.
        at: usize,
    },
    /// MySQL: the last number of an interval is below its first.
    #[error("interval that ends at byte {at} of GTID set runs backwards")]
    Backwards {
        /// Where it ends.
        at: usize,
    },
    /// MySQL.
    #[error("expected a transaction number at byte {at} of GTID set")]
    Number {
        /// Where.
        at: usize,
    },
    /// MySQL: 0, or above 2^63 - 2.
    #[error("transaction number at byte {at} of GTID set is out of range")]
    OutOfRange {
        /// Where.
        at: usize,
    },
    /// MariaDB.
    #[error("expected domain-server-sequence, three numbers, as part {part} of GTID position")]
    Triple {
        /// Which part between commas, from 0.
        part: usize,
    },
    /// MariaDB: the same domain and server twice, or the same domain twice where it can have one GTID only.
    #[error("part {part} of GTID position repeats an earlier one")]
    Repeated {
        /// Which part between commas, from 0.
        part: usize,
    },
}

/// What a server has received or executed, in its own dialect.
///
/// Nothing is nothing in any dialect: all empty sets are equal. On MariaDB, `==` compares what was told of two
/// positions; whether they mean the same transactions is answered by [`order`](Self::order).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// Position of a MySQL server: `gtid_executed` and, of a replica, `Retrieved_Gtid_Set`.
    ///
    /// # Errors
    /// When one of them is not a GTID set.
    pub fn mysql(executed: &str, retrieved: &str) -> Result<Self, GtidError> {
        let executed: MySqlGtids = executed.parse()?;
        Ok(Self::from(executed.union(&retrieved.parse()?)))
    }

    /// Position of a MariaDB server; see [`MariaDbGtids::parse`].
    ///
    /// # Errors
    /// When one of the texts is not a GTID position.
    pub fn mariadb(binlog_state: &str, slave_pos: &str, io_pos: Option<&str>) -> Result<Self, GtidError> {
        MariaDbGtids::parse(binlog_state, slave_pos, io_pos).map(Self::from)
    }

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

    /// How many transactions `self` has that `other`, an earlier position of the same server, has not. On MariaDB as far
    /// as sequence numbers tell; 0 when the dialects differ.
    pub fn count_beyond(&self, other: &Self) -> u64 {
        match (self, other) {
            (Self::MySql(own), Self::MySql(other)) => own.subtract(other).count(),
            (Self::MySql(own), Self::Empty) => own.count(),
            (Self::MariaDb(own), Self::MariaDb(other)) => own.count_beyond(other),
            (Self::MariaDb(own), Self::Empty) => own.count_beyond(&MariaDbGtids::default()),
            (Self::Empty | Self::MySql(_), _) | (Self::MariaDb(_), Self::MySql(_)) => 0,
        }
    }

    /// The part of `self` that is also in `floor`, or was written by one of these servers: MySQL's `server_uuid`, MariaDB's
    /// `server_id`. What is left out was written on a server when it was not the one to write.
    ///
    /// Gives all of `self` when a server is not named as such servers are.
    #[must_use]
    pub fn within<'a>(&self, floor: &Self, origins: impl IntoIterator<Item = &'a String>) -> Self {
        let none = (MySqlGtids::default(), MariaDbGtids::default());
        match self {
            Self::Empty => Self::Empty,
            Self::MySql(set) => {
                let floor = if let Self::MySql(floor) = floor { floor } else { &none.0 };
                let uuids: Option<Vec<u128>> = origins.into_iter().map(|origin| mysql::uuid(origin)).collect();
                uuids.map_or_else(|| self.clone(), |uuids| Self::from(set.within(floor, &uuids)))
            }
            Self::MariaDb(set) => {
                let floor = if let Self::MariaDb(floor) = floor { floor } else { &none.1 };
                let ids: Option<Vec<u32>> = origins.into_iter().map(|origin| origin.parse().ok()).collect();
                ids.map_or_else(|| self.clone(), |ids| Self::from(set.within(floor, &ids)))
            }
        }
    }

    /// What `self` has and `primary` lacks, `None` when there is no such thing: on a former primary or a replica that
    /// wants to follow, the transactions that must not live on. Exactly then `primary.contains(self)`.
    ///
    /// On MariaDB the answer names the GTIDs that were told of `self` and are missing, the last ones of errant
    /// stretches, not each transaction.
    #[must_use]
    pub fn errant_against(&self, primary: &Self) -> Option<Self> {
        let errant = match (self, primary) {
            (Self::MySql(own), Self::MySql(primary)) => Self::MySql(own.subtract(primary)),
            (Self::MariaDb(own), Self::MariaDb(primary)) => Self::MariaDb(own.missing_in(primary)),
            _ => self.clone(),
        };
        (!errant.is_empty()).then_some(errant)
    }
}

impl PartialEq for GtidSet {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => a == b,
            (Self::MariaDb(a), Self::MariaDb(b)) => a == b,
            (a, b) => a.is_empty() && b.is_empty(),
        }
    }
}

impl Eq for GtidSet {}

impl From<MySqlGtids> for GtidSet {
    fn from(set: MySqlGtids) -> Self {
        if set.is_empty() { Self::Empty } else { Self::MySql(set) }
    }
}

impl From<MariaDbGtids> for GtidSet {
    fn from(set: MariaDbGtids) -> Self {
        if set.is_empty() { Self::Empty } else { Self::MariaDb(set) }
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

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn mysql(text: &str) -> GtidSet {
        GtidSet::mysql(&text.replace('A', A), "").expect("a valid set")
    }

    #[test]
    fn nothing_is_nothing_in_any_dialect() {
        let nothing =
            [GtidSet::Empty, GtidSet::MySql(MySqlGtids::default()), GtidSet::MariaDb(MariaDbGtids::default())];
        for a in &nothing {
            for b in &nothing {
                assert_eq!((a == b, a.order(b), a.errant_against(b)), (true, GtidOrder::Equal, None));
            }
            assert_ne!(a, &mysql("A:1"));
            assert_eq!((a.order(&mysql("A:1")), a.to_string()), (GtidOrder::Behind, String::new()));
        }
        assert!(matches!(GtidSet::mysql("", "\n"), Ok(GtidSet::Empty)));
        assert!(matches!(GtidSet::mariadb("", "", Some("")), Ok(GtidSet::Empty)));
    }

    #[test]
    fn dialects_do_not_mix() {
        let mariadb = GtidSet::mariadb("0-1-5", "", None).expect("a valid position");
        assert_eq!(mysql("A:1").order(&mariadb), GtidOrder::Diverged);
        assert_eq!(mariadb.errant_against(&mysql("A:1")), Some(mariadb.clone()));
        assert_eq!(mariadb.errant_against(&GtidSet::Empty), Some(mariadb));
    }

    #[test]
    fn received_counts_on_mysql() {
        let both = GtidSet::mysql(&format!("{A}:1-7"), &format!("{A}:6-9")).expect("valid sets");
        assert_eq!(both, mysql("A:1-9"));
        assert!(both.is_ahead_of(&mysql("A:1-8")));
        assert_eq!(mysql("A:1-9:12").errant_against(&both), Some(mysql("A:12")));
    }

    #[test]
    fn counts_what_came_after() {
        let mariadb = |state, io| GtidSet::mariadb(state, "", Some(io)).expect("a valid position");
        for (later, earlier, count) in [
            (mysql("A:1-9:12"), mysql("A:1-7"), 3),
            (mysql("A:1-9"), GtidSet::Empty, 9),
            (GtidSet::Empty, mysql("A:1-9"), 0),
            (mariadb("0-1-5", "0-2-9,1-1-4"), mariadb("0-1-5", ""), 8),
            (mariadb("0-1-5", ""), mariadb("0-1-5", "0-1-3"), 0),
            (mariadb("0-1-5,0-2-7", ""), GtidSet::Empty, 7),
            (mariadb("0-1-5", ""), mysql("A:1"), 0),
        ] {
            assert_eq!(later.count_beyond(&earlier), count, "{later} after {earlier}");
        }
    }

    #[test]
    fn what_others_wrote_is_left_out() {
        const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mysql = |text: &str| GtidSet::mysql(&text.replace('A', A).replace('B', B), "").expect("a valid set");
        let mariadb = |state, io| GtidSet::mariadb(state, "", Some(io)).expect("a valid position");
        for (own, floor, origins, wanted) in [
            (mysql("A:1-9,B:1-3"), mysql("A:1-5,B:1-2"), vec![A], mysql("A:1-9,B:1-2")),
            (mysql("A:1-9,B:1-3"), mysql("B:1-2"), vec![], mysql("B:1-2")),
            (mysql("A:1-9,B:1-3"), GtidSet::Empty, vec![A, B], mysql("A:1-9,B:1-3")),
            // who is not known may be anybody
            (mysql("A:1-9,B:1-3"), GtidSet::Empty, vec![A, ""], mysql("A:1-9,B:1-3")),
            (mariadb("0-1-10,0-2-11", ""), mariadb("0-1-5", ""), vec!["1"], mariadb("0-1-10", "")),
            (mariadb("0-1-10,0-2-11", "0-1-12"), mariadb("0-1-5", ""), vec!["1"], mariadb("0-1-10", "0-1-12")),
            (mariadb("0-1-10,0-2-14", ""), mariadb("0-1-5,0-2-4", ""), vec!["1"], mariadb("0-1-10,0-2-4", "")),
            (mariadb("0-1-10", "0-2-14"), mariadb("0-1-10", ""), vec!["1"], mariadb("0-1-10", "")),
            (mariadb("0-1-10,0-2-14", ""), mariadb("0-1-10", "0-2-14"), vec!["3"], mariadb("0-1-10,0-2-14", "")),
            (mariadb("0-1-10,0-2-19", ""), mariadb("0-1-10", "0-2-14"), vec!["3"], mariadb("0-1-10,0-2-14", "")),
            // what may be among that which was only received is no reason to believe that it is
            (mariadb("0-5-1", "0-1-16"), mariadb("", "0-1-2"), vec!["1"], mariadb("", "0-1-16")),
            (mariadb("0-1-7,0-5-8", "0-1-8"), mariadb("0-1-7", ""), vec!["1"], mariadb("0-1-7", "0-1-8")),
            (mariadb("0-1-10", "0-2-14"), mariadb("0-1-10", ""), vec!["2"], mariadb("0-1-10", "0-2-14")),
        ] {
            let origins: Vec<String> = origins.into_iter().map(str::to_owned).collect();
            assert_eq!(own.within(&floor, &origins), wanted, "{own} within {floor} and {origins:?}");
        }
    }

    #[test]
    fn is_stored_as_text() {
        for set in [GtidSet::Empty, mysql("A:1-3"), GtidSet::mariadb("0-1-5", "", None).expect("valid")] {
            let json = serde_json::to_string(&set).expect("serialises");
            assert_eq!(serde_json::from_str::<GtidSet>(&json).expect(&json), set);
        }
        assert!(serde_json::from_str::<GtidSet>(r#"{"mariadb":"0-1"}"#).is_err());
    }
}
