//! The HTTP server in front of whatever answers at the moment: a scheduler, or a standby that points to the leader.
//!
//! It never takes more connections than it has seats, so that state, Mesos and databases always find a descriptor. When
//! all seats are taken, whoever does nothing leaves for whoever comes (see `seats`): a herd of idle connections
//! keeps nobody out.

mod seats;
mod watched;

use crate::open_files;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header;
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use seats::{Activity, Seat, Seats};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt;
use watched::Watched;

/// How long requests that are being answered may take when the server ends.
const GRACE: Duration = Duration::from_secs(2);
/// A pause after a connection could not be taken, such as for want of descriptors.
const NOT_TAKEN: Duration = Duration::from_millis(50);
/// To those for whom there is no seat.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncache-control: no-store\r\n\
                    content-type: text/plain\r\ncontent-length: 43\r\n\r\ntoo many requests at once; try again later\n";

/// What clients may take of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// How long a request's line and headers may take, and a new connection until its first request.
    pub head: Duration,
    /// How long a connection may rest between two requests.
    pub idle: Duration,
    /// How long a client may read nothing of its answer.
    pub stall: Duration,
    /// How long a request may be answered while others find no seat.
    pub answer: Duration,
}

impl Limits {
    /// For this process, of whose descriptors most are kept for its work.
    pub fn of_process() -> Self {
        const SHARE: u64 = 4;
        let connections = usize::try_from(open_files::limit() / SHARE).unwrap_or(usize::MAX).clamp(4, 1024);
        let seconds = Duration::from_secs;
        Self { connections, head: seconds(10), idle: seconds(60), stall: seconds(30), answer: seconds(60) }
    }
}

/// A running server. Dropping it does not end it.
#[derive(Debug)]
pub struct Front {
    router: Arc<RwLock<Router>>,
    stopping: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Front {
    /// Begins to serve `router`. What has no end by itself, such as a stream of events, ends when `stopping` says so.
    pub fn start(listener: TcpListener, stopping: watch::Sender<bool>, router: Router) -> Self {
        Self::with_limits(listener, stopping, router, Limits::of_process())
    }

    /// As [`start`](Self::start), with limits of one's own.
    pub fn with_limits(listener: TcpListener, stopping: watch::Sender<bool>, router: Router, limits: Limits) -> Self {
        let router = Arc::new(RwLock::new(router));
        let server = tokio::spawn(accept(listener, Arc::clone(&router), limits, stopping.subscribe()));
        Self { router, stopping, server }
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

async fn accept(listener: TcpListener, router: Arc<RwLock<Router>>, limits: Limits, mut stop: watch::Receiver<bool>) {
    let seats = Seats::new(limits);
    let mut serving = JoinSet::new(); // ends with us
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stopping| *stopping) => break, // an error means: everything is gone
        };
        while serving.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => match seats.take().await {
                Some(seat) => drop(serving.spawn(serve(stream, seat, Arc::clone(&router), limits, stop.clone()))),
                None => refuse(&stream),
            },
            Err(error) => {
                let left = seats.make_room();
                tracing::debug!(%error, left, "a connection could not be taken");
                tokio::time::sleep(NOT_TAKEN).await; // it may have been the client's fault, or ours for the moment
            }
        }
    }
    drop(listener);
    while serving.join_next().await.is_some() {}
}

/// As much as fits without waiting.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(FULL.as_bytes()); // it is only a courtesy
}

/// One connection, until its client leaves, or has to.
async fn serve(
    stream: TcpStream,
    seat: Seat,
    router: Arc<RwLock<Router>>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true); // events are small and shall not wait
    let seat = Arc::new(seat);
    let answering = Arc::clone(&seat);
    let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        answering.now(Activity::Answering);
        let router = router.read().unwrap_or_else(PoisonError::into_inner).clone();
        let seat = Arc::clone(&answering);
        async move {
            let request: Request = request.map(Body::new);
            let Ok(response) = router.oneshot(request).await;
            if is_stream(&response) {
                seat.now(Activity::Streaming);
            }
            Ok::<_, Infallible>(response.map(|body| Answer { body, seat }))
        }
    });
    let stream = Watched::new(stream, Arc::clone(&seat), limits.stall);
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    let mut overdue = pin!(seat.overdue());
    let mut ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            () = overdue.as_mut() => return,
            _ = stop.wait_for(|stopping| *stopping), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// An answer's body. When it is dropped, the request has been answered, or nobody wants to hear any more.
struct Answer {
    body: Body,
    seat: Arc<Seat>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.seat.now(Activity::Idle);
    }
}

#[cfg(test)]
mod tests;
