//! Between the words of Mesos and those of the port: states of tasks, and tasks to start.

use super::config::{ExecutorUri, SchedulerConfig};
use super::stock::Share;
use crate::wire::common::{Base64, DurationInfo, Id, KillPolicy, TaskState as WireState, TaskStatus as WireStatus};
use crate::wire::resource::Resource;
use crate::wire::scheduler::call::{Capability, CapabilityType, FrameworkInfo, Subscribe};
use crate::wire::scheduler::task::{
    CommandInfo, DiscoveryInfo, DiscoveryPort, DiscoveryPorts, Environment, ExecutorInfo, NewTask, Uri, Variable,
};
use cotton_core::ports::mesos::{Launch, TaskState, TaskStatus};
use cotton_core::{AgentId, FrameworkId, TaskId};
use std::time::Duration;

/// The state of a task. What Mesos says for programs (`REASON_...`) is added to the words for people.
pub(super) fn status(status: WireStatus) -> TaskStatus {
    // what follows are statistics over many lines, which the agent logs too
    let words = status.message.as_deref().and_then(|words| words.lines().next()).unwrap_or_default().to_owned();
    let message = match (words.is_empty(), status.reason) {
        (_, None) => words,
        (true, Some(reason)) => reason,
        (false, Some(reason)) => format!("{words} ({reason})"),
    };
    TaskStatus {
        task: TaskId::from(status.task_id.value.as_str()),
        agent: status.agent_id.map(|id| AgentId::from(id.value.as_str())),
        state: state(status.state),
        message,
        uuid: status.uuid.map(|uuid| uuid.0).filter(|uuid| !uuid.is_empty()),
    }
}

/// - `TASK_LOST` is not sent to frameworks that are partition-aware; it is terminal for those that get it.
/// - `TASK_UNKNOWN` answers the question for a task on an agent that the master has never heard of, or has forgotten.
///   While a master that has just been elected waits for the agents in its registry, it does not answer at all; one whose
///   registry was lost answers so until they have registered, so it is not the end of a task.
/// - `TASK_GONE` says that a task did not survive the restart of an agent that could not be reached meanwhile: its
///   volume may have. After `TASK_GONE_BY_OPERATOR`, nothing of the agent comes back.
/// - `TASK_ERROR` says that the task makes no sense, and was not started.
fn state(state: WireState) -> TaskState {
    match state {
        WireState::TaskStaging => TaskState::Staging,
        WireState::TaskStarting => TaskState::Starting,
        WireState::TaskRunning => TaskState::Running,
        WireState::TaskKilling => TaskState::Killing,
        WireState::TaskUnreachable => TaskState::Unreachable,
        WireState::TaskFinished => TaskState::Finished,
        WireState::TaskKilled => TaskState::Killed,
        WireState::TaskFailed => TaskState::Failed,
        WireState::TaskDropped | WireState::TaskError => TaskState::Dropped,
        WireState::TaskLost | WireState::TaskGone => TaskState::Lost,
        WireState::TaskUnknown => TaskState::Unknown,
        WireState::TaskGoneByOperator => TaskState::Gone,
    }
}

/// Who subscribes.
pub(super) fn subscribe(config: &SchedulerConfig, framework: Option<&FrameworkId>) -> Subscribe {
    Subscribe { framework_info: framework_info(config, framework) }
}

/// Who we are.
pub(super) fn framework_info(config: &SchedulerConfig, framework: Option<&FrameworkId>) -> FrameworkInfo {
    let known = &config.framework;
    let capabilities =
        [CapabilityType::MultiRole, CapabilityType::ReservationRefinement, CapabilityType::PartitionAware];
    FrameworkInfo {
        user: known.user.clone(),
        name: known.name.clone(),
        id: framework.map(|id| Id::new(id.as_str())),
        failover_timeout: known.failover_timeout.as_secs_f64(),
        checkpoint: true,
        roles: known.roles.clone(),
        hostname: known.hostname.clone(),
        principal: config.principal().map(str::to_owned),
        webui_url: known.webui_url.clone(),
        capabilities: capabilities.map(|kind| Capability { kind }).to_vec(),
    }
}

/// A task to start, with its share of an offer.
pub(super) fn new_task(
    config: &SchedulerConfig,
    framework: &FrameworkId,
    agent: &AgentId,
    share: Share,
    launch: Launch,
) -> NewTask {
    let id = Id::new(launch.task.as_str());
    let grace = DurationInfo::from_millis(millis(config.kill_grace));
    let number = launch.endpoint.port;
    let name = launch.task.parse().map_or_else(|_| id.value.clone(), |(cluster, ..)| cluster.to_string());
    NewTask {
        name: id.value.clone(),
        task_id: id.clone(),
        agent_id: Id::new(agent.as_str()),
        resources: share.task,
        executor: executor(config, framework, &launch.task, share.executor, grace),
        data: Base64(launch.data),
        kill_policy: KillPolicy { grace_period: Some(grace) },
        discovery: DiscoveryInfo {
            visibility: "CLUSTER",
            name,
            ports: DiscoveryPorts { ports: vec![DiscoveryPort { number, name: "mysql", protocol: "tcp" }] },
        },
    }
}

/// The executor of a task: one each, under the task's id.
fn executor(
    config: &SchedulerConfig,
    framework: &FrameworkId,
    task: &TaskId,
    resources: Vec<Resource>,
    grace: DurationInfo,
) -> ExecutorInfo {
    let known = &config.executor;
    let prefix = known.source_prefix.as_deref().unwrap_or("").trim_matches('.');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
    let uri = |uri: &ExecutorUri| Uri {
        value: uri.value.clone(),
        executable: uri.executable,
        extract: uri.extract,
        cache: uri.cache,
    };
    let variable = |(name, value): (&String, &String)| Variable { name: name.clone(), value: value.clone() };
    ExecutorInfo {
        kind: "CUSTOM",
        executor_id: Id::new(task.as_str()),
        framework_id: Id::new(framework.as_str()),
        name: known.name.clone(),
        source: task.parse().ok().map(|(cluster, member, _)| format!("{prefix}{cluster}.{member}")),
        command: CommandInfo {
            shell: true,
            value: known.command.clone(),
            uris: known.uris.iter().map(uri).collect(),
            environment: Environment { variables: known.environment.iter().map(variable).collect() },
            // Said again: Mesos ignores, without a word, when a framework that subscribes again has another user.
            user: Some(config.framework.user.clone()),
        },
        resources,
        shutdown_grace_period: grace,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
