//! What every [`ExecutorLink`] must do.

use crate::TaskId;
use crate::ports::executor_link::{ExecutorLink, LinkEvent};
use crate::ports::mesos::TaskState;
use bytes::Bytes;

/// The other end of a link, played by the test: an agent that takes states and messages at once, keeps them until they
/// are asked for, and else does only what it is told.
#[allow(async_fn_in_trait, reason = "called from one place, which does not move it between threads")]
pub trait AgentSide {
    /// Lets the link connect, and says how many states it brought along that were not acknowledged.
    async fn connect(&mut self) -> usize;
    /// Ends the connection.
    async fn disconnect(&mut self);
    /// Refuses the next attempt to connect for good.
    async fn refuse(&mut self);
    /// Sends an event: a launch, a kill, a message or a shutdown.
    async fn send(&mut self, event: LinkEvent);
    /// The next state that the link tells, apart from those that it brought along.
    async fn told(&mut self) -> TaskState;
    /// Acknowledges the oldest state that is not acknowledged.
    async fn acknowledge(&mut self);
    /// The next message for the scheduler.
    async fn heard(&mut self) -> Bytes;
}

/// Runs the suite on a link that was just made and is not connected yet. Waits without limit for what must come: give it
/// a timeout.
///
/// # Panics
/// When a rule is broken; the message names it.
pub async fn executor_link(link: &dyn ExecutorLink, agent: &mut impl AgentSide) {
    let task = TaskId::from("t");
    let next = async || link.next_event().await.expect("events come");
    assert_eq!(agent.connect().await, 0, "nothing was told yet");
    assert_eq!(next().await, LinkEvent::Connected, "a connection is announced");

    // Events come as they were sent, in order.
    let events = [
        LinkEvent::Launch { task: task.clone(), data: "data".into() },
        LinkEvent::Message("to the executor".into()),
        LinkEvent::Kill { task: task.clone(), grace_ms: 5000 },
    ];
    for event in &events {
        agent.send(event.clone()).await;
    }
    for event in events {
        assert_eq!(next().await, event, "events come in order");
    }

    // States are told in order, and brought along until they are acknowledged.
    link.update(&task, TaskState::Starting, "").await.expect("taken");
    link.update(&task, TaskState::Running, "it runs").await.expect("taken");
    assert_eq!(agent.told().await, TaskState::Starting, "states are told in order");
    assert_eq!(agent.told().await, TaskState::Running, "a state need not wait for the acknowledgement of another");
    agent.acknowledge().await;
    assert_eq!(next().await, LinkEvent::Acknowledged(TaskState::Starting), "acknowledgements are passed on");
    agent.disconnect().await;
    assert_eq!(next().await, LinkEvent::Disconnected, "a lost connection is announced");
    link.send("lost".into()).await.expect("a message without a connection is dropped");
    link.update(&task, TaskState::Killing, "").await.expect("a state without a connection is kept");
    assert_eq!(agent.connect().await, 2, "what was not acknowledged is brought along");
    assert_eq!(next().await, LinkEvent::Connected, "connected again, by itself");
    agent.acknowledge().await;
    agent.acknowledge().await;
    assert_eq!(next().await, LinkEvent::Acknowledged(TaskState::Running));
    assert_eq!(next().await, LinkEvent::Acknowledged(TaskState::Killing));

    link.send("to the scheduler".into()).await.expect("a message with a connection leaves");
    assert_eq!(
        agent.heard().await,
        "to the scheduler",
        "messages leave as they are, and those that were dropped do not"
    );
    let wrong = link.update(&task, TaskState::Unreachable, "").await;
    wrong.expect_err("an executor cannot say that its agent is unreachable");

    // The end.
    agent.disconnect().await;
    assert_eq!(next().await, LinkEvent::Disconnected);
    agent.refuse().await;
    link.next_event().await.expect_err("refused for good, no event can come");
    link.next_event().await.expect_err("and none later");
    link.update(&task, TaskState::Killed, "").await.expect_err("a closed link takes no state");
    link.send("x".into()).await.expect_err("a closed link takes no message");
}
