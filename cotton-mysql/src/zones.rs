//! The time zones of the world as rows of the servers' tables, so that `CONVERT_TZ` and `SET time_zone` know their names.
//!
//! They are those of the machine (`/usr/share/zoneinfo`) where it has some, else those that were built in. Servers come with
//! a program for that, but Debian has it in another package than those that members need.
//!
//! They are written while a data directory is made, without a binary log; copies have them from their donors. On an open
//! primary they would be transactions that every replica has to acknowledge and apply.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The beginning of `TIMESTAMP`.
const FROM: i64 = 0;
/// The end of `TIMESTAMP` on most servers.
const UNTIL: i64 = (1 << 31) - 1;
/// Stands for all the time before [`FROM`].
const LONG_AGO: i64 = -(1 << 31);

/// Largest statement, in bytes: old servers take no longer lines while they make a data directory.
const STATEMENT_BYTES_MAX: usize = 16_000;

/// Directories of other kinds of zones within those of a system: with leap seconds, or the same once more.
const OTHER_KINDS: [&str; 2] = ["right/", "posix/"];
/// Longest name that the servers' tables take.
const NAME_BYTES_MAX: usize = 64;
/// As many changes as servers read of one zone.
const CHANGES_MAX: usize = 370;

/// What clocks show from some moment on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Clock {
    offset: i32,
    dst: bool,
    abbreviation: String,
}

/// All changes of a zone. Two names with the same are one zone.
type Changes = Vec<(i64, Clock)>;

/// Statements, one a line, that fill the empty tables; in the database `mysql`.
pub(crate) fn statements() -> String {
    render(&zones(&TimeZoneDatabase::from_env()))
}

/// The zones of a database with the names of each.
fn zones(database: &TimeZoneDatabase) -> BTreeMap<Changes, Vec<String>> {
    let mut zones: BTreeMap<Changes, Vec<String>> = BTreeMap::new();
    let names = database.available().map(|name| (name.as_str().to_ascii_lowercase(), name.as_str().to_owned()));
    let names: BTreeMap<String, String> = names.collect(); // servers do not tell upper case from lower
    for name in names.into_values() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
        let other = OTHER_KINDS.iter().any(|kind| name.starts_with(kind));
        if other || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            continue;
        }
        if let Some(changes) = database.get(&name).ok().and_then(|zone| changes(&zone)) {
            zones.entry(changes).or_default().push(name);
        }
    }
    zones
}

fn changes(zone: &TimeZone) -> Option<Changes> {
    let from = Timestamp::from_second(FROM).ok()?;
    let first = zone.to_offset_info(from);
    let clock = |offset: jiff::tz::Offset, dst: jiff::tz::Dst, abbreviation: &str| Clock {
        offset: offset.seconds(),
        dst: dst.is_dst(),
        abbreviation: abbreviation.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '\'' | '\\')).collect(),
    };
    let mut changes = vec![(LONG_AGO, clock(first.offset(), first.dst(), first.abbreviation()))];
    for change in zone.following(from).take_while(|change| change.timestamp().as_second() <= UNTIL) {
        let next = clock(change.offset(), change.dst(), change.abbreviation());
        if changes.last().is_none_or(|(_, last)| *last != next) {
            changes.push((change.timestamp().as_second(), next));
        }
    }
    (changes.len() <= CHANGES_MAX).then_some(changes)
}

fn render(zones: &BTreeMap<Changes, Vec<String>>) -> String {
    let mut names = Rows::of("time_zone_name (Name, Time_zone_id)");
    let mut ids = Rows::of("time_zone (Time_zone_id, Use_leap_seconds)");
    let mut types =
        Rows::of("time_zone_transition_type (Time_zone_id, Transition_type_id, `Offset`, Is_DST, Abbreviation)");
    let mut transitions = Rows::of("time_zone_transition (Time_zone_id, Transition_time, Transition_type_id)");
    for (id, (changes, called)) in (1..).zip(zones) {
        ids.push(&format!("({id},'N')"));
        for name in called {
            names.push(&format!("('{name}',{id})"));
        }
        let mut clocks: Vec<&Clock> = Vec::new(); // the first one comes first
        for (at, clock) in changes {
            let kind = clocks.iter().position(|known| *known == clock).unwrap_or_else(|| {
                clocks.push(clock);
                clocks.len() - 1
            });
            transitions.push(&format!("({id},{at},{kind})"));
        }
        for (kind, Clock { offset, dst, abbreviation }) in clocks.iter().enumerate() {
            types.push(&format!("({id},{kind},{offset},{},'{abbreviation}')", u8::from(*dst)));
        }
    }
    [ids, names, types, transitions].map(Rows::finish).concat()
}

/// Rows of one table, as statements that are not too long.
struct Rows {
    table: &'static str,
    done: String,
    row_bytes: usize,
}

impl Rows {
    const fn of(table: &'static str) -> Self {
        Self { table, done: String::new(), row_bytes: 0 }
    }

    fn push(&mut self, row: &str) {
        if self.row_bytes + row.len() > STATEMENT_BYTES_MAX {
            self.end();
        }
        if self.row_bytes == 0 {
            let _ = write!(self.done, "INSERT INTO mysql.{} VALUES ", self.table); // a String takes everything
        } else {
            self.done.push(',');
        }
        self.done.push_str(row);
        self.row_bytes += row.len() + 1;
    }

    fn end(&mut self) {
        if self.row_bytes > 0 {
            self.done.push_str(";\n");
        }
        self.row_bytes = 0;
    }

    fn finish(mut self) -> String {
        self.end();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_what_clocks_show() {
        let zones = zones(&TimeZoneDatabase::bundled());
        let of = |name: &str| zones.iter().find(|(_, names)| names.iter().any(|n| n == name)).expect(name).0;
        let at = |name: &str, second: i64| {
            let (_, clock) = of(name).iter().rev().find(|(at, _)| *at <= second).expect("from long ago on");
            (clock.offset, clock.dst, clock.abbreviation.as_str())
        };
        assert_eq!(at("Europe/Berlin", 1_767_225_600), (3_600, false, "CET")); // 2026-01-01
        assert_eq!(at("Europe/Berlin", 2_130_000_000), (7_200, true, "CEST")); // 2037-06-30: by rule
        assert_eq!(at("Europe/Berlin", 1_000), (3_600, false, "CET"));
        assert_eq!(at("Asia/Kolkata", 1_767_225_600), (19_800, false, "IST"));
        assert_eq!(of("UTC").len(), 1);
        assert!(zones.len() > 250 && zones.values().flatten().count() > 500);
    }

    #[test]
    fn statements_fit_into_lines_of_old_servers() {
        let text = render(&zones(&TimeZoneDatabase::bundled()));
        assert!(text.lines().all(|line| line.ends_with(");") && line.len() < STATEMENT_BYTES_MAX + 1_000));
        assert!(text.lines().count() < 60, "few statements: each of them takes time");
        assert!(text.contains("`Offset`"), "a word of newer servers");
        let quotes = |line: &str| line.matches('\'').count() % 2;
        assert!(text.lines().all(|line| quotes(line) == 0));
    }
}
