//! Positions of MariaDB servers, made of GTIDs `domain-server-seq`.
//!
//! MariaDB does not list what a server has; it names the last transaction of every (domain, server) in the binary
//! log (`gtid_binlog_state`), the last applied one per domain (`gtid_slave_pos`) and the last received one per domain
//! (`Gtid_IO_Pos`). What else a server has must be concluded.
//!
//! # What is assumed
//! 1. `gtid_strict_mode=1`: within a domain, sequence numbers only grow in every binary log, and a replica can only
//!    start from a GTID that its primary has. So a server's history of a domain is one line with growing numbers,
//!    and lines of two servers are the same up to the point where they part, if they do.
//! 2. `log_slave_updates=1`, and nobody writes with the binary log switched off: what was applied is in the log.
//! 3. A GTID is never used for two transactions. A server that lost the end of its history comes back with a new server
//!    id, whether it was rebuilt, restored, or cut by crash recovery under `init_rpl_role=SLAVE`: it goes on counting
//!    from where it was cut (seen), and what it lost may still be in some replica.
//!
//! # What follows
//! * **Same server.** Who has `d-s-n` has all that server s had when it wrote it, so also every `d-s-m`, m <= n.
//! * **Shared line.** If two servers both have `d-s-n`, their lines are the same up to n: whatever the one has there,
//!   of any server, the other has too, even when its own state does not name it. (A server restored from a backup
//!   does not know who wrote what before.)
//! * **Contradiction.** If a's log names `d-s-m` as the last of s, and goes on to numbers of n or more, then a does
//!   not have `d-s-n` for n > m: another transaction stands in its place, or none.
//! * **Same number, other server** is therefore divergence: `0-1-1456` against `0-1-1455,0-2-1456`.
//! * **Received.** A relay log continues a's line without a gap, up to `d-s-n` received. Rules one and two hold for that
//!   GTID as for an applied one. GTIDs of *other* servers between the last applied and the last received number may or
//!   may not be in it: the position does not tell. Where a server has written numbers itself that are as high, its applier
//!   takes nothing more: what it received is there, and not on its line, so rule two does not hold for it.
//!
//! # In doubt
//! For that last case [`contains`](MariaDbGtids::contains) says yes. A no would be taken for a split brain and stop a
//! failover that is fine: a replica that lags behind the last change of primary is the ordinary case. A wrong yes is
//! found out before it can do harm: when the relay log has been applied, which a promotion waits for, nothing is in
//! doubt any more, and the promotion and every rejoin ask again. So for a decision after which nobody asks again, use
//! a position without a received part, such as one taken when all is applied or [`MariaDbGtids::applied`].
//!
//! The other case of doubt is a server restored from a backup that neither names server s nor shares a line with
//! the asker: then the answer is no, since the server itself would refuse too. It does not arise when the restore also
//! sets `gtid_binlog_state` to the donor's.

use super::GtidError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Separates the two parts in the text form.
const RECEIVED: &str = "received";

/// What a MariaDB server has applied, and received beyond that.
///
/// `==` compares what was told; whether two positions mean the same transactions is answered by asking both ways
/// whether one [`contains`](Self::contains) the other.
///
/// ```
/// use cotton_core::gtid::MariaDbGtids;
/// let replica = MariaDbGtids::parse("0-1-100,0-2-150", "0-2-150", Some("0-2-160"))?;
/// assert_eq!(replica.to_string(), "0-1-100,0-2-150 received 0-2-160");
/// assert_eq!("0-1-100,0-2-150 received 0-2-160".parse(), Ok(replica.clone()));
/// assert!(replica.contains(&"0-1-100,0-2-155".parse()?));
/// assert!(!replica.contains(&"0-1-101".parse()?)); // 0-1-100 was the last of server 1
/// # Ok::<(), cotton_core::gtid::GtidError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MariaDbGtids {
    /// By domain and server.
    applied: BTreeMap<(u32, u32), u64>,
    /// By domain: server and number; only where ahead of what was applied of that server. What a server wrote itself in the
    /// meantime may have higher numbers, and says nothing about what it has received.
    received: BTreeMap<u32, (u32, u64)>,
}

/// One GTID: domain, server, number.
type Gtid = (u32, u32, u64);

impl MariaDbGtids {
    /// From what the server shows: `@@gtid_binlog_state`; `@@gtid_slave_pos` (or `gtid_current_pos`), which alone tells
    /// what a restored backup contains; and of a replica `Gtid_IO_Pos`, if its relay log will really be applied: not
    /// while the SQL thread is stopped by an error, and not when both threads are stopped, since the next start would
    /// throw the relay log away.
    ///
    /// # Errors
    /// When one of the texts is not a GTID position.
    pub fn parse(binlog_state: &str, slave_pos: &str, io_pos: Option<&str>) -> Result<Self, GtidError> {
        let mut position = Self::default();
        for (part, (domain, server, seq)) in triples(binlog_state)?.into_iter().enumerate() {
            if position.applied.insert((domain, server), seq).is_some() {
                return Err(GtidError::Repeated { part });
            }
        }
        for (domain, (server, seq)) in one_per_domain(slave_pos)? {
            let known = position.applied.entry((domain, server)).or_default();
            *known = seq.max(*known);
        }
        position.received = one_per_domain(io_pos.unwrap_or_default())?;
        // MariaDB writes number 0 where there is no transaction; and what is applied need not be named as received.
        position.applied.retain(|_, seq| *seq > 0);
        let applied = &position.applied;
        let known = |domain: u32, server: u32| applied.get(&(domain, server)).copied().unwrap_or_default();
        position.received.retain(|domain, (server, seq)| *seq > known(*domain, *server));
        Ok(position)
    }

    /// The position without what is received and not applied: what the server has for certain, exactly comparable.
    #[must_use]
    pub fn applied(&self) -> Self {
        Self { applied: self.applied.clone(), received: BTreeMap::new() }
    }

    /// Whether nothing was applied or received.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.received.is_empty()
    }

    /// Whether all of `other` is in `self`, as far as positions tell: see "in doubt" in the
    /// [module documentation](self). Exact when nothing received is left to apply in `self`.
    pub fn contains(&self, other: &Self) -> bool {
        other.missing_in(self).is_empty()
    }

    /// By how much the numbers of `self` are beyond those of an earlier position of the same server, over all domains.
    pub(super) fn count_beyond(&self, earlier: &Self) -> u64 {
        let last = |of: &Self, domain: u32| {
            let received = of.received.get(&domain).map_or(0, |(_, seq)| *seq);
            received.max(front(&of.applied, domain))
        };
        let domains: BTreeSet<u32> =
            self.applied.keys().map(|(domain, _)| *domain).chain(self.received.keys().copied()).collect();
        let beyond = |domain: u32| last(self, domain).saturating_sub(last(earlier, domain));
        domains.into_iter().fold(0, |sum, domain| sum.saturating_add(beyond(domain)))
    }

    /// What is in `self` and either in `floor` or written by one of these servers. Where a server wrote more than `floor`
    /// has of it, what `floor` has stands for it. What `floor` has only received vouches for the server that it names, and
    /// not for what others may have written before that.
    pub(super) fn within(&self, floor: &Self, origins: &[u32]) -> Self {
        let beyond = self.applied().missing_in(&floor.applied());
        let received = self.missing_in(floor).received;
        let mut within = self.clone();
        for (&(domain, server), &seq) in beyond.applied.iter().filter(|((_, server), _)| !origins.contains(server)) {
            match floor.last_of(domain, server) {
                0 => within.applied.remove(&(domain, server)),
                known => within.applied.insert((domain, server), known.min(seq)),
            };
        }
        within.received.retain(|domain, (server, _)| origins.contains(server) || !received.contains_key(domain));
        within
    }

    /// The GTIDs named in `self` that `other` lacks.
    pub(super) fn missing_in(&self, other: &Self) -> Self {
        let mut missing = Self::default();
        let mut line = None;
        let applied = self.applied.iter().map(|(&(domain, server), &seq)| (domain, server, seq));
        for gtid @ (domain, server, seq) in applied {
            if !Line::cached(&mut line, other, self, domain).has(gtid) {
                missing.applied.insert((domain, server), seq);
            }
        }
        for (&domain, &(server, seq)) in &self.received {
            if !Line::cached(&mut line, other, self, domain).has((domain, server, seq)) {
                missing.received.insert(domain, (server, seq));
            }
        }
        missing
    }

    /// The last transaction of a server that is named, applied or received; 0: none.
    fn last_of(&self, domain: u32, server: u32) -> u64 {
        let applied = self.applied.get(&(domain, server)).copied().unwrap_or_default();
        self.received.get(&domain).filter(|(from, _)| *from == server).map_or(applied, |(_, seq)| *seq)
    }

    /// The same, on its line: what it has received below a number of its own writes is not on that.
    fn last_on_line(&self, domain: u32, server: u32) -> u64 {
        let received = self.received.get(&domain).is_some_and(|(_, seq)| *seq > front(&self.applied, domain));
        let applied = || self.applied.get(&(domain, server)).copied().unwrap_or_default();
        if received { self.last_of(domain, server) } else { applied() }
    }
}

/// What a server's position tells about its line of one domain, when asked by another.
struct Line<'a> {
    of: &'a MariaDbGtids,
    domain: u32,
    /// Up to here its line is certainly the same as the asker's.
    shared: u64,
    /// Largest applied number.
    front: u64,
    /// Largest received number, if beyond that.
    received: u64,
}

impl<'a> Line<'a> {
    /// The line of `domain`, made once for each domain.
    fn cached<'b>(line: &'b mut Option<Self>, of: &'a MariaDbGtids, asker: &MariaDbGtids, domain: u32) -> &'b Self {
        if line.as_ref().is_none_or(|line| line.domain != domain) {
            *line = None;
        }
        line.get_or_insert_with(|| {
            let servers = asker.applied.range((domain, 0)..=(domain, u32::MAX)).map(|((_, server), _)| *server);
            let servers = servers.chain(asker.received.get(&domain).map(|(server, _)| *server));
            let both = servers.map(|server| asker.last_on_line(domain, server).min(of.last_on_line(domain, server)));
            let shared = both.max().unwrap_or_default();
            let received = of.received.get(&domain).map_or(0, |(_, seq)| *seq);
            Self { of, domain, shared, front: front(&of.applied, domain), received }
        })
    }

    /// Whether a GTID lies on it; the rules of the module documentation in their order.
    fn has(&self, (domain, server, seq): Gtid) -> bool {
        let same_server = self.of.last_of(domain, server) >= seq;
        let contradicted = seq <= self.front && self.of.applied.contains_key(&(domain, server));
        let in_doubt = self.front < seq && seq < self.received;
        same_server || !contradicted && (seq <= self.shared || in_doubt)
    }
}

/// Largest applied number of a domain; 0: none.
fn front(applied: &BTreeMap<(u32, u32), u64>, domain: u32) -> u64 {
    applied.range((domain, 0)..=(domain, u32::MAX)).map(|(_, seq)| *seq).max().unwrap_or_default()
}

fn triples(text: &str) -> Result<Vec<Gtid>, GtidError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let read = |(part, text): (usize, &str)| triple(text.trim()).ok_or(GtidError::Triple { part });
    text.split(',').enumerate().map(read).collect()
}

fn triple(text: &str) -> Option<Gtid> {
    let mut numbers = text.split('-').map(|number| {
        let digits = number.bytes().all(|b| b.is_ascii_digit()); // `parse` would also take a sign
        number.parse::<u64>().ok().filter(|_| digits)
    });
    let (domain, server, seq) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let ids = (u32::try_from(domain).ok()?, u32::try_from(server).ok()?);
    numbers.next().is_none().then_some((ids.0, ids.1, seq))
}

fn one_per_domain(text: &str) -> Result<BTreeMap<u32, (u32, u64)>, GtidError> {
    let mut domains = BTreeMap::new();
    for (part, (domain, server, seq)) in triples(text)?.into_iter().enumerate() {
        if domains.insert(domain, (server, seq)).is_some() {
            return Err(GtidError::Repeated { part });
        }
    }
    Ok(domains)
}

impl fmt::Display for MariaDbGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for ((domain, server), seq) in &self.applied {
            write!(f, "{before}{domain}-{server}-{seq}")?;
            before = ",";
        }
        before = if self.applied.is_empty() { "" } else { " " };
        for (index, (domain, (server, seq))) in self.received.iter().enumerate() {
            let lead = if index == 0 { format_args!("{before}{RECEIVED} ") } else { format_args!(",") };
            write!(f, "{lead}{domain}-{server}-{seq}")?;
        }
        Ok(())
    }
}

impl FromStr for MariaDbGtids {
    type Err = GtidError;

    /// The text form: as `gtid_binlog_state`, and perhaps `received` and a text as `Gtid_IO_Pos`.
    fn from_str(text: &str) -> Result<Self, GtidError> {
        let (applied, received) = text.split_once(RECEIVED).unwrap_or((text, ""));
        Self::parse(applied, "", Some(received))
    }
}

impl TryFrom<String> for MariaDbGtids {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<MariaDbGtids> for String {
    fn from(position: MariaDbGtids) -> Self {
        position.to_string()
    }
}

#[cfg(test)]
#[path = "mariadb_tests.rs"]
mod tests;
