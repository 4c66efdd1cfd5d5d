//! Fetches, checks and unpacks: an installation is complete or does not exist.

use super::digest::{Digest, Hasher};
use super::unpack::{GivenUp, unpack};
use super::{ArchiveSpec, InstallError, Installed, Installer, Limits, Source, decode, fetch, layout};
use crate::Error;
use crate::provision::RemoveOnDrop;
use async_trait::async_trait;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// Written last: which archive this is.
const NOTE: &str = "installed";
const TREE: &str = "tree";
const DOWNLOAD: &str = "download";

/// Unpacks an archive into a directory that must be on one file system with its parent, and is used by nobody else.
///
/// What is there and of the same archive is used again; of another one, it is replaced.
#[derive(Clone, Debug)]
pub struct FromArchive {
    spec: ArchiveSpec,
    dir: PathBuf,
    limits: Limits,
    /// Held until nothing is written any more, also by a thread for which nobody waits.
    at_work: Arc<Mutex<()>>,
}

impl FromArchive {
    /// Installs into `dir`, whose parent must exist; while it grows it is in a directory beside it, with `.partial` at the
    /// end of its name.
    pub fn new(spec: ArchiveSpec, dir: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { spec, dir: dir.into(), limits, at_work: Arc::default() }
    }

    async fn fresh(&self) -> Result<Installed, InstallError> {
        let at_work = Arc::clone(&self.at_work).lock_owned().await;
        let partial = self.dir.with_added_extension("partial");
        let building = RemoveOnDrop(partial.clone());
        let prepare = || {
            match fs::remove_dir_all(&partial) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            DirBuilder::new().mode(0o755).create(&partial)
        };
        prepare().map_err(|error| InstallError::file("create", &partial, error))?;
        tracing::info!(archive = %self.spec.source, "installing the server");
        let (file, found) = match &self.spec.source {
            Source::File(path) => (path.clone(), None),
            Source::Web(url) => {
                let to = partial.join(DOWNLOAD);
                let found = fetch::fetch(url, &to, &self.limits).await?;
                (to, Some(found))
            }
        };
        let given_up = GivenUp::default();
        let guard = SetOnDrop(given_up.clone());
        let this = self.clone();
        let unpack = move || {
            let unpacked = this.unpack(&file, found, &building.0, &given_up);
            drop(building);
            drop(at_work);
            unpacked
        };
        let unpacked = spawn_blocking(unpack).await;
        drop(guard);
        unpacked.map_err(|error| InstallError::file("unpack into", &self.dir, io::Error::other(error)))?
    }

    /// On a thread that may wait for the disk.
    fn unpack(
        &self,
        path: &Path,
        found: Option<Digest>,
        building: &Path,
        given_up: &GivenUp,
    ) -> Result<Installed, InstallError> {
        let source_name = self.spec.source.to_string();
        let open = |source| InstallError::Open { source_name: source_name.clone(), source };
        let meta = fs::metadata(path).map_err(open)?;
        if !meta.is_file() {
            return Err(open(io::Error::other("it is no file"))); // and to open a pipe could take for ever
        }
        let mut file = File::open(path).map_err(open)?;
        if meta.len() > self.limits.archive_bytes {
            let what = format!("has more than {} bytes", self.limits.archive_bytes);
            return Err(InstallError::TooLarge { source_name, what });
        }
        let found = match found {
            Some(found) => found,
            None => checksum(&mut file, given_up).map_err(open)?,
        };
        if let Some(expected) = self.spec.sha256.filter(|expected| *expected != found) {
            return Err(InstallError::Checksum { source_name, expected, found });
        }
        let tree = building.join(TREE);
        let make = DirBuilder::new().mode(0o755).create(&tree);
        make.map_err(|error| InstallError::file("create", &tree, error))?;
        let damaged = |source| InstallError::Damaged { source_name: source_name.clone(), source };
        let archive = decode::decoder(file).map_err(damaged)?;
        let archive = archive.ok_or_else(|| InstallError::Format { source_name: source_name.clone() })?;
        unpack(archive, &source_name, &tree, &self.limits, given_up)?;
        layout::find(&tree, self.spec.directory.as_deref(), &source_name)?;
        let failed = |error| InstallError::file("finish", building, error);
        match fs::remove_file(building.join(DOWNLOAD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let note = format!("{found}\n{}\n", self.spec.identity());
        fs::write(building.join(NOTE), note).map_err(failed)?;
        self.finish(building).map_err(failed)?;
        tracing::info!(sha256 = %found, "installed the server");
        self.existing()?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// Gives it its name when all of it is on disk.
    fn finish(&self, building: &Path) -> io::Result<()> {
        rustix::fs::syncfs(File::open(building)?)?;
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(building, &self.dir)?;
        File::open(self.dir.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// What an earlier run has installed, if it is of this archive.
    fn existing(&self) -> Result<Option<Installed>, InstallError> {
        let Ok(note) = fs::read_to_string(self.dir.join(NOTE)) else { return Ok(None) };
        let mut lines = note.lines();
        let (sha256, identity) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let is_same = match self.spec.sha256 {
            Some(expected) => expected.to_string() == sha256,
            None => self.spec.identity().to_string() == identity,
        };
        if !is_same {
            return Ok(None);
        }
        let (tree, source_name) = (self.dir.join(TREE), self.spec.source.to_string());
        layout::find(&tree, self.spec.directory.as_deref(), &source_name).map(Some)
    }
}

#[async_trait]
impl Installer for FromArchive {
    async fn install(&self) -> Result<Installed, Error> {
        if let Some(installed) = self.existing()? {
            return Ok(installed);
        }
        let after = self.limits.time;
        let late = |_| InstallError::TooSlow { source_name: self.spec.source.to_string(), after };
        Ok(tokio::time::timeout(after, self.fresh()).await.map_err(late)??)
    }
}

fn checksum(file: &mut File, given_up: &GivenUp) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 128 * 1024]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 || given_up.load(Ordering::Relaxed) {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    file.rewind()?;
    Ok(hasher.finish())
}

/// Tells a thread that nobody waits for it any more.
struct SetOnDrop(GivenUp);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
