//! Files that are replaced as a whole: after a crash at any point the old or the new content is there, never a mixture.
//!
//! The content is written to a temporary file in the same directory, flushed to the disk, renamed over the old file, and
//! the directory is flushed. What a crash leaves of temporary files is recognised by its name, ignored, and cleaned up.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const TEMPORARY: &str = ".tmp-"; // no record begins with a dot

/// Replaces `dir/name`, mode 0600. When this returns, a crash does not undo it.
///
/// # Errors
/// When it is not certain to be durable; the file then is the old or the new one.
pub fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!("{TEMPORARY}{}-{number}-{name}", std::process::id()));
    let written = write(&temporary, content).and_then(|()| fs::rename(&temporary, dir.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // it may not exist, and the first error is the one that counts
    }
    written?;
    sync(dir)
}

/// Removes `dir/name` for good; removing what is not there succeeds.
///
/// # Errors
/// When it is not certain to be gone.
pub fn remove(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    sync(dir) // also when it was gone: an earlier removal may not have been flushed
}

/// Renames within `dir`, for good.
///
/// # Errors
/// When it is not certain to be renamed.
pub fn rename(dir: &Path, from: &str, to: &str) -> io::Result<()> {
    fs::rename(dir.join(from), dir.join(to))?;
    sync(dir)
}

/// Makes a directory, and those above it, for us alone, and cleans up what a crash left of temporary files.
///
/// # Errors
/// When it cannot be made or read.
pub fn prepare(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if is_temporary(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    dir.parent().map_or(Ok(()), sync)
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn leftovers_are_cleaned_and_only_they() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("a/b");
        prepare(&dir).expect("made");
        replace(&dir, "kept", b"1").expect("written");
        fs::write(dir.join(".tmp-1-2-kept"), "half").expect("written");
        prepare(&dir).expect("cleaned");
        let names: Vec<_> = fs::read_dir(&dir).expect("listed").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, ["kept"]);
        assert_eq!(fs::metadata(dir.join("kept")).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&dir).expect("is there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_content_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("name")).expect("made"); // a rename over a directory fails
        replace(root.path(), "name", b"new").expect_err("is a directory");
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 1);
    }
}
