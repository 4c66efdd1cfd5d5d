//! Discovery in memory, for tests: clones share what is published.

use crate::ports::discovery::{Discovery, Published};
use crate::{ClusterName, ErrorKind, PortError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Publications in memory; see the module.
#[derive(Clone, Debug, Default)]
pub struct MemoryDiscovery {
    published: Arc<Mutex<BTreeMap<ClusterName, Published>>>,
}

impl MemoryDiscovery {
    /// Nothing published yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What clients see of `cluster`.
    pub fn get(&self, cluster: &ClusterName) -> Option<Published> {
        self.published().get(cluster).cloned()
    }

    fn published(&self) -> MutexGuard<'_, BTreeMap<ClusterName, Published>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Discovery for MemoryDiscovery {
    async fn publish(&self, cluster: &ClusterName, published: &Published) -> Result<(), PortError> {
        let mut all = self.published();
        if let Some(old) = all.get(cluster).filter(|old| old.epoch > published.epoch) {
            let context = format!("cluster '{cluster}': epoch {} is published already", old.epoch);
            return Err(PortError::permanent(ErrorKind::Conflict, "publish", context));
        }
        all.insert(cluster.clone(), published.clone());
        Ok(())
    }

    async fn withdraw(&self, cluster: &ClusterName) -> Result<(), PortError> {
        self.published().remove(cluster);
        Ok(())
    }
}
