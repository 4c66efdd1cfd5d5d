//! What the core needs from the world, one trait a file: small, `dyn`-safe, and never a mirror of a vendor's types.

pub mod discovery;
pub mod executor_link;
pub mod mesos;
pub mod mysql;
pub mod state_store;
