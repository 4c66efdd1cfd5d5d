//! What a placement policy answers: launches, unused offers, and a reason for every refusal.

use super::Want;
use crate::backoff::in_words;
use crate::cluster::{Placed, Wanted};
use crate::ports::mesos::Offer;
use crate::resources::MIB;
use crate::{AgentId, ClusterName, MemberId, OfferId, Ports, RefusedOffer, ResourceKind, Resources};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most refusals that are kept one by one for a cluster; all are counted.
pub const REFUSALS_KEPT: usize = 16;

/// What to do with a round of offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Members that got a place; those of one cluster in the order of their ids. An offer may be used by several.
    pub assignments: Vec<Assignment>,
    /// Offers to give back, in the order given.
    pub unused: Vec<OfferId>,
    /// Wants that were not, or not fully, satisfied, in the order given.
    pub unplaced: Vec<Unplaced>,
}

/// A member that got its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its id.
    pub member: MemberId,
    /// Its place, with the agent's zone, which the cluster tells again when it wants more.
    pub place: Placed,
}

/// That members failed on an agent lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoid {
    /// In how many milliseconds it may be used again; if at once, then still after all others.
    pub in_ms: u64,
    /// How the last one failed.
    pub reason: String,
}

/// Why an offer was not used for a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A member of the cluster is on this agent already.
    AgentTaken,
    /// What is left of it is too little.
    Lacks {
        /// Of what.
        kind: ResourceKind,
        /// What is left: thousandths of a cpu, or bytes.
        have: u64,
        /// What a member takes, in the same unit.
        want: u64,
    },
    /// Every port of it is taken.
    NoPort,
    /// Its agent is about to be taken down for maintenance.
    Maintenance {
        /// In how many milliseconds.
        in_ms: u64,
    },
    /// A member of the cluster failed on this agent, and the pause after that is not over.
    Failing(Avoid),
    /// A rule of another policy, in its own words.
    Rule(String),
}

/// A refusal with the offer that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferRefusal {
    /// The offer's agent.
    pub agent: AgentId,
    /// Its host.
    pub host: String,
    /// Why.
    pub why: Refusal,
}

/// Number of offers by reason of refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// On agents with a member of the cluster.
    pub agent_taken: u32,
    /// With too little cpu.
    pub cpus: u32,
    /// With too little memory.
    pub mem: u32,
    /// With too little disk.
    pub disk: u32,
    /// With no port left.
    pub ports: u32,
    /// On agents that are about to be taken down.
    pub maintenance: u32,
    /// On agents where members failed lately.
    pub failing: u32,
    /// By a rule of another policy.
    pub rule: u32,
}

/// A cluster that did not get all the members it wants, and why. `Display` tells it to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Whose.
    pub cluster: ClusterName,
    /// How many members found no place.
    pub missing: u32,
    /// What each takes.
    pub resources: Resources,
    /// The most that was left in any offer, of each kind by itself.
    pub largest: Resources,
    /// All refusals, counted.
    pub tally: Tally,
    /// The first [`REFUSALS_KEPT`] of them.
    pub refusals: Vec<OfferRefusal>,
}

/// What is wrong with a plan, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// An offer that was not made, or not like this, or that is both used and unused, or neither.
    #[error("plan must use or give back offer {0} as it was made, and once")]
    Offer(OfferId),
    /// A member that was not wanted, or not next.
    #[error("plan places member {1} of cluster {0}, which is not the next one wanted")]
    Member(ClusterName, MemberId),
    /// More is taken than is there.
    #[error("plan takes more {kind} from offer {offer} than it has")]
    Overcommitted {
        /// Which offer.
        offer: OfferId,
        /// More of what.
        kind: ResourceKind,
    },
    /// A port that was not offered, or given twice.
    #[error("plan gives port {port} of offer {offer} that was not offered, or gives it twice")]
    Port {
        /// Which offer.
        offer: OfferId,
        /// Which port.
        port: u16,
    },
    /// Two members of a cluster on one agent.
    #[error("plan puts two members of cluster {0} on agent {1}")]
    AgentTaken(ClusterName, AgentId),
    /// The numbers of placed and missing members do not add up to what is wanted.
    #[error("plan does not account for all members that cluster {0} wants")]
    Unaccounted(ClusterName),
}

impl Plan {
    /// Checks that the plan keeps the rules that hold for every policy: it answers every offer once, takes no more than
    /// is offered, gives every port once, places only what is wanted in the order of ids, accounts for all of it, and
    /// never puts two members of a cluster on one agent.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify<'o>(&self, wants: &[Want<'o>], offers: &'o [Offer]) -> Result<(), PlanError> {
        struct Left<'a>(&'a Offer, Resources, Ports);
        let left = |offer: &'o Offer| (&offer.id, Left(offer, offer.resources, offer.ports.clone()));
        let mut left: BTreeMap<_, _> = offers.iter().map(left).collect();
        let occupied = |want: &Want<'o>| {
            let cluster = want.cluster;
            want.wanted.occupied.iter().map(move |(agent, _)| (cluster, agent))
        };
        let mut agents: BTreeSet<(&ClusterName, &AgentId)> = wants.iter().flat_map(occupied).collect();
        // By cluster: what it wants, and how many it was given.
        let mut wants: BTreeMap<_, _> = wants.iter().map(|want| (want.cluster, (want.wanted, 0))).collect();
        let mut used = BTreeSet::new();
        for Assignment { cluster, member, place: Placed { offer, agent, endpoint, .. } } in &self.assignments {
            let not_wanted = || PlanError::Member(cluster.clone(), *member);
            let (want, given) = wants.get_mut(cluster).ok_or_else(not_wanted)?;
            if *given == want.count || member.0 != want.first.0.saturating_add(u64::from(*given)) {
                return Err(not_wanted());
            }
            *given += 1;
            let not_made = || PlanError::Offer(offer.clone());
            let Left(made, resources, ports) = left.get_mut(offer).ok_or_else(not_made)?;
            if made.agent != *agent || made.host != endpoint.host {
                return Err(not_made());
            }
            if !agents.insert((cluster, agent)) {
                return Err(PlanError::AgentTaken(cluster.clone(), agent.clone()));
            }
            if let Some(kind) = resources.lacks(&want.resources) {
                return Err(PlanError::Overcommitted { offer: offer.clone(), kind });
            }
            *resources = resources.checked_sub(&want.resources).unwrap_or_default();
            if !ports.contains(endpoint.port) {
                return Err(PlanError::Port { offer: offer.clone(), port: endpoint.port });
            }
            ports.remove(endpoint.port);
            used.insert(offer);
        }
        left.retain(|id, _| !used.contains(id));
        if let Some(twice) = self.unused.iter().find(|unused| left.remove(unused).is_none()) {
            return Err(PlanError::Offer(twice.clone()));
        }
        if let Some((forgotten, _)) = left.pop_first() {
            return Err(PlanError::Offer(forgotten.clone()));
        }
        let missing: BTreeMap<_, _> = self.unplaced.iter().map(|one| (&one.cluster, one.missing)).collect();
        let adds_up = |name: &ClusterName, (want, given): &(&Wanted, u32)| {
            given.checked_add(missing.get(name).copied().unwrap_or_default()) == Some(want.count)
        };
        let wrong = wants.iter().find(|(name, counts)| !adds_up(name, counts)).map(|(name, _)| *name);
        let stray = missing.keys().find(|name| !wants.contains_key(*name)).copied();
        wrong.or(stray).map_or(Ok(()), |name| Err(PlanError::Unaccounted(name.clone())))
    }
}

impl Unplaced {
    /// Of a want of which `missing` members found no place, without reasons yet.
    pub fn new(want: &Want<'_>, missing: u32) -> Self {
        Self {
            cluster: want.cluster.clone(),
            missing,
            resources: want.wanted.resources,
            largest: Resources::default(),
            tally: Tally::default(),
            refusals: Vec::new(),
        }
    }

    /// Notes why an offer, of which `left` was left, was refused.
    pub fn refuse(&mut self, offer: &Offer, left: &Resources, why: Refusal) {
        let count = match &why {
            Refusal::AgentTaken => &mut self.tally.agent_taken,
            Refusal::Lacks { kind: ResourceKind::Cpus, .. } => &mut self.tally.cpus,
            Refusal::Lacks { kind: ResourceKind::Mem, .. } => &mut self.tally.mem,
            Refusal::Lacks { kind: ResourceKind::Disk, .. } => &mut self.tally.disk,
            Refusal::NoPort => &mut self.tally.ports,
            Refusal::Maintenance { .. } => &mut self.tally.maintenance,
            Refusal::Failing(_) => &mut self.tally.failing,
            Refusal::Rule(_) => &mut self.tally.rule,
        };
        *count += 1;
        self.largest.cpus_milli = self.largest.cpus_milli.max(left.cpus_milli);
        self.largest.mem_bytes = self.largest.mem_bytes.max(left.mem_bytes);
        self.largest.disk_bytes = self.largest.disk_bytes.max(left.disk_bytes);
        if self.refusals.len() < REFUSALS_KEPT {
            self.refusals.push(OfferRefusal { agent: offer.agent.clone(), host: offer.host.clone(), why });
        }
    }
}

impl Tally {
    /// All refusals.
    pub const fn total(&self) -> u32 {
        self.agent_taken + self.cpus + self.mem + self.disk + self.ports + self.maintenance + self.failing + self.rule
    }
}

impl Refusal {
    /// A name for programs: `agent_taken`, `too_little_cpus`, `too_little_mem`, `too_little_disk`, `no_port`,
    /// `maintenance`, `failing` or `rule`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AgentTaken => "agent_taken",
            Self::Lacks { kind: ResourceKind::Cpus, .. } => "too_little_cpus",
            Self::Lacks { kind: ResourceKind::Mem, .. } => "too_little_mem",
            Self::Lacks { kind: ResourceKind::Disk, .. } => "too_little_disk",
            Self::NoPort => "no_port",
            Self::Maintenance { .. } => "maintenance",
            Self::Failing(_) => "failing",
            Self::Rule(_) => "rule",
        }
    }

    /// What an offer with `left` left lacks for `wanted`, if anything.
    pub fn lacks(left: &Resources, wanted: &Resources) -> Option<Self> {
        let pairs = left.amounts().into_iter().zip(wanted.amounts());
        let mut short = pairs.filter(|((_, have), (_, want))| have < want);
        short.next().map(|((kind, have), (_, want))| Self::Lacks { kind, have, want })
    }
}

impl From<&OfferRefusal> for RefusedOffer {
    fn from(OfferRefusal { agent, host, why }: &OfferRefusal) -> Self {
        Self { agent: agent.clone(), host: host.clone(), code: why.code(), text: why.to_string() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentTaken => f.write_str("agent already holds a member of this cluster"),
            Self::Lacks { kind, have, want } => {
                write!(f, "too little {kind}: {} left, {} wanted", Amount(*kind, *have), Amount(*kind, *want))
            }
            Self::NoPort => f.write_str("no port left"),
            Self::Maintenance { in_ms: 0 } => f.write_str("agent is to be taken down for maintenance now"),
            Self::Maintenance { in_ms } => {
                write!(f, "agent is to be taken down for maintenance within {} minutes", in_ms / 60_000 + 1)
            }
            Self::Failing(Avoid { in_ms, reason }) => {
                write!(f, "a member failed on this agent, it is tried again in {}: {reason}", in_words(*in_ms))
            }
            Self::Rule(rule) => f.write_str(rule),
        }
    }
}

impl fmt::Display for OfferRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.why)
    }
}

impl fmt::Display for Unplaced {
    /// One line: what is missing and what stands in the way, counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = if self.missing == 1 { "member" } else { "members" };
        write!(f, "{} {members} of {} each not placed", self.missing, self.resources)?;
        if self.tally.total() == 0 {
            return f.write_str(": no offers");
        }
        let (tally, most) = (&self.tally, &self.largest);
        let mut before = ": ";
        for (kind, have) in most.amounts() {
            let offers = match kind {
                ResourceKind::Cpus => tally.cpus,
                ResourceKind::Mem => tally.mem,
                ResourceKind::Disk => tally.disk,
            };
            if offers > 0 {
                write!(f, "{before}too little {kind} in {} (at most {} left)", Offers(offers), Amount(kind, have))?;
                before = ", ";
            }
        }
        let others = [
            (tally.agent_taken, "on agents that already hold a member"),
            (tally.ports, "without a free port"),
            (tally.maintenance, "on agents that are about to be taken down"),
            (tally.failing, "on agents where a member has just failed"),
            (tally.rule, "refused by rule"),
        ];
        for (offers, what) in others.into_iter().filter(|(offers, _)| *offers > 0) {
            write!(f, "{before}{} {what}", Offers(offers))?;
            before = ", ";
        }
        Ok(())
    }
}

/// An amount in the unit that people use for its kind.
struct Amount(ResourceKind, u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, amount) = *self;
        match kind {
            ResourceKind::Cpus if amount.is_multiple_of(1000) => write!(f, "{}", amount / 1000),
            ResourceKind::Cpus => write!(f, "{}.{:03}", amount / 1000, amount % 1000),
            ResourceKind::Mem | ResourceKind::Disk => write!(f, "{} MiB", amount / MIB),
        }
    }
}

struct Offers(u32);

impl fmt::Display for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "offer" } else { "offers" })
    }
}
