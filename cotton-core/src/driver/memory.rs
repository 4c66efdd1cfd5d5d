//! An executor's state in a small file beside its data.

use super::executor::ExecutorMemory;
use crate::executor::ExecutorState;
use crate::{ErrorKind, PortError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the file; others are refused in words.
const VERSION: u32 = 1;

/// State in one file: written beside it, synced, renamed over it, and the directory synced.
#[derive(Clone, Debug)]
pub struct FileMemory {
    path: Arc<Path>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    #[serde(flatten)]
    state: ExecutorState,
}

impl FileMemory {
    /// State in this file; its directory must exist, and be on a disk that survives what the data survives.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into() }
    }
}

#[async_trait]
impl ExecutorMemory for FileMemory {
    async fn load(&self) -> Result<Option<ExecutorState>, PortError> {
        let context = || self.path.display().to_string();
        let corrupt = || PortError::permanent(ErrorKind::Corrupt, "read the executor's state", context());
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let kind = kind_of(&error);
                return Err(PortError::temporary(kind, "read the executor's state", context()).with_source(error));
            }
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| corrupt().with_source(error))?;
        if record.version == VERSION {
            Ok(Some(record.state))
        } else {
            Err(corrupt().with_source(format!("it has version {}, not {VERSION}", record.version)))
        }
    }

    async fn save(&self, state: &ExecutorState) -> Result<(), PortError> {
        let record = Record { version: VERSION, state: state.clone() };
        let bytes = serde_json::to_vec(&record).expect("the state has only string keys");
        let path = Arc::clone(&self.path);
        // A sync takes milliseconds, in which a kill or a report must not wait.
        let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        let context = || self.path.display().to_string();
        written.map_err(|error| {
            PortError::temporary(kind_of(&error), "save the executor's state", context()).with_source(error)
        })
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    drop(file);
    fs::rename(&new, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn kind_of(error: &io::Error) -> ErrorKind {
    let kinds = [
        (io::ErrorKind::StorageFull, ErrorKind::Storage),
        (io::ErrorKind::QuotaExceeded, ErrorKind::Storage),
        (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Storage),
        (io::ErrorKind::PermissionDenied, ErrorKind::Denied),
        (io::ErrorKind::NotFound, ErrorKind::NotFound),
    ];
    kinds.iter().find(|(from, _)| *from == error.kind()).map_or(ErrorKind::Other, |(_, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;
    use crate::executor::Rank;
    use crate::protocol::Stage;

    #[tokio::test]
    async fn what_was_saved_is_loaded_and_damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("executor.json");
        let memory = FileMemory::new(&path);
        assert_eq!(memory.load().await.expect("nothing is fine"), None);
        for incarnation in 1..4 {
            let obeyed = Some(Rank { epoch: Epoch(incarnation * 7), stage: Stage::Detach });
            let state = ExecutorState { incarnation, obeyed, promoted: Some(Epoch(3)) };
            memory.save(&state).await.expect("saved");
            assert_eq!(FileMemory::new(&path).load().await.expect("loaded"), Some(state));
        }
        let text = fs::read_to_string(&path).expect("there");
        let golden = r#"{"version":1,"incarnation":3,"obeyed":{"epoch":21,"stage":"detach"},"promoted":3}"#;
        assert_eq!(text, golden, "a later release must be able to read it");
        for bad in ["", "{}", &text[..20], &text.replace(":1,", ":9,")] {
            fs::write(&path, bad).expect("written");
            let error = memory.load().await.expect_err("refused");
            assert_eq!(error.kind, ErrorKind::Corrupt, "{bad}");
        }
        let lost = FileMemory::new(dir.path().join("none/executor.json"));
        assert!(lost.save(&ExecutorState::default()).await.is_err());
    }
}
