//! What a scheduler answers that does not lead: where the leader is, or that there is none.

use super::error::{Code, Problem};
use super::{Hosts, hosts, refusal};
use axum::Router;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// Sends everybody to the leader, but for `/healthz` and `/readyz`, which are about this process. Without a leader, `why`
/// tells what is being waited for.
pub fn standby(leader: Option<String>, why: &str, hosts: Arc<Hosts>) -> Router {
    let unready = Problem::new(
        Code::NoLeader,
        match &leader {
            Some(leader) => format!("{leader} leads; this scheduler stands by"),
            None => format!("no scheduler leads at the moment: {why}"),
        },
    );
    let answer = {
        let unready = unready.clone();
        move |uri: Uri| async move {
            match leader.as_deref().and_then(|leader| redirect(leader, &uri)) {
                Some(redirect) => redirect,
                None => later(refusal(&uri, unready)),
            }
        }
    };
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || later(unready.into_response())))
        .fallback(answer);
    hosts::only(router, hosts)
}

/// 307: method and body stay as they are.
fn redirect(leader: &str, uri: &Uri) -> Option<Response> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = HeaderValue::try_from(format!("{}{path}", leader.trim_end_matches('/'))).ok()?;
    Some((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response())
}

fn later(mut response: Response) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    fn hosts() -> Arc<Hosts> {
        Arc::new(Hosts::new([127, 0, 0, 1].into(), &[]))
    }

    async fn ask(leader: Option<&str>, path: &str) -> (u16, String, String) {
        let request = Request::post(path).body(Body::from("x")).expect("a request");
        let router = standby(leader.map(str::to_owned), "an election is under way", hosts());
        let response = router.oneshot(request).await.expect("answered");
        let header = |name: header::HeaderName| {
            response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
        };
        (response.status().as_u16(), header(header::LOCATION), header(header::RETRY_AFTER))
    }

    #[tokio::test]
    async fn points_to_the_leader_if_there_is_one() {
        let leader = Some("http://a:1/");
        let to = |path: &str| (307, format!("http://a:1{path}"), String::new());
        assert_eq!(ask(leader, "/clusters/x").await, to("/clusters/x"));
        assert_eq!(ask(leader, "/api/v1/events?since=3&x=%20").await, to("/api/v1/events?since=3&x=%20"));
        assert_eq!(ask(leader, "/readyz").await.0, 405, "it is asked with GET, and not sent elsewhere");
        assert_eq!(ask(None, "/clusters/x").await, (503, String::new(), "1".to_owned()));
        assert_eq!(ask(None, "/api/v1/clusters").await, (503, String::new(), "1".to_owned()));
    }

    #[tokio::test]
    async fn redirects_nobody_who_means_another_server() {
        let request = Request::get("/").header("host", "evil.example").body(Body::empty()).expect("a request");
        let router = standby(Some("http://a:1/".to_owned()), "", hosts());
        assert_eq!(router.oneshot(request).await.expect("answered").status(), StatusCode::FORBIDDEN);
    }
}
