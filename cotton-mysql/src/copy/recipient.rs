//! Receives a copy of a MariaDB server.

use super::INSTALL_BACKUP;
use super::donor::COMPLETE;
use super::wire::Wire;
use crate::cnf::{COPY_PORT_PREFIX, Sizes};
use crate::dialect::{Dialect, quote};
use crate::dirs::Dirs;
use crate::history::{Position, newest, position_text};
use crate::programs::Programs;
use crate::sql::{Address, Link};
use crate::{Error, InstanceConfig, config::Timing, files, process, provision};
use cotton_core::resources::MIB;
use cotton_core::{Endpoint, GtidSet};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long a donor's applier may take to note what is in its log, once nothing holds its commits up any more.
const NOTED_WITHIN: Duration = Duration::from_secs(5);

/// What is needed to receive.
#[derive(Debug)]
pub(crate) struct Recipient<'a> {
    pub(crate) config: &'a InstanceConfig,
    pub(crate) programs: &'a Programs,
    pub(crate) dialect: Dialect,
    pub(crate) dirs: &'a Dirs,
}

/// All of a donor's data, as it was while it changed.
#[derive(Debug)]
pub(crate) struct Received {
    /// The state of the donor's binary log at that moment, as a `.state` file.
    state: String,
    donor_applies: bool,
    preparer: PathBuf,
}

impl Received {
    /// What is in the copy.
    pub(crate) fn position(&self) -> Result<GtidSet, Error> {
        let state = self.state.trim_end().replace('\n', ",");
        GtidSet::mariadb(&state, "", None).map_err(|error| Error::answer("read the copy's position", error))
    }
}

/// Receives a donor's data in `building`, which must be empty. `donor` is its SQL side, for the replication account.
pub(crate) async fn receive(
    recipient: &Recipient<'_>,
    donor: &Address,
    from: &Endpoint,
    building: &Path,
) -> Result<Received, Error> {
    let unpacker = recipient.programs.tool(&["mbstream"], INSTALL_BACKUP)?;
    let preparer = recipient.programs.tool(&["mariadb-backup", "mariabackup"], INSTALL_BACKUP)?;
    let timing = recipient.config.timing;
    let side = look_up(&Link::new(donor.clone()), timing).await?;
    let states = recipient.unpack(&unpacker, from, side.port, building).await?;
    let read = |name: &str| {
        let path = building.join(name);
        std::fs::read_to_string(&path).map_err(|e| Error::file("read", path, e))
    };
    // later versions have another name for it
    let info = read("mariadb_backup_binlog_info").or_else(|_| read("xtrabackup_binlog_info"))?;
    // anew: a connection that rested for hours may be gone without a word
    let donor = Link::new(donor.clone());
    let position = logged(&donor, &Info::read(&info)?, timing).await?;
    if side.applies && !position.is_empty() {
        ensure_noted(&donor, &position, timing).await?;
    }
    Ok(Received { state: state_at(&position, &states)?, donor_applies: side.applies, preparer })
}

/// Makes what was received a complete data directory. No server may run beside: there is not memory for both.
pub(crate) async fn make_ready(recipient: &Recipient<'_>, received: Received, building: &Path) -> Result<(), Error> {
    recipient.prepare(&received.preparer, building).await?;
    recipient.settle(building, received.donor_applies).await?;
    remove_notes(building).map_err(|e| Error::file("tidy up", building, e))?;
    // with this file a server without binary logs knows where its own begin, and what it gives to others
    let path = building.join("binlog.state");
    std::fs::write(&path, received.state).map_err(|e| Error::file("write", &path, e))?;
    recipient.dirs.give(&path)
}

/// Removes what the backup tool has noted for itself. A database of such a name could not be made here, and replication would
/// pass over it.
fn remove_notes(building: &Path) -> io::Result<()> {
    let is_note =
        |name: &str| ["mariadb_backup_", "xtrabackup_", "backup-my.cnf"].iter().any(|note| name.starts_with(note));
    for entry in std::fs::read_dir(building)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name().to_str().is_some_and(is_note) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What the donor's SQL side tells.
struct DonorSide {
    /// Of its copy server.
    port: u16,
    /// It is no primary: its transactions come from an applier.
    applies: bool,
}

async fn look_up(donor: &Link, timing: Timing) -> Result<DonorSide, Error> {
    let sql = "SELECT @@GLOBAL.report_user AS port, @@GLOBAL.read_only AS read_only";
    let row = donor.row("find the donor's copy server", sql, timing.statement).await?;
    let text = row.text("port").unwrap_or_default();
    let port = text.strip_prefix(COPY_PORT_PREFIX).and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or_else(|| Error::Unsupported("the donor has no copy server".to_owned()))?;
    Ok(DonorSide { port, applies: row.is_on("read_only") })
}

/// What the donor's binary log had up to the place that the backup noted while nobody could commit: what is in the copy.
///
/// The position that the backup noted as well may be behind it: it is that of the donor's appliers, who note theirs after
/// their commit, and for what is no transaction, such as `CREATE TABLE`, in one of its own.
async fn logged(donor: &Link, info: &Info<'_>, timing: Timing) -> Result<Position, Error> {
    let sql = format!("SELECT BINLOG_GTID_POS({}, {}) AS position", quote(info.file)?, info.offset);
    let row = donor.row("read the position of the copy", &sql, timing.copy_stall).await?;
    info.confirmed(&row.text("position").unwrap_or_default())
}

/// Refuses a copy of a replica whose log has numbers of its primary's that its applier never comes to: what has those numbers
/// at the primary would count as copied.
async fn ensure_noted(donor: &Link, position: &Position, timing: Timing) -> Result<(), Error> {
    let position = position_text(position);
    let sql = format!("SELECT MASTER_GTID_WAIT({}, {}) AS late", quote(&position)?, NOTED_WITHIN.as_secs());
    let row = donor.row("see what the donor has applied", &sql, timing.statement + NOTED_WITHIN).await?;
    if row.text("late").as_deref() == Some("0") {
        return Ok(());
    }
    Err(Error::CopyIncomplete(format!(
        "the donor has {position} in its log, and has not noted within {NOTED_WITHIN:?} that it applied that: \
         another donor is tried next"
    )))
}

impl Recipient<'_> {
    async fn unpack(&self, unpacker: &Path, donor: &Endpoint, port: u16, building: &Path) -> Result<String, Error> {
        let connect = async {
            let stream = TcpStream::connect((donor.host.as_str(), port)).await;
            let stream = stream.map_err(|source| Error::System { what: "reach the donor's copy server", source })?;
            Wire::connect(stream, self.config.passwords.replication.clone()).await
        };
        let limit = self.config.timing.connect;
        let connected = tokio::time::timeout(limit, connect).await;
        let mut wire = connected.map_err(|_| Error::Timeout { what: "the donor's copy server", after: limit })??;

        let mut command = self.programs.command(unpacker, self.dirs, files::TOOL);
        command.arg("-x").arg("-C").arg(building);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = process::Running::start(command).await?;
        let failed = |source| Error::System { what: "unpack the copy", source };
        let said = child.said().map_err(failed)?;
        let mut input = child.stdin().map_err(failed)?;
        let fed = self.feed(&mut wire, &mut input).await?;
        drop(input);
        let end = child.wait(self.config.timing.copy).await?;
        let said = process::error_line(&said.await.unwrap_or_default());
        let free = rustix::fs::statvfs(building).ok().map(|fs| fs.f_bavail * fs.f_frsize);
        let ended =
            |said: &str| why_not_unpacked(&format!("mbstream ended with {}{said}", process::describe(end)), free);
        match (fed, said) {
            (Ok(states), _) if end.success() => Ok(states),
            // that it does not read any more is not the reason that matters
            (_, Some(said)) => Err(ended(&format!(": {said}"))),
            (Err(source), None) if end.success() => Err(failed(source)),
            (_, None) => Err(ended("")),
        }
    }

    /// Hands on what the donor sends, and gives the states of its binary log; or says that nobody takes it any more.
    async fn feed(
        &self,
        wire: &mut Wire<TcpStream>,
        input: &mut tokio::process::ChildStdin,
    ) -> Result<io::Result<String>, Error> {
        // at its end the donor waits for three things, each so long, and only then can say why it failed
        let (mut buffer, stall) = (Vec::new(), 4 * self.config.timing.copy_stall);
        let late = |_| Error::Timeout { what: "the next part of the copy", after: stall };
        while tokio::time::timeout(stall, wire.receive_data(&mut buffer)).await.map_err(late)??.is_some() {
            if let Err(source) = input.write_all(&buffer).await {
                return Ok(Err(source));
            }
        }
        let outcome = tokio::time::timeout(stall, wire.receive_outcome()).await.map_err(late)??;
        let states = outcome.strip_prefix(COMPLETE).map(str::to_owned);
        let states = states.ok_or_else(|| Error::CopyIncomplete(outcome))?;
        Ok(input.shutdown().await.map(|()| states))
    }

    async fn prepare(&self, preparer: &Path, building: &Path) -> Result<(), Error> {
        let files = files::for_all_of(building).await;
        let mut command = self.programs.command(preparer, self.dirs, files);
        command.arg("--no-defaults").arg("--prepare").arg(format!("--open-files-limit={}", files::granted(files)));
        command.arg(format!("--use-memory={}", Sizes::of(self.config).buffer_pool));
        command
            .arg(format!("--target-dir={}", building.display()))
            .arg(format!("--tmpdir={}", self.dirs.tmp().display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = process::run(command, Vec::new(), self.config.timing.copy).await?;
        let text = String::from_utf8_lossy(&output.stderr);
        if output.status.success() && text.trim_end().ends_with("completed OK!") {
            return Ok(());
        }
        let last = || text.trim_end().lines().next_back().unwrap_or_default().to_owned();
        let reason = files::advice(&text, files).unwrap_or_else(last);
        Err(Error::CopyIncomplete(format!(
            "mariabackup --prepare ended with {}: {reason}",
            process::describe(output.status)
        )))
    }

    /// Lets a server look at the copy without its binary logs.
    ///
    /// A parallel applier gives up the lock that a backup waits for while its transaction waits for the one before it
    /// (MDEV-36025). That transaction is in no binary log yet, nor in any position: it comes again with replication. But it
    /// is prepared in the copy, and no server starts with that; it is rolled back. (What clients prepared, `XA PREPARE`,
    /// is left.) A primary's commits keep the lock, so that with a copy of a primary the same is a reason to refuse it.
    async fn settle(&self, building: &Path, donor_applies: bool) -> Result<(), Error> {
        if donor_applies {
            let output = self.look(building, Some("--tc-heuristic-recover=ROLLBACK")).await?;
            // MariaDB 11 always ends when it has rolled back, with an error; whether it could, the next look tells
            if !String::from_utf8_lossy(&output.stderr).contains("restart without --tc-heuristic-recover") {
                return self.settled(&output);
            }
        }
        self.settled(&self.look(building, None).await?)
    }

    async fn look(&self, building: &Path, option: Option<&str>) -> Result<Output, Error> {
        let Self { config, programs, dirs, dialect } = *self;
        let mut command = provision::offline(config, programs, dirs, dialect, building);
        command.arg("--bootstrap").args(option);
        process::run(command, Vec::new(), config.timing.start).await
    }

    fn settled(&self, output: &Output) -> Result<(), Error> {
        if output.status.success() {
            return Ok(());
        }
        if String::from_utf8_lossy(&output.stderr).contains("prepared transactions") {
            let how = "the donor committed while it was made, or changed its role: try again";
            return Err(Error::CopyIncomplete(how.to_owned()));
        }
        let how = process::describe_with_reason(output);
        Err(Error::Ended { what: format!("{} while it looked at a copy", self.programs.mysqld.display()), how })
    }
}

/// Why `mbstream` ended, which says of a full disk only that it could not write. So little is left after that.
fn why_not_unpacked(said: &str, free: Option<u64>) -> Error {
    const NO_ROOM: u64 = 4 * MIB;
    match free {
        Some(free) if free < NO_ROOM => {
            Error::NoRoom(format!("No space left for the copy: {} MiB are free on its disk ({said})", free / MIB))
        }
        Some(_) | None => Error::CopyIncomplete(said.to_owned()),
    }
}

/// What a backup noted of the donor's binary log.
struct Info<'a> {
    file: &'a str,
    offset: u64,
    /// The last GTID of each domain that the donor had noted.
    position: &'a str,
}

impl<'a> Info<'a> {
    fn read(text: &'a str) -> Result<Self, Error> {
        let mut fields = text.trim_end().split('\t');
        let (file, offset) = (fields.next(), fields.next().and_then(|offset| offset.parse().ok()));
        let (Some(file), Some(offset)) = (file, offset) else {
            return Err(Error::answer("read the backup's position", text));
        };
        Ok(Self { file, offset, position: fields.next().unwrap_or_default().trim() })
    }

    /// `logged` as a position, if it has all that the donor had noted.
    fn confirmed(&self, logged: &str) -> Result<Position, Error> {
        let position = newest(&[logged])?;
        if position == newest(&[logged, self.position])? {
            return Ok(position);
        }
        Err(Error::CopyIncomplete(format!(
            "the donor's binary log was purged or begun anew meanwhile (it has '{logged}' there, the copy '{}'): try again",
            self.position
        )))
    }
}

/// The state of the donor's binary log at the moment of the copy, as a `.state` file.
///
/// `position` has the last GTID of each domain. What other servers wrote earlier is only in the `states`, which were read
/// before and after. Of those, everything with a lower number is in the copy (strict mode); where only a higher number is
/// known, there was a failover, and what that server had written by then is unknown. One that was not known before is left
/// out then: servers that stand at its transactions are told that the binary logs do not reach back, and are copied.
fn state_at(position: &Position, states: &str) -> Result<String, Error> {
    let bad = |text: &str| Error::CopyIncomplete(text.to_owned());
    let (before, after) = states.split_once(';').ok_or_else(|| bad("the donor told no history"))?;
    let (before, after) = (entries(before)?, entries(after)?);
    if before.keys().any(|(domain, _)| !position.contains_key(domain)) {
        return Err(bad("the copy lacks a domain of the donor"));
    }
    let mut text = String::new();
    for (writer, seq) in &after {
        let (domain, server) = writer;
        let Some(last) = position.get(domain).filter(|last| *server != last.0) else { continue };
        if *seq < last.1 {
            let _ = writeln!(text, "{domain}-{server}-{seq}"); // a String takes everything
        } else if before.contains_key(writer) {
            return Err(bad("the donor's primary changed during the copy: try again"));
        }
    }
    for (domain, (server, seq)) in position {
        let from = before.get(&(*domain, *server)).copied().unwrap_or_default();
        let to = after.get(&(*domain, *server)).copied().unwrap_or_default();
        if !(from..=to).contains(seq) {
            return Err(bad("the copy's position does not fit the donor's history"));
        }
        let _ = writeln!(text, "{domain}-{server}-{seq}"); // the newest of a domain comes last
    }
    Ok(text)
}

fn entries(state: &str) -> Result<BTreeMap<(u64, u64), u64>, Error> {
    let parts = state.split(',').map(str::trim).filter(|part| !part.is_empty());
    let entry = |part| {
        let one = newest(&[part])?;
        one.into_iter()
            .next()
            .map(|(domain, (server, seq))| ((domain, server), seq))
            .ok_or_else(|| Error::answer("state", part))
    };
    parts.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_one() {
        let said = "mbstream ended with status 1: my_write() failed.";
        let told = why_not_unpacked(said, Some(MIB));
        assert!(matches!(told, Error::NoRoom(text) if text.contains("No space left") && text.contains("my_write")));
        for free in [None, Some(100 * MIB)] {
            assert!(matches!(why_not_unpacked(said, free), Error::CopyIncomplete(text) if text == said));
        }
    }

    #[test]
    fn the_state_at_the_moment_of_the_copy() {
        let state_at = |position: &str, states| state_at(&newest(&[position]).expect("well formed"), states);
        let states = "0-1-300,0-2-350;0-1-300,0-2-400";
        assert_eq!(state_at("0-2-356", states).expect("it fits"), "0-1-300\n0-2-356\n");
        assert_eq!(state_at("0-1-5", "0-1-5;0-1-5").expect("it fits"), "0-1-5\n");
        assert_eq!(state_at("", ";").expect("a fresh donor"), "");
        // others were primary for a moment: before the copy, and after
        let state = state_at("0-1-315", "0-1-300;0-1-320,0-2-310,0-3-318").expect("it fits");
        assert_eq!(state, "0-2-310\n0-1-315\n");
        // the one before wrote a little more
        let state = state_at("0-2-356", "0-1-300;0-1-350,0-2-400").expect("it fits");
        assert_eq!(state, "0-1-350\n0-2-356\n");
        for (position, states) in [
            ("0-2-356", "0-1-300,0-2-350;0-1-400,0-2-360"), // a failover and back
            ("0-2-356", "0-1-300,0-2-350;0-1-300,0-2-355"), // beyond the end
            ("0-2-356", "0-1-300,0-2-357;0-1-300,0-2-357"), // before the beginning
            ("", "0-1-1;0-1-1"),
            ("0-2-356", "0-2-356"),
        ] {
            assert!(state_at(position, states).is_err(), "{states}");
        }
    }

    #[test]
    fn what_a_backup_notes() {
        let info = Info::read("binlog.000001\t354\t0-2-356\n").expect("as 10.11 writes it");
        assert_eq!((info.file, info.offset, info.position), ("binlog.000001", 354, "0-2-356"));
        assert_eq!(Info::read("binlog.000001\t4\t").expect("a fresh donor").position, "");
        assert!(Info::read("").is_err() && Info::read("binlog.000001").is_err());
        for (logged, is_right) in
            [("0-2-356", true), ("0-2-359", true), ("0-2-355", false), ("0-1-355", false), ("", false)]
        {
            assert_eq!(info.confirmed(logged).is_ok(), is_right, "{logged}");
        }
    }
}
