//! Apache Cotton's routes, as they were: forms in, plain strings out (JSON in them is sent as `text/html`, which old
//! clients do not look at), its statuses, its order of checks and its words where they are known.
//!
//! Unlike the original, `DELETE` answers 503 while the scheduler is connecting, unknown form fields are refused, and
//! what a client sent is escaped wherever it is quoted.

use super::error::{Code, Problem};
use super::request::{self, Body};
use super::{Api, page};
use crate::config::member_size;
use crate::secret;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cotton_core::spec::{validate_password, validate_user};
use cotton_core::{ClusterName, Durability};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::sync::Arc;

const CREATE_FIELDS: [&str; 5] = ["num_nodes", "cluster_user", "backup_id", "size", "cluster_password"];

/// `POST /clusters/<name>`
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(try_create(&api, path, &headers, body).await)
}

/// `DELETE /clusters/<name>`
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(try_delete(&api, path, &headers, body).await)
}

/// A refusal in plain text.
pub(super) fn refusal(problem: &Problem) -> Response {
    let text = if problem.code == Code::NotConnected {
        "Service unavailable. Try again later".to_owned()
    } else if matches!(problem.code, Code::ClusterExists | Code::ClusterNotFound) {
        capitalised(&problem.detail)
    } else {
        problem.detail.clone()
    };
    text_html(problem.code.status(), page::escape_text(&text))
}

async fn try_create(
    api: &Api,
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Value, Problem> {
    api.require_connection().await?;
    let name = super::name(path)?;
    if api.control.spec(&name).await?.is_some() {
        return Err(cotton_core::CommandError::Exists(name).into());
    }
    let form = request::form(headers, body, &CREATE_FIELDS).await?;
    let field = |name: &str| form.get(name).map_or("", String::as_str); // Cotton's own client sends '' for unset
    let user = field("cluster_user");
    validate_user(user, &api.limits)?;
    let size = request::num_nodes(form.get("num_nodes").map_or("1", String::as_str), &api.limits)?;
    let resources = member_size::parse(field("size"));
    let resources = resources.map_err(|error| Problem::new(Code::InvalidResources, error.to_string()))?;
    super::refuse_backup(field("backup_id"))?;
    let password = match field("cluster_password") {
        "" => secret::generate_password()?,
        given => {
            validate_password(given)?;
            SecretString::from(given)
        }
    };
    let durability = Durability::for_size(size);
    let spec = super::new_spec(api, name, user, size, &password, resources, durability, None)?;
    let name = spec.name.clone();
    api.control.create(spec).await?;
    Ok(json!({ "cluster_url": api.cluster_url(&name), "cluster_password": password.expose_secret() }))
}

async fn try_delete(
    api: &Api,
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Value, Problem> {
    api.require_connection().await?;
    let Path(name) = path.map_err(|_| Problem::from(cotton_core::IdError::ClusterName))?;
    // What cannot be a name is no cluster's: to scripts that clean up, that is what they want.
    let Ok(name) = name.parse::<ClusterName>() else {
        return Err(Problem::new(Code::ClusterNotFound, format!("cluster '{}' not found", request::short(&name))));
    };
    let form = request::form(headers, body, &["password"]).await?;
    let password = form.get("password").map_or("", String::as_str);
    if let Err(mut problem) = api.require_password(&name, password).await {
        if problem.code == Code::WrongPassword {
            problem.detail = format!("No permission to kill cluster {name}");
        }
        return Err(problem);
    }
    api.control.delete(&name).await?;
    Ok(json!({ "cluster_url": api.cluster_url(&name) }))
}

fn answer(result: Result<Value, Problem>) -> Response {
    match result {
        Ok(body) => text_html(StatusCode::OK, body.to_string()),
        Err(problem) => refusal(&problem),
    }
}

fn text_html(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=UTF-8")], text).into_response()
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
