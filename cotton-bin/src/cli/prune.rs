//! `cotton prune`: the disk of what nobody needs, and of what is kept of members that are gone.

use super::client::{Client, cluster_path, parse};
use super::commands::password_of;
use super::levers::{Accept, accepting, confirm};
use super::table::table;
use super::{CliError, print, print_json};
use clap::Args;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Release the volumes that this cluster keeps of members that it no longer has. Without a name, only what nobody
    /// needs is removed
    name: Option<String>,
    /// Show what would go and what would stay, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// File with the password of the cluster's user, or - for standard input [default: as kept by 'create']
    #[arg(long, value_name = "FILE", requires = "name")]
    password_file: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Deserialize)]
struct Found {
    freed: Vec<Item>,
    freed_bytes: u64,
    awaited: Vec<String>,
    kept: Vec<Item>,
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Item {
    kind: String,
    id: String,
    bytes: Option<u64>,
    #[serde(default)]
    path: String,
    why: String,
}

pub(super) async fn prune(client: &Client, prune: &Prune, json: bool) -> Result<(), CliError> {
    if let Some(name) = &prune.name {
        return prune_cluster(client, name, prune, json).await;
    }
    let looked = ask(client, true).await?;
    let found: Found = parse(looked.clone())?;
    if prune.dry_run {
        return tell(looked, json, "would be freed");
    }
    if !prune.yes && !found.freed.is_empty() {
        eprintln!("{}", words(&found, "is to be freed"));
        confirm("yes", "This cannot be undone", "yes")?;
    }
    tell(ask(client, false).await?, json, "was freed")
}

/// The volumes that a cluster keeps of members that are gone.
async fn prune_cluster(client: &Client, name: &str, prune: &Prune, json: bool) -> Result<(), CliError> {
    let password = password_of(client, name, prune.password_file.as_deref()).await?;
    let path = format!("{}/prune", cluster_path(name));
    let send = |mut body: Value| {
        body["password"] = json!(password.expose_secret());
        client.send(Method::POST, &path, Some(body))
    };
    if prune.dry_run {
        return match accepting(None, send).await {
            Err(CliError::Refused { code, detail }) if code == "loss_not_accepted" => {
                print(&detail);
                Ok(())
            }
            other => other.map(drop),
        };
    }
    let answer = accepting(Some(if prune.yes { Accept::Yes } else { Accept::Ask(name) }), send).await?;
    if json {
        print_json(&answer);
    } else {
        print(&format!("the volumes are released; each is an event: cotton events {name}"));
    }
    Ok(())
}

async fn ask(client: &Client, dry_run: bool) -> Result<Value, CliError> {
    client.send(Method::POST, "/api/v1/prune", Some(json!({ "dry_run": dry_run }))).await
}

fn tell(answer: Value, json: bool, verb: &str) -> Result<(), CliError> {
    if json {
        print_json(&answer);
    } else {
        print(&words(&parse(answer)?, verb));
    }
    Ok(())
}

fn words(found: &Found, verb: &str) -> String {
    let mut parts = Vec::new();
    let head = ["KIND", "NAME", "SIZE", "WHY", "PATH"];
    let row = |item: &Item| {
        let kind = item.kind.clone();
        vec![
            kind,
            item.id.clone(),
            item.bytes.map_or_else(|| "-".to_owned(), super::text::size),
            item.why.clone(),
            item.path.clone(),
        ]
    };
    let rows = |items: &[Item]| items.iter().map(row).collect::<Vec<_>>();
    if !found.freed.is_empty() {
        parts.push(table(&head, &rows(&found.freed)));
    }
    let bytes = super::text::size(found.freed_bytes);
    parts.push(if found.freed.is_empty() { format!("nothing {verb}") } else { format!("{bytes} {verb}") });
    if !found.awaited.is_empty() {
        parts.push(format!("volumes that are about to be released: {}", found.awaited.join(", ")));
    }
    if !found.kept.is_empty() {
        parts.push(format!("\nkept:\n{}", table(&head, &rows(&found.kept))));
    }
    parts.extend(found.notes.iter().cloned());
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_what_stays_is_told() {
        let item = |kind: &str, id: &str, bytes, why: &str| Item {
            kind: kind.to_owned(),
            id: id.to_owned(),
            bytes: Some(bytes),
            path: format!("/d/{id}"),
            why: why.to_owned(),
        };
        let found = Found {
            freed: vec![item("sandbox", "mysos-a-0", 8192, "its cluster was deleted")],
            freed_bytes: 8192,
            awaited: Vec::new(),
            kept: vec![item("volume", "mysos-b-1", 1 << 30, "its member belongs to a cluster")],
            notes: vec!["a note".to_owned()],
        };
        let words = words(&found, "was freed");
        for part in
            ["sandbox  mysos-a-0", "8.0 KiB was freed", "kept:", "mysos-b-1", "1.0 GiB", "a note", "/d/mysos-a-0"]
        {
            assert!(words.contains(part), "{part}: {words}");
        }
    }
}
