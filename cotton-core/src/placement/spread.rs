//! The default policy: first come, first served between clusters; the roomiest agent first, so that load is balanced;
//! one member of a cluster per agent, always; different zones while there are enough; agents on which members failed last.
//!
//! Offers are kept in order of the room that is left, per zone, and zones in order of their roomiest offer. So a member
//! costs a few steps in an ordered set, not a look at every offer. What did not fit anywhere is remembered: room only
//! shrinks while a plan is made, so nothing that takes at least as much needs to be tried again.

use super::{Assignment, PlacementPolicy, Plan, Refusal, Unplaced, Want};
use crate::cluster::Placed;
use crate::ports::mesos::Offer;
use crate::{AgentId, Endpoint, MemberId, Ports, Resources};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Sizes that are remembered as not fitting; more would cost more to look through than they save.
const HOPELESS_MAX: usize = 32;

/// An agent that is to be taken down within so many milliseconds gets no new member: it would have to be copied twice.
pub(crate) const MAINTENANCE_AHEAD_MS: u64 = 3_600_000;

/// Spreads the members of a cluster over agents, always, and over zones, while there are enough.
///
/// ```
/// use cotton_core::cluster::Wanted;
/// use cotton_core::placement::{PlacementPolicy, Spread, Want};
/// use std::collections::BTreeMap;
/// use cotton_core::{ClusterName, MemberId, Resources};
/// let cluster: ClusterName = "orders".parse()?;
/// let wanted = Wanted { count: 3, first: MemberId(0), resources: Resources::DEFAULT, occupied: vec![], avoid: BTreeMap::new() };
/// let plan = Spread::default().place(&[Want { cluster: &cluster, wanted: &wanted }], &[]);
/// assert_eq!(
///     plan.unplaced[0].to_string(),
///     "3 members of 1 cpu, 512 MiB memory, 2048 MiB disk each not placed: no offers"
/// );
/// # Ok::<(), cotton_core::IdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Attribute of agents that names their zone, such as `zone` or `rack`; `None` to take no notice of zones.
    /// Agents without the attribute count as one zone.
    pub zone_attribute: Option<String>,
}

impl Default for Spread {
    /// Zones are told by the attribute `zone`.
    fn default() -> Self {
        Self { zone_attribute: Some("zone".to_owned()) }
    }
}

impl PlacementPolicy for Spread {
    fn place(&self, wants: &[Want<'_>], offers: &[Offer]) -> Plan {
        if wants.is_empty() {
            let unused = offers.iter().map(|offer| offer.id.clone()).collect();
            return Plan { unused, ..Plan::default() };
        }
        let mut board = Board::new(offers, self.zone_attribute.as_deref());
        let unplaced = wants.iter().filter_map(|want| board.serve(*want)).collect();
        board.into_plan(unplaced)
    }
}

/// Where something stands: most room first, then the order given.
type Rank = (Reverse<u32>, usize);

/// The offers while a plan is made.
struct Board<'a> {
    offers: &'a [Offer],
    rooms: Vec<Room<'a>>,
    zones: Vec<Zone<'a>>,
    /// Zones that have room, by their roomiest offer.
    order: BTreeSet<Rank>,
    agent_index: BTreeMap<&'a AgentId, usize>,
    zone_index: BTreeMap<Option<&'a str>, usize>,
    /// By agent: the last cluster served that has a member there, as its number in the order of serving.
    holds: Vec<usize>,
    /// By agent: the last cluster served that takes it only if no other will do, and the last that does not take it yet.
    last: Vec<usize>,
    refused: Vec<usize>,
    serving: usize,
    /// The largest amounts offered at all, against which room is measured.
    scale: Resources,
    hopeless: Vec<Resources>,
    assignments: Vec<Assignment>,
}

/// What is left of an offer.
struct Room<'a> {
    left: Resources,
    ports: Cow<'a, Ports>,
    agent: usize,
    zone: usize,
    used: bool,
}

struct Zone<'a> {
    name: Option<&'a str>,
    /// Its offers that have a port left.
    open: BTreeSet<Rank>,
    /// Members of the cluster that is being served.
    members: u32,
}

impl<'a> Board<'a> {
    fn new(offers: &'a [Offer], zone_attribute: Option<&str>) -> Self {
        let amount = |get: fn(&Resources) -> u64| offers.iter().map(|offer| get(&offer.resources)).max().unwrap_or(0);
        let scale = Resources {
            cpus_milli: amount(|r| r.cpus_milli),
            mem_bytes: amount(|r| r.mem_bytes),
            disk_bytes: amount(|r| r.disk_bytes),
        };
        let mut board = Self {
            offers,
            rooms: Vec::with_capacity(offers.len()),
            zones: Vec::new(),
            order: BTreeSet::new(),
            agent_index: BTreeMap::new(),
            zone_index: BTreeMap::new(),
            holds: Vec::new(),
            last: Vec::new(),
            refused: Vec::new(),
            serving: 0,
            scale,
            hopeless: Vec::new(),
            assignments: Vec::new(),
        };
        for (index, offer) in offers.iter().enumerate() {
            let agents = board.agent_index.len();
            let agent = *board.agent_index.entry(&offer.agent).or_insert(agents);
            let name = zone_attribute.and_then(|key| offer.attributes.get(key)).map(String::as_str);
            let zones = &mut board.zones;
            let zone = *board.zone_index.entry(name).or_insert_with(|| {
                zones.push(Zone { name, open: BTreeSet::new(), members: 0 });
                zones.len() - 1
            });
            let (left, ports) = (offer.resources, Cow::Borrowed(&offer.ports));
            board.rooms.push(Room { left, ports, agent, zone, used: false });
            board.open(index);
        }
        board.holds = vec![0; board.agent_index.len()];
        (board.last, board.refused) = (board.holds.clone(), board.holds.clone());
        board
    }

    /// Places what it can of one want; tells what it could not.
    fn serve(&mut self, want: Want<'_>) -> Option<Unplaced> {
        self.serving += 1;
        self.zones.iter_mut().for_each(|zone| zone.members = 0);
        for (agent, zone) in &want.wanted.occupied {
            if let Some(agent) = self.agent_index.get(agent) {
                self.holds[*agent] = self.serving;
            }
            if let Some(zone) = self.zone_index.get(&zone.as_deref()) {
                self.zones[*zone].members += 1;
            }
        }
        let mut some_last = false;
        for (agent, avoid) in &want.wanted.avoid {
            if let Some(agent) = self.agent_index.get(agent) {
                let marks = if avoid.in_ms > 0 { &mut self.refused } else { &mut self.last };
                marks[*agent] = self.serving;
                some_last |= avoid.in_ms == 0;
            }
        }
        let count = want.wanted.count;
        for placed in 0..count {
            let size = &want.wanted.resources;
            let found = self.find(size, false).or_else(|| some_last.then(|| self.find(size, true)).flatten());
            let Some(index) = found else {
                return Some(self.explain(want, count - placed));
            };
            self.put(index, want, MemberId(want.wanted.first.0.saturating_add(u64::from(placed))));
        }
        None
    }

    /// The best offer for one more member: in the zone with fewest members, and there the one with most room. Agents that
    /// come last are looked at only in the `last` resort.
    fn find(&mut self, size: &Resources, last: bool) -> Option<usize> {
        if self.scale.lacks(size).is_some() || self.hopeless.iter().any(|smaller| size.lacks(smaller).is_none()) {
            return None;
        }
        let mut held = false;
        let mut used = Vec::new();
        for &(room, zone) in &self.order {
            match self.zones[zone].members {
                0 => {
                    let found = self.find_in(zone, size, last, &mut held);
                    if found.is_some() {
                        return found;
                    }
                }
                members => used.push((members, room, zone)),
            }
        }
        used.sort_unstable();
        let found = used.into_iter().find_map(|(_, _, zone)| self.find_in(zone, size, last, &mut held));
        // It would have fitted somewhere but for this cluster's own members or failures: no reason to give up for others.
        if found.is_none() && !held && self.hopeless.len() < HOPELESS_MAX {
            self.hopeless.push(*size);
        }
        found
    }

    fn find_in(&self, zone: usize, size: &Resources, last: bool, held: &mut bool) -> Option<usize> {
        let mut fitting =
            self.zones[zone].open.iter().filter(|(_, index)| self.rooms[*index].left.lacks(size).is_none());
        let free = fitting.find(|(_, index)| {
            let agent = self.rooms[*index].agent;
            let marked = |marks: &[usize]| marks[agent] == self.serving;
            let taken = marked(&self.holds) || marked(&self.refused) || (!last && marked(&self.last));
            *held |= taken;
            !taken
        });
        free.map(|(_, index)| *index)
    }

    fn put(&mut self, index: usize, want: Want<'_>, member: MemberId) {
        self.close(index);
        let (offer, room) = (&self.offers[index], &mut self.rooms[index]);
        room.used = true;
        room.left = room.left.checked_sub(&want.wanted.resources).expect("only offers with enough room are found");
        let port = room.ports.to_mut().take(member.0).expect("only offers with a port are open");
        let zone = self.zones[room.zone].name.map(str::to_owned);
        let (endpoint, agent) = (Endpoint::new(&*offer.host, port), offer.agent.clone());
        let place = Placed { offer: offer.id.clone(), agent, endpoint, zone };
        self.assignments.push(Assignment { cluster: want.cluster.clone(), member, place });
        self.holds[room.agent] = self.serving;
        self.zones[room.zone].members += 1;
        self.open(index);
    }

    /// Lists an offer as usable, if it is.
    fn open(&mut self, index: usize) {
        if !self.rooms[index].ports.is_empty() && goes_down(&self.offers[index]).is_none() {
            let rank = (Reverse(self.measure(&self.rooms[index].left)), index);
            self.rerank(self.rooms[index].zone, |open| open.insert(rank));
        }
    }

    fn close(&mut self, index: usize) {
        let rank = (Reverse(self.measure(&self.rooms[index].left)), index);
        self.rerank(self.rooms[index].zone, |open| open.remove(&rank));
    }

    /// Changes the offers of a zone and keeps its place in the order of zones.
    fn rerank(&mut self, zone: usize, change: impl FnOnce(&mut BTreeSet<Rank>) -> bool) {
        let open = &mut self.zones[zone].open;
        let before = open.first().map(|(room, _)| (*room, zone));
        change(open);
        let after = open.first().map(|(room, _)| (*room, zone));
        if before != after {
            before.map(|rank| self.order.remove(&rank));
            after.map(|rank| self.order.insert(rank));
        }
    }

    /// How much room that is: the scarcest of its amounts, in parts of the largest offered.
    fn measure(&self, left: &Resources) -> u32 {
        let parts = left.amounts().into_iter().zip(self.scale.amounts()).map(|((_, have), (_, most))| {
            (u128::from(have) << 16)
                .checked_div(u128::from(most))
                .map_or(u32::MAX, |part| u32::try_from(part).unwrap_or(u32::MAX))
        });
        parts.min().unwrap_or_default()
    }

    fn explain(&self, want: Want<'_>, missing: u32) -> Unplaced {
        let mut unplaced = Unplaced::new(&want, missing);
        for (offer, room) in self.offers.iter().zip(&self.rooms) {
            let why = if self.holds[room.agent] == self.serving {
                Refusal::AgentTaken
            } else if let Some(in_ms) = goes_down(offer) {
                Refusal::Maintenance { in_ms }
            } else if let Some(lacks) = Refusal::lacks(&room.left, &want.wanted.resources) {
                lacks
            } else if let Some(avoid) = want.wanted.avoid.get(&offer.agent).filter(|avoid| avoid.in_ms > 0) {
                Refusal::Failing(avoid.clone())
            } else {
                Refusal::NoPort
            };
            unplaced.refuse(offer, &room.left, why);
        }
        unplaced
    }

    fn into_plan(self, unplaced: Vec<Unplaced>) -> Plan {
        let unused = self.offers.iter().zip(&self.rooms).filter(|(_, room)| !room.used);
        let unused = unused.map(|(offer, _)| offer.id.clone()).collect();
        Plan { assignments: self.assignments, unused, unplaced }
    }
}

/// In how many milliseconds an offer's agent is to be taken down, when that is soon.
fn goes_down(offer: &Offer) -> Option<u64> {
    offer.maintenance_in_ms.filter(|in_ms| *in_ms <= MAINTENANCE_AHEAD_MS)
}
