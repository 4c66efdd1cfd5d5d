//! The command line `cotton`: tables for people, `--json` for programs, exit statuses for scripts.
#![allow(clippy::print_stdout, reason = "this is where answers are printed")]

mod answers;
mod client;
mod commands;
mod events;
mod explain;
mod levers;
mod local;
mod mysql_client;
mod passwords;
mod places;
mod prune;
mod table;
mod text;
mod unknown;
mod users;
mod wait;

pub use places::{default_dir, write_api_file};

use crate::api::Code;
use clap::{Args, Parser, Subcommand};
use client::Client;
use std::path::PathBuf;
use std::time::Duration;

/// Runs MySQL clusters: makes them, keeps them alive, scales them.
#[derive(Debug, Parser)]
#[command(name = "cotton", version, after_help = EXIT_STATUSES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUSES: &str = "\
Exit status: 0 done; 1 failed; 2 wrong usage; 3 no such cluster; 4 not done in time; 5 wrong or missing password; \
6 the cluster exists already or is in a state that does not allow this; 7 the server cannot be reached, or is not ready.
Passwords of clusters that were made here are kept, readable by you alone, in ~/.config/cotton/passwords \
(XDG_CONFIG_HOME is honoured).";

#[derive(Debug, Args)]
struct Global {
    /// Address of the server, such as `http://127.0.0.1:8765` [default: that of 'cotton local' on the directory]
    #[arg(long, global = true, env = "COTTON_API", value_name = "URL")]
    api: Option<String>,
    /// Directory of 'cotton local' [default: ~/.local/share/cotton, as root /var/lib/cotton]
    #[arg(long, global = true, env = "COTTON_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cotton on this machine, without Mesos, until Ctrl-C
    Local(local::LocalOptions),
    /// Make a cluster
    Create(commands::Create),
    /// List the clusters
    List,
    /// Show one cluster
    Show {
        /// Name of the cluster
        name: String,
    },
    /// Explain a cluster: who would be promoted, why not the others, what it waits for, and what you can do
    Explain {
        /// Name of the cluster
        name: String,
    },
    /// Change the number of members of a cluster
    Scale(commands::Scale),
    /// Let the primary of a cluster hand over to a replica
    Switchover(commands::Switchover),
    /// Decide nothing for a cluster until it is resumed: no failover, no launch, no replacement
    Pause(levers::Named),
    /// End a pause or a cool-down; if a failover is needed, it begins at once
    Resume(levers::Named),
    /// Decide an election that waits: make a member primary, whatever is lost by that
    Elect(levers::Elect),
    /// Replace a replica by a fresh copy
    Rebuild(levers::Rebuild),
    /// Say whether a member is to be primary: prefer, neutral or never
    Rule(levers::Rule),
    /// Remove what deleted clusters and replaced members left on disk and nobody needs
    Prune(prune::Prune),
    /// Further accounts of a cluster
    #[command(subcommand)]
    User(users::User),
    /// Delete a cluster with all its data
    Delete(commands::Delete),
    /// List tasks that run and of which there is no record
    Unknown,
    /// Make a cluster again of tasks of which there is no record
    Adopt(unknown::Named),
    /// Give up tasks of which there is no record, with all their data
    Discard(unknown::Named),
    /// Print what happened, to one cluster or to all
    Events {
        /// Name of the cluster
        name: Option<String>,
        /// Go on printing what happens
        #[arg(long, short)]
        follow: bool,
    },
    /// Open the mysql client on the primary of a cluster
    Mysql(mysql_client::Mysql),
}

#[derive(Debug, Args)]
struct Waiting {
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::config::duration::parse)]
    timeout: Duration,
}

/// Why a command failed; each has an exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// The server said no.
    #[error("{detail}")]
    Refused {
        /// Its stable code.
        code: String,
        /// Its words.
        detail: String,
    },
    /// The server cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It was not done in time.
    #[error("{0}")]
    Timeout(String),
    /// There is no password to be found.
    #[error("{0}")]
    NoPassword(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// A client was opened, and ended with this status.
    #[error("the client ended with status {0}")]
    Client(u8),
}

impl CliError {
    /// The exit status for scripts.
    pub fn status(&self) -> u8 {
        match self {
            Self::Refused { code, .. } => match code.as_str() {
                "cluster_not_found" | "account_not_found" => 3,
                "wrong_password" => 5,
                "not_connected" | "stopped" => 7,
                "account_exists" | "cluster_exists" | "cluster_deleting" | "cluster_damaged" | "cannot_switch_over"
                | "cluster_unknown" | "not_identified" | "cluster_paused" | "cannot_rebuild" | "under_way"
                | "no_election" | "cannot_elect" | "cannot_prune" | "loss_not_accepted" => 6,
                _ => 1,
            },
            Self::Unreachable(_) => 7,
            Self::Timeout(_) => 4,
            Self::NoPassword(_) => 5,
            Self::Failed(_) => 1,
            Self::Client(status) => *status,
        }
    }

    /// Whether the server has changed nothing, and never will for this request. Where nothing could be saved, or nobody
    /// answered, the change may be in force.
    pub(crate) fn changed_nothing(&self) -> bool {
        let Self::Refused { code, .. } = self else { return false };
        let known = Code::ALL.iter().find(|known| known.name() == code);
        known.is_some_and(|code| code.status().is_client_error())
    }

    pub(crate) fn failed(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// When it could not be done; the error has the exit status.
    pub async fn run(self) -> Result<(), CliError> {
        let Self { global, command } = self;
        let is_default_dir = global.dir.is_none();
        let dir = global.dir.unwrap_or_else(default_dir);
        let client = || Client::new(&places::api(global.api.as_deref(), &dir)?, global.api.is_none());
        let json = global.json;
        match command {
            Command::Local(options) => local::run(&dir, is_default_dir, options).await,
            Command::Create(create) => commands::create(&client()?, create, json).await,
            Command::List => commands::list(&client()?, json).await,
            Command::Show { name } => commands::show(&client()?, &name, json).await,
            Command::Explain { name } => explain::explain(&client()?, &name, json).await,
            Command::Scale(scale) => commands::scale(&client()?, scale, json).await,
            Command::Switchover(switchover) => commands::switchover(&client()?, switchover, json).await,
            Command::Pause(named) => levers::pause(&client()?, &named, json).await,
            Command::Resume(named) => levers::resume(&client()?, &named, json).await,
            Command::Elect(elect) => levers::elect(&client()?, &elect, json).await,
            Command::Rebuild(rebuild) => levers::rebuild(&client()?, &rebuild, json).await,
            Command::Rule(rule) => levers::rule(&client()?, &rule, json).await,
            Command::Prune(prune) => prune::prune(&client()?, &prune, json).await,
            Command::User(user) => users::run(&client()?, user, json).await,
            Command::Delete(delete) => commands::delete(&client()?, delete, json).await,
            Command::Unknown => unknown::list(&client()?, json).await,
            Command::Adopt(named) => unknown::adopt(&client()?, &named, json).await,
            Command::Discard(named) => unknown::discard(&client()?, &named, json).await,
            Command::Events { name, follow: false } => events::list(&client()?, name.as_deref(), json).await,
            Command::Events { name, follow: true } => events::follow(&client()?, name.as_deref(), json).await,
            Command::Mysql(mysql) => mysql_client::open(&client()?, mysql).await,
        }
    }
}

/// Prints a line, and ends quietly when nobody reads any more (as in `cotton events --follow | head`).
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

fn print_json(value: &serde_json::Value) {
    print(&format!("{value:#}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn statuses() {
        let refused = |code: &str| CliError::Refused { code: code.to_owned(), detail: String::new() }.status();
        assert_eq!([refused("cluster_not_found"), refused("wrong_password"), refused("cluster_exists")], [3, 5, 6]);
        assert_eq!(refused("invalid_size"), 1);
        assert_eq!(CliError::Client(42).status(), 42);
    }

    #[test]
    fn some_refusals_say_that_nothing_was_changed() {
        let refused = |code: &str| CliError::Refused { code: code.to_owned(), detail: String::new() };
        for code in ["wrong_password", "invalid_password", "cluster_not_found", "cluster_deleting"] {
            assert!(refused(code).changed_nothing(), "{code}");
        }
        for code in ["not_saved", "stopped", "internal", "a_code_of_a_later_version"] {
            assert!(!refused(code).changed_nothing(), "{code}");
        }
        assert!(!CliError::Unreachable(String::new()).changed_nothing());
    }
}
