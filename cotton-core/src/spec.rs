//! What a user asks for: one cluster, and the limits within which it must be.

use crate::{ClusterName, ResourceKind, Resources};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A secret that the core only carries: sealed by whoever runs the scheduler, opened by the executor.
///
/// The text is base64 of a NaCl secret box; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// Wraps sealed text. The caller vouches that it is not clear text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The sealed text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

/// The passwords of one cluster's accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Of the cluster's user; the same password guards deletion.
    pub user: Sealed,
    /// Of the account with which the executor manages its server, over the unix socket only.
    pub admin: Sealed,
    /// Of the account with which replicas connect to the primary.
    pub replication: Sealed,
}

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// After a replica has it (wait point `AFTER_SYNC`); never falls back to asynchronous by itself.
    SemiSync,
    /// After the primary alone has it.
    Async,
}

impl Durability {
    /// The default for a cluster of `size` members: semi-synchronous from 3 on.
    pub const fn for_size(size: u32) -> Self {
        if size >= 3 { Self::SemiSync } else { Self::Async }
    }

    /// How many replicas must acknowledge a commit.
    pub const fn acks(self) -> u32 {
        match self {
            Self::SemiSync => 1,
            Self::Async => 0,
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SemiSync => "semi_sync",
            Self::Async => "async",
        })
    }
}

/// What an election does when it cannot be sure to have seen every acknowledged commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// Wait, and say what for.
    Consistency,
    /// Elect from those that answered before the deadline (Apache Cotton's rule).
    Availability,
}

/// One cluster, as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Its name, unique within the fleet.
    pub name: ClusterName,
    /// Number of members, primary included; at least 1.
    pub size: u32,
    /// What each member gets, executor included.
    pub resources: Resources,
    /// Name of the MySQL account that is made for the cluster's user.
    pub user: String,
    /// Passwords, sealed.
    pub secrets: Secrets,
    /// When a commit counts as done.
    pub durability: Durability,
    /// What to do when in doubt.
    pub preference: Preference,
    /// Backup to start from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
}

/// Bounds that a [`ClusterSpec`] must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most members of one cluster.
    pub size_max: u32,
    /// Longest user name, in bytes; 32 suits every server but MySQL 5.6 (16).
    pub user_bytes_max: usize,
    /// The largest agent, when it is known; nothing above it could ever be placed.
    pub agent_max: Option<Resources>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { size_max: 32, user_bytes_max: 32, agent_max: None }
    }
}

/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 128;

/// Accounts that cotton or the servers use themselves.
pub const RESERVED_USERS: [&str; 11] = [
    "root",
    "cotton",
    "cotton_repl",
    "mysql",
    "mariadb.sys",
    "mysql.sys",
    "mysql.session",
    "mysql.infoschema",
    "mysqlxsys",
    "event_scheduler",
    "PUBLIC",
];

/// What names begin with that cotton or the servers may come to use.
const RESERVED_PREFIXES: [&str; 3] = ["cotton_", "mysql.", "mariadb."];

/// What is wrong with a [`ClusterSpec`] or with what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Number of members.
    #[error("number of members must be from 1 to {max}, not {given}")]
    Size {
        /// As asked for.
        given: u64,
        /// Largest allowed.
        max: u32,
    },
    /// Nobody to acknowledge commits.
    #[error("a cluster with semi_sync durability needs at least 2 members, or no commit would ever be acknowledged")]
    NoReplica,
    /// No user name.
    #[error("cluster user must not be empty")]
    UserEmpty,
    /// User name too long.
    #[error("cluster user must be at most {max} bytes long, not {given}")]
    UserLong {
        /// As asked for.
        given: usize,
        /// Largest allowed.
        max: usize,
    },
    /// A character that is not allowed in user names.
    #[error("cluster user may only contain letters, digits, '_', '.' and '-' (byte {0} does not fit)")]
    UserCharacter(usize),
    /// A name that cotton or the servers use themselves.
    #[error("user name '{0}' is reserved for cotton or the server itself: choose another one")]
    UserReserved(String),
    /// No password.
    #[error("cluster password must not be empty")]
    PasswordEmpty,
    /// Password too long.
    #[error("cluster password must be at most {PASSWORD_BYTES_MAX} bytes long, not {0}")]
    PasswordLong(usize),
    /// A character that is not allowed in passwords.
    #[error("cluster password may only contain printable ASCII without quotes and backslash (byte {0} does not fit)")]
    PasswordCharacter(usize),
    /// Not above what the executor itself needs.
    #[error("size is too small: {0} must be above the executor's own need ({needs})", needs = Resources::EXECUTOR)]
    TooSmall(ResourceKind),
    /// Larger than any agent.
    #[error("size is too large: no agent has that much {kind} (the largest has {agent})")]
    TooLarge {
        /// What there is too little of.
        kind: ResourceKind,
        /// The largest agent.
        agent: Resources,
    },
}

/// Checks a user name by itself.
///
/// # Errors
/// The first rule it breaks.
pub fn validate_user(user: &str, limits: &Limits) -> Result<(), SpecError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if user.is_empty() {
        return Err(SpecError::UserEmpty);
    }
    if user.len() > limits.user_bytes_max {
        return Err(SpecError::UserLong { given: user.len(), max: limits.user_bytes_max });
    }
    if let Some(at) = user.bytes().position(|b| !fits(b)) {
        return Err(SpecError::UserCharacter(at));
    }
    let is = |reserved: &&str| reserved.eq_ignore_ascii_case(user);
    let lower = user.to_ascii_lowercase();
    if RESERVED_USERS.iter().any(is) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err(SpecError::UserReserved(user.to_owned()));
    }
    Ok(())
}

/// Checks a clear-text password before it is sealed. The error never contains it.
///
/// # Errors
/// The first rule it breaks.
pub fn validate_password(password: &str) -> Result<(), SpecError> {
    let fits = |b: u8| (b' '..=b'~').contains(&b) && !matches!(b, b'\'' | b'"' | b'`' | b'\\');
    if password.is_empty() {
        return Err(SpecError::PasswordEmpty);
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(SpecError::PasswordLong(password.len()));
    }
    password.bytes().position(|b| !fits(b)).map_or(Ok(()), |at| Err(SpecError::PasswordCharacter(at)))
}

/// Checks a number of members.
///
/// # Errors
/// [`SpecError::Size`] when it is 0 or above the limit.
pub fn validate_size(size: u64, limits: &Limits) -> Result<u32, SpecError> {
    let fits = u32::try_from(size).ok().filter(|n| (1..=limits.size_max).contains(n));
    fits.ok_or(SpecError::Size { given: size, max: limits.size_max })
}

/// Checks that there are enough members to acknowledge commits.
///
/// # Errors
/// [`SpecError::NoReplica`] when there are not.
pub fn validate_durability(size: u32, durability: Durability) -> Result<(), SpecError> {
    if size > durability.acks() { Ok(()) } else { Err(SpecError::NoReplica) }
}

impl ClusterSpec {
    /// Checks everything that can be checked without knowing the password.
    ///
    /// # Errors
    /// The first rule it breaks, in Apache Cotton's order: user, number of members, resources.
    pub fn validate(&self, limits: &Limits) -> Result<(), SpecError> {
        validate_user(&self.user, limits)?;
        validate_size(self.size.into(), limits)?;
        validate_durability(self.size, self.durability)?;
        let least = Resources::EXECUTOR.amounts();
        for ((kind, asked), (_, least)) in self.resources.amounts().into_iter().zip(least) {
            if asked <= least {
                return Err(SpecError::TooSmall(kind));
            }
        }
        if let Some(agent) = limits.agent_max
            && let Some(kind) = agent.lacks(&self.resources)
        {
            return Err(SpecError::TooLarge { kind, agent });
        }
        Ok(())
    }

    /// What the MySQL server gets: the member's size without the executor's share.
    pub fn task_resources(&self) -> Resources {
        self.resources.checked_sub(&Resources::EXECUTOR).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let limits = Limits::default();
        for good in ["a", "jane", "svc-1.x_y", &"u".repeat(32)] {
            assert_eq!(validate_user(good, &limits), Ok(()), "{good}");
        }
        for (bad, error) in [
            ("", SpecError::UserEmpty),
            (&"u".repeat(33) as &str, SpecError::UserLong { given: 33, max: 32 }),
            ("o'x", SpecError::UserCharacter(1)),
            ("a\0", SpecError::UserCharacter(1)),
            ("a\nb", SpecError::UserCharacter(1)),
            ("é", SpecError::UserCharacter(0)),
            ("Root", SpecError::UserReserved("Root".into())),
            ("event_scheduler", SpecError::UserReserved("event_scheduler".into())),
            ("Cotton_x", SpecError::UserReserved("Cotton_x".into())),
            ("mysql.x", SpecError::UserReserved("mysql.x".into())),
        ] {
            assert_eq!(validate_user(bad, &limits), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn passwords() {
        for good in ["x", "with space", "#$%&/()=?!~", &"p".repeat(128)] {
            assert_eq!(validate_password(good), Ok(()), "{good}");
        }
        for (bad, error) in [
            ("", SpecError::PasswordEmpty),
            (&"p".repeat(129) as &str, SpecError::PasswordLong(129)),
            ("a'b", SpecError::PasswordCharacter(1)),
            ("a\"b", SpecError::PasswordCharacter(1)),
            ("a\\", SpecError::PasswordCharacter(1)),
            ("\n", SpecError::PasswordCharacter(0)),
            ("\0", SpecError::PasswordCharacter(0)),
        ] {
            assert_eq!(validate_password(bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Sealed::new("abc")), "Sealed(..)");
    }
}
