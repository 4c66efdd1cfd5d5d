//! A user's connection to one member.

use crate::{Failure, within};
use cotton_core::Endpoint;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a connection may take, or a statement that waits for nothing but the disk.
const ANSWER: Duration = Duration::from_mins(1);
/// A pause between two looks at a server.
const LOOK: Duration = Duration::from_millis(10);

/// How a cluster's user gets in.
#[derive(Clone, Debug)]
pub struct Client {
    user: String,
    password: String,
}

impl Client {
    /// With a password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Connects.
    ///
    /// # Errors
    /// When that fails or takes too long.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Conn, Failure> {
        let opened = within(ANSWER, "a connection", self.try_connect(endpoint)).await?;
        opened.map_err(|error| Failure::because(format!("could not connect to {endpoint}"), &error))
    }

    /// Connects, with no time limit and the driver's own error.
    pub(crate) async fn try_connect(&self, endpoint: &Endpoint) -> Result<Conn, mysql_async::Error> {
        let options = OptsBuilder::default()
            .ip_or_hostname(endpoint.host.clone())
            .tcp_port(endpoint.port)
            .user(Some(&self.user))
            .pass(Some(&self.password))
            .prefer_socket(false);
        Conn::new(options).await
    }

    /// Runs a statement on a connection of its own.
    ///
    /// # Errors
    /// When it fails or is not answered.
    pub async fn run(&self, endpoint: &Endpoint, statement: &str) -> Result<(), Failure> {
        let mut conn = self.connect(endpoint).await?;
        let ran = within(ANSWER, statement, conn.query_drop(statement)).await?;
        ran.map_err(|error| Failure::because(statement, &error))
    }

    /// The numbers that a query gives.
    ///
    /// # Errors
    /// When it fails or is not answered.
    pub async fn numbers(&self, endpoint: &Endpoint, query: &str) -> Result<BTreeSet<u64>, Failure> {
        let mut conn = self.connect(endpoint).await?;
        let rows: Vec<u64> = within(ANSWER, query, conn.query(query)).await??;
        Ok(rows.into_iter().collect())
    }

    /// Whether the member lets this user write.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn is_writable(&self, endpoint: &Endpoint) -> Result<bool, Failure> {
        Ok(self.numbers(endpoint, "SELECT @@GLOBAL.read_only").await?.contains(&0))
    }

    /// Waits until a query's numbers contain all that are wanted; a member that does not answer is asked again.
    ///
    /// # Errors
    /// When they do not in time; tells some of those that are missing, or why there was no answer.
    pub async fn until_has(
        &self,
        endpoint: &Endpoint,
        query: &str,
        wanted: &BTreeSet<u64>,
        limit: Duration,
    ) -> Result<BTreeSet<u64>, Failure> {
        let start = Instant::now();
        loop {
            let failure = match self.numbers(endpoint, query).await {
                Ok(found) if found.is_superset(wanted) => return Ok(found),
                Ok(found) => {
                    let (missing, all) = (wanted.difference(&found).count(), wanted.len());
                    let some: Vec<_> = wanted.difference(&found).take(10).collect();
                    Failure::new(format!("{missing} rows of {all} are missing at {endpoint}: {some:?}"))
                }
                Err(failure) => failure,
            };
            if start.elapsed() > limit {
                return Err(failure);
            }
            tokio::time::sleep(LOOK).await; // a replica tells nobody that it has caught up
        }
    }
}
