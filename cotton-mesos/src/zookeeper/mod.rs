//! `ZooKeeper`: where the scheduler's state is, where clients look clusters up, who of several schedulers leads, and which
//! Mesos master leads.
//!
//! Everything below the path of one URL (`<zk>`) is one framework's:
//!
//! | path | what | lives |
//! |---|---|---|
//! | `leader/scheduler-<id>-<number>` | a scheduler that stands for [election](Election): address of its API | as its session |
//! | `state/fleet`, `state/clusters/<name>` | the [records](ZkStateStore) of the leader | until it removes them |
//! | `state/aside/<name>.<number>` | records that were damaged | until a person has looked |
//! | `discover/<cluster>/{master,slaves}/member_<id>` | what [clients](ZkDiscovery) see | as its cluster |
//!
//! What must hold: only the leader writes `state` and `discover`, and whoever does not lead any more cannot, however late its
//! packets arrive (see [`Leadership`]). Credentials in the URL make all znodes theirs alone; `discover` can be read by
//! everybody. Nothing is tried again here but sessions: retries of calls are the driver's.

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
pub use state::{RECORD_BYTES_MAX, ZkStateStore};
pub use url::{UrlError, ZkUrl};
