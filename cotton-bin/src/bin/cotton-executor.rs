//! Runs one member of a cluster; started by a Mesos agent.

use cotton_bin::{executor, open_files, telemetry};
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version") => {
            eprintln!("cotton-executor {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some(_) => {
            eprintln!(
                "cotton-executor: takes no arguments; it is started by a Mesos agent, and told all in its environment"
            );
            return ExitCode::from(2);
        }
    }
    telemetry::start(false);
    open_files::raise();
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    // One thread is enough, and small; and databases are told to end with the thread that has started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(executor::run(environment.collect())),
        Err(error) => {
            eprintln!("cotton-executor: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", executor::chain(&error));
            ExitCode::FAILURE
        }
    }
}
