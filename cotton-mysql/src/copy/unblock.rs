//! Copies of a primary that has lost all its replicas: its commits wait for an acknowledgement, the copy waits for the
//! commits, and only the copy makes the member that could acknowledge.
//!
//! Then all sessions are ended that wait or may wait for them. Their clients are not told success, and the transactions
//! stay: as if the connection had been lost after the commit.
//!
//! MariaDB lets go of a session that waits when that is ended. MySQL goes on to wait (9.7), but cuts the client's connection
//! at once. So there the commits are let go by switching semi-synchronous replication off for the few milliseconds in which
//! no client is connected, and none can connect (`offline_mode`). Only then does the clone, which waits for them, go on.

use crate::Error;
use crate::dialect::Dialect;
use crate::sessions::{self, Kill};
use crate::sql::{Link, Record};
use crate::status;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::Instant;

/// How often a copy is looked at, and how often it must be found with waiting commits and without replicas.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 3;

/// How long MySQL may take to do what takes it milliseconds, and how often that is looked at.
const MOMENT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// How long acknowledgements are off at the first attempt to let go of commits; twice as long at each further one.
const PULSE: Duration = Duration::from_millis(20);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Does so on MariaDB for as long as it is polled.
pub(super) async fn unblock(link: &Link, limit: Duration) -> Infallible {
    let status = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'";
    let mut looks = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let copies = |row: &Record| row.text("State").is_some_and(|state| state.contains("backup lock"));
        let is_copying = status::processes(link, limit).await.is_ok_and(|processes| processes.iter().any(copies));
        let is_alone = is_copying
            && link.row("count replicas", status, limit).await.is_ok_and(|row| row.at(1).as_deref() == Some("0"));
        looks = if is_alone { looks + 1 } else { 0 };
        if looks < LOOKS {
            continue;
        }
        match sessions::give_up_waiting(link, limit).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(
                count,
                "commits wait for an acknowledgement and a copy for them: their sessions were ended"
            ),
            Err(error) => tracing::warn!(%error, "could not end sessions that a copy waits for"), // looked at again
        }
    }
}

/// How long a MySQL has given a clone while commits waited for an acknowledgement that nobody could send.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    sent: Option<u64>,
    used: u32,
}

impl Patience {
    /// To be asked every second, with the bytes that the server has sent so far. A server that gives a clone and sends next
    /// to nothing waits; the clone's stage is not to be seen without the performance schema. Where clients read much, the
    /// bytes are theirs, and that cannot be told.
    pub(crate) const fn is_over(&mut self, sent: u64) -> bool {
        const LITTLE: u64 = 1024 * 1024;
        const MAX: u32 = 60;
        if let Some(before) = self.sent {
            self.used += if sent.saturating_sub(before) < LITTLE { MAX / LOOKS } else { 1 };
        }
        self.sent = Some(sent);
        let is_over = self.used >= MAX;
        if is_over {
            self.used = 0;
        }
        is_over
    }
}

/// How many bytes a MySQL has sent since it began, if it gives a clone.
pub(crate) async fn sent_with_a_clone(link: &Link, limit: Duration) -> Result<Option<u64>, Error> {
    if !is_cloned(link, limit).await? {
        return Ok(None);
    }
    let row = link.row("count what was sent", "SHOW GLOBAL STATUS LIKE 'Bytes_sent'", limit).await?;
    Ok(row.at(1).and_then(|bytes| bytes.parse().ok()))
}

async fn is_cloned(link: &Link, limit: Duration) -> Result<bool, Error> {
    let gives = |row: &Record| row.text("Command").is_some_and(|command| command.eq_ignore_ascii_case("clone"));
    Ok(status::processes(link, limit).await?.iter().any(gives))
}

/// Lets go of all commits of a MySQL without replicas that wait, and cuts all clients off first. Must not be given up before
/// it ends, nor meet a change of the server's role.
///
/// # Errors
/// If the server answers with one. Clients stay cut off where acknowledgements could not be switched on again: nobody must be
/// told of a commit that no replica has.
pub(crate) async fn let_go(link: &Link, dialect: Dialect, limit: Duration) -> Result<(), Error> {
    // Nobody but our own accounts and the administrator has the privilege to stay.
    let done = match link.run("cut clients off", "SET GLOBAL offline_mode = ON", limit).await {
        Ok(()) => without_clients(link, dialect, limit).await,
        Err(error) => Err(error),
    };
    let wanted = format!("SET GLOBAL {} = ON", switch(dialect));
    insist(link, "want acknowledgements", &wanted, limit).await?;
    if done.is_ok() {
        // It ends soon, unless it had still more to send. The commits of those who come back wait again.
        let until = Instant::now() + MOMENT;
        while Instant::now() < until && is_cloned(link, limit).await.unwrap_or(false) {
            tokio::time::sleep(PAUSE).await;
        }
    }
    insist(link, "let clients in again", "SET GLOBAL offline_mode = OFF", limit).await?;
    done
}

async fn without_clients(link: &Link, dialect: Dialect, limit: Duration) -> Result<(), Error> {
    // A session that is ended can send nothing any more from the moment on at which it is listed so.
    for session in sessions::of_clients(link, limit).await?.into_iter().filter(|session| !session.is_ended) {
        session.end(link, Kill::Hard, limit).await?;
    }
    if sessions::of_clients(link, limit).await?.iter().any(|session| !session.is_ended) {
        return Err(Error::NotYet("clients are connected although all were cut off".to_owned()));
    }
    // Off for as short a time as it takes: the administrator can connect all the same. Who waits looks again when it is told
    // that acknowledgements are off, and must find them so; off and on in one statement lets nobody go.
    let (off, on) = (format!("SET GLOBAL {} = OFF", switch(dialect)), format!("SET GLOBAL {} = ON", switch(dialect)));
    let (mut gap, until) = (PULSE, Instant::now() + MOMENT);
    while Instant::now() < until {
        link.run("let go of commits", &off, limit).await?;
        let are_gone = are_ended_gone(link, Instant::now() + gap, limit).await?;
        link.run("want acknowledgements again", &on, limit).await?;
        if are_gone {
            return Ok(());
        }
        gap *= 2;
    }
    Err(Error::Timeout { what: "the end of sessions", after: MOMENT })
}

/// Whether the last session that was ended is gone before that time. No statement is given up: its connection would be lost.
async fn are_ended_gone(link: &Link, until: Instant, limit: Duration) -> Result<bool, Error> {
    loop {
        let sessions = sessions::of_clients(link, limit).await?;
        let are_gone = !sessions.iter().any(|session| session.is_ended);
        if are_gone || Instant::now() >= until {
            return Ok(are_gone);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The variable that says whether commits wait for acknowledgements.
fn switch(dialect: Dialect) -> String {
    format!("rpl_semi_sync_{}_enabled", dialect.statements().semi_sync_source)
}

/// Says it until the server has done it, or has not for seconds.
async fn insist(link: &Link, what: &'static str, sql: &str, limit: Duration) -> Result<(), Error> {
    const TRIES: u32 = 50;
    let mut tries = 0;
    loop {
        match link.run(what, sql, limit).await {
            Err(error) if tries == TRIES => return Err(error), // there is no server any more
            Err(_) => tokio::time::sleep(5 * PAUSE).await,
            Ok(()) => return Ok(()),
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_waited_for_while_it_goes_on() {
        let over = |step: u64| {
            let mut patience = Patience::default();
            (0..100).find(|second| patience.is_over(second * step))
        };
        assert_eq!((over(10_000), over(50_000_000)), (Some(3), Some(60)));
    }
}
