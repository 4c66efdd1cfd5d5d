//! Tests of the machine of one cluster, in a toy world.
#![allow(clippy::wildcard_enum_match_arm, reason = "tests look for what they are about")]

mod first_start;
mod random;
mod toy;
mod world;

use world::{World, spec};
