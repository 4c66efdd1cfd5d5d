//! What can go wrong between a scheduler and a master, and what it means at the port.

use crate::recordio::RecordError;
use crate::stream::StreamEnd;
use cotton_core::{Endpoint, ErrorKind, FrameworkId, PortError};
use reqwest::StatusCode;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a scheduler and a master do not understand each other.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// No connection, or it broke.
    #[error("could not {doing} over HTTP")]
    Http {
        /// What was tried.
        doing: &'static str,
        /// What failed.
        source: Arc<reqwest::Error>,
    },
    /// One side speaks TLS, it seems, and the other does not.
    #[error("could not subscribe; {hint}")]
    Tls {
        /// What to do about it, if so.
        hint: &'static str,
        /// What failed.
        source: Arc<reqwest::Error>,
    },
    /// The master answered with an error.
    #[error("the master answered {status}: {answer}")]
    Status {
        /// Its status.
        status: StatusCode,
        /// The beginning of its answer.
        answer: String,
    },
    /// The master wants to know who we are, and does not believe what it was told.
    #[error(
        "the master refuses the {} ({status}): correct principal and secret, or enter them into the masters' \
         credentials, then start again", match .principal {
            Some(principal) => format!("secret of principal '{principal}'"),
            None => "connection, because no principal and secret were given".to_owned(),
        }
    )]
    Denied {
        /// Its status.
        status: StatusCode,
        /// Who we said we are.
        principal: Option<String>,
    },
    /// No answer, or no heartbeats, in time.
    #[error("the master is silent")]
    Silent,
    /// The master ended the stream of events.
    #[error("the master closed the connection")]
    Closed,
    /// The stream of events is damaged.
    #[error("events are not framed as expected")]
    Record(#[source] RecordError),
    /// An event is not what the API says.
    #[error("an event is not understood")]
    Event(#[source] Arc<serde_json::Error>),
    /// What answers is not a master.
    #[error("what listens there does not answer as a Mesos master: {0}")]
    NotAMaster(&'static str),
    /// The master names another that leads.
    #[error("that master does not lead; {0} does")]
    Redirected(Endpoint),
    /// Masters name each other as leading, or one names what cannot be an address.
    #[error("that master does not lead, and where it points to is of no use: {0}")]
    Redirect(String),
    /// Another master leads now.
    #[error("another master leads now")]
    LeaderChanged,
    /// The master does not take our calls for those of the subscription that it has.
    #[error("the master does not know this subscription any more: {0}")]
    Stale(String),
    /// There is no connection at the moment.
    #[error("not connected to a master at the moment")]
    NotConnected,
    /// The framework is no more.
    #[error(
        "Mesos has removed framework {0}: it was away for longer than its failover timeout, or was torn down by \
         somebody. Its tasks are ended, and it cannot come back under this id. To begin anew with a new framework, \
         which does not take up what is on persistent volumes of the old one, remove the framework id from the stored \
         state"
    )]
    Removed(FrameworkId),
    /// Somebody else subscribed with our id.
    #[error(
        "another scheduler has subscribed as framework {0}: only one at a time may; stop this one, or that one, which \
         uses the same state"
    )]
    Superseded(FrameworkId),
    /// The master registered us as somebody else.
    #[error("subscribed as framework {expected}, but the master calls it {found}: refusing to become a second one")]
    OtherFramework {
        /// Who we are.
        expected: FrameworkId,
        /// Who the master says we are.
        found: FrameworkId,
    },
    /// Volumes would be out of reach.
    #[error(
        "framework {framework} holds volumes under role '{role}', one of them on {agent}, and would never be offered them \
         again without that role: give it that role again, or first delete what uses them"
    )]
    RoleInUse {
        /// Who we are.
        framework: FrameworkId,
        /// The role that is missing.
        role: String,
        /// Host of an agent with such a volume.
        agent: String,
    },
    /// The framework was torn down by [`HttpMesos::teardown`](super::HttpMesos::teardown).
    #[error("framework {0} was torn down as asked for")]
    TornDown(FrameworkId),
    /// The master sent an error event.
    #[error("the master refuses the framework: {0}")]
    Master(String),
    /// A call makes no sense to the master.
    #[error("the master does not accept the call: {0}")]
    Call(String),
    /// The master could not be detected.
    #[error("{}", .0.chain())]
    Detector(Arc<PortError>),
    /// The file with certificates is of no use.
    #[error("{path}: {reason}: it must hold the certificates of the masters' authority, in PEM")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The principal or the secret has characters that cannot be sent.
    #[error("a principal must not contain ':'")]
    Principal,
    /// The operating system gives no random numbers.
    #[error("no random numbers from the operating system")]
    Random(#[source] getrandom::Error),
}

impl SchedulerError {
    pub(super) fn http(doing: &'static str, source: reqwest::Error) -> Self {
        Self::Http { doing, source: Arc::new(source.without_url()) }
    }

    /// There is no answer to a subscription that was sent with (`https`) or without (`http`) TLS.
    pub(super) fn unanswered(scheme: &str, source: reqwest::Error) -> Self {
        // Whoever speaks TLS answers with an alert, or hangs up; whoever does not hangs up, or answers with other words.
        let hint = if scheme == "http" {
            let is_about_http = source.is_request() && !source.is_connect() && !source.is_timeout();
            is_about_http.then_some(
                "if the masters speak TLS, name the certificates of their authority (--mesos_ca_file): without them, \
                 plain HTTP is spoken",
            )
        } else {
            let signs = ["tls handshake eof", "InvalidContentType"];
            let mut causes = std::iter::successors(std::error::Error::source(&source), |error| error.source());
            let is_no_tls = causes.any(|cause| signs.iter().any(|sign| cause.to_string().contains(sign)));
            (source.is_connect() && is_no_tls)
                .then_some("it seems that the master speaks no TLS, which --mesos_ca_file asks for")
        };
        match hint {
            Some(hint) => Self::Tls { hint, source: Arc::new(source.without_url()) },
            None => Self::http("subscribe", source),
        }
    }

    /// Whether trying again cannot help.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::Removed(_)
            | Self::Superseded(_)
            | Self::OtherFramework { .. }
            | Self::RoleInUse { .. }
            | Self::TornDown(_)
            | Self::Master(_)
            | Self::Call(_)
            | Self::Ca { .. }
            | Self::Principal
            | Self::Random(_) => true,
            Self::Detector(error) => !error.is_temporary(),
            Self::Status { status, .. } => {
                let passing = [StatusCode::NOT_FOUND, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
                status.is_client_error() && !passing.contains(status)
            }
            Self::Http { .. }
            | Self::Tls { .. }
            | Self::Silent
            | Self::Closed
            | Self::Record(_)
            | Self::Event(_)
            | Self::NotAMaster(_)
            | Self::Redirected(_)
            | Self::Redirect(_)
            | Self::LeaderChanged
            | Self::Stale(_)
            | Self::NotConnected => false,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Removed(_) => ErrorKind::NotFound,
            Self::Superseded(_) | Self::OtherFramework { .. } | Self::RoleInUse { .. } | Self::TornDown(_) => {
                ErrorKind::Conflict
            }
            Self::Status { status, .. } if *status == StatusCode::FORBIDDEN => ErrorKind::Denied,
            Self::Status { status, .. } if status.is_client_error() => ErrorKind::Invalid,
            Self::Master(_) | Self::Call(_) | Self::Ca { .. } | Self::Principal => ErrorKind::Invalid,
            Self::Silent => ErrorKind::Timeout,
            Self::Record(_) | Self::Event(_) => ErrorKind::Corrupt,
            Self::Detector(error) => error.kind,
            Self::Http { .. }
            | Self::Tls { .. }
            | Self::Status { .. }
            | Self::Closed
            | Self::NotAMaster(_)
            | Self::Redirected(_)
            | Self::Redirect(_)
            | Self::LeaderChanged
            | Self::Stale(_)
            | Self::NotConnected => ErrorKind::Unreachable,
            Self::Random(_) => ErrorKind::Other,
        }
    }

    pub(super) fn into_port(self, operation: &'static str) -> PortError {
        let kind = self.kind();
        let error = if self.is_permanent() {
            PortError::permanent(kind, operation, "")
        } else {
            PortError::temporary(kind, operation, "")
        };
        error.with_source(self)
    }
}

impl From<StreamEnd> for SchedulerError {
    fn from(end: StreamEnd) -> Self {
        match end {
            StreamEnd::Silent => Self::Silent,
            StreamEnd::Closed => Self::Closed,
            StreamEnd::Broken(error) => Self::http("read events", error),
            StreamEnd::Damaged(error) => Self::Record(error),
        }
    }
}
