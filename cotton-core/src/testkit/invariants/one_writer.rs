//! R1: two members never accept writes in the same or overlapping epochs.
//!
//! To accept is to acknowledge: what a client was not told done may be anywhere. Two things are held against the
//! world: an epoch has one member that opens in it, ever; and once a member has opened in an epoch, nothing is
//! acknowledged under an earlier one that this member does not have. (An acknowledgement may be late: a replica
//! received the commit, was frozen and chosen, and only then its answer arrives at the old primary. That commit is in
//! the new primary's data, and nobody can tell the order. It is not a second writer.)
//!
//! One excuse exists: an asynchronous primary all of whose processes stood still past its lease, and who may answer
//! what waited in its sockets before its executor looks at a clock. No software on that machine could do better.

use super::{Life, Task, Verdict};
use crate::Epoch;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct OneWriter {
    opened: BTreeMap<(Life, Epoch), Task>,
}

impl OneWriter {
    /// A member opened for writes.
    pub(crate) fn on_opened(&mut self, life: Life, epoch: Epoch, task: Task) -> Verdict {
        match *self.opened.entry((life, epoch)).or_insert(task) {
            first if first == task => Ok(()),
            first => Err(format!("R1: tasks {first} and {task} were both opened in epoch {epoch}")),
        }
    }

    /// The latest epoch in which anybody opened, and who.
    pub(crate) fn latest(&self, life: Life) -> Option<(Epoch, Task)> {
        let of_life = self.opened.range((life, Epoch(0))..=(life, Epoch(u64::MAX)));
        of_life.last().map(|((_, epoch), task)| (*epoch, *task))
    }

    /// A member acknowledged a transaction under this epoch; `known` tells whether the latest primary has it.
    pub(crate) fn on_acknowledged(
        &self,
        life: Life,
        epoch: Epoch,
        task: Task,
        txn: u64,
        known: impl FnOnce(Task) -> bool,
    ) -> Verdict {
        match self.latest(life) {
            Some((latest, primary)) if latest > epoch && !known(primary) => Err(format!(
                "R1: task {task} acknowledged transaction {txn} under epoch {epoch}, after task {primary} had opened in \
                 epoch {latest} without it"
            )),
            _ => Ok(()),
        }
    }
}
