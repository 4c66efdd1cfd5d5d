//! The executor API: calls posted to `/api/v1/executor` of an agent, and the events that it streams back.

use super::common::{Base64, Id, KillPolicy, TaskInfo, TaskStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where calls are posted.
pub const PATH: &str = "/api/v1/executor";

/// What an executor says, with who it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Which executor.
    pub executor_id: Id,
    /// Of which framework.
    pub framework_id: Id,
    /// What it says.
    #[serde(flatten)]
    pub body: CallBody,
}

/// What an executor says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CallBody {
    /// Asks for events; the response does not end.
    Subscribe {
        /// What the agent may not know.
        #[serde(default)]
        subscribe: Subscribe,
    },
    /// Tells the state of a task.
    Update {
        /// The state.
        update: Update,
    },
    /// Says something to the scheduler.
    Message {
        /// What.
        message: Message,
    },
    /// Keeps a connection open.
    Heartbeat,
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// What an agent may not know when an executor subscribes (again).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Tasks of which no state was acknowledged yet.
    #[serde(default)]
    pub unacknowledged_tasks: Vec<TaskInfo>,
    /// States that were not acknowledged yet, oldest first.
    #[serde(default)]
    pub unacknowledged_updates: Vec<Update>,
}

/// State of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The state, with a uuid.
    pub status: TaskStatus,
}

/// Arbitrary data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The data.
    pub data: Base64,
}

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// The first event of a subscription.
    Subscribed {
        /// Who is connected with whom.
        subscribed: Subscribed,
    },
    /// A task to run.
    Launch {
        /// The task.
        launch: Launch,
    },
    /// Several tasks to run.
    LaunchGroup {
        /// The tasks.
        launch_group: LaunchGroup,
    },
    /// A task to end.
    Kill {
        /// Which, and how.
        kill: Kill,
    },
    /// The scheduler has acknowledged a state.
    Acknowledged {
        /// Which.
        acknowledged: Acknowledged,
    },
    /// The scheduler says something.
    Message {
        /// What.
        message: Message,
    },
    /// The executor shall end.
    Shutdown,
    /// The executor did something wrong.
    Error {
        /// What.
        error: ErrorText,
    },
    /// The connection is alive.
    Heartbeat,
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}

/// Who is connected with whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The executor, as it was launched.
    #[serde(default)]
    pub executor_info: Value,
    /// Its framework.
    #[serde(default)]
    pub framework_info: Value,
    /// Its agent.
    #[serde(default)]
    pub agent_info: Value,
    /// Its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<Id>,
}

/// A task to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The task.
    pub task: TaskInfo,
}

/// Several tasks to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchGroup {
    /// The group.
    pub task_group: TaskGroup,
}

/// Several tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskGroup {
    /// The tasks.
    pub tasks: Vec<TaskInfo>,
}

/// A task to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Which.
    pub task_id: Id,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

/// A state that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Of which task.
    pub task_id: Id,
    /// The uuid of the update.
    pub uuid: Base64,
}

/// What an executor did wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorText {
    /// In words.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::common::{DurationInfo, Source, TaskState};
    use serde_json::{Map, json};

    /// What an agent of Mesos 1.11.0 sent (the last line is made up), with shortened ids.
    const EVENTS: &str = include_str!("golden/executor-events.jsonl");
    /// What such an agent understood.
    const CALLS: &str = include_str!("golden/executor-calls.jsonl");
    const UUID: [u8; 16] = *b"\x7f\x9f\xc4F\x15\xab@\x9b\x98\xaep\x875\xec\x00\x9f";

    #[test]
    fn events_are_understood() {
        let mut events = EVENTS.lines().map(|line| serde_json::from_str::<Event>(line).expect(line));
        let mut next = || events.next().expect("a line each");
        let Event::Subscribed { subscribed } = next() else { panic!("not SUBSCRIBED") };
        assert_eq!(subscribed.agent_info["id"]["value"], "F-S0");
        let Event::Launch { launch } = next() else { panic!("not LAUNCH") };
        assert_eq!(launch.task.task_id, Id::new("t2"));
        assert_eq!(launch.task.data, Some(Base64("x".into())));
        let grace = launch.task.kill_policy.and_then(|policy| policy.grace_period);
        assert_eq!(grace.map(DurationInfo::as_millis), Some(3000));
        let Event::LaunchGroup { launch_group } = next() else { panic!("not LAUNCH_GROUP") };
        assert_eq!(launch_group.task_group.tasks[0].task_id, Id::new("t3"));
        let uuid = Base64(UUID.to_vec().into());
        assert_eq!(next(), Event::Acknowledged { acknowledged: Acknowledged { task_id: Id::new("t2"), uuid } });
        assert_eq!(next(), Event::Message { message: Message { data: Base64("hi".into()) } });
        assert_eq!(next(), Event::Kill { kill: Kill { task_id: Id::new("t2"), kill_policy: None } });
        let Event::Kill { kill } = next() else { panic!("not KILL") };
        assert_eq!(kill.kill_policy, Some(KillPolicy { grace_period: Some(DurationInfo::from_millis(5000)) }));
        assert_eq!(next(), Event::Error { error: ErrorText { message: "Unrecoverable error".into() } });
        assert_eq!([next(), next(), next()], [Event::Heartbeat, Event::Shutdown, Event::Unknown]);
        assert!(events.next().is_none());
    }

    #[test]
    fn tasks_are_given_back_as_they_came() {
        let line = EVENTS.lines().nth(1).expect("LAUNCH");
        let (event, json): (Event, Value) =
            (serde_json::from_str(line).expect("event"), serde_json::from_str(line).expect("json"));
        assert_eq!(serde_json::to_value(event).expect("json"), json);
    }

    #[test]
    fn calls_are_what_agents_understand() {
        let status = |state, message: Option<&str>, full: bool| TaskStatus {
            task_id: Id::new("t"),
            state,
            message: message.map(str::to_owned),
            source: Some(Source::SourceExecutor),
            reason: None,
            agent_id: None,
            executor_id: full.then(|| Id::new("e")),
            timestamp: full.then_some(1_795_364_997.5),
            uuid: Some(Base64(UUID.to_vec().into())),
        };
        let rest =
            Map::from_iter([("name".to_owned(), json!("t")), ("agent_id".to_owned(), json!({ "value": "F-S0" }))]);
        let task = TaskInfo { task_id: Id::new("t"), data: Some(Base64("x".into())), kill_policy: None, rest };
        let running = Update { status: status(TaskState::TaskRunning, Some("it runs"), true) };
        let subscribe = Subscribe { unacknowledged_tasks: vec![task], unacknowledged_updates: vec![running] };
        let calls = [
            CallBody::Subscribe { subscribe },
            CallBody::Update { update: Update { status: status(TaskState::TaskKilled, None, false) } },
            CallBody::Message { message: Message { data: Base64("hi".into()) } },
        ];
        assert_eq!(CALLS.lines().count(), calls.len());
        for (body, line) in calls.into_iter().zip(CALLS.lines()) {
            let call = Call { executor_id: Id::new("e"), framework_id: Id::new("F-0000"), body };
            let expected: Value = serde_json::from_str(line).expect("json");
            assert_eq!(serde_json::to_value(&call).expect("json"), expected);
            assert_eq!(serde_json::from_value::<Call>(expected).expect("call"), call);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "{}", "[]", r#"{"type":1}"#, r#"{"type":"LAUNCH"}"#, r#"{"type":"MESSAGE","message":{"data":"?"}}"#]
        {
            assert!(serde_json::from_str::<Event>(text).is_err(), "{text}");
        }
    }
}
