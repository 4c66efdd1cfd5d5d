//! One member's executor and server, as small as they can be.

use crate::protocol::{LogPlace, MemberRole, Order, Report, ServerStart, Stage, Trouble};
use crate::{Epoch, GtidSet, MemberId};
use std::collections::{BTreeMap, BTreeSet};

/// Transactions by the member that committed them first: all from 1 to the number.
pub(super) type Data = BTreeMap<u64, u64>;

pub(super) fn gtids(data: &Data) -> GtidSet {
    let sets: Vec<String> =
        data.iter().map(|(member, n)| format!("3e11fa47-71ca-11e1-9e33-{member:012}:1-{n}")).collect();
    GtidSet::mysql(&sets.join(","), "").expect("a valid set")
}

pub(super) fn contains(a: &Data, b: &Data) -> bool {
    b.iter().all(|(member, n)| a.get(member).is_some_and(|m| m >= n))
}

pub(super) fn merge(a: &mut Data, b: &Data) {
    for (member, n) in b {
        let own = a.entry(*member).or_insert(0);
        *own = (*own).max(*n);
    }
}

/// One member's executor and server.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault or a fact of its own")]
pub(super) struct Toy {
    pub(super) incarnation: u64,
    pub(super) boot: u64,
    pub(super) seq: u64,
    pub(super) echo: u64,
    pub(super) rank: Option<(Epoch, Stage)>,
    pub(super) order: Option<Order>,
    /// The boot on which the present rank was first taken.
    pub(super) taken_on: u64,
    pub(super) role: MemberRole,
    /// Received or executed.
    pub(super) data: Data,
    /// What survives a crash of the server.
    pub(super) applied: Data,
    pub(super) trouble: Option<Trouble>,
    /// Sessions that wait for an acknowledgement, while it is primary.
    pub(super) waiting: u32,
    /// Starts that ended without ever having replicated.
    pub(super) unattached: BTreeSet<u64>,
    /// Whether its present start is sure never to have been open.
    pub(super) never_opened: bool,
    /// The oldest start whose data is all there, as it tells.
    pub(super) kept_since: Option<ServerStart>,
    /// What marks its own transactions.
    pub(super) origin: String,
    /// Whether its agent wants it to end.
    pub(super) asked_to_leave: bool,
    /// Whether it says that it waits to be told of accounts.
    pub(super) accounts_wanted: bool,
    pub(super) accounts_revision: u64,
    /// What it has received and not applied.
    pub(super) unapplied: u64,
    /// Whether it does not come to an end with applying.
    pub(super) slow: bool,
    /// What its server reports to be behind.
    pub(super) lag_s: Option<u64>,
    /// How far it has read the primary's binary log.
    pub(super) read_to: Option<LogPlace>,
    /// Whether its commits wait for room on its disk.
    pub(super) waits_for_room: bool,
    /// Whether its server stands still: connected, and receiving nothing.
    pub(super) still: bool,
    /// Whether it does not manage to step down.
    pub(super) stays_open: bool,
    /// How many copies to it have failed.
    pub(super) failed_copies: u32,
    /// Whether scheduler and executor hear each other.
    pub(super) reachable: bool,
    /// Whether other servers reach this one.
    pub(super) linked: bool,
}

impl Toy {
    pub(super) fn new() -> Self {
        Self {
            incarnation: 1,
            boot: 1,
            seq: 0,
            echo: 0,
            rank: None,
            order: None,
            taken_on: 0,
            role: MemberRole::Idle,
            data: Data::new(),
            applied: Data::new(),
            trouble: None,
            unattached: BTreeSet::new(),
            never_opened: false,
            kept_since: None,
            origin: String::new(),
            waiting: 0,
            asked_to_leave: false,
            accounts_wanted: false,
            accounts_revision: 0,
            unapplied: 0,
            slow: false,
            lag_s: None,
            read_to: None,
            waits_for_room: false,
            still: false,
            stays_open: false,
            failed_copies: 0,
            reachable: true,
            linked: true,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.rank.map(|(epoch, _)| epoch).unwrap_or_default()
    }

    pub(super) fn report(&mut self) -> Report {
        self.seq += 1;
        Report {
            incarnation: self.incarnation,
            seq: self.seq,
            echo: self.echo,
            epoch: self.epoch(),
            stage: self.rank.map(|(_, stage)| stage),
            role: self.role.clone(),
            boot: self.boot,
            unattached: self.unattached.clone(),
            never_opened: self.never_opened,
            kept_since: self.kept_since,
            origin: self.origin.clone(),
            position: gtids(&self.data),
            unapplied: self.unapplied,
            applied: (self.unapplied > 0).then(|| gtids(&self.applied)),
            lag_s: self.lag_s,
            read_to: self.read_to,
            replicas: None,
            waiting: (self.role == MemberRole::Primary).then_some(self.waiting),
            disk_free_bytes: None,
            waits_for_room: self.waits_for_room,
            asked_to_leave: self.asked_to_leave,
            accounts_wanted: self.accounts_wanted,
            accounts_revision: self.accounts_revision,
            server_version: String::new(),
            trouble: self.trouble.clone(),
            failed_copies: self.failed_copies,
            next_copy_ms: None,
        }
    }

    /// The server is gone, with what it had received and not applied.
    pub(super) fn crash(&mut self) {
        self.data = self.applied.clone();
        self.role = MemberRole::Down { reason: "signal 9".to_owned() };
    }

    pub(super) fn restart(&mut self) {
        self.boot += 1;
        self.role = MemberRole::Idle;
        self.trouble = None;
        self.waiting = 0;
        self.waits_for_room = false;
    }

    /// Whether others can replicate from it: also from a primary that has stepped down.
    pub(super) fn serves(&self) -> bool {
        matches!(self.role, MemberRole::Primary | MemberRole::SteppedDown)
    }

    /// Its source, while it may receive.
    pub(super) fn source(&self) -> Option<MemberId> {
        match (&self.role, &self.order) {
            (MemberRole::Following { .. }, Some(Order::Follow { primary_id, .. })) => Some(*primary_id),
            _ => None,
        }
    }
}
