//! A control plane that answers like a scheduler, from memory: for tests of everything that stands before it.

#![allow(dead_code, reason = "not every test uses all of it")]

use async_trait::async_trait;
use cotton_bin::api::ControlPlane;
use cotton_core::account::{Account, AccountChange, AccountError, validate_account};
use cotton_core::cluster::explain::{
    Against, Explanation, LeverView, MemberExplanation, NotPromoted, Succession, Wait,
};
use cotton_core::cluster::levers::{Lever, LeverError};
use cotton_core::cluster::switchover::SwitchoverError;
use cotton_core::driver::handle::Stopped;
use cotton_core::driver::{LoggedEvent, Metrics};
use cotton_core::election::PromotionRule;
use cotton_core::fleet::{Left, LeftoverVolumes, UnknownTask};
use cotton_core::protocol::TroubleCode;
use cotton_core::spec::{Limits, validate_size};
use cotton_core::{
    AgentId, ApplyingView, ClusterName, ClusterSpec, ClusterStatus, ClusterView, CommandError, Endpoint, Epoch, Event,
    EventKind, FrameworkId, MemberId, MemberView, Millis, PerSecond, Reason, ReasonCode, RefusedOffer, Resources,
    RetryView, TaskId, Timeline, VolumeId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

/// Answers like a scheduler. A cluster is whole as soon as it is created, but for the third member and those after it,
/// and `deleting` for ever unless [`Fake::delete_at_once`].
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) limits: Limits,
    shared: Mutex<Shared>,
    sender: broadcast::Sender<Arc<LoggedEvent>>,
}

#[derive(Debug, Default)]
struct Shared {
    disconnected: bool,
    deletes_at_once: bool,
    stopped: bool,
    damaged: BTreeSet<ClusterName>,
    paused: BTreeSet<ClusterName>,
    clusters: BTreeMap<ClusterName, (ClusterSpec, bool)>,
    accounts: BTreeMap<ClusterName, BTreeMap<String, Account>>,
    events: Vec<Arc<LoggedEvent>>,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        let agent_max = Some(Resources::DEFAULT.times(4));
        let limits = Limits { agent_max, ..Limits::default() };
        Arc::new(Self { limits, shared: Mutex::default(), sender: broadcast::channel(16).0 })
    }

    pub(crate) fn disconnect(&self, disconnected: bool) {
        self.shared.lock().expect("no panic").disconnected = disconnected;
    }

    pub(crate) fn delete_at_once(&self) {
        self.shared.lock().expect("no panic").deletes_at_once = true;
    }

    pub(crate) fn damage(&self, name: &str) {
        self.shared.lock().expect("no panic").damaged.insert(name.parse().expect("a name"));
    }

    pub(crate) fn stop(&self) {
        self.shared.lock().expect("no panic").stopped = true;
    }

    pub(crate) fn log(&self, cluster: &ClusterName, kind: EventKind) {
        let mut shared = self.shared.lock().expect("no panic");
        let number = shared.events.len() as u64 + 1;
        let event = Event { at: Millis(0), epoch: Epoch(1), kind };
        let event =
            Arc::new(LoggedEvent { number, unix_ms: 1_700_000_000_000 + number, cluster: cluster.clone(), event });
        shared.events.push(Arc::clone(&event));
        let _ = self.sender.send(event); // nobody may be listening
    }

    fn running(&self) -> Result<std::sync::MutexGuard<'_, Shared>, Stopped> {
        let shared = self.shared.lock().expect("no panic");
        if shared.stopped { Err(Stopped) } else { Ok(shared) }
    }
}

#[async_trait]
impl ControlPlane for Fake {
    async fn create(&self, spec: ClusterSpec) -> Result<(), CommandError> {
        spec.validate(&self.limits)?;
        let (name, size) = (spec.name.clone(), spec.size);
        {
            let mut shared = self.running()?;
            let known = shared.clusters.get(&name).map(|(_, deleting)| *deleting);
            match name.as_str() {
                _ if shared.disconnected => return Err(CommandError::NotConnected),
                _ if known == Some(true) => return Err(CommandError::Deleting(name)),
                _ if known == Some(false) => return Err(CommandError::Exists(name)),
                _ if shared.damaged.contains(&name) => return Err(CommandError::Damaged(name)),
                "unsaved" => return Err(CommandError::NotSaved("no space left on device".into())),
                _ => shared.clusters.insert(name.clone(), (spec, false)),
            };
        }
        self.log(&name, EventKind::Created { size });
        Ok(())
    }

    async fn damaged(&self) -> Result<BTreeSet<ClusterName>, Stopped> {
        Ok(self.running()?.damaged.clone())
    }

    async fn framework(&self) -> Result<Option<FrameworkId>, Stopped> {
        self.running().map(|_| Some(FrameworkId::from("framework-1")))
    }

    async fn scale(&self, name: &ClusterName, size: u64) -> Result<(), CommandError> {
        let (from, to) = {
            let mut shared = self.running()?;
            let (spec, deleting) = shared.clusters.get_mut(name).ok_or_else(|| CommandError::NotFound(name.clone()))?;
            if *deleting {
                return Err(CommandError::Deleting(name.clone()));
            }
            let to = validate_size(size, &self.limits)?;
            (std::mem::replace(&mut spec.size, to), to)
        };
        self.log(name, EventKind::Scaled { from, to });
        Ok(())
    }

    async fn switchover(&self, name: &ClusterName, to: Option<MemberId>) -> Result<(), CommandError> {
        let shared = self.running()?;
        let (spec, deleting) = shared.clusters.get(name).ok_or_else(|| CommandError::NotFound(name.clone()))?;
        match to {
            _ if *deleting => Err(CommandError::Deleting(name.clone())),
            _ if spec.size == 1 => Err(SwitchoverError::Alone.into()),
            Some(MemberId(0)) => Err(SwitchoverError::IsPrimary(MemberId(0)).into()),
            Some(to) if to.0 >= spec.size.into() => Err(SwitchoverError::NoMember(to).into()),
            Some(_) | None => Ok(()),
        }
    }

    async fn pull(&self, name: &ClusterName, lever: Lever) -> Result<(), CommandError> {
        let kind = {
            let mut shared = self.running()?;
            let paused = shared.paused.contains(name);
            let (spec, deleting) = shared.clusters.get(name).ok_or_else(|| CommandError::NotFound(name.clone()))?;
            match lever {
                _ if *deleting => return Err(CommandError::Deleting(name.clone())),
                Lever::Rebuild(member) => {
                    if member.0 >= spec.size.into() {
                        return Err(CommandError::Lever(LeverError::NoMember(member)));
                    } else if paused {
                        return Err(CommandError::Paused(name.clone()));
                    } else if member.0 == 0 {
                        let why = "it is the primary: switch over to another member first".to_owned();
                        return Err(CommandError::Lever(LeverError::CannotRebuild { member, why }));
                    }
                    EventKind::RebuildAsked { member }
                }
                Lever::Rule(member, rule) => EventKind::RuleSet { member, rule },
                Lever::Elect { to, .. } if to.0 == 0 => {
                    let why = "member 0 is the primary: use 'cotton switchover'".to_owned();
                    return Err(CommandError::Lever(LeverError::NoElection(why)));
                }
                Lever::Elect { to, accepted } => {
                    let loss = "what member 2 has received is not known".to_owned();
                    accepted
                        .covers(LeverError::LossNotAccepted { member: to, loss: loss.clone() })
                        .map_err(CommandError::Lever)?;
                    EventKind::ElectionForced { member: to, loss }
                }
                Lever::Pause => {
                    shared.paused.insert(name.clone());
                    EventKind::Paused
                }
                Lever::Resume => {
                    shared.paused.remove(name);
                    EventKind::Resumed
                }
                Lever::ReleaseKept { accepted } => {
                    let members = vec![MemberId(7)];
                    if spec.size < 3 {
                        return Err(CommandError::Lever(LeverError::CannotRelease(
                            "the cluster keeps no volumes of members that it no longer has: nothing to prune",
                        )));
                    }
                    accepted.covers(LeverError::ReleaseNotAccepted(members.clone())).map_err(CommandError::Lever)?;
                    EventKind::KeptReleased { members }
                }
                _ => unreachable!("a newer core may know more"),
            }
        };
        self.log(name, kind);
        Ok(())
    }

    async fn change_account(&self, name: &ClusterName, user: &str, change: AccountChange) -> Result<(), CommandError> {
        let mut shared = self.running()?;
        let (spec, _) = shared.clusters.get_mut(name).ok_or_else(|| CommandError::NotFound(name.clone()))?;
        let own = spec.user.clone();
        if user == own {
            let AccountChange::Rotate(password) = change else { return Err(AccountError::OwnUser(own).into()) };
            spec.secrets.user = password;
            return Ok(());
        }
        let accounts = shared.accounts.entry(name.clone()).or_default();
        let unknown = || AccountError::Unknown(user.to_owned());
        match change {
            AccountChange::Create(account) => {
                validate_account(user, &account.databases, &own, &self.limits)?;
                if accounts.contains_key(user) {
                    return Err(AccountError::Exists(user.to_owned()).into());
                }
                accounts.insert(user.to_owned(), account);
            }
            AccountChange::Rotate(password) => accounts.get_mut(user).ok_or_else(unknown)?.password = password,
            AccountChange::Drop => drop(accounts.remove(user).ok_or_else(unknown)?),
        }
        Ok(())
    }

    async fn accounts(&self, name: &ClusterName) -> Result<Option<BTreeMap<String, Account>>, Stopped> {
        let shared = self.running()?;
        let there = shared.clusters.contains_key(name);
        Ok(there.then(|| shared.accounts.get(name).cloned().unwrap_or_default()))
    }

    async fn delete(&self, name: &ClusterName) -> Result<(), CommandError> {
        {
            let mut shared = self.running()?;
            shared.clusters.get_mut(name).ok_or_else(|| CommandError::NotFound(name.clone()))?.1 = true;
            if shared.deletes_at_once {
                shared.clusters.remove(name);
            }
        }
        self.log(name, EventKind::Deleting);
        Ok(())
    }

    async fn adopt(&self, name: &ClusterName) -> Result<(), CommandError> {
        drop(self.running()?);
        Err(CommandError::NotFound(name.clone()))
    }

    async fn discard(&self, name: &ClusterName) -> Result<(), CommandError> {
        drop(self.running()?);
        Err(CommandError::NotFound(name.clone()))
    }

    async fn unknown(&self) -> Result<Vec<UnknownTask>, Stopped> {
        drop(self.running()?);
        Ok(Vec::new())
    }

    async fn left(&self, members: Vec<(ClusterName, MemberId)>) -> Result<Vec<Left>, Stopped> {
        drop(self.running()?);
        Ok(vec![Left::NoRecord; members.len()])
    }

    async fn leftover_volumes(&self) -> Result<LeftoverVolumes, Stopped> {
        drop(self.running()?);
        let volume = |name: &str| VolumeId::from(name);
        Ok(LeftoverVolumes { awaited: vec![volume("mysos-gone-4")], kept: vec![volume("mysos-c-7")] })
    }

    async fn release_leftovers(&self) -> Result<(), Stopped> {
        drop(self.running()?);
        Ok(())
    }

    async fn view(&self, name: &ClusterName) -> Result<Option<ClusterView>, Stopped> {
        let shared = self.running()?;
        let mut view = shared.clusters.get(name).map(view);
        if let Some(view) = view.as_mut().filter(|_| shared.paused.contains(name)) {
            let text = "nothing is decided while the cluster is paused".to_owned();
            view.reasons.insert(0, Reason { code: ReasonCode::Paused, member: None, text });
        }
        Ok(view)
    }

    async fn explain(&self, name: &ClusterName) -> Result<Option<Box<Explanation>>, Stopped> {
        Ok(self.view(name).await?.map(|view| Box::new(explain(view))))
    }

    async fn list(&self) -> Result<Vec<ClusterView>, Stopped> {
        Ok(self.running()?.clusters.values().map(view).collect())
    }

    async fn spec(&self, name: &ClusterName) -> Result<Option<ClusterSpec>, Stopped> {
        Ok(self.running()?.clusters.get(name).map(|(spec, _)| spec.clone()))
    }

    async fn events(&self) -> Result<Vec<Arc<LoggedEvent>>, Stopped> {
        Ok(self.running()?.events.clone())
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedEvent>> {
        self.sender.subscribe()
    }

    async fn metrics(&self) -> Result<Metrics, Stopped> {
        let shared = self.running()?;
        Ok(BTreeMap::from([
            ("cluster_count", shared.clusters.len() as u64),
            ("framework_registered", u64::from(!shared.disconnected)),
            ("tasks_launched", 7),
            ("total_requested_cpus_milli", 1500),
            ("unheard_of", 1),
            ("uptime", 5),
        ]))
    }
}

fn explain(view: ClusterView) -> Explanation {
    let winner = (view.size > 1).then_some(MemberId(1));
    let member = |member: &MemberView| MemberExplanation {
        id: member.id,
        role: member.role,
        wins: winner == Some(member.id),
        why_not: match member.id.0 {
            0 => vec![Against { code: NotPromoted::IsPrimary, text: "it is the primary".into() }],
            1 => vec![],
            _ => vec![Against { code: NotPromoted::Silent, text: "it is silent".into() }],
        },
    };
    Explanation {
        members: view.members.iter().map(member).collect(),
        succession: Succession {
            under_way: false,
            winner,
            code: if winner.is_some() { "decided" } else { "no_candidate" },
            text: "if primary 0 were lost now with its data, ...".into(),
            applying: None,
            loses: "no acknowledged commit".into(),
        },
        waits: view
            .reasons
            .iter()
            .map(|reason| Wait {
                code: reason.code.name(),
                member: reason.member,
                text: reason.text.clone(),
                since_ms: Some(61_500),
                until_ms: None,
            })
            .collect(),
        levers: vec![LeverView {
            command: format!("cotton switchover {}", view.name),
            possible: winner.is_some(),
            text: winner.map_or("the cluster has no other member", |_| "member 0 hands over to member 1").into(),
            loses: "no commit".into(),
        }],
        name: view.name,
        status: view.status,
        epoch: view.epoch,
        primary: view.primary,
    }
}

fn view((spec, deleting): &(ClusterSpec, bool)) -> ClusterView {
    let members = (0..spec.size.into()).map(|id| MemberView {
        id: MemberId(id),
        task: TaskId::of(&spec.name, MemberId(id), 0),
        agent: AgentId::new(format!("agent-{id}")),
        endpoint: Endpoint::new("127.0.0.1", 31_000 + u16::try_from(id).expect("few")),
        role: if id == 0 { "primary" } else { "replica" },
        healthy: id < 2,
        leaving: false,
        leaving_code: None,
        rule: PromotionRule::Neutral,
        epoch: Epoch(1),
        gtids: format!("0-1-{}", 42 - id),
        lag_s: id.checked_sub(1),
        unapplied: id / 2,
        applying: (id / 2 > 0).then_some(ApplyingView {
            left: id / 2,
            per_second: Some(PerSecond { milli: 1_500 }),
            rest_s: Some(1),
            since_ms: 4_000,
            advanced_ms: 300,
        }),
        errant: None,
        silent_ms: Some(12),
        server_version: "10.11.14-MariaDB".into(),
        disk_free_bytes: Some(1 << 30),
        trouble_code: (id == 2).then_some(TroubleCode::Failing),
        trouble: (id == 2).then(|| "could not follow: <access> denied".to_owned()),
    });
    let members: Vec<_> = members.collect();
    let troubled = members.len() > 2;
    ClusterView {
        name: spec.name.clone(),
        user: spec.user.clone(),
        status: match (deleting, troubled) {
            (true, _) => ClusterStatus::Deleting,
            (false, true) => ClusterStatus::Degraded,
            (false, false) => ClusterStatus::Healthy,
        },
        reasons: if troubled {
            vec![Reason {
                code: ReasonCode::MemberUnhealthy,
                member: Some(MemberId(2)),
                text: "member 2: could not follow: <access> denied".into(),
            }]
        } else {
            vec![]
        },
        retries: if troubled {
            let reason = "no space left on device".to_owned();
            let agent = Some(AgentId::new("agent-3"));
            vec![RetryView { what: "agent", member: None, agent, failures: 2, in_ms: 2_000, reason }]
        } else {
            vec![]
        },
        refusals: if troubled {
            let text = "too little cpus: 0.5 left, 1 wanted".to_owned();
            vec![RefusedOffer { agent: AgentId::new("agent-3"), host: "h3".into(), code: "too_little_cpus", text }]
        } else {
            vec![]
        },
        size: spec.size,
        resources: spec.resources,
        durability: spec.durability,
        preference: spec.preference,
        epoch: Epoch(1),
        primary: Some(MemberId(0)),
        endpoint: Some(members[0].endpoint.clone()),
        members,
        switchover: None,
        last_failover: troubled.then_some(Timeline {
            epoch: Epoch(1),
            from: Some(MemberId(3)),
            to: MemberId(0),
            checkpointed_ms: 3,
            frozen_ms: 12,
            decided_ms: 15,
            promoted_ms: 40,
            replica_ms: Some(60),
        }),
    }
}
