//! What the binaries of cotton are made of: secrets, local files, flags, the HTTP API and the command line. Wiring
//! only: what is to be done is decided in `cotton-core`.
//!
//! - [`api`]: Apache Cotton's routes, `/api/v1`, metrics and a page, over anything that is a [`api::ControlPlane`]
//! - [`secret`], [`store`], [`discovery`]: passwords, state and discovery on one machine
//! - [`config`]: what people write in flags and forms
//! - [`cli`], [`local`]: the command `cotton`, and a whole cotton on one machine
//! - [`mesos`], [`front`]: the stock scheduler on Mesos and ZooKeeper, and the server that answers for it while it leads or not
//! - [`trust`], [`open_files`]: whether secrets and directories are as private as they should be; the limit of open files
//! - [`preflight`]: what must be right before any task is started
//! - [`executor`], [`administrator`]: what runs one member, and an account of those who run the agents

pub mod administrator;
pub mod api;
pub mod atomic_file;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod executor;
pub mod front;
pub mod local;
pub mod mesos;
pub mod open_files;
mod patience;
pub mod preflight;
mod run_as;
pub mod secret;
pub mod signals;
pub mod store;
pub mod telemetry;
pub mod trust;
