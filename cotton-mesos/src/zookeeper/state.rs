//! The state store in `ZooKeeper`: `<zk>/state/fleet` and one `<zk>/state/clusters/<name>` a cluster, each one znode, each
//! replaced as a whole and only by the leader. A damaged record is moved to `<zk>/state/aside`.
//!
//! When the connection breaks in the middle of a write, the record is read back: it was written, or the error says that
//! trying again may help.

use super::ZkUrl;
use super::error::ZkError;
use super::leadership::{Leadership, Outcome};
use super::session::{Readers, Session};
use async_trait::async_trait;
use cotton_core::ports::state_store::{StateKey, StateStore, Stored};
use cotton_core::{ClusterName, PortError};
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::warn;
use zookeeper_client as zk;

/// Longest record, in bytes: a packet of `ZooKeeper` may have 1,048,575 by default (`jute.maxbuffer`), with names and ACL.
pub const RECORD_BYTES_MAX: usize = 1_000_000;

const FLEET: &str = "state/fleet";
const CLUSTERS: &str = "state/clusters";
const ASIDE: &str = "state/aside";
/// In `aside`: the record of the fleet. No cluster has a name with a dot.
const ASIDE_FLEET: &str = ".fleet";
const READS_AT_ONCE_MAX: usize = 16;
/// A write that finds the place changed looks again, this often: nobody else writes there, so it does not happen twice.
const ROUNDS_MAX: usize = 4;

/// What must be there before the first record, with who may read it.
pub(super) const DIRECTORIES: [(&str, Readers); 2] = [(CLUSTERS, Readers::Schedulers), (ASIDE, Readers::Schedulers)];

/// The records of the leader; see the module. Made by [`Leadership::state_store`].
#[derive(Clone, Debug)]
pub struct ZkStateStore {
    leadership: Leadership,
}

impl ZkStateStore {
    pub(super) fn new(leadership: Leadership) -> Self {
        Self { leadership }
    }

    fn path(&self, key: &StateKey) -> String {
        path(self.leadership.url(), key)
    }

    fn below(&self, path: &str) -> String {
        self.leadership.url().below(path)
    }

    /// Where the latest record that was set aside is, for each that has one.
    async fn asides(&self) -> Result<BTreeMap<StateKey, String>, ZkError> {
        asides(self.leadership.session()?, self.leadership.url()).await
    }

    async fn write(&self, key: &StateKey, value: &[u8]) -> Result<(), ZkError> {
        if value.len() > RECORD_BYTES_MAX {
            return Err(ZkError::TooLarge { bytes: value.len(), bytes_max: RECORD_BYTES_MAX });
        }
        let path = self.path(key);
        let mut is_there = true; // most often it is
        for _ in 0..ROUNDS_MAX {
            let mut transaction = self.leadership.transaction()?;
            if is_there {
                transaction.set(&path, value, None)?;
            } else {
                transaction.create(&path, value, &self.leadership.session()?.acl(Readers::Schedulers))?;
            }
            match transaction.commit(&path).await? {
                Outcome::Done => return Ok(()),
                Outcome::Refused(_, zk::Error::NoNode) if is_there => is_there = false,
                Outcome::Refused(_, zk::Error::NoNode) => self.make_directories().await?,
                Outcome::Refused(_, zk::Error::NodeExists) => is_there = true,
                Outcome::Refused(_, error) => return Err(ZkError::Other(error)),
                Outcome::Unknown(error) => {
                    let found = self.read_back(&path).await;
                    return if found?.is_some_and(|found| found == value) { Ok(()) } else { Err(error) };
                }
            }
        }
        Err(ZkError::Contended(path))
    }

    async fn delete(&self, key: &StateKey) -> Result<(), ZkError> {
        let path = self.path(key);
        let mut transaction = self.leadership.transaction()?;
        transaction.delete(&path, None)?;
        match transaction.commit(&path).await? {
            Outcome::Done | Outcome::Refused(_, zk::Error::NoNode) => Ok(()),
            Outcome::Refused(_, error) => Err(ZkError::Other(error)),
            Outcome::Unknown(error) => {
                if self.read_back(&path).await?.is_none() {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    async fn move_aside(&self, key: &StateKey) -> Result<String, ZkError> {
        let path = self.path(key);
        for _ in 0..ROUNDS_MAX {
            let session = self.leadership.session()?;
            let last = self.asides().await?.remove(key);
            let Some((value, stat)) = session.get(&path).await? else {
                return last.ok_or(ZkError::Missing(path));
            };
            let number =
                last.and_then(|last| parse_aside(last.rsplit('/').next()?)).map_or(1, |(_, number)| number + 1);
            let aside = format!("{}/{}", self.below(ASIDE), aside_name(key, number));
            let mut transaction = self.leadership.transaction()?;
            transaction.create(&aside, &value, &session.acl(Readers::Schedulers))?;
            transaction.delete(&path, Some(stat.version))?;
            match transaction.commit(&path).await? {
                Outcome::Done => return Ok(aside),
                Outcome::Refused(0, zk::Error::NoNode) => self.make_directories().await?,
                Outcome::Refused(_, zk::Error::NoNode | zk::Error::NodeExists | zk::Error::BadVersion) => {}
                Outcome::Refused(_, error) => return Err(ZkError::Other(error)),
                Outcome::Unknown(error) => {
                    return if self.read_back(&path).await?.is_none() { Ok(aside) } else { Err(error) };
                }
            }
        }
        Err(ZkError::Contended(path))
    }

    /// What is there after everything that was sent before, whichever server got it.
    async fn read_back(&self, path: &str) -> Result<Option<Vec<u8>>, ZkError> {
        let session = self.leadership.session()?;
        session.sync(path).await?;
        Ok(session.get(path).await?.map(|(bytes, _)| bytes))
    }

    async fn make_directories(&self) -> Result<(), ZkError> {
        let session = self.leadership.session()?;
        for (dir, readers) in DIRECTORIES {
            session.make(&self.below(dir), readers).await?;
        }
        Ok(())
    }

    fn port_error(&self, error: ZkError, operation: &'static str, context: impl Into<String>) -> PortError {
        self.leadership.explain(error).into_port(operation, context)
    }
}

#[async_trait]
impl StateStore for ZkStateStore {
    async fn load(&self) -> Result<Vec<Stored>, PortError> {
        let load = async { load_all(self.leadership.session()?, self.leadership.url()).await };
        load.await.map_err(|error| self.port_error(error, "load state", self.below("state")))
    }

    async fn save(&self, key: &StateKey, value: &[u8]) -> Result<(), PortError> {
        self.write(key, value).await.map_err(|error| self.port_error(error, "save", key.to_string()))
    }

    async fn remove(&self, key: &StateKey) -> Result<(), PortError> {
        self.delete(key).await.map_err(|error| self.port_error(error, "remove", key.to_string()))
    }

    async fn set_aside(&self, key: &StateKey) -> Result<String, PortError> {
        self.move_aside(key).await.map_err(|error| self.port_error(error, "set aside", key.to_string()))
    }
}

/// All records below a URL, as the leader would find them, for one who does not lead: to look at, since the leader may change
/// them at any time.
///
/// # Errors
/// When there is no session with `ZooKeeper` within `timeout`, or the records cannot be listed.
pub async fn look_at_records(url: &ZkUrl, timeout: Duration) -> Result<Vec<Stored>, PortError> {
    let look = async { load_all(&Session::open(url, timeout).await?, url).await };
    look.await.map_err(|error| error.into_port("look at the state", url.below("state")))
}

async fn load_all(session: &Session, url: &ZkUrl) -> Result<Vec<Stored>, ZkError> {
    let clusters = session.children(&url.below(CLUSTERS)).await?.unwrap_or_default();
    let clusters = clusters.into_iter().filter_map(|name| {
        let key = name.parse::<ClusterName>().ok().map(StateKey::Cluster);
        if key.is_none() {
            warn!("'{}/{name}' is no record of ours and is left alone", url.below(CLUSTERS));
        }
        key
    });
    let keys: Vec<_> = std::iter::once(StateKey::Fleet).chain(clusters).collect();
    let reads = futures::stream::iter(keys.into_iter().map(async |key| {
        let path = path(url, &key);
        match session.get(&path).await {
            Ok(found) => Ok(found.map(|(bytes, _)| (key, Ok(bytes)))),
            // says something of this record alone
            Err(error @ ZkError::Denied { .. }) => {
                let context = key.to_string();
                Ok(Some((key, Err(error.into_port("read", context)))))
            }
            Err(error) => Err(error),
        }
    }));
    let found: Vec<_> = reads.buffered(READS_AT_ONCE_MAX).try_collect().await?;
    let mut found: BTreeMap<_, _> = found.into_iter().flatten().collect();
    for (key, aside) in asides(session, url).await? {
        let error = || ZkError::Aside(aside).into_port("read", key.to_string());
        found.entry(key.clone()).or_insert_with(|| Err(error())); // a newer record counts
    }
    Ok(found.into_iter().map(|(key, value)| Stored { key, value }).collect())
}

async fn asides(session: &Session, url: &ZkUrl) -> Result<BTreeMap<StateKey, String>, ZkError> {
    let dir = url.below(ASIDE);
    let names = session.children(&dir).await?.unwrap_or_default();
    let mut latest: BTreeMap<StateKey, u64> = BTreeMap::new();
    for (key, number) in names.iter().filter_map(|name| parse_aside(name)) {
        let last = latest.entry(key).or_default();
        *last = number.max(*last);
    }
    Ok(latest.into_iter().map(|(key, number)| (key.clone(), format!("{dir}/{}", aside_name(&key, number)))).collect())
}

fn path(url: &ZkUrl, key: &StateKey) -> String {
    url.below(&match key {
        StateKey::Fleet => FLEET.to_owned(),
        StateKey::Cluster(name) => format!("{CLUSTERS}/{name}"),
    })
}

/// `<name>.<number>`.
fn aside_name(key: &StateKey, number: u64) -> String {
    match key {
        StateKey::Fleet => format!("{ASIDE_FLEET}.{number}"),
        StateKey::Cluster(name) => format!("{name}.{number}"),
    }
}

fn parse_aside(name: &str) -> Option<(StateKey, u64)> {
    let (stem, number) = name.rsplit_once('.')?;
    let key = if stem == ASIDE_FLEET { StateKey::Fleet } else { StateKey::Cluster(stem.parse().ok()?) };
    Some((key, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_is_aside_come_back() {
        for key in [StateKey::Fleet, StateKey::Cluster("fleet".parse().expect("a name"))] {
            assert_eq!(parse_aside(&aside_name(&key, 12)), Some((key, 12)));
        }
        for other in ["a", "a.b", ".1", "A.1", ""] {
            assert_eq!(parse_aside(other), None, "{other}");
        }
    }
}
