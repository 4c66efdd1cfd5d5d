//! A connection that can break: it passes on what clients and a server say to each other, until it is told not to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Answers that pass before the connection breaks, when it is not to break.
const ALL: u64 = u64::MAX;

/// See the module. Dropping it closes all connections.
#[derive(Debug)]
pub struct Link {
    address: String,
    is_open: watch::Sender<bool>,
    is_held: watch::Sender<bool>,
    answers: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Link {
    /// Between clients, who connect to [`address`](Self::address), and the server at `to`.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn to(to: String) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (is_open, open) = watch::channel(true);
        let (is_held, held) = watch::channel(false);
        let answers = Arc::new(AtomicU64::new(ALL));
        let (to, left): (Arc<str>, _) = (to.into(), Arc::clone(&answers));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *open.borrow() {
                    let rules = Rules { open: open.clone(), held: held.clone(), answers: Arc::clone(&left) };
                    tokio::spawn(pass(client, Arc::clone(&to), rules));
                }
            }
        });
        Ok(Self { address, is_open, is_held, answers, task })
    }

    /// `host:port` for clients.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets so many more answers pass and then breaks the connection instead of passing on the next one: its request has
    /// been served, and the client does not know. Another connection can be made at once.
    pub fn break_after(&self, answers: u64) {
        self.answers.store(answers, Ordering::SeqCst);
    }

    /// Whether it is still to break.
    pub fn is_to_break(&self) -> bool {
        self.answers.load(Ordering::SeqCst) != ALL
    }

    /// Whether it is still to break; it is not any more after this.
    pub fn spare(&self) -> bool {
        self.answers.swap(ALL, Ordering::SeqCst) != ALL
    }

    /// Keeps back what the server says, until [`release`](Self::release).
    pub fn hold(&self) {
        self.is_held.send_replace(true);
    }

    /// Passes on what was kept back, and all that follows.
    pub fn release(&self) {
        self.is_held.send_replace(false);
    }

    /// Closes all connections, and every new one.
    pub fn cut(&self) {
        self.is_open.send_replace(false);
    }

    /// Lets new connections be made again.
    pub fn mend(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

/// What a connection goes by.
struct Rules {
    open: watch::Receiver<bool>,
    held: watch::Receiver<bool>,
    answers: Arc<AtomicU64>,
}

async fn pass(client: TcpStream, to: Arc<str>, rules: Rules) {
    let Ok(server) = TcpStream::connect(&*to).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let Rules { mut open, held, answers } = rules;
    tokio::select! {
        () = copy(from_client, to_server, None) => {}
        () = copy(from_server, to_client, Some((held, answers))) => {}
        _ = open.wait_for(|is_open| !is_open) => {}
    }
}

/// Counts an answer; false when the connection is to break in its place.
fn passes(answers: &AtomicU64) -> bool {
    let next = |left: u64| match left {
        ALL | 0 => Some(ALL),
        left => Some(left - 1),
    };
    answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next) != Ok(0)
}

/// Passes on what is said, answers by their rules.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: Option<(watch::Receiver<bool>, Arc<AtomicU64>)>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if let Some((held, answers)) = &mut rules
            && (held.wait_for(|is_held| !is_held).await.is_err() || !passes(answers))
        {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
