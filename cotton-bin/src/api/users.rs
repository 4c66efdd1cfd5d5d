//! `/api/v1/clusters/{name}/users`: further accounts of a cluster.

use super::error::{Code, Problem};
use super::request::{self, Body};
use super::v1::change;
use super::{Api, name};
use crate::secret;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use cotton_core::ClusterName;
use cotton_core::account::{Account, AccountChange, AccountKind};
use cotton_core::spec::validate_password;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use std::sync::Arc;

type PathName = Result<Path<String>, PathRejection>;
type PathNames = Result<Path<(String, String)>, PathRejection>;

/// `GET /api/v1/clusters/{name}/users`
pub(super) async fn list(State(api): State<Arc<Api>>, path: PathName) -> Result<Json<Value>, Problem> {
    let name = name(path)?;
    let Some(accounts) = api.control.accounts(&name).await? else { return Err(api.missing(&name).await) };
    let users: Vec<Value> = accounts.iter().map(|(user, account)| shown(user, account)).collect();
    Ok(Json(json!({ "users": users })))
}

/// `POST /api/v1/clusters/{name}/users/{user}`
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    path: PathNames,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, user) = names(path)?;
    let fields = change(&api, &name, &headers, body, &["kind", "databases", "user_password"]).await?;
    let kind = match request::text(&fields, "kind", Code::InvalidField)? {
        None | Some("read-write") => AccountKind::ReadWrite,
        Some("read-only") => AccountKind::ReadOnly,
        Some("replication") => AccountKind::Replication,
        Some(_) => {
            let detail = "'kind' must be 'read-write', 'read-only' or 'replication'";
            return Err(Problem::new(Code::InvalidField, detail));
        }
    };
    let databases = databases(fields.get("databases"))?;
    let password = new_password(&fields)?;
    let account = Account { kind, databases, password: api.key.seal(&password)? };
    let answer = shown(&user, &account);
    api.control.change_account(&name, &user, AccountChange::Create(account)).await?;
    Ok((StatusCode::CREATED, Json(with_password(answer, &password))).into_response())
}

/// `POST /api/v1/clusters/{name}/users/{user}/rotate`
pub(super) async fn rotate(
    State(api): State<Arc<Api>>,
    path: PathNames,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, user) = names(path)?;
    let fields = change(&api, &name, &headers, body, &["user_password"]).await?;
    let password = new_password(&fields)?;
    api.control.change_account(&name, &user, AccountChange::Rotate(api.key.seal(&password)?)).await?;
    Ok((StatusCode::ACCEPTED, Json(with_password(json!({ "user": user }), &password))).into_response())
}

/// `DELETE /api/v1/clusters/{name}/users/{user}`
pub(super) async fn drop_user(
    State(api): State<Arc<Api>>,
    path: PathNames,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, user) = names(path)?;
    change(&api, &name, &headers, body, &[]).await?;
    api.control.change_account(&name, &user, AccountChange::Drop).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "user": user, "status": "dropping" }))).into_response())
}

fn names(path: PathNames) -> Result<(ClusterName, String), Problem> {
    let Path((cluster, user)) = path.map_err(|error| Problem::new(Code::InvalidName, error.to_string()))?;
    Ok((cluster.parse()?, user))
}

fn databases(given: Option<&Value>) -> Result<Vec<String>, Problem> {
    let wrong = || Problem::new(Code::InvalidDatabase, "'databases' must be a list of names, such as [\"shop\"]");
    match given {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) if !list.is_empty() && list.len() <= 64 => {
            list.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn new_password(fields: &Map<String, Value>) -> Result<SecretString, Problem> {
    match request::text(fields, "user_password", Code::InvalidPassword)? {
        None => Ok(secret::generate_password()?),
        Some(given) => {
            validate_password(given)?;
            Ok(SecretString::from(given))
        }
    }
}

fn shown(user: &str, account: &Account) -> Value {
    json!({ "user": user, "kind": account.kind.name(), "databases": account.databases })
}

fn with_password(mut answer: Value, password: &SecretString) -> Value {
    answer["password"] = json!(password.expose_secret());
    answer
}
