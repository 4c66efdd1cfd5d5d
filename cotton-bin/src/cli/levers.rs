//! What a person decides of a cluster that decides everything else by itself.

use super::client::{Client, cluster_path};
use super::commands::password_of;
use super::{CliError, Waiting, print, print_json, text, wait};
use clap::Args;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Name of the cluster
    name: String,
    /// File with the password of the cluster's user, or - for standard input [default: as kept by 'create']
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Rebuild {
    #[command(flatten)]
    named: Named,
    /// Number of the member
    member: u64,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Args)]
pub(super) struct Rule {
    #[command(flatten)]
    named: Named,
    /// Number of the member
    member: u64,
    /// prefer: before others that have the same; never: only when nobody else has all the data
    #[arg(value_name = "RULE", value_parser = ["prefer", "neutral", "never"])]
    wanted: String,
}

#[derive(Debug, Args)]
pub(super) struct Elect {
    #[command(flatten)]
    named: Named,
    /// Number of the member that becomes primary
    #[arg(long, value_name = "MEMBER")]
    to: u64,
    /// Accept what may be lost; without it, that is told and nothing is done
    #[arg(long)]
    accept_loss: bool,
    /// Do not ask
    #[arg(long, requires = "accept_loss")]
    yes: bool,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn pause(client: &Client, named: &Named, json: bool) -> Result<(), CliError> {
    let answer = decide(client, named, "pause", json!({})).await?;
    let words = "cotton makes no changes to it until you run 'cotton resume";
    tell(&answer, json, &format!("cluster '{}' is paused: {words} {0}'", named.name));
    Ok(())
}

pub(super) async fn resume(client: &Client, named: &Named, json: bool) -> Result<(), CliError> {
    let was_held = client.cluster(&named.name).await?.is_held();
    let answer = decide(client, named, "resume", json!({})).await?;
    let words = if was_held {
        format!("cluster '{}' is resumed; see how it is with: cotton show {0}", named.name)
    } else {
        format!("cluster '{}' was not paused: there was nothing to resume", named.name)
    };
    tell(&answer, json, &words);
    Ok(())
}

pub(super) async fn rebuild(client: &Client, rebuild: &Rebuild, json: bool) -> Result<(), CliError> {
    let Rebuild { named, member, waiting } = rebuild;
    let mut answer = decide(client, named, &format!("members/{member}/rebuild"), json!({})).await?;
    if waiting.wait {
        wait::until_rebuilt(client, &named.name, *member, waiting.timeout).await?;
        answer = client.get(&cluster_path(&named.name)).await?;
        if !json {
            print(&text::show(&super::client::parse(answer)?));
            return Ok(());
        }
    }
    tell(&answer, json, &format!("member {member} of cluster '{}' is being replaced by a fresh copy", named.name));
    Ok(())
}

pub(super) async fn rule(client: &Client, rule: &Rule, json: bool) -> Result<(), CliError> {
    let Rule { named, member, wanted } = rule;
    let answer = decide(client, named, &format!("members/{member}/rule"), json!({ "rule": wanted })).await?;
    tell(&answer, json, &format!("the promotion rule of member {member} of cluster '{}' is '{wanted}'", named.name));
    Ok(())
}

pub(super) async fn elect(client: &Client, elect: &Elect, json: bool) -> Result<(), CliError> {
    let Elect { named, to, accept_loss, yes, waiting } = elect;
    let accept = accept_loss.then_some(if *yes { Accept::Yes } else { Accept::Ask(&named.name) });
    let send = |mut body: Value| {
        body["to"] = json!(to);
        decide(client, named, "elect", body)
    };
    let mut answer = accepting(accept, send).await?;
    if waiting.wait {
        wait::until_writable(client, &named.name, waiting.timeout).await?;
        answer = client.get(&cluster_path(&named.name)).await?;
    }
    tell(&answer, json, &format!("member {to} becomes primary; see how it goes with: cotton show {}", named.name));
    Ok(())
}

/// How a loss is accepted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Accept<'a> {
    /// It is printed.
    Yes,
    /// A person types this word.
    Ask(&'a str),
}

/// Sends a request that is refused at first, with what may be lost, and again once that is accepted. If more may be lost by
/// then, it is told and to be accepted again. `None` accepts nothing.
pub(super) async fn accepting<F: Future<Output = Result<Value, CliError>>>(
    accept: Option<Accept<'_>>,
    send: impl Fn(Value) -> F,
) -> Result<Value, CliError> {
    let mut told: Option<String> = None;
    loop {
        let body = told.as_ref().map_or_else(|| json!({}), |told| json!({ "accept_loss": true, "told": told }));
        let detail = match (send(body).await, accept) {
            (Err(CliError::Refused { code, detail }), Some(_)) if code == "loss_not_accepted" => detail,
            (Ok(_), _) if told.is_none() => {
                return Err(CliError::Failed("the server did not tell what may be lost".to_owned()));
            }
            (answer, _) => return answer,
        };
        if told.is_some() {
            eprintln!("This has changed meanwhile:");
        }
        match accept {
            Some(Accept::Ask(word)) => confirm(word, &detail, "the name of the cluster")?,
            Some(Accept::Yes) | None => eprintln!("{detail}"),
        }
        told = Some(detail);
    }
}

/// Asks a person, who must be there, to type a word.
pub(super) fn confirm(word: &str, what: &str, which: &str) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Failed(format!("{what}. Nobody can be asked here: give --yes as well")));
    }
    eprint!("{what}.\nType {which} to do it: ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|error| CliError::failed("no answer", error))?;
    if line.trim() == word { Ok(()) } else { Err(CliError::Failed("nothing was done".to_owned())) }
}

async fn decide(client: &Client, named: &Named, what: &str, mut body: Value) -> Result<Value, CliError> {
    let path = format!("{}/{what}", cluster_path(&named.name));
    let password = password_of(client, &named.name, named.password_file.as_deref()).await?;
    body["password"] = json!(password.expose_secret());
    client.send(Method::POST, &path, Some(body)).await
}

fn tell(answer: &Value, json: bool, words: &str) {
    if json { print_json(answer) } else { print(words) }
}
