//! R3, the other way round: a published primary is withdrawn only when its loss was decided by a scheduler that could
//! hear. A scheduler that has just started and hears nobody changes nothing that clients see.

use super::Verdict;
use crate::ClusterName;
use crate::cluster::state::State;
use crate::ports::discovery::Published;

/// Clients are to see `published` in place of `shown`. `closed` says whether the primary that is shown has said itself that
/// it is not open, `heard` whether this run of the scheduler has heard of any member of the cluster.
pub(crate) fn on_publish(
    stored: Option<&State>,
    name: &ClusterName,
    shown: Option<&Published>,
    published: &Published,
    closed: bool,
    heard: bool,
) -> Verdict {
    let Some((shown, old)) = shown.and_then(|shown| Some((shown, shown.primary?))) else { return Ok(()) };
    let Some(state) = stored.filter(|state| !state.deleting && published.primary.is_none()) else { return Ok(()) };
    let runs = state.members.get(&old).is_some_and(|member| !member.resting);
    let decided = state.epoch > shown.epoch || state.turn > 0 || closed;
    if !runs || (decided && heard) {
        return Ok(());
    }
    let how = if heard { "and nobody has decided that it is lost" } else { "by a scheduler that has heard nobody" };
    Err(format!("R3: primary {old} of '{name}' in epoch {} is withdrawn, {how}", shown.epoch))
}
