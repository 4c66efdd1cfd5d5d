//! The commands that ask the server once, and may wait for what follows.

use super::answers::Cluster;
use super::client::{Client, cluster_path, parse};
use super::passwords::{self, Passwords};
use super::{CliError, Waiting, print, print_json, text, wait};
use crate::secret;
use clap::Args;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name: a-z, 0-9, '_' and '-', at most 63 characters
    name: String,
    /// Number of members, the primary included
    #[arg(long, short = 'n', default_value_t = 1)]
    size: u64,
    /// MySQL account of the cluster's user
    #[arg(long, short, default_value = "app")]
    user: String,
    /// File with the user's password, or - for standard input [default: one is made]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Cpus of each member, such as 1 or 0.5
    #[arg(long)]
    cpus: Option<f64>,
    /// Memory of each member, such as 512mb
    #[arg(long)]
    mem: Option<String>,
    /// Disk of each member, such as 2gb
    #[arg(long)]
    disk: Option<String>,
    /// When a commit counts as done [default: `semi_sync` from 3 members on]
    #[arg(long, value_parser = ["semi_sync", "async"])]
    durability: Option<String>,
    /// What an election does when in doubt [default: consistency with `semi_sync`]
    #[arg(long, value_parser = ["consistency", "availability"])]
    preference: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Args)]
pub(super) struct Scale {
    /// Name of the cluster
    name: String,
    /// Number of members wanted
    size: u64,
    /// File with the password of the cluster's user, or - for standard input [default: as kept by 'create']
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Args)]
pub(super) struct Switchover {
    /// Name of the cluster
    name: String,
    /// Number of the member that shall be primary [default: the replica that suits best]
    #[arg(long, value_name = "MEMBER")]
    to: Option<u64>,
    /// File with the password of the cluster's user, or - for standard input [default: as kept by 'create']
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Name of the cluster
    name: String,
    /// File with the password of the cluster's user, or - for standard input [default: as kept by 'create']
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn create(client: &Client, create: Create, json: bool) -> Result<(), CliError> {
    let name = create.name.as_str();
    name.parse::<cotton_core::ClusterName>().map_err(|error| CliError::Failed(error.to_string()))?; // it names a file
    let passwords = Passwords::of(client).await?;
    let earlier = passwords.pending(name); // of a creation that may have succeeded without our hearing of it
    let password = match (&create.password_file, &earlier) {
        (Some(path), _) => passwords::read(path)
            .map_err(|error| CliError::failed(&format!("could not read '{}'", path.display()), error))?,
        (None, Some(earlier)) => earlier.clone(),
        (None, None) => secret::generate_password().map_err(|error| CliError::Failed(error.to_string()))?,
    };
    let kept = passwords.keep_pending(name, &password);
    kept.map_err(|error| CliError::failed("could not keep the password", error))?;
    let answer = match client.send(Method::POST, &cluster_path(name), Some(request(&create, &password))).await {
        Ok(answer) => answer,
        Err(error) => {
            if error.changed_nothing() && earlier.is_none() {
                passwords.discard_pending(name); // otherwise nobody knows whether the cluster was made
            }
            return Err(error);
        }
    };
    let path = passwords.confirm(name).map_err(|error| CliError::failed("could not keep the password", error))?;
    let mut answer = answer;
    if create.waiting.wait {
        wait::until_whole(client, name, create.waiting.timeout).await?;
        answer["cluster"] = client.get(&cluster_path(name)).await?;
    }
    if json {
        answer["password_file"] = json!(path);
        print_json(&answer);
        return Ok(());
    }
    if create.waiting.wait {
        let cluster: Cluster = parse(answer["cluster"].take())?;
        print(&text::show(&cluster));
        print(&format!("\nThe password of '{}' is in {}", create.user, path.display()));
        print(&format!("Open a client with: cotton mysql {name}"));
    } else {
        print(&format!("cluster '{name}' is being made; the password of '{}' is in {}", create.user, path.display()));
        print(&format!("See how it goes with: cotton show {name}"));
    }
    Ok(())
}

pub(super) async fn list(client: &Client, json: bool) -> Result<(), CliError> {
    let mut answer = client.get("/api/v1/clusters").await?;
    if json {
        print_json(&answer);
    } else {
        let clusters: Vec<Cluster> = parse(answer["clusters"].take())?;
        print(&text::list(&clusters, &parse::<Vec<String>>(answer["damaged"].take())?));
        if answer["unknown"].as_array().is_some_and(|names| !names.is_empty()) {
            print("Tasks run of which there is no record: see 'cotton unknown'.");
        }
    }
    Ok(())
}

pub(super) async fn show(client: &Client, name: &str, json: bool) -> Result<(), CliError> {
    let answer = client.get(&cluster_path(name)).await?;
    if json {
        print_json(&answer);
    } else {
        print(&text::show(&parse(answer)?));
    }
    Ok(())
}

pub(super) async fn scale(client: &Client, scale: Scale, json: bool) -> Result<(), CliError> {
    let path = cluster_path(&scale.name);
    let password = password_of(client, &scale.name, scale.password_file.as_deref()).await?;
    let body = json!({ "size": scale.size, "password": password.expose_secret() });
    let mut answer = client.send(Method::PATCH, &path, Some(body)).await?;
    if scale.waiting.wait {
        wait::until_whole(client, &scale.name, scale.waiting.timeout).await?;
        answer = client.get(&path).await?;
    }
    if json {
        print_json(&answer);
    } else if scale.waiting.wait {
        print(&text::show(&parse(answer)?));
    } else {
        print(&format!("cluster '{}' is being scaled to {} members", scale.name, scale.size));
    }
    Ok(())
}

pub(super) async fn switchover(client: &Client, wanted: Switchover, json: bool) -> Result<(), CliError> {
    let path = cluster_path(&wanted.name);
    let password = password_of(client, &wanted.name, wanted.password_file.as_deref()).await?;
    let body = json!({ "to": wanted.to, "password": password.expose_secret() });
    let mut answer = client.send(Method::POST, &format!("{path}/switchover"), Some(body)).await?;
    if wanted.waiting.wait {
        wait::until_handed_over(client, &wanted.name, wanted.waiting.timeout).await?;
        answer = client.get(&path).await?;
    }
    if json {
        print_json(&answer);
    } else if wanted.waiting.wait {
        print(&text::show(&parse(answer)?));
    } else {
        let (from, to) = (&answer["switchover"]["from"], &answer["switchover"]["to"]);
        print(&format!("primary {from} of cluster '{}' is handing over to member {to}", wanted.name));
    }
    Ok(())
}

pub(super) async fn delete(client: &Client, delete: Delete, json: bool) -> Result<(), CliError> {
    let (name, passwords) = (delete.name.as_str(), Passwords::of(client).await?);
    let path = cluster_path(name);
    let password = password_of(client, name, delete.password_file.as_deref()).await?;
    let body = json!({ "password": password.expose_secret() });
    client.send(Method::DELETE, &path, Some(body)).await?;
    passwords.forget(name);
    if delete.waiting.wait {
        wait::until_gone(client, name, delete.waiting.timeout).await?;
    }
    if json {
        print_json(&json!({ "name": name, "status": if delete.waiting.wait { "deleted" } else { "deleting" } }));
    } else if delete.waiting.wait {
        print(&format!("cluster '{name}' is deleted"));
    } else {
        print(&format!("cluster '{name}' is being deleted"));
    }
    Ok(())
}

/// The password that a change of the cluster needs.
pub(super) async fn password_of(client: &Client, name: &str, named: Option<&Path>) -> Result<SecretString, CliError> {
    // a cluster that is not there, or about to go, needs no password to be told so
    let cluster = client.get(&cluster_path(name)).await?;
    let found = Passwords::of(client).await?.find(name, named);
    if cluster["status"] == "deleting" && matches!(found, Err(CliError::NoPassword(_))) {
        let detail = format!("cluster '{name}' is being deleted");
        return Err(CliError::Refused { code: "cluster_deleting".to_owned(), detail });
    }
    found
}

fn request(create: &Create, password: &SecretString) -> Value {
    let mut resources = json!({});
    for (key, value) in [
        ("cpus", create.cpus.map(|cpus| json!(cpus))),
        ("mem", create.mem.as_ref().map(|mem| json!(mem))),
        ("disk", create.disk.as_ref().map(|disk| json!(disk))),
    ] {
        if let Some(value) = value {
            resources[key] = value;
        }
    }
    json!({
        "size": create.size,
        "user": create.user,
        "password": password.expose_secret(),
        "resources": resources,
        "durability": create.durability,
        "preference": create.preference,
    })
}
