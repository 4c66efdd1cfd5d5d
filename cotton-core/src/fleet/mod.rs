//! All clusters of one framework. (Interface; the machine follows.)
mod command;
pub use command::CommandError;
