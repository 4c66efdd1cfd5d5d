//! What a server says about itself: rows turned into facts.

use crate::Error;
use crate::accounts::REPLICATION;
use crate::dialect::Dialect;
use crate::history::{gtids, newest};
use crate::process::applier_error;
use crate::relay::Relays;
use crate::sql::{Link, Record};
use cotton_core::ports::mysql::{LinkState, Replication};
use cotton_core::protocol::LogPlace;
use cotton_core::resources::MIB;
use cotton_core::{Endpoint, GtidSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A write that finds no room can only be waiting when so little is left.
const LITTLE_ROOM: u64 = 64 * MIB;

/// Seconds after which a statement that commits on a full disk counts as one that waits for room.
const LONG_COMMIT_S: u64 = 2;

/// States of a MySQL session that commits, on a full disk as well.
const LONG_COMMITS: [&str; 2] = ["waiting for handler commit", "query end"];

/// All sessions and threads. Not by `information_schema`: that makes a table on the disk, which may be full.
pub(crate) async fn processes(link: &Link, limit: Duration) -> Result<Vec<Record>, Error> {
    link.query("list sessions", "SHOW PROCESSLIST", limit).await
}

/// So much of an error of replication is told.
const ERROR_CHARS_MAX: usize = 300;

/// Whether a MariaDB session waits for room on the disk.
pub(crate) fn waits_for_room(process: &Record) -> bool {
    process.text("State").is_some_and(|state| state.starts_with("Waiting for someone to free space"))
}

/// The state of one server, read by one or two statements.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) version: String,
    pub(crate) writable: bool,
    /// What is applied and in the binary log.
    pub(crate) executed: GtidSet,
    /// Executed, or received and sure to be applied, or being committed.
    pub(crate) position: GtidSet,
    /// How many transactions are received and not executed.
    pub(crate) unapplied: u64,
    /// Whether commits wait for acknowledgements; `None` without semi-sync.
    pub(crate) source_on: Option<bool>,
    /// Whether acknowledgements are given; `None` without semi-sync.
    pub(crate) replica_on: Option<bool>,
    pub(crate) replica: Option<Replica>,
    /// The last sequence number of each MariaDB domain and server, or MySQL's executed set, as the server prints it.
    pub(crate) executed_text: String,
    /// The last GTID of each MariaDB domain that came by replication.
    pub(crate) applied_text: String,
    /// Numbers of its primary's are in a MariaDB's binary log that its applier has not come to.
    pub(crate) overshot: bool,
    /// What marks own transactions: MariaDB's `server_id`, MySQL's `server_uuid`.
    pub(crate) own_mark: String,
}

impl Facts {
    /// Whether all that was received is executed.
    pub(crate) fn is_applied(&self) -> bool {
        self.executed.contains(&self.position)
    }

    /// Why what was received will not be applied as things are.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let stopped = self.replica.as_ref().filter(|replica| !replica.applying && !self.is_applied())?;
        stopped.apply_error.as_ref().map(|(code, text)| format!("{text} ({code})"))
    }
}

/// A configured replication.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of one moment")]
pub(crate) struct Replica {
    pub(crate) source: Endpoint,
    pub(crate) receiving: bool,
    pub(crate) link: LinkState,
    /// The source has begun to send: it first names the log that it reads from.
    pub(crate) accepted: bool,
    pub(crate) applying: bool,
    /// The applier has nothing left to do.
    pub(crate) idle: bool,
    pub(crate) lag_s: Option<u64>,
    /// How far the source's binary log was read.
    pub(crate) read_to: Option<LogPlace>,
    pub(crate) receive_error: Option<(u64, String)>,
    pub(crate) apply_error: Option<(u64, String)>,
    /// GTIDs received, as the server prints them.
    pub(crate) received: String,
    /// It receives by GTIDs; a MariaDB that applies old relay logs does not.
    pub(crate) by_gtid: bool,
}

impl Replica {
    fn read(dialect: Dialect, row: &Record) -> Option<Self> {
        let text = |old, new| row.text(dialect.column(old, new));
        let error = |number: &'static str, message: &'static str| {
            let number = row.number(number).filter(|number| *number != 0)?;
            Some((number, short(row.text(message).unwrap_or_default())))
        };
        let port = text("Master_Port", "Source_Port")?.parse().ok()?;
        let io = text("Slave_IO_Running", "Replica_IO_Running").unwrap_or_default();
        let sql = text("Slave_SQL_Running", "Replica_SQL_Running").unwrap_or_default();
        let state = text("Slave_SQL_Running_State", "Replica_SQL_Running_State").unwrap_or_default();
        let received = if dialect.is_mariadb() { row.text("Gtid_IO_Pos") } else { row.text("Retrieved_Gtid_Set") };
        Some(Self {
            source: Endpoint::new(text("Master_Host", "Source_Host")?, port),
            receiving: io != "No",
            link: match io.as_str() {
                "Yes" => LinkState::Connected,
                "No" => LinkState::Stopped,
                _ => LinkState::Connecting,
            },
            accepted: io == "Yes" && text("Master_Log_File", "Source_Log_File").is_some(),
            applying: sql == "Yes",
            // "Slave has read all relay log; waiting ..." and the same of a replica
            idle: state.contains("has read all relay log"),
            lag_s: text("Seconds_Behind_Master", "Seconds_Behind_Source").and_then(|text| text.parse().ok()),
            read_to: place(
                text("Master_Log_File", "Source_Log_File").as_deref(),
                text("Read_Master_Log_Pos", "Read_Source_Log_Pos").as_deref(),
            ),
            receive_error: error("Last_IO_Errno", "Last_IO_Error"),
            apply_error: error("Last_SQL_Errno", "Last_SQL_Error"),
            received: received.unwrap_or_default().replace('\n', ""),
            by_gtid: !dialect.is_mariadb() || row.text("Using_Gtid").is_some_and(|using| using != "No"),
        })
    }

    /// Whether the server itself tells what it has received. MariaDB forgets it with both threads, and MySQL 5.6 tells of
    /// transactions whose end has not come.
    fn tells_received(&self, dialect: Dialect) -> bool {
        if dialect.is_mariadb() {
            return self.by_gtid && (self.receiving || self.applying);
        }
        self.receiving || !dialect.is_mysql_before((5, 7, 0))
    }

    /// What went wrong, for people.
    pub(crate) fn error(&self) -> Option<String> {
        let texts = [&self.apply_error, &self.receive_error];
        let texts: Vec<String> = texts.into_iter().flatten().map(|(code, text)| format!("{text} ({code})")).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    pub(crate) fn to_port(&self, error_log: &Path) -> Replication {
        Replication {
            source: self.source.clone(),
            link: self.link,
            applying: self.applying,
            lag_s: self.lag_s,
            read_to: self.read_to,
            error: self.error().map(|text| applier_error(text, error_log)),
        }
    }
}

/// Errors name the whole statement, which may be long.
fn short(text: String) -> String {
    match text.char_indices().nth(ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// How to read the facts of one kind of server.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) dialect: Dialect,
    /// Whether the semi-sync variables exist.
    pub(crate) semi_sync: bool,
    /// Of the server, if it is on this machine.
    pub(crate) relays: Option<Arc<Relays>>,
}

impl Reader {
    /// Reads everything but the counters.
    pub(crate) async fn facts(&self, link: &Link, limit: Duration) -> Result<Facts, Error> {
        let what = "read replication status";
        // received first: what is applied meanwhile is then in the next answer
        let rows = link.query(what, self.dialect.statements().replica_status, limit).await?;
        let mut replica = rows.first().and_then(|row| Replica::read(self.dialect, row));
        if let Some(replica) = replica.as_mut().filter(|replica| !replica.tells_received(self.dialect)) {
            replica.received = self.relayed().await?;
        }
        self.with_variables(replica, link, limit).await
    }

    /// What is in the relay logs.
    async fn relayed(&self) -> Result<String, Error> {
        let Some(relays) = self.relays.clone() else { return Ok(String::new()) };
        let read = tokio::task::spawn_blocking(move || relays.received()).await;
        let failed = |error| Error::System { what: "read relay logs", source: std::io::Error::other(error) };
        Ok(read.map_err(failed)??.gtids)
    }

    /// The same for another server, over the network.
    pub(crate) fn of_another(&self) -> Self {
        Self { dialect: self.dialect, semi_sync: false, relays: None }
    }

    /// Whether a server that was just started has all that its relay logs have.
    pub(crate) async fn finds_relay_logs(&self, facts: &Facts) -> bool {
        let Some(relays) = self.relays.clone() else { return true };
        let knows = facts.replica.is_some();
        let sound = tokio::task::spawn_blocking(move || relays.are_sound(knows)).await;
        sound.is_ok_and(|sound| sound.unwrap_or(false)) // in doubt, no
    }

    /// Variables of the server itself, without its replication status.
    pub(crate) async fn own_facts(&self, link: &Link, limit: Duration) -> Result<Facts, Error> {
        self.with_variables(None, link, limit).await
    }

    async fn with_variables(&self, replica: Option<Replica>, link: &Link, limit: Duration) -> Result<Facts, Error> {
        let committing = self.committing(link, limit).await?;
        let row = link.row("read variables", &self.variables(), limit).await?;
        let is_sure = self.is_logged_what_was_received(replica.as_ref(), &row).await?;
        self.combine(replica, &committing, &row, is_sure)
    }

    /// Whether what a MariaDB replica has in its binary log and not noted is what it received under those numbers. While it
    /// applies that cannot be told, and what is not noted does not count.
    async fn is_logged_what_was_received(&self, replica: Option<&Replica>, row: &Record) -> Result<bool, Error> {
        if !self.dialect.is_mariadb() {
            return Ok(true);
        }
        let Some(replica) = replica else { return Ok(true) };
        if replica.applying || replica.apply_error.is_some() {
            return Ok(false);
        }
        let text = |column| row.text(column).unwrap_or_default().replace('\n', "");
        let beyond = beyond(&text("binlog_state"), &text("slave_pos"), &text("own_mark"))?;
        let Some(relays) = self.relays.clone().filter(|_| !beyond.is_empty()) else { return Ok(true) };
        let compare = move || {
            for (domain, server, seq) in beyond {
                if !relays.has_logged(domain, server, seq)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let failed = |error| Error::System { what: "compare logs", source: std::io::Error::other(error) };
        tokio::task::spawn_blocking(compare).await.map_err(failed)?
    }

    /// What is in the binary log and not yet executed: a commit that waits for an acknowledgement, perhaps one that was
    /// just given. Only MySQL tells the two apart. Must be read before what is executed.
    async fn committing(&self, link: &Link, limit: Duration) -> Result<String, Error> {
        if self.dialect.is_mariadb() {
            return Ok(String::new());
        }
        let row = link.row("read gtid_owned", "SELECT @@GLOBAL.gtid_owned AS owned", limit).await?;
        Ok(without_owners(&row.text("owned").unwrap_or_default()))
    }

    fn combine(&self, replica: Option<Replica>, committing: &str, row: &Record, is_sure: bool) -> Result<Facts, Error> {
        let text = |column| row.text(column).unwrap_or_default().replace('\n', "");
        let received = replica.as_ref().map(|replica| replica.received.as_str());
        let bad = |error| Error::answer("read variables", error);
        let state = if self.dialect.is_mariadb() { text("binlog_state") } else { text("executed") };
        let (executed_text, overshot) =
            if is_sure { (state, false) } else { without_overshot(&state, &text("slave_pos"), &text("own_mark"))? };
        let writable = !row.is_on("read_only");
        let (executed, position) = if self.dialect.is_mariadb() {
            let slave_pos = text("slave_pos");
            let executed = GtidSet::mariadb(&executed_text, &slave_pos, None).map_err(bad)?;
            (executed, GtidSet::mariadb(&executed_text, &slave_pos, received).map_err(bad)?)
        } else {
            let executed = GtidSet::mysql(&executed_text, "").map_err(bad)?;
            // a replica owns what it applies: that is among what it received
            let more = if writable { committing } else { received.unwrap_or_default() };
            (executed, GtidSet::mysql(&executed_text, more).map_err(bad)?)
        };
        let unapplied = match &replica {
            // What was written here has taken the numbers of some of them: how many is not known, but that there are.
            Some(_) if !executed.contains(&position) => position.count_beyond(&executed).max(1),
            Some(_) | None => 0,
        };
        let switch = |column| self.semi_sync.then(|| row.is_on(column));
        Ok(Facts {
            version: text("version"),
            writable,
            executed,
            position,
            unapplied,
            source_on: switch("source_on"),
            replica_on: switch("replica_on"),
            replica,
            executed_text,
            overshot,
            applied_text: text("slave_pos"),
            own_mark: text("own_mark"),
        })
    }

    fn variables(&self) -> String {
        let mut list = "VERSION() AS version".to_owned();
        let mut add = |variable: &str, name: &str| {
            let _ = write!(list, ", @@GLOBAL.{variable} AS {name}");
        };
        add("read_only", "read_only"); // super_read_only implies it
        if self.dialect.is_mariadb() {
            add("gtid_binlog_state", "binlog_state");
            add("gtid_slave_pos", "slave_pos");
            add("server_id", "own_mark");
        } else {
            add("gtid_executed", "executed");
            add("server_uuid", "own_mark");
        }
        if self.semi_sync {
            let words = self.dialect.statements();
            add(&format!("rpl_semi_sync_{}_enabled", words.semi_sync_source), "source_on");
            add(&format!("rpl_semi_sync_{}_enabled", words.semi_sync_replica), "replica_on");
        }
        format!("SELECT {list}")
    }

    /// Whether a commit waits for room on the disk. MariaDB says so; MySQL only that a commit takes long.
    pub(crate) async fn waits_for_room(
        &self,
        link: &Link,
        disk_free: Option<u64>,
        limit: Duration,
    ) -> Result<bool, Error> {
        let is_mariadb = self.dialect.is_mariadb();
        if !is_mariadb && disk_free.is_none_or(|free| free >= LITTLE_ROOM) {
            return Ok(false);
        }
        let waits = |row: &Record| {
            let state = row.text("State").unwrap_or_default();
            let long = || row.number("Time").is_some_and(|seconds| seconds >= LONG_COMMIT_S);
            if is_mariadb { waits_for_room(row) } else { LONG_COMMITS.contains(&state.as_str()) && long() }
        };
        Ok(processes(link, limit).await?.iter().any(waits))
    }

    /// Replicas connected, and sessions that wait for one of them.
    pub(crate) async fn counters(&self, link: &Link, source_on: bool, limit: Duration) -> Result<(u32, u32), Error> {
        if source_on {
            let word = self.dialect.statements().semi_sync_source;
            let (clients, waiting) =
                (format!("Rpl_semi_sync_{word}_clients"), format!("Rpl_semi_sync_{word}_wait_sessions"));
            let sql = format!("SHOW GLOBAL STATUS WHERE Variable_name IN ('{clients}', '{waiting}')");
            let rows = link.query("count semi-sync replicas", &sql, limit).await?;
            let value = |name: &str| {
                let row = rows.iter().find(|row| row.at(0).is_some_and(|text| text.eq_ignore_ascii_case(name)));
                row.and_then(|row| row.at(1)?.parse().ok()).unwrap_or_default()
            };
            return Ok((value(&clients), value(&waiting)));
        }
        // Others may read the binary logs, too: they are not who could be elected.
        let is_replica = |row: &&Record| {
            let dumps = row.text("Command").is_some_and(|command| command.starts_with("Binlog Dump"));
            dumps && row.text("User").as_deref() == Some(REPLICATION)
        };
        let replicas = processes(link, limit).await?.iter().filter(is_replica).count();
        Ok((u32::try_from(replicas).unwrap_or(u32::MAX), 0))
    }
}

/// The state of a MariaDB's binary log without what its applier has not come to, and whether there was such a thing.
///
/// A statement that does more on a replica than its primary told is written to the replica's log as two: with the number
/// of the first, and with the next one, which is another transaction's. (Seen with 10.11 and 11.8: `ALTER TABLE ... DEFAULT
/// NEXTVAL(s)`.) That other transaction is then refused (1950), and is not there, whatever the log's state says. While it is
/// applying, a server writes to the log before it notes how far it is: then this is short by what is being committed.
fn without_overshot(state: &str, slave_pos: &str, own: &str) -> Result<(String, bool), Error> {
    let beyond = beyond(state, slave_pos, own)?;
    let parts = state.split(',').map(str::trim).filter(|part| !part.is_empty());
    let names: Vec<String> = beyond.iter().map(|(domain, server, seq)| format!("{domain}-{server}-{seq}")).collect();
    let kept: Vec<&str> = parts.filter(|part| names.iter().all(|name| name != part)).collect();
    Ok((kept.join(","), !beyond.is_empty()))
}

/// The GTIDs of others in the state of a MariaDB's binary log that are beyond what it has noted as applied: domain, server
/// and number of each.
fn beyond(state: &str, slave_pos: &str, own: &str) -> Result<Vec<(u64, u64, u64)>, Error> {
    let noted = newest(&[slave_pos])?;
    let is_beyond = |(domain, server, seq): &(u64, u64, u64)| {
        server.to_string() != own && noted.get(domain).is_none_or(|(_, last)| seq > last)
    };
    Ok(gtids(&[state])?.into_iter().filter(is_beyond).collect())
}

/// A place in a binary log, as servers tell it.
fn place(file: Option<&str>, offset: Option<&str>) -> Option<LogPlace> {
    let (_, number) = file?.rsplit_once('.')?;
    Some(LogPlace { file: number.parse().ok()?, offset: offset?.parse().ok()? })
}

/// `uuid:5#12:6#13uuid:7#14` as a set: without the sessions that own the transactions, and with the commas that the server
/// leaves out. A uuid begins eight characters before its first dash, wherever the digits of an owner end.
fn without_owners(owned: &str) -> String {
    let text: String = owned.chars().filter(|c| !c.is_whitespace() && *c != ',').collect();
    let is_uuid = |at: usize| {
        let dashes = [8, 13, 18, 23];
        text.get(at..at + 36).is_some_and(|uuid| {
            uuid.bytes().enumerate().all(|(i, b)| if dashes.contains(&i) { b == b'-' } else { b.is_ascii_hexdigit() })
        })
    };
    let starts: Vec<usize> = (0..text.len()).filter(|at| is_uuid(*at)).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let parts = starts.iter().zip(ends).map(|(start, end)| {
        let mut parts = text[*start..end].split(':').map(|part| part.split('#').next().unwrap_or_default());
        let uuid = parts.next().unwrap_or_default();
        parts.fold(uuid.to_owned(), |set, part| format!("{set}:{part}"))
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_an_applier_took_are_not_what_it_has_executed() {
        let left = |state: &str, slave_pos: &str| without_overshot(state, slave_pos, "9").expect("positions");
        assert_eq!(left("0-17-7", "0-17-7"), ("0-17-7".to_owned(), false));
        assert_eq!(left("0-17-8", "0-17-7"), (String::new(), true), "what is noted counts beside it");
        assert_eq!(left("0-9-20,0-17-7", "0-17-7"), ("0-9-20,0-17-7".to_owned(), false), "it was primary itself");
        assert_eq!(left("0-16-5,0-17-8", "0-17-7"), ("0-16-5".to_owned(), true));
        assert_eq!(left("", ""), (String::new(), false));
        assert!(without_overshot("0-17-8", "no position", "9").is_err());
    }

    #[test]
    fn places_in_binary_logs() {
        let told = |file, offset| place(Some(file), Some(offset)).map(|LogPlace { file, offset }| (file, offset));
        assert_eq!(told("binlog.000012", "345"), Some((12, 345)));
        assert!(place(Some("binlog.000012"), None).is_none() && told("", "4").is_none() && told("b.x", "4").is_none());
        let at = |file, offset| LogPlace { file, offset };
        assert!(at(2, 4) > at(1, 999) && at(2, 5) > at(2, 4));
    }

    #[test]
    fn owned_transactions_are_a_set() {
        const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";
        for (owned, set) in [
            ("", ""),
            ("A:23#42", "A:23"),
            ("A:23#42:24#7", "A:23-24"),
            ("A:23#42:25#7B:1#9", "A:23:25,B:1"), // as MySQL 9.7 writes it
            ("A:23#42:25#7,\nB:1#9", "A:23:25,B:1"),
            ("A:7#13:9#11A:abc:9#104B:5#12", "A:7:9:abc:9,B:5"),
        ] {
            let text = without_owners(&owned.replace('A', A).replace('B', B));
            let read = GtidSet::mysql(&text, "").expect("a set").to_string();
            assert_eq!(read.replace(A, "A").replace(B, "B"), set, "{owned}");
        }
    }
}
