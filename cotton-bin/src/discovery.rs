//! Discovery on local files: what clients may know of a cluster is in `<name>.json`, replaced as a whole.

use crate::atomic_file;
use crate::store::kind_of;
use async_trait::async_trait;
use cotton_core::ports::discovery::{Discovery, Published};
use cotton_core::{ClusterName, ErrorKind, PortError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const STRIPES: usize = 16; // clusters that share one wait for each other; the others do not

/// Publications in a directory; see the module.
#[derive(Clone, Debug)]
pub struct FileDiscovery {
    dir: Arc<Path>,
    stripes: Arc<[Mutex<()>]>,
}

impl FileDiscovery {
    /// Opens the directory, after making it when there is none.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        atomic_file::prepare(dir)?;
        Ok(Self { dir: dir.into(), stripes: (0..STRIPES).map(|_| Mutex::new(())).collect() })
    }

    async fn run(
        &self,
        operation: &'static str,
        cluster: &ClusterName,
        work: impl FnOnce(&Path, &str) -> Result<(), PortError> + Send + 'static,
    ) -> Result<(), PortError> {
        let (this, name) = (self.clone(), format!("{cluster}.json"));
        let done = tokio::task::spawn_blocking(move || {
            let stripe = name.bytes().map(usize::from).sum::<usize>() % STRIPES;
            let _alone = this.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner);
            work(&this.dir, &name)
        });
        let stopping = |_| PortError::permanent(ErrorKind::Other, operation, "the program is shutting down");
        done.await.map_err(stopping)?
    }
}

#[async_trait]
impl Discovery for FileDiscovery {
    async fn publish(&self, cluster: &ClusterName, published: &Published) -> Result<(), PortError> {
        let (context, new) = (format!("cluster '{cluster}'"), published.clone());
        let work = move |dir: &Path, name: &str| publish(dir, name, &new, &context);
        self.run("publish", cluster, work).await
    }

    async fn withdraw(&self, cluster: &ClusterName) -> Result<(), PortError> {
        let context = format!("cluster '{cluster}'");
        let work = move |dir: &Path, name: &str| {
            atomic_file::remove(dir, name).map_err(|error| file_error("withdraw", &context, error))
        };
        self.run("withdraw", cluster, work).await
    }
}

fn publish(dir: &Path, name: &str, new: &Published, context: &str) -> Result<(), PortError> {
    let old = match std::fs::read(dir.join(name)) {
        Ok(bytes) => serde_json::from_slice::<Published>(&bytes).ok(), // a damaged one is replaced: state decides
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(file_error("publish", context, error)),
    };
    if old.as_ref() == Some(new) {
        return Ok(());
    }
    if let Some(old) = old.filter(|old| old.epoch > new.epoch) {
        let context = format!("{context}: epoch {} is published already", old.epoch);
        return Err(PortError::permanent(ErrorKind::Conflict, "publish", context));
    }
    let json = serde_json::to_vec_pretty(new).map_err(io::Error::from);
    let written = json.and_then(|json| atomic_file::replace(dir, name, &json));
    written.map_err(|error| file_error("publish", context, error))
}

fn file_error(operation: &'static str, context: &str, error: io::Error) -> PortError {
    PortError::temporary(kind_of(&error), operation, context).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passes_the_suite() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || FileDiscovery::open(dir.path()).expect("opens");
        let look = async |cluster: &ClusterName| {
            let bytes = std::fs::read(dir.path().join(format!("{cluster}.json"))).ok()?;
            Some(serde_json::from_slice(&bytes).expect("whole"))
        };
        cotton_core::testkit::contract::discovery::discovery(open, look).await;
    }

    #[tokio::test]
    async fn a_damaged_file_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("a.json"), "{").expect("written");
        let published = Published { epoch: cotton_core::Epoch(1), primary: None, members: [].into() };
        let port = FileDiscovery::open(dir.path()).expect("opens");
        port.publish(&"a".parse().expect("valid"), &published).await.expect("published");
        let bytes = std::fs::read(dir.path().join("a.json")).expect("is there");
        assert_eq!(serde_json::from_slice::<Published>(&bytes).expect("whole"), published);
    }
}
