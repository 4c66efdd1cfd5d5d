//! Real servers: the system's MariaDB, today's, and Oracle's oldest and newest MySQL, each behaviour on all that have it.
//!
//! A server that is not installed fails these tests in CI (when `CI` is set) and is loudly skipped elsewhere.
#![allow(clippy::too_many_lines, reason = "a test tells one story")]

#[path = "../../../tests/real/link.rs"]
#[expect(dead_code, unreachable_pub, reason = "shared with other tests, and not all that it can do is needed here")]
mod link;
mod load;
mod support;

/// One test for each kind of server.
macro_rules! on_each_server {
    ($($test:ident),* $(,)?) => { $(
        mod $test {
            use crate::support::Servers;

            #[tokio::test]
            async fn mariadb() {
                super::$test(Servers::MariaDb).await;
            }

            #[tokio::test]
            async fn mariadb_11_8() {
                super::$test(Servers::MariaDb118).await;
            }

            #[tokio::test]
            async fn mysql_9_7() {
                super::$test(Servers::MySql97).await;
            }

            #[tokio::test]
            async fn mysql_5_6() {
                super::$test(Servers::MySql56).await;
            }
        }
    )* };
}

mod accounts;
mod contract;
mod copies;
mod drain;
mod engines;
mod failover;
mod full_disk;
mod hostile;
mod local_writes;
mod process;
mod received;
mod replication;
mod settings;
mod step_down;
mod users;
