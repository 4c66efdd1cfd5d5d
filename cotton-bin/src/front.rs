//! The HTTP server in front of whatever answers at the moment: a scheduler, or a standby that points to the leader.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// How long requests that are being answered may take when the server ends.
const GRACE: Duration = Duration::from_secs(2);

/// A running server. Dropping it does not end it.
#[derive(Debug)]
pub struct Front {
    router: Arc<RwLock<Router>>,
    stopping: watch::Sender<bool>,
    server: JoinHandle<io::Result<()>>,
}

impl Front {
    /// Begins to serve `router`. What has no end by itself, such as a stream of events, ends when `stopping` says so.
    pub fn start(listener: TcpListener, stopping: watch::Sender<bool>, router: Router) -> Self {
        let router = Arc::new(RwLock::new(router));
        let shown = Arc::clone(&router);
        let answer = move |request: Request<Body>| {
            let router = shown.read().unwrap_or_else(PoisonError::into_inner).clone();
            async move {
                let Ok(response) = router.oneshot(request).await;
                response
            }
        };
        let mut stop = stopping.subscribe();
        let server = axum::serve(listener, Router::new().fallback(answer)).with_graceful_shutdown(async move {
            let _ = stop.wait_for(|stopping| *stopping).await; // an error means: everything is gone
        });
        Self { router, stopping, server: tokio::spawn(server.into_future()) }
    }

    /// Answers by this router from now on.
    pub fn show(&self, router: Router) {
        *self.router.write().unwrap_or_else(PoisonError::into_inner) = router;
    }

    /// Ends it, after the requests that are being answered.
    pub async fn stop(&mut self) {
        self.stopping.send_replace(true);
        if tokio::time::timeout(GRACE, &mut self.server).await.is_err() {
            self.server.abort(); // a client that does not read its answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::routing::get;

    #[tokio::test]
    async fn what_answers_can_be_exchanged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/x", listener.local_addr().expect("bound"));
        let text = |text: &'static str| Router::new().route("/x", get(move || async move { text }));
        let mut front = Front::start(listener, watch::Sender::new(false), text("one"));
        let ask = async || reqwest::get(&url).await.expect("answered").text().await.expect("a text");
        assert_eq!(ask().await, "one");
        front.show(text("two"));
        assert_eq!(ask().await, "two");
        front.show(Router::new());
        assert_eq!(reqwest::get(&url).await.expect("answered").status(), StatusCode::NOT_FOUND);
        front.stop().await;
        reqwest::get(&url).await.expect_err("nobody is there");
    }
}
