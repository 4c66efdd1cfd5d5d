//! Applying what was received, once nothing more is received.
//!
//! MySQL's applier goes on where it was, whoever stopped it. MariaDB's throws its relay logs away when it is started by
//! GTIDs while the receiver is stopped, too; told where in which file to begin, and not to use GTIDs, it applies them.
//! (Seen on 10.11: it then needs the name of some binary log of its source as well, or its workers crash the server.)
//! It begins with the first transaction that is not executed: in strict mode it would stop at one that is.
//!
//! In strict mode it also stops where something that was written here has the number of what was received (1950), as any
//! user can bring about (`ANALYZE TABLE` of a table that does not exist, on 11.8). While a primary lives, such a replica is
//! replaced by a copy. One that is to become primary may be the last to have what it has received: it applies it all the
//! same, out of order, as MySQL does and MariaDB without strict mode.

use crate::Error;
use crate::blockers::Blockers;
use crate::history::newest_of_servers;
use crate::replication::Control;
use crate::status::{Facts, Replica};
use cotton_core::ports::mysql::Drained;
use std::time::Duration;
use tokio::time::Instant;

/// How long a promotion waits for an applier that is nearly there.
const NEARLY_MS: u64 = 100;

/// How long the applier is given before it is looked at what holds it back, and from one look to the next.
const LOOK_MS: u64 = 150;

/// How long until an applier that has ended without telling why is started again.
const AGAIN: Duration = Duration::from_millis(50);

/// An attempt to apply a GTID whose number is not above all that were written here.
const OUT_OF_ORDER: u64 = 1950;

/// Whether what was received is to be applied where it collides with what was written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Not before it, and so not at all.
    Strict,
    /// Behind it.
    Any,
}

/// What [`Control::apply_received`] came to.
#[derive(Debug)]
pub(crate) struct Applied {
    /// Of the end.
    pub(crate) facts: Facts,
    /// Why it does not go on, if it does not.
    pub(crate) obstacle: Option<String>,
}

impl Control<'_> {
    /// As the port says.
    pub(crate) async fn drain(&self, budget: Duration) -> Result<Drained, Error> {
        let deadline = Instant::now() + budget;
        let facts = self.read_only_facts().await?;
        let facts = self.stop_receiving(facts).await?;
        let applied = self.apply_received(facts, deadline, Order::Any).await;
        if self.dialect().is_mariadb() {
            self.run("be strict again", "SET GLOBAL gtid_strict_mode = ON").await?;
        }
        let Applied { facts, obstacle } = applied?;
        let done = facts.is_applied();
        Ok(Drained { position: facts.position, unapplied: facts.unapplied, done, obstacle })
    }

    /// Waits for a moment for an applier that is at work, and gives the facts of after.
    pub(crate) async fn nearly_applied(&self, facts: Facts) -> Result<Facts, Error> {
        match &facts.replica {
            Some(replica) if replica.applying => {
                self.wait_for_applier(replica, Duration::from_millis(NEARLY_MS)).await?;
                self.facts().await
            }
            Some(_) | None => Ok(facts),
        }
    }

    /// Waits until all that was received is applied, and sees to it that nothing of clients is in the way. The receiver
    /// must be stopped.
    pub(crate) async fn apply_received(
        &self,
        mut facts: Facts,
        deadline: Instant,
        order: Order,
    ) -> Result<Applied, Error> {
        let mut blockers = Blockers::default();
        let (mut started, mut is_strict) = (false, true);
        // Not more often: InnoDB tells of transactions what it knew a tenth of a second ago, for as long as it is asked sooner.
        let mut next_look = Instant::now() + Duration::from_millis(LOOK_MS);
        loop {
            let Some(replica) = facts.replica.as_ref().filter(|_| !facts.is_applied()) else {
                return Ok(Applied { facts, obstacle: None });
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let obstacle = self.obstacle(&facts).or(blockers.waits_for);
                return Ok(Applied { facts, obstacle });
            }
            if replica.applying {
                self.wait_for_applier(replica, left.min(Duration::from_millis(LOOK_MS))).await?;
                facts = self.facts().await?;
                if !facts.is_applied() && Instant::now() >= next_look {
                    blockers.end(self.link, self.limit).await?;
                    next_look = Instant::now() + Duration::from_millis(LOOK_MS);
                }
                continue;
            }
            if started {
                if let Some(obstacle) = self.obstacle(&facts) {
                    if !is_strict || order == Order::Strict || !self.is_only_out_of_order(&facts)? {
                        return Ok(Applied { facts, obstacle: Some(obstacle) });
                    }
                    tracing::warn!(obstacle, "applied all the same, out of order");
                    self.run("apply out of order", "SET GLOBAL gtid_strict_mode = OFF").await?;
                    is_strict = false;
                }
                tokio::time::sleep(AGAIN.min(left)).await; // it ended without a reason, or tells it in a moment
            }
            started = true;
            match self.start_applying(&facts).await {
                Err(Error::Sql { source: source @ mysql_async::Error::Server(_), .. }) => {
                    return Ok(Applied { facts, obstacle: Some(source.to_string()) });
                }
                other => other?,
            }
            facts = self.facts().await?;
        }
    }

    /// Whether MariaDB's applier has stopped for no other reason than that something written here has the number of what is
    /// to be applied, which is not executed yet.
    fn is_only_out_of_order(&self, facts: &Facts) -> Result<bool, Error> {
        let error = facts.replica.as_ref().and_then(|replica| replica.apply_error.as_ref());
        let Some((_, text)) = error.filter(|(code, _)| *code == OUT_OF_ORDER) else { return Ok(false) };
        let gtid = |word: &str| -> Option<[u64; 3]> {
            let numbers: Option<Vec<u64>> = word.split('-').map(|number| number.parse().ok()).collect();
            numbers?.try_into().ok()
        };
        let mut gtids = text.split([' ', ',']).filter_map(gtid);
        let (Some([domain, received, seq]), Some([_, existing, _])) = (gtids.next(), gtids.next()) else {
            return Ok(false); // a text of another version
        };
        let executed = newest_of_servers(&[&facts.executed_text, &facts.applied_text])?;
        let is_new = executed.get(&(domain, received)).is_none_or(|last| *last < seq);
        Ok(is_new && received != existing && facts.own_mark == existing.to_string())
    }

    /// Ends what holds an applier back that nobody waits for.
    pub(crate) async fn free_applier(&self, facts: &Facts) -> Result<(), Error> {
        let Some(replica) = facts.replica.as_ref().filter(|replica| replica.applying) else { return Ok(()) };
        let mut blockers = Blockers::default();
        for _ in 0..2 {
            blockers.end(self.link, self.limit).await?;
            if blockers.waits_for.is_none() {
                break;
            }
            self.wait_for_applier(replica, Duration::from_millis(LOOK_MS)).await?;
        }
        Ok(())
    }

    /// Returns when all that was received is applied, or after that time.
    async fn wait_for_applier(&self, replica: &Replica, limit: Duration) -> Result<(), Error> {
        let received = crate::dialect::quote(&replica.received)?;
        let seconds = limit.as_secs_f64();
        let wait = if self.dialect().is_mariadb() {
            format!("SELECT MASTER_GTID_WAIT({received}, {seconds:.3})")
        } else if self.dialect().is_mysql_from((8, 0, 0)) {
            format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({received}, {seconds:.3})")
        } else {
            "SELECT SLEEP(0.01)".to_owned() // its function knows whole seconds only
        };
        self.run("wait for the applier", &wait).await
    }

    /// Lets an applier that has stopped go on with what is in the relay logs.
    pub(crate) async fn start_applying(&self, facts: &Facts) -> Result<(), Error> {
        let is_receiving = facts.replica.as_ref().is_some_and(|replica| replica.receiving);
        if self.dialect().is_mariadb() && !is_receiving {
            let Some(place) = self.first_unapplied(facts).await? else { return Ok(()) };
            let (file, offset) = (crate::dialect::quote(&place.file)?, place.offset);
            let change = format!(
                "CHANGE MASTER TO MASTER_USE_GTID = no, RELAY_LOG_FILE = {file}, RELAY_LOG_POS = {offset}, \
                 MASTER_LOG_FILE = 'binlog.000001', MASTER_LOG_POS = 4"
            );
            self.run("go on with old relay logs", &change).await?;
        }
        self.run("start applying", self.dialect().statements().start_applier).await
    }

    async fn first_unapplied(&self, facts: &Facts) -> Result<Option<crate::relay::Place>, Error> {
        let Some(relays) = self.reader.relays.clone() else { return Ok(None) };
        let executed = newest_of_servers(&[&facts.executed_text, &facts.applied_text])?;
        let find = tokio::task::spawn_blocking(move || relays.first_beyond(&executed)).await;
        find.map_err(|error| Error::System { what: "read relay logs", source: std::io::Error::other(error) })?
    }
}
