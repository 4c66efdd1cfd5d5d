//! Which Mesos master leads, as the masters themselves say it below their path: each has an ephemeral `json.info_NNNNNNNNNN`,
//! and the lowest number leads.

use super::ZkUrl;
use super::error::ZkError;
use super::session::{Session, none_if_missing};
use crate::scheduler::MasterDetector;
use async_trait::async_trait;
use cotton_core::{Endpoint, PortError};
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

const PREFIX: &str = "json.info_";
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where a master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterAddress {
    /// Its id; another one after each restart.
    pub id: String,
    /// Name of its host, which its certificate has with TLS; its address when it gives no name.
    pub host: String,
    /// Address of its host, if it says so: what Mesos's own libraries connect to.
    pub ip: Option<IpAddr>,
    /// Port of its HTTP API.
    pub port: u16,
}

impl MasterAddress {
    /// Where to connect to: its address as Mesos's own libraries do, and its name only when it has given no address.
    pub fn endpoint(&self) -> Endpoint {
        let host = self.ip.map_or_else(|| self.host.clone(), |ip| ip.to_string());
        Endpoint::new(host, self.port)
    }
}

/// As [`endpoint`](MasterAddress::endpoint), with brackets where a URL needs them.
impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "{}", SocketAddr::new(ip, self.port)),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Watches for the leading master until it is dropped.
#[derive(Debug)]
pub struct ZkMasterDetector {
    leading: watch::Receiver<Option<MasterAddress>>,
    task: JoinHandle<()>,
}

impl ZkMasterDetector {
    /// Begins, in the background of the current runtime. `url` is the one that the masters were started with (`--zk`).
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(url: ZkUrl, session_timeout: Duration) -> Self {
        let (leads, leading) = watch::channel(None);
        let task = tokio::spawn(detect(url, session_timeout, leads));
        Self { leading, task }
    }

    /// The leading master and every change of it. `None` while no master is registered. While `ZooKeeper` cannot be
    /// reached, the last one stays: it may well lead on, and says so itself when it does not.
    pub fn leading(&self) -> watch::Receiver<Option<MasterAddress>> {
        self.leading.clone()
    }

    /// The leading master; waits until there is one.
    pub async fn leader(&self) -> MasterAddress {
        let mut leading = self.leading.clone();
        let found = leading.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        match found {
            Some(master) => master,
            None => std::future::pending().await, // the runtime is shutting down
        }
    }

    /// Waits until another than the one at `master` leads, or nobody.
    pub async fn changed(&self, master: &Endpoint) {
        let mut leading = self.leading.clone();
        let is_other = |now: &Option<MasterAddress>| now.as_ref().is_none_or(|now| now.endpoint() != *master);
        if leading.wait_for(is_other).await.is_err() {
            std::future::pending::<()>().await; // the runtime is shutting down
        }
    }
}

#[async_trait]
impl MasterDetector for ZkMasterDetector {
    async fn leader(&self) -> Result<Endpoint, PortError> {
        Ok(Self::leader(self).await.endpoint())
    }

    async fn changed(&self, master: &Endpoint) {
        Self::changed(self, master).await;
    }

    fn failed(&self, _master: &Endpoint) {} // its place is given to another when its session ends
}

impl Drop for ZkMasterDetector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn detect(url: ZkUrl, session_timeout: Duration, leads: watch::Sender<Option<MasterAddress>>) {
    let mut pause = PAUSE_MIN;
    loop {
        let error = match Session::open(&url, session_timeout).await {
            Ok(session) => {
                pause = PAUSE_MIN;
                loop {
                    if let Err(error) = follow(&url, &session, &leads).await {
                        break error;
                    }
                }
            }
            Err(error) => error,
        };
        warn!(error = %error.chain(), "the masters at {url} cannot be watched; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Looks who leads and waits until that may have changed.
async fn follow(url: &ZkUrl, session: &Session, leads: &watch::Sender<Option<MasterAddress>>) -> Result<(), ZkError> {
    let client = session.client();
    let path = url.path();
    let Some((names, watcher)) = session.ask(path, none_if_missing(client.list_and_watch_children(path))).await? else {
        // No master has ever been here.
        tell(leads, None);
        let (stat, watcher) = session.ask(path, client.check_and_watch_stat(path)).await?;
        if stat.is_none() {
            watcher.changed().await;
        }
        return ended(session);
    };
    match lowest(&names) {
        None => tell(leads, None),
        Some(name) => {
            let znode = if path == "/" { format!("/{name}") } else { format!("{path}/{name}") };
            match session.get(&znode).await? {
                None => return Ok(()), // has just gone
                Some((data, _)) => match parse(&data) {
                    Ok(master) => tell(leads, Some(master)),
                    Err(error) => {
                        warn!(%error, "'{znode}' is not understood, so the leading master is not known");
                        tell(leads, None);
                    }
                },
            }
        }
    }
    watcher.changed().await;
    ended(session)
}

fn ended(session: &Session) -> Result<(), ZkError> {
    if session.has_ended() { Err(ZkError::SessionEnded) } else { Ok(()) }
}

fn tell(leads: &watch::Sender<Option<MasterAddress>>, master: Option<MasterAddress>) {
    leads.send_if_modified(|known| {
        if *known == master {
            return false;
        }
        if let Some(master) = &master {
            info!("the leading master is {master}");
        } else {
            info!("no master leads");
        }
        *known = master;
        true
    });
}

/// The znode of the leader.
fn lowest(names: &[String]) -> Option<&String> {
    let number = |name: &str| name.strip_prefix(PREFIX)?.parse::<u64>().ok();
    names.iter().filter_map(|name| Some((number(name)?, name))).min().map(|(_, name)| name)
}

/// What a master says of itself.
#[derive(Deserialize)]
struct MasterInfo {
    #[serde(default)]
    id: String,
    hostname: Option<String>,
    /// `master@address:port`
    pid: Option<String>,
    address: Option<Address>,
}

#[derive(Deserialize)]
struct Address {
    hostname: Option<String>,
    ip: Option<IpAddr>,
    port: u16,
}

#[derive(Debug, thiserror::Error)]
enum InfoError {
    #[error("not the JSON of a master")]
    Json(#[from] serde_json::Error),
    #[error("no host or no port in it")]
    Incomplete,
}

fn parse(data: &[u8]) -> Result<MasterAddress, InfoError> {
    let info: MasterInfo = serde_json::from_slice(data)?;
    let address = info.address.or_else(|| {
        // masters before 1.0 say it only here
        let address: SocketAddr = info.pid?.split_once('@')?.1.parse().ok()?;
        Some(Address { hostname: None, ip: Some(address.ip()), port: address.port() })
    });
    let Address { hostname, ip, port } = address.ok_or(InfoError::Incomplete)?;
    let host = hostname.or(info.hostname).filter(|name| !name.is_empty());
    let host = host.or_else(|| ip.map(|ip| ip.to_string())).ok_or(InfoError::Incomplete)?;
    Ok(MasterAddress { id: info.id, host, ip, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_leads() {
        let names = ["log_replicas", "json.info_0000000012", "json.info_0000000003", "info_0000000001", "json.info_x"];
        let names = names.map(str::to_owned);
        assert_eq!(lowest(&names).map(String::as_str), Some("json.info_0000000003"));
        assert_eq!(lowest(&names[..1]), None);
    }

    #[test]
    fn reads_what_masters_write() {
        let new =
            br#"{"address":{"hostname":"m1","ip":"127.0.0.1","port":5051},"capabilities":[{"type":"AGENT_UPDATE"}],
            "hostname":"m1","id":"7c-1","ip":16777343,"pid":"master@127.0.0.1:5051","port":5051,"version":"1.11.0"}"#;
        let master = parse(new).expect("is read");
        let ip = Some(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(master, MasterAddress { id: "7c-1".to_owned(), host: "m1".to_owned(), ip, port: 5051 });
        assert_eq!(master.to_string(), "127.0.0.1:5051");
        let named = parse(br#"{"address":{"hostname":"m2","port":5050},"hostname":"m2","id":"x"}"#).expect("is read");
        assert_eq!(named.to_string(), "m2:5050");
        let old = br#"{"hostname":"m3","id":"x","ip":16777343,"pid":"master@10.0.0.3:5050","port":5050}"#;
        let old = parse(old).expect("is read");
        assert_eq!((old.to_string().as_str(), old.host.as_str()), ("10.0.0.3:5050", "m3"));
        parse(b"{}").expect_err("no address");
        parse(b"\x08\x01").expect_err("not JSON");
    }
}
