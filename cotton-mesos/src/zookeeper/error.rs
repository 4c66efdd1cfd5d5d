//! What can go wrong with `ZooKeeper`, by cause, and what it means at a port.

use cotton_core::{ErrorKind, PortError};
use std::time::Duration;
use zookeeper_client as zk;

/// Why `ZooKeeper` did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZkError {
    /// No server gave a session.
    #[error("no ZooKeeper server of {servers} gives a session: do they run, and do they have a quorum?")]
    NoSession {
        /// Which were asked.
        servers: String,
        /// What the last one said.
        source: zk::Error,
    },
    /// The servers insist on credentials and do not take ours.
    #[error("ZooKeeper refuses the credentials in its URL")]
    AuthFailed,
    /// No answer in time.
    #[error("ZooKeeper has not answered within {0:?}: it cannot be reached, or has no quorum")]
    Late(Duration),
    /// The connection broke before the answer, and what was asked is not done.
    #[error("the connection to ZooKeeper broke")]
    Interrupted(#[source] zk::Error),
    /// The session is over; ours would have to be a new one.
    #[error("the session with ZooKeeper has ended")]
    SessionEnded,
    /// Another may lead now.
    #[error("this scheduler does not lead any more ({why}), so it changes nothing")]
    NotLeading {
        /// How that was noticed.
        why: String,
    },
    /// The candidate of an election disappeared.
    #[error("somebody removed the znode by which this scheduler stands for election")]
    Removed,
    /// The ACL says no.
    #[error(
        "ZooKeeper denies access to '{path}': give the credentials it was made with in the URL \
         (zk://user:password@...), or change its ACL"
    )]
    Denied {
        /// Where.
        path: String,
    },
    /// More bytes than fit into a znode.
    #[error("{bytes} bytes are too many: ZooKeeper keeps at most {bytes_max} in a record")]
    TooLarge {
        /// Of the record.
        bytes: usize,
        /// That are taken.
        bytes_max: usize,
    },
    /// The record was set aside by an earlier run.
    #[error("the record was damaged and is kept at '{0}': mend it and copy it back, or delete it")]
    Aside(String),
    /// There is no such record.
    #[error("there is no record at '{0}'")]
    Missing(String),
    /// A higher epoch is there already.
    #[error("epoch {0} is published already")]
    Outdated(cotton_core::Epoch),
    /// Somebody else changed it between looking and writing, again and again.
    #[error("'{0}' is being changed by somebody else")]
    Contended(String),
    /// Anything else that `ZooKeeper` or its client says.
    #[error("ZooKeeper reports an error")]
    Other(#[source] zk::Error),
    /// The system gave no random numbers.
    #[error("no random numbers")]
    Random(#[source] getrandom::Error),
}

impl ZkError {
    /// What an error of the client means for something at `path`; for questions, which may be asked again.
    pub(super) fn asking(path: &str, error: zk::Error) -> Self {
        if error == zk::Error::NoAuth {
            Self::Denied { path: path.to_owned() }
        } else if is_end_of_session(&error) {
            Self::SessionEnded
        } else if is_answer(&error) {
            Self::Other(error)
        } else {
            Self::Interrupted(error)
        }
    }

    pub(super) fn into_port(self, operation: &'static str, context: impl Into<String>) -> PortError {
        let (kind, permanent) = match &self {
            Self::NoSession { .. } | Self::Interrupted(_) => (ErrorKind::Unreachable, false),
            Self::Late(_) => (ErrorKind::Timeout, false),
            Self::AuthFailed | Self::Denied { .. } => (ErrorKind::Denied, true),
            Self::SessionEnded | Self::NotLeading { .. } | Self::Removed | Self::Outdated(_) => {
                (ErrorKind::Conflict, true)
            }
            Self::Contended(_) => (ErrorKind::Conflict, false),
            Self::TooLarge { .. } => (ErrorKind::Invalid, true),
            Self::Aside(_) => (ErrorKind::Corrupt, true),
            Self::Missing(_) => (ErrorKind::NotFound, true),
            Self::Other(_) | Self::Random(_) => (ErrorKind::Other, false),
        };
        let error = if permanent {
            PortError::permanent(kind, operation, context)
        } else {
            PortError::temporary(kind, operation, context)
        };
        error.with_source(self)
    }

    /// This error and its causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Whether the session is over, and with it everything that was asked through it.
pub(super) fn is_end_of_session(error: &zk::Error) -> bool {
    matches!(error, zk::Error::SessionExpired | zk::Error::AuthFailed | zk::Error::ClientClosed)
}

/// Whether a server answered: what was asked is then not done. Anything else leaves open whether it is.
pub(super) fn is_answer(error: &zk::Error) -> bool {
    use zk::Error as E;
    matches!(
        error,
        E::NoNode
            | E::NoAuth
            | E::BadVersion
            | E::NoChildrenForEphemerals
            | E::NodeExists
            | E::NotEmpty
            | E::InvalidAcl
            | E::QuotaExceeded
            | E::Throttled
            | E::MarshallingError
            | E::Unimplemented
            | E::BadArguments(_)
            | E::NotReadOnly
            | E::UnexpectedErrorCode(_)
    )
}
