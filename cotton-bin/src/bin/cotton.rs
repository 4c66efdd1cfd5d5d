//! The command line of cotton.

use clap::Parser;
use cotton_bin::cli::{Cli, CliError};
use cotton_bin::open_files;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    open_files::raise();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cotton: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(cli.run());
    runtime.shutdown_background(); // nothing that still runs is waited for
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CliError::Client(_)) {
                eprintln!("cotton: {error}"); // a client has said itself what was wrong
            }
            ExitCode::from(error.status())
        }
    }
}
