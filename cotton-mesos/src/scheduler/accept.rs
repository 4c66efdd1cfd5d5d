//! Using an offer: what is released of it, made of it and launched on it, in one `ACCEPT`.

use super::config::SchedulerConfig;
use super::marks::Owner;
use super::offers::Taken;
use super::operations::{Step, failed};
use super::state::{Plan, State, decline, dropped};
use super::stock::{Made, Released};
use super::translate;
use crate::wire::scheduler::call::{Accept, CallBody, Filters};
use crate::wire::scheduler::operation::{Launch as WireLaunch, Operation, Resources, Volumes};
use cotton_core::ports::mesos::{Launch, MesosEvent, Storage};
use cotton_core::{AgentId, FrameworkId, OfferId, TaskId, VolumeId};

/// How an offer is to be used.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) offer: OfferId,
    pub(super) agent: AgentId,
    pub(super) launches: Vec<Launch>,
    pub(super) releases: Vec<VolumeId>,
}

impl State {
    /// What is released comes first; what is free by that is offered anew, and not used here.
    pub(super) fn plan_accept(
        &mut self,
        config: &SchedulerConfig,
        framework: &FrameworkId,
        asked: Use,
        plan: &mut Plan,
    ) {
        let Use { offer, agent, launches, releases } = asked;
        let launches = launches.into_iter().filter(|launch| !self.launched.contains(&launch.task));
        let launches: Vec<Launch> = launches.collect();
        let Some(Taken { ids, role, mut stock, undone }) = self.offers.take(Some(framework), &offer) else {
            plan.events.extend(releases.into_iter().map(|volume| failed(volume, VOID)));
            return plan.events.extend(launches.into_iter().flat_map(|launch| not_launched(launch, &agent, VOID)));
        };
        let owner = Owner { framework, role: role.as_deref().unwrap_or("*"), principal: config.principal() };
        let mut operations = Vec::new();
        for volume in releases {
            match stock.release(framework, &volume) {
                Some(released) => operations.extend(self.release(&volume, &agent, released)),
                None => plan.events.push(failed(volume, "nothing is held for it in this offer")),
            }
        }
        let mut task_infos = Vec::new();
        for launch in launches {
            match stock.take(owner, &launch) {
                Ok(mut share) => {
                    operations.extend(share.made.take().into_iter().flat_map(|made| self.make(&agent, made)));
                    self.launched.insert(launch.task.clone());
                    task_infos.push(translate::new_task(config, framework, &agent, share, launch));
                }
                Err(reason) => plan.events.extend(not_launched(launch, &agent, reason)),
            }
        }
        if !task_infos.is_empty() {
            operations.push(Operation::Launch { launch: WireLaunch { task_infos } });
        }
        if operations.is_empty() {
            plan.posts.extend(decline(ids, 0));
        } else {
            // What is left is offered anew at once; the scheduler says for how long it does not want it.
            let filters = Filters { refuse_seconds: 0.0 };
            plan.posts.push(CallBody::Accept { accept: Accept { offer_ids: ids, operations, filters } });
        }
        if let Some((newer, event)) = undone {
            plan.events.push(event);
            plan.posts.extend(decline(newer, 0));
        }
    }

    /// An `ACCEPT` was refused: what to tell the port.
    pub(super) fn on_accept_refused(&mut self, accept: &Accept, reason: &str) -> Vec<MesosEvent> {
        let mut events = self.operations.on_refused(&accept.operations, reason);
        for operation in &accept.operations {
            let Operation::Launch { launch } = operation else { continue };
            for task in &launch.task_infos {
                let (id, agent) = (task.task_id.value.as_str(), AgentId::from(task.agent_id.value.as_str()));
                let id = TaskId::from(id);
                self.launched.remove(&id);
                events.push(dropped(id, &agent, reason));
            }
        }
        events
    }

    fn make(&mut self, agent: &AgentId, made: Made) -> Vec<Operation> {
        let Made { id: volume, reserve, volume: disk } = made;
        let mut operations = Vec::new();
        if !reserve.is_empty() {
            let id = self.operations.ask(Step::Reserve, &volume, agent);
            operations.push(Operation::Reserve { id, reserve: Resources { resources: reserve } });
        }
        let id = self.operations.ask(Step::Create, &volume, agent);
        operations.push(Operation::Create { id, create: Volumes { volumes: vec![disk] } });
        operations
    }

    fn release(&mut self, volume: &VolumeId, agent: &AgentId, released: Released) -> Vec<Operation> {
        let Released { volumes, unreserve } = released;
        let mut operations = Vec::new();
        if !volumes.is_empty() {
            let step = if unreserve.is_empty() { Step::DestroyLast } else { Step::Destroy };
            let id = self.operations.ask(step, volume, agent);
            operations.push(Operation::Destroy { id, destroy: Volumes { volumes } });
        }
        if !unreserve.is_empty() {
            let id = self.operations.ask(Step::Unreserve, volume, agent);
            operations.push(Operation::Unreserve { id, unreserve: Resources { resources: unreserve } });
        }
        operations
    }
}

const VOID: &str = "the offer is no longer valid";

/// What the port is told of a task that is not launched: that its volume is not made either comes first.
fn not_launched(launch: Launch, agent: &AgentId, reason: &str) -> impl Iterator<Item = MesosEvent> + use<> {
    let volume = match launch.storage {
        Storage::NewVolume(volume) => Some(failed(volume, reason)),
        Storage::Sandbox | Storage::Volume(_) => None,
    };
    volume.into_iter().chain([dropped(launch.task, agent, reason)])
}
