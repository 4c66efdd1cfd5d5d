//! What can go wrong at a port, in the terms in which decisions are made.

use std::error::Error;
use std::fmt;

/// Cause of a failure, as far as it changes what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The other side could not be reached.
    Unreachable,
    /// No answer within the time allowed.
    Timeout,
    /// The other side knows us and says no.
    Denied,
    /// What was asked about does not exist.
    NotFound,
    /// The data directory that should be there is not.
    DataGone,
    /// Something else changed it first, or it is in a state that does not allow this.
    Conflict,
    /// What we sent makes no sense to the other side.
    Invalid,
    /// Stored or received data is damaged.
    Corrupt,
    /// No space left, or a read-only file system.
    Storage,
    /// This server or version cannot do it.
    Unsupported,
    /// Anything else.
    Other,
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStatus {
    /// The same call will fail again.
    Permanent,
    /// A later call may succeed.
    Temporary,
}

/// A failure at a port: what was tried, on what, and why it failed.
///
/// `Display` says what was tried and on what; the cause is its [`source`](Error::source).
#[derive(Debug)]
pub struct PortError {
    /// Cause, for decisions.
    pub kind: ErrorKind,
    /// Whether trying again may help.
    pub status: ErrorStatus,
    /// What was tried, as a verb: `"start server"`.
    pub operation: &'static str,
    /// On what, and anything that tells a person what to do. Never a secret.
    pub context: String,
    /// The cause below, if there is one.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl PortError {
    /// A failure that will not go away by itself.
    pub fn permanent(kind: ErrorKind, operation: &'static str, context: impl Into<String>) -> Self {
        Self { kind, status: ErrorStatus::Permanent, operation, context: context.into(), source: None }
    }

    /// A failure that may go away.
    pub fn temporary(kind: ErrorKind, operation: &'static str, context: impl Into<String>) -> Self {
        Self { kind, status: ErrorStatus::Temporary, operation, context: context.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether trying again may help.
    pub fn is_temporary(&self) -> bool {
        self.status == ErrorStatus::Temporary
    }

    /// This error and its causes on one line, for logs and reports.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.operation)?;
        if self.context.is_empty() { Ok(()) } else { write!(f, ": {}", self.context) }
    }
}

impl Error for PortError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_every_cause_once() {
        let error = PortError::temporary(ErrorKind::Storage, "save state", "cluster 'a'")
            .with_source(std::io::Error::other("disk on fire"));
        assert_eq!(error.to_string(), "could not save state: cluster 'a'");
        assert_eq!(error.chain(), "could not save state: cluster 'a': disk on fire");
    }
}
