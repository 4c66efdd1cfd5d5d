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
    #[error("not a task of cotton: expected 'mysos-<cluster>-<number>' or 'mysos-<cluster>-<number>-r<run>'")]
    TaskId,
    /// Not a volume that cotton made.
    #[error("not a volume of cotton: expected 'mysos-<cluster>-<number>'")]
    VolumeId,
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

    /// The `server_id` of its MySQL server, 1 to 1,048,575: never 0, which MySQL reserves, and unique among any million
    /// members in a row, so that clusters may come and go for ever.
    pub const fn server_id(self) -> u64 {
        self.0 % ((1 << 20) - 1) + 1
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
    /// A task: one run of one member of one cluster. Written `mysos-<cluster>-<member>`, as Apache Cotton did, and
    /// `mysos-<cluster>-<member>-r<run>` for those that run the member again, on its volume.
    TaskId,
    /// A persistent volume: the data of one member of one cluster. Written `mysos-<cluster>-<member>`.
    VolumeId,
}

impl TaskId {
    /// The task that runs `member` of `cluster` for the `run`-th time, counted from 0.
    pub fn of(cluster: &ClusterName, member: MemberId, run: u32) -> Self {
        let suffix = if run == 0 { String::new() } else { format!("-r{run}") };
        Self(format!("mysos-{cluster}-{member}{suffix}").into())
    }

    /// Whose task this is, and which of its runs.
    ///
    /// # Errors
    /// [`IdError::TaskId`] when cotton did not make this id.
    pub fn parse(&self) -> Result<(ClusterName, MemberId, u32), IdError> {
        if let Some((first, run)) = self.0.rsplit_once("-r")
            && let Some(run) = canonical(run).and_then(|run| u32::try_from(run).ok()).filter(|run| *run > 0)
        {
            return member_of(first).map(|(cluster, member)| (cluster, member, run));
        }
        member_of(&self.0).map(|(cluster, member)| (cluster, member, 0))
    }
}

impl VolumeId {
    /// The volume of `member` of `cluster`.
    pub fn of(cluster: &ClusterName, member: MemberId) -> Self {
        Self(format!("mysos-{cluster}-{member}").into())
    }

    /// Whose volume this is.
    ///
    /// # Errors
    /// [`IdError::VolumeId`] when cotton did not make this id.
    pub fn parse(&self) -> Result<(ClusterName, MemberId), IdError> {
        member_of(&self.0).map_err(|_| IdError::VolumeId)
    }
}

/// The parts of `mysos-<cluster>-<member>`.
fn member_of(text: &str) -> Result<(ClusterName, MemberId), IdError> {
    let rest = text.strip_prefix("mysos-").ok_or(IdError::TaskId)?;
    let (cluster, member) = rest.rsplit_once('-').ok_or(IdError::TaskId)?;
    let number = canonical(member).ok_or(IdError::TaskId)?;
    Ok((cluster.parse().map_err(|_| IdError::TaskId)?, MemberId(number)))
}

/// A number, written as numbers are.
fn canonical(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
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
        for (name, id) in [("a", 0), ("a-1", 7), ("a-", 10), ("x_y-3-4", u64::MAX), ("a-r1", 2), ("a-1-r", 3)] {
            let name: ClusterName = name.parse().expect("valid");
            for run in [0, 1, 12, u32::MAX] {
                let task = TaskId::of(&name, MemberId(id), run);
                assert_eq!(task.parse(), Ok((name.clone(), MemberId(id), run)), "{task}");
            }
            assert_eq!(VolumeId::of(&name, MemberId(id)).parse(), Ok((name, MemberId(id))));
        }
        let bad = ["", "mysos-", "mysos-a", "mysos-a-", "mysos-a-x", "mysos-a-01", "mysos-a-+1", "other-a-1"];
        for bad in bad.into_iter().chain(["mysos-a-1-r0", "mysos-a-1-r01", "mysos-a-1-r", "mysos-a-1-r4294967296"]) {
            assert_eq!(TaskId::from(bad).parse(), Err(IdError::TaskId), "{bad:?}");
            assert_eq!(VolumeId::from(bad).parse(), Err(IdError::VolumeId), "{bad:?}");
        }
    }

    #[test]
    fn names_are_checked_when_read_back() {
        assert!(serde_json::from_str::<ClusterName>(r#""ok""#).is_ok());
        assert!(serde_json::from_str::<ClusterName>(r#""../x""#).is_err());
    }
}
