//! `cotton explain`: who would be promoted, why not the others, what is waited for, and what a person can do.

use super::client::{Client, cluster_path, parse};
use super::table::table;
use super::{CliError, print, print_json};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Explanation {
    name: String,
    status: String,
    succession: Succession,
    members: Vec<Member>,
    waits: Vec<Wait>,
    levers: Vec<Lever>,
}

#[derive(Debug, Deserialize)]
struct Succession {
    text: String,
    loses: String,
}

#[derive(Debug, Deserialize)]
struct Member {
    id: u64,
    role: String,
    wins: bool,
    why_not: Vec<Against>,
}

#[derive(Debug, Deserialize)]
struct Against {
    text: String,
}

#[derive(Debug, Deserialize)]
struct Wait {
    code: String,
    text: String,
    since_ms: Option<u64>,
    until_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Lever {
    command: String,
    possible: bool,
    text: String,
    loses: String,
}

pub(super) async fn explain(client: &Client, name: &str, json: bool) -> Result<(), CliError> {
    let answer = client.get(&format!("{}/explain", cluster_path(name))).await?;
    if json {
        print_json(&answer);
    } else {
        print(&words(&parse(answer)?));
    }
    Ok(())
}

fn words(explanation: &Explanation) -> String {
    let Explanation { name, status, succession, members, waits, levers } = explanation;
    let mut parts = vec![format!("{name}: {}", status.replace('_', " "))];
    parts.push(format!("{}.\nThat would lose {}.", sentence(&succession.text), succession.loses));
    let member = |member: &Member| {
        let why: Vec<&str> = member.why_not.iter().map(|against| against.text.as_str()).collect();
        let why = if member.wins { "would be promoted".to_owned() } else { why.join("; ") };
        vec![member.id.to_string(), member.role.clone(), why]
    };
    parts.push(table(&["MEMBER", "ROLE", "WHY NOT PROMOTED"], &members.iter().map(member).collect::<Vec<_>>()));
    if waits.is_empty() {
        parts.push("It waits for nothing.".to_owned());
    } else {
        let wait =
            |wait: &Wait| vec![seconds(wait.since_ms), seconds(wait.until_ms), wait.code.clone(), wait.text.clone()];
        parts.push(table(&["SINCE", "FOR", "CODE", "WAITS FOR"], &waits.iter().map(wait).collect::<Vec<_>>()));
    }
    let lever = |lever: &Lever| {
        let now = if lever.possible { "yes" } else { "no" };
        let loses = if lever.possible { lever.loses.clone() } else { "-".to_owned() };
        vec![lever.command.clone(), now.to_owned(), lever.text.clone(), loses]
    };
    parts.push(table(
        &["COMMAND", "NOW", "WHAT IT DOES, OR WHY NOT", "LOSES"],
        &levers.iter().map(lever).collect::<Vec<_>>(),
    ));
    parts.join("\n\n")
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn seconds(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{} s", ms / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn for_people() {
        let against = |code: &str, text: &str| json!({"code": code, "text": text});
        let explanation = serde_json::from_value(json!({
            "name": "demo", "status": "failing_over",
            "succession": {"text": "the election waits: for member 2", "loses": "nothing, as long as it waits"},
            "members": [
                {"id": 1, "role": "frozen", "wins": true, "why_not": []},
                {"id": 2, "role": "down", "wins": false, "why_not": [against("down", "down"), against("x", "awaited")]},
            ],
            "waits": [{"code": "no_quorum", "text": "for member 2", "since_ms": 61_000, "until_ms": null}],
            "levers": [
                {"command": "cotton switchover demo", "possible": false, "text": "no primary", "loses": "no commit"},
                {"command": "cotton discard demo", "possible": true, "text": "tasks end", "loses": "their data"},
            ],
        }));
        assert_eq!(
            words(&explanation.expect("as the server answers")),
            "demo: failing over\n\n\
             The election waits: for member 2.\nThat would lose nothing, as long as it waits.\n\n\
             MEMBER  ROLE    WHY NOT PROMOTED\n\
             1       frozen  would be promoted\n\
             2       down    down; awaited\n\n\
             SINCE  FOR  CODE       WAITS FOR\n\
             61 s   -    no_quorum  for member 2\n\n\
             COMMAND                 NOW  WHAT IT DOES, OR WHY NOT  LOSES\n\
             cotton switchover demo  no   no primary                -\n\
             cotton discard demo     yes  tasks end                 their data"
        );
    }
}
