//! The scheduler of cotton inside another program, on that program's own ports.
//!
//! `Machines` stands for whatever you run tasks with. Here it is a toy: its machines are in memory, and the members on
//! them obey by saying so. What is real is everything above the ports: placement, checkpoints, the choice of the first
//! primary, a failover when its machine is lost, the replacement of what is missing.

use async_trait::async_trait;
use bytes::Bytes;
use cotton_core::driver::scheduler::{self, Ports};
use cotton_core::fleet::Config;
use cotton_core::ports::mesos::{Mesos, MesosCall, MesosEvent, Offer, TaskState, TaskStatus};
use cotton_core::protocol::{self, MemberRole, Order, Report, ToExecutor};
use cotton_core::testkit::memory_discovery::MemoryDiscovery;
use cotton_core::testkit::memory_store::MemoryStore;
use cotton_core::{
    AgentId, ClusterSpec, Durability, Epoch, FrameworkId, GtidSet, PortError, Preference, Resources, Sealed, Secrets,
    TaskId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Five machines in memory, with toy members.
struct Machines {
    events: mpsc::UnboundedSender<MesosEvent>,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<MesosEvent>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rounds: u32,
    members: BTreeMap<TaskId, (AgentId, Report)>,
    lost: BTreeSet<AgentId>,
}

impl Machines {
    fn new() -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        Self { events, inbox: tokio::sync::Mutex::new(inbox), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: MesosEvent) {
        let _ = self.events.send(event); // nobody listens any more: the program is ending
    }

    /// Offers every machine that is there, whole.
    fn offer(&self) {
        let mut state = self.state();
        state.rounds += 1;
        let offer = |number: u32| Offer {
            id: format!("round-{}-machine-{number}", state.rounds).as_str().into(),
            agent: format!("machine-{number}").as_str().into(),
            host: format!("machine-{number}.example"),
            resources: Resources::DEFAULT,
            ports: cotton_core::Ports::new([(31_000, 31_999)]),
            attributes: BTreeMap::new(),
            held: Vec::new(),
            maintenance_in_ms: None,
        };
        let offers = (1..=5).map(offer).filter(|offer| !state.lost.contains(&offer.agent)).collect();
        drop(state);
        self.tell(MesosEvent::Offers(offers));
    }

    fn status(&self, task: &TaskId, agent: &AgentId, state: TaskState) {
        let (task, agent) = (task.clone(), Some(agent.clone()));
        self.tell(MesosEvent::Status(TaskStatus { task, agent, state, message: String::new(), uuid: None }));
    }

    /// A member changes, and says what it is now.
    fn report(&self, task: &TaskId, change: impl FnOnce(&mut Report)) {
        let mut state = self.state();
        let Some((_, report)) = state.members.get_mut(task) else { return };
        change(report);
        report.seq += 1;
        let data = Bytes::from(protocol::encode(report));
        drop(state);
        self.tell(MesosEvent::Message { task: task.clone(), data });
    }

    fn obey(&self, task: &TaskId, message: ToExecutor) {
        self.report(task, |report| match message {
            ToExecutor::Heard { nonce, .. } => report.echo = nonce,
            ToExecutor::Directive(directive) if directive.rank().0 >= report.epoch => {
                report.stage = Some(directive.rank().1);
                report.epoch = directive.epoch;
                report.role = match directive.order {
                    Order::Freeze | Order::Detach => MemberRole::Frozen,
                    Order::StepDown { .. } => MemberRole::SteppedDown,
                    Order::Promote { .. } | Order::Reopen { .. } => MemberRole::Primary,
                    Order::Follow { .. } => MemberRole::Following { connected: true },
                };
            }
            ToExecutor::Directive(_) | ToExecutor::Accounts { .. } | ToExecutor::LetGo => {}
        });
    }

    /// A machine is gone, and with it what ran there.
    fn lose(&self, lost: &AgentId) {
        let mut state = self.state();
        state.lost.insert(lost.clone());
        let gone: Vec<TaskId> =
            state.members.iter().filter(|(_, (agent, _))| agent == lost).map(|(t, _)| t.clone()).collect();
        state.members.retain(|_, (agent, _)| agent != lost);
        drop(state);
        for task in gone {
            self.status(&task, lost, TaskState::Lost);
        }
    }
}

#[async_trait]
impl Mesos for Machines {
    async fn subscribe(&self, framework: Option<FrameworkId>) -> Result<(), PortError> {
        self.tell(MesosEvent::Subscribed(framework.unwrap_or_else(|| FrameworkId::from("embedded"))));
        Ok(())
    }

    async fn next_event(&self) -> Result<MesosEvent, PortError> {
        Ok(self.inbox.lock().await.recv().await.expect("this port holds a sender itself"))
    }

    async fn call(&self, call: MesosCall) -> Result<(), PortError> {
        match call {
            MesosCall::Revive => self.offer(),
            MesosCall::Accept { agent, launches, .. } => {
                for launch in launches {
                    self.state().members.insert(launch.task.clone(), (agent.clone(), idle()));
                    self.status(&launch.task, &agent, TaskState::Running);
                    self.report(&launch.task, |_| ());
                }
            }
            MesosCall::Kill { task, agent } => {
                self.state().members.remove(&task);
                self.status(&task, &agent, TaskState::Killed);
            }
            MesosCall::Message { task, data, .. } => {
                if let Ok(message) = protocol::decode(&data) {
                    self.obey(&task, message);
                }
            }
            MesosCall::Reconcile(_)
            | MesosCall::Decline { .. }
            | MesosCall::Acknowledge { .. }
            | MesosCall::AnswerMaintenance { .. }
            | MesosCall::Suppress => {}
        }
        Ok(())
    }
}

fn idle() -> Report {
    Report {
        incarnation: 1,
        seq: 0,
        echo: 0,
        epoch: Epoch(0),
        stage: None,
        role: MemberRole::Idle,
        boot: 1,
        unattached: BTreeSet::new(),
        never_opened: false,
        kept_since: None,
        origin: String::new(),
        position: GtidSet::Empty,
        unapplied: 0,
        applied: None,
        lag_s: None,
        read_to: None,
        replicas: None,
        waiting: None,
        disk_free_bytes: None,
        waits_for_room: false,
        asked_to_leave: false,
        accounts_wanted: false,
        accounts_revision: 0,
        server_version: "toy".to_owned(),
        trouble: None,
        failed_copies: 0,
        next_copy_ms: None,
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn Error>> {
    let machines = Arc::new(Machines::new());
    let ports = Ports {
        mesos: Arc::clone(&machines) as Arc<dyn Mesos>,
        state: Arc::new(MemoryStore::default()),
        discovery: Arc::new(MemoryDiscovery::default()),
    };
    let running = scheduler::start(Config::default(), ports, Arc::new(|| 0)).await?;
    let handle = running.handle;
    let mut events = handle.subscribe();

    let sealed = || Sealed::new("whatever your executors can open");
    let spec = ClusterSpec {
        name: "orders".parse()?,
        size: 3,
        resources: Resources::DEFAULT,
        user: "app".to_owned(),
        secrets: Secrets { user: sealed(), admin: sealed(), replication: sealed() },
        durability: Durability::SemiSync,
        preference: Preference::Consistency,
        backup_id: None,
    };
    let name = spec.name.clone();
    while let Err(error) = handle.create(spec.clone()).await {
        println!("not yet: {error}"); // the subscription is on its way
        tokio::task::yield_now().await;
    }

    let mut failed_over = false;
    loop {
        let event = events.recv().await?;
        println!("epoch {}: {}", event.event.epoch, event.event.kind);
        if !events.is_empty() {
            continue; // tell first, look afterwards
        }
        let Some(view) = handle.view(&name).await? else { continue };
        if view.status != cotton_core::ClusterStatus::Healthy {
            continue;
        }
        if failed_over {
            println!(
                "healthy again: {} members, primary at {}",
                view.members.len(),
                view.endpoint.map_or_else(String::new, |e| e.to_string())
            );
            break;
        }
        failed_over = true;
        let primary =
            view.members.iter().find(|m| Some(m.id) == view.primary).expect("a healthy cluster has a primary");
        println!("--- now its machine, {}, is lost ---", primary.agent);
        machines.lose(&primary.agent);
    }
    handle.stop().await;
    Ok(())
}
