//! What a fleet tells about itself.

use super::Fleet;
use crate::cluster::Cluster;
use crate::cluster::explain::Explanation;
use crate::{ClusterName, ClusterStatus, ClusterView, FrameworkId, Millis, Reason, ReasonCode, Resources, RetryView};
use std::collections::BTreeSet;

/// Counters that only grow, with Apache Cotton's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Offers received.
    pub resource_offers: u64,
    /// Offers declined whole.
    pub offers_unused: u64,
    /// Tasks launched.
    pub tasks_launched: u64,
    /// Tasks that failed.
    pub tasks_failed: u64,
    /// Tasks whose agent could not be reached or is gone, and those that never started.
    pub tasks_lost: u64,
    /// Tasks that ended by themselves.
    pub tasks_finished: u64,
    /// Tasks that were killed.
    pub tasks_killed: u64,
    /// Messages of executors that could not be read.
    pub messages_malformed: u64,
    /// Elections begun.
    pub elections: u64,
    /// Failovers completed.
    pub failovers: u64,
    /// Switchovers completed.
    pub switchovers: u64,
    /// Switchovers that were taken back or ended in an election.
    pub switchovers_failed: u64,
}

impl Fleet {
    /// One cluster's machine, to look at.
    pub fn cluster(&self, name: &ClusterName) -> Option<&Cluster> {
        self.slots.get(name).map(|slot| &slot.cluster)
    }

    /// All clusters' machines, in the order of creation.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.order.iter().filter_map(|(_, name)| self.cluster(name))
    }

    /// A snapshot of one cluster.
    pub fn view(&self, now: Millis, name: &ClusterName) -> Option<ClusterView> {
        let slot = self.slots.get(name)?;
        let mut view = slot.cluster.view(now);
        let refusals = slot.refused.iter().filter(|_| slot.wanting).flat_map(|refused| &refused.refusals);
        view.refusals = refusals.map(Into::into).collect();
        let failing = self.failing.of(now, name).into_iter();
        view.retries.extend(failing.map(|(agent, failures, in_ms, reason)| RetryView {
            what: "agent",
            member: None,
            agent: Some(agent.clone()),
            failures,
            in_ms,
            reason: reason.to_owned(),
        }));
        if let Some(refused) = slot.refused.as_ref().filter(|_| slot.wanting) {
            view.reasons.push(Reason { code: ReasonCode::NotPlaced, member: None, text: refused.to_string() });
        }
        let stay = self.why_agents_stay(now, &slot.cluster);
        view.reasons.extend(stay.into_iter().map(|text| Reason { code: ReasonCode::Maintenance, member: None, text }));
        view.reasons.extend(slot.cannot_return.clone().map(|text| Reason {
            code: ReasonCode::CannotReturn,
            member: None,
            text,
        }));
        if let Some((_, reason)) = self.unsavable.of(now, name) {
            view.reasons.insert(0, reason);
            if view.status == ClusterStatus::Healthy {
                view.status = ClusterStatus::Degraded;
            }
        }
        Some(view)
    }

    /// Explains one cluster to a person who has to decide.
    pub fn explain(&self, now: Millis, name: &ClusterName) -> Option<Explanation> {
        let view = self.view(now, name)?;
        let mut explained = self.cluster(name)?.explain_view(now, view);
        let since = self.unsavable.of(now, name).map(|(since, _)| now.since(since));
        let waits = explained.waits.iter_mut().filter(|wait| wait.code == ReasonCode::NotSaved.name());
        waits.for_each(|wait| wait.since_ms = since);
        Some(explained)
    }

    /// Whether Mesos can be talked to at the moment.
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// How Mesos knows us.
    pub const fn framework(&self) -> Option<&FrameworkId> {
        self.state.framework.as_ref()
    }

    /// Clusters whose stored state could not be read.
    pub const fn damaged(&self) -> &BTreeSet<ClusterName> {
        &self.damaged
    }

    /// Counters since the start of this run.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is asked for by all clusters together.
    pub fn requested(&self) -> Resources {
        let specs = self.slots.values().map(|slot| &slot.cluster.state().spec);
        specs.fold(Resources::default(), |sum, spec| sum.plus(&spec.resources.times(spec.size.into())))
    }
}
