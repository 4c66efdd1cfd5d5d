//! Whether a server could be run here at all, asked before anything depends on the answer.

use crate::dirs::Dirs;
use crate::install::Installed;
use crate::programs::Programs;
use crate::{Error, RunAs};
use std::path::Path;

/// Looks for the server's programs in `programs`, or where the system has them, and asks the server what it is. Starts no
/// server and writes nothing.
///
/// # Errors
/// When a program is missing (says what to install), does not run, or is of a version that is not supported.
pub async fn server_version(programs: Option<&Path>) -> Result<String, Error> {
    let programs = programs.map(Path::to_owned).into_iter().collect();
    let mut programs = Programs::of(Installed { programs, ..Installed::default() })?;
    let dirs = Dirs::new(&std::env::temp_dir(), RunAs::default());
    Ok(programs.examine(&dirs).await?.dialect.to_string())
}
