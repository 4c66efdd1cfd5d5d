//! What an offer has: for any task, and held for volumes of ours; and what each task is given of it.

use super::marks::{self, Owner};
use super::pool::Pool;
use crate::wire::resource::Resource;
use cotton_core::ports::mesos::{Held, Launch, Storage};
use cotton_core::{FrameworkId, Resources, VolumeId};
use std::collections::BTreeMap;

/// What an offer has.
#[derive(Clone, Debug, Default)]
pub(super) struct Stock {
    /// What any task may be given.
    pub(super) pool: Pool,
    /// What is held for volumes of ours, the volumes included.
    held: BTreeMap<VolumeId, Vec<Resource>>,
}

/// What a task is given.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) task: Vec<Resource>,
    pub(super) executor: Vec<Resource>,
    /// What has to be done before.
    pub(super) made: Option<Made>,
}

/// A volume to be made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: VolumeId,
    /// What is to be reserved for it.
    pub(super) reserve: Vec<Resource>,
    pub(super) volume: Resource,
}

/// A volume to be given up.
#[derive(Debug)]
pub(super) struct Released {
    /// It is to be destroyed, when it is there.
    pub(super) volumes: Vec<Resource>,
    /// What is not to be reserved any more.
    pub(super) unreserve: Vec<Resource>,
}

impl Stock {
    pub(super) fn new(framework: Option<&FrameworkId>, offered: impl IntoIterator<Item = Resource>) -> Self {
        let mut held: BTreeMap<VolumeId, Vec<Resource>> = BTreeMap::new();
        let mut others = Vec::new();
        for resource in offered {
            match framework.and_then(|framework| marks::volume_of(framework, &resource)) {
                Some(volume) => held.entry(volume).or_default().push(resource),
                None => others.push(resource),
            }
        }
        Self { pool: Pool::new(others), held }
    }

    /// What is held, as the port knows it.
    pub(super) fn held(&self) -> Vec<Held> {
        let held = |(volume, resources): (&VolumeId, &Vec<Resource>)| {
            let all = Pool::of(resources.clone());
            let exists = resources.iter().any(marks::is_volume);
            Held { volume: volume.clone(), exists, resources: all.amounts(), ports: all.ports() }
        };
        self.held.iter().map(held).collect()
    }

    /// Takes out what is held for a volume, to give it up; `None` when nothing is.
    pub(super) fn release(&mut self, framework: &FrameworkId, volume: &VolumeId) -> Option<Released> {
        let held = self.held.remove(volume)?;
        let volumes = held.iter().filter(|resource| marks::is_volume(resource)).cloned().collect();
        let labelled = held.into_iter().filter(|resource| marks::is_labelled(framework, resource));
        Some(Released { volumes, unreserve: labelled.map(marks::disk_of).collect() })
    }

    /// Takes out what a task needs.
    ///
    /// # Errors
    /// When it is not there; nothing is taken out then.
    pub(super) fn take(&mut self, owner: Owner<'_>, launch: &Launch) -> Result<Share, &'static str> {
        match &launch.storage {
            Storage::Sandbox => self.take_plain(launch),
            Storage::NewVolume(id) => self.take_new(owner, id, launch),
            Storage::Volume(id) => self.take_held(owner.framework, id, launch),
        }
    }

    fn take_plain(&mut self, launch: &Launch) -> Result<Share, &'static str> {
        let mut rest = self.pool.clone();
        let port = rest.take_port(launch.endpoint.port).ok_or(NO_PORT)?;
        let executor = rest.take(&launch.executor_resources).ok_or(TOO_LITTLE)?;
        let mut task = rest.take(&launch.task_resources).ok_or(TOO_LITTLE)?;
        task.push(port);
        self.pool = rest;
        Ok(Share { task, executor, made: None })
    }

    fn take_new(&mut self, owner: Owner<'_>, id: &VolumeId, launch: &Launch) -> Result<Share, &'static str> {
        if owner.role == "*" {
            return Err("a volume can only be made for a role of the framework's own: set another one than '*'");
        }
        if launch.task_resources.disk_bytes == 0 {
            return Err("a volume needs a size");
        }
        if self.held.contains_key(id) {
            return Err("something is held for its volume already: that has to be released first");
        }
        let mut rest = self.pool.clone();
        let port = rest.take_port(launch.endpoint.port).ok_or(NO_PORT)?;
        let all = rest.amounts();
        let disk = rest
            .take_disk(launch.task_resources.disk_bytes)
            .ok_or(if all.disk_bytes < launch.task_resources.disk_bytes { TOO_LITTLE } else { SCATTERED })?;
        let executor = rest.take(&launch.executor_resources).ok_or(TOO_LITTLE)?;
        let mut task = rest.take(&Resources { disk_bytes: 0, ..launch.task_resources }).ok_or(TOO_LITTLE)?;
        task.push(port);

        let mut reserve = Vec::new();
        let mut reserved = |resource: Resource| match owner.reserved(&resource, id) {
            None => resource,
            Some(reserved) => {
                reserve.push(reserved.clone());
                reserved
            }
        };
        let volume = owner.volume(reserved(disk), id);
        let executor = executor.into_iter().map(&mut reserved).collect();
        let mut task: Vec<Resource> = task.into_iter().map(&mut reserved).collect();
        task.push(volume.clone());
        self.pool = rest;
        Ok(Share { task, executor, made: Some(Made { id: id.clone(), reserve, volume }) })
    }

    /// All that is held goes with the volume, also when it is more than is needed: what is left of it would be of use to
    /// nobody.
    fn take_held(&mut self, framework: &FrameworkId, id: &VolumeId, launch: &Launch) -> Result<Share, &'static str> {
        let held = self.held.get(id).ok_or(NO_VOLUME)?.clone();
        let (volumes, held): (Vec<Resource>, Vec<Resource>) = held.into_iter().partition(marks::is_volume);
        if volumes.is_empty() {
            return Err(NO_VOLUME);
        }
        let mut all = Pool::of(held.into_iter().chain(self.pool.clone().into_resources()));
        let port = all.take_port(launch.endpoint.port).ok_or(NO_PORT)?;
        let executor = all.take(&launch.executor_resources).ok_or(TOO_LITTLE)?;
        let mut task = all.take(&Resources { disk_bytes: 0, ..launch.task_resources }).ok_or(TOO_LITTLE)?;
        let (left_of_held, rest): (Vec<Resource>, Vec<Resource>) =
            all.into_resources().into_iter().partition(|resource| marks::volume_of(framework, resource).is_some());
        task.push(port);
        task.extend(left_of_held);
        task.extend(volumes);
        self.pool = Pool::new(rest);
        self.held.remove(id);
        Ok(Share { task, executor, made: None })
    }
}

const NO_PORT: &str = "its port was not offered";
const TOO_LITTLE: &str = "it needs more than was offered";
const SCATTERED: &str = "enough disk was offered, but a volume must be of one reservation, and none is large enough";
const NO_VOLUME: &str = "its volume was not offered";
