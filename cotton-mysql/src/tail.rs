//! Transactions that a member gives up are kept beside its data, for a person: the newest few, with the member's sandbox
//! or volume.

use crate::Error;
use crate::dirs::Dirs;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How many are kept.
const KEPT: usize = 3;

/// A new directory for logs of that data directory.
pub(crate) fn place(data: &Path) -> Result<PathBuf, Error> {
    let tails = data.with_file_name("tails");
    fs::create_dir_all(&tails).map_err(|e| Error::file("create", &tails, e))?;
    let place = tails.join((numbers(&tails)?.last().copied().unwrap_or_default() + 1).to_string());
    fs::create_dir(&place).map_err(|e| Error::file("create", &place, e))?;
    Ok(place)
}

/// Removes all but the newest few, once the newest is known to hold something.
pub(crate) fn prune(place: &Path) {
    let Some(tails) = place.parent() else { return };
    for old in numbers(tails).unwrap_or_default().iter().rev().skip(KEPT) {
        let _ = fs::remove_dir_all(tails.join(old.to_string())); // next time again
    }
}

fn numbers(tails: &Path) -> Result<Vec<u64>, Error> {
    let read = || -> io::Result<Vec<u64>> {
        let names = fs::read_dir(tails)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    };
    read().map_err(|e| Error::file("read", tails, e))
}

/// The end of MariaDB's binary log before a start that may cut it.
#[derive(Debug)]
pub(crate) struct Tail {
    place: PathBuf,
    data: PathBuf,
    /// With their lengths. A copy, since the server shortens the file itself.
    files: Vec<(String, u64)>,
}

impl Tail {
    /// Copies the newest two files: recovery cuts the last one, or the one before if that was just begun.
    pub(crate) fn copy(dirs: &Dirs) -> Result<Self, Error> {
        let data = dirs.data();
        let index = data.join("binlog.index");
        let text = match fs::read_to_string(&index) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|e| Error::file("read", &index, e))?,
        };
        let names: Vec<&str> = text.lines().filter_map(|line| Path::new(line.trim()).file_name()?.to_str()).collect();
        let place = place(&data)?;
        let mut files = Vec::new();
        for name in names.iter().rev().take(2) {
            let from = data.join(name);
            let bytes = fs::copy(&from, place.join(name)).map_err(|e| Error::file("copy", from, e))?;
            files.push(((*name).to_owned(), bytes));
        }
        Ok(Self { place, data, files })
    }

    /// After the start: gives where the copies are if something was cut, else removes them.
    pub(crate) fn settle(self) -> Option<PathBuf> {
        let is_whole =
            |(name, bytes): &(String, u64)| fs::metadata(self.data.join(name)).is_ok_and(|meta| meta.len() >= *bytes);
        if self.files.iter().all(is_whole) {
            let _ = fs::remove_dir_all(&self.place); // it goes with the next ones
            return None;
        }
        prune(&self.place);
        Some(self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunAs;

    #[test]
    fn the_newest_are_kept_and_none_goes_for_one_that_is_empty() {
        let root = tempfile::tempdir().expect("temporary directory");
        let data = root.path().join("data");
        let places: Vec<PathBuf> = (0..5).map(|_| place(&data).expect("made")).collect();
        let there = || places.iter().map(|place| place.exists()).collect::<Vec<_>>();
        assert_eq!(there(), [true; 5]);
        prune(&places[4]);
        assert_eq!(there(), [false, false, true, true, true]);
    }

    #[test]
    fn what_was_cut_is_kept() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dirs = Dirs::new(root.path(), RunAs::default());
        fs::create_dir(dirs.data()).expect("made");
        fs::write(dirs.data().join("binlog.index"), "./binlog.000001\n./binlog.000002\n").expect("written");
        for name in ["binlog.000001", "binlog.000002"] {
            fs::write(dirs.data().join(name), name).expect("written");
        }
        assert_eq!(Tail::copy(&dirs).expect("copied").settle(), None, "nothing was cut");
        let tail = Tail::copy(&dirs).expect("copied");
        fs::write(dirs.data().join("binlog.000002"), "bin").expect("cut");
        let kept = tail.settle().expect("it was cut");
        assert_eq!(fs::read_to_string(kept.join("binlog.000002")).expect("kept"), "binlog.000002");
    }
}
