//! What a server has received, read out of its relay logs: for when the server itself does not tell.
//!
//! MariaDB forgets what it had received as soon as receiver and applier are both stopped, and MySQL 5.6 counts a
//! transaction as received before its end has come. The relay logs have it all, also after a crash of the process, since
//! what was written to a file survives that. A transaction counts when its last event is there; what a file ends with in
//! the middle of an event was being received when the process was killed, and nobody acknowledged it.
//!
//! Only headers are read, and the few events that begin or end a transaction. Nothing is changed here.

use crate::Error;
use crate::dialect::Dialect;
use crate::history::{LastOfServers, Position, position_text};
use crate::tail;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
const HEADER_BYTES: usize = 19;
const CHECKSUM_BYTES: usize = 4;
/// As much of an event as tells which transaction begins: MySQL's flags, uuid and number.
const BEGIN_BYTES: usize = 25;
/// As much of the end of an event as tells whether a transaction ends: `\0ROLLBACK` and a checksum.
const TAIL_BYTES: usize = 9 + CHECKSUM_BYTES;
/// More than a file with nothing but its description has.
const EMPTY_BYTES_MAX: u64 = 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// Types of events.
mod event {
    pub(super) const QUERY: u8 = 2;
    pub(super) const XID: u8 = 16;
    pub(super) const GTID_MYSQL: u8 = 33;
    pub(super) const XA_PREPARE: u8 = 38;
    pub(super) const GTID_MARIADB: u8 = 162;
    pub(super) const QUERY_COMPRESSED: u8 = 165;
}

/// MariaDB: the transaction is one statement that commits by itself.
const FLAG_STANDALONE: u8 = 1;

/// The name of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gtid {
    MariaDb { domain: u64, server: u64, seq: u64 },
    MySql { source: [u8; 16], number: u64 },
}

/// Where a transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// As the server's index calls it.
    pub(crate) file: String,
    pub(crate) offset: u64,
}

/// What is in some logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The complete transactions, as the server would print them.
    pub(crate) gtids: String,
    /// Whether more transactions follow after a place that cannot be read: then some of those before are missing.
    pub(crate) damaged: bool,
}

/// The relay logs of one server.
#[derive(Debug)]
pub(crate) struct Relays {
    data: PathBuf,
    is_mariadb: bool,
    /// The server does not tell.
    is_read_here: bool,
    /// The files that were read last, and what was in them: they do not change while nothing is received.
    last: Mutex<Option<(Vec<Identity>, Received)>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    name: String,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Relays {
    pub(crate) fn of(data: PathBuf, dialect: Dialect) -> Self {
        let is_read_here = dialect.is_mariadb() || dialect.is_mysql_before((5, 7, 0));
        Self { data, is_mariadb: dialect.is_mariadb(), is_read_here, last: Mutex::new(None) }
    }

    /// All transactions that are there as a whole. Those that were applied may be gone.
    ///
    /// Reads the files, so it is not for a thread that must not block.
    pub(crate) fn received(&self) -> Result<Received, Error> {
        let files = self.files()?;
        if files.is_empty() {
            return Ok(Received::default());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, received)) = &*last
            && known.ends_with(&files)
        {
            return Ok(received.clone()); // what is not there any more was applied
        }
        let mut seen = Seen::default();
        let damaged = self.walk(&files, &mut |gtid, _| {
            seen.add(gtid);
            true
        })?;
        let received = Received { gtids: seen.to_text(), damaged };
        *last = Some((files, received.clone()));
        Ok(received)
    }

    /// Where the first transaction begins that is not among those executed (MariaDB). Numbers of another server say nothing
    /// of one: what was written here may have the number of what was received, and higher ones.
    pub(crate) fn first_beyond(&self, executed: &LastOfServers) -> Result<Option<Place>, Error> {
        let files = self.files()?;
        let mut first = None;
        self.walk(&files, &mut |gtid, place| {
            let Gtid::MariaDb { domain, server, seq } = gtid else { return true };
            if executed.get(&(domain, server)).is_none_or(|last| *last < seq) {
                first = Some(place);
            }
            first.is_none()
        })?;
        Ok(first)
    }

    /// Whether the binary log has a statement under the same name as the relay logs (MariaDB): what commits by itself and is in
    /// the log is executed. Another statement under that name is not the one that was received.
    pub(crate) fn has_logged(&self, domain: u64, server: u64, seq: u64) -> Result<bool, Error> {
        let wanted = Gtid::MariaDb { domain, server, seq };
        let received = self.statement(&self.files()?, wanted)?;
        if received.is_none() {
            return Ok(false);
        }
        // The newest first: it is one of the last in the log.
        for file in self.files_of("binlog.index")?.into_iter().rev() {
            if let Some(logged) = self.statement(&[file], wanted)? {
                return Ok(received == Some(logged));
            }
        }
        Ok(false)
    }

    /// The statement of a transaction that is one, with its database.
    fn statement(&self, files: &[Identity], wanted: Gtid) -> Result<Option<Statement>, Error> {
        let mut found = None;
        self.walk(files, &mut |gtid, place| {
            if gtid == wanted {
                found = Some(place);
            }
            found.is_none()
        })?;
        let Some(Place { file, offset }) = found else { return Ok(None) };
        let path = self.data.join(file);
        let read = File::open(&path).and_then(|log| Statement::read(&mut BufReader::new(log), offset));
        read.map_err(|e| Error::file("read", path, e))
    }

    /// Whether all that they ever had can be read; `known` by a server that replicates. Another one has none, but for an
    /// empty file.
    pub(crate) fn are_sound(&self, known: bool) -> Result<bool, Error> {
        if known && !self.is_read_here {
            return Ok(true); // the server has read them itself
        }
        let empty = |file: &Identity| file.bytes < EMPTY_BYTES_MAX;
        if !known {
            return Ok(self.files()?.iter().all(empty));
        }
        Ok(!self.received()?.damaged)
    }

    /// Links the files to another place, where they stay when the server removes them; only the newest few are kept.
    pub(crate) fn keep(&self) -> Result<PathBuf, Error> {
        let files = self.files()?;
        let place = tail::place(&self.data)?;
        for Identity { name, .. } in files {
            let from = self.data.join(&name);
            fs::hard_link(&from, place.join(&name)).map_err(|e| Error::file("keep", from, e))?;
        }
        tail::prune(&place);
        Ok(place)
    }

    /// The files of the index, in order.
    fn files(&self) -> Result<Vec<Identity>, Error> {
        self.files_of("relay.index")
    }

    fn files_of(&self, index: &str) -> Result<Vec<Identity>, Error> {
        let index = self.data.join(index);
        let text = match fs::read_to_string(&index) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()), // it never was a replica
            other => other.map_err(|e| Error::file("read", &index, e))?,
        };
        let mut files = Vec::new();
        for name in text.lines().filter_map(|line| Path::new(line.trim()).file_name()?.to_str()) {
            match fs::metadata(self.data.join(name)) {
                Ok(meta) => files.push(Identity {
                    name: name.to_owned(),
                    inode: meta.ino(),
                    bytes: meta.len(),
                    modified: (meta.mtime(), meta.mtime_nsec()),
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // the applier has just done with it
                Err(error) => return Err(Error::file("look at", self.data.join(name), error)),
            }
        }
        Ok(files)
    }

    /// Tells of every complete transaction until `visit` has enough. True when some follow after damage.
    fn walk(&self, files: &[Identity], visit: &mut dyn FnMut(Gtid, Place) -> bool) -> Result<bool, Error> {
        let mut walker = Walker { is_mariadb: self.is_mariadb, open: None };
        let (mut torn, mut damaged) = (false, false);
        for file in files {
            let path = self.data.join(&file.name);
            let mut tell = |gtid, place| {
                damaged |= torn;
                visit(gtid, place)
            };
            let read = File::open(&path).and_then(|log| {
                walker.file(&mut BufReader::with_capacity(BUFFER_BYTES, log), &file.name, file.bytes, &mut tell)
            });
            match read {
                Ok(End::Whole) => {}
                Ok(End::Torn) => torn = true,
                Ok(End::Enough) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // the applier has just done with it
                Err(error) => return Err(Error::file("read", path, error)),
            }
        }
        Ok(damaged)
    }
}

/// A statement that commits by itself.
#[derive(Debug, PartialEq, Eq)]
struct Statement {
    database: Vec<u8>,
    text: Vec<u8>,
}

impl Statement {
    /// The one that follows the name of a transaction at that place (MariaDB); none if that is made of something else.
    fn read(log: &mut (impl Read + Seek), offset: u64) -> io::Result<Option<Self>> {
        /// Thread, duration, lengths of the database and of the variables, and an error in between.
        const FIXED_BYTES: usize = 13;
        log.seek(io::SeekFrom::Start(MAGIC.len() as u64))?;
        let (_, description) = Self::event(log)?;
        // its last bytes are the kind of checksums, and its own
        let kind = description.len().checked_sub(CHECKSUM_BYTES + 1).and_then(|at| description.get(at));
        let has_checksums = kind.is_some_and(|kind| *kind == 1);
        log.seek(io::SeekFrom::Start(offset))?;
        let (_, _) = Self::event(log)?;
        let (kind, mut body) = Self::event(log)?;
        if has_checksums {
            body.truncate(body.len().saturating_sub(CHECKSUM_BYTES));
        }
        if !matches!(kind, event::QUERY | event::QUERY_COMPRESSED) || body.len() < FIXED_BYTES {
            return Ok(None);
        }
        let (database, variables) = (usize::from(body[8]), usize::from(u16::from_le_bytes([body[11], body[12]])));
        let begin = FIXED_BYTES + variables;
        let (Some(name), Some(text)) = (body.get(begin..begin + database), body.get(begin + database + 1..)) else {
            return Ok(None);
        };
        Ok(Some(Self { database: name.to_owned(), text: as_received(text) }))
    }

    /// The kind of the next event, and what follows its header.
    fn event(log: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        log.read_exact(&mut header)?;
        let bytes = (number::<4>(&header, 9) as usize).saturating_sub(HEADER_BYTES);
        let mut body = Vec::new();
        log.take(bytes as u64).read_to_end(&mut body)?;
        Ok((header[4], body))
    }
}

/// A replica adds `IF EXISTS` to what drops something.
fn as_received(text: &[u8]) -> Vec<u8> {
    const ADDED: &[u8] = b" IF EXISTS";
    let at = text.windows(ADDED.len()).position(|part| part == ADDED);
    match at.filter(|_| text.starts_with(b"DROP ")) {
        Some(at) => [&text[..at], &text[at + ADDED.len()..]].concat(),
        None => text.to_owned(),
    }
}

/// How the reading of a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Where an event ends.
    Whole,
    /// In the middle of an event, or at something that is none.
    Torn,
    /// Nobody wants to know more.
    Enough,
}

/// Follows the events of some logs, one after the other.
struct Walker {
    is_mariadb: bool,
    open: Option<Open>,
}

/// A transaction whose end has not come yet.
struct Open {
    gtid: Gtid,
    place: Place,
    /// Its next statement is its last: it has no end of its own.
    standalone: bool,
}

impl Walker {
    fn file(
        &mut self,
        log: &mut (impl Read + Seek),
        name: &str,
        bytes: u64,
        tell: &mut dyn FnMut(Gtid, Place) -> bool,
    ) -> io::Result<End> {
        let mut start = [0; MAGIC.len()];
        if bytes < start.len() as u64 {
            return Ok(if bytes == 0 { End::Whole } else { End::Torn });
        }
        log.read_exact(&mut start)?;
        if start != MAGIC {
            return Ok(End::Torn);
        }
        let mut at = start.len() as u64;
        let mut header = [0; HEADER_BYTES];
        while at < bytes {
            if bytes - at < header.len() as u64 {
                return Ok(End::Torn);
            }
            log.read_exact(&mut header)?;
            let length = u64::from(number::<4>(&header, 9));
            if length < header.len() as u64 || length > bytes - at {
                return Ok(End::Torn);
            }
            let body = length - header.len() as u64;
            let read = match header[4] {
                event::GTID_MARIADB | event::GTID_MYSQL => {
                    let mut begin = [0; BEGIN_BYTES];
                    let read = fill(log, &mut begin, body)?;
                    self.begin(&header, &begin[..read], Place { file: name.to_owned(), offset: at });
                    read as u64
                }
                kind @ (event::XID | event::XA_PREPARE | event::QUERY | event::QUERY_COMPRESSED) => {
                    let skip = body.saturating_sub(TAIL_BYTES as u64);
                    seek(log, skip)?;
                    let mut tail = [0; TAIL_BYTES];
                    let read = fill(log, &mut tail, body - skip)?;
                    if self.ends(kind, &tail[..read])
                        && let Some(done) = self.open.take()
                        && !tell(done.gtid, done.place)
                    {
                        return Ok(End::Enough);
                    }
                    skip + read as u64
                }
                _ => 0,
            };
            seek(log, body - read)?;
            at += length;
        }
        Ok(End::Whole)
    }

    /// A transaction begins; one that is open will never end.
    fn begin(&mut self, header: &[u8], body: &[u8], place: Place) {
        self.open = match (header[4], self.is_mariadb) {
            (event::GTID_MARIADB, true) if body.len() >= 13 => {
                let server = u64::from(number::<4>(header, 5));
                let domain = u64::from(number::<4>(body, 8));
                let seq = u64::from(number::<4>(body, 0)) | u64::from(number::<4>(body, 4)) << 32;
                let standalone = body[12] & FLAG_STANDALONE != 0;
                Some(Open { gtid: Gtid::MariaDb { domain, server, seq }, place, standalone })
            }
            (event::GTID_MYSQL, false) if body.len() >= BEGIN_BYTES => {
                let source = std::array::from_fn(|index| body[1 + index]);
                let number = u64::from(number::<4>(body, 17)) | u64::from(number::<4>(body, 21)) << 32;
                // unless BEGIN follows
                Some(Open { gtid: Gtid::MySql { source, number }, place, standalone: true })
            }
            _ => None,
        };
    }

    /// Whether the transaction that is open ends with this event, of which `tail` is the end.
    fn ends(&mut self, kind: u8, tail: &[u8]) -> bool {
        let Some(open) = &mut self.open else { return false };
        if matches!(kind, event::XID | event::XA_PREPARE) {
            return true;
        }
        // with a checksum behind it or without, as the log may be
        let short = &tail[..tail.len().saturating_sub(CHECKSUM_BYTES)];
        let is = |statement: &[u8]| tail.ends_with(statement) || short.ends_with(statement);
        if !self.is_mariadb && is(b"\0BEGIN") {
            open.standalone = false;
            return false;
        }
        open.standalone || is(b"\0COMMIT") || is(b"\0ROLLBACK")
    }
}

/// The little-endian number at that place; as many bytes must be there.
fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + BYTES].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Reads what there is, at most as much as fits.
fn fill(log: &mut impl Read, buffer: &mut [u8], available: u64) -> io::Result<usize> {
    let bytes = usize::try_from(available).unwrap_or(usize::MAX).min(buffer.len());
    log.read_exact(&mut buffer[..bytes])?;
    Ok(bytes)
}

fn seek(log: &mut impl Seek, bytes: u64) -> io::Result<()> {
    log.seek_relative(i64::try_from(bytes).map_err(io::Error::other)?)
}

/// Transactions, on their way to the text of a set.
#[derive(Debug, Default)]
struct Seen {
    /// Of each domain the newest: server and number.
    domains: Position,
    /// Of each source the runs, in the order in which they came.
    sources: BTreeMap<[u8; 16], Vec<(u64, u64)>>,
}

impl Seen {
    fn add(&mut self, gtid: Gtid) {
        match gtid {
            Gtid::MariaDb { domain, server, seq } => {
                let last = self.domains.entry(domain).or_default();
                if seq >= last.1 {
                    *last = (server, seq);
                }
            }
            Gtid::MySql { source, number } => {
                let runs = self.sources.entry(source).or_default();
                match runs.last_mut() {
                    Some((_, last)) if *last + 1 == number => *last = number,
                    Some(_) | None => runs.push((number, number)),
                }
            }
        }
    }

    fn to_text(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if !self.domains.is_empty() {
            parts.push(position_text(&self.domains));
        }
        for (source, runs) in &self.sources {
            let mut text = String::new();
            for (index, byte) in source.iter().enumerate() {
                let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                let _ = write!(text, "{dash}{byte:02x}"); // a String takes everything
            }
            for (first, last) in runs {
                let _ = write!(text, ":{first}-{last}");
            }
            parts.push(text);
        }
        parts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Flavour;
    use crate::history::newest_of_servers;

    fn event(kind: u8, server: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.push(kind);
        bytes.extend(server.to_le_bytes());
        let length = u32::try_from(HEADER_BYTES + body.len()).expect("short");
        bytes.extend(length.to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(body);
        bytes
    }

    fn gtid(seq: u64, standalone: bool) -> Vec<u8> {
        let mut body = seq.to_le_bytes().to_vec();
        body.extend(0_u32.to_le_bytes());
        body.push(u8::from(standalone));
        body.extend([0; 6]);
        event(event::GTID_MARIADB, 1, &body)
    }

    fn old_gtid(number: u64) -> Vec<u8> {
        let mut body = vec![1];
        body.extend([0xab; 16]);
        body.extend(number.to_le_bytes());
        body.extend([0; 4]); // its checksum
        event(event::GTID_MYSQL, 1, &body)
    }

    fn query(text: &str) -> Vec<u8> {
        event(event::QUERY, 1, format!("header\0db\0{text}sum!").as_bytes())
    }

    fn rows() -> Vec<u8> {
        event(30, 1, &[7; 300])
    }

    fn xid() -> Vec<u8> {
        event(event::XID, 1, &[1; 12])
    }

    /// Relay logs with these events.
    fn relays(flavour: Flavour, files: &[Vec<Vec<u8>>]) -> (tempfile::TempDir, Relays) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut index = String::new();
        for (number, events) in files.iter().enumerate() {
            let name = format!("relay.{number:06}");
            let _ = writeln!(index, "./{name}");
            fs::write(dir.path().join(name), [MAGIC.to_vec(), events.concat()].concat()).expect("written");
        }
        fs::write(dir.path().join("relay.index"), index).expect("written");
        let relays = Relays::of(dir.path().to_owned(), Dialect { flavour, version: (5, 6, 24) });
        (dir, relays)
    }

    #[test]
    fn a_transaction_counts_with_its_last_event() {
        let mariadb = |files: &[Vec<Vec<u8>>]| relays(Flavour::MariaDb, files).1.received().expect("read").gtids;
        assert_eq!(mariadb(&[]), "");
        assert_eq!(mariadb(&[vec![gtid(5, false), rows(), xid()]]), "0-1-5");
        assert_eq!(mariadb(&[vec![gtid(5, false), rows(), query("COMMIT")]]), "0-1-5");
        assert_eq!(mariadb(&[vec![gtid(5, false), query("ROLLBACK TO s"), query("ROLLBACK")]]), "0-1-5");
        assert_eq!(mariadb(&[vec![gtid(5, true), query("CREATE TABLE t (a INT)")]]), "0-1-5");
        let begun = vec![gtid(5, true), query("DROP TABLE t"), gtid(6, false), rows(), query("INSERT")];
        assert_eq!(mariadb(std::slice::from_ref(&begun)), "0-1-5", "an open one does not count");
        assert_eq!(mariadb(&[begun.clone(), vec![rows(), xid()]]), "0-1-6", "it may go on in the next file");
        assert_eq!(mariadb(&[begun, vec![gtid(6, false), rows()]]), "0-1-5", "or be sent again");

        let old = |files: &[Vec<Vec<u8>>]| relays(Flavour::MySql, files).1.received().expect("read").gtids;
        let uuid = "abababab-abab-abab-abab-abababababab";
        assert_eq!(old(&[vec![old_gtid(3), query("CREATE DATABASE s")]]), format!("{uuid}:3-3"));
        assert_eq!(old(&[vec![old_gtid(3), query("BEGIN"), rows()]]), "");
        let two = vec![old_gtid(3), query("BEGIN"), rows(), xid(), old_gtid(4), query("BEGIN"), query("COMMIT")];
        assert_eq!(old(std::slice::from_ref(&two)), format!("{uuid}:3-4"));
        assert_eq!(old(&[two, vec![old_gtid(9), query("DROP TABLE t")]]), format!("{uuid}:3-4:9-9"));
    }

    #[test]
    fn a_file_may_end_anywhere() {
        let whole: Vec<u8> = [gtid(5, false), rows(), xid(), gtid(6, false), rows(), xid()].concat();
        let first: usize = [gtid(5, false), rows(), xid()].iter().map(Vec::len).sum();
        for bytes in 0..=whole.len() {
            let (dir, relays) = relays(Flavour::MariaDb, &[vec![whole[..bytes].to_vec()], vec![rows()]]);
            let expected = if bytes == whole.len() {
                "0-1-6"
            } else if bytes >= first {
                "0-1-5"
            } else {
                ""
            };
            let received = relays.received().expect("read");
            assert_eq!((received.gtids.as_str(), received.damaged), (expected, false), "{bytes}");
            drop(dir);
        }
        let torn = whole[..first + 40].to_vec();
        let received = relays(Flavour::MariaDb, &[vec![torn], vec![gtid(7, true), query("x")]]).1.received();
        assert!(received.expect("read").damaged, "what follows after damage is told");
    }

    #[test]
    fn the_first_one_that_is_not_executed() {
        let of = |seq| vec![gtid(seq, false), rows(), xid()];
        let (dir, relays) = relays(Flavour::MariaDb, &[of(5), [of(6), of(7)].concat(), of(8)]);
        let first =
            |executed: &str| relays.first_beyond(&newest_of_servers(&[executed]).expect("well formed")).expect("read");
        let place = |file: &str, offset| Some(Place { file: file.to_owned(), offset });
        assert_eq!(first(""), place("relay.000000", 4));
        assert_eq!(first("0-1-5"), place("relay.000001", 4));
        let length = of(6).concat().len() as u64;
        assert_eq!(first("0-1-6"), place("relay.000001", 4 + length));
        assert_eq!(first("0-1-5,0-2-6"), place("relay.000001", 4), "the number 6 of another server is not this one");
        assert_eq!(first("0-1-8"), None);
        assert_eq!(relays.received().expect("read").gtids, "0-1-8");
        // files that are gone were applied; what was read before is known still
        fs::write(dir.path().join("relay.index"), "./relay.000002\n").expect("written");
        fs::remove_file(dir.path().join("relay.000000")).expect("removed");
        assert_eq!(first("0-1-7"), place("relay.000002", 4));
        assert_eq!(relays.received().expect("read").gtids, "0-1-8");
    }
}
