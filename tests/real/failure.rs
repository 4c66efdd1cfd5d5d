//! Why a test, the demo or a benchmark cannot go on.

use std::fmt;
use std::time::Duration;
use tokio::sync::Notify;

/// What failed, in words, with all causes. `Debug` is for people too, since that is what a failing test prints.
#[derive(thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// In words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// What was being done, and why it failed.
    pub fn because(what: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        let mut words = format!("{what}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        Self(words)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::because("input or output failed", &error)
    }
}

impl From<cotton_core::PortError> for Failure {
    fn from(error: cotton_core::PortError) -> Self {
        Self(error.chain())
    }
}

impl From<cotton_mesos::Error> for Failure {
    fn from(error: cotton_mesos::Error) -> Self {
        Self::because("an agent failed", &error)
    }
}

impl From<mysql_async::Error> for Failure {
    fn from(error: mysql_async::Error) -> Self {
        Self::because("a statement failed", &error)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::because("a request failed", &error)
    }
}

/// Waits for something no longer than `limit`.
///
/// # Errors
/// When it did not come in time; says what was waited for.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure::new(format!("not within {limit:?}: {what}"));
    tokio::time::timeout(limit, future).await.map_err(late)
}

/// Waits until something holds that may hold whenever `told` is notified.
///
/// # Errors
/// When it does not within `limit`.
pub async fn until_told(limit: Duration, what: &str, told: &Notify, holds: impl Fn() -> bool) -> Result<(), Failure> {
    let held = async {
        loop {
            let news = told.notified();
            if holds() {
                return;
            }
            news.await;
        }
    };
    within(limit, what, held).await
}
