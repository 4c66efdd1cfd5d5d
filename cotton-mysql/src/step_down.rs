//! Making an open server read-only without answering or losing anybody's commit.
//!
//! `SET GLOBAL read_only` waits for the commits under way, also for those that wait for an acknowledgement, and lets no
//! new one begin; once it has returned, nothing of the server can change. How long it may wait is the server's own limit:
//! a statement that we gave up would take effect later, when nobody expects it.

use crate::Error;
use crate::accounts::{ADMIN, REPLICATION};
use crate::replication::Control;
use cotton_core::ports::mysql::Frozen;
use std::time::Duration;

/// Users whose sessions are not clients'.
const NOT_CLIENTS: [&str; 5] = [ADMIN, REPLICATION, "system user", "event_scheduler", "unauthenticated user"];
/// Seconds for a second attempt, after what held up the first one was broken off.
const SECOND_ATTEMPT_S: u64 = 1;
/// What a server answers when it waited for a lock as long as it was allowed to.
const LOCK_WAIT_TIMEOUT: u16 = 1205;
/// The session that was to be ended has ended by itself.
const NO_SUCH_THREAD: u16 = 1094;

impl Control<'_> {
    /// Becomes read-only, ends the sessions of clients, and tells the last position.
    pub(crate) async fn step_down(&self, grace: Duration) -> Result<Frozen, Error> {
        if self.facts().await?.writable {
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
        Ok(facts.frozen())
    }

    async fn close(&self, wait_s: u64) -> Result<(), Error> {
        let name = if self.dialect().has_super_read_only() { "super_read_only" } else { "read_only" };
        self.run("limit the wait", &format!("SET SESSION lock_wait_timeout = {wait_s}")).await?;
        let limit = self.limit + Duration::from_secs(2 * wait_s); // some locks, one after the other, and a limit beside it
        let closed = self.link.run("make read-only", &format!("SET GLOBAL {name} = ON"), limit).await;
        self.run("lift the limit", "SET SESSION lock_wait_timeout = DEFAULT").await?;
        closed
    }

    /// Ends what clients are doing, but for commits that wait for an acknowledgement: ended, they would be released. A list of
    /// sessions is old when it is read, and one session may wait for a whole group of commits: therefore MariaDB, where
    /// the wait ends for a session that is killed at once, is asked to end them softly. (Seen with 10.11: clients were told
    /// of a success that no replica had.) MySQL goes on to wait.
    async fn end_sessions(&self) -> Result<(), Error> {
        let kill = if self.dialect().is_mariadb() { "KILL SOFT CONNECTION" } else { "KILL CONNECTION" };
        for session in self.link.query("list sessions", "SHOW FULL PROCESSLIST", self.limit).await? {
            let user = session.text("User").unwrap_or_default();
            let waits = session.text("State").is_some_and(|state| state.to_ascii_lowercase().contains("semi-sync"));
            let Some(id) = session.number("Id").filter(|_| !waits && !NOT_CLIENTS.contains(&user.as_str())) else {
                continue;
            };
            match self.run("end a session", &format!("{kill} {id}")).await {
                Err(error) if error.server_code() == Some(NO_SUCH_THREAD) => {}
                other => other?,
            }
        }
        Ok(())
    }
}
