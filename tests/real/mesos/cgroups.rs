//! Control groups, version 1: whether there are any, and what agents leave of theirs.

use std::path::Path;
use std::time::{Duration, Instant};

const ALL: &str = "/sys/fs/cgroup";
/// Those that an agent needs to confine cpus and memory.
const NEEDED: [&str; 4] = ["cpu", "cpuacct", "freezer", "memory"];
/// A group stays busy for a moment after its last process has ended.
const BUSY: Duration = Duration::from_secs(5);

/// Whether agents can use them.
pub(super) fn are_there() -> bool {
    NEEDED.iter().all(|name| Path::new(ALL).join(name).join("tasks").is_file())
}

/// Removes a group, and those below it, everywhere. All its processes must have ended.
pub(super) fn remove(name: &str) {
    for hierarchy in std::fs::read_dir(ALL).into_iter().flatten().flatten() {
        remove_below(&hierarchy.path().join(name));
    }
}

fn remove_below(group: &Path) {
    if !group.is_dir() {
        return;
    }
    for below in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&below.path());
        }
    }
    let start = Instant::now();
    while std::fs::remove_dir(group).is_err() && group.is_dir() && start.elapsed() < BUSY {
        std::thread::sleep(Duration::from_millis(10)); // it tells nobody when it is free
    }
}
