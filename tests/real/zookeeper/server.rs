//! One server of ZooKeeper as a process.

use crate::{Failure, Process};
use rustix::process::Signal;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAIN: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
const END: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Server {
    pub(super) port: u16,
    jar: PathBuf,
    dir: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Writes what it needs to start.
    pub(super) fn prepare(jar: PathBuf, dir: PathBuf, port: u16, settings: &str, id: u16) -> Result<Self, Failure> {
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("zoo.cfg"), settings)?;
        std::fs::write(dir.join("myid"), id.to_string())?;
        Ok(Self { port, jar, dir, child: None })
    }

    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = Command::new("java");
        // Tests kill processes, never the machine, and what a killed one has written stays written. So nothing is proven
        // by waiting for the disk; a slow one only ends sessions that nobody meant to end.
        command.arg("-Dzookeeper.forceSync=no");
        command.args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(&self.jar);
        command.arg(MAIN).arg(self.dir.join("zoo.cfg")).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    pub(super) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(process) = Process::open(child.id()) {
            process.signal(Signal::KILL);
            process.ended(END).await?;
        }
        child.wait()?;
        Ok(())
    }

    /// Waits until it serves clients: alone, or as a part of a quorum.
    pub(super) async fn serving(&self, limit: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(2), self.command("srvr")).await;
            if answer.is_ok_and(|answer| answer.is_ok_and(|text| text.contains("Mode: "))) {
                return Ok(());
            }
            if start.elapsed() > limit {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(Failure::new(format!("ZooKeeper on port {} does not serve: {log}", self.port)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // it tells nobody when it is ready
        }
    }

    async fn command(&self, word: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(word.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}
