//! Who we are to Mesos: a YAML file with `principal` and `secret`, as Apache Cotton had it.

use crate::trust::{self, ExposedSecret};
use secrecy::SecretString;
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A principal and its secret. `Debug` does not show the secret.
#[derive(Clone, Debug)]
pub struct FrameworkCredentials {
    /// The name.
    pub principal: String,
    /// The secret.
    pub secret: SecretString,
}

/// Why there are no credentials. Never quotes the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("could not read '{path}': {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error(transparent)]
    Exposed(#[from] ExposedSecret),
    /// Something else is in it.
    #[error("'{0}' must be YAML with the two keys 'principal' and 'secret'")]
    Shape(PathBuf),
}

impl FrameworkCredentials {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or others can read it, is larger than 64 KiB, or does not hold both.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        #[derive(Deserialize)]
        struct File {
            principal: String,
            secret: SecretString,
        }
        let failed = |source| CredentialsError::File { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(CredentialsError::Shape(path.to_owned()));
        }
        trust::secret_file(path).map_err(failed)??;
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let file: File = serde_saphyr::from_str(&text).map_err(|_| CredentialsError::Shape(path.to_owned()))?;
        if file.principal.is_empty() {
            return Err(CredentialsError::Shape(path.to_owned()));
        }
        Ok(Self { principal: file.principal, secret: file.secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn both_or_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("auth.yml");
        let load = |text: &str| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
            FrameworkCredentials::load(&path).map(|c| (c.principal, c.secret.expose_secret().to_owned()))
        };
        let cotton = || ("cotton".to_owned(), "s3cret".to_owned());
        assert_eq!(load("principal: cotton\nsecret: s3cret\n").expect("well formed"), cotton());
        assert_eq!(load("---\n'secret': \"s3cret\"\n'principal': cotton\nmore: 1\n").expect("well formed"), cotton());
        for text in
            ["", "principal: cotton\n", "secret: s3cret\n", "- a\n- b\n", "principal: ''\nsecret: s3cret\n", "\0"]
        {
            let error = load(text).expect_err(text).to_string();
            assert!(error.contains("must be YAML with the two keys") && !error.contains("s3cret"), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).expect("it is ours");
        let exposed = FrameworkCredentials::load(&path).expect_err("others can read it").to_string();
        assert!(exposed.contains("chmod 600"), "{exposed}");
        let missing = FrameworkCredentials::load(&dir.path().join("none")).expect_err("missing").to_string();
        assert!(missing.starts_with("could not read '") && missing.contains("none"), "{missing}");
    }
}
