//! A client of `/api/v1`, which knows only what a user of it can know.

use crate::{Failure, within};
use cotton_core::{Endpoint, Timeline};
use futures::{Stream, StreamExt};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A pause between two looks at what has no event.
const LOOK: Duration = Duration::from_millis(20);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_mins(1);

/// Of the clusters that were made in this process, by name, the newest first.
static PASSWORDS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// The API of one scheduler.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    client: reqwest::Client,
}

/// What to ask for.
#[derive(Clone, Debug, Serialize)]
pub struct Wanted {
    /// Members.
    pub size: u32,
    /// The cluster's user.
    pub user: String,
    /// What each member gets.
    pub resources: Value,
    /// `semi_sync` or `async`; the default of the size when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<&'static str>,
}

impl Wanted {
    /// Small members, so that many fit on one machine.
    pub fn small(size: u32) -> Self {
        let resources = json!({ "cpus": 0.1, "mem": "160mb", "disk": "256mb" });
        Self { size, user: "app".into(), resources, durability: None }
    }
}

/// A cluster that was made.
#[derive(Clone, Debug, Deserialize)]
pub struct Created {
    /// Of the cluster's user.
    pub password: String,
    /// Where clients find it.
    pub cluster_url: String,
}

/// A cluster, as the API shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// How it is, in one word.
    pub status: String,
    /// Why it is not healthy.
    pub reasons: Vec<Reason>,
    /// What has failed and is tried again.
    #[serde(default)]
    pub retries: Vec<Retry>,
    /// Members wanted.
    pub size: u32,
    /// Current epoch.
    pub epoch: u64,
    /// The primary that is open for writes.
    pub primary: Option<u64>,
    /// Where to write.
    pub endpoint: Option<Endpoint>,
    /// All members.
    pub members: Vec<Member>,
    /// Phases of the latest failover.
    pub last_failover: Option<Timeline>,
}

/// Something that keeps a cluster from being healthy.
#[derive(Clone, Debug, Deserialize)]
pub struct Reason {
    /// For programs.
    pub code: String,
    /// For people.
    pub text: String,
}

/// What has failed and is tried again.
#[derive(Clone, Debug, Deserialize)]
pub struct Retry {
    /// `launch`, `return`, `copy` or `agent`.
    pub what: String,
    /// Where it failed.
    pub agent: Option<String>,
    /// How often in a row.
    pub failures: u32,
    /// When it is tried again, in milliseconds.
    pub in_ms: u64,
    /// How it failed.
    pub reason: String,
}

/// A member, as the API shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// The task that runs it.
    pub task: String,
    /// Where it runs.
    pub agent: String,
    /// Where its server listens.
    pub endpoint: Endpoint,
    /// What it is.
    pub role: String,
    /// Whether it is what it shall be.
    pub healthy: bool,
    /// Whether it is on its way out.
    pub leaving: bool,
    /// What it has.
    pub gtids: String,
    /// How it goes with applying what it has received, while something is left.
    pub applying: Option<Applying>,
    /// Why it is not what it shall be.
    pub trouble: Option<String>,
}

/// What a member has left to apply, as the API shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Applying {
    /// Transactions left.
    pub left: u64,
    /// Transactions applied in a second.
    pub per_second: Option<f64>,
    /// Seconds until it is over.
    pub rest_s: Option<u64>,
}

impl Cluster {
    /// Whether it is at its size and in good health; members that cannot be reached may still be remembered.
    pub fn is_healthy(&self) -> bool {
        let staying = self.members.iter().filter(|member| !member.leaving).count();
        self.status == "healthy" && staying == self.size as usize
    }

    /// Whether a reason with this code is given.
    pub fn waits_for(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }

    /// The primary, when there is one.
    ///
    /// # Errors
    /// When there is none.
    pub fn primary(&self) -> Result<&Member, Failure> {
        let primary = self.members.iter().find(|member| Some(member.id) == self.primary);
        primary.ok_or_else(|| Failure::new(format!("'{}' has no primary: {self:?}", self.name)))
    }

    /// All members but the primary.
    pub fn replicas(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| Some(member.id) != self.primary)
    }

    /// Where its members are, the primary first.
    ///
    /// # Errors
    /// When there is no primary.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, Failure> {
        let primary = self.primary()?.endpoint.clone();
        Ok(std::iter::once(primary).chain(self.replicas().map(|member| member.endpoint.clone())).collect())
    }

    /// A member by its number.
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    fn words(&self) -> String {
        let member = |m: &Member| format!("{}={}{}", m.id, m.role, if m.healthy { "" } else { "(!)" });
        let members: Vec<_> = self.members.iter().map(member).collect();
        let reasons: Vec<_> = self.reasons.iter().map(|r| format!("{}: {}", r.code, r.text)).collect();
        format!(
            "{} in epoch {} with {} of {} members [{}], because [{}]",
            self.status,
            self.epoch,
            self.members.len(),
            self.size,
            members.join(" "),
            reasons.join("; ")
        )
    }
}

/// An event of the log.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Position in the log.
    pub number: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Whose.
    pub cluster: String,
    /// Epoch of the cluster.
    pub epoch: u64,
    /// What happened, in one word.
    #[serde(rename = "event")]
    pub kind: String,
    /// In words.
    #[serde(default)]
    pub text: String,
    /// Everything else.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Event {
    /// The member it is about.
    pub fn member(&self) -> Option<u64> {
        self.fields.get("member")?.as_u64()
    }

    /// The endpoint that it tells.
    pub fn endpoint(&self) -> Option<Endpoint> {
        serde_json::from_value(self.fields.get("endpoint")?.clone()).ok()
    }
}

impl Api {
    /// On this machine.
    ///
    /// # Panics
    /// Never: the client has no options that could be wrong.
    pub fn new(port: u16) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().expect("no option is wrong");
        Self { base: format!("http://127.0.0.1:{port}"), client }
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends anything and returns the status and what came back, whatever it is.
    ///
    /// # Errors
    /// When nothing came back.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), Failure> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).timeout(ANSWER);
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }

    /// Sends a form, as Apache Cotton's clients do.
    ///
    /// # Errors
    /// When nothing came back.
    pub async fn form(&self, method: Method, path: &str, form: &str) -> Result<(StatusCode, Value), Failure> {
        let request = self.client.request(method, format!("{}{path}", self.base)).timeout(ANSWER);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        answer(request).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let (status, value) = self.send(method.clone(), path, body).await?;
        if !status.is_success() {
            return Err(Failure::new(format!("{method} {path} was answered {status}: {value}")));
        }
        serde_json::from_value(value.clone())
            .map_err(|error| Failure::because(format!("{method} {path} was answered with {value}"), &error))
    }

    /// Asks for a cluster.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create(&self, name: &str, wanted: &Wanted) -> Result<Created, Failure> {
        let path = format!("/api/v1/clusters/{name}");
        let created: Created = self.ask(Method::POST, &path, Some(&json!(wanted))).await?;
        let known = (name.to_owned(), created.password.clone());
        PASSWORDS.lock().unwrap_or_else(PoisonError::into_inner).insert(0, known);
        Ok(created)
    }

    /// Asks for a change of a cluster that was made here, with its password: any scheduler may be asked, and other tests
    /// may have clusters of the same name.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn change<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        method: Method,
        path: &str,
        mut body: Value,
    ) -> Result<T, Failure> {
        let known = PASSWORDS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut answered = Err(Failure::new(format!("no cluster '{name}' was made here")));
        for (_, password) in known.into_iter().filter(|(known, _)| known == name) {
            body["password"] = password.into();
            answered = self.ask(method.clone(), path, Some(&body)).await;
            if !matches!(&answered, Err(refused) if refused.to_string().contains("wrong_password")) {
                break;
            }
        }
        answered
    }

    /// Asks for another number of members.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn scale(&self, name: &str, size: u32) -> Result<Cluster, Failure> {
        self.change(name, Method::PATCH, &format!("/api/v1/clusters/{name}"), json!({ "size": size })).await
    }

    /// Asks for a switchover.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn switchover(&self, name: &str, to: Option<u64>) -> Result<(), Failure> {
        let path = format!("/api/v1/clusters/{name}/switchover");
        self.change::<Cluster>(name, Method::POST, &path, json!({ "to": to })).await.map(drop)
    }

    /// Asks for a switchover to that member until it is the primary: one that has just missed a look at its server, or is
    /// behind for a moment, cannot take over yet, and a switchover may fail and be taken back.
    ///
    /// # Errors
    /// When it is not the primary in time; tells the last refusal.
    pub async fn until_switched_over(&self, name: &str, to: u64, limit: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let asked = self.switchover(name, Some(to)).await;
            if self.cluster(name).await.is_ok_and(|seen| seen.is_some_and(|seen| seen.primary == Some(to))) {
                return Ok(());
            }
            if start.elapsed() > limit {
                let words = asked.map_or_else(|refused| refused.to_string(), |()| "it was under way".to_owned());
                return Err(Failure::new(format!("member {to} of '{name}' is no primary within {limit:?}: {words}")));
            }
            tokio::time::sleep(LOOK).await; // a refusal is no event
        }
    }

    /// Asks to delete a cluster.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn delete(&self, name: &str, password: &str) -> Result<(), Failure> {
        let body = json!({ "password": password });
        self.ask::<Value>(Method::DELETE, &format!("/api/v1/clusters/{name}"), Some(&body)).await.map(drop)
    }

    /// Looks at a cluster.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn cluster(&self, name: &str) -> Result<Option<Cluster>, Failure> {
        let (status, value) = self.send(Method::GET, &format!("/api/v1/clusters/{name}"), None).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| Failure::because("a cluster is not shown as it should be", &error)),
            status => Err(Failure::new(format!("'{name}' cannot be looked at: {status}: {value}"))),
        }
    }

    /// Looks at all clusters.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, Failure> {
        #[derive(Deserialize)]
        struct All {
            clusters: Vec<Cluster>,
        }
        Ok(self.ask::<All>(Method::GET, "/api/v1/clusters", None).await?.clusters)
    }

    /// The log of one cluster after the event with that number.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn events(&self, name: &str, since: u64) -> Result<Vec<Event>, Failure> {
        #[derive(Deserialize)]
        struct All {
            events: Vec<Event>,
        }
        let path = format!("/api/v1/events?cluster={name}&since={since}");
        Ok(self.ask::<All>(Method::GET, &path, None).await?.events)
    }

    /// Events of one cluster as they come: from now on, or after the one with that number.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn stream(&self, name: &str, since: Option<u64>) -> Result<EventStream, Failure> {
        let since = since.map(|number| format!("&since={number}")).unwrap_or_default();
        let url = format!("{}/api/v1/events/stream?cluster={name}{since}", self.base);
        let response = within(ANSWER, "the event stream", self.client.get(url).send()).await??.error_for_status()?;
        let chunks = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec()));
        Ok(EventStream { chunks: Box::pin(chunks), buffer: Vec::new() })
    }

    /// Waits until a look at the cluster satisfies `holds`; a scheduler that does not answer is asked again.
    ///
    /// # Errors
    /// When it does not in time; tells what was seen last.
    pub async fn until(
        &self,
        name: &str,
        limit: Duration,
        what: &str,
        mut holds: impl FnMut(&Cluster) -> bool,
    ) -> Result<Cluster, Failure> {
        let start = Instant::now();
        loop {
            let seen = match self.cluster(name).await {
                Ok(Some(cluster)) if holds(&cluster) => return Ok(cluster),
                Ok(Some(cluster)) => cluster.words(),
                Ok(None) => "no such cluster".to_owned(),
                Err(failure) => failure.to_string(),
            };
            if start.elapsed() > limit {
                return Err(Failure::new(format!("'{name}' not {what} within {limit:?}; it is {seen}")));
            }
            tokio::time::sleep(LOOK).await; // not all that is shown has an event
        }
    }

    /// Waits until the cluster is at its size, in good health.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn until_healthy(&self, name: &str, limit: Duration) -> Result<Cluster, Failure> {
        self.until(name, limit, "healthy", Cluster::is_healthy).await
    }

    /// Waits until there is no such cluster any more.
    ///
    /// # Errors
    /// When it is still there in the end.
    pub async fn until_gone(&self, name: &str, limit: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let seen = match self.cluster(name).await {
                Ok(None) => return Ok(()),
                Ok(Some(cluster)) => cluster.words(),
                Err(failure) => failure.to_string(),
            };
            if start.elapsed() > limit {
                return Err(Failure::new(format!("'{name}' is not gone within {limit:?}; it is {seen}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until commands would be taken.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn until_ready(&self, limit: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let seen = match self.send(Method::GET, "/readyz", None).await {
                Ok((StatusCode::OK, _)) => return Ok(()),
                Ok((status, value)) => format!("{status}: {value}"),
                Err(failure) => failure.to_string(),
            };
            if start.elapsed() > limit {
                return Err(Failure::new(format!("{} is not ready within {limit:?}: {seen}", self.base)));
            }
            tokio::time::sleep(LOOK).await; // it has to be started before it can tell anything
        }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<(StatusCode, Value), Failure> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// Server-sent events, read as they come.
pub struct EventStream {
    chunks: Pin<Box<dyn Stream<Item = Result<Vec<u8>, reqwest::Error>> + Send>>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl EventStream {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data:") else { continue };
                if let Ok(event) = serde_json::from_slice(data) {
                    return Some(event);
                }
            }
            self.buffer.extend(self.chunks.next().await?.ok()?);
        }
    }

    /// Waits for an event.
    ///
    /// # Errors
    /// When the stream ends or it does not come in time; tells what came instead.
    pub async fn until(
        &mut self,
        limit: Duration,
        what: &str,
        mut holds: impl FnMut(&Event) -> bool,
    ) -> Result<Event, Failure> {
        let mut seen = Vec::new();
        let found = async {
            while let Some(event) = self.next().await {
                if holds(&event) {
                    return Some(event);
                }
                seen.push(event.text.clone());
            }
            None
        };
        match tokio::time::timeout(limit, found).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(Failure::new(format!("the event stream ended before: {what}; seen: {seen:?}"))),
            Err(_) => Err(Failure::new(format!("not within {limit:?}: {what}; seen: {seen:?}"))),
        }
    }
}
