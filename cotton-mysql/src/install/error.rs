//! Why an archive could not be installed, and what to do about it.

use super::digest::Digest;
use crate::error::io_meaning;
use cotton_core::{ErrorKind, ErrorStatus};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a server's programs could not be installed from an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The file is not there, or cannot be read.
    #[error("archive {source_name} cannot be read: it must be on every agent, and readable by the executor's user")]
    Open {
        /// Where it should be.
        source_name: String,
        /// Why not.
        source: io::Error,
    },
    /// The web server could not be reached, or did not send everything.
    #[error("archive {source_name} did not arrive")]
    Fetch {
        /// Where it should be.
        source_name: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// The web server is to be reached over TLS, and this program cannot.
    #[error(
        "archive {source_name}: this program was built without TLS: build it with the feature 'tls', or serve it otherwise"
    )]
    NoTls {
        /// Where it should be.
        source_name: String,
    },
    /// The web server says no.
    #[error(
        "archive {source_name}: the web server answers {status}: see that the address is right, and open to agents"
    )]
    Refused {
        /// Where it should be.
        source_name: String,
        /// The status of the answer.
        status: u16,
    },
    /// More than is allowed.
    #[error("archive {source_name} {what}: more than a database server has; is it the right one?")]
    TooLarge {
        /// Which archive.
        source_name: String,
        /// What there is too much of.
        what: String,
    },
    /// Another file than the one that was meant.
    #[error(
        "archive {source_name} has the sha256 {found}, not {expected}: it is damaged or another one; if it is the right \
         one, correct sha256= in --installer_args"
    )]
    Checksum {
        /// Which archive.
        source_name: String,
        /// The one that was given.
        expected: Digest,
        /// The one it has.
        found: Digest,
    },
    /// Not an archive that we know.
    #[error("archive {source_name} is no tar file, plain or compressed with gzip, xz or zstd: pack it anew")]
    Format {
        /// Which archive.
        source_name: String,
    },
    /// Its end is missing, or something in it is wrong.
    #[error("archive {source_name} is damaged or not complete: put a good copy in its place")]
    Damaged {
        /// Which archive.
        source_name: String,
        /// What was found.
        source: io::Error,
    },
    /// An entry that would change something outside, or make what no server needs.
    #[error("archive {source_name} is refused because of its entry '{entry}': {reason}")]
    Unsafe {
        /// Which archive.
        source_name: String,
        /// Name of the entry.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No server in it.
    #[error("archive {source_name} has no mariadbd or mysqld in {searched}: name the right one with directory=")]
    NoServer {
        /// Which archive.
        source_name: String,
        /// Where it was looked for.
        searched: String,
    },
    /// It takes too long.
    #[error("archive {source_name} was not installed within {} s", after.as_secs())]
    TooSlow {
        /// Which archive.
        source_name: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A file or directory of ours.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It was given up.
    #[error("the installation was given up")]
    GivenUp,
}

impl InstallError {
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { what, path: path.into(), source }
    }

    pub(crate) fn meaning(&self) -> (ErrorKind, ErrorStatus) {
        use ErrorKind::{Corrupt, Denied, Invalid, NotFound, Other, Timeout, Unreachable};
        use ErrorStatus::{Permanent, Temporary};
        match self {
            Self::Open { source, .. } | Self::File { source, .. } => io_meaning(source),
            Self::Fetch { source, .. } if source.is_timeout() => (Timeout, Temporary),
            Self::Fetch { .. } | Self::Refused { status: 408 | 425 | 429 | 500.., .. } => (Unreachable, Temporary),
            Self::Refused { status: 404 | 410, .. } => (NotFound, Permanent),
            Self::Refused { .. } => (Denied, Permanent),
            Self::TooLarge { .. }
            | Self::Format { .. }
            | Self::Unsafe { .. }
            | Self::NoServer { .. }
            | Self::NoTls { .. } => (Invalid, Permanent),
            Self::Checksum { .. } | Self::Damaged { .. } => (Corrupt, Permanent),
            Self::TooSlow { .. } => (Timeout, Temporary),
            Self::GivenUp => (Other, Temporary),
        }
    }
}
