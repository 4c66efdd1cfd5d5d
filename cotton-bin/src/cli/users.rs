//! Further accounts of a cluster.

use super::client::{Client, cluster_path};
use super::commands::password_of;
use super::passwords::Passwords;
use super::{CliError, print, print_json};
use crate::secret;
use clap::{Args, Subcommand};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
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
    /// Give an account, or the cluster's own user, a new password, and print it; its sessions end
    Rotate(Rotate),
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

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// Name of the cluster
    name: String,
    /// Name of the account [default: the cluster's own user]
    user: Option<String>,
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
        User::Rotate(Rotate { name, user, password_file }) => {
            let own = client.cluster(&name).await?.user;
            let one = One { name, user: user.unwrap_or_else(|| own.clone()), password_file };
            if one.user == own {
                rotate_own(client, &one).await?
            } else {
                let answer = send(client, &one, Method::POST, "/rotate", json!({})).await?;
                let text = format!("the new password of '{}' is {}", one.user, plain(&answer["password"]));
                (answer, text)
            }
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

/// The password that opens everything: it is kept before it is asked for, in case that we end before we hear the answer.
async fn rotate_own(client: &Client, one: &One) -> Result<(Value, String), CliError> {
    let (name, passwords) = (one.name.as_str(), Passwords::of(client).await?);
    let current = passwords.find(name, one.password_file.as_deref())?;
    let earlier = passwords.pending(name); // of a rotation that may have succeeded without our hearing of it
    let password = match &earlier {
        Some(earlier) => earlier.clone(),
        None => secret::generate_password().map_err(|error| CliError::Failed(error.to_string()))?,
    };
    let kept = passwords.keep_pending(name, &password);
    kept.map_err(|error| CliError::failed("could not keep the password", error))?;
    let ask = async |current: &SecretString| {
        let body = json!({ "password": current.expose_secret(), "user_password": password.expose_secret() });
        client.send(Method::POST, &format!("{}/users/{}/rotate", cluster_path(name), one.user), Some(body)).await
    };
    let mut answer = ask(&current).await;
    if earlier.is_some() && matches!(&answer, Err(CliError::Refused { code, .. }) if code == "wrong_password") {
        answer = ask(&password).await; // it had succeeded
    }
    if answer.as_ref().is_err_and(CliError::changed_nothing) && earlier.is_none() {
        passwords.discard_pending(name); // otherwise nobody knows whether it is in force
    }
    let mut answer = answer?;
    let path = passwords.confirm(name).map_err(|error| CliError::failed("could not keep the password", error))?;
    answer["password_file"] = json!(path);
    let (user, password) = (&one.user, password.expose_secret());
    Ok((answer, format!("it is kept in {}; the new password of '{user}' is {password}", path.display())))
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
