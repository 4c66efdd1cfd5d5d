//! R4: nothing is done under a state that is not durable.
//!
//! Every effect of the scheduler is compared with what its store really holds at that moment, and every order that an
//! executor carries out with what lies on its disk. (That effects may be repeated, and inputs lost, late and repeated,
//! is not checked here: the world does all that, and the other rules must hold.)

use super::Verdict;
use crate::cluster::state::{Member, State};
use crate::executor::{ExecutorState, Operation};
use crate::ports::discovery::Published;
use crate::ports::mesos::TaskState;
use crate::protocol::{Directive, MemberTask, Order, Stage};
use crate::{ClusterName, MemberId};

/// A task is started.
pub(crate) fn on_launch(stored: Option<&State>, task: &MemberTask) -> Verdict {
    let known = stored.and_then(|state| state.members.get(&task.member));
    if known.is_some_and(|member| member.endpoint == task.endpoint && !member.resting) {
        return Ok(());
    }
    Err(format!("R4: member {} of '{}' is launched before that is durable", task.member, task.cluster))
}

/// A task is killed that belongs to a known cluster.
pub(crate) fn on_kill(stored: Option<&State>, id: MemberId, run: u32) -> Verdict {
    let Some(state) = stored else { return Ok(()) };
    let wanted = |member: &Member| member.run == run && member.leaving.is_none();
    let allowed = state.deleting || !state.members.get(&id).is_some_and(wanted);
    if allowed {
        return Ok(());
    }
    Err(format!("R4: member {id} of '{}' is killed, and the stored state does not say why", state.name()))
}

/// A member's volume is destroyed.
pub(crate) fn on_release(stored: Option<&State>, id: MemberId) -> Verdict {
    match stored.filter(|state| state.members.contains_key(&id) || state.kept.contains(&id)) {
        Some(state) => {
            Err(format!("R4: the volume of member {id} of '{}' is destroyed and still needed", state.name()))
        }
        None => Ok(()),
    }
}

/// A member is told what to be.
pub(crate) fn on_directive(stored: Option<&State>, name: &ClusterName, id: MemberId, directive: &Directive) -> Verdict {
    let Some(state) = stored else { return Err(format!("R4: '{name}' has no stored state and gives orders")) };
    let Directive { epoch, order } = directive;
    if state.epoch < *epoch {
        return Err(format!("R4: epoch {epoch} is used while epoch {} is stored", state.epoch));
    }
    if state.epoch > *epoch {
        return Ok(()); // an order of the past, which whoever obeys a later one refuses
    }
    let fine = match order {
        Order::Freeze => true,
        Order::Promote { must_contain, .. } => state.primary == Some(id) && state.floor == *must_contain,
        Order::Follow { primary_id, semi_sync, .. } => {
            let counted = !semi_sync || state.ackers.iter().any(|a| a.member == id) || !state.members.contains_key(&id);
            state.primary == Some(*primary_id) && counted
        }
        Order::StepDown { turn, .. } => state.primary == Some(id) && (state.turn >= *turn && turn % 2 == 1),
        Order::Reopen { turn, must_contain, .. } => {
            state.primary == Some(id) && state.turn >= *turn && turn % 2 == 0 && state.floor == *must_contain
        }
        Order::Detach => state.members.get(&id).is_none_or(|member| member.leaving.is_some()),
    };
    if fine {
        return Ok(());
    }
    Err(format!("R4: member {id} of '{name}' is told {order:?} in epoch {epoch}, which the stored state does not say"))
}

/// Clients are to see something.
pub(crate) fn on_publish(stored: Option<&State>, name: &ClusterName, published: &Published) -> Verdict {
    let Some(state) = stored else { return Err(format!("R4: '{name}' has no stored state and is published")) };
    let decided = state.epoch > published.epoch
        || state.epoch == published.epoch && (published.primary.is_none() || published.primary == state.primary);
    if decided {
        return Ok(());
    }
    Err(format!("R4: {published:?} is published, and the stored state does not say so"))
}

/// Clients are to see nothing any more.
pub(crate) fn on_withdraw(stored: Option<&State>, name: &ClusterName) -> Verdict {
    if stored.is_none_or(|state| state.deleting && state.members.is_empty()) {
        return Ok(());
    }
    Err(format!("R4: '{name}' is withdrawn, and is not stored as deleted"))
}

/// News of a task is confirmed: it will not come again.
pub(crate) fn on_acknowledge(stored: Option<&State>, id: MemberId, run: u32, news: TaskState) -> Verdict {
    let Some(state) = stored.filter(|_| news.is_terminal()) else { return Ok(()) };
    if state.members.get(&id).is_some_and(|member| member.run == run && !member.resting) {
        return Err(format!("R4: the end of member {id} of '{}' is confirmed before it is stored", state.name()));
    }
    Ok(())
}

/// An executor begins an operation.
pub(crate) fn on_operation(stored: &ExecutorState, operation: &Operation) -> Verdict {
    let Some(epoch) = operation.epoch() else { return Ok(()) };
    let obeyed = stored.obeyed.is_some_and(|rank| {
        rank.epoch > epoch
            || rank.epoch == epoch && (rank.stage >= Stage::Decided || matches!(operation, Operation::Freeze { .. }))
    });
    // One that ends closes its server of its own accord, in the rank in which it opened.
    let turned = !matches!(operation, Operation::StepDown { rank, .. } if rank.stage > Stage::Decided)
        || stored.obeyed.is_some_and(|rank| rank.epoch > epoch || rank.stage > Stage::Decided);
    let promoted = !matches!(operation, Operation::Promote { .. }) || stored.promoted >= Some(epoch);
    if obeyed && turned && promoted {
        return Ok(());
    }
    Err(format!("R4: an executor obeys epoch {epoch} ({}) before that is on its disk", operation.name()))
}
