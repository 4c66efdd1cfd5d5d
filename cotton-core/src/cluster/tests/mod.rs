//! Tests of the machine of one cluster, in a toy world.
#![allow(clippy::wildcard_enum_match_arm, reason = "tests look for what they are about")]

mod accounts;
mod acks;
mod applying;
mod asynchronous;
mod codes;
mod cooldown;
mod copies;
mod deletion;
mod elect;
mod explain;
mod failover;
mod first_start;
mod health;
mod levers;
mod paused;
mod publish;
mod random;
mod recovery;
mod relaunch;
mod rules;
mod scaling;
mod slow;
mod stalls;
mod switchover;
mod toy;
mod volumes;
mod world;

use world::{World, spec};
