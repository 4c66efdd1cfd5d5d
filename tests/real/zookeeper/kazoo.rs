//! A reader of our layout that is not ours: `cotton_client.py`, over the ZooKeeper client that Python programs use.

use crate::{Failure, within};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What the reader says, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The primary is at `host:port`, or there is none.
    Master(Option<String>),
    /// The cluster is gone.
    Terminated,
}

/// A running reader. Dropping it ends it.
#[derive(Debug)]
pub struct Kazoo {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Kazoo {
    /// Runs `cotton_client.py <command> <url>`. `None`, after saying so loudly, when kazoo is not installed.
    ///
    /// # Errors
    /// When Python cannot be started.
    ///
    /// # Panics
    /// When it is not installed, in CI.
    pub fn start(command: &str, url: &str) -> Result<Option<Self>, Failure> {
        let Some(packages) = packages() else {
            let words = "kazoo is not installed: run 'scripts/setup --all'";
            assert!(std::env::var_os("CI").is_none(), "{words}");
            eprintln!("SKIPPED: {words}");
            return Ok(None);
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("real/zookeeper/cotton_client.py");
        let mut python = Command::new("python3");
        python.arg(script).args([command, url]).env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = python.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new("Python has no output"))?;
        Ok(Some(Self { lines: BufReader::new(stdout).lines(), _child: child }))
    }

    /// What it says next.
    ///
    /// # Errors
    /// When it ends, or says nothing within `limit`.
    pub async fn next(&mut self, limit: Duration) -> Result<Seen, Failure> {
        let line = within(limit, "the kazoo client says something", self.lines.next_line()).await??;
        let line = line.ok_or_else(|| Failure::new("the kazoo client ended"))?;
        serde_json::from_str(&line).map_err(|error| Failure::because(format!("the kazoo client said {line}"), &error))
    }

    /// Waits until it says this, and returns what it said before.
    ///
    /// # Errors
    /// When it does not within `limit` each time.
    pub async fn until(&mut self, wanted: &Seen, limit: Duration) -> Result<Vec<Seen>, Failure> {
        let mut before = Vec::new();
        loop {
            let seen = self.next(limit).await?;
            if seen == *wanted {
                return Ok(before);
            }
            before.push(seen);
        }
    }
}

/// Where `scripts/setup --all` puts it.
fn packages() -> Option<PathBuf> {
    let cache = std::env::var_os("COTTON_KAZOO_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/cotton-kazoo")))?;
    cache.join("kazoo").is_dir().then_some(cache)
}
