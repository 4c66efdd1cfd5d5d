//! The scheduler API: calls posted to `/api/v1/scheduler` of the leading master, and the events that it streams back.

pub mod call;
pub mod event;
pub mod operation;
pub mod task;

/// Where calls are posted.
pub const PATH: &str = "/api/v1/scheduler";

/// The header that ties calls to a subscription.
pub const STREAM_ID: &str = "Mesos-Stream-Id";
