//! The account of those who run the agents: a YAML file with `username` and `password`, as Apache Cotton had it.

use crate::trust::{self, ExposedSecret};
use cotton_mysql::Administrator;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no account. Never quotes the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdministratorError {
    /// The file cannot be read.
    #[error("the administrator's account (--admin_keypath) in '{path}' cannot be read by the executor: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the administrator's account (--admin_keypath) {0}")]
    Exposed(ExposedSecret),
    /// Something else is in it.
    #[error("'{0}' (--admin_keypath) must be YAML with the two keys 'username' and 'password', neither of them empty")]
    Shape(PathBuf),
}

/// Reads the file; `None` when there is none on this agent.
///
/// # Errors
/// When it cannot be read or others can read it, is larger than 64 KiB, or does not hold both.
pub fn load(path: &Path) -> Result<Option<Administrator>, AdministratorError> {
    #[derive(Deserialize)]
    struct File {
        username: String,
        password: SecretString,
    }
    let failed = |source| AdministratorError::File { path: path.to_owned(), source };
    let shape = || AdministratorError::Shape(path.to_owned());
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(shape()),
        Ok(_) => trust::secret_file(path).map_err(failed)?.map_err(AdministratorError::Exposed)?,
    }
    let text = SecretString::from(std::fs::read_to_string(path).map_err(failed)?);
    let file: File = serde_saphyr::from_str(text.expose_secret()).map_err(|_| shape())?;
    if file.username.is_empty() || file.password.expose_secret().is_empty() {
        return Err(shape());
    }
    Ok(Some(Administrator { user: file.username, password: file.password }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn both_or_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin.yml");
        assert!(load(&path).expect("none is fine").is_none());
        let load = |text: &str| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
            load(&path).map(|account| account.expect("a file is there"))
        };
        let account = load("username: dba\npassword: 's3cret'\n").expect("well formed");
        assert_eq!((account.user.as_str(), account.password.expose_secret()), ("dba", "s3cret"));
        assert!(!format!("{account:?}").contains("s3cret"));
        for text in ["", "username: dba\n", "password: s3cret\n", "username: ''\npassword: s3cret\n", "- s3cret\n"] {
            let error = load(text).expect_err(text).to_string();
            assert!(error.contains("must be YAML with the two keys") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn nobody_else_may_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin.yml");
        std::fs::write(&path, "username: dba\npassword: s3cret\n").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
        let error = load(&path).expect_err("others can read it").to_string();
        assert!(error.contains("chmod 600") && error.contains("--admin_keypath"), "{error}");
    }
}
