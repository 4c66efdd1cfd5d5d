//! What each member of a cluster gets, as Apache Cotton writes it: `{"cpus": 1.0, "mem": "512mb", "disk": "2gb"}`.

use super::data_size;
use cotton_core::Resources;
use serde_json::Value;

/// Not a member's size. The text begins as Apache Cotton's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberSizeError {
    /// Not JSON, or not a dictionary.
    #[error("'size' should be a JSON dictionary with keys 'cpus', 'mem' and 'disk'")]
    Shape,
    /// One of the amounts is missing or makes no sense; says which and why.
    #[error("'size' should be a JSON dictionary with keys 'cpus', 'mem' and 'disk': {0}")]
    Amount(String),
}

const KEYS: [&str; 3] = ["cpus", "mem", "disk"];

/// Reads a member's size from JSON text; an empty text stands for the default size.
///
/// # Errors
/// When it is not JSON, a key is missing, or a value has no number or an unknown unit.
pub fn parse(text: &str) -> Result<Resources, MemberSizeError> {
    if text.is_empty() {
        return Ok(Resources::DEFAULT);
    }
    from_json(&serde_json::from_str(text).map_err(|_| MemberSizeError::Shape)?)
}

/// Reads a member's size from a JSON value.
///
/// # Errors
/// When a key is missing, or a value has no number or an unknown unit.
pub fn from_json(value: &Value) -> Result<Resources, MemberSizeError> {
    let fields = value.as_object().ok_or(MemberSizeError::Shape)?;
    if let Some(key) = KEYS.into_iter().find(|key| !fields.contains_key(*key)) {
        return Err(MemberSizeError::Amount(format!("'{key}' is missing")));
    }
    let data = |key: &str| match &value[key] {
        Value::String(text) => {
            data_size::parse(text).map_err(|error| MemberSizeError::Amount(format!("'{key}': {error}")))
        }
        Value::Number(bytes) if bytes.is_u64() => Ok(bytes.as_u64().unwrap_or_default()),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            let words =
                format!("'{key}' must be a whole number of bytes, or a text such as \"512mb\", not {}", short(other));
            Err(MemberSizeError::Amount(words))
        }
    };
    Ok(Resources { cpus_milli: cpus(&value["cpus"])?, mem_bytes: data("mem")?, disk_bytes: data("disk")? })
}

/// Cpus in thousandths, rounded.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
fn cpus(value: &Value) -> Result<u64, MemberSizeError> {
    const CPUS_MAX: f64 = 1e9;
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(), // Apache Cotton took text, too
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let refused = || MemberSizeError::Amount(format!("'cpus' must be a number such as 0.5 or 2, not {}", short(value)));
    let number = number.filter(|number: &f64| (0.0..=CPUS_MAX).contains(number)).ok_or_else(refused)?;
    Ok((number * 1000.0).round() as u64)
}

/// The beginning of a value as JSON, for messages.
fn short(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotton_core::resources::MIB;

    #[test]
    fn table() {
        let size = |cpus_milli, mem, disk| Resources { cpus_milli, mem_bytes: mem * MIB, disk_bytes: disk * MIB };
        for (text, resources) in [
            ("", Resources::DEFAULT),
            (r#"{"cpus": 1.0, "mem": "512mb", "disk": "2gb"}"#, size(1000, 512, 2048)),
            (r#"{"cpus": 2, "mem": "1g", "disk": "1T", "more": []}"#, size(2000, 1024, 1 << 20)),
            (r#"{"cpus": "0.5", "mem": 1048576, "disk": "1048576"}"#, size(500, 1, 1)),
            (r#"{"cpus": 0.0004, "mem": "0", "disk": "0"}"#, size(0, 0, 0)),
        ] {
            assert_eq!(parse(text), Ok(resources), "{text}");
        }
        for (text, reason) in [
            (" ", None),
            ("1", None),
            ("null", None),
            ("[]", None),
            ("{", None),
            ("{}", Some("'cpus' is missing")),
            (r#"{"cpus": 1, "mem": "1g"}"#, Some("'disk' is missing")),
            (
                r#"{"cpus": 1, "mem": "1g", "disk": null}"#,
                Some("'disk' must be a whole number of bytes, or a text such as \"512mb\", not null"),
            ),
            (
                r#"{"cpus": true, "mem": "1g", "disk": "1g"}"#,
                Some("'cpus' must be a number such as 0.5 or 2, not true"),
            ),
            (r#"{"cpus": -1, "mem": "1g", "disk": "1g"}"#, Some("'cpus' must be a number such as 0.5 or 2, not -1")),
            (
                r#"{"cpus": "nan", "mem": "1g", "disk": "1g"}"#,
                Some("'cpus' must be a number such as 0.5 or 2, not \"nan\""),
            ),
            (
                r#"{"cpus": "inf", "mem": "1g", "disk": "1g"}"#,
                Some("'cpus' must be a number such as 0.5 or 2, not \"inf\""),
            ),
            (
                r#"{"cpus": 1e300, "mem": "1g", "disk": "1g"}"#,
                Some("'cpus' must be a number such as 0.5 or 2, not 1e+300"),
            ),
            (
                r#"{"cpus": 1, "mem": "1.5g", "disk": "1g"}"#,
                Some(
                    "'mem': data size must be a whole number and one of the units k, kb, m, mb, g, gb, t, tb (such as \
                     512mb), not '1.5g'",
                ),
            ),
            (
                r#"{"cpus": 1, "mem": -1, "disk": "1g"}"#,
                Some("'mem' must be a whole number of bytes, or a text such as \"512mb\", not -1"),
            ),
            (
                r#"{"cpus": 1, "mem": "1x", "disk": "1g"}"#,
                Some(
                    "'mem': data size must be a whole number and one of the units k, kb, m, mb, g, gb, t, tb (such as \
                     512mb), not '1x'",
                ),
            ),
        ] {
            let error = reason.map_or(MemberSizeError::Shape, |reason| MemberSizeError::Amount(reason.to_owned()));
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
