//! Volumes on disk: the data of tasks, apart from their sandboxes, so that it outlives them.
//!
//! A volume is a directory with a file beside it, written first. A sandbox has a link to it, where a real agent would mount
//! it. It is removed only when the scheduler says so: it is renamed at once, and what a crash leaves of that is cleaned up
//! when the directory is opened.

use super::store::{Store, TaskRecord, is_json, list, make_dir, read_json, write_json};
use crate::error::Error;
use cotton_core::{AgentId, Resources, TaskId, VolumeId};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const VOLUMES: &str = "volumes";
/// End of the names of volumes that are being removed.
const RELEASED: &str = ".released";

/// A volume, as an agent remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeRecord {
    pub(super) volume: VolumeId,
    /// Port of the last task that had it.
    pub(super) port: u16,
    /// Of that task and its executor together.
    pub(super) resources: Resources,
    /// Whether its directory was made: if it is not there then, its data is gone, and nothing empty may take its place.
    #[serde(default)]
    pub(super) made: bool,
}

impl Store {
    /// The volumes of an agent; ends removals that were interrupted.
    pub(super) fn volumes(&self, agent: &AgentId) -> Result<Vec<VolumeRecord>, Error> {
        let dir = self.agent_dir(agent).join(VOLUMES);
        let mut records = Vec::new();
        for name in list(&dir)? {
            if name.ends_with(RELEASED) {
                remove_tree(&dir.join(&name))?;
            } else if is_json(&name) {
                let record: Option<VolumeRecord> = read_json(&dir.join(name))?;
                records.extend(record.map(|record| VolumeRecord {
                    made: record.made && self.volume(agent, &record.volume).is_dir(),
                    ..record
                }));
            }
        }
        Ok(records)
    }

    /// Keeps the data of tasks whose sandboxes held it themselves, as those of earlier versions did: it is made a volume.
    /// Returns which, if the task has any.
    pub(super) fn keep_data(&self, agent: &AgentId, record: &TaskRecord) -> Result<Option<VolumeId>, Error> {
        let inside = self.sandbox(agent, &record.task).join(crate::VOLUME_PATH);
        let volume = volume_of(&record.task).filter(|_| self.holds_data(agent, &record.task));
        let Some(volume) = volume else { return Ok(None) };
        let place = self.volume(agent, &volume);
        if place.exists() {
            return Ok(None); // there is a newer one: this is left where it is
        }
        self.save_volume(
            agent,
            &VolumeRecord { volume: volume.clone(), port: record.port, resources: record.resources, made: true },
        )?;
        std::fs::rename(&inside, &place).map_err(|error| Error::file("move", &inside, error))?;
        link(&inside, &volume)?;
        Ok(Some(volume))
    }

    /// Whether the sandbox of a task that has ended holds data that was never made a volume.
    pub(super) fn holds_data(&self, agent: &AgentId, task: &TaskId) -> bool {
        let inside = self.sandbox(agent, task).join(crate::VOLUME_PATH);
        std::fs::symlink_metadata(inside).is_ok_and(|metadata| metadata.is_dir())
    }

    /// Lets a task use a volume, which is made when it never was.
    pub(super) fn mount(&self, agent: &AgentId, task: &TaskId, record: &VolumeRecord) -> Result<(), Error> {
        if self.holds_data(agent, task) {
            return Ok(()); // as earlier versions had it; made a volume when the task ends
        }
        let place = self.volume(agent, &record.volume);
        let known: Option<VolumeRecord> = read_json(&self.volume_file(agent, &record.volume))?;
        let was_made = known.is_some_and(|known| known.made);
        if was_made && !place.is_dir() {
            return Err(Error::file("find the data of the member in", place, io::ErrorKind::NotFound.into()));
        }
        self.save_volume(agent, &VolumeRecord { made: was_made, ..record.clone() })?;
        if !was_made {
            make_dir(&place, 0o755)?;
            self.save_volume(agent, &VolumeRecord { made: true, ..record.clone() })?;
        }
        link(&self.sandbox(agent, task).join(crate::VOLUME_PATH), &record.volume)
    }

    /// Removes a volume with all data.
    pub(super) fn remove_volume(&self, agent: &AgentId, volume: &VolumeId) -> Result<(), Error> {
        let place = self.volume(agent, volume);
        let released = place.with_file_name(format!("{volume}{RELEASED}"));
        remove_tree(&released)?; // of an earlier volume of that name
        match std::fs::rename(&place, &released) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file("move", place, error)),
            Ok(()) | Err(_) => {}
        }
        let file = self.volume_file(agent, volume);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file("remove", file, error)),
            Ok(()) | Err(_) => {}
        }
        remove_tree(&released)
    }

    fn save_volume(&self, agent: &AgentId, record: &VolumeRecord) -> Result<(), Error> {
        make_dir(&self.agent_dir(agent).join(VOLUMES), 0o755)?;
        write_json(&self.volume_file(agent, &record.volume), record, true)
    }

    /// Whether a volume is there, or is still being removed.
    pub(super) fn has_volume(&self, agent: &AgentId, volume: &VolumeId) -> bool {
        let place = self.volume(agent, volume);
        let released = place.with_file_name(format!("{volume}{RELEASED}"));
        [place, self.volume_file(agent, volume), released].iter().any(|path| std::fs::symlink_metadata(path).is_ok())
    }

    pub(super) fn volume(&self, agent: &AgentId, volume: &VolumeId) -> PathBuf {
        self.agent_dir(agent).join(VOLUMES).join(volume.as_str())
    }

    fn volume_file(&self, agent: &AgentId, volume: &VolumeId) -> PathBuf {
        self.agent_dir(agent).join(VOLUMES).join(format!("{volume}.json"))
    }
}

/// The volume that a task of earlier versions would have had.
pub(super) fn volume_of(task: &TaskId) -> Option<VolumeId> {
    task.parse().ok().map(|(cluster, member, _)| VolumeId::of(&cluster, member))
}

/// Links a sandbox to its volume, also after the directory was moved elsewhere.
fn link(inside: &Path, volume: &VolumeId) -> Result<(), Error> {
    let target = Path::new("../..").join(VOLUMES).join(volume.as_str());
    match std::os::unix::fs::symlink(target, inside) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::file("link", inside, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
