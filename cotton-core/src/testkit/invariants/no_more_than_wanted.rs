//! R6: never more tasks than wanted plus the one being replaced, not counting those that leave because fewer are wanted or
//! because their agent cannot be reached; no task of a deleted cluster left; no port twice on
//! an agent; no task started twice, nor two of one member at a time.

use super::Verdict;
use crate::cluster::state::{Leaving, State};
use crate::{AgentId, ClusterName, Millis, TaskId};
use std::collections::{BTreeMap, BTreeSet};

/// How long a launch that was decided under a larger size may be on its way.
const ON_ITS_WAY_MS: u64 = 5_000;

#[derive(Debug, Default)]
pub(crate) struct NoMoreThanWanted {
    running: BTreeSet<TaskId>,
    ports: BTreeSet<(AgentId, u16)>,
    /// The size that is stored, the one before, and when it changed.
    sizes: BTreeMap<ClusterName, (u32, u32, Millis)>,
}

impl NoMoreThanWanted {
    /// A cluster's record was stored.
    pub(crate) fn on_stored(&mut self, now: Millis, state: &State) {
        let size = state.spec.size;
        let known = self.sizes.entry(state.name().clone()).or_insert((size, size, now));
        if known.0 != size {
            *known = (size, known.0, now);
        }
    }

    /// A task is started: `tasks` are those of its cluster that have not ended, this one included.
    pub(crate) fn on_started(
        &mut self,
        now: Millis,
        stored: Option<&State>,
        task: &TaskId,
        place: &(AgentId, u16),
        tasks: &BTreeSet<TaskId>,
    ) -> Verdict {
        if !self.running.insert(task.clone()) {
            return Err(format!("R6: task '{task}' is started twice"));
        }
        let member = |task: &TaskId| task.parse().ok().map(|(_, member, _)| member);
        if let Some(other) = tasks.iter().find(|other| *other != task && member(other) == member(task)) {
            return Err(format!("R6: '{task}' is started beside '{other}', on the same data"));
        }
        // A member that comes back to its data was there before: while it is not decided who leads, all may be needed.
        let returns = task.parse().is_ok_and(|(_, _, run)| run > 0);
        if let Some(state) = stored.filter(|state| returns && tasks.len() > state.members.len()) {
            return Err(format!(
                "R6: {} tasks of {} members of '{}' run",
                tasks.len(),
                state.members.len(),
                state.name()
            ));
        }
        if let Some(state) = stored.filter(|_| !returns) {
            let surplus = |m: &crate::cluster::state::Member| m.leaving == Some(Leaving::ScaleDown) || m.is_away();
            let leaving =
                |t: &&TaskId| t.parse().ok().and_then(|(_, id, _)| state.members.get(&id)).is_some_and(surplus);
            let count = tasks.len() - tasks.iter().filter(leaving).count();
            let wanted = self.sizes.get(state.name()).map_or(0, |(size, before, changed)| {
                if now.since(*changed) < ON_ITS_WAY_MS { *size.max(before) } else { *size }
            });
            if count > wanted as usize + 1 {
                return Err(format!("R6: {count} tasks of '{}' run, which wants {}", state.name(), state.spec.size));
            }
        }
        if !self.ports.insert(place.clone()) {
            return Err(format!("R6: port {} of agent '{}' is used twice", place.1, place.0));
        }
        Ok(())
    }

    /// A task has ended.
    pub(crate) fn on_ended(&mut self, task: &TaskId, place: &(AgentId, u16)) {
        if self.running.remove(task) {
            self.ports.remove(place);
        }
    }
}
