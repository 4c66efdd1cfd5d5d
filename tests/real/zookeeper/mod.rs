//! A real ZooKeeper on loopback: one server, or an ensemble of three, each a process of its own with its own data.

mod kazoo;
mod server;

pub use kazoo::{Kazoo, Seen};

use crate::{Directory, Failure};
use server::Server;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use zookeeper_client as zk;

/// A jar that names all others it needs: as Debian's package `libzookeeper-java` installs it.
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Short, so that sessions may be short.
const TICK_MS: u32 = 200;
/// Longer than a start takes on a busy machine.
const START: Duration = Duration::from_secs(90);

/// See the module. Dropping it ends its servers and removes their data.
#[derive(Debug)]
pub struct ZooKeeper {
    servers: Vec<Server>,
    _directory: Directory,
}

impl ZooKeeper {
    /// One server. `None`, after saying so loudly, when ZooKeeper is not installed.
    ///
    /// # Errors
    /// When it does not start.
    ///
    /// # Panics
    /// When it is not installed, in CI.
    pub async fn single() -> Result<Option<Self>, Failure> {
        Self::start_all(1).await
    }

    /// An ensemble of three; else as [`single`](Self::single).
    ///
    /// # Errors
    /// When it does not start.
    ///
    /// # Panics
    /// When it is not installed, in CI.
    pub async fn ensemble() -> Result<Option<Self>, Failure> {
        Self::start_all(3).await
    }

    async fn start_all(count: u16) -> Result<Option<Self>, Failure> {
        let jar = std::env::var_os("COTTON_ZOOKEEPER_JAR").map_or_else(|| PathBuf::from(JAR), PathBuf::from);
        if !jar.is_file() {
            let words = format!("ZooKeeper is not installed ({} is missing): run 'scripts/setup --all'", jar.display());
            assert!(std::env::var_os("CI").is_none(), "{words}");
            eprintln!("SKIPPED: {words}");
            return Ok(None);
        }
        let directory = Directory::new()?;
        let (first, _) = directory.ports();
        let mut peers = String::new();
        for n in 0..count {
            let (quorum, election) = (first + 10 + n, first + 20 + n);
            writeln!(peers, "server.{}=127.0.0.1:{quorum}:{election}", n + 1)
                .map_err(|e| Failure::because("text", &e))?;
        }
        let mut servers = Vec::new();
        for n in 0..count {
            let (dir, port) = (directory.path().join(format!("zookeeper-{n}")), first + n);
            let others = if count > 1 { peers.as_str() } else { "" };
            let settings = format!(
                "tickTime={TICK_MS}\ninitLimit=100\nsyncLimit=50\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
                 4lw.commands.whitelist=srvr\nadmin.enableServer=false\n{others}",
                dir.display(),
            );
            servers.push(Server::prepare(jar.clone(), dir, port, &settings, n + 1)?);
        }
        let mut this = Self { servers, _directory: directory };
        for server in &mut this.servers {
            server.start()?;
        }
        this.serving().await?;
        Ok(Some(this))
    }

    /// How many servers it has, running or not.
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// Waits until all servers that run answer clients.
    ///
    /// # Errors
    /// When they do not in time.
    pub async fn serving(&self) -> Result<(), Failure> {
        for server in self.servers.iter().filter(|server| server.is_started()) {
            server.serving(START).await?;
        }
        Ok(())
    }

    /// Kills a server with SIGKILL.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill(&mut self, number: usize) -> Result<(), Failure> {
        self.servers[number].kill().await
    }

    /// Starts a server that was killed, on its data; see [`serving`](Self::serving).
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(&mut self, number: usize) -> Result<(), Failure> {
        self.servers[number].start()
    }

    /// `host:port` of one server.
    pub fn address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.servers[number].port)
    }

    /// `host:port` of all, separated by commas.
    pub fn addresses(&self) -> String {
        let all: Vec<_> = (0..self.size()).map(|number| self.address(number)).collect();
        all.join(",")
    }

    /// A URL of all servers; `path` begins with `/`, `credentials` end with `@` or are empty.
    pub fn url(&self, credentials: &str, path: &str) -> String {
        format!("zk://{credentials}{}{path}", self.addresses())
    }

    /// An independent client, to look with or to act as somebody else.
    ///
    /// # Errors
    /// When there is no quorum.
    pub async fn client(&self) -> Result<zk::Client, Failure> {
        let connector = zk::Client::connector().with_session_timeout(Duration::from_secs(4));
        let connected = tokio::time::timeout(START, connector.connect(&self.addresses())).await;
        let connected = connected.map_err(|_| Failure::new("no session with ZooKeeper"))?;
        connected.map_err(|error| Failure::because("no session with ZooKeeper", &error))
    }
}

/// All znodes below `path` with their data, as an independent client sees them.
///
/// # Errors
/// When there is no quorum, or a znode may not be read.
pub async fn tree(client: &zk::Client, path: &str) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut found = BTreeMap::new();
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        match client.get_data(&path).await {
            Ok((data, _)) => drop(found.insert(path.clone(), data)),
            Err(zk::Error::NoNode) => continue,
            Err(error) => return Err(Failure::because(path, &error)),
        }
        let names = match client.list_children(&path).await {
            Ok(names) => names,
            Err(zk::Error::NoNode) => continue,
            Err(error) => return Err(Failure::because(path, &error)),
        };
        todo.extend(names.iter().map(|name| format!("{path}/{name}")));
    }
    Ok(found)
}
