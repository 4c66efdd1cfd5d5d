//! GTID sets of MySQL: `uuid[:tag]:first[-last]...`, as `gtid_executed` and `Retrieved_Gtid_Set` show them.
//!
//! A set holds transactions by name, so union, subtraction and subset are those of plain sets and say the same as the
//! servers' own `GTID_SUBSET` and `GTID_SUBTRACT`. The text that is printed is the one canonical form of the set: what
//! the server prints, without the newlines that it puts after commas.
//!
//! Reading takes what MySQL 9 takes (upper case, white space, any order, empty parts between commas, intervals that
//! overlap), with three exceptions, because no server prints them and a position that is read too small may lose
//! data: a uuid or tag without an interval and an interval that runs backwards are errors here, not "nothing"; and
//! uuids must be written with their dashes.

use super::GtidError;
use super::interval::{GNO_MAX, Interval, Intervals};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest tag, in bytes, as the server has it.
const TAG_BYTES_MAX: usize = 32;

/// A set of MySQL transactions.
///
/// ```
/// use cotton_core::gtid::MySqlGtids;
/// let old: MySqlGtids = "3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5:8".parse()?;
/// let new: MySqlGtids = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7".parse()?;
/// assert_eq!(old.subtract(&new).to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:8");
/// # Ok::<(), cotton_core::gtid::GtidError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MySqlGtids(BTreeMap<Source, Intervals>); // no entry is empty

/// Where transactions are numbered: in a server, and there apart for every tag. Sorts as the server prints: by uuid,
/// untagged first, tags by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    uuid: u128,
    tag: Box<str>, // lower case; empty: untagged
}

impl MySqlGtids {
    /// All that is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (source, more) in &other.0 {
            match all.0.get_mut(source) {
                Some(have) => *have = have.union(more),
                None => {
                    all.0.insert(source.clone(), more.clone());
                }
            }
        }
        all
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let left = self.0.iter().filter_map(|(source, have)| {
            let left = other.0.get(source).map_or_else(|| have.clone(), |less| have.subtract(less));
            (!left.is_empty()).then(|| (source.clone(), left))
        });
        Self(left.collect())
    }

    /// What is in `self` and either in `floor` or written by one of these servers.
    pub(super) fn within(&self, floor: &Self, origins: &[u128]) -> Self {
        let mut beyond = self.subtract(floor);
        beyond.0.retain(|source, _| !origins.contains(&source.uuid));
        self.subtract(&beyond)
    }

    /// Whether all of `other` is in `self`.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(source, wanted)| self.0.get(source).is_some_and(|have| have.contains(wanted)))
    }

    /// Whether any transaction is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        let shared = self.0.iter().filter_map(|(source, a)| other.0.get(source).map(|b| (a, b)));
        shared.into_iter().any(|(a, b)| a.subtract(b) != *a)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many transactions there are; saturates.
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, intervals| sum.saturating_add(intervals.count()))
    }
}

impl fmt::Display for MySqlGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for (Source { uuid, tag }, intervals) in &self.0 {
            if before != Some(uuid) {
                let comma = if before.is_some() { "," } else { "" };
                let part = |shift: u32| uuid >> shift & 0xffff;
                write!(f, "{comma}{:08x}-{:04x}-{:04x}-{:04x}", uuid >> 96, part(80), part(64), part(48))?;
                write!(f, "-{:012x}", uuid & 0xffff_ffff_ffff)?;
                before = Some(uuid);
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for (first, last) in intervals.iter() {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}

impl FromStr for MySqlGtids {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut cursor = Cursor { text: text.as_bytes(), at: 0 };
        let mut read: BTreeMap<Source, Vec<Interval>> = BTreeMap::new();
        loop {
            while cursor.takes(b',') {}
            if cursor.at_end() {
                return Ok(Self(read.into_iter().map(|(source, any)| (source, Intervals::new(any))).collect()));
            }
            cursor.server(&mut read)?;
            if !cursor.at_end() && !cursor.takes(b',') {
                return Err(GtidError::Separator { at: cursor.at });
            }
        }
    }
}

impl TryFrom<String> for MySqlGtids {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<MySqlGtids> for String {
    fn from(set: MySqlGtids) -> Self {
        set.to_string()
    }
}

/// A server's uuid, as it stands in a set.
pub(super) fn uuid(text: &str) -> Option<u128> {
    let mut cursor = Cursor { text: text.as_bytes(), at: 0 };
    cursor.uuid().ok().filter(|_| cursor.at_end())
}

/// Reads a set from left to right; white space may stand between any two parts.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// One server's part: `uuid` and its intervals, with or without tags.
    fn server(&mut self, into: &mut BTreeMap<Source, Vec<Interval>>) -> Result<(), GtidError> {
        let mut source = Source { uuid: self.uuid()?, tag: Box::default() };
        let mut complete = false;
        while self.takes(b':') {
            if self.peek().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') {
                if !complete && !source.tag.is_empty() {
                    return Err(GtidError::NoInterval { at: self.at });
                }
                source.tag = self.tag()?;
                complete = false;
            } else {
                let interval = self.interval()?;
                into.entry(source.clone()).or_default().push(interval);
                complete = true;
            }
        }
        if complete { Ok(()) } else { Err(GtidError::NoInterval { at: self.at }) }
    }

    fn uuid(&mut self) -> Result<u128, GtidError> {
        self.skip_space();
        let mut uuid = 0;
        for place in 0..36 {
            let byte = self.text.get(self.at).copied();
            let digit = byte.and_then(|b| char::from(b).to_digit(16));
            match (place, byte, digit) {
                (8 | 13 | 18 | 23, Some(b'-'), _) => {}
                (8 | 13 | 18 | 23, _, _) | (_, _, None) => return Err(GtidError::Uuid { at: self.at }),
                (_, _, Some(digit)) => uuid = uuid << 4 | u128::from(digit),
            }
            self.at += 1;
        }
        Ok(uuid)
    }

    fn tag(&mut self) -> Result<Box<str>, GtidError> {
        let begin = self.at;
        let bytes = self.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        if bytes.len() > TAG_BYTES_MAX {
            return Err(GtidError::TagTooLong { at: begin });
        }
        Ok(bytes.iter().map(|b| char::from(b.to_ascii_lowercase())).collect())
    }

    fn interval(&mut self) -> Result<Interval, GtidError> {
        let first = self.number()?;
        let begin = self.at;
        let last = if self.takes(b'-') { self.number()? } else { first };
        if first <= last { Ok((first, last)) } else { Err(GtidError::Backwards { at: begin }) }
    }

    fn number(&mut self) -> Result<u64, GtidError> {
        self.skip_space();
        let at = self.at;
        let digits = self.take_while(|b| b.is_ascii_digit());
        if digits.is_empty() {
            return Err(GtidError::Number { at });
        }
        // Saturating: what does not fit is far above the largest number allowed.
        let number = digits.iter().fold(0, |sum: u64, b| sum.saturating_mul(10).saturating_add(u64::from(b - b'0')));
        if (1..=GNO_MAX).contains(&number) { Ok(number) } else { Err(GtidError::OutOfRange { at }) }
    }

    fn takes(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        self.take_while(|b| matches!(b, b' ' | b'\t'..=b'\r'));
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &[u8] {
        let rest = &self.text[self.at..];
        let taken = &rest[..rest.iter().position(|b| !wanted(*b)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }
}

#[cfg(test)]
#[path = "mysql_tests.rs"]
mod tests;
