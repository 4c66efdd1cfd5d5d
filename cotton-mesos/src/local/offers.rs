//! Offers: one for each agent, of what is free on it, made as soon as there is a reason for it.

use super::task::Process;
use super::world::{Agent, Health, Phase, World};
use cotton_core::ports::mesos::{Held, MesosEvent, Offer};
use cotton_core::{OfferId, Ports, Resources};
use std::net::TcpListener;
use std::time::Duration;
use tokio::time::Instant;

/// Ports in one offer; with thousands of them, looking at each would take longer than anything else here.
const PORTS_OFFERED_MAX: usize = 128;
/// How long an offer may stay unanswered when more has become free meanwhile.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// How often the ports of ended tasks are tried.
const COOLING_INTERVAL: Duration = Duration::from_millis(20);
/// How long they are tried; after that they are looked at when there is an offer to be made.
const COOLING_MAX: Duration = Duration::from_secs(30);
/// Longest filter that is honoured.
const FILTER_MAX: Duration = Duration::from_hours(24 * 365);

/// An offer that was made.
#[derive(Clone, Debug)]
pub(super) struct Outstanding {
    pub(super) id: OfferId,
    pub(super) resources: Resources,
    pub(super) ports: Ports,
    pub(super) held: Vec<Held>,
    made_at: Instant,
    /// More has become free since.
    has_grown: bool,
}

/// What was declined, and until when it is not to be offered again.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    until: Instant,
    resources: Resources,
    held: Vec<Held>,
}

/// A port that an ended task had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cooling {
    next: Instant,
    until: Instant,
}

impl World {
    /// Makes the offers for which it is time, and takes back those that have become too small.
    pub(super) fn make_offers(&mut self, now: Instant) {
        if !self.wants_offers() {
            return;
        }
        let (mut offers, mut stale) = (Vec::new(), Vec::new());
        for (id, agent) in self.agents.iter_mut().filter(|(_, agent)| agent.health == Health::Up) {
            agent.unfilter(now);
            let (free, held) = (agent.free(), agent.held());
            if let Some(offer) = &mut agent.offer {
                offer.has_grown |= offer.resources != free || offer.held != held;
                if !offer.has_grown || now < offer.made_at + STALE_AFTER {
                    continue;
                }
                stale.push(agent.offer.take());
            }
            if (free == Resources::default() && held.is_empty()) || agent.is_filtered(&free, &held) {
                continue;
            }
            let ports = agent.free_ports();
            self.offers_made += 1;
            let offer = OfferId::from(format!("{}-{}", self.offer_prefix, self.offers_made).as_str());
            let outstanding = Outstanding {
                id: offer.clone(),
                resources: free,
                ports: ports.clone(),
                held: held.clone(),
                made_at: now,
                has_grown: false,
            };
            (agent.offer, agent.filter) = (Some(outstanding), None);
            offers.push(Offer {
                id: offer,
                agent: id.clone(),
                host: agent.config.host.clone(),
                resources: free,
                ports,
                attributes: agent.config.attributes.clone(),
                held,
                maintenance_in_ms: None,
            });
        }
        for offer in stale {
            self.rescind(offer);
        }
        if !offers.is_empty() {
            self.events.push_back(MesosEvent::Offers(offers));
        }
    }

    pub(super) fn wants_offers(&self) -> bool {
        self.subscribed && !self.suppressed && self.phase == Phase::Open
    }

    pub(super) fn on_decline(&mut self, now: Instant, offers: &[OfferId], filter_ms: u64) {
        let until = now + Duration::from_millis(filter_ms).min(FILTER_MAX);
        for agent in self.agents.values_mut() {
            if let Some(offer) = agent.offer.take_if(|offer| offers.contains(&offer.id)) {
                // What has become free since was not declined.
                let filter = Filter { until, resources: offer.resources, held: offer.held };
                agent.filter = Some(filter).filter(|_| !offer.has_grown);
            }
        }
    }

    pub(super) fn rescind(&mut self, offer: Option<Outstanding>) {
        if let Some(offer) = offer.filter(|_| self.subscribed) {
            self.events.push_back(MesosEvent::Rescinded(offer.id));
        }
    }
}

impl Agent {
    pub(super) fn take_offer(&mut self, id: &OfferId) -> Option<Outstanding> {
        self.offer.take_if(|offer| offer.id == *id)
    }

    /// Resources that no task has.
    fn free(&self) -> Resources {
        let used = self.tasks.values().filter(|task| task.process != Process::Ended);
        let used = used.fold(Resources::default(), |sum, task| sum.plus(&task.record.resources));
        let used = used.plus(&self.reserved());
        let all = self.config.resources;
        Resources {
            cpus_milli: all.cpus_milli.saturating_sub(used.cpus_milli),
            mem_bytes: all.mem_bytes.saturating_sub(used.mem_bytes),
            disk_bytes: all.disk_bytes.saturating_sub(used.disk_bytes),
        }
    }

    /// Ports that no task has and that can be bound.
    fn free_ports(&self) -> Ports {
        let is_taken =
            |port: &u16| self.is_reserved(*port) || self.tasks.values().any(|task| task.record.port == *port);
        let all = self.config.ports.ranges().iter().flat_map(|&(begin, end)| begin..=end);
        let free = all.filter(|port| !is_taken(port) && self.can_bind(*port));
        Ports::new(free.take(PORTS_OFFERED_MAX).map(|port| (port, port)))
    }

    pub(super) fn can_bind(&self, port: u16) -> bool {
        TcpListener::bind((self.config.host.as_str(), port)).is_ok()
    }

    fn is_filtered(&self, free: &Resources, held: &[Held]) -> bool {
        let declined = |filter: &Filter| {
            filter.resources.lacks(free).is_none() && held.iter().all(|held| filter.held.contains(held))
        };
        self.filter.as_ref().is_some_and(declined)
    }

    /// Looks from now on whether the port of an ended task is free again.
    pub(super) fn cool_later(&mut self, now: Instant, port: u16) {
        self.cooling.insert(port, Cooling { next: now, until: now + COOLING_MAX });
    }

    /// Looks whether the ports of ended tasks are free again; then there is more to offer.
    pub(super) fn cool(&mut self, now: Instant) {
        let due: Vec<u16> =
            self.cooling.iter().filter(|(_, cooling)| cooling.next <= now).map(|(port, _)| *port).collect();
        for port in due {
            if self.can_bind(port) {
                self.cooling.remove(&port);
                self.filter = None;
                if let Some(offer) = &mut self.offer {
                    offer.has_grown |= !offer.ports.contains(port);
                }
            } else if let Some(cooling) = self.cooling.get_mut(&port) {
                cooling.next = now + COOLING_INTERVAL;
            }
        }
        self.cooling.retain(|_, cooling| now < cooling.until);
    }

    pub(super) fn next_cooling(&self) -> Option<Instant> {
        self.cooling.values().map(|cooling| cooling.next).min()
    }

    /// Forgets a filter whose time is over.
    fn unfilter(&mut self, now: Instant) {
        self.filter.take_if(|filter| filter.until <= now);
    }

    pub(super) fn next_offer_timeout(&self) -> Option<Instant> {
        let stale = self.offer.as_ref().filter(|offer| offer.has_grown);
        let stale = stale.map(|offer| offer.made_at + STALE_AFTER);
        let unfiltered = self.filter.as_ref().map(|filter| filter.until);
        stale.into_iter().chain(unfiltered).min()
    }
}
