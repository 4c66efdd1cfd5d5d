//! Starts real servers and real cotton processes for tests, the demo and the benchmarks.
//!
//! Everything is driven from outside, as a user and a hostile world would: the programs that were built, signals to
//! processes, the HTTP API, the MySQL protocol. What was started is ended with the value that stands for it, also when a
//! test panics: by process id, never by name.

pub mod admin;
mod api;
mod binaries;
mod cotton;
mod directory;
mod failure;
mod flavour;
mod in_process;
mod link;
mod mesos;
mod processes;
mod small_disk;
mod sql;
mod stock;
mod writer;
mod zookeeper;

pub use api::{Api, Applying, Cluster, Created, Event, EventStream, Member, Reason, Retry, Wanted};
pub use binaries::program;
pub use cotton::{Options, RealCotton};
pub use directory::Directory;
pub use failure::{Failure, until_told, within};
pub use flavour::Flavour;
pub use in_process::InProcess;
pub use link::Link;
pub use mesos::{MesosOptions, RealMesos, Settings};
pub use processes::{Process, below};
pub use small_disk::SmallDisk;
pub use sql::Client;
pub use stock::{Stock, StockOptions, for_executors};
pub use writer::{Ack, Writer};
pub use zookeeper::{Kazoo, Seen, ZooKeeper, tree};
