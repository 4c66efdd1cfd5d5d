//! `/api/v1`: JSON for programs; described by `openapi.json`.

use super::error::{Code, Problem};
use super::request::{self, Body};
use super::{Api, name, new_spec, refuse_backup};
use crate::config::member_size::{self, MemberSizeError};
use crate::secret;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cotton_core::driver::LoggedEvent;
use cotton_core::spec::validate_password;
use cotton_core::{ClusterName, Durability, MemberId, Preference, Resources};
use futures::{Stream, StreamExt, stream};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// What this API can do, for programs.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

const CREATE_FIELDS: [&str; 7] = ["size", "user", "password", "resources", "durability", "preference", "backup_id"];
const PASSWORD_HEADER: &str = "x-cotton-password";

pub(super) type PathName = Result<Path<String>, PathRejection>;
type Answer = Result<Json<Value>, Problem>;

/// `GET /api/v1/openapi.json`
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// `GET /api/v1`
pub(super) async fn scheduler(State(api): State<Arc<Api>>) -> Answer {
    Ok(Json(json!({ "framework": api.control.framework().await? })))
}

/// `GET /api/v1/clusters`
pub(super) async fn list(State(api): State<Arc<Api>>) -> Answer {
    let unknown: BTreeSet<_> = api.control.unknown().await?.into_iter().filter_map(|task| task.cluster).collect();
    Ok(Json(json!({
        "clusters": api.control.list().await?,
        "damaged": api.control.damaged().await?,
        "unknown": unknown,
    })))
}

/// `GET /api/v1/clusters/{name}`
pub(super) async fn show(State(api): State<Arc<Api>>, path: PathName) -> Answer {
    Ok(Json(view(&api, &name(path)?).await?))
}

/// `POST /api/v1/clusters/{name}`
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    api.require_connection().await?;
    let name = name(path)?;
    let fields = request::json(&headers, body, &CREATE_FIELDS)?;
    let text = |field, code| request::text(&fields, field, code).map(Option::unwrap_or_default);
    let size = fields.get("size").map_or(Ok(1), |size| request::size(size, &api.limits))?;
    let durability = durability(text("durability", Code::InvalidDurability)?, size)?;
    let preference = preference(text("preference", Code::InvalidPreference)?)?;
    let resources = resources(fields.get("resources"))?;
    refuse_backup(text("backup_id", Code::InvalidBackup)?)?;
    let password = match request::text(&fields, "password", Code::InvalidPassword)? {
        None => secret::generate_password()?,
        Some(given) => {
            validate_password(given)?;
            SecretString::from(given)
        }
    };
    let user = text("user", Code::InvalidUser)?;
    let spec = new_spec(&api, name.clone(), user, size, &password, resources, durability, preference)?;
    api.control.create(spec).await?;
    let body = json!({
        "name": name,
        "cluster_url": api.cluster_url(&name),
        "password": password.expose_secret(),
        "cluster": api.control.view(&name).await?,
    });
    Ok((StatusCode::CREATED, [(header::LOCATION, location(&name))], Json(body)).into_response())
}

/// `PATCH /api/v1/clusters/{name}`
pub(super) async fn scale(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name(path)?;
    let fields = request::json(&headers, body, &["size", "password"])?;
    require_password(&api, &name, &headers, &fields).await?;
    let Some(size) = fields.get("size") else {
        return Err(Problem::new(Code::InvalidSize, "'size', the number of members wanted, is missing"));
    };
    let size = request::size(size, &api.limits)?;
    api.control.scale(&name, size.into()).await?;
    accepted(&api, &name).await
}

/// `POST /api/v1/clusters/{name}/switchover`
pub(super) async fn switchover(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name(path)?;
    let fields = change(&api, &name, &headers, body, &["to"]).await?; // who becomes primary may be left to us
    let to = match fields.get("to") {
        None | Some(Value::Null) => None,
        Some(to) => Some(MemberId(to.as_u64().ok_or_else(|| {
            Problem::new(
                Code::InvalidMember,
                "'to' must be the number of a member, such as 2; without it, one is chosen",
            )
        })?)),
    };
    api.control.switchover(&name, to).await?;
    accepted(&api, &name).await
}

/// `DELETE /api/v1/clusters/{name}`
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name(path)?;
    // with the password in the header, a body of whatever kind is nothing to us
    let fields =
        if headers.contains_key(PASSWORD_HEADER) { Map::new() } else { optional_json(&headers, body, &["password"])? };
    require_password(&api, &name, &headers, &fields).await?;
    api.control.delete(&name).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "name": name, "status": "deleting" }))).into_response())
}

/// `GET /api/v1/clusters/{name}/events`
pub(super) async fn cluster_events(State(api): State<Arc<Api>>, path: PathName, RawQuery(query): RawQuery) -> Answer {
    let name = name(path)?;
    let query = request::query(query.as_deref(), &["since"])?;
    let since = request::number(&query, "since")?.unwrap_or(0);
    let events = api.control.events().await?;
    let of_cluster: Vec<_> = events.iter().filter(|event| event.cluster == name).collect();
    if of_cluster.is_empty() && api.control.spec(&name).await?.is_none() {
        return Err(api.missing(&name).await);
    }
    let wanted = of_cluster.into_iter().filter(|event| event.number > since);
    Ok(Json(json!({ "events": wanted.map(|event| describe(event)).collect::<Vec<_>>() })))
}

/// `GET /api/v1/events`
pub(super) async fn events(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Answer {
    let wanted = Wanted::parse(query.as_deref())?;
    let events = api.control.events().await?;
    let events: Vec<_> = events.iter().filter(|event| wanted.includes(event)).map(|event| describe(event)).collect();
    Ok(Json(json!({ "events": events })))
}

/// `GET /api/v1/events/stream`
pub(super) async fn stream(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let mut wanted = Wanted::parse(query.as_deref())?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()); // sent by browsers that reconnect
    wanted.since = wanted.since.or(last);
    let receiver = api.control.subscribe(); // before the backlog is read, so that nothing falls between
    let backlog = if wanted.since.is_some() { api.control.events().await? } else { Vec::new() };
    let newest = backlog.last().map_or(0, |event| event.number);
    let backlog = stream::iter(backlog.into_iter().map(Heard::Event));
    let mut stopping = api.stopping.clone();
    let live = live(receiver).filter(move |heard| {
        let fresh = !matches!(heard, Heard::Event(event) if event.number <= newest && newest > 0);
        async move { fresh }
    });
    let events = backlog.chain(live).filter_map(move |heard| {
        let sent = match heard {
            Heard::Event(event) if wanted.includes(&event) => Some(as_sse(&event)),
            Heard::Event(_) => None,
            Heard::Missed(count) => Some(sse::Event::default().event("missed").data(count.to_string())),
        };
        async move { sent.map(Ok) }
    });
    let stopped = async move {
        let _ = stopping.wait_for(|stopping| *stopping).await; // an error means: the server is gone
    };
    Ok(Sse::new(events.take_until(Box::pin(stopped))).keep_alive(KeepAlive::default()))
}

enum Heard {
    Event(Arc<LoggedEvent>),
    Missed(u64),
}

fn live(receiver: Receiver<Arc<LoggedEvent>>) -> impl Stream<Item = Heard> {
    stream::unfold(receiver, async |mut receiver| match receiver.recv().await {
        Ok(event) => Some((Heard::Event(event), receiver)),
        Err(RecvError::Lagged(count)) => Some((Heard::Missed(count), receiver)),
        Err(RecvError::Closed) => None,
    })
}

/// Which events a client asked for.
struct Wanted {
    cluster: Option<ClusterName>,
    since: Option<u64>,
}

impl Wanted {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let query = request::query(query, &["cluster", "since"])?;
        let cluster = query.get("cluster").map(|name| name.parse()).transpose()?;
        Ok(Self { cluster, since: request::number(&query, "since")? })
    }

    fn includes(&self, event: &LoggedEvent) -> bool {
        self.cluster.as_ref().is_none_or(|name| *name == event.cluster) && event.number > self.since.unwrap_or(0)
    }
}

/// An event with its words for people.
fn describe(event: &LoggedEvent) -> Value {
    let mut value = serde_json::to_value(event).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("text".to_owned(), event.event.kind.to_string().into());
    }
    value
}

fn as_sse(event: &LoggedEvent) -> sse::Event {
    let value = describe(event);
    let kind = value["event"].as_str().unwrap_or("message").to_owned();
    sse::Event::default().id(event.number.to_string()).event(kind).data(value.to_string())
}

/// Whatever changes a cluster that exists needs the password of its user: in the header, or in the body.
async fn require_password(
    api: &Api,
    name: &ClusterName,
    headers: &HeaderMap,
    fields: &Map<String, Value>,
) -> Result<(), Problem> {
    let password = match headers.get(PASSWORD_HEADER) {
        Some(value) => value.to_str().unwrap_or(""), // no password has other characters
        None => request::text(fields, "password", Code::InvalidPassword)?.unwrap_or_default(),
    };
    api.require_password(name, password).await
}

/// The fields of a request that changes a cluster that exists: these, and the password, which is checked.
pub(super) async fn change(
    api: &Api,
    name: &ClusterName,
    headers: &HeaderMap,
    body: Body,
    known: &[&str],
) -> Result<Map<String, Value>, Problem> {
    let known: Vec<&str> = known.iter().copied().chain(["password"]).collect();
    let fields = optional_json(headers, body, &known)?;
    require_password(api, name, headers, &fields).await?;
    Ok(fields)
}

/// The answer to a change that is on its way: the cluster as it is now.
pub(super) async fn accepted(api: &Api, name: &ClusterName) -> Result<Response, Problem> {
    Ok((StatusCode::ACCEPTED, Json(view(api, name).await?)).into_response())
}

/// A body of JSON, or none at all.
pub(super) fn optional_json(headers: &HeaderMap, body: Body, known: &[&str]) -> Result<Map<String, Value>, Problem> {
    if body.as_ref().is_ok_and(Bytes::is_empty) { Ok(Map::new()) } else { request::json(headers, body, known) }
}

async fn view(api: &Api, name: &ClusterName) -> Result<Value, Problem> {
    match api.control.view(name).await? {
        Some(view) => Ok(json!(view)),
        None => Err(api.missing(name).await),
    }
}

fn location(name: &ClusterName) -> String {
    format!("/api/v1/clusters/{name}")
}

fn durability(text: &str, size: u32) -> Result<Durability, Problem> {
    match text {
        "" => Ok(Durability::for_size(size)),
        "async" => Ok(Durability::Async),
        "semi_sync" => Ok(Durability::SemiSync),
        other => {
            let detail = format!("'durability' must be semi_sync or async, not '{}'", request::short(other));
            Err(Problem::new(Code::InvalidDurability, detail))
        }
    }
}

fn preference(text: &str) -> Result<Option<Preference>, Problem> {
    match text {
        "" => Ok(None),
        "consistency" => Ok(Some(Preference::Consistency)),
        "availability" => Ok(Some(Preference::Availability)),
        other => {
            let detail = format!("'preference' must be consistency or availability, not '{}'", request::short(other));
            Err(Problem::new(Code::InvalidPreference, detail))
        }
    }
}

/// As Apache Cotton's `size`, but what is left out has its default.
fn resources(value: Option<&Value>) -> Result<Resources, Problem> {
    let refused = || {
        let example = r#"{"cpus": 1.0, "mem": "512mb", "disk": "2gb"}"#;
        Problem::new(Code::InvalidResources, format!("'resources' must be a JSON object such as {example}"))
    };
    let mut fields = match value {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(fields)) => fields.clone(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => return Err(refused()),
    };
    if fields.keys().any(|key| !["cpus", "mem", "disk"].contains(&key.as_str())) {
        return Err(refused());
    }
    let default = Resources::DEFAULT;
    fields.entry("cpus").or_insert_with(|| json!(default.cpus_milli / 1000));
    fields.entry("mem").or_insert_with(|| json!(default.mem_bytes));
    fields.entry("disk").or_insert_with(|| json!(default.disk_bytes));
    member_size::from_json(&Value::Object(fields)).map_err(|error| match error {
        MemberSizeError::Shape => refused(),
        MemberSizeError::Amount(why) => Problem::new(Code::InvalidResources, format!("'resources': {why}")),
    })
}
