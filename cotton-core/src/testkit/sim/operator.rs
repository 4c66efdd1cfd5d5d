//! Users: they create, scale and delete, ask again when the scheduler dies before it has answered, and remember what
//! they were promised.

use super::master::SIZE;
use super::plan::{Order, Plan};
use super::world::{Event, Living, World, trace};
use crate::SpecError;
use crate::{ClusterName, ClusterSpec, CommandError, Durability, MemberId, Preference, Revision, Sealed, Secrets};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// All users together.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// Orders that are not settled, by cluster: each waits for the one before.
    waiting: BTreeMap<usize, VecDeque<usize>>,
    /// The life that a creation stands for.
    lives: BTreeMap<usize, usize>,
    /// What was promised: the size, or that there is nothing.
    pub(super) promised: BTreeMap<ClusterName, Option<u32>>,
}

impl Operator {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut this = Self::default();
        for (index, (_, order)) in plan.orders.iter().enumerate() {
            this.waiting.entry(cluster_of(order)).or_default().push_back(index);
        }
        this
    }

    pub(super) fn is_done(&self) -> bool {
        self.waiting.values().all(VecDeque::is_empty)
    }
}

const fn cluster_of(order: &Order) -> usize {
    match order {
        Order::Create { cluster, .. }
        | Order::Scale { cluster, .. }
        | Order::Switchover { cluster, .. }
        | Order::Delete { cluster } => *cluster,
    }
}

impl World {
    pub(super) fn order(&mut self, index: usize) {
        let order = self.plan.orders[index].1.clone();
        let cluster = cluster_of(&order);
        let name: ClusterName = format!("c{cluster}").parse().expect("a valid name");
        let turn = self.operator.waiting.get(&cluster).and_then(VecDeque::front) == Some(&index);
        let Some(run) = self.scheduler.as_ref().map(|s| s.run).filter(|_| turn) else {
            return self.after(200, Event::Order { index });
        };
        let now = self.local();
        let life = match order {
            Order::Create { durability, preference, .. } => self.life_for(index, &name, durability, preference),
            Order::Scale { .. } | Order::Switchover { .. } | Order::Delete { .. } => 0,
        };
        let Some(fleet) = self.fleet() else { return };
        let result = match &order {
            Order::Create { size, durability, preference, .. } => {
                let sealed = || Sealed::new(life.to_string());
                let spec = ClusterSpec {
                    name: name.clone(),
                    size: *size,
                    resources: SIZE,
                    user: "jane".to_owned(),
                    secrets: Secrets { user: sealed(), admin: sealed(), replication: sealed() },
                    durability: *durability,
                    preference: *preference,
                    backup_id: None,
                };
                fleet.create(now, spec)
            }
            Order::Scale { size, .. } => fleet.scale(now, &name, u64::from(*size)),
            Order::Switchover { to, .. } => fleet.switchover(now, &name, to.map(MemberId)),
            Order::Delete { .. } => fleet.delete(now, &name),
        };
        trace!(self, "user: {order:?}: {result:?}");
        match result {
            Ok(()) => {
                let revision = self.fleet().and_then(|f| f.cluster(&name).map(crate::cluster::Cluster::revision));
                let revision = revision.unwrap_or_default();
                self.after(1, Event::Confirm { index, run, revision });
            }
            Err(CommandError::NotConnected | CommandError::Unknown(_)) => self.after(300, Event::Order { index }),
            Err(CommandError::Exists(_)) => {
                let mine = self.life_of(&name) == Some(life);
                let leaving = self.fleet().and_then(|f| f.cluster(&name)).is_some_and(|c| c.state().deleting);
                if mine {
                    self.settle_order(index, true);
                } else if leaving {
                    self.after(500, Event::Order { index });
                } else {
                    self.settle_order(index, false);
                }
            }
            Err(
                CommandError::NotFound(_)
                | CommandError::Deleting(_)
                | CommandError::Switchover(_)
                | CommandError::Invalid(SpecError::NoReplica),
            ) => self.settle_order(index, false),
            Err(error) => self.hold(Err(format!("a fair order is refused: {error}"))),
        }
        self.pump();
    }

    fn life_for(&mut self, index: usize, name: &ClusterName, durability: Durability, preference: Preference) -> usize {
        if let Some(life) = self.operator.lives.get(&index) {
            return *life;
        }
        let life = self.lives.len();
        self.lives.push(Living {
            name: name.clone(),
            durability,
            preference,
            failing: BTreeMap::new(),
            destroyed: BTreeSet::new(),
            overwhelmed: false,
            bereft: false,
            over: false,
            last_acknowledged: None,
            remembered: Vec::new(),
        });
        self.operator.lives.insert(index, life);
        self.after(1_000, Event::Write { life });
        life
    }

    /// The answer comes when the change is durable.
    pub(super) fn confirm(&mut self, index: usize, run: u64, revision: Revision) {
        if !self.is_running(run) {
            return self.after(300, Event::Order { index }); // no answer came: ask again
        }
        let name: ClusterName = format!("c{}", cluster_of(&self.plan.orders[index].1)).parse().expect("a valid name");
        let durable = self.fleet().and_then(|f| f.cluster(&name)).is_none_or(|c| c.persisted() >= revision);
        if durable {
            self.settle_order(index, true);
        } else {
            self.after(20, Event::Confirm { index, run, revision });
        }
    }

    fn settle_order(&mut self, index: usize, promised: bool) {
        let order = self.plan.orders[index].1.clone();
        let cluster = cluster_of(&order);
        let name: ClusterName = format!("c{cluster}").parse().expect("a valid name");
        if let Some(waiting) = self.operator.waiting.get_mut(&cluster) {
            waiting.pop_front();
        }
        match order {
            Order::Create { size, .. } if promised => drop(self.operator.promised.insert(name, Some(size))),
            Order::Scale { size, .. } if promised => drop(self.operator.promised.insert(name, Some(size))),
            Order::Delete { .. } => {
                for living in self.lives.iter_mut().filter(|l| l.name == name) {
                    living.over = true;
                }
                self.operator.promised.insert(name, None);
            }
            Order::Create { .. } | Order::Scale { .. } | Order::Switchover { .. } => {}
        }
    }
}
