//! What agents hold for tasks that have ended: their volumes, with all that was reserved for their tasks.
//!
//! A volume is offered when its last task is over and put away, and its port can be bound again or was waited for long
//! enough. It is removed when the scheduler releases it, and never otherwise.

use super::offers::Outstanding;
use super::store::TaskRecord;
use super::task::Process;
use super::volume_files::VolumeRecord;
use super::world::{Action, Agent, World};
use cotton_core::ports::mesos::{Held, Launch, MesosEvent, Storage, VolumeOutcome};
use cotton_core::{AgentId, Ports, Resources, TaskId, VolumeId};

/// A volume on an agent.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) record: VolumeRecord,
    /// Whether no task uses it, and its files are where they belong.
    pub(super) idle: bool,
}

impl Agent {
    /// What is offered beside free resources.
    pub(super) fn held(&self) -> Vec<Held> {
        let idle = self.volumes.values().filter(|volume| volume.idle);
        let idle = idle.map(|volume| &volume.record).filter(|record| !self.cooling.contains_key(&record.port));
        let held = |record: &VolumeRecord| {
            let ports = [record.port].into_iter().filter(|port| self.can_bind(*port)).map(|port| (port, port));
            Held {
                volume: record.volume.clone(),
                exists: record.made,
                resources: record.resources,
                ports: Ports::new(ports),
            }
        };
        idle.map(held).collect()
    }

    /// What is reserved for volumes that no running task has.
    pub(super) fn reserved(&self) -> Resources {
        let runs = |volume: &VolumeId| {
            self.tasks
                .values()
                .any(|task| task.process != Process::Ended && task.record.volume.as_ref() == Some(volume))
        };
        let unused = self.volumes.iter().filter(|(id, _)| !runs(id));
        unused.fold(Resources::default(), |sum, (_, volume)| sum.plus(&volume.record.resources))
    }

    pub(super) fn is_reserved(&self, port: u16) -> bool {
        self.volumes.values().any(|volume| volume.record.port == port)
    }

    /// What a launch takes out of the free part of an offer, and whether its port is one it may have.
    pub(super) fn needs(&self, launch: &Launch, offered: &Outstanding) -> Result<(Resources, bool), &'static str> {
        let wanted = launch.task_resources.plus(&launch.executor_resources);
        let port = launch.endpoint.port;
        match &launch.storage {
            Storage::NewVolume(id) if self.volumes.contains_key(id) => Err("there is a volume of that name already"),
            Storage::Sandbox | Storage::NewVolume(_) => Ok((wanted, false)),
            Storage::Volume(id) => {
                let held = offered.held.iter().find(|held| held.volume == *id);
                let held = held.filter(|_| self.volumes.get(id).is_some_and(|volume| volume.idle));
                let held = held.ok_or("its volume was not offered")?;
                Ok((wanted.less(&held.resources), held.ports.contains(port)))
            }
        }
    }

    /// A task gets its volume.
    pub(super) fn use_volume(&mut self, launch: &Launch) -> Option<VolumeId> {
        let (Storage::NewVolume(id) | Storage::Volume(id)) = &launch.storage else { return None };
        let resources = launch.task_resources.plus(&launch.executor_resources);
        let made = self.volumes.get(id).is_some_and(|volume| volume.record.made);
        let record = VolumeRecord { volume: id.clone(), port: launch.endpoint.port, resources, made };
        self.volumes.insert(id.clone(), Volume { record, idle: false });
        Some(id.clone())
    }
}

impl World {
    /// Gives up what is held for these volumes, as far as nobody uses them.
    pub(super) fn release(&mut self, agent_id: &AgentId, releases: Vec<VolumeId>) {
        for volume in releases {
            let Some(agent) = self.agents.get_mut(agent_id) else { return };
            if agent.volumes.get(&volume).is_some_and(|volume| volume.idle) {
                let removed = agent.volumes.remove(&volume);
                let remove = |volume: Volume| Action::Remove { agent: agent_id.clone(), record: volume.record };
                self.actions.extend(removed.map(remove));
            } else {
                let reason = "it is in use, or not here".to_owned();
                self.events.push_back(MesosEvent::Volume { volume, outcome: VolumeOutcome::Failed { reason } });
            }
        }
    }

    /// What a task is to be started on.
    pub(super) fn volume_for(&self, agent: &AgentId, task: &TaskId) -> Option<VolumeRecord> {
        let agent = self.agents.get(agent)?;
        let volume = agent.tasks.get(task)?.record.volume.as_ref()?;
        Some(agent.volumes.get(volume)?.record.clone())
    }

    /// The directory of a volume is there.
    pub(super) fn made(&mut self, agent: &AgentId, volume: &VolumeId) {
        let volume = self.agents.get_mut(agent).and_then(|agent| agent.volumes.get_mut(volume));
        if let Some(volume) = volume {
            volume.record.made = true;
        }
    }

    /// The files of a volume are gone, or could not be removed.
    pub(super) fn removed(&mut self, agent: &AgentId, record: VolumeRecord, failed: Option<String>) {
        let volume = record.volume.clone();
        let outcome = match failed {
            None => VolumeOutcome::Released,
            Some(reason) => {
                if let Some(agent) = self.agents.get_mut(agent) {
                    agent.volumes.insert(volume.clone(), Volume { record, idle: true }); // to be asked for again
                }
                VolumeOutcome::Failed { reason }
            }
        };
        self.events.push_back(MesosEvent::Volume { volume, outcome });
    }

    /// A task is put away: others may have its volume from now on. `kept` is the one that its data was made just now.
    pub(super) fn put_away(&mut self, agent: &AgentId, record: &TaskRecord, kept: Option<VolumeId>) {
        let Some(agent) = self.agents.get_mut(agent) else { return };
        if let Some(volume) = kept {
            let (port, resources) = (record.port, record.resources);
            let record = VolumeRecord { volume: volume.clone(), port, resources, made: true };
            agent.volumes.insert(volume, Volume { record, idle: true });
        } else if let Some(volume) = record.volume.as_ref().and_then(|id| agent.volumes.get_mut(id)) {
            volume.idle = true;
        }
    }
}
