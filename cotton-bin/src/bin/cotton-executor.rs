//! Runs one member of a cluster; started by a Mesos agent.

use cotton_bin::{executor, open_files, telemetry};
use std::process::ExitCode;

fn main() -> ExitCode {
    let checks = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
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
    };
    telemetry::start(false);
    open_files::raise();
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let environment = environment.collect();
    // One thread is enough, and small; and databases are told to end with the thread that has started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cotton-executor: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    if checks {
        return match runtime.block_on(executor::check(&environment)) {
            Ok(server) => {
                eprintln!("cotton-executor {} can run {server}", env!("CARGO_PKG_VERSION"));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{}", executor::chain(&error));
                ExitCode::FAILURE
            }
        };
    }
    let result = runtime.block_on(executor::run(environment));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", executor::chain(&error));
            ExitCode::FAILURE
        }
    }
}
