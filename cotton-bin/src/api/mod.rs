//! The HTTP API over a [`ControlPlane`]: Apache Cotton's own routes (`compat`), JSON under `/api/v1` (`v1`), metrics,
//! health, and a page for people.
//!
//! Passwords come in, are sealed or compared, and never reach a log. A refused request has changed nothing.

mod body;
mod compat;
mod control;
mod error;
mod explain;
mod hosts;
mod levers;
mod metrics;
mod page;
mod prune;
mod request;
mod standby;
mod unknown;
mod users;
mod v1;

pub use control::ControlPlane;
pub use error::{Code, Problem};
pub use hosts::Hosts;
pub use standby::standby;

use crate::secret::{SealingKey, generate_password};
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use cotton_core::spec::Limits;
use cotton_core::{ClusterName, ClusterSpec, CommandError, Durability, Preference, Resources, Secrets};
use cotton_mesos::local::Local;
use secrecy::SecretString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::watch;

/// What the API is told at its start.
#[derive(Debug)]
pub struct ApiConfig {
    /// Seals new passwords and opens those to compare with.
    pub key: SealingKey,
    /// Bounds on what may be asked for; those of the scheduler.
    pub limits: Limits,
    /// What `cluster_url` begins with; the cluster's name follows. Apache Cotton: `<zk_url>/discover/`.
    pub cluster_url_prefix: String,
    /// By which names it may be called.
    pub hosts: Arc<Hosts>,
    /// Becomes true when the server is to end; event streams then end, too.
    pub stopping: watch::Receiver<bool>,
    /// Simulated agents, whose disk is ours; `None` on Mesos.
    pub agents: Option<Arc<Local>>,
}

pub(crate) struct Api {
    control: Arc<dyn ControlPlane>,
    agents: Option<Arc<Local>>,
    key: SealingKey,
    limits: Limits,
    cluster_url_prefix: String,
    stopping: watch::Receiver<bool>,
    started: Instant,
    was_connected: AtomicBool,
}

/// The whole API.
pub fn router(control: Arc<dyn ControlPlane>, config: ApiConfig) -> Router {
    let ApiConfig { key, limits, cluster_url_prefix, hosts, stopping, agents } = config;
    let (started, was_connected) = (Instant::now(), AtomicBool::new(false));
    let api = Api { control, agents, key, limits, cluster_url_prefix, stopping, started, was_connected };
    let api = Arc::new(api);
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    let router = router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::disable()) // the next one sees to it
        .layer(middleware::from_fn(body::read_whole))
        .layer(middleware::from_fn(own_origin_only))
        .with_state(api);
    hosts::only(router, hosts).layer(middleware::from_fn(log))
}

/// Every route there is.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Api>>)> {
    vec![
        ("/", get(page::index)),
        ("/clusters/{name}", post(compat::create).delete(compat::delete)),
        ("/vars.json", get(metrics::vars)),
        ("/metrics", get(metrics::prometheus)),
        ("/healthz", get(metrics::healthz)),
        ("/readyz", get(metrics::readyz)),
        ("/api/v1/openapi.json", get(v1::openapi)),
        ("/api/v1", get(v1::scheduler)),
        ("/api/v1/clusters", get(v1::list)),
        ("/api/v1/clusters/{name}", get(v1::show).post(v1::create).patch(v1::scale).delete(v1::delete)),
        ("/api/v1/clusters/{name}/switchover", post(v1::switchover)),
        ("/api/v1/clusters/{name}/pause", post(levers::pause)),
        ("/api/v1/clusters/{name}/resume", post(levers::resume)),
        ("/api/v1/clusters/{name}/elect", post(levers::elect)),
        ("/api/v1/clusters/{name}/members/{member}/rule", post(levers::rule)),
        ("/api/v1/clusters/{name}/members/{member}/rebuild", post(levers::rebuild)),
        ("/api/v1/clusters/{name}/users", get(users::list)),
        ("/api/v1/clusters/{name}/users/{user}", post(users::create).delete(users::drop_user)),
        ("/api/v1/clusters/{name}/users/{user}/rotate", post(users::rotate)),
        ("/api/v1/clusters/{name}/explain", get(explain::explain)),
        ("/api/v1/clusters/{name}/events", get(v1::cluster_events)),
        ("/api/v1/clusters/{name}/prune", post(prune::prune_kept)),
        ("/api/v1/prune", post(prune::prune)),
        ("/api/v1/unknown", get(unknown::list)),
        ("/api/v1/unknown/{name}", delete(unknown::discard)),
        ("/api/v1/unknown/{name}/adopt", post(unknown::adopt)),
        ("/api/v1/events", get(v1::events)),
        ("/api/v1/events/stream", get(v1::stream)),
    ]
}

impl Api {
    /// Whether the scheduler was connected to Mesos at least once.
    async fn was_connected(&self) -> Result<bool, Problem> {
        if self.was_connected.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let connected = self.control.metrics().await?.get("framework_registered").is_some_and(|&value| value > 0);
        self.was_connected.fetch_or(connected, Ordering::Relaxed);
        Ok(connected)
    }

    async fn require_connection(&self) -> Result<(), Problem> {
        if self.was_connected().await? { Ok(()) } else { Err(CommandError::NotConnected.into()) }
    }

    /// Compares in constant time.
    async fn require_password(&self, name: &ClusterName, password: &str) -> Result<(), Problem> {
        let Some(spec) = self.control.spec(name).await? else { return Err(self.missing(name).await) };
        if self.key.matches(&spec.secrets.user, password)? {
            return Ok(());
        }
        Err(Problem::new(Code::WrongPassword, format!("the password of cluster '{name}' is missing or wrong")))
    }

    /// Why there is nothing to show of that cluster.
    async fn missing(&self, name: &ClusterName) -> Problem {
        match self.control.damaged().await {
            Ok(damaged) if damaged.contains(name) => CommandError::Damaged(name.clone()).into(),
            Ok(_) => CommandError::NotFound(name.clone()).into(),
            Err(stopped) => stopped.into(),
        }
    }

    fn cluster_url(&self, name: &ClusterName) -> String {
        format!("{}{name}", self.cluster_url_prefix)
    }
}

fn name(path: Result<Path<String>, PathRejection>) -> Result<ClusterName, Problem> {
    let Path(name) = path.map_err(|_| Problem::from(cotton_core::IdError::ClusterName))?; // not UTF-8
    Ok(name.parse::<ClusterName>()?)
}

/// Puts a spec together, with secrets made and sealed.
#[expect(clippy::too_many_arguments, reason = "it is the one place where they come together")]
fn new_spec(
    api: &Api,
    name: ClusterName,
    user: &str,
    size: u32,
    password: &SecretString,
    resources: Resources,
    durability: Durability,
    preference: Option<Preference>,
) -> Result<ClusterSpec, Problem> {
    let secrets = Secrets {
        user: api.key.seal(password)?,
        admin: api.key.seal(&generate_password()?)?,
        replication: api.key.seal(&generate_password()?)?,
    };
    let preference = preference.unwrap_or(match durability {
        Durability::SemiSync => Preference::Consistency,
        Durability::Async => Preference::Availability,
    });
    let user = user.to_owned();
    let spec = ClusterSpec { name, size, resources, user, secrets, durability, preference, backup_id: None };
    spec.validate(&api.limits)?;
    Ok(spec)
}

/// Backups come later; a cluster that silently starts empty instead would be worse than none.
fn refuse_backup(backup_id: &str) -> Result<(), Problem> {
    if backup_id.is_empty() {
        return Ok(());
    }
    let detail =
        "starting from a backup ('backup_id') is not supported yet: leave it out to start with an empty cluster";
    Err(Problem::new(Code::NotSupported, detail))
}

async fn no_route(uri: Uri) -> Response {
    let detail = format!("there is no route '{}'; see /api/v1/openapi.json", request::short(uri.path()));
    refusal(&uri, Problem::new(Code::RouteNotFound, detail))
}

async fn no_method(method: axum::http::Method, uri: Uri) -> Response {
    let detail = format!("'{}' does not take {}", request::short(uri.path()), request::short(method.as_str()));
    refusal(&uri, Problem::new(Code::MethodNotAllowed, detail))
}

fn refusal(uri: &Uri, problem: Problem) -> Response {
    if uri.path().starts_with("/clusters/") { compat::refusal(&problem) } else { problem.into_response() }
}

/// Keeps other web sites from using a browser as their hand: no program sends `Origin` by itself.
async fn own_origin_only(request: Request, next: Next) -> Response {
    let host = header_text(request.headers(), header::HOST);
    let origin = header_text(request.headers(), header::ORIGIN);
    if origin.is_empty() || origin.split_once("://").is_some_and(|(_, rest)| rest == host) {
        return next.run(request).await;
    }
    let detail = "requests must come from this server's own page, or from a program";
    refusal(request.uri(), Problem::new(Code::ForeignOrigin, detail))
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// One line a request, without bodies and headers: they hold passwords.
async fn log(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let mut response = next.run(request).await;
    tracing::debug!(%method, %path, status = response.status().as_u16(), took_ms = started.elapsed().as_millis(), "request");
    let nosniff = header::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    // some answers hold a password, and none is true for long
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn openapi_names_every_route_and_code() {
        let openapi: serde_json::Value = serde_json::from_str(v1::OPENAPI).expect("JSON");
        let described: BTreeSet<_> = openapi["paths"].as_object().expect("an object").keys().cloned().collect();
        let served: BTreeSet<_> = routes().into_iter().map(|(path, _)| path.to_owned()).collect();
        assert_eq!(described, served);
        let described = &openapi["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let served: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(described, &serde_json::json!(served));
    }

    #[test]
    fn the_guide_says_of_every_refusal_what_ends_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/user-guide.md");
        let guide = std::fs::read_to_string(path).expect("the guide is there");
        let table = guide.split_once("\n### Why a request is refused\n").expect("has that heading").1;
        let table = table.split("\n#").next().unwrap_or_default();
        let code = |line: &str| {
            let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
            let code = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
            assert!(cells.len() >= 4 && !cells[1].is_empty() && !cells[2].is_empty(), "what ends {code}?");
            Some(code.to_owned())
        };
        let told: BTreeSet<String> = table.lines().filter_map(code).collect();
        let served: BTreeSet<String> = Code::ALL.iter().map(|code| code.name().to_owned()).collect();
        assert_eq!(told, served);
    }
}
