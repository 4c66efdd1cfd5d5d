//! Whether files and directories belong to whom they should: secrets that nobody else reads, directories that nobody else
//! changes.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const ROOT: u32 = 0;
const STICKY: u32 = 0o1000;

/// Others can read a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{path}' holds a secret and can be used by others (its mode is {mode:04o}): run 'chmod 600 {path}'{}",
    if *shared { ", or with 640 if those in its group need it" } else { "" }
)]
pub struct ExposedSecret {
    /// Which file.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Whether its group may read it.
    pub shared: bool,
}

/// Others can change what is in a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UntrustedDirectory {
    /// It could not be looked at.
    #[error("could not look at '{path}': {source}")]
    Unknown {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else's.
    #[error(
        "'{path}' belongs to user {owner}, who could change what is in it: choose another directory, or run 'chown {us} \
         {path}' after a look at what is there"
    )]
    Owner {
        /// Which.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// As whom we run.
        us: u32,
    },
    /// Open to others.
    #[error(
        "others can write in '{path}' (its mode is {mode:04o}): choose another directory, or run 'chmod go-w {path}' after a \
         look at what is there"
    )]
    Writable {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Whether only its owner can read a file with a secret. Its group may read it, too, if the file is not our own or root's:
/// that is how one file is shared with a service. What is no file, such as a pipe, has been given to us on purpose.
///
/// # Errors
/// When others can; the error says what to do. When it cannot be looked at.
pub fn secret_file(path: &Path) -> io::Result<Result<(), ExposedSecret>> {
    let meta = path.metadata()?;
    if !meta.is_file() {
        return Ok(Ok(()));
    }
    let mode = mode(&meta);
    let us = rustix::process::geteuid().as_raw();
    let shared = meta.uid() == ROOT || meta.uid() != us;
    let allowed = if shared { 0o640 } else { 0o600 };
    if mode & 0o077 & !allowed == 0 {
        return Ok(Ok(()));
    }
    Ok(Err(ExposedSecret { path: path.to_owned(), mode, shared }))
}

/// Whether only we, or root, can put anything into a directory, or put another one into its place.
///
/// # Errors
/// When others can; the error says what to do.
pub fn own_directory(path: &Path) -> Result<(), UntrustedDirectory> {
    let unknown = |path: &Path| {
        let path = path.to_owned();
        move |source| UntrustedDirectory::Unknown { path, source }
    };
    let us = rustix::process::geteuid().as_raw();
    let absolute = std::path::absolute(path).map_err(unknown(path))?;
    let real = absolute.canonicalize().map_err(unknown(&absolute))?;
    // as it is written, for links, and where they lead
    for part in absolute.ancestors().chain(real.ancestors()) {
        let meta = part.symlink_metadata().map_err(unknown(part))?;
        if ![us, ROOT].contains(&meta.uid()) {
            return Err(UntrustedDirectory::Owner { path: part.to_owned(), owner: meta.uid(), us });
        }
        let mode = mode(&meta);
        // a group of administrators may own what is above; what others put beside us does no harm where that bit is set
        let closed = if part == real { mode & 0o022 == 0 } else { mode & 0o002 == 0 || mode & STICKY != 0 };
        if !meta.is_symlink() && !closed {
            return Err(UntrustedDirectory::Writable { path: part.to_owned(), mode });
        }
    }
    Ok(())
}

fn mode(meta: &Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{chown, symlink};

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn secrets_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        std::fs::write(&path, "x").expect("written");
        let check = |mode| {
            set(&path, mode);
            secret_file(&path).expect("is there").map_err(|exposed| exposed.to_string())
        };
        assert_eq!((check(0o600), check(0o400)), (Ok(()), Ok(())));
        for mode in [0o604, 0o602, 0o660, 0o644, 0o666, 0o4601] {
            let said = check(mode).expect_err("others can use it");
            assert!(
                said.contains(&format!("{mode:04o}")) && said.contains(&format!("'chmod 600 {}'", path.display())),
                "{said}"
            );
        }
        assert_eq!(check(0o640).is_ok(), is_root(), "root shares a file with a group, others do not");
        if is_root() {
            chown(&path, Some(65_534), Some(65_534)).expect("we are root");
            assert_eq!(check(0o640), Ok(()));
            assert!(check(0o644).expect_err("others read it").contains("or with 640"));
        }
        assert!(secret_file(Path::new("/dev/null")).expect("is there").is_ok(), "no file");
        assert!(secret_file(&dir.path().join("none")).is_err());
    }

    #[test]
    fn nobody_else_can_change_a_directory() {
        let root = tempfile::tempdir().expect("a directory");
        let (above, dir) = (root.path().join("a"), root.path().join("a/b"));
        std::fs::create_dir_all(&dir).expect("made");
        let check = |path: &Path| own_directory(path).map_err(|error| error.to_string());
        set(&above, 0o755);
        set(&dir, 0o755);
        assert_eq!(check(&dir), Ok(()));
        for mode in [0o775, 0o757, 0o1777] {
            set(&dir, mode);
            let said = check(&dir).expect_err("others can write there");
            assert!(said.contains(&format!("{mode:04o}")) && said.contains("chmod go-w"), "{said}");
        }
        set(&dir, 0o700);
        for (mode, trusted) in [(0o775, true), (0o1777, true), (0o757, false)] {
            set(&above, mode);
            assert_eq!(check(&dir).is_ok(), trusted, "{mode:o} above");
        }
        set(&above, 0o755);
        let link = root.path().join("link");
        symlink(&dir, &link).expect("made");
        assert_eq!(check(&link), Ok(()));
        assert!(check(&root.path().join("none")).expect_err("there is none").starts_with("could not look at"));
        if is_root() {
            std::os::unix::fs::lchown(&link, Some(65_534), None).expect("we are root");
            assert!(check(&link).expect_err("another's link").contains("belongs to user 65534"));
            chown(&dir, Some(65_534), None).expect("we are root");
            assert!(check(&dir).expect_err("another's").contains(&format!("chown 0 {}", dir.display())));
        }
    }
}
