//! Which account of the machine a server runs as where executors are root: one for each cluster, so that no server reaches
//! the files of another cluster's.
//!
//! A directory with data keeps the account that it has. Others get one by the cluster's number, which is durable and the
//! same for all its members. In a user namespace that has no such accounts, all servers share one.

use cotton_mysql::RunAs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// First account; above those of people, of services, and of the ranges that containers usually have.
const FIRST: u32 = 1_900_000_000;
/// How many there are before they are used again.
const COUNT: u64 = 100_000_000;

/// The account for a server of that cluster whose files are below `root`.
pub(crate) fn of(number: u64, root: &Path) -> RunAs {
    if let Ok(data) = std::fs::metadata(root.join("data"))
        && data.uid() != 0
        && data.gid() != 0
    {
        return RunAs { uid: data.uid(), gid: data.gid() };
    }
    let id = FIRST + u32::try_from(number % COUNT).unwrap_or_default();
    let has = |map: &str| std::fs::read_to_string(map).is_ok_and(|text| maps(&text, id));
    if has("/proc/self/uid_map") && has("/proc/self/gid_map") { RunAs { uid: id, gid: id } } else { RunAs::default() }
}

/// Whether a namespace has that account, by the text of its map: first inside, first outside, how many.
fn maps(text: &str, id: u32) -> bool {
    text.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        let (Some(first), Some(count)) = (first, count) else { return false };
        (first..first.saturating_add(count)).contains(&u64::from(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_have_accounts_of_their_own_where_there_are_some() {
        let root = tempfile::tempdir().expect("a directory");
        let of = |number| of(number, root.path());
        if std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|text| maps(&text, FIRST)) {
            assert_ne!(of(1), of(2));
            assert_eq!(of(1), of(1));
            assert_eq!(of(0), of(COUNT));
        }
        assert!(of(7).uid != 0 && of(7).gid != 0);
        assert!(maps("         0          0 4294967295\n", FIRST));
        assert!(!maps("         0     100000      65536\n", FIRST));
        assert!(!maps("", FIRST) && !maps("0 1", 0));
    }
}
