//! The executor API of an agent, over HTTP: as that of Mesos, one stream of events for each executor.

use super::Inner;
use super::world::Refusal;
use crate::recordio;
use crate::wire::executor::{Call, CallBody, Event, PATH};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use cotton_core::AgentId;
use std::convert::Infallible;
use std::sync::Weak;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// Largest call: the largest message of cotton's protocol, in base64, with room to spare.
const CALL_BYTES_MAX: usize = 4 * 1024 * 1024;
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Api {
    inner: Weak<Inner>,
    agent: AgentId,
}

/// Serves until told to stop.
pub(super) async fn serve(inner: Weak<Inner>, agent: AgentId, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let router = Router::new()
        .route(PATH, post(call))
        .layer(DefaultBodyLimit::max(CALL_BYTES_MAX))
        .with_state(Api { inner, agent: agent.clone() });
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "could not turn off delays of a connection");
        }
    });
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!(agent = %agent, error = %error, "the API of an agent ended");
    }
}

async fn call(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(inner) = api.inner.upgrade() else { return refused(Refusal::Unavailable) };
    if !inner.is_authorized(headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes)) {
        return (StatusCode::UNAUTHORIZED, "only executors that this agent started are let in").into_response();
    }
    let call: Call = match serde_json::from_slice(&body) {
        Ok(call) => call,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("the call is not understood: {error}")).into_response(),
    };
    let executor = call.executor_id.value;
    let outcome = match call.body {
        CallBody::Subscribe { subscribe } => {
            return match inner.run(|world, now| world.executor_subscribed(now, &api.agent, &executor, subscribe)) {
                Ok(events) => ([(header::CONTENT_TYPE, "application/json")], stream(events)).into_response(),
                Err(refusal) => refused(refusal),
            };
        }
        CallBody::Update { update } => {
            inner.run(|world, _| world.executor_update(&api.agent, &executor, update.status))
        }
        CallBody::Message { message } => {
            inner.run(|world, _| world.executor_message(&api.agent, &executor, message.data.0))
        }
        CallBody::Heartbeat => Ok(()),
        CallBody::Unknown => return (StatusCode::NOT_IMPLEMENTED, "unknown type of call").into_response(),
    };
    match outcome {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unknown => (StatusCode::BAD_REQUEST, "this agent has no such executor or task").into_response(),
        Refusal::Unavailable => {
            let mut response = (StatusCode::SERVICE_UNAVAILABLE, "this agent is not available").into_response();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

/// Events as they come, and heartbeats in between.
fn stream(events: mpsc::Receiver<Bytes>) -> Body {
    Body::from_stream(futures::stream::unfold(events, |mut events| async {
        let record = match tokio::time::timeout(HEARTBEAT_INTERVAL, events.recv()).await {
            Ok(record) => record?,
            Err(_) => recordio::encode(&serde_json::to_vec(&Event::Heartbeat).ok()?),
        };
        Some((Ok::<_, Infallible>(record), events))
    }))
}
