//! The async loops around the machines: persist, then run effects, feed their results back.

pub mod handle;
mod log;
pub mod scheduler;

pub use handle::{Handle, LoggedEvent, Metrics};
