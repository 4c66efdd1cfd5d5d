//! R7: an agent is let go for maintenance only while no cluster needs it: no primary is there, and as many replicas as
//! must acknowledge stay elsewhere, also without the agents that were let go before.

use super::Verdict;
use crate::AgentId;
use crate::cluster::state::State;
use std::collections::BTreeSet;

/// It is said that `agent` may be taken down; `before` may be, too.
pub(crate) fn on_agreed<'a>(
    clusters: impl Iterator<Item = &'a State>,
    agent: &AgentId,
    before: &BTreeSet<AgentId>,
) -> Verdict {
    for state in clusters.filter(|state| !state.deleting) {
        if state.members.values().all(|member| member.agent != *agent) {
            continue;
        }
        let name = state.name();
        let goes = |on: &AgentId| on == agent || before.contains(on);
        let primary = state.primary.and_then(|id| state.members.get(&id));
        if primary.is_none_or(|member| goes(&member.agent)) {
            return Err(format!("R7: {agent} is let go, and before it {before:?}: '{name}' is left without a primary"));
        }
        let stay = state.members.iter().filter(|(id, member)| {
            state.primary != Some(**id) && member.leaving.is_none() && !member.resting && !goes(&member.agent)
        });
        let (stay, acks) = (stay.count(), state.spec.durability.acks() as usize);
        if stay < acks {
            return Err(format!(
                "R7: {agent} is let go, and before it {before:?}: '{name}' is left with {stay} replicas"
            ));
        }
    }
    Ok(())
}
