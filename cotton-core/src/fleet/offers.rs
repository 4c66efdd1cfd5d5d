//! Offers: who gets them, and whether we want any.

use super::volumes::Use;
use super::{Effect, Fleet};
use crate::cluster::Wanted;
use crate::placement::{Assignment, Plan, Want};
use crate::ports::mesos::{MesosCall, Offer};
use crate::{ClusterName, Millis, OfferId};
use std::collections::{BTreeMap, BTreeSet};

/// For how long a satisfied fleet does not want the same resources offered again, in milliseconds.
const DECLINE_SATISFIED_MS: u64 = 3_600_000;
/// The same, while a cluster wants members that did not fit.
const DECLINE_UNFIT_MS: u64 = 5_000;
/// Least time between two calls for offers, in milliseconds.
const REVIVE_EVERY_MS: u64 = 200;

/// Whether Mesos was told to offer.
#[derive(Debug, Default)]
pub(super) struct OfferFlow {
    /// What Mesos was told last; `None` right after connecting.
    offering: Option<bool>,
    /// Somebody wants more than before: filters of earlier declines must go.
    more: bool,
    revived: Option<Millis>,
    next: Option<Millis>,
}

impl OfferFlow {
    pub(super) fn wanted_more(&mut self) {
        self.more = true;
    }

    pub(super) fn disconnected(&mut self) {
        *self = Self { more: true, ..Self::default() };
    }

    /// Whether Mesos was told not to offer.
    pub(super) fn is_suppressed(&self) -> bool {
        self.offering == Some(false)
    }

    pub(super) const fn next(&self) -> Option<Millis> {
        self.next
    }

    fn decide(&mut self, now: Millis, wanting: bool) -> Option<MesosCall> {
        self.next = None;
        if !wanting {
            self.more = false;
            let suppress = self.offering != Some(false);
            self.offering = Some(false);
            return suppress.then_some(MesosCall::Suppress);
        }
        if self.offering == Some(true) && !self.more {
            return None;
        }
        let due = self.revived.map_or(now, |at| at.after(REVIVE_EVERY_MS));
        if due > now {
            self.next = Some(due);
            return None;
        }
        (self.offering, self.more, self.revived) = (Some(true), false, Some(now));
        Some(MesosCall::Revive)
    }
}

impl Fleet {
    /// Says whether offers are wanted, when that has changed.
    pub(super) fn ask_for_offers(&mut self, now: Millis) {
        if !self.connected {
            return;
        }
        if let Some(call) = self.flow.decide(now, self.wants_offers(now)) {
            self.calls.push_back(Effect::Mesos(call));
        }
    }

    fn wants_offers(&self, now: Millis) -> bool {
        !self.wanting.is_empty() || self.releasing.is_looking(now)
    }

    pub(super) fn on_offers(&mut self, now: Millis, mut offers: Vec<Offer>) {
        self.counters.resource_offers += offers.len() as u64;
        self.note_maintenance(now, &offers);
        let uses = self.use_volumes(now, &mut offers);
        if self.wanting.is_empty() && uses.is_empty() {
            self.decline(offers.iter().map(|offer| offer.id.clone()).collect());
            return self.ask_for_offers(now);
        }
        let wanted_by = |name| {
            let wanted = self.slots.get(name)?.cluster.wanted()?;
            Some((name, Wanted { avoid: self.failing.avoided(now, name), ..wanted }))
        };
        let wanting = self.wanting.iter().filter_map(|(_, name)| wanted_by(name));
        let wanted: Vec<(&ClusterName, Wanted)> = wanting.collect();
        let wants: Vec<Want<'_>> = wanted.iter().map(|(cluster, wanted)| Want { cluster, wanted }).collect();
        let plan = self.config.placement.place(&wants, &offers);
        if let Err(error) = plan.verify(&wants, &offers) {
            panic!("the placement policy broke a rule: {error}");
        }
        self.carry_out(now, plan, uses);
        self.ask_for_offers(now);
    }

    fn carry_out(&mut self, now: Millis, plan: Plan, mut uses: BTreeMap<OfferId, Use>) {
        let mut unused: BTreeSet<OfferId> = plan.unused.into_iter().collect();
        for Assignment { cluster, member, place } in plan.assignments {
            let (offer, agent) = (place.offer.clone(), place.agent.clone());
            let Some(given) = self.place(now, &cluster, place) else {
                unused.insert(offer);
                continue;
            };
            assert!(given == member, "the placement policy gives ids in order, which verify() checks");
            uses.entry(offer).or_insert_with(|| Use::of(agent)).tasks.extend(self.task_of(&cluster, member));
        }
        unused.retain(|offer| !uses.contains_key(offer));
        for (offer, used) in uses {
            if let Some(gathered) = self.accepts.expect(now, offer, used) {
                self.accept(gathered);
            }
        }
        for unplaced in plan.unplaced {
            if let Some(slot) = self.slots.get_mut(&unplaced.cluster) {
                slot.refused = Some(unplaced);
            }
        }
        self.decline(unused.into_iter().collect());
    }

    pub(super) fn decline(&mut self, offers: Vec<OfferId>) {
        if offers.is_empty() {
            return;
        }
        self.counters.offers_unused += offers.len() as u64;
        let filter_ms = if self.wants_offers(self.now) { DECLINE_UNFIT_MS } else { DECLINE_SATISFIED_MS };
        self.calls.push_back(Effect::Mesos(MesosCall::Decline { offers, filter_ms }));
    }
}
