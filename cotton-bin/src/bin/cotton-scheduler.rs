//! The scheduler of cotton, with Apache Cotton's flags.

use cotton_bin::config::scheduler::{FlagError, Master, SchedulerFlags};
use cotton_bin::local::{System, SystemConfig, SystemError};
use cotton_bin::{mesos, open_files, telemetry};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let flags = match SchedulerFlags::parse(std::env::args_os()) {
        Ok(flags) => flags,
        Err(FlagError::Clap(error)) => error.exit(),
        Err(error) => {
            eprintln!("cotton-scheduler: {error}");
            return ExitCode::from(2);
        }
    };
    telemetry::start(flags.verbose);
    open_files::raise();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cotton-scheduler: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match flags.master.clone() {
        Master::Local { executor_cmd } => {
            runtime.block_on(on_this_machine(flags, executor_cmd)).map_err(|e| e.to_string())
        }
        Master::Mesos(mesos) => runtime.block_on(mesos::run(flags, *mesos)).map_err(|e| e.to_string()),
    };
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cotton-scheduler: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn on_this_machine(flags: SchedulerFlags, executor: Option<PathBuf>) -> Result<(), SystemError> {
    let timing = flags.timing();
    let mut config = SystemConfig::new(flags.work_dir);
    config.key_file = Some(flags.scheduler_keypath);
    config.address = flags.listen;
    config.hostnames = flags.hostnames;
    config.port = Some(flags.port);
    config.executor = executor;
    config.timing = timing;
    let system = System::start(config).await?;
    tracing::info!(api = system.url(), "running");
    system.run_until_signal().await
}
