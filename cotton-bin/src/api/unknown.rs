//! `/api/v1/unknown`: tasks that no record accounts for, and what a person decides of them.

use super::error::Problem;
use super::request::Body;
use super::v1::{self, PathName};
use super::{Api, name};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use cotton_core::fleet::UnknownTask;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /api/v1/unknown`
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    let tasks = api.control.unknown().await?;
    Ok(Json(json!({ "tasks": tasks.iter().map(describe).collect::<Vec<_>>() })))
}

/// `POST /api/v1/unknown/{name}/adopt`
pub(super) async fn adopt(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name(path)?;
    v1::change(&api, &name, &headers, body, &[]).await?;
    api.control.adopt(&name).await?;
    v1::accepted(&api, &name).await
}

/// `DELETE /api/v1/unknown/{name}`
pub(super) async fn discard(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name(path)?;
    v1::change(&api, &name, &headers, body, &[]).await?;
    api.control.discard(&name).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "name": name, "status": "discarded" }))).into_response())
}

fn describe(task: &UnknownTask) -> Value {
    let mut value = serde_json::to_value(task).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("text".to_owned(), task.why.to_string().into());
    }
    value
}
