//! Logging: to standard error, at a level that people can choose. Nothing that is logged holds a secret.

use std::io::IsTerminal;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const USUAL: &str = "info";
const VERBOSE: &str = "info,cotton_bin=debug,cotton_core=debug,cotton_mesos=debug,cotton_mysql=debug";

/// Starts logging. `COTTON_LOG` (such as `debug` or `info,cotton_core=trace`) overrides the level.
pub fn start(verbose: bool) {
    let usual = if verbose { VERBOSE } else { USUAL };
    let wanted = std::env::var("COTTON_LOG").unwrap_or_else(|_| usual.to_owned());
    let (targets, refused) = match wanted.parse::<Targets>() {
        Ok(targets) => (targets, None),
        Err(error) => (Targets::new().with_default(tracing::Level::INFO), Some(error)),
    };
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(false);
    let _ = tracing_subscriber::registry().with(log).with(targets).try_init(); // an error means: started already
    if let Some(error) = refused {
        tracing::warn!(%error, "COTTON_LOG makes no sense: logging at info");
    }
}
