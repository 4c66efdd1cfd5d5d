//! What the tables of time zones hold, so that users can name zones (`CONVERT_TZ`, `SET time_zone`).
//!
//! The makers' tool for this (`mariadb-tzinfo-to-sql`, `mysql_tzinfo_to_sql`) is not in every package of a server, needs the
//! system's files, and writes thousands of statements. The same rows are made here, in few statements: zones as `jiff`
//! finds them on the system or, where that has none, as they came with it.

use jiff::Timestamp;
use jiff::tz::{TimeZone, db};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rows of one statement.
const ROWS_MAX: usize = 1_000;

/// What is known of one zone; zones with equal rows are one, under several names.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Zone {
    /// Offset from UTC in seconds, whether it is summer time, abbreviation.
    kinds: Vec<(i32, bool, String)>,
    /// When which kind begins, in seconds since 1970.
    transitions: Vec<(i64, usize)>,
}

impl Zone {
    /// From 1901 to 2038, as the servers' own tool does.
    fn of(zone: &TimeZone) -> Self {
        let (first, last) = (i64::from(i32::MIN), i64::from(i32::MAX));
        let mut of = Self { kinds: Vec::new(), transitions: Vec::new() };
        let begin = Timestamp::from_second(first).expect("in the range of timestamps");
        let info = zone.to_offset_info(begin);
        of.kinds.push((info.offset().seconds(), info.dst().is_dst(), info.abbreviation().to_owned()));
        for next in zone.following(begin) {
            let at = next.timestamp().as_second();
            if at > last {
                break;
            }
            let kind = (next.offset().seconds(), next.dst().is_dst(), next.abbreviation().to_owned());
            let number = of.kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                of.kinds.push(kind);
                of.kinds.len() - 1
            });
            of.transitions.push((at, number));
        }
        of
    }
}

/// Statements that fill the tables, whatever was in them before. The names come last: while there are none, it has to be done
/// again.
pub(crate) fn statements() -> Vec<String> {
    let mut zones: BTreeMap<Zone, Vec<String>> = BTreeMap::new();
    for name in db().available() {
        let name = name.as_str();
        if name.starts_with("posix/") || name.starts_with("right/") {
            continue; // the same again, and with leap seconds
        }
        if let Ok(zone) = db().get(name) {
            zones.entry(Zone::of(&zone)).or_default().push(name.to_owned());
        }
    }
    let mut sql = Vec::new();
    let (mut ids, mut names, mut kinds, mut transitions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, (zone, known_as)) in (1u32..).zip(&zones) {
        ids.push(format!("({id},'N')"));
        names.extend(known_as.iter().map(|name| format!("({},{id})", text(name))));
        let kind = |(number, (offset, summer, abbreviation)): (usize, &(i32, bool, String))| {
            format!("({id},{number},{offset},{},{})", u8::from(*summer), text(abbreviation))
        };
        kinds.extend(zone.kinds.iter().enumerate().map(kind));
        transitions.extend(zone.transitions.iter().map(|(at, number)| format!("({id},{at},{number})")));
    }
    for table in ["time_zone_name", "time_zone", "time_zone_transition_type", "time_zone_transition"] {
        sql.push(format!("TRUNCATE TABLE mysql.{table}"));
    }
    for (into, rows) in [
        ("time_zone (Time_zone_id, Use_leap_seconds)", ids),
        ("time_zone_transition_type (Time_zone_id, Transition_type_id, `Offset`, Is_DST, Abbreviation)", kinds),
        ("time_zone_transition (Time_zone_id, Transition_time, Transition_type_id)", transitions),
    ] {
        sql.extend(rows.chunks(ROWS_MAX).map(|rows| format!("INSERT INTO mysql.{into} VALUES {}", rows.join(","))));
    }
    sql.push(format!("INSERT INTO mysql.time_zone_name (Name, Time_zone_id) VALUES {}", names.join(",")));
    sql
}

/// A literal; the columns of abbreviations take eight bytes.
fn text(value: &str) -> String {
    let mut literal = String::from("'");
    for c in value.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '\'' | '\\')) {
        let _infallible = write!(literal, "{c}");
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_its_kinds_and_when_they_begin() {
        let zone = Zone::of(&db().get("Europe/Berlin").expect("a known zone"));
        assert_eq!(zone.kinds.iter().find(|kind| kind.1), Some(&(7_200, true, "CEST".to_owned())));
        // 2026-03-29 01:00 UTC and 2037-10-25 01:00 UTC
        let begins = |at: i64| zone.transitions.iter().find(|next| next.0 == at).map(|next| zone.kinds[next.1].0);
        assert_eq!((begins(1_774_746_000), begins(2_140_045_200)), (Some(7_200), Some(3_600)));
        assert!(zone.transitions.is_sorted());
        assert!(zone.transitions.iter().all(|(at, _)| i32::try_from(*at).is_ok()), "as wide as the columns");
    }

    #[test]
    fn names_come_last_and_in_one_statement() {
        let sql = statements();
        let (last, before) = sql.split_last().expect("statements");
        assert!(last.starts_with("INSERT INTO mysql.time_zone_name") && last.contains("'Europe/Berlin'"));
        assert!(before.iter().all(|sql| !sql.starts_with("INSERT INTO mysql.time_zone_name")));
        assert!(sql.iter().all(|sql| sql.len() < 1 << 20), "far below any server's max_allowed_packet");
    }

    #[test]
    fn abbreviations_fit_their_column() {
        for name in db().available() {
            let zone = Zone::of(&db().get(name.as_str()).expect("a listed zone"));
            assert!(zone.kinds.iter().all(|(.., word)| word.len() <= 8), "{name}: {:?}", zone.kinds);
        }
    }
}
