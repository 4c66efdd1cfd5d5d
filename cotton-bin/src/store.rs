//! The state store on local files: `fleet.json` and one `clusters/<name>.json` a cluster, each replaced as a whole.

use crate::atomic_file;
use async_trait::async_trait;
use cotton_core::ports::state_store::{StateKey, StateStore, Stored};
use cotton_core::{ClusterName, ErrorKind, ErrorStatus, PortError};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

const FLEET: &str = "fleet.json";
const CLUSTERS: &str = "clusters";
const RECORD: &str = ".json";
const ASIDE: &str = ".json.corrupt-";
const AT_ONCE_MAX: usize = 16; // saves under way: enough for disks that flush in parallel

/// What can go wrong with the files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("could not {operation} '{path}'")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record was set aside by an earlier run.
    #[error("the record was damaged and is kept at '{0}': mend it and move it back, or remove it")]
    Aside(PathBuf),
    /// There is no such record.
    #[error("there is no record at '{0}'")]
    Missing(PathBuf),
    /// The runtime is shutting down.
    #[error("the program is shutting down")]
    Stopping,
}

impl StoreError {
    fn into_port_error(self, operation: &'static str, context: impl Into<String>) -> PortError {
        let (kind, status) = match &self {
            Self::File { source, .. } => (kind_of(source), ErrorStatus::Temporary),
            Self::Aside(_) => (ErrorKind::Corrupt, ErrorStatus::Permanent),
            Self::Missing(_) => (ErrorKind::NotFound, ErrorStatus::Permanent),
            Self::Stopping => (ErrorKind::Other, ErrorStatus::Permanent),
        };
        let source = Some(Box::new(self) as _);
        PortError { kind, status, operation, context: context.into(), source }
    }
}

/// The cause of a file error, in the core's terms.
pub(crate) fn kind_of(error: &io::Error) -> ErrorKind {
    use io::ErrorKind as Io;
    let kind = error.kind();
    if matches!(kind, Io::StorageFull | Io::ReadOnlyFilesystem | Io::QuotaExceeded) {
        ErrorKind::Storage
    } else if kind == Io::PermissionDenied {
        ErrorKind::Denied
    } else if kind == Io::NotFound {
        ErrorKind::NotFound
    } else {
        ErrorKind::Other
    }
}

/// Records in a directory that belongs to this process alone; see the module.
#[derive(Clone, Debug)]
pub struct FileStore {
    dir: Arc<Path>,
    at_once: Arc<Semaphore>,
}

impl FileStore {
    /// Opens the directory, after making it when there is none, and cleans up what a crash left half-written. Whoever
    /// opens it makes sure that no other process has (see [`crate::local`]).
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        for dir in [dir.to_owned(), dir.join(CLUSTERS)] {
            atomic_file::prepare(&dir).map_err(|source| StoreError::File {
                operation: "prepare",
                path: dir,
                source,
            })?;
        }
        Ok(Self { dir: dir.into(), at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)) })
    }

    /// As [`open`](Self::open), where it delays nothing else.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_beside(dir: PathBuf) -> Result<Self, StoreError> {
        tokio::task::spawn_blocking(move || Self::open(&dir)).await.map_err(|_| StoreError::Stopping)?
    }

    /// Runs file operations where they delay nothing else; several at once, but not without bound.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.at_once).acquire_owned().await.map_err(|_| StoreError::Stopping)?;
        let dir = Arc::clone(&self.dir);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit; // given back when the work is over, even if nobody waits for it any more
            work(&dir)
        });
        done.await.map_err(|_| StoreError::Stopping)?
    }
}

#[async_trait]
impl StateStore for FileStore {
    async fn load(&self) -> Result<Vec<Stored>, PortError> {
        let context = self.dir.display().to_string();
        self.run(load).await.map_err(|error| error.into_port_error("load state", context))
    }

    async fn save(&self, key: &StateKey, value: &[u8]) -> Result<(), PortError> {
        let (place, value) = (Place::of(key), value.to_vec());
        let saved = self.run(move |root| {
            atomic_file::replace(&place.dir(root), &place.name, &value).map_err(|e| place.error(root, "write", e))
        });
        saved.await.map_err(|error| error.into_port_error("save", key.to_string()))
    }

    async fn remove(&self, key: &StateKey) -> Result<(), PortError> {
        let place = Place::of(key);
        let removed = self.run(move |root| {
            atomic_file::remove(&place.dir(root), &place.name).map_err(|e| place.error(root, "remove", e))
        });
        removed.await.map_err(|error| error.into_port_error("remove", key.to_string()))
    }

    async fn set_aside(&self, key: &StateKey) -> Result<String, PortError> {
        let place = Place::of(key);
        let moved = self.run(move |root| set_aside(root, &place)).await;
        moved.map_err(|error| error.into_port_error("set aside", key.to_string()))
    }
}

/// Where a record is.
#[derive(Debug)]
struct Place {
    in_clusters: bool,
    name: String,
}

impl Place {
    fn of(key: &StateKey) -> Self {
        match key {
            StateKey::Fleet => Self { in_clusters: false, name: FLEET.to_owned() },
            StateKey::Cluster(name) => Self { in_clusters: true, name: format!("{name}{RECORD}") },
        }
    }

    fn dir(&self, root: &Path) -> PathBuf {
        if self.in_clusters { root.join(CLUSTERS) } else { root.to_owned() }
    }

    fn error(&self, root: &Path, operation: &'static str, source: io::Error) -> StoreError {
        StoreError::File { operation, path: self.dir(root).join(&self.name), source }
    }
}

fn load(root: &Path) -> Result<Vec<Stored>, StoreError> {
    let mut found = BTreeMap::new();
    let fleet = list(root)?.into_iter().filter(|name| name == FLEET || name.starts_with("fleet.json.corrupt-"));
    let fleet = fleet.map(|name| (StateKey::Fleet, root.join(name)));
    let dir = root.join(CLUSTERS);
    let clusters = list(&dir)?.into_iter().filter_map(|name| {
        let (stem, _) = name.split_once(RECORD)?; // cluster names have no dots
        Some((StateKey::Cluster(stem.parse::<ClusterName>().ok()?), dir.join(name)))
    });
    for (key, path) in fleet.chain(clusters) {
        let text = path.to_string_lossy();
        if text.ends_with(RECORD) {
            let value = match std::fs::read(&path) {
                Ok(bytes) => Ok(bytes),
                Err(source) => {
                    let damaged = is_the_records_own(&source);
                    let error = StoreError::File { operation: "read", path: path.clone(), source };
                    if !damaged {
                        return Err(error); // such as too many open files: no record is to be given up for that
                    }
                    Err(error.into_port_error("read", key.to_string()))
                }
            };
            found.insert(key, value);
        } else if text.contains(ASIDE) {
            let aside = |key: &StateKey| StoreError::Aside(path.clone()).into_port_error("read", key.to_string());
            let aside = Err(aside(&key));
            found.entry(key).or_insert(aside); // a newer record counts; the order of the listing puts it first
        }
    }
    Ok(found.into_iter().map(|(key, value)| Stored { key, value }).collect())
}

/// Whether a failure to read says something of this file, rather than of the whole machine at that moment.
fn is_the_records_own(error: &io::Error) -> bool {
    const EIO: i32 = 5; // a bad block
    error.raw_os_error() == Some(EIO)
        || matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory)
}

/// Names in a directory, in order, so that `x.json` comes before `x.json.corrupt-1`.
fn list(dir: &Path) -> Result<Vec<String>, StoreError> {
    let error = |source| StoreError::File { operation: "list", path: dir.to_owned(), source };
    let entries = std::fs::read_dir(dir).map_err(error)?;
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default())); // not ours if not UTF-8
    let mut names = names.collect::<io::Result<Vec<_>>>().map_err(error)?;
    names.sort_unstable();
    Ok(names)
}

fn set_aside(root: &Path, place: &Place) -> Result<String, StoreError> {
    let dir = place.dir(root);
    let stem = place.name.trim_end_matches(RECORD);
    let prefix = format!("{stem}{ASIDE}");
    let number = |name: &String| name.strip_prefix(&prefix)?.parse::<u64>().ok();
    let last = list(&dir)?.iter().filter_map(number).max();
    let live = dir.join(&place.name);
    if !live.try_exists().map_err(|e| place.error(root, "find", e))? {
        let aside = last.map(|n| dir.join(format!("{prefix}{n}")));
        return aside.map(|path| path.display().to_string()).ok_or(StoreError::Missing(live));
    }
    let aside = format!("{prefix}{}", last.unwrap_or(0) + 1);
    atomic_file::rename(&dir, &place.name, &aside).map_err(|e| place.error(root, "rename", e))?;
    Ok(dir.join(aside).display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn cluster(name: &str) -> StateKey {
        StateKey::Cluster(name.parse().expect("a valid name"))
    }

    #[tokio::test]
    async fn passes_the_suite() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || FileStore::open(&dir.path().join("state")).expect("opens");
        cotton_core::testkit::contract::state_store::state_store(open).await;
    }

    #[tokio::test]
    async fn files_are_where_they_are_said_to_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = FileStore::open(dir.path()).expect("opens");
        store.save(&StateKey::Fleet, b"f").await.expect("saved");
        store.save(&cluster("a"), b"a").await.expect("saved");
        assert_eq!(std::fs::read(dir.path().join("fleet.json")).expect("is there"), b"f");
        let record = dir.path().join("clusters/a.json");
        assert_eq!(std::fs::read(&record).expect("is there"), b"a");
        assert_eq!(record.metadata().expect("is there").permissions().mode() & 0o777, 0o600);
        let aside = store.set_aside(&cluster("a")).await.expect("moved");
        assert_eq!(aside, dir.path().join("clusters/a.json.corrupt-1").display().to_string());
        store.save(&cluster("a"), b"b").await.expect("saved");
        assert!(store.set_aside(&cluster("a")).await.expect("moved").ends_with("a.json.corrupt-2"));
        assert_eq!(std::fs::read(dir.path().join("clusters/a.json.corrupt-1")).expect("is there"), b"a", "is kept");
    }

    #[tokio::test]
    async fn what_a_crash_leaves_is_ignored_and_cleaned() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = FileStore::open(dir.path()).expect("opens");
        store.save(&cluster("a"), b"old").await.expect("saved");
        std::fs::write(dir.path().join("clusters/.tmp-9-9-a.json"), "half").expect("written");
        std::fs::write(dir.path().join("clusters/README"), "not ours").expect("written");
        let loaded = store.load().await.expect("loads");
        assert_eq!(loaded.len(), 1);
        FileStore::open(dir.path()).expect("opens");
        assert!(!dir.path().join("clusters/.tmp-9-9-a.json").exists());
        assert!(dir.path().join("clusters/README").exists());
    }

    #[tokio::test]
    async fn one_unreadable_record_hides_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = FileStore::open(dir.path()).expect("opens");
        store.save(&cluster("a"), b"a").await.expect("saved");
        std::fs::create_dir(dir.path().join("clusters/b.json")).expect("made");
        let loaded = store.load().await.expect("loads");
        assert_eq!(loaded[0].value.as_deref().expect("readable"), b"a");
        assert!(loaded[1].value.is_err());
        store.save(&cluster("b"), b"x").await.expect_err("cannot replace a directory");
    }

    #[tokio::test]
    async fn a_full_disk_is_told_from_other_errors() {
        assert_eq!(kind_of(&io::Error::from(io::ErrorKind::StorageFull)), ErrorKind::Storage);
        assert_eq!(kind_of(&io::Error::other("x")), ErrorKind::Other);
    }

    #[tokio::test]
    async fn many_clusters_are_saved_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = FileStore::open(dir.path()).expect("opens");
        let saves = (0..200).map(|n| {
            let store = store.clone();
            async move { store.save(&cluster(&format!("c{n}")), b"x").await }
        });
        futures::future::try_join_all(saves).await.expect("saved");
        assert_eq!(store.load().await.expect("loads").len(), 200);
    }
}
