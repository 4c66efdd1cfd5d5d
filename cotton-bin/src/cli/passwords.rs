//! Passwords of clusters that were made from here, each in a file that only its owner can read, so that `delete` and
//! `mysql` need not ask: `~/.config/cotton/passwords/<server>/<cluster>`.

use super::{CliError, places};
use crate::atomic_file;
use secrecy::{ExposeSecret, SecretString};
use std::io;
use std::path::{Path, PathBuf};

/// The passwords of one server's clusters.
#[derive(Debug)]
pub(super) struct Passwords {
    dir: PathBuf,
}

impl Passwords {
    /// Of the server at this address.
    pub(super) fn of(url: &str) -> Self {
        let server = url.split_once("://").map_or(url, |(_, rest)| rest);
        let server: String =
            server.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
        Self { dir: places::config_dir().join("passwords").join(server) }
    }

    /// Where the password of a cluster is kept.
    pub(super) fn path(&self, cluster: &str) -> PathBuf {
        self.dir.join(cluster)
    }

    /// Keeps a password before it is used, in case that we end before we hear the answer.
    pub(super) fn keep_pending(&self, cluster: &str, password: &SecretString) -> io::Result<()> {
        atomic_file::prepare(&self.dir)?;
        atomic_file::replace(&self.dir, &pending(cluster), line(password).as_bytes())
    }

    /// A password that was kept for a creation of which nobody knows how it ended.
    pub(super) fn pending(&self, cluster: &str) -> Option<SecretString> {
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
        let _ = atomic_file::remove(&self.dir, cluster); // it may have been made elsewhere
    }

    /// The password to use: from the file that the user named, or the one that was kept.
    pub(super) fn find(&self, cluster: &str, named: Option<&Path>) -> Result<SecretString, CliError> {
        if let Some(path) = named {
            return read(path).map_err(|error| {
                CliError::NoPassword(format!("could not read password file '{}': {error}", path.display()))
            });
        }
        read(&self.path(cluster)).or_else(|_| read(&self.dir.join(pending(cluster)))).map_err(|_| {
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

fn pending(cluster: &str) -> String {
    format!("{cluster}.new") // cluster names have no dots
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
        let passwords = Passwords { dir: root.path().join("passwords") };
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
    fn servers_have_directories_of_their_own() {
        assert!(Passwords::of("http://127.0.0.1:8765").dir.ends_with("cotton/passwords/127.0.0.1_8765"));
    }
}
