//! What a person can decide of a cluster: pausing it, replacing a member, choosing the primary or who is preferred.

use super::error::{Code, Problem};
use super::request::Body;
use super::v1::{self, PathName};
use super::{Api, name};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use cotton_core::cluster::levers::Lever;
use cotton_core::election::PromotionRule;
use cotton_core::{ClusterName, MemberId};
use serde_json::Value;
use std::sync::Arc;

type PathMember = Result<Path<(String, String)>, PathRejection>;

/// `POST /api/v1/clusters/{name}/pause`
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    pull(&api, name(path)?, &headers, body, Lever::Pause).await
}

/// `POST /api/v1/clusters/{name}/resume`
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    pull(&api, name(path)?, &headers, body, Lever::Resume).await
}

/// `POST /api/v1/clusters/{name}/members/{member}/rebuild`
pub(super) async fn rebuild(
    State(api): State<Arc<Api>>,
    path: PathMember,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, member) = member(path)?;
    pull(&api, name, &headers, body, Lever::Rebuild(member)).await
}

/// `POST /api/v1/clusters/{name}/elect`
pub(super) async fn elect(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name(path)?;
    let fields = v1::change(&api, &name, &headers, body, &["to", "accept_loss", "told"]).await?;
    let to = fields.get("to").and_then(Value::as_u64).map(MemberId).ok_or_else(|| {
        Problem::new(Code::InvalidMember, "'to' must be the number of the member that shall be primary, such as 2")
    })?;
    let accepted = super::request::accepted_loss(&fields)?;
    api.control.pull(&name, Lever::Elect { to, accepted }).await?;
    v1::accepted(&api, &name).await
}

/// `POST /api/v1/clusters/{name}/members/{member}/rule`
pub(super) async fn rule(
    State(api): State<Arc<Api>>,
    path: PathMember,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, member) = member(path)?;
    let fields = v1::change(&api, &name, &headers, body, &["rule"]).await?;
    let wanted = super::request::text(&fields, "rule", Code::InvalidRule)?;
    let rule = PromotionRule::ALL.into_iter().find(|rule| Some(rule.name()) == wanted);
    let rule = rule.ok_or_else(|| Problem::new(Code::InvalidRule, "'rule' must be prefer, neutral or never"))?;
    api.control.pull(&name, Lever::Rule(member, rule)).await?;
    v1::accepted(&api, &name).await
}

/// Does what needs nothing but the password.
async fn pull(
    api: &Api,
    name: ClusterName,
    headers: &HeaderMap,
    body: Body,
    lever: Lever,
) -> Result<Response, Problem> {
    v1::change(api, &name, headers, body, &[]).await?;
    api.control.pull(&name, lever).await?;
    v1::accepted(api, &name).await
}

/// A cluster's name and the number of one of its members.
fn member(path: PathMember) -> Result<(ClusterName, MemberId), Problem> {
    let Path((cluster, member)) = path.map_err(|_| Problem::from(cotton_core::IdError::ClusterName))?; // not UTF-8
    let name = name(Ok(Path(cluster)))?;
    let digits = Some(&*member).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())); // no sign
    let number = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        let detail =
            format!("'{}' is no number of a member: see the cluster's members", super::request::short(&member));
        Problem::new(Code::InvalidMember, detail)
    })?;
    Ok((name, MemberId(number)))
}
