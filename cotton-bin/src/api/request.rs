//! Reading what clients send: strictly, and with refusals that name what is wrong. What they sent is quoted only where
//! it cannot be a secret, and shortened.

use super::error::{Code, Problem};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, header};
use cotton_core::cluster::levers::AcceptedLoss;
use cotton_core::spec::{Limits, validate_size};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const URLENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";

/// A body as it arrived, or why it did not.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// Fields of a form, each with its last value.
pub(super) type Form = BTreeMap<String, String>;

/// Reads a JSON object in which only `known` fields may be.
pub(super) fn json(headers: &HeaderMap, body: Body, known: &[&str]) -> Result<Map<String, Value>, Problem> {
    let body = body?;
    let kind = media_type(headers);
    if kind != "application/json" && !(kind.starts_with("application/") && kind.ends_with("+json")) {
        let detail = format!("the body must be sent as Content-Type: application/json, not '{}'", short(&kind));
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let value = serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("the body is not JSON: error at line {}, column {}", error.line(), error.column());
        Problem::new(Code::MalformedJson, detail) // serde's own words may quote a password
    })?;
    let Value::Object(fields) = value else {
        return Err(Problem::new(Code::MalformedJson, "the body must be a JSON object"));
    };
    refuse_unknown(fields.keys(), known)?;
    Ok(fields)
}

/// Reads a form, urlencoded or of several parts as `curl --form` sends it, in which only `known` fields may be. No body is
/// an empty form.
pub(super) async fn form(headers: &HeaderMap, body: Body, known: &[&str]) -> Result<Form, Problem> {
    let body = body?;
    let kind = media_type(headers);
    let fields = match kind.as_str() {
        _ if body.is_empty() => Form::new(),
        "" | URLENCODED => urlencoded(&body)?,
        MULTIPART => multipart(headers, body).await?,
        other => {
            let other = short(other);
            let detail = format!("the body must be sent as Content-Type: {URLENCODED} or {MULTIPART}, not '{other}'");
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
    };
    refuse_unknown(fields.keys(), known)?;
    Ok(fields)
}

fn urlencoded(body: &Bytes) -> Result<Form, Problem> {
    let decodes = |part: &[u8]| {
        let decoded: Vec<u8> = form_urlencoded::parse(part).flat_map(|(k, v)| [k, v].concat().into_bytes()).collect();
        !decoded.windows(3).any(|bytes| bytes == "\u{fffd}".as_bytes())
    };
    if !body.split(|&byte| byte == b'&').all(decodes) {
        return Err(not_utf8());
    }
    Ok(form_urlencoded::parse(body).into_owned().collect())
}

async fn multipart(headers: &HeaderMap, body: Bytes) -> Result<Form, Problem> {
    // the library's own words may quote what was sent
    let malformed = |_| Problem::new(Code::MalformedForm, "the parts of the form could not be told apart");
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let boundary = multer::parse_boundary(content_type).map_err(malformed)?;
    let body = futures::stream::once(std::future::ready(Ok::<_, std::convert::Infallible>(body)));
    let mut parts = multer::Multipart::new(body, boundary);
    let mut fields = Form::new();
    while let Some(part) = parts.next_field().await.map_err(malformed)? {
        let name = part.name().unwrap_or("").to_owned();
        let value = part.bytes().await.map_err(malformed)?;
        fields.insert(name, String::from_utf8(value.into()).map_err(|_| not_utf8())?);
    }
    Ok(fields)
}

fn not_utf8() -> Problem {
    Problem::new(Code::MalformedForm, "the form must be UTF-8")
}

/// Reads a query in which only `known` parameters may be.
pub(super) fn query(query: Option<&str>, known: &[&str]) -> Result<Form, Problem> {
    let fields: Form = form_urlencoded::parse(query.unwrap_or("").as_bytes()).into_owned().collect();
    match fields.keys().find(|field| !known.contains(&field.as_str())) {
        None => Ok(fields),
        Some(field) => {
            let detail = format!("unknown parameter '{}': there are only {}", short(field), known.join(", "));
            Err(Problem::new(Code::MalformedQuery, detail))
        }
    }
}

/// A parameter that is a number.
pub(super) fn number(fields: &Form, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = fields.get(name) else { return Ok(None) };
    let refused = |_| Problem::new(Code::MalformedQuery, format!("'{name}' must be a number, not '{}'", short(text)));
    text.parse().map(Some).map_err(refused)
}

/// A number of members from JSON.
pub(super) fn size(value: &Value, limits: &Limits) -> Result<u32, Problem> {
    match value.as_u64() {
        Some(size) => Ok(validate_size(size, limits)?),
        None => Err(not_a_size("size", &value.to_string(), limits)),
    }
}

/// A number of members from a form, read as Python's `int` does.
pub(super) fn num_nodes(text: &str, limits: &Limits) -> Result<u32, Problem> {
    let digits = text.trim();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    match digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+')) {
        Some(size) => Ok(validate_size(size, limits)?),
        None => Err(not_a_size("num_nodes", &format!("'{text}'"), limits)),
    }
}

/// A field that must be text.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, name: &str, code: Code) -> Result<Option<&'a str>, Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Problem::new(code, format!("'{name}' must be a string")))
        }
    }
}

/// A field that must be true or false; false when it is not there.
pub(super) fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Problem::new(Code::InvalidField, format!("'{name}' must be true or false")))
        }
    }
}

/// What loss a client accepts: whatever is lost, or what it was told.
pub(super) fn accepted_loss(fields: &Map<String, Value>) -> Result<AcceptedLoss, Problem> {
    let told = match fields.get("told") {
        None | Some(Value::Null) => None,
        Some(Value::String(told)) => Some(told),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            let detail = "'told' must be the 'detail' of the answer that told what may be lost";
            return Err(Problem::new(Code::InvalidField, detail));
        }
    };
    Ok(match (flag(fields, "accept_loss")?, told) {
        (false, _) => AcceptedLoss::None,
        (true, None) => AcceptedLoss::Any,
        (true, Some(told)) => AcceptedLoss::Told(told.clone()),
    })
}

/// The first characters of what a client sent, without control characters.
pub(super) fn short(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(40).map(clean).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

fn not_a_size(field: &str, given: &str, limits: &Limits) -> Problem {
    let detail = format!("'{field}' must be a whole number from 1 to {}, not {}", limits.size_max, short(given));
    Problem::new(Code::InvalidSize, detail)
}

fn refuse_unknown<'a>(mut fields: impl Iterator<Item = &'a String>, known: &[&str]) -> Result<(), Problem> {
    let Some(field) = fields.find(|field| !known.contains(&field.as_str())) else { return Ok(()) };
    let detail = format!("unknown field '{}': there are only {}", short(field), known.join(", "));
    Err(Problem::new(Code::UnknownField, detail))
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}
