//! Printing what happened, and what happens.

use super::answers::Event;
use super::client::{Client, cluster_path, parse};
use super::{CliError, print, text};
use serde_json::Value;

pub(super) async fn list(client: &Client, name: Option<&str>, json: bool) -> Result<(), CliError> {
    past(client, name, json).await.map(|_| ())
}

/// Prints the past, then goes on until the server ends.
pub(super) async fn follow(client: &Client, name: Option<&str>, json: bool) -> Result<(), CliError> {
    let last = past(client, name, json).await?;
    let of = name.map_or_else(String::new, |name| format!("&cluster={name}")); // a valid name: the past was found
    let mut response = client.stream(&format!("/api/v1/events/stream?since={last}{of}")).await?;
    let mut lines = Lines::default();
    // that it breaks off is how it ends when the server is killed
    while let Ok(Some(bytes)) = response.chunk().await {
        for line in lines.push(&bytes) {
            let Some(data) = line.strip_prefix("data:") else { continue };
            match serde_json::from_str::<Value>(data) {
                Ok(value) if value.is_object() => show(value, json)?,
                _ => print(&format!("({} events were missed)", data.trim())),
            }
        }
    }
    Err(CliError::Unreachable(format!("the server at {} has ended", client.url())))
}

async fn past(client: &Client, name: Option<&str>, json: bool) -> Result<u64, CliError> {
    let path = name.map_or_else(|| "/api/v1/events".to_owned(), |name| format!("{}/events", cluster_path(name)));
    let mut answer = client.get(&path).await?;
    let mut last = 0;
    for event in parse::<Vec<Value>>(answer["events"].take())? {
        last = event["number"].as_u64().unwrap_or(last);
        show(event, json)?;
    }
    Ok(last)
}

/// One line an event, for people and for programs alike.
fn show(event: Value, json: bool) -> Result<(), CliError> {
    if json {
        print(&event.to_string());
        return Ok(());
    }
    let event: Event = parse(event)?;
    print(&text::event(&event));
    Ok(())
}

/// Lines out of pieces.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_any_pieces() {
        let text = "id: 1\ndata: {\"ü\":1}\n\nid: 2\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let found: Vec<_> = text.as_bytes().chunks(size).flat_map(|piece| lines.push(piece)).collect();
            assert_eq!(found, ["id: 1", "data: {\"ü\":1}", "", "id: 2"]);
        }
    }
}
