//! What each member of a cluster gets, as Apache Cotton writes it: `{"cpus": 1.0, "mem": "512mb", "disk": "2gb"}`.

use super::data_size;
use cotton_core::Resources;
use serde_json::Value;

/// Not a member's size. The text is Apache Cotton's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'size' should be a JSON dictionary with keys 'cpus', 'mem' and 'disk'")]
pub struct MemberSizeError;

/// Reads a member's size from JSON text; an empty text stands for the default size.
///
/// # Errors
/// When it is not JSON, a key is missing, or a value has no number or an unknown unit.
pub fn parse(text: &str) -> Result<Resources, MemberSizeError> {
    if text.is_empty() {
        return Ok(Resources::DEFAULT);
    }
    from_json(&serde_json::from_str(text).map_err(|_| MemberSizeError)?)
}

/// Reads a member's size from a JSON value.
///
/// # Errors
/// When a key is missing, or a value has no number or an unknown unit.
pub fn from_json(value: &Value) -> Result<Resources, MemberSizeError> {
    let data = |key| match &value[key] {
        Value::String(text) => data_size::parse(text).map_err(|_| MemberSizeError),
        Value::Number(bytes) => bytes.as_u64().ok_or(MemberSizeError),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(MemberSizeError),
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
    let number = number.filter(|number: &f64| (0.0..=CPUS_MAX).contains(number)).ok_or(MemberSizeError)?;
    Ok((number * 1000.0).round() as u64)
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
        for text in [
            " ",
            "1",
            "null",
            "[]",
            "{}",
            "{",
            r#"{"cpus": 1, "mem": "1g"}"#,
            r#"{"cpus": 1, "mem": "1g", "disk": null}"#,
            r#"{"cpus": true, "mem": "1g", "disk": "1g"}"#,
            r#"{"cpus": -1, "mem": "1g", "disk": "1g"}"#,
            r#"{"cpus": "nan", "mem": "1g", "disk": "1g"}"#,
            r#"{"cpus": "inf", "mem": "1g", "disk": "1g"}"#,
            r#"{"cpus": 1e300, "mem": "1g", "disk": "1g"}"#,
            r#"{"cpus": 1, "mem": "1.5g", "disk": "1g"}"#,
            r#"{"cpus": 1, "mem": 1.5, "disk": "1g"}"#,
            r#"{"cpus": 1, "mem": -1, "disk": "1g"}"#,
            r#"{"cpus": 1, "mem": "1x", "disk": "1g"}"#,
        ] {
            assert_eq!(parse(text), Err(MemberSizeError), "{text}");
        }
    }
}
