//! What tests of cotton and of its embedders need: fakes of the ports, and suites that hold fakes and real adapters to
//! the same behaviour.

pub mod contract;
pub mod fake_mysql;
mod invariants;
pub mod memory_discovery;
pub mod memory_executor_link;
pub mod memory_mesos;
pub mod memory_store;
pub mod sim;
