//! Which members leave when a cluster gets smaller: those that cost least.

use crate::{AgentId, MemberId};
use std::collections::BTreeMap;

/// A member that may have to leave, as far as it matters for the choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub member: MemberId,
    /// Whether it is, or is being made, the primary: it never leaves.
    pub primary: bool,
    /// Whether it runs, answers and replicates.
    pub healthy: bool,
    /// Its agent.
    pub agent: AgentId,
    /// Its zone.
    pub zone: Option<String>,
    /// Seconds behind the primary, where known.
    pub lag_s: Option<u64>,
}

/// Seconds behind the primary that are no reason to prefer one member to another.
const LAG_TOLERATED_S: u64 = 5;

/// The members to stop so that the cluster is `count` smaller, in the order in which to stop them. Fewer when the
/// primary is in the way: it never leaves.
///
/// They are chosen one by one, and after each choice the rest is looked at anew, because what was doubled may be
/// doubled no more. First goes
/// 1. who is not healthy: it gives nothing now, and would have to be mended;
/// 2. who shares its agent with most others that stay, then its zone: one fault would take both. A zone counts only if
///    at least two are known;
/// 3. who lags most, by more than a few seconds or unknown: it would be of least use in a failover;
/// 4. who is newest (highest id): it was cheapest to make, and scaling up and down again restores what was before.
pub fn victims(candidates: &[Candidate], count: usize) -> Vec<MemberId> {
    let mut staying: Vec<&Candidate> = candidates.iter().collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let (agents, zones) = (tally(&staying, |one| &one.agent), tally(&staying, |one| &one.zone));
        let zones_tell = zones.len() > 1;
        let cost = |one: &Candidate| {
            let lag = one.lag_s.unwrap_or(u64::MAX).saturating_sub(LAG_TOLERATED_S);
            let zone = if zones_tell { zones[&one.zone] } else { 0 };
            (!one.healthy, agents[&one.agent], zone, lag, one.member)
        };
        let dearest =
            (0..staying.len()).filter(|index| !staying[*index].primary).max_by_key(|index| cost(staying[*index]));
        let Some(index) = dearest else { break };
        chosen.push(staying.remove(index).member);
    }
    chosen
}

fn tally<'a, K: Ord>(members: &[&'a Candidate], key: impl Fn(&'a Candidate) -> &'a K) -> BTreeMap<&'a K, usize> {
    let mut counts = BTreeMap::new();
    for one in members {
        *counts.entry(key(one)).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From a line such as `3 P ! a1 z1 7`: id, primary, unhealthy, agent, zone, lag (`?` unknown).
    fn candidate(line: &str) -> Candidate {
        let mut words = line.split_whitespace().peekable();
        let member = MemberId(words.next().and_then(|id| id.parse().ok()).expect("an id"));
        let primary = words.next_if_eq(&"P").is_some();
        let healthy = words.next_if_eq(&"!").is_none();
        let agent = words.next().expect("an agent").into();
        let zone = words.next().filter(|zone| *zone != "-").map(str::to_owned);
        let lag_s = words.next().map_or(Some(0), |lag| lag.parse().ok());
        Candidate { member, primary, healthy, agent, zone, lag_s }
    }

    #[test]
    fn those_that_cost_least_leave() {
        for (why, candidates, count, leave) in [
            ("nobody asked", "0 P a\n1 b\n2 c", 0, ""),
            ("the newest", "0 P a\n1 b\n2 c", 1, "2"),
            ("the newest first", "0 P a\n1 b\n2 c", 2, "2 1"),
            ("never the primary", "0 a\n1 b\n2 P c", 2, "1 0"),
            ("never the primary, even when more is asked", "0 a\n1 P b", 5, "0"),
            ("never the primary, even when unhealthy", "0 P ! a\n1 b", 1, "1"),
            ("unhealthy first", "0 P a\n1 ! b\n2 c\n3 d", 2, "1 3"),
            ("doubled on an agent before newer", "0 P a\n1 a\n2 c", 1, "1"),
            ("doubled only until one is gone", "0 P a\n1 b\n2 b\n3 c", 2, "2 3"),
            ("doubled in a zone", "0 P a z1\n1 b z1\n2 c z2", 1, "1"),
            ("on an agent before in a zone", "0 P a z1\n1 b z1\n2 c z2\n3 c z3\n4 d z1", 1, "3"),
            ("a single zone tells nothing", "0 P a z1\n1 b z1 9\n2 c z1 8", 1, "1"),
            ("lagging before newer", "0 P a\n1 b - 9\n2 c", 1, "1"),
            ("a little lag is none", "0 P a\n1 b - 5\n2 c", 1, "2"),
            ("unknown lag before any known", "0 P a\n1 b - ?\n2 c - 9999", 1, "1"),
            ("doubled before lagging", "0 P a\n1 a\n2 c - 60", 1, "1"),
            ("unhealthy before doubled", "0 P a\n1 a\n2 ! c", 1, "2"),
            ("no primary known", "0 a\n1 b", 1, "1"),
        ] {
            let candidates: Vec<_> = candidates.lines().map(candidate).collect();
            let chosen: Vec<_> = victims(&candidates, count).iter().map(ToString::to_string).collect();
            assert_eq!(chosen.join(" "), leave, "{why}");
        }
    }

    proptest! {
        #[test]
        fn as_many_as_asked_never_the_primary_and_in_any_order(
            members in proptest::collection::vec((any::<bool>(), 0u8..3, 0u8..3, 0u64..9), 0..7),
            primary in 0usize..9,
            count in 0usize..9,
        ) {
            let build = |(index, (healthy, agent, zone, lag)): (usize, (bool, u8, u8, u64))| {
                let lead = if index == primary { "P " } else { "" };
                let sick = if healthy { "" } else { "! " };
                candidate(&format!("{index} {lead}{sick}{agent} {zone} {lag}"))
            };
            let mut candidates: Vec<_> = members.into_iter().enumerate().map(build).collect();
            let chosen = victims(&candidates, count);
            let able = candidates.iter().filter(|one| !one.primary).count();
            prop_assert_eq!(chosen.len(), count.min(able));
            prop_assert!(!chosen.contains(&MemberId(primary as u64)));
            candidates.reverse();
            prop_assert_eq!(victims(&candidates, count), chosen);
        }
    }
}
