//! What one seed stands for: the size of the world, how fast and how reliable it is, who asks for what, what breaks.

use super::history::Dialect;
use super::random::Random;
use crate::cluster::Timing;
use crate::executor::ExecutorConfig;
use crate::{Durability, Preference};

/// Everything that is drawn before a run begins. What is drawn during a run depends only on this and on the seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) dialect: Dialect,
    /// Whether crash recovery cuts the unacknowledged tail off (MariaDB only).
    pub(super) cut_tail: bool,
    pub(super) agents: usize,
    pub(super) zones: usize,
    pub(super) ports: u16,
    /// Whether what was received and not applied survives a crash of the server's process.
    pub(super) keeps_relay: bool,
    /// Whether members keep their data on volumes.
    pub(super) volumes: bool,
    pub(super) timing: Timing,
    pub(super) executor: ExecutorConfig,
    /// Delays in milliseconds: between processes, between servers, of the store, of an operation, of applying.
    pub(super) network_ms: (u64, u64),
    pub(super) link_ms: (u64, u64),
    pub(super) store_ms: (u64, u64),
    pub(super) operation_ms: (u64, u64),
    pub(super) apply_ms: (u64, u64),
    /// Of a thousand framework messages, so many are lost, or come twice.
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Of a thousand, so many old messages to an executor come again with a new one.
    pub(super) replayed: u64,
    /// Of a thousand, so many fail.
    pub(super) operations_fail: u64,
    pub(super) saves_fail: u64,
    pub(super) publications_fail: u64,
    pub(super) local_saves_fail: u64,
    pub(super) write_every_ms: u64,
    /// After how long the master gives up an agent.
    pub(super) agent_timeout_ms: u64,
    /// Faults end, and the world is mended.
    pub(super) chaos_ms: u64,
    pub(super) faults: Vec<(u64, Fault)>,
    pub(super) triggers: Vec<Trigger>,
    pub(super) orders: Vec<(u64, Order)>,
}

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A mysqld is killed.
    ServerCrash(Victim),
    /// The primary's, at times with its executor, and a replica's within the moment.
    DoubleCrash,
    /// The primary is cut off for so long, and a replica stops answering for twice as long: an election that cannot be
    /// decided when the old primary is back.
    Isolation(u64),
    /// A mysqld stops answering for so long, or until it is killed.
    ServerHang(Victim, u64),
    /// An executor is killed, and its mysqld with it.
    ExecutorCrash(Victim),
    /// An agent's control path is cut for so long.
    ControlCut(Victim, u64),
    /// An agent's control path and its replication links are cut for so long.
    AgentCut(Victim, u64),
    /// An agent's replication links are cut for so long.
    LinkCut(Victim, u64),
    /// All processes of an agent stand still for so long.
    Freeze(Victim, u64),
    /// An agent dies with all its data, and comes back empty after so long.
    AgentDeath(Victim, u64),
    /// Executors lose the connection to their agent for so long.
    AgentRestart(Victim, u64),
    /// The scheduler is killed, and started again after so long.
    SchedulerCrash(u64),
    /// The master is away for so long, and meanwhile another scheduler takes over.
    Takeover(u64),
    /// Executors lose the connection to their agent for so long, and meanwhile another scheduler takes over.
    DeafTakeover(Victim, u64),
    /// The connection between scheduler and master breaks for so long.
    Disconnect(u64),
    /// The store is slow, or fails always, for so long.
    StoreTrouble(u64),
    /// All framework messages are lost for so long.
    Silence(u64),
    /// The binary logs of a member lose their beginning.
    Purge(Victim),
    /// An agent is drained: it kills a task, and grants that so long.
    Drain(Victim, u64),
    /// An agent is to be taken down for so long, once it can be done without.
    Maintenance(Victim, u64),
    /// A server is stopped cleanly by somebody else.
    CleanStop(Victim),
    /// A member applies slowly for so long.
    SlowApplier(Victim, u64),
    /// Clients hold a member's applier back for so long, or until a failover ends them.
    BlockedApplier(Victim, u64),
    /// A replica can apply nothing any more, until its data is replaced.
    BrokenApplier,
    /// Somebody writes on a replica.
    Errant,
    /// For so long, a stranger reads the binary logs of all primaries, and says that it has received everything; meanwhile a
    /// primary's links are cut, and it is lost.
    Stranger(u64),
    /// Nothing can be started on an agent for so long: its disk is full, or what its executors need is not there.
    BadAgent(Victim, u64),
    /// All copies fail for so long.
    FailingCopies(u64),
    /// The scheduler is killed, and cannot read its records for so long.
    Unreadable(u64),
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Primary,
    Replica,
    Any,
}

/// A fault that comes at the worst time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trigger {
    pub(super) when: Moment,
    /// Of a thousand such moments.
    pub(super) permille: u64,
    pub(super) fault: Fault,
}

/// Something that the scheduler says has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Launching,
    Lost,
    Frozen,
    Elected,
    Promoted,
    Leaving,
    Scaled,
    Deleting,
    Joined,
    SwitchingOver,
    SwitchoverFailed,
}

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Create {
        cluster: usize,
        size: u32,
        durability: Durability,
        preference: Preference,
    },
    Scale {
        cluster: usize,
        size: u32,
    },
    /// To hand over, to one of the first members or to whoever suits.
    Switchover {
        cluster: usize,
        to: Option<u64>,
    },
    Delete {
        cluster: usize,
    },
}

const MOMENTS: [Moment; 12] = [
    Moment::Launching,
    Moment::Lost,
    Moment::Frozen,
    Moment::Elected,
    Moment::Promoted,
    Moment::Leaving,
    Moment::Scaled,
    Moment::Deleting,
    Moment::Joined,
    Moment::SwitchingOver,
    Moment::SwitchingOver,
    Moment::SwitchoverFailed,
];

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(31).wrapping_add(7));
        let r = &mut random;
        let dialect = if r.chance(500) { Dialect::MySql } else { Dialect::MariaDb };
        let rough = r.below(4); // how bad the world is in general
        let permille = |r: &mut Random, most: u64| if r.chance(300 + 150 * rough) { r.below(most) } else { 0 };
        let chaos_ms = r.within(20_000, 90_000);
        let clusters = usize::try_from(r.pick(&[1, 1, 1, 2, 2, 3]).unwrap_or(1)).unwrap_or(1);
        let slow = r.chance(100 * rough);
        let agents = usize::try_from(r.within(5, 9)).unwrap_or(5);
        let ports_min = if agents == 6 { 5 } else { 3 };
        let scale = |range: (u64, u64)| if slow { (range.0, range.1 * 10) } else { range };
        Self {
            dialect,
            cut_tail: dialect == Dialect::MariaDb && r.chance(800),
            agents,
            zones: usize::try_from(r.within(1, 3)).unwrap_or(1),
            // Volumes that are kept hold their ports, too, and the largest clusters need every one of five agents, and
            // all but one of six.
            ports: u16::try_from(r.within(if agents == 5 { 8 } else { 3 }, 10)).unwrap_or(8).max(ports_min),
            keeps_relay: seed % 4 < 2,
            volumes: seed % 2 == 1,
            timing: Timing {
                election_ms: 20_000,
                launch_ms: 60_000,
                return_ms: 30_000,
                failovers_max: 1, // more in so short a time are rare
                failover_cooldown_ms: 60_000,
                ..Timing::default()
            },
            executor: ExecutorConfig::default(),
            network_ms: scale(r.pick(&[(1, 3), (1, 20), (1, 100)]).unwrap_or((1, 3))),
            link_ms: scale(r.pick(&[(1, 2), (1, 10), (1, 60)]).unwrap_or((1, 2))),
            store_ms: scale(r.pick(&[(1, 5), (1, 50), (5, 300)]).unwrap_or((1, 5))),
            operation_ms: scale(r.pick(&[(1, 10), (5, 100), (10, 800)]).unwrap_or((1, 10))),
            apply_ms: scale(r.pick(&[(1, 5), (1, 100), (10, 900), (200, 5_000)]).unwrap_or((1, 5))),
            lost: permille(r, 300),
            doubled: permille(r, 200),
            replayed: permille(r, 60),
            operations_fail: permille(r, 200),
            saves_fail: permille(r, 200),
            publications_fail: permille(r, 300),
            local_saves_fail: permille(r, 100),
            write_every_ms: r.within(100, 600),
            agent_timeout_ms: r.within(3_000, 40_000),
            chaos_ms,
            faults: faults(r, rough, chaos_ms),
            triggers: triggers(r, rough),
            orders: orders(r, clusters, chaos_ms),
        }
    }
}

/// Kinds of faults that are drawn, see [`fault`].
const KINDS: u64 = 36;

/// Each seed has a few kinds of faults only: where everything breaks all the time, nothing deep is ever reached.
fn faults(r: &mut Random, rough: u64, chaos_ms: u64) -> Vec<(u64, Fault)> {
    let kinds: Vec<u64> = (0..r.within(1, 4)).map(|_| r.below(KINDS)).collect();
    let count = if rough == 0 { r.below(4) } else { r.below(6 * rough) };
    let mut faults: Vec<(u64, Fault)> =
        (0..count).map(|_| (r.within(3_000, chaos_ms), fault(r, r.clone().pick(&kinds).unwrap_or(0)))).collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn fault(r: &mut Random, kind: u64) -> Fault {
    let _ = r.next();
    let victim = r.pick(&[Victim::Primary, Victim::Primary, Victim::Replica, Victim::Any]).unwrap_or(Victim::Any);
    let longest = r.pick(&[500, 5_000, 15_000, 60_000]).unwrap_or(500);
    let long = r.within(50, longest);
    match kind {
        0 | 1 => Fault::ServerCrash(victim),
        2 => Fault::DoubleCrash,
        3 => Fault::ServerHang(victim, long),
        4 => Fault::ExecutorCrash(victim),
        5 => Fault::ControlCut(victim, long),
        6 => Fault::AgentCut(victim, long),
        7 => Fault::LinkCut(victim, long),
        8 => Fault::Freeze(victim, long),
        9 => Fault::AgentDeath(victim, long),
        10 => Fault::AgentRestart(victim, long.min(10_000)),
        11 => Fault::SchedulerCrash(long.clamp(400, 20_000)),
        12 => Fault::Disconnect(long.min(20_000)),
        15 | 16 => Fault::Isolation(r.within(6_000, 12_000)),
        13 => r.pick(&[Fault::StoreTrouble(long), Fault::Silence(long)]).unwrap_or(Fault::StoreTrouble(long)),
        20 => Fault::Takeover(long.min(30_000)),
        21 => Fault::DeafTakeover(victim, long.min(15_000)),
        18 | 19 => Fault::Maintenance(victim, long),
        17 => Fault::Drain(victim, r.within(2_000, 30_000)),
        22 => Fault::CleanStop(Victim::Replica),
        23 | 24 => Fault::SlowApplier(victim, long.max(5_000)),
        25 | 26 => Fault::BlockedApplier(victim, long.max(5_000)),
        27 => Fault::BrokenApplier,
        28 | 29 => Fault::Errant,
        30 => Fault::Stranger(long.max(5_000)),
        31 | 32 => Fault::BadAgent(victim, long.max(2_000)),
        33 => Fault::FailingCopies(long.max(2_000)),
        34 => Fault::Unreadable(long.clamp(400, 40_000)),
        _ => Fault::Purge(victim),
    }
}

fn triggers(r: &mut Random, rough: u64) -> Vec<Trigger> {
    let count = r.below(1 + rough);
    let trigger = |r: &mut Random| {
        let when = r.pick(&MOMENTS).unwrap_or(Moment::Lost);
        let kind = r.pick(&[0, 0, 2, 4, 5, 6, 7, 9, 11, 11, 11, 12, 15, 17, 22, 23, 25, 28, 31]).unwrap_or(11);
        Trigger { when, permille: r.within(100, 600), fault: fault(r, kind) }
    };
    (0..count).map(|_| trigger(r)).collect()
}

fn orders(r: &mut Random, clusters: usize, chaos_ms: u64) -> Vec<(u64, Order)> {
    let mut orders = Vec::new();
    for cluster in 0..clusters {
        let create = |r: &mut Random| {
            let size = r.pick(&[1, 2, 3, 3, 3, 3, 4, 5]).unwrap_or(3);
            let durability = if r.chance(850) {
                Durability::for_size(size)
            } else {
                r.pick(&[Durability::SemiSync, Durability::Async]).unwrap_or(Durability::Async)
            };
            let preference = if r.chance(880) { Preference::Consistency } else { Preference::Availability };
            Order::Create { cluster, size, durability, preference }
        };
        orders.push((r.below(3_000), create(r)));
        for _ in 0..r.pick(&[0, 0, 0, 1, 2, 3]).unwrap_or(0) {
            let at = r.within(5_000, chaos_ms);
            match r.below(4) {
                0 => {
                    orders.push((at, Order::Delete { cluster }));
                    if r.chance(700) {
                        orders.push((at + r.below(8_000), create(r)));
                    }
                }
                _ => orders.push((at, Order::Scale { cluster, size: u32::try_from(r.within(1, 5)).unwrap_or(1) })),
            }
        }
        for _ in 0..r.pick(&[0, 0, 1, 2, 4]).unwrap_or(0) {
            let to = r.chance(300).then(|| r.below(4));
            orders.push((r.within(5_000, chaos_ms), Order::Switchover { cluster, to }));
        }
    }
    orders.sort_by_key(|(at, _)| *at);
    orders
}
