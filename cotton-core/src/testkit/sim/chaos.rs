//! What breaks, how it is mended, and whether everything is well in the end.

use super::plan::{Fault, Victim};
use super::server::Server;
use super::world::{Event, World, trace};
use crate::ClusterStatus;
use crate::ports::mesos::{MesosEvent, TaskState};
use crate::testkit::invariants::healing::{self, Outside};
use crate::testkit::invariants::no_loss::NoLoss;
use crate::testkit::invariants::{Task, Verdict};

/// How long healing may take, in milliseconds.
const HEALING_MS_MAX: u64 = 240_000;
/// How long replicas are given at the very end to receive the last writes.
const SETTLING_MS: u64 = 15_000;
/// A failure younger than this may not have been noticed yet.
const UNNOTICED_MS: u64 = 10_000;

/// Which trouble of which agent ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    agent: usize,
    number: u64,
}

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        trace!(self, "FAULT {fault:?}");
        match fault {
            Fault::ServerCrash(victim) => {
                if let Some(task) = self.victim(victim) {
                    self.fail(task, false);
                    self.end_server(task, false);
                }
            }
            Fault::DoubleCrash => {
                let primary = self.victim(Victim::Primary);
                if let Some(task) = primary {
                    let ends = self.random.chance(400);
                    self.fail(task, ends && !self.is_on_volume(task));
                    if ends {
                        self.crash_executor(task);
                    } else {
                        self.end_server(task, false);
                    }
                    let soon = self.random.below(50);
                    self.after(soon, Event::Fault(Fault::ServerCrash(Victim::Replica)));
                }
            }
            Fault::Isolation(ms) => {
                self.strike(Fault::AgentCut(Victim::Primary, ms));
                self.strike(Fault::ServerHang(Victim::Replica, ms * 2));
            }
            Fault::ServerHang(victim, ms) => {
                if let Some(task) = self.victim(victim) {
                    self.fail(task, false);
                    self.members[task].server.hung = true;
                    let boot = self.members[task].server.boot;
                    self.after(ms, Event::Unhang { task, boot });
                }
            }
            Fault::ExecutorCrash(victim) => {
                if let Some(task) = self.victim(victim).filter(|t| self.members[*t].machine.is_some()) {
                    self.fail(task, !self.is_on_volume(task));
                    self.crash_executor(task);
                }
            }
            Fault::ControlCut(victim, ms) => self.cut(victim, ms, |agent| agent.control = false),
            Fault::AgentCut(victim, ms) => self.cut(victim, ms, |agent| (agent.control, agent.links) = (false, false)),
            Fault::LinkCut(victim, ms) => self.cut(victim, ms, |agent| agent.links = false),
            Fault::Freeze(victim, ms) => self.cut(victim, ms, |agent| agent.frozen = true),
            Fault::AgentDeath(victim, ms) => {
                if let Some(agent) = self.victim(victim).map(|task| self.members[task].agent) {
                    self.take_down(agent, ms);
                }
            }
            Fault::Maintenance(victim, ms) => self.announce_maintenance(victim, ms),
            Fault::AgentRestart(victim, ms) => self.restart_agent(victim, ms),
            Fault::SchedulerCrash(down_ms) => self.crash_scheduler(down_ms),
            Fault::Disconnect(ms) => self.disconnect(ms),
            Fault::Takeover(ms) => {
                self.disconnect(ms);
                self.crash_scheduler(100);
            }
            Fault::DeafTakeover(victim, ms) => {
                self.restart_agent(victim, ms);
                self.crash_scheduler(100);
            }
            Fault::StoreTrouble(ms) => self.store_trouble_until = self.now.after(ms),
            Fault::Silence(ms) => self.silent_until = self.now.after(ms),
            Fault::Drain(victim, grace_ms) => {
                if let Some(task) = self.victim(victim).filter(|t| self.members[*t].machine.is_some()) {
                    self.fail(task, true);
                    let id = self.members[task].task.clone();
                    self.feed_executor(task, crate::executor::Input::Kill { task: id, grace_ms });
                }
            }
            Fault::Purge(victim) => {
                if let Some(data) = self.victim(victim).and_then(|t| self.members[t].server.data.as_mut()) {
                    data.purged = data.committed;
                }
            }
            Fault::CleanStop(_)
            | Fault::SlowApplier(..)
            | Fault::BlockedApplier(..)
            | Fault::BrokenApplier
            | Fault::Errant => self.strike_server(fault),
            Fault::Stranger(ms) => self.let_in_a_stranger(ms),
            Fault::BadAgent(victim, ms) => {
                if let Some(agent) = self.victim(victim).map(|task| self.members[task].agent) {
                    self.fail_all(agent, false);
                    self.agents[agent].bad_until = self.now.after(ms);
                }
            }
            Fault::FailingCopies(ms) => self.copies_fail_until = self.now.after(ms),
            Fault::Unreadable(ms) => {
                self.unreadable_until = self.now.after(ms);
                self.crash_scheduler(100);
            }
        }
    }

    /// Only where nobody else acknowledges does a stranger matter, and only where what it took is missed.
    fn let_in_a_stranger(&mut self, ms: u64) {
        self.strangers_until = self.now.after(ms);
        self.strike(Fault::LinkCut(Victim::Primary, 2_500));
        let soon = self.random.within(200, 2_500);
        self.after(soon, Event::Fault(Fault::ExecutorCrash(Victim::Primary)));
    }

    /// What happens to a server that goes on, or is stopped with care.
    #[expect(clippy::wildcard_enum_match_arm, reason = "called for a few kinds of faults only")]
    fn strike_server(&mut self, fault: Fault) {
        let victim = match fault {
            Fault::CleanStop(victim) | Fault::SlowApplier(victim, _) | Fault::BlockedApplier(victim, _) => victim,
            _ => Victim::Replica, // who is not to be written to, and applies
        };
        let Some(task) = self.victim(victim) else { return };
        let now = self.now;
        if let Fault::CleanStop(_) | Fault::BrokenApplier = fault {
            self.fail(task, false);
        }
        let server = &mut self.members[task].server;
        match fault {
            Fault::SlowApplier(_, ms) => server.slow_until = now.after(ms),
            Fault::BlockedApplier(_, ms) => server.blocked_until = now.after(ms),
            Fault::BrokenApplier => server.data.iter_mut().for_each(|data| data.broken = true),
            Fault::Errant => self.write_errant(task),
            _ => self.end_server_as(task, true, false),
        }
    }

    /// Somebody who fits.
    pub(super) fn victim(&mut self, victim: Victim) -> Option<Task> {
        let fits = |m: &super::member::Member| match victim {
            Victim::Primary => m.server.up && m.server.writable,
            Victim::Replica => m.server.up && !m.server.writable,
            Victim::Any => true,
        };
        let fitting: Vec<Task> =
            (0..self.members.len()).filter(|t| !self.members[*t].ended && fits(&self.members[*t])).collect();
        self.random.pick(&fitting)
    }

    /// Takes note that a member fails, and whether its data is destroyed.
    pub(super) fn fail(&mut self, task: Task, destroyed: bool) {
        let now = self.now;
        let member = &self.members[task];
        let others = self.stored(&member.spec.cluster).map_or(0, |state| {
            state.members.iter().filter(|(id, m)| **id != member.spec.member && m.joined && m.leaving.is_none()).count()
        });
        if destroyed {
            let held = member.server.held().collect();
            self.last_copy.on_destroyed(now, member.life, held);
        }
        let living = &mut self.lives[self.members[task].life];
        living.failing.insert(task, now);
        if destroyed {
            living.destroyed.insert(task);
            living.bereft |= others == 0;
        }
        if living.failing.len() > 1 {
            living.overwhelmed = true;
            living.bereft |= !living.destroyed.is_empty();
        }
    }

    /// Forgets failures from which a cluster has recovered.
    pub(super) fn notice_health(&mut self) {
        let local = self.local();
        for life in 0..self.lives.len() {
            if self.lives[life].failing.is_empty() || self.life_of(&self.lives[life].name) != Some(life) {
                continue;
            }
            let view = self.scheduler.as_ref().and_then(|s| s.fleet.view(local, &self.lives[life].name));
            if view.is_some_and(|view| view.status == ClusterStatus::Healthy) {
                let now = self.now;
                let living = &mut self.lives[life];
                living.failing.retain(|_, at| now.since(*at) < UNNOTICED_MS);
                let failing = &living.failing;
                living.destroyed.retain(|task| failing.contains_key(task));
            }
        }
        if self.calm {
            self.check_healing();
        }
    }

    fn crash_executor(&mut self, task: Task) {
        self.end_server(task, false);
        self.members[task].machine = None;
        self.update(task, TaskState::Failed, "executor terminated");
        self.end_task(task);
    }

    fn cut(&mut self, victim: Victim, ms: u64, how: impl FnOnce(&mut super::master::Agent)) {
        let Some(agent) = self.victim(victim).map(|t| self.members[t].agent) else { return };
        if !self.agents[agent].alive || self.agents[agent].frozen {
            return;
        }
        self.fail_all(agent, false);
        self.agents[agent].cut += 1;
        how(&mut self.agents[agent]);
        self.watch_agent(agent, ms);
    }

    fn watch_agent(&mut self, agent: usize, ms: u64) {
        let number = self.agents[agent].cut;
        trace!(self, "FAULT agent-{agent} for {ms} ms: {:?}", self.agents[agent].troubles());
        let patience = self.plan.agent_timeout_ms;
        self.after(patience, Event::AgentGivenUp { agent, cut: number });
        self.after(ms, Event::Mend(Cut { agent, number }));
    }

    fn fail_all(&mut self, agent: usize, destroyed: bool) {
        for task in 0..self.members.len() {
            if self.members[task].agent == agent && !self.members[task].ended {
                self.fail(task, destroyed);
            }
        }
    }

    /// A machine ends, with all that runs there.
    pub(super) fn take_down(&mut self, agent: usize, ms: u64) {
        if !self.agents[agent].alive {
            return;
        }
        let destroyed = !self.plan.volumes || self.random.chance(300);
        if destroyed {
            // Those too of members whose task has ended, and who were to come back.
            for task in self.last_users(agent) {
                self.fail(task, true);
            }
            self.destroy_volumes(agent);
        }
        self.fail_all(agent, destroyed);
        self.thaw(agent);
        self.agents[agent].cut += 1;
        for task in 0..self.members.len() {
            if self.members[task].agent == agent && !self.members[task].lost {
                let member = &mut self.members[task];
                (member.lost, member.machine) = (true, None);
                member.updates.clear();
                member.closed = true;
                member.server.down();
                // What its system had not written out is gone as well.
                let kept = self.random.below(1 + 2 * self.members[task].server.relay.len() as u64);
                self.members[task].server.keep_of_relay(usize::try_from(kept).unwrap_or(0));
                self.end_task(task);
            }
        }
        self.agents[agent].alive = false;
        self.watch_agent(agent, ms);
    }

    fn restart_agent(&mut self, victim: Victim, ms: u64) {
        let Some(agent) = self.victim(victim).map(|t| self.members[t].agent) else { return };
        self.agents[agent].cut += 1;
        self.agents[agent].local = false;
        for task in 0..self.members.len() {
            if self.members[task].agent == agent {
                self.feed_executor(task, crate::executor::Input::Disconnected);
            }
        }
        let number = self.agents[agent].cut;
        self.after(ms, Event::Mend(Cut { agent, number }));
    }

    fn disconnect(&mut self, ms: u64) {
        if self.master.connection.take().is_none() {
            return;
        }
        self.master.away_until = self.now.after(ms);
        self.feed(MesosEvent::Disconnected);
        let Some(scheduler) = &self.scheduler else { return };
        let (run, framework) = (scheduler.run, scheduler.fleet.framework().cloned());
        self.after(ms, Event::Subscribe { run, framework });
    }

    pub(super) fn mend(&mut self, cut: Cut) {
        if self.agents[cut.agent].cut == cut.number {
            self.mend_agent(cut.agent);
        }
    }

    fn mend_agent(&mut self, agent: usize) {
        trace!(self, "agent-{agent} is mended: {:?}", self.agents[agent].troubles());
        self.thaw(agent);
        let here = &mut self.agents[agent];
        here.cut += 1;
        let was_away = !here.control || !here.alive || !here.registered;
        let was_alone = !here.local;
        (here.control, here.links, here.local, here.alive) = (true, true, true, true);
        if was_alone {
            for task in 0..self.members.len() {
                if self.members[task].agent == agent && self.members[task].machine.is_some() {
                    self.after(1, Event::ExecutorConnects { task });
                }
            }
        }
        if was_away {
            self.register_agent(agent);
        }
    }

    /// Time goes on for an agent: what waited happens now, in its order.
    fn thaw(&mut self, agent: usize) {
        let here = &mut self.agents[agent];
        if !here.frozen {
            return;
        }
        here.frozen = false;
        here.thawed = Some(self.now);
        for event in std::mem::take(&mut self.agents[agent].waiting) {
            self.after(0, event);
        }
    }

    /// Faults stop, and what was cut is back.
    pub(super) fn heal(&mut self) {
        if !self.operator.is_done() && self.now.0 < self.plan.chaos_ms + 30_000 {
            return self.after(1_000, Event::Heal);
        }
        trace!(self, "HEALING begins");
        self.calm = true;
        self.windows.clear();
        self.healing_since = self.now;
        self.silent_until = self.now;
        self.store_trouble_until = self.now;
        self.copies_fail_until = self.now;
        self.unreadable_until = self.now;
        for agent in 0..self.agents.len() {
            self.agents[agent].bad_until = self.now;
            self.mend_agent(agent);
        }
        for Server { hung, slow_until, blocked_until, .. } in self.members.iter_mut().map(|member| &mut member.server) {
            (*hung, *slow_until, *blocked_until) = (false, self.now, self.now);
        }
        self.start_scheduler();
        if self.master.connection.is_none() && self.now < self.master.away_until {
            self.master.away_until = self.now;
            self.master_returns();
        }
    }

    fn master_returns(&mut self) {
        let Some(scheduler) = &self.scheduler else { return };
        let (run, framework) = (scheduler.run, scheduler.fleet.framework().cloned());
        self.after(10, Event::Subscribe { run, framework });
    }

    fn check_healing(&mut self) {
        if let Some(at) = self.healed {
            let applies = |m: &super::member::Member| m.server.applying && !m.server.relay.is_empty();
            let settled = !self.members.iter().any(applies) || self.now.since(at) >= HEALING_MS_MAX;
            if self.now.since(at) >= SETTLING_MS && settled {
                let verdict = self.check_copies();
                self.hold(verdict);
                self.over = true;
            }
            return;
        }
        let verdict = if self.operator.is_done() { self.check_all() } else { Err("orders are not settled".to_owned()) };
        match verdict {
            Ok(()) => {
                trace!(self, "HEALED");
                self.healed = Some(self.now);
            }
            Err(text) if self.now.since(self.healing_since) >= HEALING_MS_MAX => self.hold(Err(text)),
            Err(_) => {}
        }
    }

    fn check_all(&self) -> Verdict {
        let local = self.local();
        for (name, wanted) in &self.operator.promised {
            let life = self.life_of(name);
            let living = life.map(|life| &self.lives[life]);
            let written = living.and_then(|l| l.last_acknowledged);
            let written = written.is_some_and(|at| at > self.healing_since && self.now.since(at) < 5_000);
            healing::check(&Outside {
                name,
                wanted: *wanted,
                view: self.scheduler.as_ref().and_then(|s| s.fleet.view(local, name)),
                published: self.discovery.get(name),
                tasks: self.running(name).len(),
                stored: self.stored(name).is_some(),
                written,
                excused: living.is_some_and(|l| l.bereft),
            })?;
        }
        self.check_volumes()
    }

    /// Every replica holds all that its primary holds. One that had lost more than its policy allows for, and waited, may be
    /// on its way back only now.
    fn check_copies(&self) -> Verdict {
        for (name, wanted) in &self.operator.promised {
            let life = self.life_of(name);
            let (Some(life), Some(_)) = (life, wanted) else { continue };
            let view = self.scheduler.as_ref().and_then(|s| s.fleet.view(self.local(), name));
            if self.lives[life].bereft && view.as_ref().is_none_or(|view| view.status != ClusterStatus::Healthy) {
                continue;
            }
            let here = |t: &Task| self.members[*t].life == life && !self.members[*t].ended;
            let tasks: Vec<Task> = (0..self.members.len()).filter(here).collect();
            let Some(primary) = tasks.iter().find(|t| self.members[**t].server.writable) else { continue };
            let Some(data) = &self.members[*primary].server.data else { continue };
            let all: Vec<u64> = data.log[..data.committed].iter().map(|t| t.id).collect();
            // One that was just launched, or is being replaced, does not say that it has everything.
            let complete = |t: &&Task| {
                let member = self.members[**t].task.parse().map(|(_, member, _)| member);
                let views = view.iter().flat_map(|view| &view.members);
                member.is_ok_and(|member| views.into_iter().any(|it| it.id == member && it.healthy))
            };
            for task in tasks.iter().filter(|t| *t != primary).filter(complete) {
                let Some(copy) = &self.members[*task].server.data else { continue };
                NoLoss::on_settled(&all, |txn| copy.has_id(txn))
                    .map_err(|text| format!("{text} ({})", self.members[*task].task))?;
            }
        }
        Ok(())
    }
}
