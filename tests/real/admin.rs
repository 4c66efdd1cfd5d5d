//! A member's server as its executor sees it: over the unix socket, with the administrative account.

use crate::{Directory, Failure};
use cotton_bin::secret::SealingKey;
use cotton_core::cluster::state::State;
use mysql_async::{Conn, OptsBuilder};
use secrecy::ExposeSecret;

/// Connects to the server of a task of that cluster. The password is where the scheduler keeps it, sealed.
///
/// # Errors
/// When the server does not run, or does not let us in.
pub async fn connect(directory: &Directory, cluster: &str, task: &str) -> Result<Conn, Failure> {
    let failed = |what: &'static str| move |error: &dyn std::error::Error| Failure::because(what, error);
    let key = SealingKey::load(&directory.path().join("key")).map_err(|e| failed("no key")(&e))?;
    let record = std::fs::read(directory.path().join(format!("state/clusters/{cluster}.json")))?;
    let state: State = serde_json::from_slice(&record).map_err(|e| failed("no state")(&e))?;
    let password = key.open(&state.spec.secrets.admin).map_err(|e| failed("no password")(&e))?;
    let server = directory.server(task)?;
    let options = OptsBuilder::default()
        .socket(Some(socket(&server.command)?))
        .user(Some("cotton"))
        .pass(Some(password.expose_secret()));
    Conn::new(options).await.map_err(|e| failed("the server does not let us in")(&e))
}

/// What the server's configuration says.
fn socket(command: &[String]) -> Result<String, Failure> {
    let file = command.iter().find_map(|argument| argument.strip_prefix("--defaults-file="));
    let file = file.ok_or_else(|| Failure::new(format!("no configuration in {command:?}")))?;
    let text = std::fs::read_to_string(file)?;
    let value =
        |line: &str| line.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    let socket = text.lines().filter_map(value).find(|(name, _)| name == "socket").map(|(_, value)| value);
    socket.ok_or_else(|| Failure::new(format!("no socket in {file}")))
}
