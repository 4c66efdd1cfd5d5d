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

#[cfg(test)]
mod tests {
    use super::*;
    use cotton_core::resources::MIB;
    use cotton_core::{Endpoint, Ports, TaskId};
    use serde_json::{Value, json};

    const SIZE: Resources = Resources { cpus_milli: 500, mem_bytes: 64 * MIB, disk_bytes: 100 * MIB };

    fn framework() -> FrameworkId {
        FrameworkId::from("F-0000")
    }

    fn volume() -> VolumeId {
        VolumeId::from("mysos-orders-3")
    }

    fn scalar(name: &str, value: f64) -> Value {
        json!({ "name": name, "type": "SCALAR", "scalar": { "value": value }, "allocation_info": { "role": "db" } })
    }

    fn ports(begin: u16, end: u16) -> Value {
        json!({ "name": "ports", "type": "RANGES", "ranges": { "range": [{ "begin": begin, "end": end }] } })
    }

    fn reserved(mut resource: Value, reservations: &Value) -> Value {
        resource["reservations"] = reservations.clone();
        resource
    }

    fn stock(resources: &Value) -> Stock {
        Stock::new(Some(&framework()), serde_json::from_value::<Vec<Resource>>(resources.clone()).expect("resources"))
    }

    fn launch(storage: Storage, port: u16) -> Launch {
        Launch {
            task: TaskId::from("mysos-orders-3"),
            endpoint: Endpoint::new("h", port),
            task_resources: SIZE,
            executor_resources: Resources::EXECUTOR,
            storage,
            data: "".into(),
        }
    }

    fn take(stock: &mut Stock, role: &str, launch: &Launch) -> Result<Share, &'static str> {
        let framework = framework();
        stock.take(Owner { framework: &framework, role, principal: Some("cotton") }, launch)
    }

    /// Short: name, amount, reservations, whether it is a volume.
    fn short(resources: &[Resource]) -> Vec<String> {
        let short = |resource: &Resource| {
            let amount = resource.scalar.map_or_else(
                || format!("{:?}", resource.ranges.as_ref().map(|ranges| ranges.range[0].begin)),
                |scalar| scalar.value.to_string(),
            );
            let kind = |reservation: &crate::wire::resource::Reservation| {
                let kind = reservation.rest["type"].as_str().expect("a type");
                format!(" {kind}:{}", reservation.role.as_deref().expect("a role"))
            };
            let kinds: String = resource.reservations.iter().map(kind).collect();
            let volume = if marks::is_volume(resource) { " volume" } else { "" };
            format!("{} {amount}{kinds}{volume}", resource.name)
        };
        resources.iter().map(short).collect()
    }

    #[test]
    fn what_is_reserved_and_made_is_found_again_and_given_up() {
        let offered = json!([scalar("cpus", 1.0), scalar("mem", 512.0), scalar("disk", 512.0), ports(10, 12)]);
        let mut stock_of_all = stock(&offered);
        let share = take(&mut stock_of_all, "db", &launch(Storage::NewVolume(volume()), 11)).expect("enough");
        let made = share.made.expect("a volume");
        let all = ["cpus 0.5", "mem 64", "Some(11)", "cpus 0.01", "mem 32", "disk 1", "disk 100"];
        assert_eq!(made.reserve.len(), all.len(), "{:?}", short(&made.reserve));
        assert!(short(&made.reserve).iter().all(|text| text.ends_with(" DYNAMIC:db")), "{:?}", made.reserve);
        assert_eq!(short(std::slice::from_ref(&made.volume)), ["disk 100 DYNAMIC:db volume"]);
        let json = serde_json::to_value(&made.volume).expect("json");
        let labels = json!({ "labels": [
            { "key": "cotton_framework", "value": "F-0000" }, { "key": "cotton_volume", "value": "mysos-orders-3" },
        ] });
        let reservation = json!({ "type": "DYNAMIC", "role": "db", "principal": "cotton", "labels": labels });
        assert_eq!(json["reservations"], json!([reservation]));
        assert_eq!(json["disk"]["persistence"], json!({ "id": "F-0000.mysos-orders-3", "principal": "cotton" }));
        assert_eq!(json["disk"]["volume"], json!({ "container_path": "mysql", "mode": "RW" }));
        let left = stock_of_all.pool.amounts();
        assert_eq!((left.cpus_milli, left.mem_bytes / MIB, left.disk_bytes / MIB), (490, 416, 411));

        // Its task has ended: all of it is offered again, beside what is left.
        let mut back: Vec<Resource> = share.task.into_iter().chain(share.executor).collect();
        back.extend(stock_of_all.pool.clone().into_resources());
        let again = Stock::new(Some(&framework()), back.clone());
        let held = again.held();
        assert_eq!(held.len(), 1);
        assert_eq!((&held[0].volume, held[0].exists), (&volume(), true));
        assert_eq!((held[0].resources, &held[0].ports), (SIZE.plus(&Resources::EXECUTOR), &Ports::new([(11, 11)])));
        assert_eq!(again.pool.amounts(), left);
        let released = again.clone().release(&framework(), &volume()).expect("held");
        assert_eq!((released.volumes, released.unreserve.len()), (vec![made.volume], all.len()));
        assert!(!released.unreserve.iter().any(marks::is_volume), "destroyed before");

        // Another framework leaves it alone.
        let other = Stock::new(Some(&FrameworkId::from("F-0001")), back.clone());
        assert_eq!((other.held().len(), other.pool.amounts()), (0, left));

        // A task on it gets all of it, and what it needs besides.
        let mut more = launch(Storage::Volume(volume()), 11);
        more.task_resources.cpus_milli = 600;
        let mut again = Stock::new(Some(&framework()), back);
        let share = take(&mut again, "db", &more).expect("enough");
        assert!(share.made.is_none() && again.held().is_empty());
        assert_eq!(again.pool.amounts().cpus_milli, left.cpus_milli - 100);
        let given = Pool::of(share.task.into_iter().chain(share.executor));
        let all = Resources { cpus_milli: 610, ..SIZE.plus(&Resources::EXECUTOR) };
        assert_eq!((given.amounts(), given.ports()), (all, Ports::new([(11, 11)])));
    }

    #[test]
    fn what_the_role_has_is_used_as_it_is_and_what_is_above_it_is_refined() {
        let (own, above) = (json!([{ "type": "STATIC", "role": "db/x" }]), json!([{ "type": "STATIC", "role": "db" }]));
        let mut some = stock(&json!([
            reserved(scalar("disk", 512.0), &own),
            reserved(scalar("cpus", 0.1), &above),
            scalar("cpus", 1.0),
            reserved(scalar("mem", 512.0), &own),
            ports(10, 12)
        ]));
        let share = take(&mut some, "db/x", &launch(Storage::NewVolume(volume()), 10)).expect("enough");
        let made = share.made.expect("a volume");
        assert_eq!(short(std::slice::from_ref(&made.volume)), ["disk 100 STATIC:db/x volume"]);
        let mut reserve = short(&made.reserve);
        reserve.sort();
        let refined =
            ["cpus 0.01 STATIC:db DYNAMIC:db/x", "cpus 0.09 STATIC:db DYNAMIC:db/x", "cpus 0.41 DYNAMIC:db/x"];
        assert_eq!(reserve[..3], refined);
        assert_eq!(reserve[3..], ["ports Some(10) DYNAMIC:db/x"]);

        // A volume without a reservation of ours is known by its name, and only destroyed.
        let back = Stock::new(Some(&framework()), share.task.into_iter().chain(share.executor));
        assert_eq!(back.held()[0].resources, Resources { cpus_milli: 510, mem_bytes: 0, disk_bytes: 100 * MIB });
        let mut only = Stock::new(Some(&framework()), [made.volume.clone()]);
        let released = only.release(&framework(), &volume()).expect("held");
        assert_eq!((released.volumes, released.unreserve.len()), (vec![made.volume], 0));
        assert!(only.release(&framework(), &volume()).is_none());
    }

    #[test]
    fn what_cannot_be_is_refused_and_takes_nothing() {
        let own = json!([{ "type": "STATIC", "role": "db" }]);
        let mut some = stock(&json!([
            scalar("cpus", 1.0),
            scalar("mem", 512.0),
            reserved(scalar("disk", 60.0), &own),
            scalar("disk", 60.0),
            ports(10, 12)
        ]));
        let new = || Storage::NewVolume(volume());
        let mut small = launch(new(), 10);
        small.task_resources.disk_bytes = 0;
        for (role, launch, reason) in [
            ("*", launch(new(), 10), "a volume can only be made for a role"),
            ("db", launch(new(), 10), "of one reservation"),
            ("db", launch(new(), 9), "its port was not offered"),
            ("db", launch(Storage::Volume(volume()), 10), "its volume was not offered"),
            ("db", small, "a volume needs a size"),
        ] {
            let before = some.pool.amounts();
            let error = take(&mut some, role, &launch).expect_err(reason);
            assert!(error.contains(reason), "{error}");
            assert_eq!(some.pool.amounts(), before);
        }
        // Something is left of an earlier attempt.
        let framework = framework();
        let owner = Owner { framework: &framework, role: "db", principal: None };
        let leftover: Resource = serde_json::from_value(scalar("cpus", 0.5)).expect("a resource");
        let leftover = owner.reserved(&leftover, &volume()).expect("not reserved yet");
        let mut some = Stock::new(Some(&framework), [leftover]);
        assert!(!some.held()[0].exists);
        assert!(take(&mut some, "db", &launch(new(), 10)).is_err_and(|error| error.contains("released first")));
        assert!(take(&mut some, "db", &launch(Storage::Volume(volume()), 10)).is_err());
    }
}
