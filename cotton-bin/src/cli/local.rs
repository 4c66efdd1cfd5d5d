//! `cotton local`: runs a [`System`] until it is told to stop.

use super::{CliError, print};
use crate::config::duration;
use crate::local::{System, SystemConfig, SystemError};
use crate::telemetry;
use clap::{Args, ValueEnum};
use cotton_core::cluster::Timing;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct LocalOptions {
    /// Number of simulated agents; members of a cluster are placed on different ones
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    agents: u16,
    /// Port of the API on 127.0.0.1 [default: that of the last time, else 8765, else any]
    #[arg(long)]
    port: Option<u16>,
    /// Which database servers to run
    #[arg(long, value_enum, default_value_t = Flavour::Auto)]
    flavour: Flavour,
    /// Directory with the programs of the database server, instead of a flavour
    #[arg(long, value_name = "DIR", conflicts_with = "flavour")]
    mysql_bin_dir: Option<PathBuf>,
    /// Ports that members may use
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_ports, default_value = "30000-32767")]
    member_ports: (u16, u16),
    /// The executor's program [default: cotton-executor beside this program]
    #[arg(long, value_name = "PROGRAM")]
    executor: Option<PathBuf>,
    /// How far a replica may be behind the primary before its cluster is degraded, such as 30s or 5m
    #[arg(long = "lag_warning", visible_alias = "lag-warning", value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    lag_warning_ms: u64,
    /// After three failovers within this time that may have lost commits, an asynchronous cluster waits for its old primary
    /// until they are this long ago; 0s: it never waits
    #[arg(long = "failover_cooldown", visible_alias = "failover-cooldown", value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    failover_cooldown_ms: u64,
    /// Log more
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flavour {
    /// Whatever is installed
    Auto,
    /// MariaDB, as installed
    Mariadb,
    /// MySQL 5.6, as fetched for tests
    #[value(name = "mysql-5.6")]
    Mysql56,
    /// MySQL 9.7, as fetched for tests
    #[value(name = "mysql-9.7")]
    Mysql97,
}

pub(super) async fn run(dir: &Path, is_default_dir: bool, options: LocalOptions) -> Result<(), CliError> {
    telemetry::start(options.verbose);
    let config = SystemConfig {
        port: options.port,
        agents: options.agents,
        member_ports: options.member_ports,
        executor: options.executor,
        mysql_bin_dir: options.mysql_bin_dir.map_or_else(|| programs(options.flavour), |dir| Ok(Some(dir)))?,
        timing: Timing {
            lag_warning_ms: options.lag_warning_ms,
            failover_cooldown_ms: options.failover_cooldown_ms,
            ..Timing::default()
        },
        ..SystemConfig::new(dir)
    };
    let agents = config.agents;
    let failed = |error: SystemError| CliError::Failed(error.to_string());
    let system = System::start(config).await.map_err(failed)?;
    print(&greeting(dir, is_default_dir, system.url(), agents));
    system.run_until_signal().await.map_err(failed)
}

fn greeting(dir: &Path, is_default_dir: bool, url: &str, agents: u16) -> String {
    let at = if is_default_dir { String::new() } else { format!(" --dir {}", dir.display()) };
    format!(
        "cotton is running with {agents} simulated agents.\n\
         \x20 API and page  {url}/\n\
         \x20 directory     {dir}\n\
         In another terminal:\n\
         \x20 cotton create demo --size 3 --wait{at}\n\
         \x20 cotton show demo{at}\n\
         \x20 cotton mysql demo{at}\n\
         Ctrl-C stops the databases cleanly; started again, they are back with their data.",
        dir = dir.display(),
    )
}

/// Where the programs of a flavour are; `None` for those of the system.
fn programs(flavour: Flavour) -> Result<Option<PathBuf>, CliError> {
    let fetched = |name: &str, script: &str| {
        let cache = std::env::var_os("COTTON_MYSQL_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache/cotton-mysql")));
        let bin = cache.unwrap_or_default().join(name).join("bin");
        if bin.join("mysqld").is_file() {
            return Ok(Some(bin));
        }
        let bin = bin.display();
        Err(CliError::Failed(format!("there is no mysqld in '{bin}': fetch it with 'tests/real/{script}'")))
    };
    match flavour {
        Flavour::Auto => Ok(None),
        Flavour::Mariadb => {
            let installed =
                ["/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd", "/usr/bin/mariadbd", "/usr/libexec/mariadbd"];
            if installed.iter().any(|path| Path::new(path).is_file()) {
                return Ok(None);
            }
            let how = "on Debian, apt-get install --no-install-recommends mariadb-server-core mariadb-client-core mariadb-backup";
            Err(CliError::Failed(format!("MariaDB is not installed: {how}")))
        }
        Flavour::Mysql56 => fetched("npm-5.6", "mysql-5.6-fetch.sh"),
        Flavour::Mysql97 => fetched("sid", "mysql-sid-fetch.sh"),
    }
}

fn parse_time(text: &str) -> Result<u64, String> {
    let time = duration::parse(text).map_err(|error| error.to_string())?;
    u64::try_from(time.as_millis()).map_err(|error| error.to_string())
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let sensible = parsed.filter(|(first, last)| 0 < *first && first <= last);
    sensible.ok_or_else(|| "must be two ports such as 30000-32767".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        assert_eq!(parse_ports("30000-32767"), Ok(crate::local::MEMBER_PORTS)); // the default
        for bad in ["", "1", "0-5", "5-4", "1-65536", "a-b", "1-2-3"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }
}
