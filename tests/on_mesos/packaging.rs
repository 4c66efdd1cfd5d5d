//! Agents that have nothing of ours: they fetch the executor, and that fetches and unpacks its server.

use crate::{Outcome, STEP};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use bytes::Bytes;
use cotton_tests::{Cluster, Failure, Flavour, Stock, StockOptions, Wanted};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// What the web server has now.
type Shelf = Arc<Mutex<Option<Bytes>>>;

/// Serves whatever is on the shelf; gives the address of the archive.
async fn web_server(shelf: Shelf) -> Result<String, Failure> {
    let take = |State(shelf): State<Shelf>| async move {
        shelf.lock().expect("nobody panics with it").clone().ok_or(StatusCode::SERVICE_UNAVAILABLE)
    };
    let router = Router::new().route("/mysql.tar.gz", get(take)).with_state(shelf);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://localhost:{}/mysql.tar.gz", listener.local_addr()?.port());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// MySQL 5.6 as Oracle packs it: the program itself, its library and its files, below one directory.
fn pack(programs: &Path, into: &Path) -> Result<PathBuf, Failure> {
    let archive = into.join("mysql.tar.gz");
    let script = r#"mkdir -p "$2/mysql-5.6/bin" && cd "$2" && cp -L "$1/lib/mysqld.bin" mysql-5.6/bin/mysqld &&
        mkdir mysql-5.6/lib && cp -L "$1/lib/libaio.so.1" mysql-5.6/lib/ && cp -RL "$1/share" mysql-5.6/ &&
        tar -I "gzip -1" -cf "$3" mysql-5.6 && rm -r mysql-5.6"#;
    let from = programs.parent().ok_or_else(|| Failure::new("a server in the root directory"))?;
    let packed = Command::new("sh").args(["-c", script, "sh"]).args([from, into, &archive]).status()?;
    packed.success().then_some(archive).ok_or_else(|| Failure::new("MySQL 5.6 was not packed"))
}

fn sha256(file: &Path) -> Result<String, Failure> {
    let output = Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.get(..64).map(str::to_owned).ok_or_else(|| Failure::new("sha256sum said nothing"))
}

/// Waits for an event that says all of this.
async fn told(stock: &Stock, words: &[&str]) -> Outcome {
    let mut events = stock.api(0).stream("a", Some(0)).await?;
    let says = |text: &str| words.iter().all(|word| text.contains(word));
    let what = format!("an event that says {words:?}");
    let told = events.until(STEP, &what, |event| says(&format!("{} {:?}", event.text, event.fields))).await;
    told.map(drop).map_err(|failure| Failure::new(format!("{failure}\n{}", stock.log_end(0))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executor_and_server_are_fetched() -> Outcome {
    let Some(programs) = Flavour::MySql56.programs() else { return Ok(()) };
    let Some(mut stock) = Stock::prepare(StockOptions::default()).await? else { return Ok(()) };
    let archive = pack(&programs, stock.path())?;
    let (right, sha256) = (Bytes::from(std::fs::read(&archive)?), sha256(&archive)?);
    std::fs::remove_file(&archive)?;
    let shelf = Shelf::default();
    let url = web_server(Arc::clone(&shelf)).await?;
    stock.flag("executor_uri", format!("file://{}", stock.path().join("cotton-executor").display()));
    stock.flag("installer_args", format!("archive={url},sha256={sha256}"));
    // with which Mesos runs every command, and nothing else
    let bin = stock.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink("/bin/sh", bin.join("sh"))?;
    stock.flag("executor_environ", serde_json::json!([{ "name": "PATH", "value": bin }]).to_string());
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let api = stock.api(0);
    let created = api.create("a", &Wanted::small(1)).await?;

    // The server is busy, then has another archive: both are told with the task that failed, and tried again.
    told(&stock, &["could not install the server", "/mysql.tar.gz", "the web server answers 503"]).await?;
    *shelf.lock().expect("nobody panics with it") = Some(right.slice(..right.len() - 1));
    told(&stock, &["has the sha256", &format!("not {sha256}")]).await?;
    *shelf.lock().expect("nobody panics with it") = Some(right);
    let healthy = api.until_healthy("a", STEP).await;
    let seen: Cluster = healthy.map_err(|failure| Failure::new(format!("{failure}\n{}", stock.log_end(0))))?;

    let member = seen.primary()?;
    let (_, server) = stock.server(member)?;
    let program = std::fs::read_link(format!("/proc/{}/exe", server.pid))?;
    assert!(program.ends_with("server/tree/mysql-5.6/bin/mysqld"), "{}", program.display());
    let (_, executor) = stock.executor(member)?;
    let sandbox = std::fs::read_link(format!("/proc/{}/cwd", executor.pid))?;
    assert_eq!(std::fs::read_link(format!("/proc/{}/exe", executor.pid))?, sandbox.join("cotton-executor"));
    assert!(program.starts_with(&sandbox) && !sandbox.join("server.partial").exists());

    api.delete("a", &created.password).await?;
    api.until_gone("a", STEP).await
}
