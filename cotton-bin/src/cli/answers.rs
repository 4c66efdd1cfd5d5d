//! What the server answers, as far as people are shown it. Fields that are not known here are ignored, so that a newer
//! server can be asked, too.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    pub(super) code: String,
    pub(super) detail: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Reason {
    pub(super) code: String,
    pub(super) text: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Resources {
    pub(super) cpus_milli: u64,
    pub(super) mem_bytes: u64,
    pub(super) disk_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) agent: String,
    pub(super) endpoint: Endpoint,
    pub(super) role: String,
    pub(super) healthy: bool,
    pub(super) leaving: bool,
    #[serde(default)]
    pub(super) rule: Option<String>,
    pub(super) gtids: String,
    pub(super) lag_s: Option<u64>,
    #[serde(default)]
    pub(super) applying: Option<Applying>,
    #[serde(default)]
    pub(super) errant: Option<String>,
    pub(super) silent_ms: Option<u64>,
    pub(super) server_version: String,
    pub(super) trouble: Option<String>,
}

/// What a member has left to apply, and how fast it goes.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Applying {
    pub(super) left: u64,
    pub(super) per_second: Option<f64>,
    pub(super) rest_s: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Failover {
    pub(super) from: Option<u64>,
    pub(super) to: u64,
    pub(super) promoted_ms: u64,
    pub(super) replica_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Switchover {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) state: String,
    pub(super) ms: Option<u64>,
    pub(super) reason: Option<String>,
}

/// What failed and is tried again.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Retry {
    pub(super) what: String,
    pub(super) member: Option<u64>,
    pub(super) agent: Option<String>,
    pub(super) failures: u32,
    pub(super) in_ms: u64,
    pub(super) reason: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RefusedOffer {
    pub(super) host: String,
    pub(super) text: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) user: String,
    pub(super) status: String,
    pub(super) reasons: Vec<Reason>,
    #[serde(default)]
    pub(super) retries: Vec<Retry>,
    #[serde(default)]
    pub(super) refusals: Vec<RefusedOffer>,
    pub(super) size: u64,
    pub(super) resources: Resources,
    pub(super) durability: String,
    pub(super) epoch: u64,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) members: Vec<Member>,
    pub(super) last_failover: Option<Failover>,
    #[serde(default)]
    pub(super) switchover: Option<Switchover>,
}

impl Cluster {
    /// Whether it is all that it shall be.
    pub(super) fn is_whole(&self) -> bool {
        self.status == "healthy" && self.endpoint.is_some() && self.healthy_members() == self.size && self.is_of_size()
    }

    /// Whether a person holds it, or a failover of it is held back.
    pub(super) fn is_held(&self) -> bool {
        self.reasons
            .iter()
            .any(|reason| matches!(reason.code.as_str(), "paused" | "failover_held" | "failover_cooldown"))
    }

    fn is_of_size(&self) -> bool {
        self.members.len() as u64 == self.size && !self.members.iter().any(|member| member.leaving)
    }

    pub(super) fn healthy_members(&self) -> u64 {
        self.members.iter().filter(|member| member.healthy && !member.leaving).count() as u64
    }

    /// Why it is not, in one line.
    pub(super) fn why(&self) -> String {
        let reasons: Vec<_> = self.reasons.iter().map(|reason| reason.text.as_str()).collect();
        reasons.join("; ")
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) unix_ms: u64,
    pub(super) cluster: String,
    pub(super) epoch: u64,
    pub(super) text: String,
}
