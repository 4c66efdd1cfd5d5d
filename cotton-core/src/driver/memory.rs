//! An executor's state in a small file beside its data.
//!
//! Saving lies on the path of every failover, twice on the winner's. Replacing a file (write, sync, rename, sync the
//! directory) took 13 ms in the middle on a busy machine, overwriting one of two places in a file that stays as long as
//! it is takes 4 ms: it needs one write of one block, and no change of any directory. The place written to is the one
//! that does not hold the newest durable state, so that a write that is cut off destroys nothing.

use super::executor::ExecutorMemory;
use crate::executor::ExecutorState;
use crate::{ErrorKind, PortError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Version of the file; others are refused in words.
const VERSION: u32 = 1;

/// Bytes of one place: no two share a block of any disk, so that a write that is cut off cannot harm the other one.
const PLACE_BYTES: usize = 4096;

/// State in one file; see the module. The file is text: two lines of a checksum and JSON, filled up with spaces.
#[derive(Clone, Debug)]
pub struct FileMemory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Number of the newest record that is certainly durable; `None` before the file was looked at.
    durable: Mutex<Option<u64>>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Counts the saves; odd and even ones have a place each.
    number: u64,
    #[serde(flatten)]
    state: ExecutorState,
}

impl FileMemory {
    /// State in this file; its directory must exist, and be on a disk that survives what the data survives.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { inner: Arc::new(Inner { path: path.into(), durable: Mutex::new(None) }) }
    }
}

#[async_trait]
impl ExecutorMemory for FileMemory {
    async fn load(&self) -> Result<Option<ExecutorState>, PortError> {
        self.blocking("read the executor's state", Inner::load).await
    }

    async fn save(&self, state: &ExecutorState) -> Result<(), PortError> {
        let state = state.clone();
        self.blocking("save the executor's state", move |inner| inner.save(state)).await
    }
}

impl FileMemory {
    /// Runs beside the loop: a sync takes milliseconds, in which a kill or a report must not wait.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || act(&inner)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
            let context = self.inner.path.display().to_string();
            let kind = kind_of(&error);
            let make = if kind == ErrorKind::Corrupt { PortError::permanent } else { PortError::temporary };
            make(kind, operation, context).with_source(error)
        })
    }
}

impl Inner {
    fn load(&self) -> io::Result<Option<ExecutorState>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let records: Vec<Record> = bytes.chunks(PLACE_BYTES).filter_map(parse).collect();
        let newest = records.into_iter().max_by_key(|record| record.number);
        let newest = newest.ok_or_else(|| corrupt("neither of its records is whole"))?;
        if newest.version != VERSION {
            return Err(corrupt(&format!("it has version {}, not {VERSION}", newest.version)));
        }
        File::open(&self.path)?.sync_data()?; // what an executor wrote that died before it was durable
        *self.durable() = Some(newest.number);
        Ok(Some(newest.state))
    }

    fn save(&self, state: ExecutorState) -> io::Result<()> {
        let known = *self.durable();
        if known.is_none() {
            self.load()?;
        }
        let number = self.durable().map_or(0, |number| number + 1);
        let place = render(&Record { version: VERSION, number, state })?;
        if number == 0 {
            self.create(&place)?;
        } else {
            let mut file = OpenOptions::new().write(true).open(&self.path)?;
            file.seek(SeekFrom::Start((number % 2) * PLACE_BYTES as u64))?;
            file.write_all(&place)?;
            file.sync_data()?;
        }
        // Not before: until then the next attempt must not touch the other place.
        *self.durable() = Some(number);
        Ok(())
    }

    /// Makes the file with its first record and a free place, as a whole or not at all.
    fn create(&self, place: &[u8]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(place)?;
        file.write_all(&[b' '; PLACE_BYTES])?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, &self.path)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn render(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    let mut place = format!("{:016x} {json}", checksum(json.as_bytes())).into_bytes();
    assert!(place.len() < PLACE_BYTES, "a state of a few numbers fits");
    place.resize(PLACE_BYTES - 1, b' ');
    place.push(b'\n');
    Ok(place)
}

/// The record of one place, unless that is free or was cut off.
fn parse(place: &[u8]) -> Option<Record> {
    let (check, json) = std::str::from_utf8(place).ok()?.trim_end().split_once(' ')?;
    let whole = u64::from_str_radix(check, 16).ok()? == checksum(json.as_bytes());
    whole.then(|| serde_json::from_str(json).ok()).flatten()
}

/// FNV-1a, which tells a record that was cut off from a whole one; it guards against accidents, not against malice.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn corrupt(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn kind_of(error: &io::Error) -> ErrorKind {
    let kinds = [
        (io::ErrorKind::InvalidData, ErrorKind::Corrupt),
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

    fn state(n: u64) -> ExecutorState {
        let obeyed = Some(Rank { epoch: Epoch(n * 7), stage: Stage::Detach });
        ExecutorState { incarnation: n, obeyed, promoted: Some(Epoch(3)), ..ExecutorState::default() }
    }

    async fn loaded(path: &Path) -> Result<Option<ExecutorState>, ErrorKind> {
        FileMemory::new(path).load().await.map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("executor.json");
        assert_eq!(loaded(&path).await, Ok(None));
        let memory = FileMemory::new(&path);
        for n in 1..6 {
            memory.save(&state(n)).await.expect("saved");
            assert_eq!(loaded(&path).await, Ok(Some(state(n))));
        }
        FileMemory::new(&path).save(&state(6)).await.expect("saved by another one, that never loaded");
        assert_eq!(loaded(&path).await, Ok(Some(state(6))));
        let text = fs::read_to_string(&path).expect("there");
        let golden =
            r#" {"version":1,"number":5,"incarnation":6,"obeyed":{"epoch":42,"stage":"detach"},"promoted":3} "#;
        assert!(text.contains(golden), "a later release must be able to read it: {text}");
        assert_eq!(text.len(), 2 * PLACE_BYTES);
        let lost = FileMemory::new(dir.path().join("none/executor.json"));
        assert!(lost.save(&state(1)).await.is_err());
    }

    #[tokio::test]
    async fn a_write_that_is_cut_off_anywhere_loses_only_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("executor.json");
        let memory = FileMemory::new(&path);
        memory.save(&state(1)).await.expect("saved");
        memory.save(&state(2)).await.expect("saved");
        let before = fs::read(&path).expect("there");
        memory.save(&state(3)).await.expect("saved");
        let after = fs::read(&path).expect("there");
        for cut in 0..200 {
            let torn: Vec<u8> = after[..cut].iter().chain(&before[cut..]).copied().collect();
            fs::write(&path, &torn).expect("written");
            let found = loaded(&path).await.expect("one is whole").expect("there");
            assert!(found == state(2) || found == state(3), "{cut}: {found:?}");
        }
    }

    #[tokio::test]
    async fn damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("executor.json");
        FileMemory::new(&path).save(&state(1)).await.expect("saved");
        let text = fs::read_to_string(&path).expect("there");
        for bad in ["", "{}", &text[..20], &text.replace(":1,", ":2,")] {
            fs::write(&path, bad).expect("written");
            assert_eq!(loaded(&path).await, Err(ErrorKind::Corrupt), "{bad}");
            assert!(FileMemory::new(&path).save(&state(2)).await.is_err(), "what is not understood is not replaced");
        }
    }
}
