//! The async loop around the machines: persist, then run effects, feed their results back. (Interface; the loop follows.)

pub mod handle;
pub use handle::{Handle, LoggedEvent, Metrics};
