//! Bodies of requests: read whole before anything is done, within bounds of size and time.
//!
//! What is too large is still read for a while and thrown away: a server that answers and closes while the client is
//! sending makes the client see a broken connection instead of the answer.

use super::error::{Code, Problem};
use super::refusal;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use std::time::Duration;

/// Largest body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How much of a body that is too large is read before the connection is closed, in bytes.
const DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Hands the request on with its whole body, or refuses it.
pub(super) async fn read_whole(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIME, collect(body)).await;
    match read.unwrap_or_else(|_| Err(Problem::new(Code::BodyTimeout, "the body did not arrive within 30 s"))) {
        Ok(body) => next.run(Request::from_parts(parts, body.into())).await,
        Err(problem) => refusal(&parts.uri, problem),
    }
}

async fn collect(body: Body) -> Result<Vec<u8>, Problem> {
    let (mut chunks, mut whole, mut size) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::BodyTimeout, "the body ended too early"))?;
        size += chunk.len();
        if size <= BODY_BYTES_MAX {
            whole.extend_from_slice(&chunk);
        } else if size > DISCARDED_BYTES_MAX {
            break;
        } else {
            whole = Vec::new();
        }
    }
    if size > BODY_BYTES_MAX {
        return Err(Problem::new(Code::BodyTooLarge, "the body must not be larger than 1 MB"));
    }
    Ok(whole)
}
