//! Reads everything that is stored, before anything is done with it: whoever starts a scheduler may look at all records
//! first, and refuse. Reading changes nothing.

use crate::cluster::state::{STATE_VERSION, State};
use crate::fleet::state::{FLEET_STATE_VERSION, FleetState};
use crate::ports::state_store::{StateKey, StateStore, Stored};
use crate::{ClusterName, ErrorKind, PortError};
use serde::Deserialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use tracing::error;

/// All records of one state store, as they were read.
#[derive(Debug, Default)]
pub struct Records {
    pub(super) fleet: Option<FleetState>,
    pub(super) clusters: Vec<State>,
    /// Clusters whose record cannot be read, and why.
    pub(super) damaged: BTreeMap<ClusterName, PortError>,
}

impl Records {
    /// Reads them all. A damaged record of a cluster is reported beside the others; one that another version of this program
    /// wrote is not damaged, and ends the reading.
    ///
    /// # Errors
    /// When the records cannot be listed, the fleet's own record is damaged, or missing although there are clusters, or a
    /// later version wrote any of them.
    pub async fn read(store: &dyn StateStore) -> Result<Self, PortError> {
        Self::of(store.load().await?)
    }

    /// As [`read`](Self::read), of what a store has given.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for the listing.
    pub fn of(stored: Vec<Stored>) -> Result<Self, PortError> {
        let mut records = Self::default();
        let mut later = Vec::new();
        for Stored { key, value } in stored {
            let read = match key {
                StateKey::Fleet => read_fleet(&key, &value?).map(|fleet| records.fleet = Some(fleet)),
                StateKey::Cluster(ref name) => match value.and_then(|bytes| read_cluster(&key, name, &bytes)) {
                    Ok(state) => {
                        records.clusters.push(state);
                        Ok(())
                    }
                    Err(error) if error.kind == ErrorKind::Unsupported => Err(error),
                    Err(error) => {
                        records.damaged.insert(name.clone(), error);
                        Ok(())
                    }
                },
            };
            match read {
                Err(error) if error.kind == ErrorKind::Unsupported => later.push(error),
                result => result?,
            }
        }
        let others = later.len().saturating_sub(1);
        if let Some(mut error) = later.into_iter().next() {
            if others > 0 {
                error.context = format!("{} ({others} more records are of a later version, too)", error.context);
            }
            return Err(error);
        }
        if records.fleet.is_none() && !records.clusters.is_empty() {
            let what = "there are clusters and no record of the framework: another one would be registered, and theirs \
                        would be lost; restore that record, or remove those of the clusters";
            return Err(PortError::permanent(ErrorKind::Corrupt, "load the state", what));
        }
        Ok(records)
    }

    /// What belongs to all clusters together; `None` before the first start.
    pub fn fleet(&self) -> Option<&FleetState> {
        self.fleet.as_ref()
    }

    /// The clusters whose records can be read.
    pub fn clusters(&self) -> &[State] {
        &self.clusters
    }

    /// Whether any cluster has a record, be it damaged.
    pub fn has_clusters(&self) -> bool {
        !self.clusters.is_empty() || !self.damaged.is_empty()
    }

    /// Says that all members have their data on volumes, also those that were begun when there were none: whoever starts the
    /// scheduler knows that their sandboxes were made volumes.
    pub fn put_on_volumes(&mut self) {
        self.clusters.iter_mut().flat_map(|state| state.members.values_mut()).for_each(|member| member.volume = true);
    }

    /// Puts the damaged records aside, for a person to look at.
    pub(super) async fn set_damaged_aside(&self, store: &dyn StateStore) {
        for (name, cause) in &self.damaged {
            let place = store.set_aside(&StateKey::Cluster(name.clone())).await;
            let kept = place.as_deref().unwrap_or("its place");
            error!(error = %cause.chain(), "cluster '{name}' is left alone: its record is damaged and kept in {kept}");
        }
    }
}

/// The part of a record that every version of this program has written and understands.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn read_fleet(key: &StateKey, bytes: &[u8]) -> Result<FleetState, PortError> {
    check_version(key, bytes, FLEET_STATE_VERSION)?;
    serde_json::from_slice(bytes).map_err(|error| corrupt(key).with_source(error))
}

fn read_cluster(key: &StateKey, name: &ClusterName, bytes: &[u8]) -> Result<State, PortError> {
    check_version(key, bytes, STATE_VERSION)?;
    let state: State = serde_json::from_slice(bytes).map_err(|error| corrupt(key).with_source(error))?;
    if state.name() != name {
        let context = format!("{key} holds cluster '{}'", state.name());
        return Err(PortError::permanent(ErrorKind::Corrupt, "read stored state", context));
    }
    Ok(state)
}

/// The version is read by itself: nothing else of a later record needs to make sense here. Earlier versions than the
/// present one are converted where they are read; so far there is only one.
fn check_version(key: &StateKey, bytes: &[u8], known: u32) -> Result<(), PortError> {
    let Versioned { version } = serde_json::from_slice(bytes).map_err(|error| corrupt(key).with_source(error))?;
    match version.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(corrupt(key)),
        Ordering::Greater => {
            let release = env!("CARGO_PKG_VERSION");
            let context = format!(
                "{key} is of version {version}, and this program (cotton {release}) reads versions up to {known}: start \
                 the release that wrote it, or a later one; nothing was changed"
            );
            Err(PortError::permanent(ErrorKind::Unsupported, "read stored state", context))
        }
    }
}

fn corrupt(key: &StateKey) -> PortError {
    let context = match key {
        StateKey::Fleet => format!("{key}: put a copy of that record back; those of the clusters are left as they are"),
        StateKey::Cluster(_) => key.to_string(),
    };
    PortError::permanent(ErrorKind::Corrupt, "read stored state", context)
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
