//! mysqld for cotton: one server as a process and as an SQL endpoint, behind the port
//! [`MySql`](cotton_core::ports::mysql::MySql), for MariaDB 10.6 and later and for MySQL 5.6 to 9.x.
//!
//! What holds here, whatever happens:
//!
//! - The server is a child that cannot outlive its executor, never runs as root, and starts read-only and not
//!   replicating.
//! - Accounts exist from the first moment on and no others do; the one that manages the server cannot be reached over
//!   the network; the cluster's user has nothing that passes `read_only`.
//! - Nothing is written to a binary log except by the cluster's users, and for accounts and events on the open primary, so
//!   that no member has a history of its own.
//! - A data directory, a copy of one included, is complete or it does not exist.
//! - Every statement has a time limit; a connection that exceeded it is never used again.
//!
//! What is left to the caller: when to do what, and to remember it. An [`Instance`] knows only what its server and its
//! directory tell.
//!
//! ```no_run
//! use cotton_core::ports::mysql::MySql;
//! use cotton_core::{Endpoint, Resources};
//! use cotton_mysql::{Instance, InstanceConfig, Passwords};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let passwords = Passwords { user: "secret".into(), admin: "other".into(), replication: "third".into() };
//! let endpoint = Endpoint::new("10.0.0.7", 31_001);
//! let config = InstanceConfig::new("/var/lib/member", endpoint, 1, Resources::DEFAULT, "orders", passwords);
//! let instance = Instance::new(config)?;
//! instance.provision().await?;
//! instance.start().await?;
//! println!("{:?}", instance.probe().await?);
//! # Ok(())
//! # }
//! ```

mod accounts;
mod blockers;
mod check;
mod cnf;
mod config;
mod copy;
mod dialect;
mod dirs;
mod drain;
mod engines;
mod error;
mod events;
mod files;
mod grants;
mod history;
pub mod install;
mod instance;
mod process;
mod programs;
mod provision;
mod readers;
mod relay;
mod replication;
mod sessions;
mod settings;
mod sql;
mod started;
mod status;
mod step_down;
mod tail;
mod upkeep;
mod zones;

pub use check::server_version;
pub use config::{Administrator, InstanceConfig, Passwords, RunAs, Timing, Unseal, UnsealFn};
pub use error::Error;
pub use instance::Instance;
