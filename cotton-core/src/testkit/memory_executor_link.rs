//! An [`ExecutorLink`] in memory, with the agent's side of it for a test or an embedder's own agent.

use crate::ports::executor_link::{ExecutorLink, LinkEvent};
use crate::ports::mesos::TaskState;
use crate::{ErrorKind, PortError, TaskId};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A link and its agent; clones share them. Begins without a connection.
#[derive(Clone, Debug, Default)]
pub struct MemoryExecutorLink {
    shared: Arc<Mutex<Shared>>,
}

/// A state that an executor told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of which task.
    pub task: TaskId,
    /// What.
    pub state: TaskState,
    /// For people.
    pub message: String,
}

#[derive(Debug, Default)]
struct Shared {
    connected: bool,
    refused: bool,
    events: VecDeque<LinkEvent>,
    /// Oldest first.
    unacknowledged: VecDeque<Told>,
    /// How many of those the agent has taken, from the oldest on.
    taken: usize,
    messages: VecDeque<Bytes>,
    wakers: Vec<Waker>,
}

impl MemoryExecutorLink {
    /// Without a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects, and gives the states that were not acknowledged: they come along with a connection.
    pub fn connect(&self) -> Vec<Told> {
        self.change(|shared| {
            shared.connected = true;
            shared.events.push_back(LinkEvent::Connected);
            shared.taken = shared.unacknowledged.len();
            shared.unacknowledged.iter().cloned().collect()
        })
    }

    /// Ends the connection.
    pub fn disconnect(&self) {
        self.change(|shared| {
            shared.connected = false;
            shared.events.push_back(LinkEvent::Disconnected);
        });
    }

    /// Ends the link for good.
    pub fn refuse(&self) {
        self.change(|shared| (shared.refused, shared.connected) = (true, false));
    }

    /// Tells the executor something: a launch, a kill, a message or a shutdown.
    pub fn say(&self, event: LinkEvent) {
        self.change(|shared| shared.events.push_back(event));
    }

    /// Acknowledges the oldest state that is not acknowledged; false when there is none.
    pub fn acknowledge(&self) -> bool {
        self.change(|shared| {
            let Some(told) = shared.unacknowledged.pop_front() else { return false };
            shared.taken = shared.taken.saturating_sub(1);
            shared.events.push_back(LinkEvent::Acknowledged(told.state));
            true
        })
    }

    /// The next state that the executor tells over the present connection; waits for it.
    pub async fn told(&self) -> Told {
        self.wait(|shared| {
            let next = shared.unacknowledged.get(shared.taken).filter(|_| shared.connected).cloned()?;
            shared.taken += 1;
            Some(next)
        })
        .await
    }

    /// The next message for the scheduler; waits for it.
    pub async fn heard(&self) -> Bytes {
        self.wait(|shared| shared.messages.pop_front()).await
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.shared();
        let done = act(&mut shared);
        shared.wakers.drain(..).for_each(Waker::wake);
        done
    }

    async fn wait<T>(&self, mut ready: impl FnMut(&mut Shared) -> Option<T>) -> T {
        poll_fn(|context| {
            let mut shared = self.shared();
            if let Some(value) = ready(&mut shared) {
                return Poll::Ready(value);
            }
            shared.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[async_trait]
impl ExecutorLink for MemoryExecutorLink {
    async fn next_event(&self) -> Result<LinkEvent, PortError> {
        self.wait(|shared| match shared.events.pop_front() {
            Some(event) => Some(Ok(event)),
            None => shared.refused.then(|| Err(closed("receive an event"))),
        })
        .await
    }

    async fn update(&self, task: &TaskId, state: TaskState, message: &str) -> Result<(), PortError> {
        if matches!(state, TaskState::Staging | TaskState::Unreachable | TaskState::Lost) {
            return Err(PortError::permanent(
                ErrorKind::Invalid,
                "tell a state",
                format!("{state:?} is not an executor's"),
            ));
        }
        self.change(|shared| {
            if shared.refused {
                return Err(closed("tell a state"));
            }
            shared.unacknowledged.push_back(Told { task: task.clone(), state, message: message.to_owned() });
            Ok(())
        })
    }

    async fn send(&self, data: Bytes) -> Result<(), PortError> {
        self.change(|shared| {
            if shared.refused {
                return Err(closed("say something to the scheduler"));
            }
            if shared.connected {
                shared.messages.push_back(data);
            }
            Ok(())
        })
    }
}

fn closed(operation: &'static str) -> PortError {
    PortError::permanent(ErrorKind::Unreachable, operation, "the agent refused this executor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::contract::executor_link::{AgentSide, executor_link};

    impl AgentSide for MemoryExecutorLink {
        async fn connect(&mut self) -> usize {
            Self::connect(self).len()
        }
        async fn disconnect(&mut self) {
            Self::disconnect(self);
        }
        async fn refuse(&mut self) {
            Self::refuse(self);
        }
        async fn send(&mut self, event: LinkEvent) {
            self.say(event);
        }
        async fn told(&mut self) -> TaskState {
            Self::told(self).await.state
        }
        async fn acknowledge(&mut self) {
            assert!(Self::acknowledge(self), "there is one to acknowledge");
        }
        async fn heard(&mut self) -> Bytes {
            Self::heard(self).await
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let link = MemoryExecutorLink::new();
        let mut agent = link.clone();
        let suite = executor_link(&link, &mut agent);
        tokio::time::timeout(std::time::Duration::from_secs(10), suite).await.expect("the suite ends");
    }
}
