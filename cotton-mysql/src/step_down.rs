//! Making an open server read-only without answering or losing anybody's commit.
//!
//! `SET GLOBAL read_only` waits for the commits under way, also for those that wait for an acknowledgement, and lets no
//! new one begin; once it has returned, nothing of the server can change. How long it may wait is the server's own limit:
//! a statement that we gave up would take effect later, when nobody expects it.

use crate::Error;
use crate::events;
use crate::replication::Control;
use crate::sessions::{self, Kill};
use cotton_core::ports::mysql::Frozen;
use std::time::Duration;

/// How long noting which events are disabled may hold up a switchover.
const NOTING_MAX: Duration = Duration::from_secs(1);
/// Seconds for a second attempt, after what held up the first one was broken off.
const SECOND_ATTEMPT_S: u64 = 1;
/// What a server answers when it waited for a lock as long as it was allowed to.
const LOCK_WAIT_TIMEOUT: u16 = 1205;

impl Control<'_> {
    /// Becomes read-only, ends the sessions of clients, and tells the last position.
    pub(crate) async fn step_down(&self, grace: Duration) -> Result<Frozen, Error> {
        let was_open = self.facts().await?.writable;
        if was_open {
            // The successor could not tell what was disabled since the last look.
            if let Err(error) = events::keep(self.link, self.limit.min(NOTING_MAX)).await {
                tracing::warn!(%error, "an event that a user has disabled a moment ago may run on the next primary");
            }
        }
        self.run_events(false).await;
        if was_open {
            match self.close(grace.as_secs().max(1)).await {
                Err(error) if error.server_code() == Some(LOCK_WAIT_TIMEOUT) => {
                    self.end_sessions().await?;
                    self.close(SECOND_ATTEMPT_S).await?;
                }
                other => other?,
            }
        }
        self.end_sessions().await?;
        let facts = self.facts().await?;
        if facts.writable {
            return Err(Error::NotYet("the server is open for writes although it was made read-only".to_owned()));
        }
        Ok(self.frozen(facts))
    }

    async fn close(&self, wait_s: u64) -> Result<(), Error> {
        let name = if self.dialect().has_super_read_only() { "super_read_only" } else { "read_only" };
        self.run("limit the wait", &format!("SET SESSION lock_wait_timeout = {wait_s}")).await?;
        let limit = self.limit + Duration::from_secs(2 * wait_s); // some locks, one after the other, and a limit beside it
        let closed = self.link.run("make read-only", &format!("SET GLOBAL {name} = ON"), limit).await;
        self.run("lift the limit", "SET SESSION lock_wait_timeout = DEFAULT").await?;
        closed
    }

    /// Ends what clients are doing, but for commits that wait for an acknowledgement; nothing while one waits for room. A
    /// list of sessions is old when it is read, so also those must not be released that begin to wait meanwhile.
    async fn end_sessions(&self) -> Result<(), Error> {
        let how = if self.dialect().is_mariadb() { Kill::Soft } else { Kill::Hard };
        sessions::ensure_room(self.link, self.limit).await?;
        for session in sessions::of_clients(self.link, self.limit).await?.into_iter().filter(|session| !session.waits) {
            session.end(self.link, how, self.limit).await?;
        }
        Ok(())
    }
}
