//! What every [`Mesos`] must do.

use crate::ports::mesos::{Launch, Mesos, MesosCall, MesosEvent, Offer, Storage, TaskState, TaskStatus};
use crate::{AgentId, Endpoint, FrameworkId, OfferId, Resources, TaskId};
use bytes::Bytes;
use std::collections::VecDeque;

/// Runs the suite on a fresh adapter whose agents have no task yet, and at least one of which has room for a task of
/// `size` and its executor. Executors of tasks with `data` must say that they run, send each message back with `echo `
/// before it, and obey a kill. Waits without limit for what must come: give it a timeout.
///
/// # Panics
/// When a rule is broken; the message names it.
pub async fn mesos(port: &dyn Mesos, size: Resources, data: Bytes) {
    let (task, other) = (TaskId::from("contract-1"), TaskId::from("contract-2"));
    let mut seen = Seen { port, backlog: VecDeque::new() };
    let framework = seen.subscribe(None).await;
    assert_eq!(seen.subscribe(Some(framework.clone())).await, framework, "a framework keeps its id");

    // Offers.
    let wanted = size.plus(&Resources::EXECUTOR);
    let declined = seen.offer(&wanted).await;
    seen.call(MesosCall::Decline { offers: vec![declined.id.clone()], filter_ms: 3_600_000 }).await;
    seen.call(MesosCall::Revive).await;
    let offer = seen.offer_of(&declined.agent, &wanted).await;
    assert_ne!(offer.id, declined.id, "an offer is made once");
    assert_eq!(
        (&offer.resources, &offer.ports),
        (&declined.resources, &declined.ports),
        "what is declined is still there"
    );

    // Launches.
    let agent = offer.agent.clone();
    let launch = |task: &TaskId| Launch {
        task: task.clone(),
        endpoint: Endpoint::new(offer.host.clone(), offer.ports.ranges()[0].0),
        task_resources: size,
        executor_resources: Resources::EXECUTOR,
        storage: Storage::Sandbox,
        data: data.clone(),
    };
    let accept = |task: &TaskId, offer: &OfferId| MesosCall::Accept {
        offer: offer.clone(),
        agent: agent.clone(),
        launches: vec![launch(task)],
        releases: Vec::new(),
    };
    seen.call(accept(&other, &declined.id)).await;
    seen.status(&other, TaskState::Dropped, "a launch with a stale offer is dropped").await;
    seen.call(accept(&task, &offer.id)).await;

    // News: repeated until acknowledged, in order.
    let mut first = seen.news(&task).await;
    assert_eq!(seen.subscribe(Some(framework.clone())).await, framework);
    let again = seen.news(&task).await;
    assert_eq!(again, first, "what was not acknowledged comes again, and nothing before it");
    while first.state != TaskState::Running {
        assert!(!first.state.is_terminal(), "it runs, instead of: {first:?}");
        seen.acknowledge(&first).await;
        first = seen.news(&task).await;
    }
    seen.acknowledge(&first).await;
    seen.call(accept(&task, &offer.id)).await;

    // Messages.
    let message = MesosCall::Message { task: task.clone(), agent: agent.clone(), data: "contract".into() };
    seen.call(message).await;
    let echoed = MesosEvent::Message { task: task.clone(), data: "echo contract".into() };
    seen.wait(|event| (*event == echoed).then_some(())).await;
    assert!(
        !seen.backlog.iter().any(|event| matches!(event, MesosEvent::Status(status) if status.task == task)),
        "a repeated launch changes nothing, and what was acknowledged does not come again"
    );

    // Reconciliation.
    seen.call(MesosCall::Reconcile(vec![(task.clone(), agent.clone())])).await;
    seen.status(&task, TaskState::Running, "asked for one task, its state comes").await;
    seen.call(MesosCall::Reconcile(Vec::new())).await;
    seen.status(&task, TaskState::Running, "asked for all tasks, its state comes").await;
    seen.call(MesosCall::Reconcile(vec![(other.clone(), agent.clone())])).await;
    seen.terminal(&other, "asked for an unknown task, it is gone").await;

    // Ends.
    seen.call(MesosCall::Kill { task: other.clone(), agent: agent.clone() }).await;
    seen.terminal(&other, "killing an unknown task says that it is gone").await;
    let kill = MesosCall::Kill { task: task.clone(), agent: agent.clone() };
    seen.call(kill.clone()).await;
    seen.call(kill).await;
    let mut last = seen.news(&task).await;
    while !last.state.is_terminal() {
        seen.acknowledge(&last).await;
        last = seen.news(&task).await;
    }
    assert_eq!(last.state, TaskState::Killed, "a kill ends in that state: {last:?}");
    seen.acknowledge(&last).await;
    // All that the task had is offered again, also while less than that is on offer.
    seen.offer_where(|offer| offer.resources == declined.resources && offer.ports == declined.ports).await;
    seen.call(MesosCall::Reconcile(vec![(task.clone(), agent)])).await;
    seen.terminal(&task, "a task that ended is gone").await;
    seen.call(MesosCall::Suppress).await;
}

/// The events that came and were not asked for yet.
struct Seen<'a> {
    port: &'a dyn Mesos,
    backlog: VecDeque<MesosEvent>,
}

impl Seen<'_> {
    async fn subscribe(&mut self, framework: Option<FrameworkId>) -> FrameworkId {
        self.port.subscribe(framework).await.expect("subscribing succeeds");
        self.backlog.clear();
        let first = self.port.next_event().await.expect("events come");
        let MesosEvent::Subscribed(framework) = first else {
            panic!("the first event is that it is subscribed, not {first:?}")
        };
        framework
    }

    async fn call(&self, call: MesosCall) {
        let name = call.name();
        self.port.call(call).await.unwrap_or_else(|error| panic!("{name} is taken, not: {}", error.chain()));
    }

    async fn wait<T>(&mut self, pick: impl Fn(&MesosEvent) -> Option<T>) -> T {
        if let Some(at) = self.backlog.iter().position(|event| pick(event).is_some()) {
            let event = self.backlog.remove(at);
            return event.as_ref().and_then(&pick).expect("picked before");
        }
        loop {
            let event = self.port.next_event().await.expect("events come");
            if let Some(found) = pick(&event) {
                return found;
            }
            if let MesosEvent::Rescinded(id) = &event {
                // It may be among others that are still good, so only it goes.
                for old in &mut self.backlog {
                    if let MesosEvent::Offers(offers) = old {
                        offers.retain(|offer| offer.id != *id);
                    }
                }
            }
            self.backlog.push_back(event);
        }
    }

    async fn offer(&mut self, least: &Resources) -> Offer {
        self.offer_where(|offer| offer.resources.lacks(least).is_none() && !offer.ports.is_empty()).await
    }

    async fn offer_of(&mut self, agent: &AgentId, least: &Resources) -> Offer {
        self.offer_where(|offer| offer.agent == *agent && offer.resources.lacks(least).is_none()).await
    }

    async fn offer_where(&mut self, accept: impl Fn(&Offer) -> bool) -> Offer {
        self.wait(|event| match event {
            MesosEvent::Offers(offers) => offers.iter().find(|offer| accept(offer)).cloned(),
            MesosEvent::Subscribed(_)
            | MesosEvent::Disconnected
            | MesosEvent::Rescinded(_)
            | MesosEvent::Status(_)
            | MesosEvent::Message { .. }
            | MesosEvent::AgentLost(_)
            | MesosEvent::Volume { .. }
            | MesosEvent::Maintenance { .. }
            | MesosEvent::MaintenanceRescinded(_) => None,
        })
        .await
    }

    async fn status_where(&mut self, accept: impl Fn(&TaskStatus) -> bool) -> TaskStatus {
        self.wait(|event| {
            if let MesosEvent::Status(status) = event { Some(status.clone()) } else { None }.filter(&accept)
        })
        .await
    }

    /// News that wants to be acknowledged.
    async fn news(&mut self, task: &TaskId) -> TaskStatus {
        self.status_where(|status| status.task == *task && status.uuid.is_some()).await
    }

    /// An answer, which needs no acknowledgement.
    async fn status(&mut self, task: &TaskId, state: TaskState, rule: &str) {
        let found = self.status_where(|status| status.task == *task && status.uuid.is_none()).await;
        assert_eq!(found.state, state, "{rule}: {found:?}");
    }

    async fn terminal(&mut self, task: &TaskId, rule: &str) {
        let found = self.status_where(|status| status.task == *task && status.uuid.is_none()).await;
        assert!(found.state.is_terminal(), "{rule}: {found:?}");
    }

    async fn acknowledge(&self, status: &TaskStatus) {
        let (task, agent) = (status.task.clone(), status.agent.clone().expect("news says where it comes from"));
        let uuid = status.uuid.clone().expect("news has a uuid");
        self.call(MesosCall::Acknowledge { task, agent, uuid }).await;
    }
}

#[cfg(test)]
mod tests {
    use crate::Resources;
    use crate::testkit::memory_mesos::MemoryMesos;

    #[tokio::test]
    async fn the_memory_mesos_passes() {
        let port = MemoryMesos::new(true);
        port.add_agent("a", "127.0.0.1", Resources::DEFAULT.times(2), [(31_000, 31_001)]);
        super::mesos(&port, Resources::DEFAULT, "{}".into()).await;
    }
}
