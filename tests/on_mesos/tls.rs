//! Masters that speak TLS. The Mesos of these tests has none of its own, so that it is put in front of the master.

use crate::{Outcome, STEP};
use cotton_core::Endpoint;
use cotton_tests::{Failure, Stock, StockOptions, Wanted};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;

/// Who signs certificates, in a file.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(file: PathBuf) -> Result<Self, Failure> {
        let failed = |error: rcgen::Error| Failure::because("an authority", &error);
        let key = rcgen::KeyPair::generate().map_err(failed)?;
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(&file, params.self_signed(&key).map_err(failed)?.pem())?;
        Ok(Self { issuer: rcgen::Issuer::new(params, key), file })
    }

    /// What a server with this name says of itself.
    fn server(&self, name: &str) -> Result<ServerConfig, Failure> {
        let failed = |error: rcgen::Error| Failure::because("a certificate", &error);
        let key = rcgen::KeyPair::generate().map_err(failed)?;
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let config =
            ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
        let config = config.and_then(|config| {
            config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key.into())
        });
        config.map_err(|error| Failure::because("a server with TLS", &error))
    }
}

/// Passes on to the master what comes over TLS; gives the port.
async fn tls_before(master: Endpoint, config: ServerConfig) -> Result<u16, Failure> {
    let (listener, acceptor) = (TcpListener::bind("127.0.0.1:0").await?, TlsAcceptor::from(Arc::new(config)));
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, master) = (acceptor.clone(), master.to_string());
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(master).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(port)
}

/// Starts a scheduler that cannot subscribe, and waits until its log says why.
async fn says_why_not(stock: &mut Stock, authority: Option<&Path>, why: &str) -> Outcome {
    if let Some(file) = authority {
        stock.flag("mesos_ca_file", file.display().to_string());
    }
    stock.start_scheduler(0)?;
    let start = std::time::Instant::now();
    while !stock.log_end(0).lines().any(|line| line.contains("no connection to Mesos") && line.contains(why)) {
        if start.elapsed() > STEP {
            return Err(Failure::new(format!("it does not say {why:?}:\n{}", stock.log_end(0))));
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // a log calls nobody
    }
    assert!(!stock.is_ready(0).await);
    stock.kill_scheduler(0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_trusted_by_its_authority_only() -> Outcome {
    let Some(mut stock) = Stock::prepare(StockOptions::default()).await? else { return Ok(()) };
    let ours = Authority::new(stock.path().join("ours.pem"))?;
    let theirs = Authority::new(stock.path().join("theirs.pem"))?;
    let plain = stock.mesos.master();
    let port = tls_before(plain.clone(), ours.server("localhost")?).await?;

    stock.flag("mesos_master", format!("localhost:{port}"));
    says_why_not(&mut stock, None, "--mesos_ca_file").await?;
    says_why_not(&mut stock, Some(&theirs.file), "invalid peer certificate: BadSignature").await?;
    // not its name
    stock.flag("mesos_master", format!("127.0.0.1:{port}"));
    says_why_not(&mut stock, Some(&ours.file), "certificate not valid for name").await?;
    stock.flag("mesos_master", plain.to_string());
    says_why_not(&mut stock, Some(&ours.file), "the master speaks no TLS").await?;

    stock.flag("mesos_master", format!("localhost:{port}"));
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let api = stock.api(0);
    let created = api.create("a", &Wanted::small(1)).await?;
    api.until_healthy("a", STEP).await?;
    api.delete("a", &created.password).await?;
    api.until_gone("a", STEP).await
}
