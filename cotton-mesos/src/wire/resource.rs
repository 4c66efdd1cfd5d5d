//! Resources, attributes and fault domains, as agents have them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are those of Mesos, which documents them")]
pub enum ValueType {
    Scalar,
    Ranges,
    Set,
    Text,
}

/// A number; Mesos keeps three digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scalar {
    /// The number.
    pub value: f64,
}

impl Scalar {
    /// From thousandths.
    #[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^52 thousandths")]
    pub fn from_milli(milli: u64) -> Self {
        Self { value: milli as f64 / 1000.0 }
    }

    /// In thousandths, rounded to the nearest; nothing is negative.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and a cast saturates")]
    pub fn milli(self) -> u64 {
        (self.value * 1000.0).round().max(0.0) as u64
    }
}

/// An inclusive range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Its first number.
    pub begin: u64,
    /// Its last one.
    pub end: u64,
}

/// Several ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// The ranges.
    #[serde(default)]
    pub range: Vec<Range>,
}

/// A set of words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// The words.
    #[serde(default)]
    pub item: Vec<String>,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub value: String,
}

/// Part of what an agent has. All fields are kept, so that it can be given back as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// `cpus`, `mem`, `disk`, `ports`, ...
    pub name: String,
    /// Which of the next fields is set.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// How much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<Scalar>,
    /// Which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// For which of a framework's roles it is offered; a launch must say the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
    /// For whom it is reserved; for nobody when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// Everything else: `disk`, `revocable`, `shared`, `provider_id`, ...
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// For which role something is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationInfo {
    /// The role.
    pub role: String,
}

/// A reservation, of the operator (`STATIC`) or made by a call (`DYNAMIC`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// For which role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Everything else: `type`, `principal`, `labels`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Something an agent says of itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Attribute {
    /// What.
    pub name: String,
    /// A number.
    #[serde(default)]
    pub scalar: Option<Scalar>,
    /// Ranges.
    #[serde(default)]
    pub ranges: Option<Ranges>,
    /// A set.
    #[serde(default)]
    pub set: Option<Set>,
    /// A text.
    #[serde(default)]
    pub text: Option<Text>,
}

/// Where an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Domain {
    /// What fails together.
    #[serde(default)]
    pub fault_domain: Option<FaultDomain>,
}

/// What fails together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FaultDomain {
    /// Zones near each other.
    pub region: Named,
    /// Machines that share network, power and the like.
    pub zone: Named,
}

/// A name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
}
