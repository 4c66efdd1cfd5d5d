//! How many files servers and their tools may have open. What we may have ourselves says nothing of that: it is too few for
//! a tool that opens every table at once, or, where a machine knows no limit, so many that old servers take gigabytes
//! of memory to keep account of them.

use std::path::Path;

/// For a server: its connections, and its tables twice, at most.
pub(crate) const SERVER: u64 = 16 * 1024;

/// For a tool, beside the files of a server's data.
pub(crate) const TOOL: u64 = 1024;

/// For a tool that may open everything in a data directory at the same time.
pub(crate) async fn for_all_of(data: &Path) -> u64 {
    let data = data.to_owned();
    let counted = tokio::task::spawn_blocking(move || count(&data));
    TOOL + counted.await.unwrap_or_default()
}

/// So many, or as many as a process here can have.
pub(crate) fn granted(wanted: u64) -> u64 {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    wanted.min(hard.unwrap_or(u64::MAX))
}

/// What to do, if a program says that it could not open all that it needed.
pub(crate) fn advice(said: &str, wanted: u64) -> Option<String> {
    let is_it = said.contains("Too many open files") || said.contains("error number 24") || said.contains("errno: 24");
    let granted = granted(wanted);
    is_it.then(|| {
        format!(
            "it may have {granted} files open and needs about {wanted}: raise the hard limit of the executor's open files \
             (LimitNOFILE= in the service of the agent, or 'ulimit -Hn')"
        )
    })
}

/// All files below a directory; what cannot be read is left out.
fn count(dir: &Path) -> u64 {
    let (mut files, mut dirs) = (0, vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                _ => files += 1,
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_file_of_the_data_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("app")).expect("made");
        for name in ["ibdata1", "app/a.ibd", "app/a.frm"] {
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        assert_eq!(for_all_of(dir.path()).await, TOOL + 3);
        assert_eq!(for_all_of(&dir.path().join("none")).await, TOOL);
        assert_eq!(granted(1), 1);
    }

    #[test]
    fn the_limit_is_the_reason_when_it_is() {
        let said = "InnoDB: Error number 24 means 'Too many open files'";
        assert!(advice(said, 5).expect("it is").contains("needs about 5"), "{said}");
        assert_eq!(advice("No space left on device", 5), None);
    }
}
