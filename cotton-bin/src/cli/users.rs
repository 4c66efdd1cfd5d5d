//! Further accounts of a cluster.

use super::client::{Client, cluster_path};
use super::commands::password_of;
use super::{CliError, print, print_json};
use clap::{Args, Subcommand};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Make an account, and print its password
    Create(Create),
    /// List the accounts
    List {
        /// Name of the cluster
        name: String,
    },
    /// Give an account a new password, and print it; its sessions end
    Rotate(One),
    /// Drop an account; its sessions end
    Drop(One),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    one: One,
    /// It may read only
    #[arg(long, conflicts_with = "replication")]
    read_only: bool,
    /// It reads changes from the binary logs of replicas, for change data capture
    #[arg(long)]
    replication: bool,
    /// Databases that it is confined to [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    databases: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// Name of the cluster
    name: String,
    /// Name of the account
    user: String,
    /// File with the password of the cluster's user, or - for standard input [default: as kept by 'create']
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) async fn run(client: &Client, user: User, json: bool) -> Result<(), CliError> {
    let (answer, text) = match user {
        User::List { name } => {
            let answer = client.get(&format!("{}/users", cluster_path(&name))).await?;
            let users = answer["users"].as_array().map(Vec::as_slice).unwrap_or_default();
            let lines: Vec<String> = users.iter().map(line).collect();
            let text = if lines.is_empty() { "no further accounts".to_owned() } else { lines.join("\n") };
            (answer, text)
        }
        User::Create(create) => {
            let kind = match (create.read_only, create.replication) {
                (true, _) => "read-only",
                (_, true) => "replication",
                (false, false) => "read-write",
            };
            let mut body = json!({ "kind": kind });
            if !create.databases.is_empty() {
                body["databases"] = json!(create.databases);
            }
            let answer = send(client, &create.one, Method::POST, "", body).await?;
            let text = format!("the password of '{}' is {}", create.one.user, plain(&answer["password"]));
            (answer, text)
        }
        User::Rotate(one) => {
            let answer = send(client, &one, Method::POST, "/rotate", json!({})).await?;
            let text = format!("the new password of '{}' is {}", one.user, plain(&answer["password"]));
            (answer, text)
        }
        User::Drop(one) => {
            let answer = send(client, &one, Method::DELETE, "", json!({})).await?;
            (answer, format!("account '{}' of cluster '{}' is being dropped", one.user, one.name))
        }
    };
    if json {
        print_json(&answer);
    } else {
        print(&text);
    }
    Ok(())
}

async fn send(client: &Client, one: &One, method: Method, action: &str, mut body: Value) -> Result<Value, CliError> {
    let password = password_of(client, &one.name, one.password_file.as_deref()).await?;
    body["password"] = json!(password.expose_secret());
    // names of accounts have no characters that would have to be escaped; others are refused by the server
    let user: String = one.user.chars().filter(|c| c.is_ascii_alphanumeric() || "_.-".contains(*c)).collect();
    if user != one.user || user.is_empty() {
        return Err(CliError::Failed("an account's name has letters, digits, '_', '.' and '-' only".to_owned()));
    }
    client.send(method, &format!("{}/users/{user}{action}", cluster_path(&one.name)), Some(body)).await
}

fn line(user: &Value) -> String {
    let databases = user["databases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = databases.iter().map(plain).collect();
    let of = if names.is_empty() { "all databases".to_owned() } else { names.join(", ") };
    format!("{}  {}  {of}", plain(&user["user"]), plain(&user["kind"]))
}

fn plain(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
