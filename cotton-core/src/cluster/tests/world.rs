//! A toy world around one cluster: executors, servers and a store as small as they can be, under the test's control.

use super::super::state::State;
use super::super::{Cluster, Effect, Input, Placed, Timing};
use super::toy::{Data, Toy, contains, gtids, merge};
use crate::cluster::event::EventKind;
use crate::ports::discovery::Published;
use crate::ports::mesos::TaskState;
use crate::protocol::{Directive, MemberRole, Order, ToExecutor, Trouble};
use crate::{
    ClusterSpec, Durability, Endpoint, Epoch, Limits, MemberId, Millis, Preference, Resources, Revision, Sealed,
    Secrets, VolumeId,
};
use std::collections::{BTreeMap, VecDeque};

pub(super) fn spec(size: u32) -> ClusterSpec {
    let sealed = || Sealed::new("sealed");
    let durability = Durability::for_size(size);
    let preference = match durability {
        Durability::SemiSync => Preference::Consistency,
        Durability::Async => Preference::Availability,
    };
    ClusterSpec {
        name: "c".parse().expect("a valid name"),
        size,
        resources: Resources::DEFAULT,
        user: "app".to_owned(),
        secrets: Secrets { user: sealed(), admin: sealed(), replication: sealed() },
        durability,
        preference,
        backup_id: None,
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) now: Millis,
    pub(super) toys: BTreeMap<MemberId, Toy>,
    /// The record as it is stored, and the one being saved.
    pub(super) durable: Option<State>,
    saving: Option<(Revision, State)>,
    /// Under way to the cluster, and to executors.
    pub(super) up: VecDeque<Input>,
    pub(super) down: VecDeque<(MemberId, ToExecutor)>,
    pub(super) published: Option<Published>,
    pub(super) log: Vec<EventKind>,
    /// Commits that a client was told of.
    pub(super) acknowledged: Data,
    /// Highest epoch in which a server was opened.
    opened: Epoch,
    /// Who was told to be primary, by epoch.
    promoted: BTreeMap<Epoch, MemberId>,
    /// Whether members keep their data on volumes, and what is on those that no task uses.
    pub(super) volumes: bool,
    pub(super) rested: BTreeMap<MemberId, Toy>,
    runs: u64,
    revision: Revision,
    pub(super) gone: bool,
}

impl World {
    pub(super) fn new(spec: ClusterSpec) -> Self {
        let now = Millis(1_000);
        let cluster = Cluster::create(Timing::default(), &Limits::default(), spec, 0, MemberId(0), 1 << 32, now);
        Self {
            cluster: cluster.expect("a valid spec"),
            now,
            toys: BTreeMap::new(),
            durable: None,
            saving: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            published: None,
            log: Vec::new(),
            acknowledged: Data::new(),
            opened: Epoch(0),
            promoted: BTreeMap::new(),
            volumes: false,
            rested: BTreeMap::new(),
            runs: 1,
            revision: Revision(0),
            gone: false,
        }
    }

    /// A cluster that is up and replicating, with one commit in it.
    pub(super) fn running(size: u32) -> Self {
        Self::running_as(spec(size))
    }

    pub(super) fn running_as(spec: ClusterSpec) -> Self {
        let mut world = Self::new(spec);
        world.settle();
        assert!(world.write(), "{:?}", world.cluster.view(world.now));
        world.settle();
        world.check_whole();
        world
    }

    pub(super) fn toy(&mut self, id: u64) -> &mut Toy {
        self.toys.get_mut(&MemberId(id)).expect("a member with a task")
    }

    pub(super) fn primary(&self) -> Option<u64> {
        self.cluster.view(self.now).primary.map(|id| id.0)
    }

    pub(super) fn check_whole(&self) {
        let view = self.cluster.view(self.now);
        assert!(view.reasons.is_empty(), "{view:#?}\n{:#?}", self.log);
        assert!(
            self.cluster.state().staying().count() == view.size as usize && view.members.len() == view.size as usize
        );
        let primary = view.primary.expect("a healthy cluster has one");
        assert!(contains(&self.toys[&primary].data, &self.acknowledged), "acknowledged commits are lost");
    }

    /// Places every member that is wanted, each on an agent of its own.
    pub(super) fn place(&mut self) {
        while self.cluster.wanted().is_some() && !self.gone {
            let id = self.cluster.state().next_member;
            let placed = Placed {
                offer: "o".into(),
                agent: format!("a{id}").as_str().into(),
                endpoint: Endpoint::new(format!("h{id}"), 3306),
                zone: None,
            };
            let cluster = &mut self.cluster;
            let placed =
                if self.volumes { cluster.place_on_volume(self.now, placed) } else { cluster.place(self.now, placed) };
            assert_eq!(placed, id);
        }
    }

    /// Offers the volume of a member; false when that does not want it.
    pub(super) fn offer_volume(&mut self, id: u64) -> bool {
        let volume = VolumeId::of(self.cluster.name(), MemberId(id));
        let Some(member) = self.cluster.returning(&volume) else { return false };
        let (agent, endpoint) = (format!("a{id}").as_str().into(), Endpoint::new(format!("h{id}"), 3306));
        self.cluster.resume(self.now, member, Placed { offer: "o".into(), agent, endpoint, zone: None });
        true
    }

    /// A member's task ends, and its volume stays.
    pub(super) fn end_task(&mut self, id: u64) {
        if let Some(mut toy) = self.toys.remove(&MemberId(id)) {
            toy.crash();
            toy.restart();
            self.rested.insert(MemberId(id), toy);
        }
        self.up.push_back(status(MemberId(id), TaskState::Failed));
    }

    /// Hands out the next checkpoint to the store, which does not save it yet.
    pub(super) fn begin_saving(&mut self) {
        if self.saving.is_none() {
            self.saving = self.cluster.poll_checkpoint().map(|(revision, state)| (revision, state.clone()));
        }
    }

    /// The store has saved what it was given.
    pub(super) fn end_saving(&mut self) {
        if let Some((revision, state)) = self.saving.take() {
            let json = serde_json::to_string(&state).expect("representable");
            assert_eq!(serde_json::from_str::<State>(&json).expect("readable"), state);
            self.durable = Some(state);
            self.cluster.handle_persisted(self.now, revision);
        }
    }

    pub(super) fn fail_saving(&mut self) {
        if self.saving.take().is_some() {
            self.cluster.retry_checkpoint();
        }
    }

    pub(super) fn persist(&mut self) {
        self.end_saving();
        self.begin_saving();
        self.end_saving();
    }

    /// Takes the effects that are out and checks each; gives them in words, without the log.
    pub(super) fn effects(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while self.effect(&mut words) {}
        words
    }

    /// Takes one effect, if one is out, and adds it in words.
    pub(super) fn effect(&mut self, words: &mut Vec<String>) -> bool {
        let Some(effect) = self.cluster.poll_effect() else { return false };
        assert!(self.cluster.revision() >= self.revision, "revisions grow");
        self.revision = self.cluster.revision();
        let durable = self.durable.as_ref().expect("nothing comes out before the first save");
        if let Some(member) = effect.member() {
            assert!(self.cluster.state().members.contains_key(&member), "{effect:?} is for a member that is gone");
            assert!(durable.members.contains_key(&member), "{effect:?} is for a member that is not durable");
        }
        words.push(match effect {
            Effect::Launch { task, .. } => {
                let toy = self.rested.remove(&task.member).unwrap_or_else(Toy::new);
                self.toys.insert(task.member, toy);
                self.up.push_back(status(task.member, TaskState::Running));
                self.say(task.member);
                format!("launch {}", task.member)
            }
            Effect::Kill { member, .. } => {
                self.kill(member.0);
                format!("kill {member}")
            }
            Effect::Release { member } => {
                assert!(!durable.members.contains_key(&member), "the volume of {member} is still needed");
                format!("release {member}")
            }
            Effect::Send { member, message, .. } => {
                let words = self.check_message(member, &message);
                self.down.push_back((member, message));
                words
            }
            Effect::Publish(published) => {
                if let Some(primary) = published.primary {
                    assert_eq!(self.promoted.get(&published.epoch), Some(&primary), "{published:?} was not promoted");
                }
                let primary = published.primary.map_or("-".to_owned(), |id| id.to_string());
                let members: Vec<String> = published.members.keys().map(ToString::to_string).collect();
                let words = format!("publish {} primary {primary} members {}", published.epoch, members.join(" "));
                self.published = Some(published);
                words.trim_end().to_owned()
            }
            Effect::Withdraw => {
                self.published = None;
                self.up.push_back(Input::Withdrawn);
                "withdraw".to_owned()
            }
            Effect::Log(event) => {
                self.log.push(event.kind);
                return true;
            }
        });
        true
    }

    fn check_message(&mut self, member: MemberId, message: &ToExecutor) -> String {
        let durable = self.durable.as_ref().expect("nothing comes out before the first save");
        let ToExecutor::Directive(Directive { epoch, order }) = message else {
            if *message == ToExecutor::LetGo {
                return format!("let {member} go");
            }
            if let ToExecutor::Accounts { revision, .. } = message {
                assert!(durable.accounts_revision >= *revision, "told before that is durable");
                return format!("tell {member} of accounts {revision}");
            }
            let ToExecutor::Heard { report_now, .. } = message else { unreachable!("the only other message") };
            return format!("{} {member}", if *report_now { "ask" } else { "answer" });
        };
        assert_eq!(durable.epoch, *epoch, "{order:?} leaves under an epoch that is not the durable one");
        match order {
            Order::Freeze => format!("freeze {member} in {epoch}"),
            Order::Detach => format!("detach {member} in {epoch}"),
            Order::StepDown { turn, .. } => {
                assert!(durable.primary == Some(member) && durable.turn == *turn, "steps down before that is durable");
                format!("step down {member} in {epoch}, turn {turn}")
            }
            Order::Reopen { turn, .. } => {
                assert!(durable.primary == Some(member) && durable.turn == *turn, "opens again before that is durable");
                format!("reopen {member} in {epoch}, turn {turn}")
            }
            Order::Promote { .. } => {
                assert_eq!(durable.primary, Some(member), "promoted before that is durable");
                let before = self.promoted.insert(*epoch, member);
                assert!(before.is_none_or(|before| before == member), "two primaries in epoch {epoch}");
                format!("promote {member} in {epoch}")
            }
            Order::Follow { primary_id, semi_sync, .. } => {
                assert_eq!(durable.primary, Some(*primary_id), "told to follow before that is durable");
                let counted = durable.ackers.iter().any(|a| a.member == member);
                assert!(!semi_sync || counted, "member {member} may acknowledge and is not counted");
                format!("follow {member} to {primary_id} in {epoch}")
            }
        }
    }

    /// A message arrives at an executor.
    pub(super) fn obey(&mut self, id: MemberId, message: ToExecutor) {
        let acknowledged = self.acknowledged.clone();
        let Some(toy) = self.toys.get_mut(&id).filter(|toy| toy.reachable) else { return };
        match message {
            ToExecutor::Heard { nonce, report_now, .. } => {
                toy.echo = toy.echo.max(nonce);
                if !report_now {
                    return;
                }
            }
            ToExecutor::Accounts { .. } => return,
            ToExecutor::LetGo => {
                if toy.asked_to_leave {
                    return self.kill(id.0);
                }
            }
            ToExecutor::Directive(directive) => {
                let rank = directive.rank();
                if toy.rank.is_none_or(|known| known < rank) {
                    toy.rank = Some(rank);
                    if !matches!(directive.order, Order::StepDown { .. } | Order::Reopen { .. }) {
                        toy.taken_on = toy.boot;
                    }
                    if toy.role.is_up() {
                        toy.trouble = None;
                    }
                    let is_primary = matches!(
                        directive.order,
                        Order::Promote { .. } | Order::StepDown { .. } | Order::Reopen { .. }
                    );
                    if toy.role == MemberRole::Primary && !is_primary {
                        toy.restart(); // whatever waits for an acknowledgement is never answered
                        toy.taken_on = toy.boot;
                    }
                }
                if toy.rank == Some(rank) {
                    toy.order = Some(directive.order);
                    self.carry_out(id, &acknowledged);
                }
            }
        }
        self.say(id);
    }

    /// Does what it was told last, as far as its server runs.
    pub(super) fn carry_out(&mut self, id: MemberId, acknowledged: &Data) {
        let Some(toy) = self.toys.get(&id).filter(|toy| toy.role.is_up()) else { return };
        let Some(order) = toy.order.clone() else { return };
        let source = match &order {
            Order::Follow { primary_id, .. } => self.toys.get(primary_id).cloned(),
            Order::Freeze | Order::Detach | Order::Promote { .. } | Order::StepDown { .. } | Order::Reopen { .. } => {
                None
            }
        };
        let toy = self.toys.get_mut(&id).expect("looked up above");
        match order {
            Order::Freeze | Order::Detach => toy.role = MemberRole::Frozen,
            Order::StepDown { .. } if toy.taken_on == toy.boot => {
                if toy.role == MemberRole::Primary && (toy.stays_open || toy.waiting > 0) {
                    toy.trouble = Some(Trouble::Failing { detail: "sessions wait".to_owned() });
                } else {
                    toy.role = MemberRole::SteppedDown;
                }
            }
            Order::Promote { must_contain, .. } | Order::Reopen { must_contain, .. } if toy.taken_on == toy.boot => {
                if gtids(&toy.data).contains(&must_contain) && toy.slow {
                    toy.role = MemberRole::Promoting;
                } else if gtids(&toy.data).contains(&must_contain) {
                    assert!(contains(&toy.data, acknowledged), "member {id} opens without {acknowledged:?}: {toy:?}");
                    toy.applied = toy.data.clone();
                    toy.role = MemberRole::Primary;
                    self.opened = self.opened.max(toy.epoch());
                } else {
                    toy.trouble = Some(Trouble::Incomplete { detail: must_contain.to_string() });
                }
            }
            Order::Promote { .. } | Order::StepDown { .. } | Order::Reopen { .. } => {}
            Order::Follow { .. } => {
                let source = source.filter(|source| source.linked && source.serves() && toy.linked);
                let errant = source.as_ref().is_some_and(|source| !contains(&source.data, &toy.data));
                if errant {
                    toy.trouble = Some(Trouble::Errant { gtids: gtids(&toy.data).to_string() });
                    toy.role = MemberRole::Idle;
                } else {
                    toy.trouble = None;
                    toy.role = MemberRole::Following { connected: false };
                }
            }
        }
    }

    /// Servers connect, and data flows from a primary to whoever follows it.
    pub(super) fn replicate(&mut self) {
        let ids: Vec<MemberId> = self.toys.keys().copied().collect();
        for id in ids {
            let toy = &self.toys[&id];
            let Some(source) = toy.source().filter(|_| !toy.still) else {
                continue;
            };
            let source = self.toys.get(&source).filter(|s| s.linked && toy.linked && s.serves());
            let source = source.map(|source| source.data.clone());
            let toy = self.toys.get_mut(&id).expect("looked up above");
            let before = toy.role.clone();
            match source {
                Some(data) if !contains(&data, &toy.data) => {
                    toy.trouble = Some(Trouble::Errant { gtids: gtids(&toy.data).to_string() });
                    toy.role = MemberRole::Idle;
                }
                Some(data) => {
                    merge(&mut toy.data, &data);
                    toy.role = MemberRole::Following { connected: true };
                }
                None => toy.role = MemberRole::Following { connected: false },
            }
            if self.toys[&id].role != before {
                self.say(id);
            }
        }
    }

    /// A client commits on a server that is open; true when it was acknowledged.
    pub(super) fn write(&mut self) -> bool {
        let open = self.toys.iter().rev().find(|(_, toy)| toy.role == MemberRole::Primary);
        let Some(id) = open.map(|(id, _)| *id) else { return false };
        self.write_at(id)
    }

    pub(super) fn write_at(&mut self, id: MemberId) -> bool {
        // Nobody knows where to write before the first publication.
        let known = self.durable.as_ref().is_some_and(|state| state.opened);
        let open = |toy: &&mut Toy| known && toy.role == MemberRole::Primary;
        let Some(primary) = self.toys.get_mut(&id).filter(open) else { return false };
        *primary.data.entry(id.0).or_insert(0) += 1;
        primary.applied = primary.data.clone(); // in its binary log before anybody acknowledges
        let (data, epoch, linked) = (primary.data.clone(), primary.epoch(), primary.linked);
        let acks = self.cluster.state().spec.durability.acks();
        let mut received = 0;
        for toy in self.toys.values_mut().filter(|toy| linked && toy.linked && toy.source() == Some(id)) {
            if toy.epoch() == epoch && toy.role == (MemberRole::Following { connected: true }) && received == 0 {
                merge(&mut toy.data, &data); // one of them is enough
                received += 1;
            }
        }
        let done = received >= acks;
        if done {
            assert_eq!(epoch, self.opened, "member {id} acknowledges a commit, but a later primary is open");
            self.acknowledged = data;
        }
        done
    }

    /// An executor reports, when it is heard.
    pub(super) fn say(&mut self, id: MemberId) {
        let Some(toy) = self.toys.get_mut(&id) else { return };
        let report = Box::new(toy.report());
        if toy.reachable {
            self.up.push_back(Input::Report { member: id, report });
        }
    }

    pub(super) fn say_all(&mut self) {
        let ids: Vec<MemberId> = self.toys.keys().copied().collect();
        for id in ids {
            self.say(id);
        }
    }

    pub(super) fn crash(&mut self, id: u64) {
        self.toy(id).crash();
        self.say(MemberId(id));
    }

    pub(super) fn restart(&mut self, id: u64) {
        if matches!(self.toy(id).role, MemberRole::Down { .. }) {
            self.toy(id).restart();
            let acknowledged = self.acknowledged.clone();
            self.carry_out(MemberId(id), &acknowledged);
            self.say(MemberId(id));
        }
    }

    /// A task ends, with its data.
    pub(super) fn kill(&mut self, id: u64) {
        self.toys.remove(&MemberId(id));
        self.up.push_back(status(MemberId(id), TaskState::Killed));
    }

    pub(super) fn kill_if_there(&mut self, id: u64) {
        if self.toys.contains_key(&MemberId(id)) {
            self.kill(id);
        }
    }

    pub(super) fn crash_primary(&mut self) {
        if let Some(id) = self.cluster.state().primary.filter(|id| self.toys.contains_key(id)) {
            self.crash(id.0);
        }
    }

    pub(super) fn kill_primary(&mut self) {
        if let Some(id) = self.cluster.state().primary {
            self.kill_if_there(id.0);
        }
    }

    /// The scheduler is started again on what is stored.
    pub(super) fn recover(&mut self) {
        let Some(state) = self.durable.clone() else { return };
        self.runs += 1;
        self.revision = Revision(0);
        self.saving = None;
        let mut cluster = Cluster::recover(Timing::default(), state, self.runs << 32, self.now);
        cluster.handle(self.now, Input::Connected);
        self.cluster = cluster;
        self.published = None;
        self.reconcile_tasks();
    }

    /// Mesos answers an explicit reconciliation.
    pub(super) fn reconcile_tasks(&mut self) {
        let ids: Vec<MemberId> = self.cluster.state().members.keys().copied().collect();
        for id in ids {
            let state = if self.toys.contains_key(&id) { TaskState::Running } else { TaskState::Lost };
            self.up.push_back(status(id, state));
        }
        let members = &self.cluster.state().members;
        self.toys.retain(|id, _| members.contains_key(id)); // a task that nobody knows is killed
    }

    pub(super) fn hear(&mut self, input: Input) {
        self.cluster.handle(self.now, input);
        self.check_timeout();
    }

    pub(super) fn hear_all(&mut self) {
        while let Some(input) = self.up.pop_front() {
            self.hear(input);
        }
    }

    pub(super) fn obey_all(&mut self) {
        while let Some((id, message)) = self.down.pop_front() {
            self.obey(id, message);
        }
    }

    /// Saves, gives the effects in words, and lets nobody have them yet.
    pub(super) fn decided(&mut self) -> Vec<String> {
        assert_eq!(self.effects(), Vec::<String>::new(), "withheld until durable");
        self.persist();
        self.effects()
    }

    /// As [`World::decided`], where nothing had to be decided first.
    pub(super) fn wanted(&mut self) -> Vec<String> {
        self.persist();
        self.effects()
    }

    /// As [`World::rounds`], and with places for whoever is wanted; gives what the cluster wanted meanwhile.
    pub(super) fn mended(&mut self, seconds: u64) -> Vec<String> {
        let mut words = Vec::new();
        for _ in 0..seconds {
            self.place();
            self.persist();
            words.extend(self.effects());
            self.rounds(1);
        }
        words
    }

    pub(super) fn logged(&self, wanted: impl Fn(&EventKind) -> bool) -> usize {
        self.log.iter().filter(|kind| wanted(kind)).count()
    }

    pub(super) fn reasons(&self) -> Vec<&'static str> {
        self.cluster.view(self.now).reasons.iter().map(|reason| reason.code.name()).collect()
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        self.cluster.handle_timeout(self.now);
        self.check_timeout();
    }

    /// Whatever is pending must wake the cluster again.
    fn check_timeout(&self) {
        let (cluster, state) = (&self.cluster, self.cluster.state());
        let timeout = cluster.poll_timeout();
        assert!(timeout.is_none_or(|at| at > self.now), "woken again at once, for ever");
        let told = |id: &MemberId| {
            !state.deleting && !state.paused && state.epoch > Epoch(0) && cluster.unobeyed(*id).is_some()
        };
        let pending = state.members.keys().any(told)
            || (state.deleting && !cluster.is_gone())
            || state
                .members
                .iter()
                .any(|(id, m)| m.leaving.is_some() && !state.paused && !cluster.is_held(*id, m) && cluster.is_open());
        assert!(timeout.is_some() || !pending, "stuck: {:#?}", self.cluster);
    }

    /// So many seconds in which everybody is told and tells, and nothing is mended.
    pub(super) fn rounds(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.persist();
            self.effects();
            self.obey_all();
            self.replicate();
            self.say_all();
            self.hear_all();
            self.pass(1_000);
        }
    }

    /// Lets everything take its course, without faults, until nothing happens for a while.
    pub(super) fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..400 {
            self.place();
            self.persist();
            let mut busy = !self.effects().is_empty();
            while let Some((id, message)) = self.down.pop_front() {
                self.obey(id, message);
                busy = true;
            }
            self.replicate();
            while let Some(input) = self.up.pop_front() {
                self.hear(input);
                self.persist();
                busy = true;
            }
            if self.cluster.is_gone() {
                self.gone = true;
                return;
            }
            if busy {
                continue;
            }
            quiet += 1;
            if quiet > 40 {
                return;
            }
            self.pass(1_000);
            let ids: Vec<u64> = self.toys.keys().map(|id| id.0).collect();
            for id in ids {
                self.restart(id); // as executors do
            }
            self.say_all();
        }
        panic!("no rest: {:#?}\n{:#?}", self.cluster.view(self.now), self.log);
    }
}

pub(super) fn status(member: MemberId, state: TaskState) -> Input {
    Input::Task { member, state, message: String::new() }
}
