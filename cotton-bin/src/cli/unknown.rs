//! Tasks that no record accounts for: what there is, and what a person decides.

use super::client::{Client, parse};
use super::passwords::Passwords;
use super::table::table;
use super::{CliError, print, print_json};
use clap::Args;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Name of the cluster
    name: String,
    /// File with the password of the cluster's user, or - for standard input [default: as kept by 'create']
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Task {
    #[serde(rename = "task")]
    id: String,
    agent: String,
    cluster: Option<String>,
    text: String,
}

pub(super) async fn list(client: &Client, json: bool) -> Result<(), CliError> {
    let mut answer = client.get("/api/v1/unknown").await?;
    if json {
        print_json(&answer);
        return Ok(());
    }
    let tasks: Vec<Task> = parse(answer["tasks"].take())?;
    if tasks.is_empty() {
        print("every task is known");
        return Ok(());
    }
    let row = |task: Task| vec![task.id, task.cluster.unwrap_or_else(|| "-".to_owned()), task.agent, task.text];
    let rows: Vec<Vec<String>> = tasks.into_iter().map(row).collect();
    print(&table(&["TASK", "CLUSTER", "AGENT", "WHY"], &rows));
    print(
        "'cotton adopt NAME' makes a cluster again of tasks without a record; 'cotton discard NAME' gives tasks up. Where a \
         record is damaged, put a copy of it back and start the scheduler again.",
    );
    Ok(())
}

pub(super) async fn adopt(client: &Client, named: &Named, json: bool) -> Result<(), CliError> {
    let path = format!("/api/v1/unknown/{}/adopt", named.name);
    let answer = decide(client, Method::POST, &path, named).await?;
    if json {
        print_json(&answer);
    } else {
        print(&format!("cluster '{}' is adopted; see how it goes with: cotton show {0}", named.name));
    }
    Ok(())
}

pub(super) async fn discard(client: &Client, named: &Named, json: bool) -> Result<(), CliError> {
    let path = format!("/api/v1/unknown/{}", named.name);
    let answer = decide(client, Method::DELETE, &path, named).await?;
    if json {
        print_json(&answer);
    } else {
        print(&format!("the unknown tasks of cluster '{}' are given up", named.name));
    }
    Ok(())
}

async fn decide(client: &Client, method: Method, path: &str, named: &Named) -> Result<Value, CliError> {
    let name = named.name.parse::<cotton_core::ClusterName>();
    name.map_err(|error| CliError::Failed(error.to_string()))?; // it is a part of the path
    let password = Passwords::of(client).await?.find(&named.name, named.password_file.as_deref())?;
    client.send(method, path, Some(json!({ "password": password.expose_secret() }))).await
}
