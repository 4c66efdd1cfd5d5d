use super::*;
use axum::http::StatusCode;
use axum::response::sse::{self, Sse};
use axum::routing::get;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn limits(connections: usize) -> Limits {
    let ms = Duration::from_millis;
    Limits { connections, head: ms(300), idle: ms(600), stall: ms(300), answer: ms(60_000) }
}

async fn serving(router: Router, limits: Limits) -> (Front, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (Front::with_limits(listener, watch::Sender::new(false), router, limits), address)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("somebody listens")
}

/// What comes until the server closes, or breaks off.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await;
    let _broken = read.expect("the server closes");
    String::from_utf8_lossy(&all).into_owned()
}

fn text(text: &'static str) -> Router {
    Router::new().route("/x", get(move || async move { text }))
}

#[tokio::test]
async fn what_answers_can_be_exchanged() {
    let (mut front, address) = serving(text("one"), Limits::of_process()).await;
    let url = format!("http://{address}/x");
    let ask = async || reqwest::get(&url).await.expect("answered").text().await.expect("a text");
    assert_eq!(ask().await, "one");
    front.show(text("two"));
    assert_eq!(ask().await, "two");
    front.show(Router::new());
    assert_eq!(reqwest::get(&url).await.expect("answered").status(), StatusCode::NOT_FOUND);
    front.stop().await;
    reqwest::get(&url).await.expect_err("nobody is there");
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let (_front, address) = serving(text("here"), Limits { head: Duration::from_mins(5), ..limits(4) }).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(connect(address).await);
    }
    for _ in 0..10 {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("no option is wrong");
        let answer = client.get(format!("http://{address}/x")).send().await.expect("answered");
        assert_eq!(answer.text().await.expect("a text"), "here");
        idle.push(connect(address).await);
    }
    assert_eq!(rest(&mut idle[0]).await, "", "the first has left");
}

#[tokio::test]
async fn a_head_has_its_time_and_so_has_a_rest() {
    let (_front, address) = serving(text("here"), limits(4)).await;
    let start = Instant::now();
    let mut slow = connect(address).await;
    slow.write_all(b"GET /x HTTP/1.1\r\nhost:").await.expect("taken");
    assert_eq!(rest(&mut slow).await, "");
    assert!(start.elapsed() >= Duration::from_millis(300));
    let mut quiet = connect(address).await;
    quiet.write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("taken");
    let start = Instant::now();
    assert!(rest(&mut quiet).await.ends_with("\r\n\r\nhere"));
    assert!(start.elapsed() >= Duration::from_millis(500), "it could have asked again");
}

#[tokio::test]
async fn who_does_not_read_has_to_leave() {
    let endless =
        || async { Body::from_stream(futures::stream::repeat_with(|| Ok::<_, Infallible>(vec![0_u8; 1 << 16]))) };
    let (_front, address) = serving(Router::new().route("/x", get(endless)), limits(1)).await;
    let mut deaf = connect(address).await;
    deaf.write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("taken");
    deaf.read_exact(&mut [0]).await.expect("it is being answered");
    let start = Instant::now();
    loop {
        // there is one seat, and that is taken until the server notices
        let mut other = connect(address).await;
        let _ = other.write_all(b"HEAD /y HTTP/1.0\r\n\r\n").await;
        if rest(&mut other).await.starts_with("HTTP/1.0 404") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the seat is free again");
    }
    assert!(start.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn when_all_are_being_answered_others_are_told_to_come_again() {
    let (tell, told) = watch::channel(false);
    let (answering, mut begun) = watch::channel(false);
    let waiting = move || {
        let mut told = told.clone();
        answering.send_replace(true);
        async move {
            let _ = told.wait_for(|told| *told).await;
            "late"
        }
    };
    let (_front, address) = serving(Router::new().route("/x", get(waiting)), limits(1)).await;
    let mut first = connect(address).await;
    first.write_all(b"GET /x HTTP/1.0\r\n\r\n").await.expect("taken");
    begun.wait_for(|begun| *begun).await.expect("it is being answered");
    let start = Instant::now();
    loop {
        let said = rest(&mut connect(address).await).await;
        if said.starts_with("HTTP/1.1 503") {
            let (head, body) = said.split_once("\r\n\r\n").expect("a whole answer");
            assert!(
                head.contains("retry-after: 1") && head.ends_with(&format!("content-length: {}", body.len())),
                "{head}"
            );
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the first request is being answered");
    }
    tell.send_replace(true);
    assert!(rest(&mut first).await.ends_with("late"));
}

#[tokio::test]
async fn streams_end_with_the_server_and_leave_room_for_others() {
    let (tell, _) = watch::channel(false);
    let stopping = tell.clone();
    let events = move || {
        let mut stopping = stopping.subscribe();
        let end = async move { drop(stopping.wait_for(|stop| *stop).await) };
        async move {
            let first = futures::stream::iter([Ok::<_, Infallible>(sse::Event::default().data("first"))]);
            Sse::new(futures::StreamExt::take_until(
                futures::StreamExt::chain(first, futures::stream::pending()),
                Box::pin(end),
            ))
        }
    };
    let router = text("here").route("/events", get(events));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut front = Front::with_limits(listener, tell, router, limits(3));
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(address).await;
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("taken");
        let mut some = [0; 4096];
        while !String::from_utf8_lossy(&some).contains("first") {
            let at = some.iter().position(|byte| *byte == 0).expect("room");
            assert_ne!(stream.read(&mut some[at..]).await.expect("events come"), 0);
        }
        streams.push(stream);
    }
    let mut other = connect(address).await;
    other.write_all(b"GET /x HTTP/1.0\r\n\r\n").await.expect("taken");
    assert!(rest(&mut other).await.ends_with("here"));
    rest(&mut streams[0]).await; // ends
    front.stop().await;
    assert!(rest(&mut streams[2]).await.ends_with("0\r\n\r\n"), "a whole answer");
}
