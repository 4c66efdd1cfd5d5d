//! Passwords of clusters that were made from here, each in a file that only its owner can read, so that `delete` and
//! `mysql` need not ask: `~/.config/cotton/passwords/<scheduler>/<cluster>`. A scheduler is known by its Mesos framework,
//! whatever address it answers at; those of earlier versions by their address. Anybody can say that he is a certain
//! framework, so a password is sent to an address only if it was before, or given by hand: the address is the one that
//! `cotton local` wrote down, the cluster was made there, or `--password-file` named its password there once.

use super::client::Client;
use super::{CliError, places};
use crate::atomic_file;
use secrecy::{ExposeSecret, SecretString};
use std::io;
use std::path::{Path, PathBuf};

/// The passwords of one scheduler's clusters.
#[derive(Debug)]
pub(super) struct Passwords {
    dir: PathBuf,
    /// Where earlier versions kept them.
    by_address: PathBuf,
    url: String,
    /// The user said by no word where the scheduler is: its own machine did.
    is_own: bool,
}

impl Passwords {
    /// Of the scheduler that answers.
    pub(super) async fn of(client: &Client) -> Result<Self, CliError> {
        let framework = match client.get("/api/v1").await {
            Ok(answer) => answer["framework"].as_str().map(str::to_owned),
            Err(CliError::Refused { .. }) => None, // of an earlier version
            Err(error) => return Err(error),
        };
        let passwords = Self::at(&places::config_dir().join("passwords"), framework.as_deref(), client.url());
        Ok(Self { is_own: client.is_own(), ..passwords })
    }

    fn at(root: &Path, framework: Option<&str>, url: &str) -> Self {
        let server = url.split_once("://").map_or(url, |(_, rest)| rest);
        let by_address = root.join(file_name(server));
        let dir = framework.map_or_else(|| by_address.clone(), |id| root.join(format!("framework-{}", file_name(id))));
        Self { dir, by_address, url: url.to_owned(), is_own: false }
    }

    /// Whether the password of that cluster can be sent there.
    fn is_known(&self, cluster: &str) -> bool {
        self.is_own || self.dir == self.by_address || self.addresses(cluster).lines().any(|line| line == self.url)
    }

    fn addresses(&self, cluster: &str) -> String {
        std::fs::read_to_string(self.dir.join(addresses(cluster))).unwrap_or_default()
    }

    /// The user trusts the scheduler at this address with that password.
    fn remember_address(&self, cluster: &str) -> io::Result<()> {
        if self.is_known(cluster) {
            return Ok(());
        }
        let known = format!("{}{}\n", self.addresses(cluster), self.url);
        atomic_file::prepare(&self.dir)?;
        atomic_file::replace(&self.dir, &addresses(cluster), known.as_bytes())
    }

    /// Where the password of a cluster is kept.
    pub(super) fn path(&self, cluster: &str) -> PathBuf {
        self.dir.join(cluster)
    }

    /// Keeps a password before it is used, in case that we end before we hear the answer.
    pub(super) fn keep_pending(&self, cluster: &str, password: &SecretString) -> io::Result<()> {
        self.remember_address(cluster)?;
        atomic_file::prepare(&self.dir)?;
        atomic_file::replace(&self.dir, &pending(cluster), line(password).as_bytes())
    }

    /// A password that was kept for a change of which nobody knows how it ended.
    pub(super) fn pending(&self, cluster: &str) -> Option<SecretString> {
        if !self.is_known(cluster) {
            return None; // it is not this one's
        }
        read(&self.dir.join(pending(cluster))).ok()
    }

    /// The password is in force.
    pub(super) fn confirm(&self, cluster: &str) -> io::Result<PathBuf> {
        atomic_file::rename(&self.dir, &pending(cluster), cluster)?;
        Ok(self.path(cluster))
    }

    /// The password is not in force.
    pub(super) fn discard_pending(&self, cluster: &str) {
        let _ = atomic_file::remove(&self.dir, &pending(cluster)); // a file too many does no harm
    }

    /// The cluster is gone.
    pub(super) fn forget(&self, cluster: &str) {
        let _ = atomic_file::remove(&self.dir, &addresses(cluster));
        let _ = atomic_file::remove(&self.dir, cluster); // it may have been made elsewhere
        let _ = atomic_file::remove(&self.by_address, cluster); // or now
    }

    /// The password to use: from the file that the user named, or the one that was kept.
    pub(super) fn find(&self, cluster: &str, named: Option<&Path>) -> Result<SecretString, CliError> {
        if let Some(path) = named {
            let password = read(path).map_err(|error| {
                CliError::NoPassword(format!("could not read password file '{}': {error}", path.display()))
            })?;
            self.remember_address(cluster)
                .map_err(|error| CliError::failed("could not note the server's address", error))?;
            return Ok(password);
        }
        if !self.is_known(cluster)
            && [self.path(cluster), self.dir.join(pending(cluster))].iter().any(|path| path.exists())
        {
            let (url, kept) = (&self.url, self.path(cluster));
            return Err(CliError::NoPassword(format!(
                "the server at {url} says that it is the one that made cluster '{cluster}', but it was never used at that \
                 address, and gets no password unasked: if you trust it, say so once with --password-file {}",
                kept.display()
            )));
        }
        let kept = [&self.dir, &self.by_address].map(|dir| [dir.join(cluster), dir.join(pending(cluster))]);
        kept.into_iter().flatten().find_map(|path| read(&path).ok()).ok_or_else(|| {
            CliError::NoPassword(format!(
                "the password of cluster '{cluster}' is not known here ('{}' cannot be read): give it with --password-file",
                self.path(cluster).display()
            ))
        })
    }
}

/// Reads a password from a file (`-` is standard input); the end of the line is not part of it.
pub(super) fn read(path: &Path) -> io::Result<SecretString> {
    let text = if path == Path::new("-") { io::read_to_string(io::stdin())? } else { std::fs::read_to_string(path)? };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(SecretString::from(text.strip_suffix('\r').unwrap_or(text)))
}

fn file_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect()
}

fn pending(cluster: &str) -> String {
    format!("{cluster}.new") // cluster names have no dots
}

fn addresses(cluster: &str) -> String {
    format!("{cluster}.at")
}

fn line(password: &SecretString) -> String {
    format!("{}\n", password.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_pending_to_forgotten() {
        let root = tempfile::tempdir().expect("a directory");
        let passwords = Passwords::at(&root.path().join("passwords"), Some("f"), "http://h:1");
        assert_eq!(passwords.find("a", None).expect_err("none").status(), 5);
        passwords.keep_pending("a", &"x y".into()).expect("kept");
        assert_eq!(passwords.find("a", None).expect("pending").expose_secret(), "x y");
        assert_eq!(passwords.pending("a").expect("pending").expose_secret(), "x y");
        let path = passwords.confirm("a").expect("kept");
        assert_eq!(read(&path).expect("kept").expose_secret(), "x y");
        passwords.keep_pending("a", &"other".into()).expect("kept");
        passwords.discard_pending("a");
        assert_eq!(
            passwords.find("a", None).expect("kept").expose_secret(),
            "x y",
            "a refused creation changes nothing"
        );
        passwords.forget("a");
        assert!(passwords.find("a", None).is_err());
        assert!(passwords.find("a", Some(&root.path().join("none"))).is_err());
    }

    #[test]
    fn a_scheduler_is_the_same_at_whatever_address() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |framework, url| Passwords::at(root.path(), framework, url);
        assert_ne!(at(Some("f"), "http://127.0.0.1:8765").dir, at(Some("g"), "http://127.0.0.1:8765").dir);
        // one that was kept by address is found, until another takes its place
        let older = at(None, "http://127.0.0.1:8765");
        assert!(older.dir.ends_with("127.0.0.1_8765"));
        older.keep_pending("a", &"old".into()).expect("kept");
        older.confirm("a").expect("kept");
        let now = at(Some("local-1/2"), "http://127.0.0.1:8765");
        assert_eq!(now.find("a", None).expect("kept").expose_secret(), "old");
        now.keep_pending("a", &"new".into()).expect("kept");
        now.confirm("a").expect("kept");
        let elsewhere = at(Some("local-1/2"), "http://localhost:9000");
        let refused = elsewhere.find("a", None).expect_err("anybody can say so").to_string();
        assert!(refused.contains("http://localhost:9000") && refused.contains("--password-file"), "{refused}");
        let own = Passwords { is_own: true, ..at(Some("local-1/2"), "http://localhost:9001") };
        assert_eq!(own.find("a", None).expect("kept").expose_secret(), "new");
        assert_eq!(elsewhere.find("a", Some(&now.path("a"))).expect("named").expose_secret(), "new");
        assert_eq!(elsewhere.find("a", None).expect("it was used there").expose_secret(), "new");
        let third = at(Some("local-1/2"), "http://localhost:9002");
        assert!(third.find("a", None).is_err(), "that was for one address");
        now.forget("a");
        assert!(now.find("a", None).is_err() && older.find("a", None).is_err());
    }
}
