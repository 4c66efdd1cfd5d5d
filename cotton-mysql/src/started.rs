//! Whether a start finds all that the process before it had received or executed.
//!
//! What is executed is durable. What is only received is in relay logs, which survive the end of the process in whatever
//! way, but not a crash of the machine: they are not written through for each transaction. So a note beside the data says
//! in which life of the machine the server was started last, or that it ended and its relay logs are on disk.

use crate::Error;
use crate::dirs::{Dirs, sync_dir};
use std::fs;
use std::io;

const ENDED: &str = "ended";

/// Whether the relay logs that are there are all that the last process left; asked before a start.
pub(crate) fn is_kept(dirs: &Dirs) -> Result<bool, Error> {
    let path = dirs.last_start();
    let known = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::file("read", path, error)),
    };
    Ok(known.trim() == ENDED || known.trim() == life()?)
}

/// Notes that a process runs, before it may receive anything. One that did not get so far leaves things as they were.
pub(crate) fn begin(dirs: &Dirs) -> Result<(), Error> {
    note(dirs, &life()?)
}

/// Notes that new data has no past.
pub(crate) fn anew(dirs: &Dirs) -> Result<(), Error> {
    note(dirs, ENDED)
}

/// The present life of the machine.
fn life() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
    Ok(text.trim().to_owned())
}

/// Notes that no process runs and nothing of the last one's can get lost any more.
pub(crate) fn end(dirs: &Dirs) -> Result<(), Error> {
    let data = dirs.data();
    let sync = || -> io::Result<()> {
        for entry in fs::read_dir(&data)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("relay")) {
                fs::File::open(entry.path())?.sync_all()?;
            }
        }
        sync_dir(&data)
    };
    sync().map_err(|e| Error::file("make durable", &data, e))?;
    note(dirs, ENDED)
}

fn note(dirs: &Dirs, text: &str) -> Result<(), Error> {
    let path = dirs.last_start();
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("new");
        fs::write(&temporary, text)?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_dir(&dirs.root)
    };
    write().map_err(|e| Error::file("write", &path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunAs;

    #[test]
    fn relay_logs_survive_the_process_and_not_the_machine() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dirs = Dirs::new(root.path(), RunAs::default());
        fs::create_dir(dirs.data()).expect("made");
        let is_kept = || is_kept(&dirs).expect("read");
        assert!(!is_kept(), "nothing is known of the process before");
        begin(&dirs).expect("noted");
        assert!(is_kept(), "the process crashed");
        note(&dirs, "another life").expect("noted");
        assert!(!is_kept(), "the machine crashed");
        assert!(!is_kept(), "a start that failed changes nothing");
        end(&dirs).expect("noted");
        assert!(is_kept(), "it had ended before the machine did");
    }
}
