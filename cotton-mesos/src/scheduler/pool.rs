//! What can be used of an offer, and taking parts of it for tasks.
//!
//! Resources are taken as they were offered: with their reservation and their `allocation_info`, so that a task can be
//! given reserved and unreserved ones together. Reserved ones go first; what is left then is of use to others, too.

use crate::wire::resource::{Range, Ranges, Resource, Scalar, ValueType};
use cotton_core::resources::MIB;
use cotton_core::{Ports, Resources};

/// Usable resources of one agent, for one role.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    resources: Vec<Resource>,
}

impl Pool {
    /// Of resources that were offered, those that a task may simply be given: no volumes or disks with a source, nothing
    /// revocable or shared, nothing that was reserved under a label, since somebody has plans for that.
    pub(super) fn new(offered: impl IntoIterator<Item = Resource>) -> Self {
        let mut resources: Vec<Resource> = offered.into_iter().filter(is_plain).collect();
        resources.sort_by_key(|resource| resource.reservations.is_empty());
        Self { resources }
    }

    /// Of all of these resources, those that come first to be taken first.
    pub(super) fn of(resources: impl IntoIterator<Item = Resource>) -> Self {
        Self { resources: resources.into_iter().collect() }
    }

    /// What is left, as it was offered.
    pub(super) fn into_resources(self) -> Vec<Resource> {
        let is_there = |resource: &Resource| {
            let amount = resource.scalar.is_some_and(|scalar| scalar.milli() > 0);
            amount || resource.ranges.as_ref().is_some_and(|ranges| !ranges.range.is_empty())
        };
        self.resources.into_iter().filter(is_there).collect()
    }

    /// The sum of cpus, memory and disk.
    pub(super) fn amounts(&self) -> Resources {
        let milli = |name: &str| {
            let scalars = self.resources.iter().filter(|resource| resource.name == name);
            scalars.filter_map(|resource| resource.scalar).fold(0u64, |sum, scalar| sum.saturating_add(scalar.milli()))
        };
        Resources { cpus_milli: milli("cpus"), mem_bytes: bytes(milli("mem")), disk_bytes: bytes(milli("disk")) }
    }

    /// All ports.
    pub(super) fn ports(&self) -> Ports {
        let ranges = self.resources.iter().filter(|resource| resource.name == "ports");
        let ranges = ranges.filter_map(|resource| resource.ranges.as_ref()).flat_map(|ranges| &ranges.range);
        // A range that begins beyond the last port has none; one that only ends there has some.
        let range = |range: &Range| Some((range.begin.try_into().ok()?, range.end.try_into().unwrap_or(u16::MAX)));
        Ports::new(ranges.filter_map(range))
    }

    /// Takes cpus, memory and disk out; `None`, and nothing is taken, when there is too little.
    pub(super) fn take(&mut self, wanted: &Resources) -> Option<Vec<Resource>> {
        let before = self.resources.clone();
        let mut taken = Vec::new();
        for (name, milli) in
            [("cpus", wanted.cpus_milli), ("mem", milli_mib(wanted.mem_bytes)), ("disk", milli_mib(wanted.disk_bytes))]
        {
            if !self.take_scalar(name, milli, &mut taken) {
                self.resources = before;
                return None;
            }
        }
        Some(taken)
    }

    /// Takes disk out of a single reservation: a volume cannot be made of two.
    pub(super) fn take_disk(&mut self, wanted: u64) -> Option<Resource> {
        let wanted = milli_mib(wanted);
        for resource in self.resources.iter_mut().filter(|resource| resource.name == "disk") {
            let Some(scalar) = resource.scalar.as_mut().filter(|scalar| scalar.milli() >= wanted) else { continue };
            *scalar = Scalar::from_milli(scalar.milli() - wanted);
            return Some(Resource { scalar: Some(Scalar::from_milli(wanted)), ..resource.clone() });
        }
        None
    }

    /// Takes one port out.
    pub(super) fn take_port(&mut self, port: u16) -> Option<Resource> {
        let port = u64::from(port);
        for resource in self.resources.iter_mut().filter(|resource| resource.name == "ports") {
            let Some(ranges) = &mut resource.ranges else { continue };
            let Some(at) = ranges.range.iter().position(|range| (range.begin..=range.end).contains(&port)) else {
                continue;
            };
            let Range { begin, end } = ranges.range.remove(at);
            let (before, after) = (begin..port, port + 1..end + 1);
            let rest = [before, after].into_iter().filter(|range| !range.is_empty());
            ranges.range.extend(rest.map(|range| Range { begin: range.start, end: range.end - 1 }));
            let taken = Some(Ranges { range: vec![Range { begin: port, end: port }] });
            return Some(Resource { ranges: taken, ..resource.clone() });
        }
        None
    }

    fn take_scalar(&mut self, name: &str, mut milli: u64, taken: &mut Vec<Resource>) -> bool {
        for resource in self.resources.iter_mut().filter(|resource| resource.name == name) {
            let Some(scalar) = &mut resource.scalar else { continue };
            let part = scalar.milli().min(milli);
            if part == 0 {
                continue;
            }
            *scalar = Scalar::from_milli(scalar.milli() - part);
            milli -= part;
            taken.push(Resource { scalar: Some(Scalar::from_milli(part)), ..resource.clone() });
        }
        milli == 0
    }
}

fn is_plain(resource: &Resource) -> bool {
    let special = ["disk", "revocable", "shared"].iter().any(|field| resource.rest.contains_key(*field));
    let labelled = resource.reservations.iter().any(|reservation| reservation.rest.contains_key("labels"));
    let known = matches!(
        (resource.name.as_str(), resource.kind),
        ("cpus" | "mem" | "disk", ValueType::Scalar) | ("ports", ValueType::Ranges)
    );
    known && !special && !labelled
}

/// From thousandths of MiB, in which Mesos counts, rounded down.
fn bytes(milli_mib: u64) -> u64 {
    u64::try_from(u128::from(milli_mib) * u128::from(MIB) / 1000).unwrap_or(u64::MAX)
}

/// To thousandths of MiB, rounded up, so that what was offered is found again and nobody gets too little.
fn milli_mib(bytes: u64) -> u64 {
    u64::try_from((u128::from(bytes) * 1000).div_ceil(u128::from(MIB))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn pool(resources: &Value) -> Pool {
        Pool::new(serde_json::from_value::<Vec<Resource>>(resources.clone()).expect("resources"))
    }

    fn scalar(name: &str, value: f64) -> Value {
        json!({ "name": name, "type": "SCALAR", "scalar": { "value": value }, "allocation_info": { "role": "mysql" } })
    }

    fn with(mut resource: Value, field: &str, value: &Value) -> Value {
        resource[field] = value.clone();
        resource
    }

    #[test]
    fn what_is_reserved_for_us_goes_first_and_stays_as_it_was_offered() {
        let reserved = json!([{ "type": "STATIC", "role": "mysql" }]);
        let ours = with(scalar("cpus", 1.0), "reservations", &reserved);
        let mut pool = pool(&json!([scalar("cpus", 2.0), ours, scalar("mem", 64.5), scalar("disk", 10.0)]));
        let all = Resources { cpus_milli: 3000, mem_bytes: 64 * MIB + MIB / 2, disk_bytes: 10 * MIB };
        assert_eq!(pool.amounts(), all);
        let wanted = Resources { cpus_milli: 1500, mem_bytes: 64 * MIB, disk_bytes: 0 };
        let taken = serde_json::to_value(pool.take(&wanted).expect("enough")).expect("json");
        let expected =
            json!([with(scalar("cpus", 1.0), "reservations", &reserved), scalar("cpus", 0.5), scalar("mem", 64.0),]);
        assert_eq!(taken, expected);
        let left = Resources { cpus_milli: 1500, mem_bytes: MIB / 2, disk_bytes: 10 * MIB };
        assert_eq!(pool.amounts(), left);
        assert!(pool.take(&Resources { cpus_milli: 1, mem_bytes: MIB, disk_bytes: 0 }).is_none());
        assert_eq!(pool.amounts(), left, "nothing is taken when there is too little of something");
    }

    #[test]
    fn what_others_have_plans_for_is_left_alone() {
        let labels = json!([{ "type": "DYNAMIC", "role": "mysql", "labels": { "labels": [{ "key": "id" }] } }]);
        let pool = pool(&json!([
            with(scalar("disk", 1.0), "disk", &json!({ "persistence": { "id": "v" } })),
            with(scalar("cpus", 1.0), "revocable", &json!({})),
            with(scalar("mem", 1.0), "reservations", &labels),
            { "name": "gpus", "type": "SCALAR", "scalar": { "value": 1.0 } },
            { "name": "ports", "type": "SET", "set": { "item": ["x"] } },
        ]));
        assert_eq!((pool.amounts(), pool.ports()), (Resources::default(), Ports::default()));
    }

    #[test]
    fn ports_are_taken_one_by_one() {
        let ports = |ranges: &[(u64, u64)]| {
            let ranges: Vec<Value> = ranges.iter().map(|(begin, end)| json!({ "begin": begin, "end": end })).collect();
            json!({ "name": "ports", "type": "RANGES", "ranges": { "range": ranges } })
        };
        let mut pool = pool(&json!([ports(&[(10, 12), (20, 20)]), ports(&[(30, 31), (65_535, 99_999)])]));
        assert_eq!(pool.ports().ranges(), [(10, 12), (20, 20), (30, 31), (65_535, 65_535)]);
        let taken = pool.take_port(11).expect("there");
        assert_eq!(serde_json::to_value(taken).expect("json"), ports(&[(11, 11)]));
        assert!(pool.take_port(11).is_none());
        assert!(pool.take_port(20).is_some() && pool.take_port(31).is_some() && pool.take_port(10).is_some());
        assert_eq!(pool.ports().ranges(), [(12, 12), (30, 30), (65_535, 65_535)]);
    }

    proptest! {
        #[test]
        fn all_that_is_offered_can_be_taken(milli in 0u64..1 << 40) {
            prop_assert_eq!(milli_mib(bytes(milli)), milli);
        }

        #[test]
        fn nobody_gets_less_than_was_asked_for(amount in 0u64..1 << 50) {
            prop_assert!(bytes(milli_mib(amount)) >= amount);
        }
    }
}
