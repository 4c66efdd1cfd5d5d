//! A whole cotton within the test's own process, so that its simulated agents can be cut off from the scheduler.
//! Executors and databases are processes of their own all the same.

use crate::cotton::place;
use crate::{Api, Directory, Failure, program};
use cotton_bin::local::{System, SystemConfig};
use cotton_core::cluster::Timing;
use cotton_mesos::local::Local;
use std::ops::Deref;
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// See the module. Dropping it ends everything below its directory.
#[derive(Debug)]
pub struct InProcess {
    system: System,
    port: u16,
    directory: Directory,
    _place: SemaphorePermit<'static>,
}

impl InProcess {
    /// Starts one with so many agents and these times.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(agents: u16, timing: Timing) -> Result<Self, Failure> {
        let place = place().await;
        let directory = Directory::new()?;
        let config = SystemConfig {
            port: Some(0),
            agents,
            member_ports: directory.ports(),
            executor: Some(program("cotton-executor")?),
            timing,
            ..SystemConfig::new(directory.path())
        };
        let system = System::start(config).await.map_err(|error| Failure::because("it did not start", &error))?;
        let port = system.url().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = port.ok_or_else(|| Failure::new(format!("'{}' has no port", system.url())))?;
        let this = Self { system, port, directory, _place: place };
        this.api().until_ready(Duration::from_secs(90)).await?;
        Ok(this)
    }

    /// Its API.
    pub fn api(&self) -> Api {
        Api::new(self.port)
    }

    /// Its simulated agents.
    pub fn agents(&self) -> &Local {
        self.system.local()
    }
}

impl Deref for InProcess {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.directory
    }
}
