//! `/api/v1/clusters/{name}/explain`: what a person wants to know before deciding anything.

use super::error::Problem;
use super::v1::PathName;
use super::{Api, name};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /api/v1/clusters/{name}/explain`
pub(super) async fn explain(State(api): State<Arc<Api>>, path: PathName) -> Result<Json<Value>, Problem> {
    let name = name(path)?;
    match api.control.explain(&name).await? {
        Some(explanation) => Ok(Json(json!(explanation))),
        None => Err(api.missing(&name).await),
    }
}
