//! R3: the published primary was promoted in the published epoch, and what clients see never goes back.

use super::{Life, Verdict};
use crate::ports::discovery::Published;
use crate::{Epoch, MemberId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct PublishedPrimary {
    opened: BTreeSet<(Life, Epoch, MemberId)>,
    seen: BTreeMap<Life, Epoch>,
}

impl PublishedPrimary {
    /// A member opened for writes.
    pub(crate) fn on_opened(&mut self, life: Life, epoch: Epoch, member: MemberId) {
        self.opened.insert((life, epoch, member));
    }

    /// Clients see this from now on.
    pub(crate) fn on_published(&mut self, life: Life, published: &Published) -> Verdict {
        let Published { epoch, primary, members } = published;
        let seen = self.seen.entry(life).or_default();
        if *epoch < *seen {
            return Err(format!("R3: epoch {epoch} was published after epoch {seen}"));
        }
        *seen = *epoch;
        let Some(primary) = primary else { return Ok(()) };
        if !self.opened.contains(&(life, *epoch, *primary)) {
            return Err(format!(
                "R3: member {primary} is published as primary of epoch {epoch}, in which it never opened"
            ));
        }
        if !members.contains_key(primary) {
            return Err(format!("R3: primary {primary} is published without its endpoint"));
        }
        Ok(())
    }
}
