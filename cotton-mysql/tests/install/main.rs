//! Servers out of archives: from files and web servers, good and bad ones, and that they run.

#[path = "../servers/support.rs"]
mod support;

mod servers;
mod site;
mod sources;

use cotton_mysql::Error;
use cotton_mysql::install::{FromArchive, Installed, Installer, Limits};
use std::path::{Path, PathBuf};

/// Where archives are installed, in a directory of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(support::directory())
    }

    fn server(&self) -> PathBuf {
        self.0.path().join("server")
    }

    fn installer(&self, arguments: &str, limits: Limits) -> FromArchive {
        FromArchive::new(arguments.parse().expect("a form that is known"), self.server(), limits)
    }

    async fn install(&self, arguments: &str, limits: Limits) -> Result<Installed, Error> {
        self.installer(arguments, limits).install().await
    }

    /// Tries it in vain; nothing of it is left, and the error is in the text.
    async fn refused(&self, arguments: &str, limits: Limits) -> Error {
        let error = self.install(arguments, limits).await.expect_err(arguments);
        assert_eq!(self.left(), Vec::<PathBuf>::new(), "{error}");
        error
    }

    /// What is there.
    fn left(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.0.path()).expect("it is there").flatten().map(|entry| entry.path()).collect()
    }
}

/// The checksum, as `sha256sum` computes it.
fn sha256(file: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output().expect("sha256sum runs");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout[..64]).into_owned()
}

/// A small archive with something that looks like a server, packed by the system's tar. Its directory is `name`.
fn small(dir: &Path, name: &str, option: &str) -> PathBuf {
    let bin = dir.join(name).join("bin");
    std::fs::create_dir_all(&bin).expect("directories");
    std::fs::write(bin.join("mysqld"), name.repeat(10_000)).expect("a file");
    let archive = dir.join(format!("{name}.tar"));
    tar(&[option, "-cf"], &archive, dir, name);
    archive
}

fn tar(options: &[&str], archive: &Path, dir: &Path, what: &str) {
    let mut command = std::process::Command::new("tar");
    command.args(options.iter().filter(|option| !option.is_empty())).arg(archive).arg("-C").arg(dir).arg(what);
    assert!(command.status().expect("tar runs").success());
}
