//! Which Mesos master leads, as the masters themselves say it below their path: each has an ephemeral `json.info_NNNNNNNNNN`,
//! and the lowest number leads.

use super::ZkUrl;
use super::error::ZkError;
use super::session::{Session, none_if_missing};
use serde::Deserialize;
use std::fmt;
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
    /// Name or, without one, address of its host.
    pub host: String,
    /// Its address, if it says so.
    pub ip: Option<String>,
    /// Port of its HTTP API.
    pub port: u16,
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
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
    port: Option<u16>,
    address: Option<Address>,
}

/// What newer masters say; older ones have their address as a number elsewhere.
#[derive(Deserialize)]
struct Address {
    hostname: Option<String>,
    ip: Option<String>,
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
    let (hostname, ip, port) = match info.address {
        Some(address) => (address.hostname.or(info.hostname), address.ip, Some(address.port)),
        None => (info.hostname, None, info.port),
    };
    let host = hostname.filter(|name| !name.is_empty()).or_else(|| ip.clone()).ok_or(InfoError::Incomplete)?;
    Ok(MasterAddress { id: info.id, host, ip, port: port.ok_or(InfoError::Incomplete)? })
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
        let ip = Some("127.0.0.1".to_owned());
        assert_eq!(master, MasterAddress { id: "7c-1".to_owned(), host: "m1".to_owned(), ip, port: 5051 });
        let old = parse(br#"{"hostname":"m2","id":"x","ip":16777343,"port":5050}"#).expect("is read");
        assert_eq!(old.to_string(), "m2:5050");
        parse(b"{}").expect_err("no address");
        parse(b"\x08\x01").expect_err("not JSON");
    }
}
