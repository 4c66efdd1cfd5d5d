//! Sessions of clients, and how to end them without an answer that is not true.
//!
//! On MariaDB the wait for an acknowledgement ends for a session that is killed, and the session that waits may be the
//! leader of a group of commits: its followers' clients are then told that all is done. (Seen with 10.11.) A *soft* kill
//! leaves the wait alone. Where the wait has to end, the followers' connections are cut first, so that no answer reaches
//! anybody. MySQL goes on to wait, whoever is killed, and only cuts the connection.

use crate::Error;
use crate::accounts::{ADMIN, REPLICATION};
use crate::sql::Link;
use crate::status;
use std::time::Duration;

/// Users whose sessions are not clients'.
const NOT_CLIENTS: [&str; 5] = [ADMIN, REPLICATION, "system user", "event_scheduler", "unauthenticated user"];
/// The session that was to be ended has ended by itself.
const NO_SUCH_THREAD: u16 = 1094;

/// One session, as it was when it was listed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    id: u64,
    /// Whether its commit waits for an acknowledgement, or that of a group that it speaks for.
    pub(crate) waits: bool,
    /// Whether it was ended already, and only has not noticed yet: its connection is cut.
    pub(crate) is_ended: bool,
}

/// How a session is ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kill {
    /// Its connection is cut, and what it does is broken off.
    Hard,
    /// The same, but for what must not be broken off (MariaDB).
    Soft,
}

/// Whether sessions of that user are a client's.
pub(crate) fn is_client(user: &str) -> bool {
    !NOT_CLIENTS.contains(&user)
}

/// All sessions of clients.
pub(crate) async fn of_clients(link: &Link, limit: Duration) -> Result<Vec<Session>, Error> {
    let mut sessions = Vec::new();
    for row in link.query("list sessions", "SHOW FULL PROCESSLIST", limit).await? {
        let user = row.text("User").unwrap_or_default();
        let waits = row.text("State").is_some_and(|state| state.to_ascii_lowercase().contains("semi-sync"));
        if let Some(id) = row.number("Id").filter(|_| is_client(&user)) {
            let is_ended = row.text("Command").as_deref() == Some("Killed");
            sessions.push(Session { id, waits, is_ended });
        }
    }
    Ok(sessions)
}

/// Makes sure that no commit of a MariaDB waits for room on the disk. If the session ends that writes it, the write is broken
/// off in the middle of the binary log: no replica reads beyond that, and what was written with it is rolled back here and
/// may be applied there. (Seen with 10.11, for every kind of `KILL`. MySQL ends its server, and recovers.)
pub(crate) async fn ensure_room(link: &Link, limit: Duration) -> Result<(), Error> {
    if status::processes(link, limit).await?.iter().any(status::waits_for_room) {
        return Err(Error::NoRoom("a commit waits for room on the disk, and must not be broken off".to_owned()));
    }
    Ok(())
}

/// Sessions of one user, wherever they come from.
pub(crate) async fn of_user(link: &Link, user: &str, limit: Duration) -> Result<Vec<u64>, Error> {
    let rows = link.query("list sessions", "SHOW FULL PROCESSLIST", limit).await?;
    let theirs = rows.iter().filter(|row| row.text("User").as_deref() == Some(user));
    Ok(theirs.filter_map(|row| row.number("Id")).collect())
}

impl Session {
    /// Ends it, if it has not ended by itself.
    pub(crate) async fn end(self, link: &Link, how: Kill, limit: Duration) -> Result<(), Error> {
        end(link, self.id, how, limit).await
    }
}

/// Ends a session, if it has not ended by itself.
pub(crate) async fn end(link: &Link, id: u64, how: Kill, limit: Duration) -> Result<(), Error> {
    let soft = if matches!(how, Kill::Soft) { "SOFT " } else { "" };
    match link.run("end a session", &format!("KILL {soft}CONNECTION {id}"), limit).await {
        Err(error) if error.server_code() == Some(NO_SUCH_THREAD) => Ok(()),
        other => other,
    }
}

/// Ends the wait of commits that nobody will acknowledge; no client is told that they are done. Gives how many sessions
/// spoke for them.
pub(crate) async fn give_up_waiting(link: &Link, limit: Duration) -> Result<usize, Error> {
    let waiting: Vec<Session> = of_clients(link, limit).await?.into_iter().filter(|session| session.waits).collect();
    if waiting.is_empty() {
        return Ok(0);
    }
    ensure_room(link, limit).await?;
    // Whoever belongs to a group that waits already is among those that are listed now.
    for session in of_clients(link, limit).await? {
        if waiting.iter().all(|leader| leader.id != session.id) && !session.waits {
            session.end(link, Kill::Hard, limit).await?;
        }
    }
    for leader in &waiting {
        leader.end(link, Kill::Hard, limit).await?;
    }
    Ok(waiting.len())
}
