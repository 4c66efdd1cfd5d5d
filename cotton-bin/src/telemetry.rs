//! Logging: to standard error, at a level that people can choose. Nothing that is logged holds a secret.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging. `COTTON_LOG` (such as `debug` or `cotton_core=trace`) overrides the level.
pub fn start(verbose: bool) {
    let default =
        if verbose { "info,cotton_bin=debug,cotton_core=debug,cotton_mesos=debug,cotton_mysql=debug" } else { "info" };
    let filter = EnvFilter::try_from_env("COTTON_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false);
    let _ = log.try_init(); // an error means that a test has started it already
}
