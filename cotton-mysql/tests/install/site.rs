//! A web server that gives one answer, whatever is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Site {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Site {
    /// Answers with the head (without its last empty line) and the body; then closes, or says nothing more for ever.
    pub(crate) async fn start(head: &str, body: Vec<u8>, closes: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = format!("http://{}/server.tar?token=t-secret", listener.local_addr().expect("bound"));
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = [format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").into_bytes(), body].concat();
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                respond(&mut stream, &answer).await;
                if !closes {
                    kept.push(stream);
                }
            }
        });
        Self { url, asked, task }
    }

    pub(crate) async fn with(body: Vec<u8>) -> Self {
        Self::start(&format!("200 OK\r\ncontent-length: {}", body.len()), body, true).await
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn respond(stream: &mut TcpStream, answer: &[u8]) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|read| read > 0) {
        request.push(byte[0]);
    }
    let _ = stream.write_all(answer).await; // who has read enough goes away
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}
