//! Where the programs are that were built together with the one that runs.

use crate::Failure;
use std::path::{Path, PathBuf};

/// The path of one of cotton's programs, from the directory of the running one: `target/PROFILE` for a program,
/// `target/PROFILE/deps` for a test.
///
/// # Errors
/// When it has not been built; says how to build it.
pub fn program(name: &str) -> Result<PathBuf, Failure> {
    let here = std::env::current_exe()?;
    let mut candidates = here.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        let dir = here.parent().unwrap_or(Path::new("/")).display();
        let release = if cfg!(debug_assertions) { "" } else { " --release" };
        Failure::new(format!(
            "{name} is not in {dir} nor above it: build it with 'cargo build{release} -p cotton-bin --bins' (make does)"
        ))
    })
}
