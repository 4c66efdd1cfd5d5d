//! Mesos for cotton.
//!
//! - [`executor`]: an executor's connection to its agent, over the v1 HTTP API.
//! - [`local`]: a master and agents within this process, so that cotton runs on one machine without Mesos. Its agents
//!   speak the same executor API, and executors are processes of their own.
//! - [`scheduler`]: a scheduler's connection to Mesos, over the v1 HTTP API.
//! - [`zookeeper`]: state, discovery, election between schedulers, detection of the leading master.
//! - [`wire`] and [`recordio`]: the JSON of the v1 API and its framing, without I/O.

pub mod error;
pub mod executor;
pub mod local;
pub mod recordio;
pub mod scheduler;
mod stream;
pub mod wire;
pub mod zookeeper;

pub use error::{ConfigError, Error, LinkError};
pub use executor::{ExecutorEnvironment, HttpExecutorLink};
pub use local::{AgentConfig, ExecutorCommand, Local, LocalConfig};
pub use scheduler::{
    Credential, ExecutorConfig, ExecutorUri, FrameworkConfig, HttpMesos, MasterDetector, MasterList, SchedulerConfig,
    SchedulerError,
};

use bytes::Bytes;

/// Where a task finds its persistent volume, below its sandbox.
pub const VOLUME_PATH: &str = "mysql";

/// A random (version 4) uuid.
pub(crate) fn new_uuid() -> Result<Bytes, getrandom::Error> {
    let mut uuid = [0u8; 16];
    getrandom::fill(&mut uuid)?;
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    Ok(Bytes::copy_from_slice(&uuid))
}
