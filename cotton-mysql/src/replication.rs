//! Freeze, promote and follow.
//!
//! The order of statements matters. On MariaDB, once receiver and applier are both stopped, the next start by GTIDs throws
//! away what was received and not applied. So an applier is started before the receiver is stopped; one that cannot go on
//! is left stopped, what was received is read out of the relay logs then, and [`drain`](crate::drain) applies it without
//! GTIDs. A relay log is given up only after the new primary was seen to have all of it.

use crate::Error;
use crate::cnf::{CONNECT_RETRIES, NET_TIMEOUT_S};
use crate::dialect::{Dialect, quote};
use crate::drain::Applied;
use crate::history::{Primary, Verdict, unnoted};
use crate::process::applier_error;
use crate::sessions::{self, Kill};
use crate::settings;
use crate::sql::Link;
use crate::status::{self, Facts, Reader, Replica};
use cotton_core::ports::mysql::{Followed, Following, Frozen, LinkState, Promoted, Promotion};
use cotton_core::{Endpoint, GtidSet};
use secrecy::{ExposeSecret, SecretString};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How long what was received may keep a replica from following another primary, which has it.
const APPLY_FIRST: Duration = Duration::from_secs(2);

/// Errors of an applier that cannot read its relay logs: they are fetched again.
const UNREADABLE: [u64; 4] = [1594, 1595, 13121, 13122];

/// What MariaDB and MySQL say when the relay log that they remember is not there.
const METADATA_UNREADABLE: [u16; 2] = [1201, 1872];

/// How long a restarted applier must run before we believe that it will go on.
const APPLIER_TRIAL: Duration = Duration::from_millis(300);

/// The replication of one server, over its admin connection.
pub(crate) struct Control<'a> {
    pub(crate) link: &'a Link,
    pub(crate) reader: Reader,
    /// Whether this process has given up something that it had received and not applied.
    pub(crate) gave_up: &'a AtomicBool,
    /// The cluster's user.
    pub(crate) user: &'a str,
    pub(crate) limit: Duration,
    pub(crate) error_log: PathBuf,
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

    pub(crate) async fn read_only_facts(&self) -> Result<Facts, Error> {
        let facts = self.facts().await?;
        if facts.writable {
            return Err(Error::Conflict("the server is open for writes: kill and start it first".to_owned()));
        }
        Ok(facts)
    }

    /// Stops receiving; what was received goes on being applied.
    pub(crate) async fn freeze(&self) -> Result<Frozen, Error> {
        let facts = self.read_only_facts().await?;
        let mut facts = self.stop_receiving(facts).await?;
        let waits = |replica: &Replica| !replica.applying && replica.apply_error.is_none();
        if !facts.is_applied() && facts.replica.as_ref().is_some_and(waits) {
            self.start_applying(&facts).await?; // nobody has, since the server was started
            facts = self.facts().await?;
        }
        Ok(self.frozen(facts))
    }

    /// What is told of a server that receives nothing.
    pub(crate) fn frozen(&self, facts: Facts) -> Frozen {
        let obstacle = self.obstacle(&facts);
        Frozen { position: facts.position, unapplied: facts.unapplied, obstacle }
    }

    /// Why what was received will not be applied as things are.
    pub(crate) fn obstacle(&self, facts: &Facts) -> Option<String> {
        facts.obstacle().map(|text| applier_error(text, &self.error_log))
    }

    /// Returns the facts of after. An applier that has stopped is started, as far as it goes.
    pub(crate) async fn stop_receiving(&self, facts: Facts) -> Result<Facts, Error> {
        let Some(replica) = &facts.replica else { return Ok(facts) };
        if !replica.receiving {
            return Ok(facts);
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
        let deadline = Instant::now() + CUT_WAIT;
        loop {
            let mut running = status::processes(self.link, self.limit).await?;
            running.retain(|process| process.text("Command").as_deref() == Some("Slave_IO"));
            if running.is_empty() || Instant::now() >= deadline {
                return Ok(());
            }
            for id in running.iter().filter_map(|row| row.number("Id")) {
                sessions::end(self.link, id, Kill::Hard, self.limit).await?;
            }
            tokio::time::sleep(CUT_PAUSE).await;
        }
    }

    /// With the receiver running, so that a MariaDB applies by GTIDs. Waits until it is likely to go on, or has stopped.
    async fn restart_applier(&self, before: &Replica) -> Result<(), Error> {
        self.run("start applying", self.dialect().statements().start_applier).await?;
        if before.apply_error.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + APPLIER_TRIAL;
        while Instant::now() < deadline {
            match self.facts().await?.replica {
                Some(replica) if !replica.applying || replica.idle => break,
                Some(_) | None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        Ok(())
    }

    /// Forgets the old primary, sets semi-sync, opens for writes, once all that was received is applied.
    pub(crate) async fn promote(&self, promotion: &Promotion) -> Result<Promoted, Error> {
        self.check_acks(promotion.acks)?;
        let mut facts = self.facts().await?;
        if !facts.writable {
            facts = self.stop_receiving(facts).await?;
            if !facts.is_applied() {
                facts = self.nearly_applied(facts).await?;
            }
            if !facts.is_applied() {
                return Ok(Promoted::Applying { unapplied: facts.unapplied });
            }
        }
        if !facts.executed.contains(&promotion.must_contain) {
            let missing = promotion.must_contain.errant_against(&facts.executed).unwrap_or_default();
            return Ok(Promoted::Incomplete(format!("{missing} is missing, here is {}", facts.executed)));
        }
        if facts.replica.is_some() {
            self.run("stop replication", self.dialect().statements().stop).await?;
            if self.dialect().is_mariadb() {
                self.note_what_is_logged(&facts).await?;
            }
            self.run("forget the old primary", self.dialect().statements().forget).await?;
        }
        if promotion.acks > 0 {
            self.shut_out_readers(facts.writable).await?;
        }
        self.set_acks(promotion.acks, facts.source_on).await?;
        if !facts.writable {
            self.run("open for writes", "SET GLOBAL read_only = OFF").await?;
        }
        self.run_events(true).await;
        Ok(Promoted::Writable(facts.position))
    }

    /// Events run on a primary only. What they do fails on a server that is read-only anyway, and a server whose tables of
    /// events are damaged can still be primary.
    pub(crate) async fn run_events(&self, on: bool) {
        let word = if on { "ON" } else { "OFF" };
        if let Err(error) = self.run("switch events", &format!("SET GLOBAL event_scheduler = {word}")).await {
            tracing::warn!(error = %error.at_port("switch events", word).chain(), "events are not as they should be");
        }
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
        if acks == 0 {
            let off =
                format!("SET GLOBAL rpl_semi_sync_{}_enabled = OFF", self.dialect().statements().semi_sync_source);
            return match source_on {
                Some(true) => self.run("switch semi-sync off", &off).await,
                Some(false) | None => Ok(()),
            };
        }
        settings::want_acks(self.link, self.dialect(), acks, self.limit).await
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
        if self.resumes(&facts, following) {
            let connected = |replica: &Replica| replica.receiving && replica.link == LinkState::Connected;
            match primary.judge(&facts.position, &facts, self.limit).await? {
                Verdict::Fine => {
                    self.resume(&facts, password).await?;
                    return self.look_for_refusal(&facts.position).await;
                }
                // It receives already, and so acknowledges, perhaps alone: that goes on until another one can, although
                // the applier may not go beyond what was written here.
                Verdict::Errant(_) if facts.replica.as_ref().is_some_and(connected) => {
                    self.resume(&facts, password).await?;
                    return Ok(Followed::Attached);
                }
                Verdict::Errant(_) | Verdict::Missing(_) => {}
            }
        }
        let mut facts = self.stop_receiving(facts).await?;
        let mut own = facts.position.clone();
        loop {
            match primary.judge(&own, &facts, self.limit).await? {
                Verdict::Fine if facts.executed != own => {
                    facts = self.apply_first(facts, following).await?;
                    break;
                }
                Verdict::Fine => break,
                Verdict::Missing(text) => return Ok(Followed::HistoryMissing(text)),
                Verdict::Errant(text) if facts.executed == own => return Ok(Followed::Errant(text)),
                Verdict::Errant(text) => {
                    // perhaps only received: then it goes with the relay log, unless it is applied by now
                    self.run("stop replication", self.dialect().statements().stop).await?;
                    facts = self.read_only_facts().await?;
                    own = facts.executed.clone();
                    self.keep_relay_logs(&text)?;
                }
            }
        }
        self.run_events(false).await;
        self.attach(&facts, &own, following, password).await?;
        self.look_for_refusal(&own).await
    }

    /// Whether it replicates from there already, and only has to go on: then its relay logs stay.
    fn resumes(&self, facts: &Facts, following: &Following) -> bool {
        let dialect = self.dialect();
        // MariaDB throws relay logs away when the first of both threads starts; MySQL 5.6 cannot read them beyond a place
        // where its process was killed
        let keeps_when_stopped = dialect.is_mysql_from((5, 7, 0));
        let sound = |replica: &Replica| {
            replica.source == following.primary
                && replica.by_gtid
                && (replica.receiving || replica.applying || keeps_when_stopped && !facts.is_applied())
                && replica.receive_error.as_ref().is_none_or(|(code, _)| *code != 1236)
                && replica.apply_error.as_ref().is_none_or(|(code, _)| !UNREADABLE.contains(code))
        };
        facts.replica.as_ref().is_some_and(sound) && Self::is_set(facts, following)
    }

    async fn resume(&self, facts: &Facts, password: &SecretString) -> Result<(), Error> {
        let Some(replica) = &facts.replica else { return Ok(()) };
        if !replica.applying {
            self.restart_applier(replica).await?;
        }
        if replica.receiving {
            return Ok(());
        }
        let start = self.with_account(self.dialect().statements().start_receiver, password)?;
        self.run("start receiving", &start).await
    }

    /// Applies what was received before the relay logs go, which nobody else may have received. The primary that is to be
    /// followed has it; if it is another one than before, that is enough after a while.
    async fn apply_first(&self, facts: Facts, following: &Following) -> Result<Facts, Error> {
        if self.dialect().is_mysql_from((5, 7, 0)) {
            self.free_applier(&facts).await?;
            return Ok(facts); // the relay logs stay
        }
        let is_same = facts.replica.as_ref().is_some_and(|replica| replica.source == following.primary);
        let Applied { facts, obstacle } = self.apply_received(facts, Instant::now() + APPLY_FIRST).await?;
        if is_same && obstacle.is_none() && !facts.is_applied() {
            let left = facts.unapplied;
            return Err(Error::NotYet(format!("{left} transactions that were received are to be applied first")));
        }
        Ok(facts)
    }

    /// Before relay logs go that have what the primary lacks.
    fn keep_relay_logs(&self, gtids: &str) -> Result<(), Error> {
        let Some(relays) = &self.reader.relays else { return Ok(()) };
        let kept = relays.keep()?;
        tracing::warn!(gtids, kept = %kept.display(), "received and not applied, and the new primary lacks it");
        Ok(())
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
        facts.replica.as_ref().is_some_and(sound) && Self::is_set(facts, following)
    }

    /// Whether semi-sync is set as wanted.
    fn is_set(facts: &Facts, following: &Following) -> bool {
        facts.source_on != Some(true) && facts.replica_on.is_none_or(|on| on == following.semi_sync)
    }

    /// `judged` is what the primary was seen to have.
    async fn attach(
        &self,
        facts: &Facts,
        judged: &GtidSet,
        following: &Following,
        password: &SecretString,
    ) -> Result<(), Error> {
        let (dialect, words) = (self.dialect(), self.dialect().statements());
        let keeps = judged.contains(&facts.position) && self.keeps_relay_logs(facts).await?;
        if !keeps && !facts.is_applied() {
            self.gave_up.store(true, Ordering::SeqCst);
        }
        if !keeps && facts.replica.as_ref().is_some_and(|r| r.receiving || r.applying) {
            self.run("stop replication", words.stop).await?;
        }
        self.let_readers_in(false).await?;
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
            let position = unnoted(&slave_pos, &row.text("binlog_pos").unwrap_or_default())?;
            if let Some(position) = position.filter(|_| !facts.overshot) {
                switches.push(format!("GLOBAL gtid_slave_pos = {}", quote(&position)?));
            }
        }
        if !switches.is_empty() {
            self.run("prepare replication", &format!("SET {}", switches.join(", "))).await?;
        }
        let attached = self.point_and_start(following, password, keeps).await;
        match attached.as_ref().err().and_then(Error::server_code) {
            Some(code) if !keeps && METADATA_UNREADABLE.contains(&code) => {
                // Its process was killed while it gave its relay logs up, and it remembers one that is gone. All that was
                // received was seen at a primary before; what there is, is kept all the same.
                let has_some =
                    self.reader.relays.as_ref().map_or(Ok(false), |relays| relays.are_sound(false).map(|e| !e))?;
                if has_some {
                    self.keep_relay_logs("unknown: the server cannot read them")?;
                }
                tracing::warn!("the server does not find its relay logs: they are begun anew");
                self.gave_up.store(true, Ordering::SeqCst);
                self.run("forget the relay logs", words.forget).await?;
                self.point_and_start(following, password, keeps).await
            }
            Some(_) | None => attached,
        }
    }

    async fn point_and_start(&self, following: &Following, password: &SecretString, keeps: bool) -> Result<(), Error> {
        let words = self.dialect().statements();
        let point = change_source(self.dialect(), &following.primary, password, keeps)?;
        self.run("point replication", &point).await?;
        let start = self.with_account(if keeps { words.start_receiver } else { words.start }, password)?;
        self.run("start replication", &start).await
    }

    /// Whether MySQL's applier runs and has something to apply: then its relay logs stay when the receiver turns round.
    async fn keeps_relay_logs(&self, facts: &Facts) -> Result<bool, Error> {
        let Some(replica) = facts.replica.as_ref().filter(|_| !facts.is_applied()) else { return Ok(false) };
        if self.dialect().is_mariadb() || self.dialect().is_mysql_before((5, 7, 4)) {
            return Ok(false);
        }
        if !replica.applying && replica.apply_error.is_none() {
            self.start_applying(facts).await?;
        }
        Ok(replica.applying || self.facts().await?.replica.is_some_and(|replica| replica.applying))
    }

    /// MySQL's password is given at the start: then it is not stored in a table that the cluster's user can read.
    fn with_account(&self, start: &str, password: &SecretString) -> Result<String, Error> {
        if self.dialect().is_mariadb() {
            return Ok(start.to_owned());
        }
        let (user, password) = (crate::accounts::REPLICATION, quote(password.expose_secret())?);
        Ok(format!("{start} USER = '{user}' PASSWORD = {password}"))
    }
}

/// With the applier running (`keeps`), what concerns it cannot be changed, and is as it should be.
fn change_source(dialect: Dialect, primary: &Endpoint, password: &SecretString, keeps: bool) -> Result<String, Error> {
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
    let _ = write!(sql, ", {word}_RETRY_COUNT = {CONNECT_RETRIES}");
    if !keeps {
        let _ = write!(sql, ", {word}_AUTO_POSITION = 1");
    }
    if dialect.is_mysql_from((8, 0, 4)) {
        let key = if word == "SOURCE" { "GET_SOURCE_PUBLIC_KEY" } else { "GET_MASTER_PUBLIC_KEY" };
        let _ = write!(sql, ", {key} = 1"); // for the password's exchange without TLS
    }
    Ok(sql)
}
