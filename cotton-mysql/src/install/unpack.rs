//! Unpacks a tar archive below one directory, whatever is in it.
//!
//! Nothing is ever made through a link, no name and no link leads outside, and nothing but files, directories and links is
//! made. What a link may say: first `..` as often as there are directories above it, then names. Those directories are real
//! ones, so wherever a chain of such links leads, it stays inside. An archive that wants anything else is refused as a
//! whole.

use super::{InstallError, Limits};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tar::{Entry, EntryType};

const BUFFER_BYTES: usize = 128 * 1024;

/// Set when nobody waits any more.
pub(super) type GivenUp = Arc<AtomicBool>;

/// Unpacks a decoded archive into `tree`, which must be empty.
pub(super) fn unpack(
    archive: Box<dyn Read>,
    source_name: &str,
    tree: &Path,
    limits: &Limits,
    given_up: &GivenUp,
) -> Result<(), InstallError> {
    let damaged = |source| InstallError::Damaged { source_name: source_name.to_owned(), source };
    let too_large = |what| InstallError::TooLarge { source_name: source_name.to_owned(), what };
    let mut unpacker = Unpacker { source_name, tree, given_up, left: limits.unpacked_bytes };
    let mut archive = tar::Archive::new(Bounded { inner: archive, left: limits.unpacked_bytes, given_up });
    let damage = |error: io::Error| {
        if given_up.load(Ordering::Relaxed) {
            InstallError::GivenUp
        } else if error.kind() == io::ErrorKind::FileTooLarge {
            too_large(format!("unpacks to more than {} bytes", limits.unpacked_bytes))
        } else {
            damaged(error)
        }
    };
    let mut count = 0;
    for entry in archive.entries().map_err(damage)? {
        let mut entry = entry.map_err(damage)?;
        count += 1;
        if count > limits.entries {
            return Err(too_large(format!("has more than {} entries", limits.entries)));
        }
        unpacker.entry(&mut entry, &damage)?;
    }
    if count == 0 {
        return Err(damaged(io::Error::new(io::ErrorKind::UnexpectedEof, "there is nothing in it")));
    }
    // the checksums of compressed archives come last
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damage)?;
    Ok(())
}

struct Unpacker<'a> {
    source_name: &'a str,
    tree: &'a Path,
    given_up: &'a GivenUp,
    /// Bytes that may still be written: holes in files are no bytes of the archive.
    left: u64,
}

impl Unpacker<'_> {
    fn entry<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        damage: &dyn Fn(io::Error) -> InstallError,
    ) -> Result<(), InstallError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(()); // of git and the like: says nothing that we need
        }
        let name = entry.path().map_err(damage)?.into_owned();
        let shown = name.display().to_string();
        let refuse =
            |reason| InstallError::Unsafe { source_name: self.source_name.to_owned(), entry: shown.clone(), reason };
        let below = inside(&name).ok_or_else(|| refuse("its name leads out of the archive"))?;
        let path = self.tree.join(&below);
        if below.as_os_str().is_empty() {
            return if kind.is_dir() { Ok(()) } else { Err(refuse("it has no name")) };
        }
        self.parents(&below, &refuse)?;
        if kind.is_dir() {
            return directory(&path, &refuse);
        }
        match fs::symlink_metadata(&path) {
            Ok(old) if old.is_dir() => return Err(refuse("it would replace a directory")),
            Ok(_) => fs::remove_file(&path).map_err(|error| InstallError::file("remove", &path, error))?,
            Err(_) => {}
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these are made, whatever else there may be")]
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(entry, &path, damage),
            EntryType::Symlink => {
                let target = entry.link_name().map_err(damage)?.unwrap_or_default();
                if !stays_inside(&below, &target) {
                    return Err(refuse("it is a link that leads, or could lead, out of the archive"));
                }
                symlink(&target, &path).map_err(|error| InstallError::file("make the link", &path, error))
            }
            EntryType::Link => {
                let target = entry.link_name().map_err(damage)?.unwrap_or_default();
                let target = inside(&target).ok_or_else(|| refuse("it is a link that leads out of the archive"))?;
                self.parents(&target, &refuse)?;
                let target = self.tree.join(target);
                if !fs::symlink_metadata(&target).is_ok_and(|meta| meta.is_file()) {
                    return Err(refuse("it is a hard link to something that is no file before it"));
                }
                fs::hard_link(&target, &path).map_err(|error| InstallError::file("make the link", &path, error))
            }
            _ => Err(refuse("it is a device, a pipe or something else that no server needs")),
        }
    }

    /// Makes the directories above an entry; none of them may be a link.
    fn parents(&self, below: &Path, refuse: &dyn Fn(&'static str) -> InstallError) -> Result<(), InstallError> {
        let mut dir = self.tree.to_owned();
        for part in below.parent().into_iter().flat_map(Path::components) {
            dir.push(part);
            directory(&dir, refuse)?;
        }
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: &Path,
        damage: &dyn Fn(io::Error) -> InstallError,
    ) -> Result<(), InstallError> {
        let failed = |error| InstallError::file("write", path, error);
        let wanted = entry.header().mode().map_err(damage)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let (mut buffer, mut left) = (vec![0; BUFFER_BYTES], entry.size());
        loop {
            let read = entry.read(&mut buffer).map_err(damage)?;
            if read == 0 {
                break;
            }
            if self.given_up.load(Ordering::Relaxed) {
                return Err(InstallError::GivenUp);
            }
            self.left = self.left.checked_sub(read as u64).ok_or_else(|| damage(io::ErrorKind::FileTooLarge.into()))?;
            file.write_all(&buffer[..read]).map_err(failed)?;
            left = left.saturating_sub(read as u64);
        }
        if left > 0 {
            return Err(damage(io::ErrorKind::UnexpectedEof.into()));
        }
        // programs stay programs; all may read, since the server may run as another user; no more than that
        mode(path, (wanted & 0o755) | 0o444).map_err(failed)
    }
}

/// For all to enter: the server may run as another user than we do.
fn directory(path: &Path, refuse: &dyn Fn(&'static str) -> InstallError) -> Result<(), InstallError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(refuse("it would be made through a link or a file")),
        Err(_) => {
            let made = fs::create_dir(path).and_then(|()| mode(path, 0o755));
            made.map_err(|error| InstallError::file("create", path, error))
        }
    }
}

fn mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The path without `.`; `None` when it is absolute or goes up anywhere.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut below = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(below)
}

/// Whether a link there may have this target.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut above = link.components().count().saturating_sub(1);
    let mut down = false;
    let fits = target.components().all(|part| match part {
        Component::Normal(_) => {
            down = true;
            true
        }
        Component::CurDir => true,
        Component::ParentDir if !down && above > 0 => {
            above -= 1;
            true
        }
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => false,
    });
    fits && !target.as_os_str().is_empty()
}

/// So much and no more.
struct Bounded<'a> {
    inner: Box<dyn Read>,
    left: u64,
    given_up: &'a GivenUp,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(io::Error::other("given up"));
        }
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
