//! One suite a port: an async function that any implementation must survive. A broken rule is a panic that names it.

pub mod discovery;
pub mod executor_link;
pub mod mesos;
pub mod mysql;
pub mod state_store;
