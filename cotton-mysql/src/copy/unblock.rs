//! Copies of a primary that has lost all its replicas: its commits wait for an acknowledgement, the copy waits for the
//! commits, and only the copy makes the member that could acknowledge.
//!
//! Then all sessions are ended that wait or may wait for them. Their clients are not told success, and the transactions
//! stay: as if the connection had been lost after the commit.
//!
//! MariaDB only: MySQL does not let go of a session that waits. There a clone ends with an error that says so.

use crate::sessions;
use crate::sql::{Link, Record};
use crate::status;
use std::convert::Infallible;
use std::time::Duration;

/// How often a copy is looked at, and how often it must be found with waiting commits and without replicas.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 3;

/// Does so for as long as it is polled.
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
