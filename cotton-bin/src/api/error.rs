//! Refusals: each has a stable code for programs, a status, and words for people that say what to do. Written as
//! problem+json (RFC 9457) on `/api/v1`, as plain text on Apache Cotton's routes.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cotton_core::account::AccountError;
use cotton_core::cluster::levers::LeverError;
use cotton_core::cluster::switchover::SwitchoverError;
use cotton_core::driver::handle::Stopped;
use cotton_core::{CommandError, IdError, SpecError};
use serde_json::json;

macro_rules! codes { ($($variant:ident, $name:literal, $status:ident, $title:literal;)*) => {
    /// The stable codes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[expect(missing_docs, reason = "each has a title right here")]
    pub enum Code { $($variant,)* }

    impl Code {
        /// All of them.
        pub const ALL: &[Self] = &[$(Self::$variant,)*];

        /// As it is written in answers.
        pub const fn name(self) -> &'static str {
            match self { $(Self::$variant => $name,)* }
        }

        /// The HTTP status that goes with it.
        pub const fn status(self) -> StatusCode {
            match self { $(Self::$variant => StatusCode::$status,)* }
        }

        /// What it means, in a few words.
        pub const fn title(self) -> &'static str {
            match self { $(Self::$variant => $title,)* }
        }
    }
} }

codes! {
    MalformedJson, "malformed_json", BAD_REQUEST, "The body is not JSON";
    MalformedForm, "malformed_form", BAD_REQUEST, "The body is not a form";
    MalformedQuery, "malformed_query", BAD_REQUEST, "The query makes no sense";
    UnknownField, "unknown_field", BAD_REQUEST, "There is no such field";
    InvalidName, "invalid_name", BAD_REQUEST, "The name cannot be that of a cluster";
    InvalidSize, "invalid_size", BAD_REQUEST, "The number of members is out of bounds";
    InvalidUser, "invalid_user", BAD_REQUEST, "The user name is not allowed";
    InvalidPassword, "invalid_password", BAD_REQUEST, "The password is not allowed";
    InvalidResources, "invalid_resources", BAD_REQUEST, "The resources of a member make no sense";
    ResourcesTooSmall, "resources_too_small", BAD_REQUEST, "A member needs more resources than that";
    ResourcesTooLarge, "resources_too_large", BAD_REQUEST, "No agent has that many resources";
    InvalidDurability, "invalid_durability", BAD_REQUEST, "There is no such durability, or not for that size";
    InvalidPreference, "invalid_preference", BAD_REQUEST, "There is no such preference";
    InvalidBackup, "invalid_backup", BAD_REQUEST, "The backup id makes no sense";
    InvalidMember, "invalid_member", BAD_REQUEST, "That is no number of a member";
    InvalidRule, "invalid_rule", BAD_REQUEST, "There is no such promotion rule";
    InvalidField, "invalid_field", BAD_REQUEST, "The field has no such value";
    InvalidSpec, "invalid_spec", BAD_REQUEST, "The cluster cannot be as asked for";
    InvalidDatabase, "invalid_database", BAD_REQUEST, "The database cannot be granted";
    WrongPassword, "wrong_password", FORBIDDEN, "The password is missing or wrong";
    ForeignOrigin, "foreign_origin", FORBIDDEN, "The request comes from another web site";
    ForeignHost, "foreign_host", FORBIDDEN, "The request names another server";
    ClusterNotFound, "cluster_not_found", NOT_FOUND, "There is no such cluster";
    MemberNotFound, "member_not_found", NOT_FOUND, "There is no such member";
    AccountNotFound, "account_not_found", NOT_FOUND, "There is no such account";
    RouteNotFound, "route_not_found", NOT_FOUND, "There is no such route";
    MethodNotAllowed, "method_not_allowed", METHOD_NOT_ALLOWED, "The route does not take this method";
    ClusterExists, "cluster_exists", CONFLICT, "A cluster of that name exists";
    AccountExists, "account_exists", CONFLICT, "An account of that name exists";
    TooManyAccounts, "too_many_accounts", CONFLICT, "The cluster has as many accounts as it can have";
    ClusterDeleting, "cluster_deleting", CONFLICT, "The cluster is being deleted";
    ClusterPaused, "cluster_paused", CONFLICT, "The cluster is paused";
    ClusterDamaged, "cluster_damaged", CONFLICT, "The stored state of the cluster is damaged";
    ClusterUnknown, "cluster_unknown", CONFLICT, "Tasks of a cluster of that name run, and there is no record of it";
    NotIdentified, "not_identified", CONFLICT, "Tasks have not said yet what they are";
    CannotSwitchOver, "cannot_switch_over", CONFLICT, "The primary cannot hand over at the moment";
    CannotRebuild, "cannot_rebuild", CONFLICT, "The member cannot be replaced by a fresh copy at the moment";
    NoElection, "no_election", CONFLICT, "No election waits for a person";
    CannotElect, "cannot_elect", CONFLICT, "The member cannot be made primary at the moment";
    CannotPrune, "cannot_prune", CONFLICT, "What is kept cannot be removed now";
    LossNotAccepted, "loss_not_accepted", CONFLICT, "What may be lost must be accepted first";
    UnderWay, "under_way", CONFLICT, "Something is under way that must end first";
    BodyTimeout, "body_timeout", REQUEST_TIMEOUT, "The body did not come in time";
    BodyTooLarge, "body_too_large", PAYLOAD_TOO_LARGE, "The body is larger than 1 MB";
    UnsupportedMediaType, "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body is of another kind than expected";
    Internal, "internal", INTERNAL_SERVER_ERROR, "Something is wrong with the scheduler";
    NotSaved, "not_saved", INTERNAL_SERVER_ERROR, "The change could not be saved";
    NotSupported, "not_supported", NOT_IMPLEMENTED, "This release cannot do that";
    NotConnected, "not_connected", SERVICE_UNAVAILABLE, "The scheduler is still connecting";
    NoLeader, "no_leader", SERVICE_UNAVAILABLE, "No scheduler leads here";
    Stopped, "stopped", SERVICE_UNAVAILABLE, "The scheduler is not running";
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people.
    pub detail: String,
}

impl Problem {
    /// A refusal in words that say what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, status) = (self.code, self.code.status());
        let body = json!({
            "type": format!("urn:cotton:problem:{}", code.name()),
            "title": code.title(),
            "status": status.as_u16(),
            "detail": self.detail,
            "code": code.name(),
        });
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let code = match &error {
            CommandError::NotConnected => Code::NotConnected,
            CommandError::Exists(_) => Code::ClusterExists,
            CommandError::NotFound(_) => Code::ClusterNotFound,
            CommandError::Deleting(_) => Code::ClusterDeleting,
            CommandError::Paused(_) => Code::ClusterPaused,
            CommandError::Damaged(_) => Code::ClusterDamaged,
            CommandError::Unknown(_) => Code::ClusterUnknown,
            CommandError::NotIdentified { .. } => Code::NotIdentified,
            CommandError::Invalid(error) | CommandError::Account(AccountError::User(error)) => {
                return error.clone().into();
            }
            CommandError::Switchover(SwitchoverError::NoMember(_)) | CommandError::Lever(LeverError::NoMember(_)) => {
                Code::MemberNotFound
            }
            CommandError::Lever(LeverError::CannotRebuild { .. }) => Code::CannotRebuild,
            CommandError::Lever(LeverError::NoElection(_)) => Code::NoElection,
            CommandError::Lever(LeverError::CannotElect { .. }) => Code::CannotElect,
            CommandError::Lever(LeverError::LossNotAccepted { .. } | LeverError::ReleaseNotAccepted(_)) => {
                Code::LossNotAccepted
            }
            CommandError::Lever(LeverError::CannotRelease(_)) => Code::CannotPrune,
            CommandError::Lever(_) => Code::UnderWay,
            CommandError::Switchover(_) => Code::CannotSwitchOver,
            CommandError::Account(AccountError::OwnUser(_) | AccountError::Exists(_)) => Code::AccountExists,
            CommandError::Account(AccountError::Unknown(_)) => Code::AccountNotFound,
            CommandError::Account(AccountError::Database(_) | AccountError::DatabaseTwice(_)) => Code::InvalidDatabase,
            CommandError::Account(_) => Code::TooManyAccounts,
            CommandError::NotSaved(_) => Code::NotSaved,
            CommandError::Stopped => Code::Stopped,
            _ => Code::Internal, // a newer core may know more
        };
        Self::new(code, error.to_string())
    }
}

impl From<SpecError> for Problem {
    fn from(error: SpecError) -> Self {
        let code = match &error {
            SpecError::Size { .. } => Code::InvalidSize,
            SpecError::NoReplica => Code::InvalidDurability,
            SpecError::UserEmpty
            | SpecError::UserLong { .. }
            | SpecError::UserCharacter(_)
            | SpecError::UserReserved(_) => Code::InvalidUser,
            SpecError::PasswordEmpty | SpecError::PasswordLong(_) | SpecError::PasswordCharacter(_) => {
                Code::InvalidPassword
            }
            SpecError::TooSmall(_) => Code::ResourcesTooSmall,
            SpecError::TooLarge { .. } => Code::ResourcesTooLarge,
            _ => Code::InvalidSpec, // a newer core may know more
        };
        Self::new(code, error.to_string())
    }
}

impl From<Stopped> for Problem {
    fn from(error: Stopped) -> Self {
        Self::new(Code::Stopped, error.to_string())
    }
}

impl From<IdError> for Problem {
    fn from(error: IdError) -> Self {
        Self::new(Code::InvalidName, error.to_string())
    }
}

impl From<BytesRejection> for Problem {
    fn from(_: BytesRejection) -> Self {
        Self::new(Code::MalformedForm, "the body broke off")
    }
}

impl From<crate::secret::NoRandomness> for Problem {
    fn from(error: crate::secret::NoRandomness) -> Self {
        Self::new(Code::Internal, error.to_string())
    }
}

impl From<crate::secret::OpenError> for Problem {
    fn from(error: crate::secret::OpenError) -> Self {
        Self::new(Code::Internal, format!("{error}: is --scheduler_keypath the right one?"))
    }
}
