//! Freeze, promote and follow.
//!
//! The order of statements matters. On MariaDB, once receiver and applier are both stopped, the next start throws away
//! what was received and not applied. So the applier runs before the receiver is stopped; what was received counts
//! only while one of them runs; and a relay log is given up only after the new primary was seen to have all of it.

use crate::Error;
use crate::cnf::{ACK_TIMEOUT_MS, CONNECT_RETRIES, NET_TIMEOUT_S};
use crate::dialect::{Dialect, quote};
use crate::history::{Primary, Verdict, newest, position_text};
use crate::sessions::{self, Kill};
use crate::sql::Link;
use crate::status::{Facts, Reader, Replica};
use cotton_core::ports::mysql::{Drained, Followed, Following, Frozen, LinkState, Promoted, Promotion};
use cotton_core::{Endpoint, GtidSet};
use secrecy::{ExposeSecret, SecretString};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::Instant;

/// Seconds between heartbeats of a primary that has nothing to say, and between attempts to connect.
const HEARTBEAT_S: u64 = 1;
const CONNECT_RETRY_S: u64 = 1;
const _: () = assert!(HEARTBEAT_S < NET_TIMEOUT_S);

/// How long a primary may take to refuse us; the longest that `follow` waits when it does not answer.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);

/// How long a receiver may take to end once its connection is cut, and how long until that is tried again.
const CUT_WAIT: Duration = Duration::from_millis(300);
const CUT_PAUSE: Duration = Duration::from_millis(3);

/// How long a promotion waits for an applier that is nearly there.
const APPLIED_WAIT: Duration = Duration::from_millis(200);

/// How long a restarted applier must run before we believe that it will go on.
const APPLIER_TRIAL: Duration = Duration::from_millis(300);

/// The replication of one server, over its admin connection.
pub(crate) struct Control<'a> {
    pub(crate) link: &'a Link,
    pub(crate) reader: Reader,
    pub(crate) limit: Duration,
}

impl Control<'_> {
    pub(crate) fn dialect(&self) -> Dialect {
        self.reader.dialect
    }

    pub(crate) async fn facts(&self) -> Result<Facts, Error> {
        self.reader.facts(self.link, self.limit).await
    }

    pub(crate) async fn run(&self, what: &'static str, sql: &str) -> Result<(), Error> {
        self.link.run(what, sql, self.limit).await
    }

    async fn read_only_facts(&self) -> Result<Facts, Error> {
        let facts = self.facts().await?;
        if facts.writable {
            return Err(Error::Conflict("the server is open for writes: kill and start it first".to_owned()));
        }
        Ok(facts)
    }

    /// Stops receiving; what was received goes on being applied.
    pub(crate) async fn freeze(&self) -> Result<Frozen, Error> {
        let facts = self.read_only_facts().await?;
        let facts = self.stop_receiving(facts).await?;
        let Some(replica) = &facts.replica else { return Ok(facts.frozen()) };
        if !replica.applying && replica.apply_error.is_some() {
            return Err(stuck(replica));
        }
        if self.dialect().is_mysql_before((5, 7, 0)) && replica.applying {
            // there a transaction counts as received before its end: only what is applied is certain
            let facts = self.apply_received(Instant::now() + self.limit).await?;
            return Ok(Frozen { position: facts.executed, unapplied: 0, obstacle: None });
        }
        Ok(facts.frozen())
    }

    /// Returns the facts of after.
    async fn stop_receiving(&self, facts: Facts) -> Result<Facts, Error> {
        let Some(replica) = &facts.replica else { return Ok(facts) };
        if !replica.receiving {
            return Ok(facts); // when both are stopped, to start the applier would only lose the relay log
        }
        if !replica.applying {
            self.restart_applier(replica).await?;
        }
        if self.dialect().is_mariadb() && replica.link == LinkState::Connected {
            self.cut_receiver().await?;
        }
        self.run("stop receiving", self.dialect().statements().stop_receiver).await?;
        let facts = self.facts().await?;
        match &facts.replica {
            Some(replica) if replica.receiving => {
                Err(Error::NotYet("the server goes on receiving although it was told to stop".to_owned()))
            }
            Some(_) | None => Ok(facts),
        }
    }

    /// Ends MariaDB's receiver by its connection. While its source is silent, as one whose machine stands still, it would
    /// notice an order to stop only after two seconds (10.11). What it has received stays.
    async fn cut_receiver(&self) -> Result<(), Error> {
        let receivers = "SELECT ID FROM information_schema.processlist WHERE COMMAND = 'Slave_IO'";
        let deadline = Instant::now() + CUT_WAIT;
        loop {
            let running = self.link.query("look for the receiver", receivers, self.limit).await?;
            if running.is_empty() || Instant::now() >= deadline {
                return Ok(());
            }
            for id in running.iter().filter_map(|row| row.number("ID")) {
                sessions::end(self.link, id, Kill::Hard, self.limit).await?;
            }
            tokio::time::sleep(CUT_PAUSE).await;
        }
    }

    /// With the receiver running, so that nothing gets lost.
    async fn restart_applier(&self, before: &Replica) -> Result<(), Error> {
        self.run("start applying", self.dialect().statements().start_applier).await?;
        if before.apply_error.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + APPLIER_TRIAL;
        while Instant::now() < deadline {
            match self.facts().await?.replica {
                Some(replica) if !replica.applying => return Err(stuck(&replica)),
                Some(replica) if replica.idle => break,
                Some(_) | None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        Ok(())
    }

    /// As the port says.
    pub(crate) async fn drain(&self, budget: Duration) -> Result<Drained, Error> {
        let facts = self.read_only_facts().await?;
        self.stop_receiving(facts).await?;
        let (facts, done, obstacle) = match self.apply_received(Instant::now() + budget).await {
            Ok(facts) => (facts, true, None),
            Err(Error::Timeout { .. }) => (self.facts().await?, false, None),
            Err(Error::NotYet(obstacle)) => (self.facts().await?, false, Some(obstacle)),
            Err(error) => return Err(error),
        };
        Ok(Drained { position: facts.position, unapplied: facts.unapplied, done, obstacle })
    }

    /// Waits until all that was received is applied. The receiver must be stopped.
    async fn apply_received(&self, deadline: Instant) -> Result<Facts, Error> {
        let started = Instant::now();
        loop {
            let facts = self.facts().await?;
            let Some(replica) = &facts.replica else { return Ok(facts) };
            let partial = self.dialect().is_mysql_before((5, 7, 0)) && replica.applying && replica.idle;
            if facts.executed.contains(&facts.position) && (replica.applying || replica.apply_error.is_none())
                || partial
            {
                return Ok(facts);
            }
            if !replica.applying {
                return Err(stuck(replica));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout { what: "apply what was received", after: started.elapsed() });
            }
            let received = quote(&replica.received)?;
            let wait = if self.dialect().is_mariadb() {
                format!("SELECT MASTER_GTID_WAIT({received}, 1)")
            } else if self.dialect().is_mysql_from((5, 7, 5)) {
                format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({received}, 1)")
            } else {
                "SELECT SLEEP(0.01)".to_owned() // its wait function hangs on the last, partial transaction
            };
            self.run("wait for the applier", &wait).await?;
        }
    }

    /// Forgets the old primary, sets semi-sync, opens for writes, once all that was received is applied.
    pub(crate) async fn promote(&self, promotion: &Promotion) -> Result<Promoted, Error> {
        self.check_acks(promotion.acks)?;
        let mut facts = self.facts().await?;
        if !facts.writable {
            facts = self.stop_receiving(facts).await?;
            if facts.replica.is_some() {
                facts = match self.apply_received(Instant::now() + APPLIED_WAIT).await {
                    Err(Error::NotYet(_) | Error::Timeout { .. }) => {
                        return Ok(Promoted::Applying { unapplied: self.facts().await?.unapplied });
                    }
                    other => other?,
                };
            }
        }
        if !facts.executed.contains(&promotion.must_contain) {
            let missing = promotion.must_contain.errant_against(&facts.executed).unwrap_or_default();
            return Ok(Promoted::Incomplete(format!("{missing} is missing, here is {}", facts.executed)));
        }
        if facts.replica.is_some() {
            self.run("stop replication", self.dialect().statements().stop).await?;
            self.run("forget the old primary", self.dialect().statements().forget).await?;
        }
        self.set_acks(promotion.acks, facts.source_on).await?;
        if !facts.writable {
            self.run("open for writes", "SET GLOBAL read_only = OFF").await?;
        }
        Ok(Promoted::Writable(facts.position))
    }

    fn check_acks(&self, acks: u32) -> Result<(), Error> {
        let dialect = self.dialect();
        if acks > 0 && !self.reader.semi_sync {
            return Err(Error::Unsupported(format!(
                "this {dialect} cannot wait for acknowledgements: it has no semi-sync plugin, or was started without; \
                 install the plugin or choose asynchronous durability"
            )));
        }
        if acks > 1 && dialect.statements().wait_acks.is_none() {
            return Err(Error::Unsupported(format!("{dialect} waits for one acknowledgement, not for {acks}")));
        }
        Ok(())
    }

    async fn set_acks(&self, acks: u32, source_on: Option<bool>) -> Result<(), Error> {
        let words = self.dialect().statements();
        let name = format!("rpl_semi_sync_{}", words.semi_sync_source);
        if acks == 0 {
            return match source_on {
                Some(true) => self.run("switch semi-sync off", &format!("SET GLOBAL {name}_enabled = OFF")).await,
                Some(false) | None => Ok(()),
            };
        }
        let (timeout, none) = (ACK_TIMEOUT_MS, words.semi_sync_replica);
        let mut sql = format!("SET GLOBAL {name}_timeout = {timeout}, GLOBAL {name}_wait_no_{none} = ON");
        if !self.dialect().is_mysql_before((5, 7, 2)) {
            let _ = write!(sql, ", GLOBAL {name}_wait_point = 'AFTER_SYNC'");
        }
        if let Some(count) = words.wait_acks {
            let _ = write!(sql, ", GLOBAL {name}_{count} = {acks}");
        }
        let _ = write!(sql, ", GLOBAL {name}_enabled = ON");
        self.run("switch semi-sync on", &sql).await?;
        let sql = format!("SHOW GLOBAL STATUS LIKE '{name}_status'");
        let row = self.link.row("check semi-sync", &sql, self.limit).await?;
        if row.at(1).as_deref() == Some("ON") {
            Ok(())
        } else {
            Err(Error::NotYet("semi-sync does not work although it was switched on".to_owned()))
        }
    }

    /// Replicates from a primary that has all that this server has.
    pub(crate) async fn follow(
        &self,
        following: &Following,
        primary: &Primary,
        password: &SecretString,
    ) -> Result<Followed, Error> {
        if following.semi_sync {
            self.check_acks(1)?;
        }
        let facts = self.read_only_facts().await?;
        if Self::is_attached(&facts, following) {
            return Ok(Followed::Attached);
        }
        let mut facts = match self.stop_receiving(facts).await {
            // a stuck applier does not keep us from going elsewhere; what it received waits until we know where
            Err(Error::NotYet(_)) => self.facts().await?,
            other => other?,
        };
        let mut own = facts.position.clone();
        loop {
            match primary.judge(&own, &facts, self.limit).await? {
                Verdict::Fine => break,
                Verdict::Missing(text) => return Ok(Followed::HistoryMissing(text)),
                Verdict::Errant(text) if facts.executed == own => return Ok(Followed::Errant(text)),
                Verdict::Errant(_) => {
                    // perhaps only received: then it goes with the relay log, unless it is applied by now
                    self.run("stop replication", self.dialect().statements().stop).await?;
                    facts = self.read_only_facts().await?;
                    own = facts.executed.clone();
                }
            }
        }
        self.attach(&facts, following, password).await?;
        self.look_for_refusal(&own).await
    }

    /// Whether the primary refuses at once, because its binary logs do not reach back. Replication has been started from
    /// `own`; who has received something since was not refused at once, but has lost its connection later.
    async fn look_for_refusal(&self, own: &GtidSet) -> Result<Followed, Error> {
        let deadline = Instant::now() + REFUSAL_WAIT;
        let mut pause = Duration::from_millis(1);
        loop {
            let facts = self.facts().await?;
            let Some(replica) = facts.replica else {
                return Err(Error::NotYet("replication was configured and is gone".to_owned()));
            };
            match &replica.receive_error {
                Some((1236, text)) => {
                    // Asked before the applier is stopped: with it goes what was received and not applied.
                    let received = facts.position != *own || !replica.applying;
                    self.run("stop replication", self.dialect().statements().stop).await?;
                    return Ok(if received { Followed::Attached } else { Followed::HistoryMissing(text.clone()) });
                }
                Some(_) => return Ok(Followed::Attached), // it is trying again by itself
                None if replica.accepted || Instant::now() >= deadline => return Ok(Followed::Attached),
                None => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn is_attached(facts: &Facts, following: &Following) -> bool {
        let sound = |replica: &Replica| {
            replica.source == following.primary
                && replica.receiving
                && replica.applying
                && replica.receive_error.as_ref().is_none_or(|(code, _)| *code != 1236)
        };
        facts.replica.as_ref().is_some_and(sound)
            && facts.source_on != Some(true)
            && facts.replica_on.is_none_or(|on| on == following.semi_sync)
    }

    async fn attach(&self, facts: &Facts, following: &Following, password: &SecretString) -> Result<(), Error> {
        let (dialect, words) = (self.dialect(), self.dialect().statements());
        if facts.replica.as_ref().is_some_and(|r| r.receiving || r.applying) {
            self.run("stop replication", words.stop).await?;
        }
        let mut switches = Vec::new();
        if facts.source_on == Some(true) {
            switches.push(format!("GLOBAL rpl_semi_sync_{}_enabled = OFF", words.semi_sync_source));
        }
        if facts.replica_on.is_some_and(|on| on != following.semi_sync) {
            let on = if following.semi_sync { "ON" } else { "OFF" };
            switches.push(format!("GLOBAL rpl_semi_sync_{}_enabled = {on}", words.semi_sync_replica));
        }
        if dialect.is_mariadb() {
            // read again: the applier may have gone on until it was stopped
            let row = "SELECT @@GLOBAL.gtid_slave_pos AS slave_pos, @@GLOBAL.gtid_binlog_pos AS binlog_pos";
            let row = self.link.row("read positions", row, self.limit).await?;
            let slave_pos = row.text("slave_pos").unwrap_or_default();
            let wanted = newest(&[&slave_pos, &row.text("binlog_pos").unwrap_or_default()])?;
            if newest(&[&slave_pos])? != wanted {
                // a former primary's is empty or stale
                switches.push(format!("GLOBAL gtid_slave_pos = {}", quote(&position_text(&wanted))?));
            }
        }
        if !switches.is_empty() {
            self.run("prepare replication", &format!("SET {}", switches.join(", "))).await?;
        }
        self.run("point replication", &change_source(dialect, &following.primary, password)?).await?;
        let start = if dialect.is_mariadb() {
            words.start.to_owned()
        } else {
            // given here, the password is not stored in a table that the cluster's user can read
            let user = crate::accounts::REPLICATION;
            format!("{} USER = '{user}' PASSWORD = {}", words.start, quote(password.expose_secret())?)
        };
        self.run("start replication", &start).await
    }
}

fn stuck(replica: &Replica) -> Error {
    let why = replica.error().unwrap_or_else(|| "it was stopped".to_owned());
    Error::NotYet(format!("what was received is not being applied: {why}"))
}

fn change_source(dialect: Dialect, primary: &Endpoint, password: &SecretString) -> Result<String, Error> {
    let (host, port) = (quote(&primary.host)?, primary.port);
    let (user, password) = (crate::accounts::REPLICATION, quote(password.expose_secret())?);
    let word = if dialect.is_mysql_from((8, 0, 23)) { "SOURCE" } else { "MASTER" };
    let statement = if word == "SOURCE" { "CHANGE REPLICATION SOURCE TO" } else { "CHANGE MASTER TO" };
    let mut sql = format!(
        "{statement} {word}_HOST = {host}, {word}_PORT = {port}, {word}_CONNECT_RETRY = {CONNECT_RETRY_S}, \
         {word}_HEARTBEAT_PERIOD = {HEARTBEAT_S}"
    );
    if dialect.is_mariadb() {
        let _ = write!(sql, ", MASTER_USER = '{user}', MASTER_PASSWORD = {password}, MASTER_USE_GTID = slave_pos");
        return Ok(sql);
    }
    let _ = write!(sql, ", {word}_RETRY_COUNT = {CONNECT_RETRIES}, {word}_AUTO_POSITION = 1");
    if dialect.is_mysql_from((8, 0, 4)) {
        let key = if word == "SOURCE" { "GET_SOURCE_PUBLIC_KEY" } else { "GET_MASTER_PUBLIC_KEY" };
        let _ = write!(sql, ", {key} = 1"); // for the password's exchange without TLS
    }
    Ok(sql)
}
