//! The limit of open files. Services are often started with a soft limit of 1,024 that is meant for programs of another
//! age, and a hard limit that is far above.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises our soft limit to the hard one. What we start inherits it, and is told what it needs.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = current, to = maximum, "the limit of open files is raised"),
        Err(error) => tracing::warn!(%error, limit = current, "could not raise the limit of open files"),
    }
}

/// How many files we may have open.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        super::raise();
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        assert_eq!(super::limit(), hard.unwrap_or(u64::MAX));
    }
}
