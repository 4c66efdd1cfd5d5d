//! Compares this server's history with a primary's before it follows: what it has that the primary lacks, and what it
//! needs that the primary's binary logs no longer hold.
//!
//! The primary is read over TCP with the replication account. It may still be applying what it received before its
//! promotion; until it is open for writes, what it lacks may only be late.

use crate::Error;
use crate::dialect::Dialect;
use crate::sql::Link;
use crate::status::{Facts, Reader};
use cotton_core::GtidSet;
use cotton_core::gtid::MySqlGtids;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What the comparison found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The primary has everything, and its logs reach back.
    Fine,
    /// The primary lacks these.
    Errant(String),
    /// The primary's logs do not reach back.
    Missing(String),
}

/// Another server, seen with the replication account.
#[derive(Debug)]
pub(crate) struct Primary {
    pub(crate) link: Link,
    pub(crate) reader: Reader,
}

impl Primary {
    /// Compares with `own`, read before.
    pub(crate) async fn judge(&self, own: &GtidSet, own_facts: &Facts, limit: Duration) -> Result<Verdict, Error> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        let mut found_before = false;
        let primary = loop {
            let primary = self.reader.own_facts(&self.link, limit).await?;
            let Some(errant) = own.errant_against(&primary.position) else { break primary };
            if primary.writable && found_before {
                return Ok(Verdict::Errant(errant.to_string()));
            }
            found_before = primary.writable;
            if Instant::now() >= deadline {
                return Err(Error::NotYet(format!("the primary is not open for writes yet and still lacks {errant}")));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        if lacks_own(self.reader.dialect, own_facts, &primary.executed_text) {
            let text = "the primary has transactions of this server that it lost, and would skip as its own";
            return Ok(Verdict::Missing(text.to_owned()));
        }
        // MariaDB's list of binary logs cannot be read while a commit waits for an acknowledgement, perhaps ours: there
        // the attempt to connect tells
        if self.reader.dialect.is_mariadb() { Ok(Verdict::Fine) } else { self.judge_purged(own, limit).await }
    }

    async fn judge_purged(&self, own: &GtidSet, limit: Duration) -> Result<Verdict, Error> {
        let row = self.link.row("read gtid_purged", "SELECT @@GLOBAL.gtid_purged AS purged", limit).await?;
        let purged = row.text("purged").unwrap_or_default().replace('\n', "");
        let set = GtidSet::mysql(&purged, "").map_err(|error| Error::answer("read gtid_purged", error))?;
        Ok(match set.errant_against(own) {
            Some(missing) => Verdict::Missing(format!("the primary has purged {missing} from its binary logs")),
            None => Verdict::Fine,
        })
    }
}

/// Whether the primary has transactions with our mark that we do not have: a replica takes them for a loop and skips
/// them, silently.
fn lacks_own(dialect: Dialect, own: &Facts, primary: &str) -> bool {
    if dialect.is_mariadb() {
        let last = |list: &str| -> BTreeMap<String, u64> {
            let mark = format!("-{}-", own.own_mark);
            let mine = list.split(',').filter_map(|part| part.trim().split_once(&mark));
            mine.filter_map(|(domain, seq)| Some((domain.to_owned(), seq.parse().ok()?))).collect()
        };
        let have = last(&own.executed_text);
        return last(primary).iter().any(|(domain, seq)| have.get(domain).is_none_or(|own| own < seq));
    }
    let (Ok(have), Ok(theirs)) = (own.executed_text.parse::<MySqlGtids>(), primary.parse::<MySqlGtids>()) else {
        return false; // both were read before
    };
    theirs.subtract(&have).to_string().contains(&own.own_mark.to_ascii_lowercase())
}

/// The last GTID of each domain on MariaDB: (server, sequence number).
pub(crate) type Position = BTreeMap<u64, (u64, u64)>;

/// The last sequence number of each domain and server on MariaDB.
pub(crate) type LastOfServers = BTreeMap<(u64, u64), u64>;

/// The newest GTIDs in MariaDB's lists.
pub(crate) fn newest(lists: &[&str]) -> Result<Position, Error> {
    let mut newest = Position::new();
    for (domain, server, seq) in gtids(lists)? {
        let entry = newest.entry(domain).or_default();
        if seq >= entry.1 {
            *entry = (server, seq);
        }
    }
    Ok(newest)
}

/// What a MariaDB must be told that it has applied, where its log has more than it has noted: that of a former primary, or a
/// statement of DDL after which it was killed.
pub(crate) fn unnoted(noted: &str, logged: &str) -> Result<Option<String>, Error> {
    let wanted = newest(&[noted, logged])?;
    Ok((newest(&[noted])? != wanted).then(|| position_text(&wanted)))
}

/// The newest GTIDs of each server in MariaDB's lists.
pub(crate) fn newest_of_servers(lists: &[&str]) -> Result<LastOfServers, Error> {
    let mut newest = LastOfServers::new();
    for (domain, server, seq) in gtids(lists)? {
        let last = newest.entry((domain, server)).or_default();
        *last = seq.max(*last);
    }
    Ok(newest)
}

/// Domain, server and sequence number of each GTID in MariaDB's lists.
pub(crate) fn gtids(lists: &[&str]) -> Result<Vec<(u64, u64, u64)>, Error> {
    let parts = lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|part| !part.is_empty());
    let gtid = |part: &str| {
        let numbers: Vec<u64> = part.split('-').map_while(|number| number.parse().ok()).collect();
        match *numbers.as_slice() {
            [domain, server, seq] => Ok((domain, server, seq)),
            _ => Err(Error::answer("read a GTID position", part)),
        }
    };
    parts.map(gtid).collect()
}

/// As MariaDB writes it.
pub(crate) fn position_text(position: &Position) -> String {
    let parts: Vec<String> =
        position.iter().map(|(domain, (server, seq))| format!("{domain}-{server}-{seq}")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_by_domain() {
        let text = |lists: &[&str]| newest(lists).map(|position| position_text(&position)).expect("well formed");
        assert_eq!(text(&["0-1-5,0-2-9", "1-1-3"]), "0-2-9,1-1-3");
        assert_eq!(text(&["0-2-9", "0-1-5"]), "0-2-9");
        assert_eq!(text(&["", " 0-1-5 , 0-3-5"]), "0-3-5");
        assert!(newest(&["0-1"]).is_err() && newest(&["x"]).is_err());
        let of_servers = newest_of_servers(&["0-1-5,0-2-9", "0-1-4,1-1-3"]).expect("well formed");
        assert_eq!(of_servers.into_iter().collect::<Vec<_>>(), [((0, 1), 5), ((0, 2), 9), ((1, 1), 3)]);
    }
}
