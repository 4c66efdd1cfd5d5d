//! Offers that are out, and what the port is told of them.
//!
//! Mesos makes a further offer for what becomes free on an agent of which an offer is out already. The port would see
//! two small offers of one agent, neither of which may be large enough; so they are joined: the earlier one is rescinded,
//! and one takes its place that stands for both. All offers of one `ACCEPT` must be for the same role, so only such are
//! joined. The parts, with their reservations, stay here; the port knows sums.

use super::maintenance;
use super::stock::Stock;
use crate::wire::common::Id;
use crate::wire::resource::{Attribute, Range, Resource, Scalar};
use crate::wire::scheduler::event::Offer as WireOffer;
use cotton_core::ports::mesos::{MesosEvent, Offer};
use cotton_core::{AgentId, FrameworkId, OfferId};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Offers that are out.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// By the id that the port knows: that of the newest part.
    out: BTreeMap<OfferId, Joined>,
}

#[derive(Debug)]
struct Joined {
    agent: AgentId,
    role: Option<String>,
    /// Oldest first.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    id: Id,
    resources: Vec<Resource>,
}

/// An offer to be used.
#[derive(Debug)]
pub(super) struct Taken {
    /// What Mesos knows it as.
    pub(super) ids: Vec<Id>,
    /// For which role it is.
    pub(super) role: Option<String>,
    /// What can be used of it.
    pub(super) stock: Stock,
    /// It was joined with others meanwhile: what of that is to be given back, and what the port is to be told.
    pub(super) undone: Option<(Vec<Id>, MesosEvent)>,
}

impl Offers {
    /// Takes new offers in; gives what the port is to be told.
    pub(super) fn add(
        &mut self,
        framework: Option<&FrameworkId>,
        offers: Vec<WireOffer>,
        now: SystemTime,
    ) -> Vec<MesosEvent> {
        let (mut rescinded, mut shown) = (Vec::new(), BTreeMap::new());
        for offer in offers {
            let agent = AgentId::from(offer.agent_id.value.as_str());
            let role = offer.allocation_info.as_ref().map(|info| info.role.clone());
            let id = OfferId::from(offer.id.value.as_str());
            let joined = self.out.iter().find(|(_, held)| held.agent == agent && held.role == role);
            let joined = joined.map(|(id, _)| id.clone());
            let mut parts = Vec::new();
            if let Some(old) = joined {
                parts = self.out.remove(&old).map(|held| held.parts).unwrap_or_default();
                if shown.remove(&old).is_none() {
                    rescinded.push(MesosEvent::Rescinded(old));
                }
            }
            parts.push(Part { id: offer.id.clone(), resources: offer.resources.clone() });
            let held = Joined { agent: agent.clone(), role, parts };
            let stock = held.stock(framework);
            self.out.insert(id.clone(), held);
            let offer = Offer {
                id: id.clone(),
                agent,
                attributes: attributes(&offer),
                held: stock.held(),
                maintenance_in_ms: offer.unavailability.and_then(|when| maintenance::starts_in_ms(&when, now)),
                host: offer.hostname,
                resources: stock.pool.amounts(),
                ports: stock.pool.ports(),
            };
            shown.insert(id, offer);
        }
        if !shown.is_empty() {
            rescinded.push(MesosEvent::Offers(shown.into_values().collect()));
        }
        rescinded
    }

    /// Takes an offer out, to use or decline it; `None` when it is void.
    pub(super) fn take(&mut self, framework: Option<&FrameworkId>, id: &OfferId) -> Option<Taken> {
        if let Some(held) = self.out.remove(id) {
            return Some(held.taken(framework, None));
        }
        // It may have been joined with a newer one while the call was on its way: then it is as good as it was.
        let is_part = |held: &Joined| held.parts.iter().position(|part| part.id.value == id.as_str());
        let (joined, at) = self.out.iter().find_map(|(joined, held)| Some((joined.clone(), is_part(held)?)))?;
        let mut held = self.out.remove(&joined)?;
        let newer = held.parts.split_off(at + 1).into_iter().map(|part| part.id).collect();
        Some(held.taken(framework, Some((newer, MesosEvent::Rescinded(joined)))))
    }

    /// Takes an offer out, to decline it. One that was joined with a newer one is not declined: the port is going to
    /// decide about that one.
    pub(super) fn decline(&mut self, id: &OfferId) -> Vec<Id> {
        self.out.remove(id).map(|held| held.ids()).unwrap_or_default()
    }

    /// Mesos takes an offer back: gives what the port is to be told, and what was joined with it and is to be given back
    /// to be offered anew.
    pub(super) fn rescind(&mut self, id: &str) -> Option<(MesosEvent, Vec<Id>)> {
        let has_it = |held: &Joined| held.parts.iter().any(|part| part.id.value == id);
        let joined = self.out.iter().find(|(_, held)| has_it(held)).map(|(joined, _)| joined.clone())?;
        let mut others = self.out.remove(&joined)?.ids();
        others.retain(|other| other.value != id);
        Some((MesosEvent::Rescinded(joined), others))
    }

    /// The connection is gone, and with it all offers.
    pub(super) fn clear(&mut self) {
        self.out.clear();
    }
}

impl Joined {
    fn ids(&self) -> Vec<Id> {
        self.parts.iter().map(|part| part.id.clone()).collect()
    }

    fn stock(&self, framework: Option<&FrameworkId>) -> Stock {
        Stock::new(framework, self.parts.iter().flat_map(|part| part.resources.iter().cloned()))
    }

    fn taken(self, framework: Option<&FrameworkId>, undone: Option<(Vec<Id>, MesosEvent)>) -> Taken {
        Taken { ids: self.ids(), stock: self.stock(framework), role: self.role, undone }
    }
}

/// What an agent says of itself, and the fault domain that it is in: `region` and `zone`, unless it has attributes of
/// that name. An attribute that it has twice has both values, with a comma in between.
fn attributes(offer: &WireOffer) -> BTreeMap<String, String> {
    let mut attributes: BTreeMap<String, String> = BTreeMap::new();
    for attribute in &offer.attributes {
        let text = text(attribute);
        let entry = attributes.entry(attribute.name.clone());
        entry.and_modify(|known| *known = format!("{known},{text}")).or_insert(text);
    }
    if let Some(domain) = offer.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref()) {
        for (name, value) in [("region", &domain.region.name), ("zone", &domain.zone.name)] {
            attributes.entry(name.to_owned()).or_insert_with(|| value.clone());
        }
    }
    attributes
}

/// An attribute's value, written as operators write it in the agent's flags.
fn text(attribute: &Attribute) -> String {
    let range = |range: &Range| format!("{}-{}", range.begin, range.end);
    if let Some(text) = &attribute.text {
        text.value.clone()
    } else if let Some(Scalar { value }) = attribute.scalar {
        value.to_string()
    } else if let Some(ranges) = &attribute.ranges {
        format!("[{}]", ranges.range.iter().map(range).collect::<Vec<_>>().join(","))
    } else if let Some(set) = &attribute.set {
        format!("{{{}}}", set.item.join(","))
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn offer(id: &str, agent: &str, role: &str, cpus: f64) -> WireOffer {
        serde_json::from_value(json!({
            "id": { "value": id }, "agent_id": { "value": agent }, "hostname": agent,
            "resources": [{ "name": "cpus", "type": "SCALAR", "scalar": { "value": cpus } }],
            "allocation_info": { "role": role },
        }))
        .expect("an offer")
    }

    fn add(offers: &mut Offers, new: Vec<WireOffer>) -> Vec<MesosEvent> {
        offers.add(None, new, SystemTime::UNIX_EPOCH)
    }

    fn shown(events: &[MesosEvent]) -> Vec<String> {
        let mut shown = Vec::new();
        for event in events {
            if let MesosEvent::Rescinded(id) = event {
                shown.push(format!("-{id}"));
            }
            if let MesosEvent::Offers(offers) = event {
                shown.extend(offers.iter().map(|o| format!("{} {} {}", o.id, o.agent, o.resources.cpus_milli)));
            }
        }
        shown
    }

    fn ids(ids: &[Id]) -> Vec<&str> {
        ids.iter().map(|id| id.value.as_str()).collect()
    }

    #[test]
    fn offers_of_one_agent_and_role_are_joined() {
        let mut offers = Offers::default();
        let first =
            add(&mut offers, vec![offer("1", "a", "r", 1.0), offer("2", "b", "r", 1.0), offer("3", "a", "s", 4.0)]);
        assert_eq!(shown(&first), ["1 a 1000", "2 b 1000", "3 a 4000"]);
        assert_eq!(shown(&add(&mut offers, vec![offer("4", "a", "r", 2.0)])), ["-1", "4 a 3000"]);
        let at_once = add(&mut offers, vec![offer("5", "c", "r", 1.0), offer("6", "c", "r", 1.0)]);
        assert_eq!(shown(&at_once), ["6 c 2000"]);
        let taken = offers.take(None, &OfferId::from("4")).expect("held");
        assert_eq!((ids(&taken.ids), taken.undone.is_none()), (vec!["1", "4"], true));
        assert!(offers.take(None, &OfferId::from("4")).is_none() && offers.take(None, &OfferId::from("1")).is_none());
        assert_eq!(ids(&offers.decline(&OfferId::from("6"))), ["5", "6"]);
        offers.clear();
        assert!(offers.take(None, &OfferId::from("2")).is_none());
    }

    #[test]
    fn an_offer_that_was_just_joined_can_still_be_used() {
        let mut offers = Offers::default();
        add(&mut offers, vec![offer("1", "a", "r", 1.0)]);
        add(&mut offers, vec![offer("2", "a", "r", 2.0)]);
        add(&mut offers, vec![offer("3", "a", "r", 4.0)]);
        assert!(offers.decline(&OfferId::from("2")).is_empty(), "the joined one is going to be answered");
        let taken = offers.take(None, &OfferId::from("2")).expect("as good as it was");
        assert_eq!((ids(&taken.ids), taken.stock.pool.amounts().cpus_milli), (vec!["1", "2"], 3000));
        let (back, event) = taken.undone.expect("the joined one is void");
        assert_eq!((ids(&back), shown(&[event])), (vec!["3"], vec!["-3".to_owned()]));
    }

    #[test]
    fn a_part_that_is_taken_back_voids_the_whole() {
        let mut offers = Offers::default();
        add(&mut offers, vec![offer("1", "a", "r", 1.0)]);
        add(&mut offers, vec![offer("2", "a", "r", 2.0)]);
        let (event, back) = offers.rescind("1").expect("held");
        assert_eq!((shown(&[event]), ids(&back)), (vec!["-2".to_owned()], vec!["2"]));
        assert!(offers.rescind("2").is_none() && offers.rescind("x").is_none());
    }

    #[test]
    fn attributes_are_written_as_operators_write_them() {
        let mut offer = offer("1", "a", "r", 1.0);
        offer.attributes = serde_json::from_value(json!([
            { "name": "rack", "type": "TEXT", "text": { "value": "r1" } },
            { "name": "rack", "type": "TEXT", "text": { "value": "r2" } },
            { "name": "weight", "type": "SCALAR", "scalar": { "value": 1.5 } },
            { "name": "slots", "type": "RANGES", "ranges": { "range": [{ "begin": 1, "end": 3 }, { "begin": 7, "end": 9 }] } },
            { "name": "tags", "type": "SET", "set": { "item": ["x", "y"] } },
            { "name": "zone", "type": "TEXT", "text": { "value": "own" } },
        ]))
        .expect("attributes");
        offer.domain = serde_json::from_value(json!({
            "fault_domain": { "region": { "name": "eu" }, "zone": { "name": "eu-1" } }
        }))
        .expect("a domain");
        let found: Vec<String> =
            attributes(&offer).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(found, ["rack=r1,r2", "region=eu", "slots=[1-3,7-9]", "tags={x,y}", "weight=1.5", "zone=own"]);
    }
}
