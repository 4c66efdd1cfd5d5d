//! One cluster with what the fleet keeps beside it.

use super::effect::{Checkpoint, Record};
use crate::cluster::Cluster;
use crate::placement::Unplaced;
use crate::ports::mesos::MesosCall;
use crate::{Millis, Revision};
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) cluster: Cluster,
    pub(super) deadline: Option<Millis>,
    /// A record is being saved; the next waits for it.
    pub(super) saving: bool,
    /// The record under way is its removal.
    pub(super) removing: bool,
    pub(super) wanting: bool,
    pub(super) missing: u32,
    /// How many members it had when it was last looked at.
    pub(super) members: usize,
    /// Why its members found no place in the latest round of offers.
    pub(super) refused: Option<Unplaced>,
    /// Why a resting member could not return to its volume when that was last offered.
    pub(super) cannot_return: Option<String>,
    /// News to acknowledge once what followed from them is durable.
    acknowledgements: VecDeque<(Revision, MesosCall)>,
}

impl Slot {
    pub(super) const fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            deadline: None,
            saving: false,
            removing: false,
            wanting: false,
            missing: 0,
            members: 0,
            refused: None,
            cannot_return: None,
            acknowledgements: VecDeque::new(),
        }
    }

    pub(super) fn poll_checkpoint(&mut self) -> Option<Checkpoint> {
        if self.saving {
            return None;
        }
        if self.cluster.is_gone() {
            (self.saving, self.removing) = (true, true);
            let record = Record::Gone(self.cluster.name().clone());
            return Some(Checkpoint { revision: self.cluster.revision(), record });
        }
        let (revision, state) = self.cluster.poll_checkpoint()?;
        let record = Record::Cluster(Box::new(state.clone()));
        self.saving = true;
        Some(Checkpoint { revision, record })
    }

    pub(super) fn acknowledge(&mut self, call: MesosCall) {
        self.acknowledgements.push_back((self.cluster.revision(), call));
    }

    pub(super) fn poll_acknowledgement(&mut self) -> Option<MesosCall> {
        let (revision, _) = self.acknowledgements.front()?;
        if *revision > self.cluster.persisted() {
            return None;
        }
        let (_, call) = self.acknowledgements.pop_front()?;
        if self.acknowledgements.is_empty() {
            self.acknowledgements = VecDeque::new(); // as in `Cluster::poll_effect`
        }
        Some(call)
    }

    pub(super) fn has_work(&self) -> bool {
        self.cluster.has_effect() || !self.acknowledgements.is_empty()
    }

    pub(super) fn acknowledgements(self) -> impl Iterator<Item = MesosCall> {
        self.acknowledgements.into_iter().map(|(_, call)| call)
    }
}
