//! What can go wrong with a server, by cause, and what each cause means at the port.

use cotton_core::{ErrorKind, ErrorStatus, PortError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why something could not be done with a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not installed, or not where it was said to be.
    #[error("{program} not found in {searched}: {advice}")]
    ProgramMissing {
        /// Its name, or names.
        program: String,
        /// Where it was looked for.
        searched: String,
        /// What to do about it.
        advice: String,
    },
    /// A setting that cannot work.
    #[error("{0}")]
    Config(String),
    /// This server or version cannot do what is wanted.
    #[error("{0}")]
    Unsupported(String),
    /// A file or directory.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Any other request to the system.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The server, or a program of it, ended when it should not have.
    #[error("{what} ended with {how}")]
    Ended {
        /// Which program.
        what: String,
        /// Exit status or signal, with the last line of its log.
        how: String,
    },
    /// The server's process does not run.
    #[error("server is not running")]
    NotRunning,
    /// There is no data directory.
    #[error("no data directory {}: provision the server first", .0.display())]
    NotProvisioned(PathBuf),
    /// There is no data directory although a server ran here before: an empty one would pass for what it had.
    #[error("data directory {} is missing, although a server had its data there: restore it, or replace the member with 'cotton rebuild NAME MEMBER'", .0.display())]
    DataGone(PathBuf),
    /// No answer in time.
    #[error("no answer to {what} within {} ms", after.as_millis())]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// A statement failed.
    #[error("{what}")]
    Sql {
        /// What it was for; the statement itself may hold a secret.
        what: &'static str,
        /// What the server or the driver said.
        source: mysql_async::Error,
    },
    /// The server answered something that we do not understand.
    #[error("server's answer to {what} is not understood: {detail}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What is wrong with the answer.
        detail: String,
    },
    /// The server is in a state that does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// It may work later.
    #[error("{0}")]
    NotYet(String),
    /// There is no room on the disk for this.
    #[error("{0}")]
    NoRoom(String),
    /// A copy of the data ended early or is damaged.
    #[error("copy is not complete: {0}")]
    CopyIncomplete(String),
    /// The server's programs could not be installed.
    #[error(transparent)]
    Install(#[from] crate::install::InstallError),
}

use ErrorKind::{Conflict, Corrupt, Denied, Invalid, NotFound, Other, Storage, Timeout, Unreachable, Unsupported};
use ErrorStatus::{Permanent, Temporary};

/// What a server's error number means to us. Numbers are those of MySQL; MariaDB's own begin at 1900.
const CODES: &[(u16, ErrorKind, ErrorStatus, &str)] = &[
    (3, Storage, Temporary, "error writing a file"),
    (1021, Storage, Temporary, "disk full"),
    (1026, Storage, Temporary, "error writing a file"),
    (1040, Unreachable, Temporary, "too many connections"),
    (1044, Denied, Permanent, "no right to this database"),
    (1045, Denied, Permanent, "wrong user or password"),
    (1053, Unreachable, Temporary, "server shutdown in progress"),
    (1064, Unsupported, Permanent, "statement not known to this version"),
    (1114, Storage, Temporary, "table or disk full"),
    (1126, Unsupported, Permanent, "plugin's library cannot be opened"),
    (1130, Denied, Permanent, "host is not allowed to connect"),
    (1142, Denied, Permanent, "no right to this statement"),
    (1146, NotFound, Permanent, "no such table"),
    (1193, Unsupported, Permanent, "no such variable in this version"),
    (1194, Corrupt, Permanent, "table is marked as crashed"),
    (1198, Conflict, Temporary, "replication is running"),
    (1200, Conflict, Temporary, "server is not configured as a replica"),
    (1201, Conflict, Temporary, "replication metadata cannot be read"),
    (1203, Unreachable, Temporary, "too many connections of this user"),
    (1205, Timeout, Temporary, "lock wait timeout"),
    (1227, Denied, Permanent, "a privilege is missing"),
    (1236, NotFound, Permanent, "binary logs do not reach back"),
    (1290, Conflict, Temporary, "server is read-only"),
    (1305, Unsupported, Permanent, "no such function in this version"),
    (1317, Timeout, Temporary, "statement was interrupted"),
    (1524, Unsupported, Permanent, "plugin is not loaded"),
    (1712, Corrupt, Permanent, "index is corrupt"),
    (1836, Conflict, Temporary, "server is in read-only mode"),
    (1872, Conflict, Temporary, "replica's metadata cannot be read"),
    (1950, Conflict, Permanent, "GTID out of order (MariaDB)"),
    (1969, Timeout, Temporary, "statement time limit (MariaDB)"),
    (3021, Conflict, Temporary, "applier must be stopped first"),
    (3024, Timeout, Temporary, "statement time limit"),
    (3081, Conflict, Temporary, "replication threads must be stopped first"),
    (3159, Denied, Permanent, "server wants TLS"),
    (3862, Unreachable, Temporary, "clone: the donor failed or is gone"),
    (3869, Invalid, Permanent, "clone: donor is not in the list of allowed donors"),
    (3870, Unsupported, Permanent, "clone: plugin is not loaded on the donor"),
];

impl Error {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { what, path: path.into(), source }
    }

    pub(crate) fn answer(what: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Answer { what, detail: detail.to_string() }
    }

    /// Whether the connection, not the statement, failed: nothing is known about what the server did.
    pub(crate) fn is_connection(&self) -> bool {
        let broken = matches!(self, Self::Sql { source, .. } if !matches!(source, mysql_async::Error::Server(_)));
        broken || matches!(self, Self::Timeout { .. })
    }

    /// The number with which the server refused a statement.
    pub(crate) fn server_code(&self) -> Option<u16> {
        let Self::Sql { source: mysql_async::Error::Server(error), .. } = self else { return None };
        Some(error.code)
    }

    fn meaning(&self) -> (ErrorKind, ErrorStatus) {
        match self {
            Self::NotProvisioned(_) | Self::DataGone(_) => (ErrorKind::DataGone, Permanent),
            Self::Config(_) => (Invalid, Permanent),
            Self::Unsupported(_) | Self::ProgramMissing { .. } => (Unsupported, Permanent),
            Self::File { source, .. } | Self::System { source, .. } => io_meaning(source),
            Self::Ended { .. } => (Other, Temporary),
            Self::NotRunning => (Unreachable, Temporary),
            Self::Timeout { .. } => (Timeout, Temporary),
            Self::Sql { source, .. } => sql_meaning(source),
            Self::Answer { .. } => (Other, Permanent),
            Self::Conflict(_) => (Conflict, Permanent),
            Self::NotYet(_) => (Conflict, Temporary),
            Self::NoRoom(_) => (Storage, Temporary),
            Self::CopyIncomplete(_) => (Corrupt, Temporary),
            Self::Install(error) => error.meaning(),
        }
    }

    /// As the port tells it.
    pub(crate) fn at_port(self, operation: &'static str, context: impl Into<String>) -> PortError {
        let (kind, status) = self.meaning();
        let context = context.into();
        let error = match status {
            Permanent => PortError::permanent(kind, operation, context),
            Temporary => PortError::temporary(kind, operation, context),
        };
        error.with_source(self)
    }
}

pub(crate) fn io_meaning(error: &io::Error) -> (ErrorKind, ErrorStatus) {
    use io::ErrorKind as Io;
    #[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign and growing enum we know some")]
    match error.kind() {
        Io::StorageFull | Io::ReadOnlyFilesystem | Io::QuotaExceeded | Io::FileTooLarge => (Storage, Temporary),
        Io::NotFound => (NotFound, Permanent),
        Io::PermissionDenied => (Denied, Permanent),
        Io::TimedOut => (Timeout, Temporary),
        Io::ConnectionRefused | Io::ConnectionReset | Io::ConnectionAborted | Io::NotConnected | Io::BrokenPipe => {
            (Unreachable, Temporary)
        }
        _ => (Other, Temporary),
    }
}

fn sql_meaning(error: &mysql_async::Error) -> (ErrorKind, ErrorStatus) {
    match error {
        mysql_async::Error::Server(error) => CODES
            .iter()
            .find(|(code, ..)| *code == error.code)
            .map_or((Other, Temporary), |(_, kind, status, _)| (*kind, *status)),
        mysql_async::Error::Io(_) | mysql_async::Error::Driver(_) => (Unreachable, Temporary),
        mysql_async::Error::Other(_) | mysql_async::Error::Url(_) => (Other, Temporary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> Error {
        let error = mysql_async::ServerError { code, message: "m".to_owned(), state: "HY000".to_owned() };
        Error::Sql { what: "test", source: mysql_async::Error::Server(error) }
    }

    #[test]
    fn every_known_code_has_its_meaning_once() {
        for (code, kind, status, what) in CODES {
            assert_eq!(server(*code).meaning(), (*kind, *status), "{what}");
            assert!(!server(*code).is_connection());
            assert_eq!(server(*code).server_code(), Some(*code));
        }
        let mut codes: Vec<u16> = CODES.iter().map(|row| row.0).collect();
        codes.dedup();
        assert!(codes.is_sorted() && codes.len() == CODES.len(), "ascending, no code twice");
        assert_eq!(server(1).meaning(), (Other, Temporary));
    }

    #[test]
    fn causes_have_their_kinds() {
        let io = |kind| Error::System { what: "test", source: io::Error::from(kind) };
        let table = [
            (io(io::ErrorKind::StorageFull), Storage, true),
            (io(io::ErrorKind::ReadOnlyFilesystem), Storage, true),
            (io(io::ErrorKind::ConnectionRefused), Unreachable, true),
            (Error::NotRunning, Unreachable, true),
            (Error::Timeout { what: "probe", after: Duration::from_millis(5) }, Timeout, true),
            (Error::Config("x".to_owned()), Invalid, false),
            (Error::Conflict("x".to_owned()), Conflict, false),
            (Error::CopyIncomplete("x".to_owned()), Corrupt, true),
        ];
        for (error, kind, temporary) in table {
            let error = error.at_port("test", "");
            assert_eq!((error.kind, error.is_temporary()), (kind, temporary), "{}", error.chain());
        }
    }
}
