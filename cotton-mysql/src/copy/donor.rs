//! The copy server of a MariaDB instance.

use super::INSTALL_BACKUP;
use super::unblock::unblock;
use super::wire::{FRAME_BYTES_MAX, Wire};
use crate::config::Timing;
use crate::dialect::Dialect;
use crate::dirs::{Dirs, random_hex};
use crate::programs::Programs;
use crate::provision::{RemoveOnDrop, SecretFile};
use crate::sql::Link;
use crate::{Error, accounts, engines, files, process};
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections that may be in the handshake at the same time.
const HANDSHAKES: usize = 4;
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// How the outcome of a good copy begins; then come the donor's `gtid_binlog_state` before and after.
pub(super) const COMPLETE: &str = "complete ";

/// Gives copies away until it is dropped.
#[derive(Debug)]
pub(crate) struct CopyServer {
    pub(crate) port: u16,
    task: tokio::task::JoinHandle<()>,
}

/// What a copy is made of.
#[derive(Debug)]
pub(crate) struct Donor {
    pub(crate) programs: Programs,
    pub(crate) dialect: Dialect,
    pub(crate) dirs: Dirs,
    pub(crate) socket: PathBuf,
    pub(crate) link: Link,
    pub(crate) admin: SecretString,
    pub(crate) replication: SecretString,
    pub(crate) timing: Timing,
}

impl CopyServer {
    /// Listens; the port is chosen by the system.
    pub(crate) async fn start(address: &str, donor: Donor) -> Result<Self, Error> {
        let address = if address == "*" { "::" } else { address };
        let failed = |source| Error::System { what: "listen for copies", source };
        let listener = TcpListener::bind((address, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { port, task: tokio::spawn(serve(listener, Arc::new(donor))) })
    }
}

impl Drop for CopyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, donor: Arc<Donor>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let copies = Arc::new(Semaphore::new(1));
    let mut serving = tokio::task::JoinSet::new(); // ends with us
    loop {
        while serving.try_join_next().is_some() {}
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await; // out of files: it passes
            continue;
        };
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (donor, copies) = (Arc::clone(&donor), Arc::clone(&copies));
        serving.spawn(async move {
            let accepted = Wire::accept(stream, donor.replication.clone());
            let accepted = tokio::time::timeout(HANDSHAKE_TIME, accepted).await;
            drop(permit);
            match accepted {
                Ok(Ok(wire)) => give(&donor, wire, &copies).await,
                Ok(Err(error)) => tracing::warn!(%peer, %error, "a copy was refused"),
                Err(_) => tracing::warn!(%peer, "a copy was asked for and not gone on with"),
            }
        });
    }
}

async fn give(donor: &Donor, mut wire: Wire<TcpStream>, copies: &Semaphore) {
    let outcome = match copies.try_acquire() {
        Ok(_permit) => {
            let limit = donor.timing.copy;
            let streamed = tokio::time::timeout(limit, donor.stream(&mut wire)).await;
            match streamed.unwrap_or(Err(Error::Timeout { what: "the backup", after: limit })) {
                Ok(states) => format!("{COMPLETE}{states}"),
                Err(error) => format!("the donor failed: {error}"),
            }
        }
        Err(_) => "the donor is giving a copy to another member".to_owned(),
    };
    if !outcome.starts_with(COMPLETE) {
        tracing::warn!(%outcome, "no complete copy was given");
    }
    let _ = tokio::time::timeout(donor.timing.copy_stall, wire.send_outcome(&outcome)).await; // it may be gone
}

/// Sends what the backup writes, until it writes no more.
async fn forward(child: &mut process::Running, wire: &mut Wire<TcpStream>, stall: Duration) -> Result<(), Error> {
    let unread = |source| Error::System { what: "read from the backup", source };
    let mut output = child.stdout().map_err(unread)?;
    let mut buffer = vec![0; FRAME_BYTES_MAX / 4];
    loop {
        let read = tokio::time::timeout(stall, output.read(&mut buffer)).await;
        let read = read.map_err(|_| Error::Timeout { what: "the backup's next part", after: stall })?;
        let len = read.map_err(unread)?;
        if len == 0 {
            return Ok(());
        }
        let sent = tokio::time::timeout(stall, wire.send_data(&buffer[..len])).await;
        sent.map_err(|_| Error::Timeout { what: "a part of the copy", after: stall })??;
    }
}

impl Donor {
    /// Sends all; returns the binary log's state before and after.
    async fn stream(&self, wire: &mut Wire<TcpStream>) -> Result<String, Error> {
        engines::check_copy(self.dialect, &self.link, self.timing.copy_stall).await?;
        let before = self.state().await?;
        let program = self.programs.tool(&["mariadb-backup", "mariabackup"], INSTALL_BACKUP)?;
        let target = self.dirs.tmp().join(format!("backup-{}", random_hex(8)?));
        self.dirs.make_own(&target)?;
        let _target = RemoveOnDrop(target.clone());
        let options = SecretFile::write(&self.dirs, &self.options())?;
        let files = files::for_all_of(&self.dirs.data()).await; // it opens all tables at once
        let mut command = self.programs.command(&program, &self.dirs, files);
        command.arg(format!("--defaults-file={}", options.0.display())).args(["--backup", "--stream=xbstream"]);
        command.arg(format!("--target-dir={}", target.display()));
        command.arg(format!("--open-files-limit={}", files::granted(files)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let log = self.dirs.log().join("backup.log");
        let file = std::fs::File::create(&log).map_err(|e| Error::file("create", &log, e))?;
        command.stderr(file);

        let mut child = process::Running::start(command).await?;
        let stall = self.timing.copy_stall;
        tokio::select! {
            forwarded = forward(&mut child, wire, stall) => forwarded?,
            never = unblock(&self.link, self.timing.statement) => match never {},
        }
        let status = child.wait(stall).await?;
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if !status.success() || !text.trim_end().ends_with("completed OK!") {
            let reason = files::advice(&text, files).or_else(|| process::last_error(&log, 0)).unwrap_or_default();
            let how = format!("{}: {reason}", process::describe(status));
            return Err(Error::Ended { what: "mariabackup".to_owned(), how });
        }
        Ok(format!("{before};{}", self.state().await?))
    }

    async fn state(&self) -> Result<String, Error> {
        let sql = "SELECT @@GLOBAL.gtid_binlog_state AS state";
        let row = self.link.row("read the binary log's state", sql, self.timing.copy_stall).await?;
        Ok(row.text("state").unwrap_or_default())
    }

    /// An option file, since arguments can be read by everybody on the machine.
    fn options(&self) -> String {
        let password = self.admin.expose_secret().replace('\\', "\\\\");
        format!(
            "[mariabackup]\nuser = {}\npassword = \"{password}\"\nsocket = {}\ndatadir = {}\n",
            accounts::ADMIN,
            self.socket.display(),
            self.dirs.data().display()
        )
    }
}
