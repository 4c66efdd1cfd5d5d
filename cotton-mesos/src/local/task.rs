//! One task on an agent: its record, its process, the connection of its executor, and what is due about it.

use super::AgentConfig;
use super::store::{State, StoredUpdate, TaskRecord};
use crate::recordio;
use crate::wire::common::{Base64, DurationInfo, Id, KillPolicy, TaskInfo};
use crate::wire::executor::{Acknowledged, Event, Kill, Subscribed};
use bytes::Bytes;
use cotton_core::ports::mesos::{MesosEvent, TaskStatus};
use cotton_core::{AgentId, FrameworkId, Resources, TaskId};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long the scheduler may leave a state unacknowledged before it is told again.
const RESEND_AFTER: Duration = Duration::from_secs(10);
/// How long an executor may live on after its grace period.
pub(super) const KILL_MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Task {
    pub(super) record: TaskRecord,
    pub(super) revision: u64,
    pub(super) saved: u64,
    /// The newest revision that must survive a crash of the machine.
    pub(super) durable: u64,
    pub(super) process: Process,
    pub(super) link: Option<mpsc::Sender<Bytes>>,
    pub(super) resend_at: Option<Instant>,
    pub(super) kill_at: Option<Instant>,
    pub(super) register_by: Option<Instant>,
    pub(super) kill_reason: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    Starting,
    Running(i32),
    Ended,
}

impl Process {
    pub(super) fn pid(self) -> Option<i32> {
        if let Self::Running(pid) = self { Some(pid) } else { None }
    }
}

impl Task {
    pub(super) fn new(record: TaskRecord) -> Self {
        Self {
            record,
            revision: 0,
            saved: 0,
            durable: 0,
            process: Process::Starting,
            link: None,
            resend_at: None,
            kill_at: None,
            register_by: None,
            kill_reason: None,
        }
    }

    /// Marks the record as changed.
    pub(super) fn touch(&mut self, durable: bool) {
        self.revision += 1;
        if durable {
            self.durable = self.revision;
        }
    }

    pub(super) fn add_update(&mut self, uuid: impl Into<Base64>, state: State, message: String) {
        self.touch(state.is_terminal());
        (self.record.state, self.record.message) = (state, message.clone());
        self.record.updates.push_back(StoredUpdate { uuid: uuid.into(), state, message, revision: self.revision });
    }

    /// Says something to the executor; false when there is no connection.
    pub(super) fn tell(&mut self, event: &Event) -> bool {
        let Some(link) = &self.link else { return false };
        let json = serde_json::to_vec(event).expect("events have only string keys");
        let sent = link.try_send(recordio::encode(&json)).is_ok();
        if !sent {
            // Closed, or it does not read: it subscribes again when it can.
            self.link = None;
        }
        sent
    }

    pub(super) fn tell_acknowledged(&mut self, uuid: Base64) {
        let task_id = Id::new(self.record.task.as_str());
        self.tell(&Event::Acknowledged { acknowledged: Acknowledged { task_id, uuid } });
    }

    /// Begins to kill, or repeats it. Gives the process to be killed at once because it does not know of its task yet.
    pub(super) fn kill(&mut self, now: Instant, grace: Duration) -> Option<i32> {
        let Process::Running(pid) = self.process else { return None };
        let never_connected = self.record.state == State::Staging && self.link.is_none();
        if never_connected {
            return Some(pid);
        }
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let kill_policy = Some(KillPolicy { grace_period: Some(DurationInfo::from_millis(grace_ms)) });
        self.tell(&Event::Kill { kill: Kill { task_id: Id::new(self.record.task.as_str()), kill_policy } });
        self.kill_at.get_or_insert(now + grace + KILL_MARGIN);
        None
    }

    /// The process, when it has had all the time it may have.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<i32> {
        let Process::Running(pid) = self.process else { return None };
        if self.register_by.is_some_and(|by| by <= now) {
            self.register_by = Some(now + KILL_MARGIN);
            self.kill_reason = Some("it did not subscribe in time");
            return Some(pid);
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = Some(now + KILL_MARGIN);
            return Some(pid);
        }
        None
    }

    /// The news for the scheduler, when it is time for it.
    pub(super) fn news(&mut self, now: Instant, task: &TaskId, agent: &AgentId) -> Option<MesosEvent> {
        let update = self.record.updates.front().filter(|update| update.revision <= self.saved)?;
        if self.resend_at.is_some_and(|at| now < at) {
            return None;
        }
        self.resend_at = Some(now + RESEND_AFTER);
        Some(MesosEvent::Status(TaskStatus {
            task: task.clone(),
            agent: Some(agent.clone()),
            state: update.state.to_port(),
            message: update.message.clone(),
            uuid: Some(update.uuid.0.clone()),
        }))
    }

    /// Whether nothing is left to be done about it.
    pub(super) fn is_over(&self) -> bool {
        self.record.state.is_terminal() && self.record.updates.is_empty() && self.process == Process::Ended
    }
}

impl TaskRecord {
    pub(super) fn new(task: TaskId, port: u16, resources: Resources, data: Bytes) -> Self {
        Self {
            task,
            port,
            resources,
            data: Base64(data),
            state: State::Staging,
            message: String::new(),
            kill_requested: false,
            volume: None,
            updates: VecDeque::new(),
            acknowledged: VecDeque::new(),
        }
    }
}

pub(super) fn subscribed(config: &AgentConfig, framework: &FrameworkId, executor: &str) -> Subscribed {
    let (framework, agent) = (Id::new(framework.as_str()), Id::new(config.id.as_str()));
    Subscribed {
        executor_info: json!({ "executor_id": Id::new(executor), "framework_id": framework }),
        framework_info: json!({ "id": framework, "name": "cotton", "user": "" }),
        agent_info: json!({ "id": agent, "hostname": config.host }),
        container_id: Some(Id::new(executor)),
    }
}

pub(super) fn task_info(config: &AgentConfig, record: &TaskRecord) -> TaskInfo {
    let scalar = |name: &str, value: Value| json!({ "name": name, "type": "SCALAR", "scalar": { "value": value } });
    let mib = |bytes: u64| json!(bytes / cotton_core::resources::MIB);
    #[allow(clippy::cast_precision_loss, reason = "cpus are few")]
    let cpus = json!(record.resources.cpus_milli as f64 / 1000.0);
    let ports = json!({ "range": [{ "begin": record.port, "end": record.port }] });
    let resources = json!([
        scalar("cpus", cpus),
        scalar("mem", mib(record.resources.mem_bytes)),
        scalar("disk", mib(record.resources.disk_bytes)),
        { "name": "ports", "type": "RANGES", "ranges": ports },
    ]);
    let mut rest = Map::new();
    rest.insert("name".into(), json!(record.task));
    rest.insert("agent_id".into(), json!(Id::new(config.id.as_str())));
    rest.insert("resources".into(), resources);
    TaskInfo { task_id: Id::new(record.task.as_str()), data: Some(record.data.clone()), kill_policy: None, rest }
}
