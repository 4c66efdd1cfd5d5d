//! Copies of a primary that has lost all its replicas: its commits wait for an acknowledgement, the copy waits for the
//! commits, and only the copy makes the member that could acknowledge.
//!
//! Then the waiting sessions are ended. Their clients are not told success, and the transactions stay: as if the
//! connection had been lost after the commit.
//!
//! MariaDB only: MySQL does not let go of a session that waits. There a clone ends with an error that says so.

use crate::sql::Link;
use std::convert::Infallible;
use std::time::Duration;

/// How often a copy is looked at, and how often it must be found with waiting commits and without replicas.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 3;

/// Does so for as long as it is polled.
pub(super) async fn unblock(link: &Link, limit: Duration) -> Infallible {
    let status = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'";
    let copies = "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE STATE LIKE '%backup lock%'";
    let waiting = "SELECT ID FROM information_schema.processlist WHERE STATE LIKE '%semi-sync ACK%'";
    let mut looks = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let is_copying =
            link.row("look for a copy", copies, limit).await.is_ok_and(|row| row.text("n").as_deref() != Some("0"));
        let is_alone = is_copying
            && link.row("count replicas", status, limit).await.is_ok_and(|row| row.at(1).as_deref() == Some("0"));
        looks = if is_alone { looks + 1 } else { 0 };
        if looks < LOOKS {
            continue;
        }
        for row in link.query("find waiting commits", waiting, limit).await.unwrap_or_default() {
            let Some(id) = row.at(0).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
            tracing::warn!(session = id, "its commit waits for an acknowledgement and a copy for it: ended");
            let _ = link.run("end a waiting session", &format!("KILL CONNECTION {id}"), limit).await; // looked at again
        }
    }
}
