//! What is kept in order on an open primary: the [settings] that keep commits; and, reaching the replicas by replication, our
//! own accounts, the cluster's user, the further accounts that were asked for, how many connections each may have, and events.
//!
//! It is looked at after each promotion, whenever other accounts are wanted, and every now and then; what is right is
//! left alone, so that nothing is written for it. Accounts other than our own are left alone until somebody has said in this
//! term which they shall be: another server may have been primary meanwhile, and told of other passwords.
//!
//! A password is right if it opens a session: today's MySQL keeps none that could be compared. What keeps an account out
//! (another password, a lock, an expired password, a demand for a certificate) is taken away once; an account that cannot
//! be let in by that is told, and left alone.
//!
//! Our account passes `read_only` on some servers, and what it wrote on a server that is not open any more would be a
//! transaction that nobody else has. So each round has one connection, [`Upkeep::stop`] ends it before the server is made
//! read-only, and no other is made after that. Nothing is begun while nobody could acknowledge it.

use crate::accounts::{self, READ_BINLOG, REPLICATION, RESERVED};
use crate::cnf::Sizes;
use crate::copy::unblock::{self, Patience};
use crate::dialect::{Dialect, quote};
use crate::grants::Grants;
use crate::sessions::{self, Kill};
use crate::sql::{Address, Link};
use crate::status::Reader;
use crate::{Error, InstanceConfig, events, settings};
use cotton_core::Sealed;
use cotton_core::account::{Account, AccountKind, Accounts};
use mysql_async::DriverError;
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};

/// How often everything is looked at without a reason.
const INTERVAL: Duration = Duration::from_secs(20);
/// How long a look at settings may take: somebody may wait to change the server's role.
const SETTINGS_WITHIN: Duration = Duration::from_secs(2);
/// How soon it is tried again what could not be done.
const RETRY: Duration = Duration::from_secs(1);
/// How a server says that somebody is not let in because of what is kept of the account.
const KEPT_OUT: [u16; 6] = [
    1045, // a wrong password, or no certificate
    1275, // a password in a form of long ago
    1820, // an expired password
    1862, // the same, for programs
    3118, // locked
    4151, // locked, says MariaDB
];

/// The accounts that the cluster shall have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    accounts: Accounts,
    /// Whether they were told since another server could have been primary.
    certain: bool,
}

impl Wanted {
    /// Gives whether that is news.
    pub(crate) fn tell(&mut self, accounts: Accounts) -> bool {
        let news =
            accounts.revision > self.accounts.revision || accounts.revision == self.accounts.revision && !self.certain;
        if news {
            *self = Self { accounts, certain: true };
        }
        news
    }

    /// Another server may become primary, and be told of others.
    pub(crate) fn doubt(&mut self) {
        self.certain = false;
    }
}

/// Keeps one server in order for as long as it is open.
#[derive(Debug)]
pub(crate) struct Upkeep {
    stop: Arc<Mutex<Session>>,
    task: tokio::task::JoinHandle<()>,
    kill: Kill,
    soon: Arc<Notify>,
}

/// Whether there may be a session, and which there is.
#[derive(Debug, Default)]
pub(crate) struct Session {
    stopped: bool,
    id: Option<u64>,
    /// How many acknowledgements commits wait for.
    acks: u32,
}

impl Session {
    /// Commits wait for so many acknowledgements from now on.
    pub(crate) const fn promoted(&mut self, acks: u32) {
        self.acks = acks;
    }
}

impl Upkeep {
    pub(crate) fn start(
        config: &InstanceConfig,
        address: Address,
        reader: Reader,
        wanted: watch::Receiver<Wanted>,
        acks: u32,
    ) -> Self {
        let stop = Arc::new(Mutex::new(Session { acks, ..Session::default() }));
        let soon = Arc::new(Notify::new());
        let dialect = reader.dialect;
        let keeper = Keeper {
            config: config.clone(),
            address,
            dialect,
            reader,
            session: Arc::clone(&stop),
            soon: Arc::clone(&soon),
            in_vain: Mutex::default(),
        };
        let kill = if dialect.is_mariadb() { Kill::Soft } else { Kill::Hard };
        Self { stop, task: tokio::spawn(keeper.run(wanted)), kill, soon }
    }

    /// Makes sure that nothing is written for upkeep from now on. What is being committed is waited for by whoever makes
    /// the server read-only.
    pub(crate) async fn stop(&self, link: &Link, limit: Duration) -> Result<(), Error> {
        let mut session = self.stop.lock().await;
        session.stopped = true;
        match session.id.take() {
            Some(id) => {
                sessions::ensure_room(link, limit).await?;
                sessions::end(link, id, self.kill, limit).await
            }
            None => Ok(()),
        }
    }

    /// Keeps what this does to the server's role away for as long as the guard lives.
    pub(crate) async fn quiet(&self) -> OwnedMutexGuard<Session> {
        Arc::clone(&self.stop).lock_owned().await
    }

    /// Commits wait, and nobody is there to acknowledge them: looks soon whether a clone is what they wait for.
    pub(crate) fn look_soon(&self) {
        self.soon.notify_one();
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    config: InstanceConfig,
    address: Address,
    dialect: Dialect,
    reader: Reader,
    session: Arc<Mutex<Session>>,
    soon: Arc<Notify>,
    /// Accounts that setting a password did not let in, by the revision that had it.
    in_vain: Mutex<BTreeSet<(String, u64)>>,
}

impl Keeper {
    async fn run(self, mut wanted: watch::Receiver<Wanted>) {
        let (mut last_error, mut patience) = (String::new(), Patience::default());
        loop {
            let now = wanted.borrow_and_update().clone();
            let round = self.round(&now).await;
            if let Ok(Round::Cloned { sent }) = round {
                if patience.is_over(sent) {
                    self.let_go().await;
                }
            } else {
                patience = Patience::default();
            }
            let pause = match round {
                Ok(Round::Done) => {
                    last_error.clear();
                    INTERVAL
                }
                Ok(Round::Later | Round::Cloned { .. }) => RETRY,
                Err(error) if error.is_connection() => RETRY,
                Ok(Round::Closed) => return,
                Err(error) => {
                    let text = error.at_port("keep accounts in order", "").chain();
                    if text != last_error {
                        tracing::warn!(error = %text, "accounts and events could not be looked after; trying again");
                        last_error = text;
                    }
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.soon.notified(), if pause == INTERVAL => {}
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Ends what a clone and commits wait for; the server's role does not change meanwhile. Goes on even if this is dropped.
    async fn let_go(&self) {
        let session = Arc::clone(&self.session).lock_owned().await;
        if session.stopped {
            return;
        }
        let (link, limit) = (Link::new(self.address.clone()), self.config.timing.statement);
        let dialect = self.dialect;
        let letting_go = tokio::spawn(async move {
            let done = unblock::let_go(&link, dialect, limit).await;
            drop(session);
            done
        });
        match letting_go.await {
            Ok(Ok(())) => tracing::warn!(
                "commits wait for an acknowledgement and a clone for them: clients were cut off, and are told nothing"
            ),
            Ok(Err(error)) => tracing::warn!(%error, "could not let go of commits that a clone waits for"),
            Err(error) => tracing::warn!(%error, "letting go of commits failed"),
        }
    }

    /// With the session's lock held: nobody promotes the server meanwhile, makes it step down, or lets go of commits.
    async fn keep_settings(&self, link: &Link, session: &Session, limit: Duration) -> Result<(), Error> {
        match settings::keep(link, self.dialect, session.acks, limit).await {
            Err(error) if !error.is_connection() => {
                let text = error.at_port("keep settings", "").chain();
                tracing::warn!(error = %text, "what keeps commits could not be looked after");
                Ok(()) // the rest shall be, all the same
            }
            kept => kept,
        }
    }

    async fn round(&self, wanted: &Wanted) -> Result<Round, Error> {
        let link = Link::new(self.address.clone());
        let limit = self.config.timing.statement;
        {
            let mut session = self.session.lock().await;
            if session.stopped {
                return Ok(Round::Closed);
            }
            let row = link.row("connect for upkeep", "SELECT CONNECTION_ID() AS id", limit).await?;
            session.id = row.number("id");
            self.keep_settings(&link, &session, limit.min(SETTINGS_WITHIN)).await?;
        }
        let work = Work { keeper: self, link: link.once(), limit };
        let done = work.round(wanted).await;
        self.session.lock().await.id = None;
        done
    }
}

/// What became of one look at everything.
enum Round {
    Done,
    /// Nobody could acknowledge what would be written, or the server cannot be reached.
    Later,
    /// The same, commits wait for that, and somebody is taking a clone. So many bytes were sent since the server began.
    Cloned {
        sent: u64,
    },
    /// The server is not open any more.
    Closed,
}

/// One round, over a connection that is not made anew.
struct Work<'a> {
    keeper: &'a Keeper,
    link: Link,
    limit: Duration,
}

impl Work<'_> {
    async fn run(&self, what: &'static str, sql: &str) -> Result<(), Error> {
        self.link.run(what, sql, self.limit).await
    }

    async fn round(&self, wanted: &Wanted) -> Result<Round, Error> {
        let keeper = self.keeper;
        let facts = keeper.reader.own_facts(&self.link, self.limit).await?;
        if !facts.writable {
            return Ok(Round::Closed);
        }
        if facts.source_on == Some(true) {
            let (replicas, waiting) = keeper.reader.counters(&self.link, true, self.limit).await?;
            if replicas == 0 {
                let has_clone = waiting > 0 && self.dialect().has_clone();
                let sent = if has_clone { unblock::sent_with_a_clone(&self.link, self.limit).await? } else { None };
                return Ok(sent.map_or(Round::Later, |sent| Round::Cloned { sent }));
            }
        }
        self.our_own().await?;
        if wanted.certain {
            self.own_user(&wanted.accounts).await?;
            self.asked_for(&wanted.accounts, facts.source_on == Some(true)).await?;
            self.everybody(&wanted.accounts.others).await?;
        }
        events::keep(&self.link, self.limit).await?;
        Ok(Round::Done)
    }

    fn dialect(&self) -> Dialect {
        self.keeper.dialect
    }

    /// Names and hosts of all accounts, without roles of MariaDB, which have no host.
    async fn accounts(&self) -> Result<Vec<(String, String)>, Error> {
        let rows = self.link.query("list accounts", "SELECT User, Host FROM mysql.user", self.limit).await?;
        Ok(rows.iter().filter_map(|row| Some((row.text("User")?, row.text("Host")?))).collect())
    }

    async fn grants(&self, account: &str) -> Result<Grants, Error> {
        let rows = self.link.query("read grants", &format!("SHOW GRANTS FOR {account}"), self.limit).await?;
        let rows: Vec<String> = rows.iter().filter_map(|row| row.at(0)).collect();
        Ok(Grants::parse(rows.iter().map(String::as_str)))
    }

    /// Replicas must be able to connect, whatever was done to their account.
    async fn our_own(&self) -> Result<(), Error> {
        let account = format!("'{REPLICATION}'@'%'");
        let there = self.accounts().await?.iter().any(|(user, host)| user == REPLICATION && host == "%");
        let password = &self.keeper.config.passwords.replication;
        if !there || !self.gets_in(REPLICATION, password).await? {
            tracing::warn!("the replicas' account was changed: it is put right");
            self.set_password(&account, there, password).await?;
        }
        let mut wanted = Grants::default();
        wanted.grant("*.*", [READ_BINLOG, accounts::see_binlog(self.dialect())]);
        if self.dialect().has_system_user() {
            wanted.grant("*.*", ["BACKUP_ADMIN", "SHOW VIEW", "CONNECTION_ADMIN", "SYSTEM_USER"]);
        }
        self.change(&account, &wanted, false).await
    }

    /// The cluster's user: its password is the one that cotton knows, whatever was done in SQL.
    async fn own_user(&self, wanted: &Accounts) -> Result<(), Error> {
        let config = &self.keeper.config;
        let password = match &wanted.user {
            Some(sealed) => self.opened(&config.user, sealed)?,
            None => config.passwords.user.clone(),
        };
        let account = named(&config.user)?;
        if !self.is_there(&config.user).await? {
            self.set_password(&account, false, &password).await?;
        } else if self.let_in(&config.user, wanted.revision, &password).await? {
            tracing::warn!(
                "the password of the cluster's user was changed in SQL: it is set back, and the user's sessions end"
            );
        }
        self.change(&account, &accounts::of_user(self.dialect()), false).await
    }

    fn opened(&self, user: &str, sealed: &Sealed) -> Result<SecretString, Error> {
        let opened = self.keeper.config.unsealed(sealed);
        opened.ok_or_else(|| Error::Config(format!("the password of account '{user}' cannot be opened: wrong key")))
    }

    async fn is_there(&self, name: &str) -> Result<bool, Error> {
        Ok(self.accounts().await?.iter().any(|(user, host)| user == name && host == "%"))
    }

    /// Sets a password if it does not open a session, and ends those that others have opened. Gives whether it did.
    async fn let_in(&self, user: &str, revision: u64, password: &SecretString) -> Result<bool, Error> {
        if self.gets_in(user, password).await? {
            return Ok(false);
        }
        let attempt = (user.to_owned(), revision);
        if self.keeper.in_vain.lock().await.contains(&attempt) {
            return Ok(false);
        }
        self.set_password(&named(user)?, true, password).await?;
        self.end_sessions_of(user).await?;
        if !self.gets_in(user, password).await? {
            tracing::warn!(
                user,
                "the account is not let in with its password, and setting that does not help: look at it"
            );
            self.keeper.in_vain.lock().await.insert(attempt);
        }
        Ok(true)
    }

    /// The accounts that the cluster's owner asked for.
    async fn asked_for(&self, wanted: &Accounts, semi_sync: bool) -> Result<(), Error> {
        let there = self.accounts().await?;
        let is_there = |name: &str| there.iter().any(|(user, host)| user == name && host == "%");
        let own = &self.keeper.config.user;
        for (name, wish) in &wanted.others {
            if name == own || RESERVED.contains(&name.as_str()) {
                continue;
            }
            let account = named(name)?;
            let Some(wish) = wish else {
                if is_there(name) {
                    self.run("drop an account", &format!("DROP USER {account}")).await?;
                    self.end_sessions_of(name).await?;
                }
                continue;
            };
            let password = self.opened(name, &wish.password)?;
            let grants = accounts::of_account(self.dialect(), wish.kind, &wish.databases);
            if !is_there(name) {
                // its password is set when all else is right, so that nobody is let in before
                let nobody = SecretString::from(crate::dirs::random_hex(24)?);
                self.set_password(&account, false, &nobody).await?;
            }
            let reads = wish.kind == AccountKind::Replication;
            self.change(&account, &grants, reads && semi_sync).await?;
            if is_there(name) {
                self.let_in(name, wanted.revision, &password).await?;
            } else {
                self.set_password(&account, true, &password).await?;
            }
        }
        Ok(())
    }

    /// Nobody has what reaches beyond databases, and together they leave room for us.
    async fn everybody(&self, wanted: &BTreeMap<String, Option<Account>>) -> Result<(), Error> {
        let config = &self.keeper.config;
        let administrator = config.administrator.as_ref().map(|account| account.user.as_str());
        let is_ours = |user: &str, host: &str| {
            RESERVED.contains(&user) || user == "PUBLIC" || host == "localhost" && administrator == Some(user)
        };
        let mut theirs = self.accounts().await?;
        theirs.retain(|(user, host)| !is_ours(user, host));
        let limit = accounts::of_user(self.dialect());
        for (user, host) in &theirs {
            let known = host == "%" && (*user == config.user || wanted.get(user).is_some_and(Option::is_some));
            if !known {
                let account = format!("{}@{}", quote(user)?, quote(host)?);
                let tamed = self.grants(&account).await?.tamed(&limit);
                self.change(&account, &tamed, false).await?;
            }
        }
        let count = u64::try_from(theirs.len()).unwrap_or(u64::MAX).max(1);
        let share = (Sizes::of(config).user_connections / count).max(1);
        let sql = "SELECT User, Host, max_user_connections AS most FROM mysql.user";
        let rows = self.link.query("read limits", sql, self.limit).await?;
        for (user, host) in &theirs {
            let of = |row: &&crate::sql::Record| {
                row.text("User").as_ref() == Some(user) && row.text("Host").as_ref() == Some(host)
            };
            if rows.iter().find(of).and_then(|row| row.number("most")) != Some(share) {
                let account = format!("{}@{}", quote(user)?, quote(host)?);
                self.run("limit connections", &accounts::limit_connections(self.dialect(), &account, share)).await?;
            }
        }
        Ok(())
    }

    /// Changes what an account may do. What reads the binary logs may do so on replicas only, while commits here wait for
    /// acknowledgements: see [`readers`](crate::readers).
    async fn change(&self, account: &str, wanted: &Grants, on_replicas: bool) -> Result<(), Error> {
        let mut has = self.grants(account).await?;
        if self.dialect().has_system_user() && has.has("*.*", "GRANT OPTION") {
            // of an earlier version: each dynamic privilege has an option of its own, so all are given anew
            self.run("take back all", &format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account}")).await?;
            has = Grants::default();
        }
        if on_replicas && has.has("*.*", accounts::see_binlog(self.dialect())) {
            has.grant("*.*", [READ_BINLOG]); // as the replicas have it
        }
        for statement in has.change_to(wanted, account) {
            self.run("change what an account may do", &statement).await?;
            if on_replicas && statement.starts_with("GRANT") && statement.contains(READ_BINLOG) {
                self.run("leave it to replicas", "SET SESSION sql_log_bin = OFF").await?;
                let revoke = format!("REVOKE {READ_BINLOG} ON *.* FROM {account}");
                let revoked = self.run("leave it to replicas", &revoke).await;
                self.run("write the binary log again", "SET SESSION sql_log_bin = ON").await?;
                revoked?;
            }
        }
        Ok(())
    }

    /// Makes an account, or lets one in with that password and nothing else; without the password in a binary log.
    async fn set_password(&self, account: &str, there: bool, password: &SecretString) -> Result<(), Error> {
        let secret = quote(password.expose_secret())?;
        let verb = if there { "ALTER" } else { "CREATE" };
        let freely = if there { " REQUIRE NONE ACCOUNT UNLOCK" } else { "" };
        let dialect = self.dialect();
        let statement = if !dialect.is_mariadb() && !dialect.is_mysql_before((5, 7, 6)) {
            format!("{verb} USER {account} IDENTIFIED BY {secret}{freely}") // logged as a hash
        } else {
            let sql = format!("SELECT PASSWORD({secret}) AS hash");
            let hash = self.link.row("hash a password", &sql, self.limit).await?.text("hash").unwrap_or_default();
            match (there, dialect.is_mariadb()) {
                (true, false) => format!("SET PASSWORD FOR {account} = '{hash}'"),
                (false, false) => format!("{verb} USER {account} IDENTIFIED BY PASSWORD '{hash}'"),
                (_, true) => format!("{verb} USER {account} IDENTIFIED BY PASSWORD '{hash}'{freely}"),
            }
        };
        self.run("set a password", &statement).await
    }

    /// Whether that password opens a session, or would if there were room for one.
    async fn gets_in(&self, user: &str, password: &SecretString) -> Result<bool, Error> {
        let config = &self.keeper.config;
        let link = Link::new(Address::tcp(config.own_host(), config.endpoint.port, user, password));
        match link.warm(config.timing.connect).await {
            Ok(()) => Ok(true),
            // another way to say who one is
            Err(Error::Sql {
                source:
                    mysql_async::Error::Driver(
                        DriverError::UnknownAuthPlugin { .. }
                        | DriverError::MysqlOldPasswordDisabled
                        | DriverError::CleartextPluginDisabled,
                    ),
                ..
            }) => Ok(false),
            Err(error) => match error.server_code() {
                Some(code) => Ok(!KEPT_OUT.contains(&code)),
                None => Err(error),
            },
        }
    }

    async fn end_sessions_of(&self, user: &str) -> Result<(), Error> {
        let kill = if self.dialect().is_mariadb() { Kill::Soft } else { Kill::Hard };
        sessions::ensure_room(&self.link, self.limit).await?;
        for id in sessions::of_user(&self.link, user, self.limit).await? {
            sessions::end(&self.link, id, kill, self.limit).await?;
        }
        Ok(())
    }
}

fn named(user: &str) -> Result<String, Error> {
    Ok(format!("{}@'%'", quote(user)?))
}
