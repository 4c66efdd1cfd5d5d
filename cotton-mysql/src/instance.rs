//! One server, behind the port.

use crate::cnf::{self, Place};
use crate::copy::{self, CopyServer, Donor, Received, Recipient};
use crate::dialect::Dialect;
use crate::dirs::{Dirs, SocketDir, ensure_uuid};
use crate::history::Primary;
use crate::install::{FromSystem, Installed, Installer};
use crate::process::{self, Mysqld, Progress};
use crate::programs::{Programs, Server};
use crate::provision::RemoveOnDrop;
use crate::relay::Relays;
use crate::replication::Control;
use crate::sql::{Address, Link};
use crate::status::{Facts, Reader, Replica};
use crate::tail::Tail;
use crate::upkeep::{Upkeep, Wanted};
use crate::{Error, InstanceConfig, accounts, provision, started};
use async_trait::async_trait;
use cotton_core::account::Accounts;
use cotton_core::ports::mysql::{
    Drained, Exit, Followed, Following, Frozen, MySql, Promoted, Promotion, ServerStatus, Started,
};
use cotton_core::{Endpoint, GtidSet, PortError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::time::Instant;

/// One MySQL or MariaDB server of this machine: its process, its directory and its SQL side.
///
/// Dropping it kills the server.
#[derive(Debug)]
pub struct Instance {
    config: InstanceConfig,
    installer: Arc<dyn Installer>,
    dirs: Dirs,
    found: OnceCell<Found>,
    running: Mutex<Option<Arc<Running>>>,
    /// Every start, for `exited`.
    started: mpsc::UnboundedSender<Arc<Mysqld>>,
    exits: tokio::sync::Mutex<Exits>,
    /// Accounts, for the time when this server is primary.
    accounts: watch::Sender<Wanted>,
}

/// The server's programs, and what they say.
#[derive(Debug)]
struct Found {
    programs: Programs,
    server: Server,
}

#[derive(Debug)]
struct Exits {
    starts: mpsc::UnboundedReceiver<Arc<Mysqld>>,
    current: Option<Arc<Mysqld>>,
}

/// A started server with its connections, which are open from the start on: there is no time for it in a failover.
#[derive(Debug)]
struct Running {
    mysqld: Arc<Mysqld>,
    control: Link,
    probes: Link,
    reader: Reader,
    socket: SocketDir,
    /// Whether all that the process before had is still here.
    kept: bool,
    /// Whether it has given up something that it had received.
    gave_up: AtomicBool,
    /// While it is primary.
    upkeep: tokio::sync::Mutex<Option<Upkeep>>,
    /// On MariaDB.
    _copy_server: Option<CopyServer>,
}

impl Instance {
    /// Takes the configuration and looks for the programs; starts and changes nothing.
    ///
    /// # Errors
    /// When a setting cannot work, or a program is missing: says what to install.
    pub fn new(config: InstanceConfig) -> Result<Self, Error> {
        let programs = config.programs.iter().cloned().collect();
        Programs::of(Installed { programs, ..Installed::default() })?;
        let installer = FromSystem { programs: config.programs.clone() };
        Self::with_installer(config, Arc::new(installer))
    }

    /// As [`Instance::new`], with programs that are installed when they are needed first, wherever
    /// [`InstanceConfig::programs`] says that they are.
    ///
    /// # Errors
    /// When a setting cannot work.
    pub fn with_installer(config: InstanceConfig, installer: Arc<dyn Installer>) -> Result<Self, Error> {
        config.validate()?;
        let dirs = Dirs::new(&config.root, config.run_as);
        let (started, starts) = mpsc::unbounded_channel();
        Ok(Self {
            config,
            installer,
            dirs,
            found: OnceCell::new(),
            running: Mutex::new(None),
            started,
            exits: tokio::sync::Mutex::new(Exits { starts, current: None }),
            accounts: watch::Sender::default(),
        })
    }

    /// The server's unix socket, while it runs. Only the account that the server runs as, and root, get there.
    pub fn socket(&self) -> Option<PathBuf> {
        self.running().ok().map(|running| running.socket.socket())
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.running().ok().map(|running| running.mysqld.pid().as_raw_nonzero().get())
    }

    async fn found(&self) -> Result<&Found, Error> {
        let find = || async {
            let mut programs = Programs::of(self.installer.install().await?)?;
            self.dirs.prepare()?;
            let server = programs.examine(&self.dirs).await?;
            Ok(Found { programs, server })
        };
        self.found.get_or_try_init(find).await
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Result<Arc<Running>, Error> {
        let running = self.slot().clone();
        running.filter(|running| running.mysqld.is_running()).ok_or(Error::NotRunning)
    }

    /// Gives whether all that the process before had is still here.
    async fn try_start(&self, replaced: bool) -> Result<bool, Error> {
        if let Ok(running) = self.running() {
            running.control.warm(self.config.timing.statement).await?;
            return Ok(running.kept);
        }
        if !self.dirs.data().exists() {
            return Err(Error::NotProvisioned(self.dirs.data()));
        }
        let found = self.found().await?;
        let Found { programs, server } = found;
        self.dirs.ensure_made_by(server.dialect)?;
        self.dirs.prepare()?;
        let limit = self.config.timing.statement;
        let (pid_file, cnf) = (self.dirs.pid_file(), self.dirs.cnf());
        let gone = tokio::time::timeout(limit, process::kill_leftover(&pid_file, &cnf, &self.dirs.data())).await;
        gone.map_err(|_| Error::Timeout { what: "the end of an earlier server", after: limit })?;
        self.dirs.sweep();
        if !server.dialect.is_mariadb() {
            ensure_uuid(&self.dirs, &self.dirs.data())?; // of a directory that was never started, or put there by others
        }
        let socket_dir = self.dirs.socket_dir()?;
        let socket = socket_dir.socket();
        let cut_unacknowledged = replaced && server.dialect.is_mariadb();
        let tail = if cut_unacknowledged { Some(Tail::copy(&self.dirs)?) } else { None };
        let kept = started::is_kept(&self.dirs)? && !cut_unacknowledged;
        let base = self.config.server_id;
        // what is cut off may come back from the new primary, and a replica skips what carries its own server_id
        let server_id = if cut_unacknowledged { self.dirs.next_server_id(base) } else { self.dirs.server_id(base) };
        let admin = Address::socket(&socket, accounts::ADMIN, &self.config.passwords.admin);
        let copy_server =
            if server.dialect.is_mariadb() { Some(self.copy_server(found, &socket, &admin).await?) } else { None };
        let copy_port = copy_server.as_ref().map(|server| server.port);
        let place = Place { socket: &socket, server_id: server_id?, copy_port, cut_unacknowledged };
        let text = cnf::render(server, &self.config, &self.dirs, &place);
        std::fs::write(self.dirs.cnf(), text).map_err(|e| Error::file("write", self.dirs.cnf(), e))?;

        let mysqld = Mysqld::start(self.command(programs)?, self.dirs.error_log()).await?;
        let relays = Arc::new(Relays::of(self.dirs.data(), server.dialect));
        let mut running = Running {
            mysqld: Arc::new(mysqld),
            control: Link::new(admin.clone()),
            probes: Link::new(admin),
            reader: Reader {
                dialect: server.dialect,
                semi_sync: server.semi_sync && self.config.semi_sync,
                relays: Some(relays),
            },
            socket: socket_dir,
            kept,
            gave_up: AtomicBool::new(false),
            upkeep: tokio::sync::Mutex::default(),
            _copy_server: copy_server,
        };
        match self.wait_until_ready(&running).await {
            Ok(finds_all) => running.kept &= finds_all,
            Err(error) => {
                running.mysqld.kill().await;
                return Err(error);
            }
        }
        if let Some(place) = tail.and_then(Tail::settle) {
            tracing::warn!(kept = %place.display(), "the end of this former primary's data, which its successor lacks, was cut off: here is a copy");
        }
        started::begin(&self.dirs)?;
        let (kept, running) = (running.kept, Arc::new(running));
        let _ = self.started.send(Arc::clone(&running.mysqld)); // the receiver is ours
        *self.slot() = Some(running);
        Ok(kept)
    }

    async fn copy_server(&self, found: &Found, socket: &Path, admin: &Address) -> Result<CopyServer, Error> {
        let donor = Donor {
            programs: found.programs.clone(),
            dialect: found.server.dialect,
            dirs: self.dirs.clone(),
            socket: socket.to_owned(),
            link: Link::new(admin.clone()),
            admin: self.config.passwords.admin.clone(),
            replication: self.config.passwords.replication.clone(),
            timing: self.config.timing,
        };
        CopyServer::start(&self.config.bind_address, donor).await
    }

    fn command(&self, programs: &Programs) -> Result<std::process::Command, Error> {
        let path = self.dirs.error_log();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|e| Error::file("open", &path, e))?;
        self.dirs.give(&path)?;
        let configuration = format!("--defaults-file={}", self.dirs.cnf().display());
        let mut command = programs.server(&self.dirs, &configuration);
        let copy = log.try_clone().map_err(|e| Error::file("open", &path, e))?;
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        Ok(command)
    }

    /// Connects as soon as the socket answers, and makes sure that nobody can write yet. Recovery takes as long as it
    /// takes: only a process that gets nowhere for long is given up. Gives whether the server finds its relay logs.
    async fn wait_until_ready(&self, running: &Running) -> Result<bool, Error> {
        let limit = self.config.timing.start;
        let mut deadline = Instant::now() + limit;
        let mut progress = Progress::of(&running.mysqld, &self.dirs.error_log());
        let mut pause = Duration::from_millis(2);
        let socket = running.socket.socket();
        loop {
            if let Some(exit) = running.mysqld.exit() {
                return Err(Error::Ended { what: "the server".to_owned(), how: exit.description });
            }
            let mut left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let now = Progress::of(&running.mysqld, &self.dirs.error_log());
                if !now.is_beyond(&progress) {
                    return Err(Error::Timeout { what: "the server's start, and it does nothing", after: limit });
                }
                (progress, deadline, left) = (now, Instant::now() + limit, limit);
            }
            if socket.exists() {
                match running.control.warm(left).await {
                    Ok(()) => break,
                    Err(error) if error.is_connection() => {}
                    // refused with a reason: waiting does not help, unless it is still shutting down or starting up
                    Err(error) if matches!(error.server_code(), Some(1040 | 1053)) => {}
                    Err(error) => return Err(error),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {} // the socket appears without an event that we could wait for
                _ = running.mysqld.ended() => {}
            }
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        let facts = running.reader.facts(&running.control, self.config.timing.statement).await?;
        if facts.writable || facts.replica.as_ref().is_some_and(|replica| replica.receiving || replica.applying) {
            return Err(Error::Conflict("the server came up writable or replicating".to_owned()));
        }
        running.probes.warm(self.config.timing.statement).await?;
        self.warm_replication_account(running.reader.dialect).await;
        Ok(running.reader.finds_relay_logs(&facts).await)
    }

    /// Today's MySQL remembers whom it has let in once; without that, replicas would need 10 ms more in a failover.
    async fn warm_replication_account(&self, dialect: Dialect) {
        if dialect.is_mysql_from((8, 0, 4)) {
            let password = &self.config.passwords.replication;
            let link = Link::new(Address::tcp(
                self.config.own_host(),
                self.config.endpoint.port,
                accounts::REPLICATION,
                password,
            ));
            let _ = link.warm(self.config.timing.connect).await; // only to be faster
        }
    }

    fn control<'a>(&'a self, running: &'a Running) -> Control<'a> {
        Control {
            link: &running.control,
            reader: running.reader.clone(),
            gave_up: &running.gave_up,
            user: &self.config.user,
            limit: self.config.timing.statement,
            error_log: self.dirs.error_log(),
        }
    }

    async fn try_probe(&self) -> Result<ServerStatus, Error> {
        let running = self.running()?;
        let limit = self.config.timing.probe;
        let look = async {
            let facts = running.reader.facts(&running.probes, limit).await?;
            let source_on = facts.source_on == Some(true);
            let (replicas, waiting) = running.reader.counters(&running.probes, source_on, limit).await?;
            if facts.writable
                && source_on
                && replicas == 0
                && waiting > 0
                && let Ok(upkeep) = running.upkeep.try_lock()
                && let Some(upkeep) = upkeep.as_ref()
            {
                upkeep.look_soon();
            }
            let disk_free_bytes = rustix::fs::statvfs(self.dirs.data()).ok().map(|fs| fs.f_bavail * fs.f_frsize);
            // on a replica, it is for its applier that nobody waits
            let waits_for_room =
                facts.writable && running.reader.waits_for_room(&running.probes, disk_free_bytes, limit).await?;
            Ok(ServerStatus {
                version: facts.version,
                writable: facts.writable,
                position: facts.position,
                unapplied: facts.unapplied,
                origin: facts.own_mark,
                applied: facts.executed,
                replication: facts.replica.map(|replica| replica.to_port(&self.dirs.error_log())),
                replicas,
                waiting,
                disk_free_bytes,
                waits_for_room,
                data_gone: !self.dirs.data().exists(),
            })
        };
        let late = |_| Error::Timeout { what: "probe", after: limit };
        tokio::time::timeout(limit, look).await.map_err(late)?
    }

    async fn try_promote(&self, promotion: &Promotion) -> Result<Promoted, Error> {
        let running = self.running()?;
        let mut quiet = match running.upkeep.lock().await.as_ref() {
            Some(upkeep) => Some(upkeep.quiet().await),
            None => None,
        };
        let promoted = self.control(&running).promote(promotion).await?;
        let is_open = matches!(promoted, Promoted::Writable(_));
        if let Some(upkeep) = quiet.as_mut().filter(|_| is_open) {
            upkeep.promoted(promotion.acks);
        }
        drop(quiet);
        if is_open {
            let mut upkeep = running.upkeep.lock().await;
            if upkeep.as_ref().is_none_or(|upkeep| !upkeep.is_running()) {
                let admin = Address::socket(&running.socket.socket(), accounts::ADMIN, &self.config.passwords.admin);
                let (reader, accounts) = (running.reader.clone(), self.accounts.subscribe());
                *upkeep = Some(Upkeep::start(&self.config, admin, reader, accounts, promotion.acks));
            }
        }
        Ok(promoted)
    }

    async fn try_follow(&self, following: &Following) -> Result<Followed, Error> {
        if following.primary == self.config.endpoint {
            return Err(Error::Conflict("a server cannot follow itself".to_owned()));
        }
        let running = self.running()?;
        self.accounts.send_modify(Wanted::doubt);
        let password = &self.config.passwords.replication;
        let primary = Primary { link: self.link_to(&following.primary), reader: running.reader.of_another() };
        self.control(&running).follow(following, &primary, password).await
    }
}

impl Instance {
    fn start_failed(&self, error: Error) -> PortError {
        error.at_port("start the server", format!("log {}", self.dirs.error_log().display()))
    }

    /// The old data stays until the copy is complete; whatever happens, the old server ends. Gives whether the copy has all
    /// that the process before it had.
    async fn try_copy_from(&self, donor: &Endpoint) -> Result<bool, Error> {
        let found = self.found().await?;
        let server = &found.server;
        if !server.dialect.is_mariadb() && !server.clone {
            return Err(Error::Unsupported(format!(
                "this {} cannot copy another server's data: it has no clone plugin; restore a backup instead",
                server.dialect
            )));
        }
        let was_running = self.running().is_ok();
        let building = RemoveOnDrop(self.dirs.copying());
        let made = self.make_checked_copy(found, donor, &building.0).await;
        let old = self.slot().take();
        if let Some(old) = old {
            if !was_running {
                old.mysqld.hush(); // started for the copy only
            }
            old.mysqld.kill().await;
        }
        let (received, own) = made?;
        if let Some(received) = received {
            let recipient = self.recipient(found);
            copy::make_ready(&recipient, received, &building.0).await?;
        }
        provision::finish(&self.config, &self.dirs, server.dialect, &building.0).await?;
        self.try_start(false).await?;
        // a clone brings the donor's replication along
        let running = self.running()?;
        let forget = server.dialect.statements().forget;
        running.control.run("forget the donor's primary", forget, self.config.timing.statement).await?;
        let copied = self.facts().await?.executed;
        Ok(own.is_some_and(|own| copied.contains(&own)))
    }

    /// What another server has executed.
    async fn position_of(&self, other: &Endpoint, server: &Server) -> Result<GtidSet, Error> {
        let reader = Reader { dialect: server.dialect, semi_sync: false, relays: None };
        let facts = reader.own_facts(&self.link_to(other), self.config.timing.statement).await?;
        Ok(facts.executed)
    }

    fn link_to(&self, other: &Endpoint) -> Link {
        let password = &self.config.passwords.replication;
        Link::new(Address::tcp(&other.host, other.port, accounts::REPLICATION, password))
    }

    /// A copy that has all that the data has which it is to replace. Gives that position, too, if it is all that the server
    /// ever received or executed.
    async fn make_checked_copy(
        &self,
        found: &Found,
        donor: &Endpoint,
        place: &Path,
    ) -> Result<(Option<Received>, Option<GtidSet>), Error> {
        let has_data = self.dirs.data().exists();
        let mut kept = has_data;
        if has_data {
            let gave_up = |running: &Arc<Running>| running.gave_up.load(Ordering::SeqCst);
            let (was_running, gave_up) = (self.running().is_ok(), self.slot().as_ref().is_some_and(gave_up));
            kept = (self.try_start(false).await? || was_running) && !gave_up; // to see what it has
            let replicates = |replica: &Replica| replica.receiving || replica.applying;
            if self.facts().await?.replica.as_ref().is_some_and(replicates) {
                let running = self.running()?;
                let stop = found.server.dialect.statements().stop;
                running.control.run("stop replication", stop, self.config.timing.statement).await?;
            }
        }
        let donor_had = self.position_of(donor, &found.server).await?;
        let received = self.make_copy(found, donor, place).await?;
        if !has_data {
            return Ok((received, None));
        }
        let own = self.facts().await?.position;
        let copied = received.as_ref().map(Received::position).transpose()?;
        match own.errant_against(&donor_had) {
            Some(missing) if copied.is_none_or(|copied| !copied.contains(&own)) => Err(Error::NotYet(format!(
                "the copy lacks {missing}, which the data has that it would replace: nothing was replaced"
            ))),
            Some(_) | None => Ok((received, kept.then_some(own))),
        }
    }

    async fn facts(&self) -> Result<Facts, Error> {
        let running = self.running()?;
        running.reader.facts(&running.control, self.config.timing.statement).await
    }

    const fn recipient<'a>(&'a self, found: &'a Found) -> Recipient<'a> {
        let Found { programs, server } = found;
        Recipient { config: &self.config, programs, dialect: server.dialect, dirs: &self.dirs }
    }

    /// Gives what is to be made ready yet, when the own server has ended.
    async fn make_copy(&self, found: &Found, donor: &Endpoint, building: &Path) -> Result<Option<Received>, Error> {
        let Found { programs, server } = found;
        self.dirs.prepare()?;
        provision::remove_dir(building)?;
        let (timing, password) = (self.config.timing, &self.config.passwords.replication);
        let address = Address::tcp(&donor.host, donor.port, accounts::REPLICATION, password);
        if server.dialect.is_mariadb() {
            self.dirs.make_own(building)?;
            let recipient = self.recipient(found);
            let received = copy::receive(&recipient, &address, donor, building);
            let received = tokio::time::timeout(timing.copy, received).await;
            Ok(Some(received.map_err(|_| Error::Timeout { what: "the copy", after: timing.copy })??))
        } else {
            // its own server does the work
            if !self.dirs.data().exists() {
                provision::provision(&self.config, programs, &self.dirs, server).await?;
            }
            self.try_start(false).await?;
            let running = self.running()?;
            let admin = Address::socket(&running.socket.socket(), accounts::ADMIN, &self.config.passwords.admin);
            let admin = Link::new(admin);
            let donor_side = (&Link::new(address), running.reader.clone());
            copy::clone_from(&admin, donor, donor_side, password, building, timing).await?;
            Ok(None)
        }
    }
}

#[async_trait]
impl MySql for Instance {
    async fn provision(&self) -> Result<(), PortError> {
        let provision = async {
            if self.dirs.data().exists() {
                return Ok(());
            }
            let Found { programs, server } = self.found().await?;
            provision::provision(&self.config, programs, &self.dirs, server).await
        };
        let context = || format!("directory {}", self.dirs.root.display());
        provision.await.map_err(|error: Error| {
            if matches!(error, Error::Install(_)) {
                return error.at_port("install the server", "");
            }
            error.at_port("make the data directory", context())
        })
    }

    async fn start(&self) -> Result<Started, PortError> {
        let kept = self.try_start(false).await.map_err(|error| self.start_failed(error))?;
        Ok(Started { kept })
    }

    async fn start_replaced(&self) -> Result<Started, PortError> {
        let kept = self.try_start(true).await.map_err(|error| self.start_failed(error))?;
        Ok(Started { kept })
    }

    async fn exited(&self) -> Exit {
        let mut exits = self.exits.lock().await;
        loop {
            if let Some(current) = &exits.current {
                let exit = current.ended().await;
                let hushed = current.is_hushed();
                exits.current = None;
                if !hushed {
                    return exit;
                }
                continue;
            }
            match exits.starts.recv().await {
                Some(mysqld) => exits.current = Some(mysqld),
                None => std::future::pending().await, // not while we are there: the sender is ours
            }
        }
    }

    async fn kill(&self) {
        let running = self.slot().clone();
        if let Some(running) = running {
            running.mysqld.kill().await;
        }
    }

    async fn stop(&self, grace_ms: u64) {
        let running = self.slot().clone();
        if let Some(running) = running {
            running.mysqld.stop(Duration::from_millis(grace_ms)).await;
            if let Err(error) = started::end(&self.dirs) {
                tracing::warn!(%error, "after a crash of the machine, what was received may be gone");
            }
        }
    }

    async fn probe(&self) -> Result<ServerStatus, PortError> {
        self.try_probe().await.map_err(|error| error.at_port("probe the server", ""))
    }

    async fn freeze(&self) -> Result<Frozen, PortError> {
        self.accounts.send_modify(Wanted::doubt);
        let freeze = async {
            let running = self.running()?;
            self.control(&running).freeze().await
        };
        freeze.await.map_err(|error: Error| error.at_port("freeze the server", ""))
    }

    async fn step_down(&self, grace_ms: u64) -> Result<Frozen, PortError> {
        let step_down = async {
            let running = self.running()?;
            if let Some(upkeep) = running.upkeep.lock().await.take() {
                upkeep.stop(&running.control, self.config.timing.statement).await?;
            }
            self.control(&running).step_down(Duration::from_millis(grace_ms)).await
        };
        step_down.await.map_err(|error: Error| error.at_port("make the server step down", ""))
    }

    async fn drain(&self, budget_ms: u64) -> Result<Drained, PortError> {
        let drain = async {
            let running = self.running()?;
            self.control(&running).drain(Duration::from_millis(budget_ms)).await
        };
        drain.await.map_err(|error: Error| error.at_port("apply what was received", ""))
    }

    async fn promote(&self, promotion: &Promotion) -> Result<Promoted, PortError> {
        self.try_promote(promotion).await.map_err(|error| error.at_port("promote the server", ""))
    }

    async fn follow(&self, following: &Following) -> Result<Followed, PortError> {
        let context = || format!("primary {}", following.primary);
        self.try_follow(following).await.map_err(|error| error.at_port("follow the primary", context()))
    }

    async fn copy_from(&self, donor: &Endpoint) -> Result<Started, PortError> {
        let context = || format!("donor {donor}");
        let copied = self.try_copy_from(donor).await.map(|kept| Started { kept });
        copied.map_err(|error| error.at_port("copy the donor's data", context()))
    }

    fn set_accounts(&self, accounts: Accounts) {
        self.accounts.send_if_modified(|wanted| wanted.tell(accounts));
    }
}
