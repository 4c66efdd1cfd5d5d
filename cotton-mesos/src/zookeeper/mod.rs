//! `ZooKeeper`: where the scheduler's state is, where clients look clusters up, who of several schedulers leads, and which
//! Mesos master leads.
//!
//! Everything below the path of one URL (`<zk>`) is one framework's:
//!
//! | path | what | lives |
//! |---|---|---|
//! | `leader/scheduler-<id>-<number>` | a scheduler that stands for [election](Election): address of its API, whether it has the master | as its session |
//! | `state/fleet`, `state/clusters/<name>` | the [records](ZkStateStore) of the leader | until it removes them |
//! | `state/aside/<name>.<number>` | records that were damaged | until a person has looked |
//! | `discover/<cluster>/{master,slaves}/member_<id>` | what [clients](ZkDiscovery) see | as its cluster |
//!
//! What must hold: only the leader writes `state` and `discover`, and whoever does not lead any more cannot, however late its
//! packets arrive (see [`Leadership`]). Credentials in the URL make all znodes theirs alone; `discover` can be read by
//! everybody. Nothing is tried again here but sessions: retries of calls are the driver's.
//!
//! ```no_run
//! use cotton_mesos::zookeeper::{Election, ElectionConfig, Standing};
//! use std::time::Duration;
//!
//! # async fn scheduler() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "zk://cotton:secret@zk1:2181,zk2:2181,zk3:2181/mysos".parse()?;
//! let (api, session_timeout) = ("http://10.0.0.1:8080".to_owned(), Duration::from_secs(10));
//! let election = Election::start(ElectionConfig { url, api, session_timeout, has_master: None });
//! let mut standing = election.standing();
//! loop {
//!     let now = standing.borrow_and_update().clone();
//!     match now {
//!         Standing::Leading(term) => {
//!             let (state, discovery) = (term.state_store(), term.discovery());
//!             // ... load the records, run the driver on these ports, and stop it when
//!             let why = term.lost().await;
//!             # drop((state, discovery, why));
//!         }
//!         Standing::Following { leader } => { /* answer the API with a redirect to it */ }
//!         Standing::Apart { why } => { /* answer that it is waited for ZooKeeper, and why */ }
//!     }
//!     standing.changed().await?;
//! }
//! # }
//! ```

mod discovery;
mod election;
mod error;
mod leadership;
mod master;
mod service_instance;
mod session;
mod state;
mod url;

pub use discovery::ZkDiscovery;
pub use election::{Election, ElectionConfig, Standing};
pub use error::ZkError;
pub use leadership::Leadership;
pub use master::{MasterAddress, ZkMasterDetector};
pub use state::{RECORD_BYTES_MAX, ZkStateStore, look_at_records};
pub use url::{UrlError, ZkUrl};
