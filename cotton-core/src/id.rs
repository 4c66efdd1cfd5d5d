//! Names and numbers that identify things: validated on the way in, never compared as bare strings.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest cluster name, in bytes: `[a-z0-9]([a-z0-9_-]{0,62})`.
pub const CLUSTER_NAME_BYTES_MAX: usize = 63;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not a cluster name.
    #[error(
        "cluster name must be 1 to {CLUSTER_NAME_BYTES_MAX} characters of a-z, 0-9, '_' or '-', starting with a letter or digit"
    )]
    ClusterName,
    /// Not a task id that cotton made.
    #[error("not a task of cotton: expected 'mysos-<cluster>-<number>'")]
    TaskId,
}

/// Name of one MySQL cluster, as its user chose it: `[a-z0-9]([a-z0-9_-]{0,62})`.
///
/// ```
/// use cotton_core::ClusterName;
/// assert!("orders-2".parse::<ClusterName>().is_ok());
/// assert!("../etc".parse::<ClusterName>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(Box<str>);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let bytes = s.as_bytes();
        let lead = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = bytes.len() <= CLUSTER_NAME_BYTES_MAX
            && bytes.first().is_some_and(lead)
            && bytes.iter().all(|b| lead(b) || matches!(b, b'_' | b'-'));
        if ok { Ok(Self(s.into())) } else { Err(IdError::ClusterName) }
    }
}

impl TryFrom<String> for ClusterName {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        s.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of a member within its cluster; counts up from 0 and is never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(pub u64);

impl MemberId {
    /// The id after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The `server_id` of its MySQL server: never 0, which MySQL reserves, and new for every data directory.
    pub const fn server_id(self) -> u64 {
        self.0 + 1
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a cluster's current term; grows with every election and is checkpointed before anything is sent under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a durable change; later changes have larger numbers. Counts within one process only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

macro_rules! text_ids { ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
    $(#[$doc])*
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct $name(Box<str>);

    impl $name {
        /// Takes any text: whoever named it decides what it may be.
        pub fn new(text: impl Into<Box<str>>) -> Self {
            Self(text.into())
        }

        /// The id as text.
        pub fn as_str(&self) -> &str {
            &self.0
        }
    }

    impl fmt::Display for $name {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl From<&str> for $name {
        fn from(text: &str) -> Self {
            Self(text.into())
        }
    }
)* } }

text_ids! {
    /// A machine that runs tasks, as Mesos names it.
    AgentId,
    /// An offer of resources on one agent.
    OfferId,
    /// This scheduler, as Mesos knows it across restarts.
    FrameworkId,
    /// A task: one member of one cluster. Written `mysos-<cluster>-<member>`, as Apache Cotton did.
    TaskId,
}

impl TaskId {
    /// The task that runs `member` of `cluster`.
    pub fn of(cluster: &ClusterName, member: MemberId) -> Self {
        Self(format!("mysos-{cluster}-{member}").into())
    }

    /// Whose task this is.
    ///
    /// # Errors
    /// [`IdError::TaskId`] when cotton did not make this id.
    pub fn parse(&self) -> Result<(ClusterName, MemberId), IdError> {
        let rest = self.0.strip_prefix("mysos-").ok_or(IdError::TaskId)?;
        let (cluster, member) = rest.rsplit_once('-').ok_or(IdError::TaskId)?;
        let canonical = member == "0" || !member.starts_with(['0', '+']);
        let number = member.parse().ok().filter(|_| canonical).ok_or(IdError::TaskId)?;
        Ok((cluster.parse().map_err(|_| IdError::TaskId)?, MemberId(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names() {
        for good in ["a", "0", "orders", "a-b_c", "9-", &"x".repeat(63)] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a.b", "a/b", "a b", "é", "a\n", "a\0", &"x".repeat(64)] {
            assert_eq!(bad.parse::<ClusterName>(), Err(IdError::ClusterName), "{bad:?}");
        }
    }

    #[test]
    fn task_ids_round_trip() {
        for (name, id) in [("a", 0), ("a-1", 7), ("a-", 10), ("x_y-3-4", u64::MAX)] {
            let name: ClusterName = name.parse().expect("valid");
            assert_eq!(TaskId::of(&name, MemberId(id)).parse(), Ok((name, MemberId(id))));
        }
        for bad in ["", "mysos-", "mysos-a", "mysos-a-", "mysos-a-x", "mysos-a-01", "mysos-a-+1", "other-a-1"] {
            assert_eq!(TaskId::from(bad).parse(), Err(IdError::TaskId), "{bad:?}");
        }
    }

    #[test]
    fn names_are_checked_when_read_back() {
        assert!(serde_json::from_str::<ClusterName>(r#""ok""#).is_ok());
        assert!(serde_json::from_str::<ClusterName>(r#""../x""#).is_err());
    }
}
