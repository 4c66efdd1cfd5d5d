//! Opening the mysql client on the primary. The password goes through a file that only we can read, never through
//! arguments, which every user of the machine can see.

use super::answers::{Cluster, Endpoint};
use super::client::Client;
use super::passwords::Passwords;
use super::{CliError, Waiting, wait};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Mysql {
    /// Name of the cluster
    name: String,
    /// File with the password of the cluster's user, or - for standard input [default: as kept by 'create']
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Open it on this member instead of the primary
    #[arg(long, value_name = "NUMBER")]
    member: Option<u64>,
    #[command(flatten)]
    waiting: Waiting,
    /// Arguments of the client, after --
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

pub(super) async fn open(client: &Client, mysql: Mysql) -> Result<(), CliError> {
    let cluster = if mysql.waiting.wait {
        wait::until_writable(client, &mysql.name, mysql.waiting.timeout).await?
    } else {
        client.cluster(&mysql.name).await?
    };
    let endpoint = endpoint(&cluster, mysql.member)?;
    let password = Passwords::of(client).await?.find(&mysql.name, mysql.password_file.as_deref())?;
    let program = program(&cluster).ok_or_else(|| {
        CliError::Failed("no mysql client is installed: on Debian, apt-get install mariadb-client-core".to_owned())
    })?;
    let options = Options::write(&cluster.user, &password, &endpoint);
    let options = options.map_err(|error| CliError::failed("could not write the client's options", error))?;
    let mut child = tokio::process::Command::new(&program)
        .arg(format!("--defaults-extra-file={}", options.path.display())) // only understood as the first one
        .args(&mysql.arguments)
        .spawn()
        .map_err(|error| CliError::failed(&format!("could not start '{}'", program.display()), error))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            _ = tokio::signal::ctrl_c() => {} // is the client's: we stay to clean up
        }
    };
    drop(options);
    let status = status.map_err(|error| CliError::failed("could not wait for the client", error))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(CliError::Client(u8::try_from(code).unwrap_or(1))),
        None => Err(CliError::Client(u8::try_from(128 + status.signal().unwrap_or(0)).unwrap_or(1))),
    }
}

fn endpoint(cluster: &Cluster, member: Option<u64>) -> Result<Endpoint, CliError> {
    let name = &cluster.name;
    match member {
        None => cluster.endpoint.clone().ok_or_else(|| {
            let why = if cluster.reasons.is_empty() { cluster.status.clone() } else { cluster.why() };
            CliError::Failed(format!("cluster '{name}' has no writable primary now ({why}): try --wait"))
        }),
        Some(id) => {
            cluster.members.iter().find(|member| member.id == id).map(|member| member.endpoint.clone()).ok_or_else(
                || {
                    let ids: Vec<_> = cluster.members.iter().map(|member| member.id.to_string()).collect();
                    CliError::Failed(format!("cluster '{name}' has no member {id}: there are {}", ids.join(", ")))
                },
            )
        }
    }
}

/// The client of the server's own family first; the other one serves, too.
fn program(cluster: &Cluster) -> Option<PathBuf> {
    let oracle = cluster.members.iter().any(|member| {
        !member.server_version.is_empty() && !member.server_version.to_ascii_lowercase().contains("mariadb")
    });
    let names = if oracle { ["mysql", "mariadb"] } else { ["mariadb", "mysql"] };
    let path = std::env::var_os("PATH")?;
    let found = |name: &&str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    names.iter().find_map(found)
}

/// An option file that is removed when it is no longer needed.
struct Options {
    path: PathBuf,
}

impl Options {
    fn write(user: &str, password: &SecretString, endpoint: &Endpoint) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| io::Error::other("the operating system gives no random numbers"))?;
        let path = std::env::temp_dir().join(format!("cotton-client-{:016x}.cnf", u64::from_le_bytes(random)));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let options = Self { path }; // from here on it is removed, whatever happens
        file.write_all(content(user, password, endpoint).as_bytes())?;
        Ok(options)
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(Path::new(&self.path)); // nothing more can be done
    }
}

/// Passwords have no quotes and no backslashes, so that quoting is simple.
fn content(user: &str, password: &SecretString, endpoint: &Endpoint) -> String {
    let Endpoint { host, port } = endpoint;
    let password = password.expose_secret();
    format!("[client]\nprotocol=tcp\nhost={host}\nport={port}\nuser={user}\npassword=\"{password}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn options_are_ours_alone_and_do_not_stay() {
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 3306 };
        let options = Options::write("jane", &"p #;=".into(), &endpoint).expect("written");
        let path = options.path.clone();
        assert_eq!(path.metadata().expect("is there").permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("is there");
        assert_eq!(text, "[client]\nprotocol=tcp\nhost=127.0.0.1\nport=3306\nuser=jane\npassword=\"p #;=\"\n");
        drop(options);
        assert!(!path.exists());
    }
}
