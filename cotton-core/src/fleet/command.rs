//! What users ask for, and why it is refused.

use super::{Fleet, Slot};
use crate::account::{Account, AccountChange, AccountError};
use crate::cluster::Cluster;
use crate::cluster::levers::{Lever, LeverError};
use crate::cluster::switchover::SwitchoverError;
use crate::{ClusterName, ClusterSpec, MemberId, Millis, SpecError, TaskId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a user's command was refused; nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Not subscribed to Mesos for the first time yet.
    #[error("service unavailable, try again later")]
    NotConnected,
    /// A cluster of that name exists.
    #[error("cluster '{0}' already exists")]
    Exists(ClusterName),
    /// No such cluster.
    #[error("cluster '{0}' not found")]
    NotFound(ClusterName),
    /// It is being deleted.
    #[error("cluster '{0}' is being deleted")]
    Deleting(ClusterName),
    /// It is paused.
    #[error("cluster '{0}' is paused: resume it first, with 'cotton resume {0}'")]
    Paused(ClusterName),
    /// Its stored state was damaged and kept aside; the name is taken until a person has looked at it.
    #[error("the stored state of cluster '{0}' is damaged and was kept aside: restore or remove it, then restart")]
    Damaged(ClusterName),
    /// Tasks of a cluster of that name run, and there is no record of it.
    #[error("tasks of a cluster '{0}' run that is not known here: adopt or discard them first")]
    Unknown(ClusterName),
    /// Not all tasks of a cluster that is not known have said what they are.
    #[error("tasks of cluster '{cluster}' have not said what they are: {}; try again in a few seconds", list(.tasks))]
    NotIdentified {
        /// Which cluster.
        cluster: ClusterName,
        /// Which tasks.
        tasks: Vec<TaskId>,
    },
    /// The request itself is bad.
    #[error(transparent)]
    Invalid(#[from] SpecError),
    /// The primary cannot hand over.
    #[error(transparent)]
    Switchover(#[from] SwitchoverError),
    /// What a person has decided cannot be done.
    #[error(transparent)]
    Lever(LeverError),
    /// A further account cannot be changed like that.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The change could not be made durable; it may or may not be in force.
    #[error("the change could not be saved: {0}")]
    NotSaved(String),
    /// The scheduler is shutting down.
    #[error("the scheduler is not running")]
    Stopped,
}

fn list(tasks: &[TaskId]) -> String {
    tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Fleet {
    /// Asks for a new cluster.
    ///
    /// # Errors
    /// When not connected yet, the name is taken, or the spec breaks a rule; in this order, as Apache Cotton.
    pub fn create(&mut self, now: Millis, spec: ClusterSpec) -> Result<(), CommandError> {
        if self.state.framework.is_none() {
            return Err(CommandError::NotConnected);
        }
        let name = spec.name.clone();
        if self.damaged.contains(&name) {
            return Err(CommandError::Damaged(name));
        }
        if let Some(slot) = self.slots.get(&name) {
            let deleting = slot.cluster.state().deleting;
            return Err(if deleting { CommandError::Deleting(name) } else { CommandError::Exists(name) });
        }
        if self.has_unknown(&name) {
            return Err(CommandError::Unknown(name));
        }
        let (timing, order, first) = (Arc::clone(&self.config.timing), self.next_order, self.state.first_member);
        let mut cluster = Cluster::create(timing, &self.config.limits, spec, order, first, self.nonce_base(), now)?;
        cluster.vacate(now, self.maintenance.soon().clone());
        self.next_order += 1;
        self.order.insert((order, name.clone()));
        self.slots.insert(name.clone(), Box::new(Slot::new(cluster)));
        self.settle(&name);
        self.ask_for_offers(now);
        Ok(())
    }

    /// Asks for another number of members.
    ///
    /// # Errors
    /// When there is no such cluster, its stored state is damaged, it is being deleted or paused, or the number is out of
    /// bounds.
    pub fn scale(&mut self, now: Millis, name: &ClusterName, size: u64) -> Result<(), CommandError> {
        let limits = self.config.limits.clone();
        let slot = self.acting(name)?;
        slot.cluster.scale(now, &limits, size)?;
        self.settle(name);
        self.ask_for_offers(now);
        Ok(())
    }

    /// Asks the primary of a cluster to hand over to `to`, or to the replica that suits best.
    ///
    /// # Errors
    /// When there is no such cluster, its stored state is damaged, it is being deleted or paused, or the primary cannot hand
    /// over.
    pub fn switchover(&mut self, now: Millis, name: &ClusterName, to: Option<MemberId>) -> Result<(), CommandError> {
        let slot = self.acting(name)?;
        slot.cluster.switchover(now, to)?;
        self.settle(name);
        Ok(())
    }

    /// Does what a person has decided of a cluster.
    ///
    /// # Errors
    /// When there is no such cluster, its stored state is damaged, it is being deleted, or that cannot be done.
    pub fn pull(&mut self, now: Millis, name: &ClusterName, lever: Lever) -> Result<(), CommandError> {
        let missing = self.missing(name);
        let slot = self.slots.get_mut(name).ok_or(missing)?;
        if slot.cluster.state().deleting {
            return Err(CommandError::Deleting(name.clone()));
        }
        slot.cluster.pull(now, lever).map_err(|error| {
            if error == LeverError::Paused { CommandError::Paused(name.clone()) } else { CommandError::Lever(error) }
        })?;
        self.settle(name);
        self.ask_for_offers(now);
        Ok(())
    }

    /// Makes, changes or drops a further account of a cluster.
    ///
    /// # Errors
    /// When there is no such cluster, its stored state is damaged, it is being deleted, or the account cannot be so.
    pub fn change_account(
        &mut self,
        now: Millis,
        name: &ClusterName,
        user: &str,
        change: AccountChange,
    ) -> Result<(), CommandError> {
        let missing = self.missing(name);
        let slot = self.slots.get_mut(name).ok_or(missing)?;
        if slot.cluster.state().deleting {
            return Err(CommandError::Deleting(name.clone()));
        }
        slot.cluster.change_account(now, &self.config.limits, user, change)?;
        self.settle(name);
        Ok(())
    }

    /// The further accounts of a cluster.
    pub fn accounts(&self, name: &ClusterName) -> Option<BTreeMap<String, Account>> {
        let accounts = &self.slots.get(name)?.cluster.state().accounts;
        Some(accounts.iter().filter_map(|(user, account)| Some((user.clone(), account.clone()?))).collect())
    }

    /// Asks to delete a cluster with all its data. Asking again while it is being deleted succeeds.
    ///
    /// # Errors
    /// When there is no such cluster, its stored state is damaged, or it is paused.
    pub fn delete(&mut self, now: Millis, name: &ClusterName) -> Result<(), CommandError> {
        let missing = self.missing(name);
        let slot = self.slots.get_mut(name).ok_or(missing)?;
        if slot.cluster.state().paused {
            return Err(CommandError::Paused(name.clone()));
        }
        slot.cluster.delete(now);
        let next = slot.cluster.state().next_member;
        self.retire_numbers(name, next);
        self.settle(name);
        Ok(())
    }

    /// A cluster for which something is to be done.
    fn acting(&mut self, name: &ClusterName) -> Result<&mut Slot, CommandError> {
        let missing = self.missing(name);
        let slot = self.slots.get_mut(name).ok_or(missing)?;
        if slot.cluster.state().deleting {
            Err(CommandError::Deleting(name.clone()))
        } else if slot.cluster.state().paused {
            Err(CommandError::Paused(name.clone()))
        } else {
            Ok(slot)
        }
    }

    /// Why a cluster is not there.
    fn missing(&self, name: &ClusterName) -> CommandError {
        if self.damaged.contains(name) {
            CommandError::Damaged(name.clone())
        } else {
            CommandError::NotFound(name.clone())
        }
    }
}

#[cfg(feature = "driver")]
impl From<crate::driver::handle::Stopped> for CommandError {
    fn from(_: crate::driver::handle::Stopped) -> Self {
        Self::Stopped
    }
}
