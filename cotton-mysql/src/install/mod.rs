//! Where a server's programs come from: an [`Installer`] says, and brings them when they are not there yet.
//!
//! [`FromSystem`] takes those of the machine. [`FromArchive`] unpacks an archive into a directory of its own, which is
//! complete or does not exist, and is used again by whoever comes after.

mod archive;
mod decode;
mod digest;
mod error;
mod fetch;
mod layout;
mod spec;
mod unpack;

pub use archive::FromArchive;
pub use digest::Digest;
pub use error::InstallError;
pub use spec::{ArchiveSpec, Source, SpecError};

use crate::Error;
use async_trait::async_trait;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Brings a server's programs to this machine.
#[async_trait]
pub trait Installer: fmt::Debug + Send + Sync {
    /// Makes sure that the programs are there, and tells where. Doing it again is cheap and changes nothing; a call that
    /// is given up leaves nothing half done.
    ///
    /// # Errors
    /// When they cannot be had; the text says what to do about it.
    async fn install(&self) -> Result<Installed, Error>;
}

/// Where the programs of a server are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Directories of programs; none for those of the system.
    pub programs: Vec<PathBuf>,
    /// What the server must be told to find its own files.
    pub arguments: Vec<String>,
    /// Directories of libraries, in case the server does not find them by itself.
    pub libraries: Vec<PathBuf>,
}

/// The programs of this machine.
#[derive(Clone, Debug, Default)]
pub struct FromSystem {
    /// Their directory; `None` looks in `PATH`, `/usr/sbin` and the like.
    pub programs: Option<PathBuf>,
}

#[async_trait]
impl Installer for FromSystem {
    async fn install(&self) -> Result<Installed, Error> {
        Ok(Installed { programs: self.programs.iter().cloned().collect(), ..Installed::default() })
    }
}

/// How much an archive may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive itself.
    pub archive_bytes: u64,
    /// Bytes of everything in it.
    pub unpacked_bytes: u64,
    /// Files, directories and links in it.
    pub entries: u64,
    /// The whole installation.
    pub time: Duration,
    /// Reaching the web server.
    pub connect: Duration,
    /// Without a byte from it.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 4 << 30,
            unpacked_bytes: 16 << 30,
            entries: 200_000,
            time: Duration::from_hours(1),
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
        }
    }
}
