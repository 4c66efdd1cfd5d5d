//! A state store in memory, for tests: clones share their records, so that dropping one and keeping another is a
//! restart.

use crate::ports::state_store::{StateKey, StateStore, Stored};
use crate::{ErrorKind, PortError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records in memory; see the module.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    records: BTreeMap<StateKey, Vec<u8>>,
    aside: BTreeMap<StateKey, Vec<u8>>,
    refuses_writes: bool,
    saves: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every change fails as on a full disk, until told otherwise.
    pub fn refuse_writes(&self, refuse: bool) {
        self.shared().refuses_writes = refuse;
    }

    /// One record as it is now.
    pub fn get(&self, key: &StateKey) -> Option<Vec<u8>> {
        self.shared().records.get(key).cloned()
    }

    /// How many saves succeeded.
    pub fn saves(&self) -> u64 {
        self.shared().saves
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self, operation: &'static str, key: &StateKey) -> Result<MutexGuard<'_, Shared>, PortError> {
        let shared = self.shared();
        if shared.refuses_writes {
            return Err(PortError::temporary(ErrorKind::Storage, operation, key.to_string()));
        }
        Ok(shared)
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn load(&self) -> Result<Vec<Stored>, PortError> {
        let shared = self.shared();
        let mut found: BTreeMap<_, _> =
            shared.records.iter().map(|(key, value)| (key.clone(), Ok(value.clone()))).collect();
        for key in shared.aside.keys() {
            found.entry(key.clone()).or_insert_with(|| {
                Err(PortError::permanent(ErrorKind::Corrupt, "load", format!("{key} was set aside in memory")))
            });
        }
        Ok(found.into_iter().map(|(key, value)| Stored { key, value }).collect())
    }

    async fn save(&self, key: &StateKey, value: &[u8]) -> Result<(), PortError> {
        let mut shared = self.writable("save", key)?;
        shared.records.insert(key.clone(), value.to_vec());
        shared.saves += 1;
        Ok(())
    }

    async fn remove(&self, key: &StateKey) -> Result<(), PortError> {
        self.writable("remove", key)?.records.remove(key);
        Ok(())
    }

    async fn set_aside(&self, key: &StateKey) -> Result<String, PortError> {
        let mut shared = self.writable("set aside", key)?;
        if let Some(value) = shared.records.remove(key) {
            shared.aside.insert(key.clone(), value);
        } else if !shared.aside.contains_key(key) {
            return Err(PortError::permanent(ErrorKind::NotFound, "set aside", key.to_string()));
        }
        Ok("memory".to_owned())
    }
}
