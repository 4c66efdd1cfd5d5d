//! A master that does what each test wants: calls arrive at the test, which answers each of them.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use cotton_mesos::recordio;
use cotton_mesos::wire::scheduler::{PATH, STREAM_ID};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "tls")]
pub(crate) use tls::Authority;

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
const STREAM: &str = "stream-1";

pub(crate) struct Master {
    pub(crate) endpoint: String,
    calls: mpsc::Receiver<Arrived>,
}

/// A call that waits for its answer.
pub(crate) struct Arrived {
    pub(crate) call: Value,
    answer: oneshot::Sender<Response>,
}

/// The events of a subscription; dropping it ends the stream.
pub(crate) struct Events(mpsc::Sender<Bytes>);

impl Master {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = listener.local_addr().expect("bound").to_string();
        let (router, calls) = router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, calls }
    }

    #[cfg(feature = "tls")]
    pub(crate) async fn start_tls(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = listener.local_addr().expect("bound").to_string();
        let (router, calls) = router();
        let listener = tls::Listener::new(listener, authority);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, calls }
    }

    /// The next call, of the type that is expected.
    pub(crate) async fn next(&mut self, kind: &str) -> Arrived {
        let arrived = tokio::time::timeout(DEADLINE, self.calls.recv()).await;
        let arrived = arrived.unwrap_or_else(|_| panic!("no {kind} in time")).expect("open");
        assert_eq!(arrived.call["type"], kind, "{}", arrived.call);
        arrived
    }

    pub(crate) async fn refuse(&mut self, kind: &str, status: u16) {
        self.next(kind).await.answer(status, "");
    }

    pub(crate) async fn take(&mut self, kind: &str) -> Value {
        let arrived = self.next(kind).await;
        let call = arrived.call.clone();
        arrived.answer(202, "");
        call
    }

    /// Accepts a subscription as `F-0000`.
    pub(crate) async fn subscribed(&mut self, heartbeat_secs: f64) -> Events {
        self.next("SUBSCRIBE").await.subscribe(heartbeat_secs).await
    }
}

impl Arrived {
    pub(crate) fn answer(self, status: u16, text: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.respond((status, text.to_owned()).into_response());
    }

    pub(crate) fn answer_plain(self, text: &str) {
        self.respond(text.to_owned().into_response());
    }

    pub(crate) fn redirect(self, location: &str) {
        let location = (header::LOCATION, location.to_owned());
        self.respond((StatusCode::TEMPORARY_REDIRECT, [location]).into_response());
    }

    /// Begins a stream that says nothing yet.
    pub(crate) fn stream(self) -> Events {
        let (sender, receiver) = mpsc::channel(64);
        let stream = futures::stream::unfold(receiver, |mut events: mpsc::Receiver<Bytes>| async {
            events.recv().await.map(|event| (Ok::<_, Infallible>(event), events))
        });
        let name = HeaderName::try_from(STREAM_ID).expect("a name");
        self.respond(([(name, STREAM)], Body::from_stream(stream)).into_response());
        Events(sender)
    }

    pub(crate) async fn subscribe(self, heartbeat_secs: f64) -> Events {
        let events = self.stream();
        let subscribed = json!({ "framework_id": { "value": "F-0000" }, "heartbeat_interval_seconds": heartbeat_secs });
        events.send(&json!({ "type": "SUBSCRIBED", "subscribed": subscribed })).await;
        events
    }

    fn respond(self, response: Response) {
        let _gone = self.answer.send(response);
    }
}

impl Events {
    pub(crate) async fn send(&self, event: &Value) {
        self.send_raw(&recordio::encode(event.to_string().as_bytes())).await;
    }

    pub(crate) async fn send_raw(&self, bytes: &[u8]) {
        self.0.send(Bytes::copy_from_slice(bytes)).await.expect("connected");
    }
}

fn router() -> (Router, mpsc::Receiver<Arrived>) {
    let (sender, calls) = mpsc::channel(16);
    (Router::new().route(PATH, post(on_call)).with_state(sender), calls)
}

async fn on_call(State(calls): State<mpsc::Sender<Arrived>>, headers: HeaderMap, body: Bytes) -> Response {
    let call: Value = serde_json::from_slice(&body).expect("json");
    let is_subscription = call["type"] == "SUBSCRIBE";
    assert_eq!(headers.get(STREAM_ID).is_none(), is_subscription, "{call}");
    let (answer, answered) = oneshot::channel();
    let sent = calls.send(Arrived { call, answer }).await;
    match answered.await {
        Ok(response) if sent.is_ok() => response,
        // Dropped by the test: never answered.
        _ => std::future::pending().await,
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::sync::Arc;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
    use tokio_rustls::server::TlsStream;

    /// An authority of a test, whose certificate is in a file.
    pub(crate) struct Authority {
        issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
        file: tempfile::NamedTempFile,
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).expect("a certificate");
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), certificate.pem()).expect("written");
            Self { issuer: rcgen::Issuer::new(params, key), file }
        }

        pub(crate) fn file(&self) -> &Path {
            self.file.path()
        }
    }

    pub(super) struct Listener {
        tcp: TcpListener,
        acceptor: TlsAcceptor,
    }

    impl Listener {
        pub(super) fn new(tcp: TcpListener, authority: &Authority) -> Self {
            let key = rcgen::KeyPair::generate().expect("a key");
            let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &authority.issuer).expect("a certificate");
            let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key.into())
                .expect("a certificate with its key");
            Self { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) }
        }
    }

    impl axum::serve::Listener for Listener {
        type Io = TlsStream<TcpStream>;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (Self::Io, Self::Addr) {
            loop {
                let (stream, address) = self.tcp.accept().await.expect("listening");
                if let Ok(stream) = self.acceptor.accept(stream).await {
                    return (stream, address);
                }
            }
        }

        fn local_addr(&self) -> std::io::Result<Self::Addr> {
            self.tcp.local_addr()
        }
    }
}
