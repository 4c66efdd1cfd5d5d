//! What is known between calls and events: the subscription, offers, tasks. Decides what is to be posted for a call of the
//! port, and what an event of Mesos means to the port; does no I/O.

use super::accept::Use;
use super::config::SchedulerConfig;
use super::offers::Offers;
use super::operations::{self, Operations};
use super::translate;
use crate::wire::common::{Base64, Id, Source};
use crate::wire::scheduler::call::{
    Acknowledge, CallBody, Decline, Filters, Kill, Message, Reconcile, ReconcileOperation, ReconcileOperations,
    ReconcileTask, Shutdown,
};
use crate::wire::scheduler::event::{Offer, Update};
use crate::wire::scheduler::operation::OperationStatus;
use bytes::Bytes;
use cotton_core::ports::mesos::{MesosCall, MesosEvent, TaskState, TaskStatus};
use cotton_core::{AgentId, Endpoint, FrameworkId, OfferId, TaskId};
use reqwest::header::HeaderValue;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;
use tokio::sync::{mpsc, watch};

/// Longest filter of a decline that makes sense to Mesos, in seconds: a year.
const FILTER_SECS_MAX: f64 = 365.0 * 86_400.0;

/// A subscription that a master has confirmed.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) framework: FrameworkId,
    pub(super) master: Endpoint,
    pub(super) stream_id: HeaderValue,
    /// To say that it is of no use any more, and why.
    pub(super) lost: mpsc::Sender<String>,
    /// Its sender is gone when the subscription is over.
    pub(super) over: watch::Receiver<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Who we are; `None` until the first subscription of all.
    pub(super) framework: Option<FrameworkId>,
    pub(super) session: Option<Session>,
    /// Whether there is one.
    pub(super) subscribed: watch::Sender<bool>,
    /// Whether we have asked for our own end.
    pub(super) is_being_torn_down: bool,
    /// Whether there was a subscription in this process.
    pub(super) has_subscribed: bool,
    pub(super) offers: Offers,
    /// Inverse offers that are not answered yet.
    pub(super) inverse_offers: BTreeSet<OfferId>,
    pub(super) operations: Operations,
    /// Tasks that were launched and have not ended: launching them again changes nothing.
    pub(super) launched: BTreeSet<TaskId>,
    /// News of ends that are not acknowledged yet, and whether the executor that told it may still run.
    ends: BTreeMap<(TaskId, Bytes), bool>,
}

/// What follows from a call of the port.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What to tell the port at once.
    pub(super) events: Vec<MesosEvent>,
    /// What to post, in this order.
    pub(super) posts: Vec<CallBody>,
}

impl State {
    /// Of a process with that number.
    pub(super) fn new(process: u64) -> Self {
        Self { operations: Operations::new(process), ..Self::default() }
    }

    /// What to do for a call. Called once for each: offers are used up by it.
    pub(super) fn plan(&mut self, config: &SchedulerConfig, framework: &FrameworkId, call: MesosCall) -> Plan {
        let mut plan = Plan::default();
        match call {
            MesosCall::Accept { offer, agent, launches, releases } => {
                let asked = Use { offer, agent, launches, releases };
                self.plan_accept(config, framework, asked, &mut plan);
            }
            MesosCall::Decline { offers, filter_ms } => {
                let ids: Vec<Id> = offers.iter().flat_map(|offer| self.offers.decline(offer)).collect();
                plan.posts.extend(decline(ids, filter_ms));
            }
            MesosCall::Kill { task, agent } => {
                plan.posts.push(CallBody::Kill { kill: Kill { task_id: id(&task), agent_id: agent_id(&agent) } });
            }
            MesosCall::Acknowledge { task, agent, uuid } => self.plan_acknowledge(&task, &agent, uuid, &mut plan),
            MesosCall::Message { task, agent, data } => {
                let message = Message { agent_id: agent_id(&agent), executor_id: id(&task), data: Base64(data) };
                plan.posts.push(CallBody::Message { message });
            }
            MesosCall::Reconcile(tasks) => {
                let task =
                    |(task, agent): &(TaskId, AgentId)| ReconcileTask { task_id: id(task), agent_id: agent_id(agent) };
                let reconcile = Reconcile { tasks: tasks.iter().map(task).collect() };
                plan.posts.push(CallBody::Reconcile { reconcile });
            }
            MesosCall::AnswerMaintenance { id, ready } => plan.posts.extend(self.plan_answer(&id, ready)),
            MesosCall::Suppress => plan.posts.push(CallBody::Suppress),
            MesosCall::Revive => plan.posts.push(CallBody::Revive),
        }
        plan
    }

    fn plan_acknowledge(&mut self, task: &TaskId, agent: &AgentId, uuid: Bytes, plan: &mut Plan) {
        let end = self.ends.remove(&(task.clone(), uuid.clone()));
        let acknowledge = Acknowledge { agent_id: agent_id(agent), task_id: id(task), uuid: Base64(uuid) };
        plan.posts.push(CallBody::Acknowledge { acknowledge });
        if end.is_some() {
            self.launched.remove(task);
        }
        if end == Some(true) {
            // Nothing is left for the executor to do, and Mesos does not end those of others' making.
            let shutdown = Shutdown { executor_id: id(task), agent_id: agent_id(agent) };
            plan.posts.push(CallBody::Shutdown { shutdown });
        }
    }

    /// A call for which [`State::plan`] was asked was refused: what to tell the port.
    pub(super) fn on_refused(&mut self, refused: &CallBody, reason: &str) -> Vec<MesosEvent> {
        let CallBody::Accept { accept } = refused else { return Vec::new() };
        self.on_accept_refused(accept, reason)
    }

    /// Gives what to tell the port, and what to post.
    pub(super) fn on_offers(&mut self, offers: Vec<Offer>, now: SystemTime) -> Plan {
        let questions = self.operations.on_agents(offers.iter().map(|offer| &offer.agent_id));
        let events = self.offers.add(self.framework.as_ref(), offers, now);
        Plan { events, posts: reconcile_operations(questions).into_iter().collect() }
    }

    /// Gives what to tell the port, and what to post. An earlier process may have asked for what is unknown here, so
    /// without anything to ask for, all is asked for when the process has just begun.
    pub(super) fn on_subscribed(&mut self, session: Session) -> Plan {
        let framework = session.framework.clone();
        let knew_it = self.framework.replace(framework.clone()).is_some();
        self.session = Some(session);
        self.subscribed.send_replace(true);
        let questions = self.operations.unanswered();
        let is_first = !std::mem::replace(&mut self.has_subscribed, true);
        let asks_for_all = knew_it && is_first;
        let all = asks_for_all.then(|| CallBody::ReconcileOperations {
            reconcile_operations: ReconcileOperations { operations: Vec::new() },
        });
        let posts = reconcile_operations(questions).into_iter().chain(all).collect();
        Plan { events: vec![MesosEvent::Subscribed(framework)], posts }
    }

    /// Gives what to tell the port, and what to post.
    pub(super) fn on_operation(&mut self, status: OperationStatus) -> Plan {
        let events = self.operations.on_status(&status).into_iter().collect();
        let acknowledge = operations::acknowledgement(status)
            .map(|acknowledge_operation_status| CallBody::AcknowledgeOperationStatus { acknowledge_operation_status });
        Plan { events, posts: acknowledge.into_iter().collect() }
    }

    /// Gives what to tell the port, and what to post.
    pub(super) fn on_rescind(&mut self, offer: &str) -> Plan {
        let Some((event, others)) = self.offers.rescind(offer) else { return Plan::default() };
        Plan { events: vec![event], posts: decline(others, 0).into_iter().collect() }
    }

    pub(super) fn on_update(&mut self, update: Update) -> MesosEvent {
        let executor_runs = update.status.source == Some(Source::SourceExecutor);
        let status = translate::status(update.status);
        if status.state.is_terminal() {
            match &status.uuid {
                Some(uuid) => drop(self.ends.insert((status.task.clone(), uuid.clone()), executor_runs)),
                None => drop(self.launched.remove(&status.task)),
            }
        }
        MesosEvent::Status(status)
    }

    /// The subscription is over, and with it all offers. Says whether there was one.
    pub(super) fn disconnect(&mut self) -> bool {
        self.offers.clear();
        self.inverse_offers.clear();
        self.subscribed.send_replace(false);
        self.session.take().is_some()
    }
}

fn reconcile_operations(operations: Vec<ReconcileOperation>) -> Option<CallBody> {
    let reconcile_operations = ReconcileOperations { operations };
    let is_empty = reconcile_operations.operations.is_empty();
    (!is_empty).then_some(CallBody::ReconcileOperations { reconcile_operations })
}

pub(super) fn decline(offer_ids: Vec<Id>, filter_ms: u64) -> Option<CallBody> {
    #[expect(clippy::cast_precision_loss, reason = "a filter need not be exact")]
    let refuse_seconds = (filter_ms as f64 / 1000.0).min(FILTER_SECS_MAX);
    let decline = Decline { offer_ids, filters: Filters { refuse_seconds } };
    (!decline.offer_ids.is_empty()).then_some(CallBody::Decline { decline })
}

pub(super) fn dropped(task: TaskId, agent: &AgentId, reason: &str) -> MesosEvent {
    let (agent, message) = (Some(agent.clone()), reason.to_owned());
    MesosEvent::Status(TaskStatus { task, agent, state: TaskState::Dropped, message, uuid: None })
}

fn id(task: &TaskId) -> Id {
    Id::new(task.as_str())
}

fn agent_id(agent: &AgentId) -> Id {
    Id::new(agent.as_str())
}
