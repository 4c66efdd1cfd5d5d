//! Links between servers, and the clients that write to them.

use super::Mutation;
use super::history::{Data, Txn};
use super::server::Dump;
use super::world::{Event, World, trace};
use crate::Durability;
use crate::testkit::invariants::{Life, Task};

/// Ticks, of a second each, after which a silent connection is given up by either end.
const SILENT_TICKS: u32 = 4;
/// Sessions of clients that wait at the same time, and how long a client waits before it takes another session.
const SESSIONS_MAX: usize = 6;
const PATIENCE_MS: u64 = 5_000;
const CONNECT_RETRY_MS: u64 = 1_000;

impl World {
    /// Whether the servers of two members reach each other.
    pub(super) fn path(&self, a: Task, b: Task) -> bool {
        let (a, b) = (self.members[a].agent, self.members[b].agent);
        let fine = |i: usize| self.agents[i].links && self.agents[i].alive;
        a == b && self.agents[a].alive || fine(a) && fine(b)
    }

    pub(super) fn connect(&mut self, task: Task, link: u64) {
        let member = &self.members[task];
        if member.link != link || !member.server.up {
            return;
        }
        let Some(wanted) = member.server.link.clone().filter(|l| l.receiving && l.connection.is_none()) else { return };
        let source = if member.server.hung { None } else { self.listening(task, &wanted.source) };
        let Some(source) = source.filter(|s| !self.agents[self.members[*s].agent].frozen) else {
            return self.after(CONNECT_RETRY_MS, Event::Connect { task, link });
        };
        match self.members[source].server.backlog(&self.members[task].server) {
            Err(error) => {
                trace!(self, "{}: replication stops: {error}", self.members[task].task);
                if let Some(link) = &mut self.members[task].server.link {
                    link.receiving = false;
                    link.error = Some(error.to_owned());
                }
            }
            Ok(txns) => {
                let connection = self.number();
                let place = self.members[source].server.data.as_ref().map_or(0, |d| d.log.len());
                trace!(self, "{}: connected to {}", self.members[task].task, self.members[source].task);
                let dump = Dump { replica: task, semi_sync: wanted.semi_sync, last: self.now, silent: 0 };
                self.members[source].server.dumps.insert(connection, dump);
                if let Some(link) = &mut self.members[task].server.link {
                    link.connection = Some((connection, source));
                    link.silent = 0;
                    link.error = None;
                }
                if !txns.is_empty() {
                    self.send_txns(source, connection, txns, place - 1);
                }
            }
        }
    }

    /// Sends what was just added to the log of a server to all that replicate from it.
    pub(super) fn ship(&mut self, task: Task, added: &[Txn]) {
        let Some(len) = self.members[task].server.data.as_ref().map(|d| d.log.len()) else { return };
        if added.is_empty() {
            return;
        }
        let connections: Vec<u64> = self.members[task].server.dumps.keys().copied().collect();
        for connection in connections {
            self.send_txns(task, connection, added.to_vec(), len - 1);
        }
    }

    fn send_txns(&mut self, source: Task, connection: u64, txns: Vec<Txn>, place: usize) {
        let delay = self.delay(self.plan.link_ms);
        let now = self.now;
        let Some(dump) = self.members[source].server.dumps.get_mut(&connection) else { return };
        dump.last = dump.last.max(now.after(delay));
        let (replica, at) = (dump.replica, dump.last);
        self.at(at, Event::Receive { task: replica, connection, txns, place });
    }

    pub(super) fn receive(&mut self, task: Task, connection: u64, txns: &[Txn], place: usize) {
        let Some(link) = self.members[task].server.link.as_ref().filter(|l| l.receiving) else { return };
        let Some((_, source)) = link.connection.filter(|(c, _)| *c == connection) else { return };
        let semi_sync = link.semi_sync;
        if !self.path(task, source) || self.members[task].server.hung {
            // Lost on the way: the stream is broken, and both ends find out in time.
            let delay = self.random.within(500, 4_000);
            if let Some(link) = &mut self.members[task].server.link {
                link.deaf = true;
            }
            self.after(delay, Event::LinkLost { task, connection });
            return self.after(delay, Event::DumpLost { task: source, connection });
        }
        if link.deaf {
            return;
        }
        self.members[task].server.relay.extend(txns);
        if semi_sync {
            let delay = self.delay(self.plan.link_ms);
            self.after(delay, Event::Acknowledge { task: source, connection, place });
        }
        self.apply_soon(task);
    }

    fn apply_soon(&mut self, task: Task) {
        let server = &mut self.members[task].server;
        if server.applying || server.relay.is_empty() {
            return;
        }
        server.applying = true;
        let boot = server.boot;
        let delay = self.apply_ms(task);
        self.after(delay, Event::Apply { task, boot });
    }

    /// How long a member takes to apply its next transaction.
    pub(super) fn apply_ms(&mut self, task: Task) -> u64 {
        if self.calm {
            return 1;
        }
        let slow = self.now < self.members[task].server.slow_until;
        let usual = self.delay(self.plan.apply_ms).max(1);
        if slow { usual.max(self.random.within(500, 3_000)) } else { usual }
    }

    pub(super) fn apply(&mut self, task: Task, boot: u64) {
        let server = &mut self.members[task].server;
        if !server.up || server.boot != boot {
            return;
        }
        server.applying = false;
        if !server.hung && self.now >= server.blocked_until {
            let applied = server.apply();
            self.ship(task, applied.as_slice());
        }
        self.apply_soon(task);
    }

    /// A replica says that it has received everything up to a place in the log.
    pub(super) fn acknowledge(&mut self, task: Task, connection: u64, place: usize) {
        let server = &self.members[task].server;
        let Some(dump) = server.dumps.get(&connection) else { return };
        if server.hung || !self.path(task, dump.replica) {
            return self.after(200, Event::Acknowledge { task, connection, place }); // late
        }
        if !dump.semi_sync || server.acks == 0 {
            return;
        }
        let done = self.members[task].server.release(place);
        for txn in done {
            self.acknowledged(task, txn);
        }
    }

    pub(super) fn link_lost(&mut self, task: Task, connection: u64) {
        let member = &mut self.members[task];
        let number = member.link;
        let Some(link) = &mut member.server.link else { return };
        if link.connection.is_some_and(|(c, _)| c == connection) {
            link.connection = None;
            link.deaf = false;
            let delay = self.delay(self.plan.link_ms);
            self.after(delay, Event::Connect { task, link: number });
        }
    }

    pub(super) fn dump_lost(&mut self, task: Task, connection: u64) {
        self.members[task].server.dumps.remove(&connection);
    }

    pub(super) fn unhang(&mut self, task: Task, boot: u64) {
        let server = &mut self.members[task].server;
        if server.up && server.boot == boot {
            server.hung = false;
        }
    }

    /// Every second: connections over which nothing comes are given up.
    pub(super) fn tick(&mut self) {
        self.after(1_000, Event::Tick);
        for task in 0..self.members.len() {
            if !self.members[task].server.answers() || self.agents[self.members[task].agent].frozen {
                continue;
            }
            let upstream = self.members[task].server.link.as_ref().and_then(|link| link.connection);
            if let Some((connection, source)) = upstream {
                let lives = self.hears(task, source) && self.members[source].server.dumps.contains_key(&connection);
                let link = self.members[task].server.link.as_mut().expect("just seen");
                link.silent = if lives { 0 } else { link.silent + 1 };
                if link.silent >= SILENT_TICKS {
                    self.link_lost(task, connection);
                }
            }
            let dumps: Vec<(u64, Task)> =
                self.members[task].server.dumps.iter().map(|(c, d)| (*c, d.replica)).collect();
            for (connection, replica) in dumps {
                let there = self.members[replica].server.link.as_ref().and_then(|l| l.connection);
                let lives = self.hears(task, replica) && there.is_some_and(|(c, _)| c == connection);
                let Some(dump) = self.members[task].server.dumps.get_mut(&connection) else { continue };
                dump.silent = if lives { 0 } else { dump.silent + 1 };
                if dump.silent >= SILENT_TICKS {
                    self.dump_lost(task, connection);
                }
            }
        }
        self.notice_health();
        self.judge_views();
    }

    fn hears(&self, task: Task, other: Task) -> bool {
        let frozen = self.agents[self.members[other].agent].frozen;
        self.path(task, other) && self.members[other].server.answers() && !frozen
    }

    // Clients.

    /// A client of a cluster wants to write: mostly to what is published, at times to where it once wrote.
    pub(super) fn write(&mut self, life: Life) {
        let pause = self.random.within(self.plan.write_every_ms / 4, self.plan.write_every_ms * 2);
        if self.lives[life].over || self.healed.is_some() {
            return;
        }
        self.after(pause, Event::Write { life });
        let living = &self.lives[life];
        let shown = self.discovery.get(&living.name);
        let published = shown.and_then(|p| p.primary.and_then(|id| p.members.get(&id))).cloned();
        let stubborn = self.random.chance(200);
        let endpoint = if stubborn { self.random.pick(&self.lives[life].remembered) } else { published };
        let Some(endpoint) = endpoint else { return };
        let there = self.members.iter().rposition(|m| m.spec.endpoint == endpoint && m.life == life && m.server.up);
        if let Some(task) = there {
            let delay = self.delay(self.plan.link_ms);
            self.after(delay, Event::WriteAt { task });
        }
    }

    /// Somebody writes on a replica, past its being read-only.
    pub(super) fn write_errant(&mut self, task: Task) {
        let id = self.number();
        let Some(data) = self.members[task].server.data.as_mut() else { return };
        let txn = data.write(id);
        data.committed = data.log.len();
        trace!(self, "{}: transaction {id} is {:?}, and errant", self.members[task].task, txn.gtid);
        self.ship(task, &[txn]);
        // Where that ends the applier, what nobody else has waits for a person.
        let server = &self.members[task].server;
        let is_ended = |data: &Data| server.relay.front().is_some_and(|next| data.refuses(*next));
        let others = || self.members.iter().filter(|other| !other.ended && other.task != self.members[task].task);
        let has = |id: u64| others().any(|other| other.server.held().any(|held| held == id));
        if server.data.as_ref().is_some_and(is_ended) && server.received().any(|id| !has(id)) {
            let life = self.members[task].life;
            self.lives[life].bereft = true;
        }
    }

    pub(super) fn write_at(&mut self, task: Task) {
        let id = self.number();
        let server = &mut self.members[task].server;
        let patient = server.waiting.iter().filter(|(_, since)| self.now.since(*since) < PATIENCE_MS).count();
        let open = server.answers() && server.writable && patient < SESSIONS_MAX;
        let Some(data) = server.data.as_mut().filter(|_| open) else { return };
        let txn = data.write(id);
        let place = data.log.len() - 1;
        trace!(self, "{}: transaction {id} is {:?}", self.members[task].task, txn.gtid);
        if self.members[task].server.acks == 0 {
            if let Some(data) = &mut self.members[task].server.data {
                data.committed = data.log.len();
            }
            self.acknowledged(task, txn);
        } else {
            let since = self.now;
            self.members[task].server.waiting.push_back((place, since));
        }
        self.ship(task, &[txn]);
        if self.mutation == Some(Mutation::StrangersAcknowledge) && self.now < self.strangers_until {
            let done = self.members[task].server.release(place);
            for txn in done {
                self.acknowledged(task, txn);
            }
        }
    }

    /// A client learns that its transaction is done.
    pub(super) fn acknowledged(&mut self, task: Task, txn: Txn) {
        let member = &self.members[task];
        let (life, epoch) = (member.life, member.server.epoch);
        trace!(self, "{}: transaction {} is acknowledged in epoch {epoch}", self.members[task].task, txn.id);
        let has = |t: Task| self.members[t].server.data.as_ref().is_none_or(|d| d.has_id(txn.id));
        let verdict = self.one_writer.on_acknowledged(life, epoch, task, txn.id, has);
        let semi_sync = self.lives[life].durability == Durability::SemiSync;
        if semi_sync || !self.stood_still(task) {
            self.hold(verdict);
        }
        if semi_sync {
            self.no_loss.on_acknowledged(life, txn.id);
        }
        // One that another has replaced, unheard, is not where anybody's commits are looked for.
        let replaced = self.one_writer.latest(life).is_some_and(|(latest, _)| latest > epoch);
        if semi_sync || !(replaced || self.stood_still(task)) {
            self.last_copy.on_acknowledged(life, txn.id);
        }
        self.lives[life].last_acknowledged = Some(self.now);
    }

    /// Whether a member's machine stood still until a moment ago.
    fn stood_still(&self, task: Task) -> bool {
        let thawed = self.agents[self.members[task].agent].thawed;
        thawed.is_some_and(|at| self.now.since(at) < 2_000)
    }
}
