//! The JSON of the Mesos v1 HTTP API, as far as it is used here: data only, no decisions.
//!
//! Mesos maps its protobuf messages to JSON: bytes as base64, enums as their names, ids as `{"value": ...}`. Fields that
//! are not known here are ignored when read, so that newer agents can be talked to.

pub mod common;
pub mod executor;
pub mod resource;
pub mod scheduler;
