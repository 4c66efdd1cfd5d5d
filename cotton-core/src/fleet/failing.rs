//! Agents on which members fail: a full disk, a server that is not installed, too little memory. They go to the end of the
//! line: a cluster whose member failed there launches no other one there for a pause that doubles with each failure in a row,
//! and for an hour after the last failure every cluster takes such an agent only when no other will do. A healthy member of
//! the same cluster there clears it. It is volatile, since a new scheduler may well try at once.
//!
//! Only the cluster that failed pauses: its own wishes may be the reason, such as a size that no copy fits in, and
//! must not take the agent from all others.

use crate::backoff::{Backoff, Pauses};
use crate::placement::Avoid;
use crate::{AgentId, ClusterName, Millis};
use std::collections::BTreeMap;

/// The ceiling is low enough to notice soon that somebody has made room.
const PAUSES: Pauses = Pauses { first_ms: 1_000, max_ms: 120_000 };
/// For how long after the last failure an agent is used last, in milliseconds.
const REMEMBERED_MS: u64 = 3_600_000;

#[derive(Debug, Default)]
pub(super) struct Failing {
    agents: BTreeMap<AgentId, BTreeMap<ClusterName, Failure>>,
}

#[derive(Debug, Default)]
pub(super) struct Failure {
    backoff: Backoff,
    last: Millis,
    reason: String,
}

impl Failing {
    /// A member failed there. Gives how many have in a row, and the pause.
    pub(super) fn failed(&mut self, now: Millis, agent: &AgentId, cluster: &ClusterName, reason: String) -> (u32, u64) {
        self.forget_old(now);
        let failure = self.agents.entry(agent.clone()).or_default().entry(cluster.clone()).or_default();
        let pause = failure.backoff.failed(now, PAUSES);
        (failure.last, failure.reason) = (now, reason);
        (failure.backoff.failures(), pause)
    }

    /// A member of this cluster is healthy there.
    pub(super) fn works(&mut self, agent: &AgentId, cluster: &ClusterName) {
        if let Some(clusters) = self.agents.get_mut(agent) {
            clusters.remove(cluster);
            if clusters.is_empty() {
                self.agents.remove(agent);
            }
        }
    }

    /// The agent will not come back under this id.
    pub(super) fn forget_agent(&mut self, agent: &AgentId) {
        self.agents.remove(agent);
    }

    pub(super) fn forget_cluster(&mut self, cluster: &ClusterName) {
        self.agents.retain(|_, clusters| {
            clusters.remove(cluster);
            !clusters.is_empty()
        });
    }

    /// What placement has to know of it.
    pub(super) fn avoided(&self, now: Millis, cluster: &ClusterName) -> BTreeMap<AgentId, Avoid> {
        let avoid = |(agent, clusters): (&AgentId, &BTreeMap<ClusterName, Failure>)| {
            let own = clusters.get(cluster).filter(|failure| failure.is_recent(now));
            let latest =
                clusters.values().filter(|failure| failure.is_recent(now)).max_by_key(|failure| failure.last)?;
            let in_ms = own.map_or(0, |own| own.backoff.until().since(now));
            let reason = own.unwrap_or(latest).reason.clone();
            Some((agent.clone(), Avoid { in_ms, reason }))
        };
        self.agents.iter().filter_map(avoid).collect()
    }

    /// Where members of this cluster failed, how often, when another is launched there, and why.
    pub(super) fn of(&self, now: Millis, cluster: &ClusterName) -> Vec<(&AgentId, u32, u64, &str)> {
        let mut found = Vec::new();
        for (agent, clusters) in &self.agents {
            let Some(failure) = clusters.get(cluster).filter(|failure| failure.is_recent(now)) else { continue };
            let Failure { backoff, reason, .. } = failure;
            found.push((agent, backoff.failures(), backoff.until().since(now), &**reason));
        }
        found
    }

    fn forget_old(&mut self, now: Millis) {
        self.agents.retain(|_, clusters| {
            clusters.retain(|_, failure| failure.is_recent(now));
            !clusters.is_empty()
        });
    }
}

impl Failure {
    const fn is_recent(&self, now: Millis) -> bool {
        now.since(self.last) < REMEMBERED_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn avoided(failing: &Failing, now: u64, cluster: &str) -> Vec<(String, u64)> {
        let avoided = failing.avoided(Millis(now), &cluster.parse().expect("a valid name"));
        avoided.into_iter().map(|(agent, avoid)| (agent.to_string(), avoid.in_ms)).collect()
    }

    #[test]
    fn the_cluster_that_failed_there_pauses_and_all_others_go_there_last() {
        let (mut failing, agent, cluster) = (Failing::default(), "a".into(), "c".parse().expect("a valid name"));
        let pauses: Vec<(u32, u64)> =
            (0..9).map(|_| failing.failed(Millis(5), &agent, &cluster, "no space left".to_owned())).collect();
        let expected = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 120_000, 120_000];
        assert_eq!(pauses, (1..).zip(expected).collect::<Vec<_>>());
        assert_eq!(avoided(&failing, 6, "c"), [("a".to_owned(), 119_999)]);
        assert_eq!(avoided(&failing, 6, "d"), [("a".to_owned(), 0)]);
        assert_eq!(avoided(&failing, 120_005, "c"), [("a".to_owned(), 0)], "last, and not never");
        assert_eq!(avoided(&failing, 3_600_005, "c"), [], "long ago");
        assert_eq!(failing.of(Millis(1_005), &cluster), [(&agent, 9, 119_000, "no space left")]);
    }

    #[test]
    fn success_of_the_same_cluster_clears_it() {
        let (mut failing, agent) = (Failing::default(), AgentId::from("a"));
        let [one, other] = ["c", "d"].map(|name| name.parse::<ClusterName>().expect("a valid name"));
        failing.failed(Millis(0), &agent, &one, "x".to_owned());
        failing.works(&agent, &other);
        assert_eq!(avoided(&failing, 1, "c"), [("a".to_owned(), 999)], "small ones may fit where large ones do not");
        failing.works(&agent, &one);
        assert_eq!(avoided(&failing, 1, "c"), []);
        assert_eq!(failing.failed(Millis(1), &agent, &one, "x".to_owned()), (1, 1_000), "begins anew");
        failing.forget_cluster(&one);
        assert!(failing.agents.is_empty());
    }
}
