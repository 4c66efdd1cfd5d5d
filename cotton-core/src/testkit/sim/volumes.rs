//! Persistent volumes: what a member leaves on its agent, and whoever is given it next.

use super::member::Member;
use super::server::Server;
use super::world::{World, trace};
use crate::executor::ExecutorState;
use crate::ports::mesos::{Held, Launch, MesosEvent, Storage, VolumeOutcome};
use crate::testkit::invariants::{Task, Verdict};
use crate::{Ports, VolumeId};

/// A volume with all that is reserved for it.
#[derive(Debug)]
pub(super) struct Volume {
    agent: usize,
    port: u16,
    /// Whether there is more than a reservation.
    made: bool,
    /// The task that has it.
    user: Option<Task>,
    left: Option<Left>,
}

/// What a task leaves behind.
#[derive(Debug)]
struct Left {
    state: ExecutorState,
    server: Server,
}

impl World {
    /// What is offered of an agent beside its free resources.
    pub(super) fn held_on(&self, agent: usize) -> Vec<Held> {
        let free = self.volumes.iter().filter(|(_, volume)| volume.agent == agent && volume.user.is_none());
        let held = |(id, volume): (&VolumeId, &Volume)| Held {
            volume: id.clone(),
            exists: volume.made,
            resources: super::master::SIZE,
            ports: Ports::new([(volume.port, volume.port)]),
        };
        free.map(held).collect()
    }

    /// Takes the ports out that are reserved for volumes.
    pub(super) fn without_reserved(&self, agent: usize, ports: &mut Ports) {
        for volume in self.volumes.values().filter(|volume| volume.agent == agent) {
            ports.remove(volume.port);
        }
    }

    /// Whether a launch gets the storage that it wants; in trouble, a part of what was to be made may be made.
    pub(super) fn provide(&mut self, agent: usize, launch: &Launch) -> bool {
        match &launch.storage {
            Storage::Sandbox => true,
            Storage::NewVolume(id) => {
                if self.volumes.contains_key(id) {
                    self.hold(Err(format!("volume '{id}' is made twice")));
                }
                let (half, made) = (self.mishap(20), self.random.chance(500));
                let port = launch.endpoint.port;
                self.volumes.insert(id.clone(), Volume { agent, port, made: made || !half, user: None, left: None });
                if half {
                    trace!(self, "FAULT volume '{id}' is made half way");
                }
                !half
            }
            Storage::Volume(id) => {
                self.volumes.get(id).is_some_and(|v| v.agent == agent && v.user.is_none() && v.made) && !self.mishap(20)
            }
        }
    }

    /// A task begins to use its volume: gets what is on it.
    pub(super) fn mount(&mut self, task: Task, storage: &Storage) {
        let (Storage::NewVolume(id) | Storage::Volume(id)) = storage else { return };
        let Some(volume) = self.volumes.get_mut(id) else { return };
        volume.user = Some(task);
        let member = &mut self.members[task];
        member.volume = Some(id.clone());
        if let Some(left) = volume.left.take() {
            (member.state, member.server) = (left.state, left.server);
        }
    }

    /// A task uses its volume no more: what it wrote stays there.
    pub(super) fn unmount(&mut self, task: Task) {
        let Member { volume: Some(id), state, server, .. } = &mut self.members[task] else { return };
        let Some(volume) = self.volumes.get_mut(id).filter(|volume| volume.user == Some(task)) else { return };
        let fresh = server.successor();
        volume.user = None;
        volume.left = Some(Left { state: state.clone(), server: std::mem::replace(server, fresh) });
        if let Some(left) = &mut volume.left {
            left.server.rest();
        }
    }

    /// The scheduler gives volumes up.
    pub(super) fn release(&mut self, valid: bool, agent: usize, volumes: Vec<VolumeId>) {
        for volume in volumes {
            let free = |v: &Volume| v.agent == agent && v.user.is_none();
            let done = valid && self.volumes.get(&volume).is_some_and(free) && !self.mishap(50);
            trace!(self, "master: volume '{volume}' is released: {done}");
            let outcome = if done {
                let gone = self.volumes.remove(&volume);
                let held = gone.and_then(|gone| gone.left).map(|left| left.server.held().collect());
                if let (Ok((name, _)), Some(held)) = (volume.parse(), held)
                    && let Some(life) = self.life_of(&name)
                {
                    self.judge_ending_of(life, None, &format!("the scheduler destroys volume '{volume}'"), &held);
                }
                VolumeOutcome::Released
            } else {
                VolumeOutcome::Failed { reason: "trouble".to_owned() }
            };
            self.send_to_scheduler(MesosEvent::Volume { volume, outcome });
        }
    }

    /// What lies on volumes that nobody uses.
    pub(super) fn left_on_volumes(&self) -> impl Iterator<Item = (&VolumeId, &Server)> {
        self.volumes.iter().filter_map(|(id, volume)| Some((id, &volume.left.as_ref()?.server)))
    }

    /// The disks of an agent are gone.
    pub(super) fn destroy_volumes(&mut self, agent: usize) {
        self.volumes.retain(|_, volume| volume.agent != agent);
    }

    /// The last tasks of members on an agent whose volumes are not in use.
    pub(super) fn last_users(&self, agent: usize) -> Vec<Task> {
        let unused = self.volumes.iter().filter(|(_, volume)| volume.agent == agent && volume.user.is_none());
        unused.filter_map(|(id, _)| self.members.iter().rposition(|m| m.volume.as_ref() == Some(id))).collect()
    }

    /// Whether a member's data outlives its task.
    pub(super) fn is_on_volume(&self, task: Task) -> bool {
        self.members[task].volume.as_ref().is_some_and(|id| self.volumes.contains_key(id))
    }

    /// R6: nothing stays reserved for members that are gone, but data while their cluster waits for what it has lost.
    pub(super) fn check_volumes(&self) -> Verdict {
        for (id, volume) in &self.volumes {
            let (name, member) = id.parse().map_err(|error| format!("R6: '{id}': {error}"))?;
            let waits = |life: usize| self.lives[life].bereft;
            if volume.made && self.life_of(&name).is_some_and(waits) {
                continue;
            }
            if !self.stored(&name).is_some_and(|s| s.members.contains_key(&member) || s.kept.contains(&member)) {
                return Err(format!("R6: volume '{id}' is nobody's and still there"));
            }
        }
        Ok(())
    }
}
