//! A connection that can break: it passes on what clients and a server say to each other, until it is told not to.

use crate::Failure;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// Both directions.
    Both,
    /// What clients say; answers are lost.
    OnlyRequests,
    /// Nothing: connections are closed, new ones too.
    Nothing,
}

/// See the module. Dropping it closes all connections.
#[derive(Debug)]
pub struct Link {
    address: String,
    passing: watch::Sender<Passing>,
    task: JoinHandle<()>,
}

impl Link {
    /// Between clients, who connect to [`address`](Self::address), and the server at `to`.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn to(to: String) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (passing, passes) = watch::channel(Passing::Both);
        let to: Arc<str> = to.into();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *passes.borrow() != Passing::Nothing {
                    tokio::spawn(pass(client, Arc::clone(&to), passes.clone()));
                }
            }
        });
        Ok(Self { address, passing, task })
    }

    /// `host:port` for clients.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on requests arrive, and their answers do not.
    pub fn lose_answers(&self) {
        self.passing.send_replace(Passing::OnlyRequests);
    }

    /// Closes all connections, and every new one.
    pub fn cut(&self) {
        self.passing.send_replace(Passing::Nothing);
    }

    /// Lets everything pass again. Connections whose answers were lost are closed.
    pub fn mend(&self) {
        if *self.passing.borrow() == Passing::OnlyRequests {
            self.cut();
        }
        self.passing.send_replace(Passing::Both);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn pass(client: TcpStream, to: Arc<str>, passes: watch::Receiver<Passing>) {
    let Ok(server) = TcpStream::connect(&*to).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut closing = passes.clone();
    let lost = passes.clone();
    tokio::select! {
        () = copy(from_client, to_server, |_| true, passes.clone()) => {}
        () = copy(from_server, to_client, |passing| passing == Passing::Both, passes) => {}
        // also one that answers were taken from, even if everything passes again
        _ = closing.wait_for(|passing| *passing == Passing::Nothing) => {}
        () = deaf_then_mended(lost) => {}
    }
}

/// Ends when answers were lost and are not any more: nobody could make sense of the rest.
async fn deaf_then_mended(mut passing: watch::Receiver<Passing>) {
    let deaf = passing.wait_for(|passing| *passing == Passing::OnlyRequests).await.is_ok();
    if !deaf || passing.wait_for(|passing| *passing != Passing::OnlyRequests).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    passes: impl Fn(Passing) -> bool,
    passing: watch::Receiver<Passing>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let now = *passing.borrow();
        if passes(now) && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
