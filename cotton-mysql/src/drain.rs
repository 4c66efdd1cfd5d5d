//! Applying what was received, once nothing more is received.
//!
//! MySQL's applier goes on where it was, whoever stopped it. MariaDB's throws its relay logs away when it is started by
//! GTIDs while the receiver is stopped, too; told where in which file to begin, and not to use GTIDs, it applies them.
//! (Seen on 10.11: it then needs the name of some binary log of its source as well, or its workers crash the server.)
//! It begins with the first transaction that is not executed: in strict mode it would stop at one that is.

use crate::Error;
use crate::blockers::Blockers;
use crate::history::{newest_of_servers, unnoted};
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
        let Applied { facts, obstacle } = self.apply_received(facts, deadline).await?;
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
    pub(crate) async fn apply_received(&self, mut facts: Facts, deadline: Instant) -> Result<Applied, Error> {
        let mut blockers = Blockers::default();
        let mut started = false;
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
                    blockers.end(self.link, self.dialect(), self.limit).await?;
                    next_look = Instant::now() + Duration::from_millis(LOOK_MS);
                }
                continue;
            }
            if started {
                if let Some(obstacle) = self.obstacle(&facts) {
                    return Ok(Applied { facts, obstacle: Some(obstacle) });
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

    /// Ends what holds an applier back that nobody waits for.
    pub(crate) async fn free_applier(&self, facts: &Facts) -> Result<(), Error> {
        let Some(replica) = facts.replica.as_ref().filter(|replica| replica.applying) else { return Ok(()) };
        let mut blockers = Blockers::default();
        for _ in 0..2 {
            blockers.end(self.link, self.dialect(), self.limit).await?;
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
            self.note_what_is_logged(facts).await?;
            let (file, offset) = (crate::dialect::quote(&place.file)?, place.offset);
            let change = format!(
                "CHANGE MASTER TO MASTER_USE_GTID = no, RELAY_LOG_FILE = {file}, RELAY_LOG_POS = {offset}, \
                 MASTER_LOG_FILE = 'binlog.000001', MASTER_LOG_POS = 4"
            );
            self.run("go on with old relay logs", &change).await?;
        }
        self.run("start applying", self.dialect().statements().start_applier).await
    }

    /// A MariaDB that was killed between a statement of DDL and the note of its number has it in its log only: what is noted
    /// follows, since that decides what counts as applied while the applier runs.
    pub(crate) async fn note_what_is_logged(&self, facts: &Facts) -> Result<(), Error> {
        let is_new = |replica: &Replica| !replica.applying && replica.apply_error.is_none();
        let position = unnoted(&facts.applied_text, &facts.executed_text)?;
        let Some(position) = position.filter(|_| facts.replica.as_ref().is_some_and(is_new)) else { return Ok(()) };
        let position = crate::dialect::quote(&position)?;
        self.run("note what is logged", &format!("SET GLOBAL gtid_slave_pos = {position}")).await
    }

    async fn first_unapplied(&self, facts: &Facts) -> Result<Option<crate::relay::Place>, Error> {
        let Some(relays) = self.reader.relays.clone() else { return Ok(None) };
        let executed = newest_of_servers(&[&facts.executed_text, &facts.applied_text])?;
        let find = tokio::task::spawn_blocking(move || relays.first_beyond(&executed)).await;
        find.map_err(|error| Error::System { what: "read relay logs", source: std::io::Error::other(error) })?
    }
}
