//! The async loops around the machines: persist, then run effects, feed their results back.

pub mod executor;
pub mod handle;
mod log;
pub mod memory;
pub mod records;
pub mod scheduler;

pub use handle::{Handle, LoggedEvent, Metrics};
pub use records::Records;

#[cfg(all(test, feature = "testkit"))]
mod tests;
