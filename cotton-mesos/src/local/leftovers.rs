//! What agents hold of tasks that have ended, for a person who wants the disk back.
//!
//! Sandboxes are removed here, one by one, when they are asked for. Volumes are only listed: they are removed when the
//! scheduler releases them, as ever. Paths are made of names found in the directory, never of what a file says, and nothing
//! is removed that is reached through a link.

use super::store::{Store, is_json, list};
use super::volumes::Volume;
use super::{Inner, Local, Phase};
use crate::error::Error;
use cotton_core::{AgentId, TaskId, VolumeId};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Something that an agent holds of a task that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Which agent.
    pub agent: AgentId,
    /// What it is.
    pub what: LeftoverKind,
    /// Where it is.
    pub path: PathBuf,
    /// How much of the disk it takes.
    pub bytes: u64,
}

/// What an agent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// The sandbox of a task.
    Sandbox(TaskId),
    /// A volume that no task uses.
    Volume(VolumeId),
}

/// A directory that is not one of an agent's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} is {what}, and is left alone")]
pub struct NotOurs {
    path: String,
    what: &'static str,
}

impl Local {
    /// What agents hold of tasks that have ended: their sandboxes, and volumes that no task uses.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, Error> {
        let inner = Arc::clone(&self.inner);
        self.blocking(move || inner.leftovers()).await
    }

    /// Removes the sandbox of a task that has ended; says how much of the disk it took.
    ///
    /// # Errors
    /// When it is no directory of the agent's own, or cannot be removed.
    pub async fn remove_sandbox(&self, agent: &AgentId, task: &TaskId) -> Result<u64, Error> {
        let (inner, agent, task) = (Arc::clone(&self.inner), agent.clone(), task.clone());
        self.blocking(move || inner.remove_sandbox(&agent, &task)).await
    }

    /// Waits until these volumes are removed, for so long at most; gives those that are still there then.
    pub async fn until_removed(&self, volumes: &[(AgentId, VolumeId)], limit: Duration) -> Vec<VolumeId> {
        let there = || {
            let there = volumes.iter().filter(|(agent, volume)| self.inner.store.has_volume(agent, volume));
            there.map(|(_, volume)| volume.clone()).collect::<Vec<_>>()
        };
        let all = async {
            loop {
                let removed = self.inner.removed.notified();
                if there().is_empty() {
                    break;
                }
                removed.await;
            }
        };
        let _late = tokio::time::timeout(limit, all).await;
        there()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self.inner.runtime.spawn_blocking(work).await {
            Ok(result) => result,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()), // it is never cancelled
        }
    }
}

impl Inner {
    fn leftovers(&self) -> Result<Vec<Leftover>, Error> {
        let mut found = Vec::new();
        for agent in self.config.agents.iter().map(|agent| &agent.id) {
            for task in self.store.ended_tasks(agent)? {
                let path = self.store.sandbox(agent, &task);
                let bytes = disk_usage(&path);
                found.push(Leftover { agent: agent.clone(), what: LeftoverKind::Sandbox(task), path, bytes });
            }
            let idle = |volume: &&Volume| volume.idle;
            let volumes: Vec<VolumeId> = {
                let world = self.world();
                let volumes = world.agents.get(agent).into_iter().flat_map(|agent| agent.volumes.values());
                volumes.filter(idle).map(|volume| volume.record.volume.clone()).collect()
            };
            for volume in volumes {
                let path = self.store.volume(agent, &volume);
                let bytes = disk_usage(&path);
                found.push(Leftover { agent: agent.clone(), what: LeftoverKind::Volume(volume), path, bytes });
            }
        }
        Ok(found)
    }

    fn remove_sandbox(&self, agent: &AgentId, task: &TaskId) -> Result<u64, Error> {
        let bytes = disk_usage(&self.store.sandbox(agent, task)); // takes a while: not while nothing can be saved
        let _one_at_a_time = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = {
            let world = self.world();
            let knows = world.agents.get(agent).is_some_and(|agent| agent.knows(task));
            world.phase == Phase::Closed || knows
        };
        if runs {
            return Err(NotOurs { path: task.to_string(), what: "a task that has not ended" }.into());
        }
        self.store.remove_sandbox(agent, task)?;
        tracing::info!(%agent, %task, bytes, "removed the sandbox of a task that had ended");
        Ok(bytes)
    }
}

impl Store {
    /// Tasks that have ended, by the names of their files.
    fn ended_tasks(&self, agent: &AgentId) -> Result<Vec<TaskId>, Error> {
        let names = list(&self.agent_dir(agent).join("ended"))?;
        let tasks = names.iter().filter(|name| is_json(name)).filter_map(|name| name.strip_suffix(".json"));
        Ok(tasks.map(TaskId::from).collect())
    }

    /// Removes the sandbox of a task that has ended, then what is known of it.
    pub(super) fn remove_sandbox(&self, agent: &AgentId, task: &TaskId) -> Result<(), Error> {
        if let Some(sandbox) = self.own_directory(agent, "sandboxes", task.as_str())? {
            std::fs::remove_dir_all(&sandbox).map_err(|error| Error::file("remove", sandbox, error))?;
        }
        let file = self.agent_dir(agent).join("ended").join(format!("{task}.json"));
        std::fs::remove_file(&file).map_err(|error| Error::file("remove", file, error))
    }

    /// A directory of that name that is the agent's own, and reached from the agent's without a link; `None` when there is
    /// none. The agent's directory itself may be a link: operators put it on another disk.
    fn own_directory(&self, agent: &AgentId, kind: &str, name: &str) -> Result<Option<PathBuf>, NotOurs> {
        let mut path = self.agent_dir(agent);
        for part in [Path::new(kind), Path::new(name)] {
            let mut parts = part.components();
            let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
            path.push(part);
            let not_ours = |what| NotOurs { path: path.display().to_string(), what };
            if !is_name {
                return Err(not_ours("no name of a directory"));
            }
            match std::fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) if metadata.is_symlink() => return Err(not_ours("a link to elsewhere")),
                Ok(_) => return Err(not_ours("no directory")),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(_) => return Err(not_ours("not to be read")),
            }
        }
        Ok(Some(path))
    }
}

/// How much of the disk a directory takes, without what links in it lead to; what cannot be read counts nothing.
fn disk_usage(path: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let (mut sum, mut left, mut seen) = (0, vec![path.to_owned()], BTreeSet::new());
    while let Some(path) = left.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.nlink() < 2 || metadata.is_dir() || seen.insert((metadata.dev(), metadata.ino())) {
            sum += metadata.blocks() * BLOCK;
        }
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store, AgentId) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("cotton")).expect("is free");
        let agent = AgentId::new("agent-1");
        store.make_agent(&agent).expect("made");
        (dir, store, agent)
    }

    fn end(store: &Store, agent: &AgentId, name: &str) -> TaskId {
        let file = store.agent_dir(agent).join("ended").join(format!("{name}.json"));
        std::fs::write(file, "{}").expect("written");
        TaskId::from(name)
    }

    #[test]
    fn a_sandbox_goes_with_what_is_known_of_it() {
        let (_dir, store, agent) = store();
        let task = end(&store, &agent, "mysos-a-0");
        let sandbox = store.make_sandbox(&agent, &task).expect("made");
        std::fs::write(sandbox.join("stderr"), vec![b'x'; 10_000]).expect("written");
        let volume = store.agent_dir(&agent).join("volumes/mysos-a-0");
        std::fs::create_dir(&volume).expect("made");
        std::fs::write(volume.join("ibdata1"), vec![b'x'; 100_000]).expect("written");
        std::os::unix::fs::symlink(&volume, sandbox.join("mysql")).expect("linked");
        assert!((10_000..100_000).contains(&disk_usage(&sandbox)), "{}", disk_usage(&sandbox));
        assert_eq!(store.ended_tasks(&agent).expect("read"), std::slice::from_ref(&task));
        store.remove_sandbox(&agent, &task).expect("removed");
        assert!(!sandbox.exists() && volume.join("ibdata1").exists());
        assert_eq!(store.ended_tasks(&agent).expect("read"), []);
    }

    #[test]
    fn agents_may_be_on_another_disk() {
        let (dir, store, agent) = store();
        let (agents, disk) = (store.agent_dir(&agent).parent().expect("a parent").to_owned(), dir.path().join("disk"));
        std::fs::rename(&agents, &disk).expect("moved");
        std::os::unix::fs::symlink(&disk, &agents).expect("linked");
        let task = end(&store, &agent, "mysos-a-0");
        let sandbox = store.make_sandbox(&agent, &task).expect("made");
        store.remove_sandbox(&agent, &task).expect("removed");
        assert!(!sandbox.exists());
    }

    #[test]
    fn nothing_is_removed_that_is_elsewhere() {
        let (dir, store, agent) = store();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).expect("made");
        std::fs::write(elsewhere.join("data"), "precious").expect("written");
        let linked = end(&store, &agent, "mysos-a-0");
        std::os::unix::fs::symlink(&elsewhere, store.sandbox(&agent, &linked)).expect("linked");
        let refused = store.remove_sandbox(&agent, &linked).expect_err("it is a link").to_string();
        assert!(refused.contains("a link to elsewhere"), "{refused}");
        for name in ["..", "."] {
            let task = end(&store, &agent, name);
            assert!(store.remove_sandbox(&agent, &task).is_err(), "{name}");
        }
        let sandboxes = store.agent_dir(&agent).join("sandboxes");
        std::fs::remove_dir_all(&sandboxes).expect("removed");
        std::fs::create_dir(elsewhere.join("mysos-a-1")).expect("made");
        std::os::unix::fs::symlink(&elsewhere, &sandboxes).expect("linked");
        let inside = end(&store, &agent, "mysos-a-1");
        assert!(store.remove_sandbox(&agent, &inside).is_err());
        assert!(elsewhere.join("data").exists() && elsewhere.join("mysos-a-1").exists());
        assert_eq!(store.ended_tasks(&agent).expect("read").len(), 4, "what is left is known");
    }
}
