//! Discovery as Apache Cotton's clients know it: `<zk>/discover/<cluster>/master` has the primary's znode or none, `slaves`
//! those of the replicas; each is persistent, is called `member_NNNNNNNNNN` and holds a [`ServiceInstance`](super::service_instance).
//!
//! A publication is one transaction, so that a reader never sees two primaries, nor a member twice or not at all on its way
//! from one group to the other. The epoch is in the data of `<zk>/discover/<cluster>` itself, where Cotton had none and its
//! clients do not look; the version of that znode makes sure that nothing changed between looking and writing. Nothing is
//! ephemeral: clients find the databases also while no scheduler runs.

use super::error::ZkError;
use super::leadership::{Leadership, Outcome};
use super::service_instance;
use super::session::{Readers, Session};
use async_trait::async_trait;
use cotton_core::ports::discovery::{Discovery, Published};
use cotton_core::{ClusterName, Epoch, MemberId, PortError};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tracing::warn;
use zookeeper_client as zk;

const DISCOVER: &str = "discover";
const MASTER: &str = "master";
const SLAVES: &str = "slaves";
/// A write that finds the place changed looks again, this often.
const ROUNDS_MAX: usize = 4;

/// What must be there before the first cluster, with who may read it.
pub(super) const DIRECTORIES: [(&str, Readers); 1] = [(DISCOVER, Readers::Everybody)];

/// What clients see; see the module. Made by [`Leadership::discovery`].
#[derive(Clone, Debug)]
pub struct ZkDiscovery {
    leadership: Leadership,
}

/// The data of a cluster's znode.
#[derive(Serialize, Deserialize)]
struct Mark {
    epoch: Epoch,
}

/// What is below a cluster's znode: data by path, relative to it. Parents come before their children.
type Tree = BTreeMap<String, Vec<u8>>;

/// What there is of a cluster.
struct Seen {
    version: i32,
    epoch: Option<Epoch>,
    tree: Tree,
}

impl ZkDiscovery {
    pub(super) fn new(leadership: Leadership) -> Self {
        Self { leadership }
    }

    fn path(&self, cluster: &ClusterName) -> String {
        self.leadership.url().below(&format!("{DISCOVER}/{cluster}"))
    }

    async fn write(&self, cluster: &ClusterName, published: &Published) -> Result<(), ZkError> {
        let path = self.path(cluster);
        let wanted = wanted(published);
        let mark = encode(&Mark { epoch: published.epoch });
        for _ in 0..ROUNDS_MAX {
            let session = self.leadership.session()?;
            let acl = session.acl(Readers::Everybody);
            let seen = look(session, &path).await?;
            let mut transaction = self.leadership.transaction()?;
            let mut there = &Tree::new();
            if let Some(seen) = &seen {
                if let Some(epoch) = seen.epoch.filter(|epoch| *epoch > published.epoch) {
                    return Err(ZkError::Outdated(epoch));
                }
                if seen.epoch == Some(published.epoch) && seen.tree == wanted {
                    return Ok(());
                }
                there = &seen.tree;
                transaction.set(&path, &mark, Some(seen.version))?;
            } else {
                transaction.create(&path, &mark, &acl)?;
            }
            // Those that go before those that come: at no step has a group two primaries.
            for below in there.keys().rev().filter(|below| !wanted.contains_key(*below)) {
                transaction.delete(&format!("{path}/{below}"), None)?;
            }
            for (below, data) in &wanted {
                match there.get(below) {
                    None => transaction.create(&format!("{path}/{below}"), data, &acl)?,
                    Some(other) if other != data => transaction.set(&format!("{path}/{below}"), data, None)?,
                    Some(_) => {}
                }
            }
            match transaction.commit(&path).await? {
                Outcome::Done => return Ok(()),
                Outcome::Refused(0, zk::Error::NoNode) if seen.is_none() => {
                    session.make(&self.leadership.url().below(DISCOVER), Readers::Everybody).await?;
                }
                Outcome::Refused(_, error) => retry_if_changed(error)?,
                Outcome::Unknown(error) => {
                    session.sync(&path).await?;
                    let seen = look(session, &path).await?;
                    let is_done = seen.is_some_and(|s| s.epoch == Some(published.epoch) && s.tree == wanted);
                    return if is_done { Ok(()) } else { Err(error) };
                }
            }
        }
        Err(ZkError::Contended(path))
    }

    async fn delete(&self, cluster: &ClusterName) -> Result<(), ZkError> {
        let path = self.path(cluster);
        for _ in 0..ROUNDS_MAX {
            let session = self.leadership.session()?;
            let Some(seen) = look(session, &path).await? else {
                return Ok(());
            };
            let mut transaction = self.leadership.transaction()?;
            for below in seen.tree.keys().rev() {
                transaction.delete(&format!("{path}/{below}"), None)?;
            }
            transaction.delete(&path, Some(seen.version))?;
            match transaction.commit(&path).await? {
                Outcome::Done => return Ok(()),
                Outcome::Refused(_, error) => retry_if_changed(error)?,
                Outcome::Unknown(error) => {
                    session.sync(&path).await?;
                    return if session.get(&path).await?.is_none() { Ok(()) } else { Err(error) };
                }
            }
        }
        Err(ZkError::Contended(path))
    }

    fn port_error(&self, error: ZkError, operation: &'static str, cluster: &ClusterName) -> PortError {
        self.leadership.explain(error).into_port(operation, format!("cluster '{cluster}'"))
    }
}

#[async_trait]
impl Discovery for ZkDiscovery {
    async fn publish(&self, cluster: &ClusterName, published: &Published) -> Result<(), PortError> {
        self.write(cluster, published).await.map_err(|error| self.port_error(error, "publish", cluster))
    }

    async fn withdraw(&self, cluster: &ClusterName) -> Result<(), PortError> {
        self.delete(cluster).await.map_err(|error| self.port_error(error, "withdraw", cluster))
    }
}

/// A refusal that comes of looking too early is no failure yet.
fn retry_if_changed(error: zk::Error) -> Result<(), ZkError> {
    use zk::Error as E;
    let is_change = matches!(error, E::NoNode | E::NodeExists | E::NotEmpty | E::BadVersion);
    if is_change { Ok(()) } else { Err(ZkError::Other(error)) }
}

fn encode(mark: &Mark) -> Vec<u8> {
    serde_json::to_vec(mark).expect("a number is always JSON")
}

/// What must be below the cluster's znode.
fn wanted(published: &Published) -> Tree {
    let mut tree: Tree = [MASTER, SLAVES].map(|group| (group.to_owned(), Vec::new())).into();
    for (member, endpoint) in &published.members {
        tree.insert(member_path(published, *member), service_instance::encode(endpoint));
    }
    tree
}

fn member_path(published: &Published, member: MemberId) -> String {
    let group = if published.primary == Some(member) { MASTER } else { SLAVES };
    format!("{group}/{}", service_instance::znode(member))
}

/// What is there now; `None` without the cluster's znode.
async fn look(session: &Session, path: &str) -> Result<Option<Seen>, ZkError> {
    let Some((mark, stat)) = session.get(path).await? else {
        return Ok(None);
    };
    let epoch = match serde_json::from_slice::<Mark>(&mark) {
        Ok(mark) => Some(mark.epoch),
        Err(_) if mark.is_empty() => None, // Apache Cotton's
        Err(error) => {
            warn!(%error, "'{path}' is damaged and is replaced: state decides");
            None
        }
    };
    let mut tree = Tree::new();
    let mut parents = vec![String::new()];
    while !parents.is_empty() {
        // One generation at a time, all of it at once: a cluster's own are two.
        let names = join_all(parents.iter().map(async |parent| {
            let names = session.children(&format!("{path}{parent}")).await?.unwrap_or_default();
            Ok(names.into_iter().map(|name| format!("{parent}/{name}")).collect::<Vec<_>>())
        }));
        let names = names.await.into_iter().collect::<Result<Vec<_>, ZkError>>()?.concat();
        let data = join_all(names.iter().map(async |below| session.get(&format!("{path}{below}")).await)).await;
        for (below, data) in names.iter().zip(data) {
            if let Some((data, _)) = data? {
                tree.insert(below[1..].to_owned(), data);
            }
        }
        parents = names;
    }
    Ok(Some(Seen { version: stat.version, epoch, tree }))
}
