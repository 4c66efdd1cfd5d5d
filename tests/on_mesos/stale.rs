//! News of a task that comes again when its successor runs: acknowledgements that get lost between scheduler and agent.

use crate::{Outcome, SOME, STEP, checks, framework, loaded, volumes};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cotton_core::Endpoint;
use cotton_tests::{Failure, MesosOptions, Stock, StockOptions};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;

/// Between schedulers and a master: loses acknowledgements, and passes on all else.
#[derive(Clone)]
struct Between {
    master: Endpoint,
    http: reqwest::Client,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Acknowledgements for this task are lost.
    loses: Option<String>,
    lost: usize,
    /// Tasks whose states were acknowledged, as far as they were passed on.
    passed: Vec<String>,
}

impl Between {
    /// Gives it, and where it listens.
    async fn start(master: Endpoint) -> Result<(Self, Endpoint), Failure> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let this = Self { master, http, seen: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = Endpoint::new("127.0.0.1", listener.local_addr()?.port());
        let router = Router::new().fallback(pass_on).with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((this, at))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics with it")
    }
}

async fn pass_on(
    State(between): State<Between>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Response, StatusCode> {
    let call: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(task) = call["acknowledge"]["task_id"]["value"].as_str() {
        let mut seen = between.seen();
        if seen.loses.as_deref() == Some(task) {
            seen.lost += 1;
            return Ok(StatusCode::ACCEPTED.into_response());
        }
        seen.passed.push(task.to_owned());
    }
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    let request = between.http.request(method, format!("http://{}{uri}", between.master)).headers(headers).body(body);
    let answer = request.send().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    Ok((status, headers, Body::from_stream(answer.bytes_stream())).into_response())
}

/// The end of a member's first task is told again when its second runs: that one is not touched, and the end is
/// acknowledged once more, since Mesos would repeat it for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_earlier_task_that_is_told_again_changes_nothing() -> Outcome {
    let mesos = MesosOptions { agents: 3, ..MesosOptions::default() };
    let flags = vec![("framework_role", "db".to_owned())];
    let options = StockOptions { mesos, flags, ..StockOptions::default() };
    let Some(mut stock) = Stock::prepare(options).await? else { return Ok(()) };
    let (between, at) = Between::start(stock.mesos.master()).await?;
    stock.flag("mesos_master", at.to_string());
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let (writer, seen) = loaded(&stock).await?;
    let api = stock.api(0);

    let old = seen.replicas().next().expect("there are two").clone();
    between.seen().loses = Some(old.task.clone());
    let (agent, executor) = stock.executor(&old)?;
    executor.kill();
    let back = api.until("a", STEP, "whole with it", |c| volumes::is_back(c, &old)).await?;
    let new = back.member(old.id).expect("it is back").clone();
    let (_, server) = stock.server(&new)?;
    checks::until("its end is known here", &true, async || Ok(between.seen().lost > 0)).await?;
    let ended = vec!["TASK_FAILED".to_owned()];
    assert_eq!(framework::states(&stock, &old.task).await?, ended, "and not known to be known there");

    // An agent that is started again tells again what was not acknowledged. First this scheduler, then the next one.
    for round in 0..2 {
        let lost = between.seen().lost;
        if round == 1 {
            stock.kill_scheduler(0).await?;
        }
        stock.mesos.kill_agent(agent)?;
        stock.mesos.start_agent(agent)?;
        stock.mesos.until_active(3).await?;
        if round == 1 {
            stock.start_scheduler(0)?;
            stock.until_ready(0).await?;
        }
        checks::until("it is told again", &true, async || Ok(between.seen().lost > lost)).await?;
        let after = api.until_healthy("a", STEP).await?;
        assert_eq!(after.member(old.id).map(|member| &member.task), Some(&new.task), "round {round}");
    }
    {
        let mut seen = between.seen();
        seen.loses = None;
        seen.passed.clear();
    }
    checks::until("Mesos forgets it", &Vec::new(), async || framework::states(&stock, &old.task).await).await?;
    assert!(between.seen().passed.contains(&old.task));
    let after = api.until_healthy("a", STEP).await?;
    assert_eq!((after.epoch, after.primary), (1, seen.primary));
    assert_eq!(after.member(old.id).map(|member| &member.task), Some(&new.task));
    assert!(!server.has_ended(), "the same server as ever");
    let events = api.events("a", 0).await?;
    assert!(!events.iter().any(|event| matches!(event.kind.as_str(), "ended" | "leaving" | "primary_lost")));
    writer.progress(SOME, STEP).await?;
    checks::whole(&stock, writer, &after).await
}
