//! Every route and every refusal of the API, held against golden files; `COTTON_UPDATE_GOLDEN=1` writes them anew.

mod support;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use cotton_bin::api::{self, ApiConfig};
use cotton_bin::secret::SealingKey;
use cotton_core::EventKind;
use futures::StreamExt;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use support::Fake;
use tokio::sync::watch;
use tower::ServiceExt;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// Fields in parts, with `b` between them.
fn form_data(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    body
}

struct Story {
    fake: Arc<Fake>,
    router: Router,
    stopping: watch::Sender<bool>,
    text: String,
}

impl Story {
    fn new() -> Self {
        let (fake, stopping) = (Fake::new(), watch::channel(false).0);
        let config = ApiConfig {
            key: SealingKey::new([1; 32]),
            limits: fake.limits.clone(),
            cluster_url_prefix: "http://127.0.0.1:8765/api/v1/clusters/".to_owned(),
            hosts: Arc::new(api::Hosts::new([127, 0, 0, 1].into(), &[])),
            stopping: stopping.subscribe(),
            agents: None,
        };
        let router = api::router(Arc::clone(&fake) as _, config);
        Self { fake, router, stopping, text: String::new() }
    }

    fn title(&mut self, title: &str) {
        writeln!(self.text, "\n## {title}").expect("a String takes everything");
    }

    async fn ask(&mut self, request: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) {
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let mut built = Request::builder().method(method).uri(path);
        write!(self.text, "\n> {request}").expect("a String takes everything");
        for (name, value) in headers {
            built = built.header(*name, *value);
            write!(self.text, "\n> {name}: {value}").expect("a String takes everything");
        }
        let body = body.into();
        if !body.is_empty() {
            let shown: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            write!(self.text, "\n> {}", shown.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
                .expect("a String takes everything");
        }
        let response =
            self.router.clone().oneshot(built.body(Body::from(body)).expect("a request")).await.expect("answers");
        write!(self.text, "\n< {}", response.status().as_u16()).expect("a String takes everything");
        for name in ["content-type", "allow", "location", "cache-control"] {
            if let Some(value) = response.headers().get(name) {
                write!(self.text, "\n< {name}: {}", value.to_str().expect("text")).expect("a String takes everything");
            }
        }
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        writeln!(self.text, "\n{}", without_secrets(&String::from_utf8_lossy(&body)).trim_end())
            .expect("a String takes everything");
    }

    async fn form(&mut self, request: &str, body: &str) {
        self.ask(request, &[("content-type", FORM)], body).await;
    }

    async fn json(&mut self, request: &str, body: &str) {
        self.ask(request, &[("content-type", JSON)], body).await;
    }

    async fn get(&mut self, path: &str) {
        self.ask(&format!("GET {path}"), &[], "").await;
    }

    fn check(self, name: &str) {
        let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("COTTON_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &self.text).expect("the golden file can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden == self.text {
            return;
        }
        let line = golden.lines().zip(self.text.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or(golden.lines().count().min(self.text.lines().count()));
        let (wanted, found) = (golden.lines().nth(line), self.text.lines().nth(line));
        panic!("{path}:{}: wanted\n{wanted:?}, found\n{found:?}; COTTON_UPDATE_GOLDEN=1 accepts it", line + 1);
    }
}

/// Generated passwords differ every time.
fn without_secrets(body: &str) -> String {
    let mut text = body.to_owned();
    for field in ["\"password\":\"", "\"cluster_password\":\""] {
        if let Some(at) = text.find(field).map(|at| at + field.len()) {
            let end = at + text[at..].find('"').expect("a string ends");
            if end - at == 21 {
                text.replace_range(at..end, "<21 characters>");
            }
        }
    }
    text
}

#[tokio::test]
async fn routes_of_apache_cotton() {
    let mut story = Story::new();
    story.title("before the first registration");
    story.fake.disconnect(true);
    story.get("/").await;
    story.form("POST /clusters/a", "cluster_user=jane").await;
    story.form("DELETE /clusters/a", "password=x").await;
    story.fake.disconnect(false);
    story.get("/").await;

    story.title("creation");
    story.form("POST /clusters/a", "cluster_user=jane").await;
    story.form("POST /clusters/b", "num_nodes=3&cluster_user=jane&backup_id=&size=&cluster_password=").await;
    let size = "size=%7B%22cpus%22%3A%202.0%2C%20%22mem%22%3A%20%221gb%22%2C%20%22disk%22%3A%20%223GB%22%7D";
    story.form("POST /clusters/c", &format!("num_nodes=+2&cluster_user=jane&cluster_password=pass+word&{size}")).await;
    story.ask("POST /clusters/d", &[], "cluster_user=jane").await;
    story.get("/api/v1/clusters/c").await;

    story.title("what is refused, in the order in which it is checked");
    story.form("POST /clusters/A", "cluster_user=").await;
    story.form("POST /clusters/%2e%2e%2fetc", "cluster_user=jane").await;
    story.form("POST /clusters/%ff", "cluster_user=jane").await;
    story.form(&format!("POST /clusters/{}", "x".repeat(64)), "cluster_user=jane").await;
    story.form("POST /clusters/a", "cluster_user=").await;
    story.form("POST /clusters/e", "").await;
    story.form("POST /clusters/e", "cluster_user=&num_nodes=0").await;
    for user in ["o%27hara", "x%00", "x%0Ay", "%22", "r%C3%B6ot", "root", "a%20b", &"u".repeat(33), &"u".repeat(65536)]
    {
        story.form("POST /clusters/e", &format!("cluster_user={user}")).await;
    }
    for number in ["0", "-1", "1.5", "1e9", "1000000000", "99999999999999999999", "three", "", "%3Cscript%3E", "++1"] {
        story.form("POST /clusters/e", &format!("cluster_user=jane&num_nodes={number}&size=x")).await;
    }
    for size in [
        "x",
        "1",
        "{}",
        "{%22cpus%22:1,%22mem%22:%221gb%22}",
        "{%22cpus%22:1,%22mem%22:%221xb%22,%22disk%22:%221gb%22}",
    ] {
        story.form("POST /clusters/e", &format!("cluster_user=jane&size={size}")).await;
    }
    for (cpus, mem, disk) in
        [("0.01", "1gb", "1gb"), ("1", "32mb", "1gb"), ("1", "1gb", "1mb"), ("5", "1gb", "1gb"), ("1", "100t", "1gb")]
    {
        let size = format!("{{%22cpus%22:{cpus},%22mem%22:%22{mem}%22,%22disk%22:%22{disk}%22}}");
        story.form("POST /clusters/e", &format!("cluster_user=jane&size={size}")).await;
    }
    story.form("POST /clusters/e", "cluster_user=jane&backup_id=x").await;
    for password in ["a%27b", "%22", "a%5Cb", "a%00", "a%0A", "%C3%A9", &"p".repeat(129)] {
        story.form("POST /clusters/e", &format!("cluster_user=jane&cluster_password={password}")).await;
    }
    story.form("POST /clusters/e", "cluster_user=jane&num_node=3").await;
    story.ask("POST /clusters/e", &[("content-type", FORM)], b"cluster_user=\xff\xfe".to_vec()).await;
    story.ask("POST /clusters/e", &[("content-type", JSON)], r#"{"cluster_user": "jane"}"#).await;
    let parts = [("content-type", "multipart/form-data; boundary=b")];
    for body in ["no part", "--b\r\ncontent-disposition: form-data; name=\"cluster_user\"\r\n\r\njan", "--b--"] {
        story.ask("POST /clusters/e", &parts, body).await;
    }
    story.ask("POST /clusters/e", &parts, form_data(&[("cluster_user", b"jane"), ("num_node", b"2")])).await;
    story.ask("POST /clusters/e", &parts, form_data(&[("cluster_user", b"\xff\xfe")])).await;
    story.ask("POST /clusters/e", &[("content-type", "multipart/form-data")], "--b--").await;
    story.form("POST /clusters/e", &format!("cluster_user={}", "x".repeat(1 << 20))).await;
    story.fake.damage("damaged");
    story.form("POST /clusters/damaged", "cluster_user=jane").await;
    story.form("DELETE /clusters/damaged", "password=x").await;
    story.form("POST /clusters/unsaved", "cluster_user=jane").await;
    story.get("/clusters/e").await;
    story.form("PUT /clusters/e", "cluster_user=jane").await;
    story.form("POST /clusters/e/f", "cluster_user=jane").await;
    story.form("POST /clusters/", "cluster_user=jane").await;
    story.form("POST /cluster/e", "cluster_user=jane").await;
    story.get("/static/css/bootstrap.css").await;
    story.get("/api/v1/clusters/e").await;

    story.title("deletion");
    story.form("DELETE /clusters/nothing", "password=x").await;
    story.form("DELETE /clusters/c", "").await;
    story.form("DELETE /clusters/c", "password=wrong").await;
    story.form("DELETE /clusters/c", "passwort=wrong").await;
    story.form("DELETE /clusters/c", "password=pass+word").await;
    story.form("DELETE /clusters/No%20Name", "password=x").await;
    story.form("DELETE /clusters/%ff", "password=x").await;

    story.title("as curl --form sends it");
    let parts = [("content-type", "multipart/form-data; boundary=b")];
    let fields: &[(&str, &[u8])] = &[("cluster_user", b"jane"), ("num_nodes", b"2"), ("cluster_password", b"a & b=c")];
    story.ask("POST /clusters/parts", &parts, form_data(fields)).await;
    story.ask("DELETE /clusters/parts", &parts, form_data(&[("password", b"a+b")])).await;
    story.ask("DELETE /clusters/parts", &parts, form_data(&[("password", b"a & b=c")])).await;

    story.title("a scheduler that stopped");
    story.fake.stop();
    story.form("POST /clusters/f", "cluster_user=jane").await;
    story.form("DELETE /clusters/c", "password=pass+word").await;
    story.check("compat.txt");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a list")]
async fn routes_of_v1() {
    let mut story = Story::new();
    let with_password = |password| [("content-type", JSON), ("x-cotton-password", password)];
    let (known, known_b) = (with_password("secret"), with_password("pass word"));
    story.title("before the first registration");
    story.fake.disconnect(true);
    story.json("POST /api/v1/clusters/a", r#"{"user": "jane"}"#).await;
    story.get("/readyz").await;
    story.fake.disconnect(false);

    story.title("creation");
    story.get("/api/v1/clusters").await;
    story.json("POST /api/v1/clusters/a", r#"{"user": "jane", "password": "secret"}"#).await;
    let all = r#"{"user": "jane", "size": 3, "password": "pass word", "durability": "async", "preference": "consistency",
        "resources": {"cpus": 0.5, "mem": "1g"}, "backup_id": null}"#;
    story.ask("POST /api/v1/clusters/b", &[("content-type", "application/json; charset=utf-8")], all).await;
    story.json("POST /api/v1/clusters/c", r#"{"user": "jane", "size": 3}"#).await;
    story.get("/api/v1/clusters/c").await;

    story.title("scaling");
    story.json("PATCH /api/v1/clusters/a", r#"{"size": 2}"#).await;
    story.json("PATCH /api/v1/clusters/a", r#"{"size": 2, "password": "wrong"}"#).await;
    story.json("PATCH /api/v1/clusters/a", r#"{"size": 2, "password": "secret"}"#).await;
    for body in [
        r"{}",
        r#"{"size": 0}"#,
        r#"{"size": 33}"#,
        r#"{"size": -1}"#,
        r#"{"size": 1.5}"#,
        r#"{"size": "2"}"#,
        r#"{"size": 2, "user": "x"}"#,
    ] {
        story.ask("PATCH /api/v1/clusters/a", &known, body).await;
    }
    story.json("PATCH /api/v1/clusters/nothing", r#"{"size": 2}"#).await;

    story.title("handing over");
    story.ask("POST /api/v1/clusters/b/switchover", &[], "").await;
    story.json("POST /api/v1/clusters/b/switchover", r#"{"to": 1, "password": "wrong"}"#).await;
    story.ask("POST /api/v1/clusters/b/switchover", &known_b[1..], "").await;
    for body in ["{}", r#"{"to": 1}"#, r#"{"to": 0}"#, r#"{"to": 9}"#, r#"{"to": "1"}"#, r#"{"from": 1}"#] {
        story.ask("POST /api/v1/clusters/b/switchover", &known_b, body).await;
    }
    story.ask("PATCH /api/v1/clusters/a", &known, r#"{"size": 1}"#).await;
    story.ask("POST /api/v1/clusters/a/switchover", &known, "{}").await;
    story.ask("PATCH /api/v1/clusters/a", &known, r#"{"size": 2}"#).await;
    story.json("POST /api/v1/clusters/nothing/switchover", "{}").await;

    story.title("explaining");
    story.get("/api/v1/clusters/c/explain").await;
    story.get("/api/v1/clusters/nothing/explain").await;

    story.title("what a person decides");
    story.ask("POST /api/v1/clusters/b/pause", &[], "").await;
    story.ask("POST /api/v1/clusters/b/pause", &known_b[1..], "").await;
    for (lever, body) in [
        ("members/1/rebuild", "{}"),
        ("resume", r#"{"for": "ever"}"#),
        ("resume", "{}"),
        ("members/1/rebuild", "{}"),
        ("members/0/rebuild", "{}"),
        ("members/9/rebuild", "{}"),
        ("members/x/rebuild", "{}"),
        ("members/+1/rebuild", "{}"),
        ("members/1/rule", r#"{"rule": "prefer"}"#),
        ("members/1/rule", r#"{"rule": "must"}"#),
        ("members/1/rule", "{}"),
        ("elect", "{}"),
        ("elect", r#"{"to": 0}"#),
        ("elect", r#"{"to": 1}"#),
        ("elect", r#"{"to": 1, "accept_loss": "yes"}"#),
        ("elect", r#"{"to": 1, "accept_loss": true, "told": 7}"#),
        ("elect", r#"{"to": 1, "accept_loss": true, "told": "nothing, as far as is known"}"#),
        ("elect", r#"{"to": 1, "accept_loss": true}"#),
        ("prune", "{}"),
    ] {
        story.ask(&format!("POST /api/v1/clusters/b/{lever}"), &known_b, body).await;
    }
    story.ask("POST /api/v1/clusters/nothing/pause", &known_b, "").await;
    story.get("/api/v1/clusters/b/events").await;

    story.title("the disk of what nobody needs");
    story.ask("POST /api/v1/prune", &[], "").await;
    story.json("POST /api/v1/prune", r#"{"dry_run": true}"#).await;
    story.json("POST /api/v1/prune", r#"{"dry_run": "yes"}"#).await;
    story.json("POST /api/v1/prune", r#"{"all": true}"#).await;
    story.json("POST /api/v1/clusters/c/prune", r#"{"accept_loss": true}"#).await;
    story.json("POST /api/v1/clusters/nothing/prune", "{}").await;

    story.title("further accounts");
    story.json("POST /api/v1/clusters/b/users/report", r#"{"kind": "read-only"}"#).await;
    for (user, body) in [
        ("report", r#"{"kind": "read-only", "databases": ["shop"], "user_password": "given"}"#),
        ("report", "{}"),
        ("cdc", r#"{"kind": "replication"}"#),
        ("root", "{}"),
        ("x", r#"{"kind": "all"}"#),
        ("x", r#"{"databases": ["mysql"]}"#),
        ("x", r#"{"databases": "shop"}"#),
        ("x", r#"{"databases": ["shop", "shop"]}"#),
        ("x", r#"{"kind": 1}"#),
        ("x", r#"{"user_password": "it's"}"#),
    ] {
        story.ask(&format!("POST /api/v1/clusters/b/users/{user}"), &known_b, body).await;
    }
    story.get("/api/v1/clusters/b/users").await;
    story.ask("POST /api/v1/clusters/b/users/cdc/rotate", &known_b, "").await;
    story.ask("POST /api/v1/clusters/b/users/nobody/rotate", &known_b, "").await;
    story.get("/api/v1").await;
    // the cluster's own user: its password opens the API, too
    story.ask("POST /api/v1/clusters/b/users/jane", &known_b, "{}").await;
    story.ask("DELETE /api/v1/clusters/b/users/jane", &known_b, "").await;
    story.json("POST /api/v1/clusters/b/users/jane/rotate", r#"{"user_password": "rotated"}"#).await;
    story.ask("POST /api/v1/clusters/b/users/jane/rotate", &known_b, r#"{"user_password": "rotated"}"#).await;
    story.ask("DELETE /api/v1/clusters/b/users/cdc", &known_b, "").await;
    let back = r#"{"password": "rotated", "user_password": "pass word"}"#;
    story.json("POST /api/v1/clusters/b/users/jane/rotate", back).await;
    story.ask("DELETE /api/v1/clusters/b/users/cdc", &known_b, "").await;
    story.ask("DELETE /api/v1/clusters/b/users/cdc", &known_b, "").await;
    story.get("/api/v1/clusters/nothing/users").await;

    story.title("what is refused");
    for name in ["A", "-a", "a.b", "%2e%2e", "%ff", "%00", &"x".repeat(64)] {
        story.json(&format!("POST /api/v1/clusters/{name}"), r#"{"user": "jane"}"#).await;
    }
    story.json("POST /api/v1/clusters/a", r#"{"user": "jane"}"#).await;
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"user": "jane", "nodes": 3}"#,
        "{}",
        r#"{"user": ""}"#,
        r#"{"user": 1}"#,
        r#"{"user": "o'hara"}"#,
        r#"{"user": "root"}"#,
        r#"{"user": "jane", "size": 0}"#,
        r#"{"user": "jane", "size": 1000000000}"#,
        r#"{"user": "jane", "size": 1e300}"#,
        r#"{"user": "jane", "size": null}"#,
        r#"{"user": "jane", "password": ""}"#,
        r#"{"user": "jane", "password": 5}"#,
        r#"{"user": "jane", "password": "a'b"}"#,
        r#"{"user": "jane", "password": "\u0000"}"#,
        r#"{"user": "jane", "resources": 5}"#,
        r#"{"user": "jane", "resources": {"gpus": 1}}"#,
        r#"{"user": "jane", "resources": {"mem": "1.5g"}}"#,
        r#"{"user": "jane", "resources": {"mem": "1m"}}"#,
        r#"{"user": "jane", "resources": {"cpus": 64}}"#,
        r#"{"user": "jane", "durability": "fsync"}"#,
        r#"{"user": "jane", "durability": "semi_sync"}"#,
        r#"{"user": "jane", "preference": "both"}"#,
        r#"{"user": "jane", "preference": 1}"#,
        r#"{"user": "jane", "backup_id": "x"}"#,
        r#"{"user": "jane", "backup_id": 7}"#,
    ] {
        story.json("POST /api/v1/clusters/e", body).await;
    }
    story.json("POST /api/v1/clusters/e", &format!(r#"{{"user": "{}"}}"#, "x".repeat(65536))).await;
    story.json("POST /api/v1/clusters/e", &format!(r#"{{"user": "{}"}}"#, "x".repeat(1 << 20))).await;
    story.ask("POST /api/v1/clusters/e", &[("content-type", JSON)], b"{\"user\": \"\xff\"}".to_vec()).await;
    story.ask("POST /api/v1/clusters/e", &[("content-type", FORM)], "user=jane").await;
    story.ask("POST /api/v1/clusters/e", &[], "{}").await;
    story.fake.damage("damaged");
    story.json("POST /api/v1/clusters/damaged", r#"{"user": "jane"}"#).await;
    story.get("/api/v1/clusters/damaged").await;
    story.json("DELETE /api/v1/clusters/damaged", r#"{"password": "x"}"#).await;
    story.json("POST /api/v1/clusters/unsaved", r#"{"user": "jane"}"#).await;
    story.json("PUT /api/v1/clusters/e", "{}").await;
    story.json("POST /api/v1/clusters", "{}").await;
    story.json("POST /", "{}").await;
    story.get("/api/v1/clusters/e").await;
    story.get("/api/v1/nothing").await;
    story.get("/api/v2/clusters").await;
    story.ask("GET /api/v1/clusters", &[("host", "127.0.0.1:8765"), ("origin", "http://evil.example")], "").await;
    story.ask("GET /api/v1/clusters", &[("host", "evil.example:8765")], "").await;
    story.ask("POST /clusters/e", &[("host", "evil.example:8765"), ("origin", "http://evil.example:8765")], "").await;
    story.ask("GET http://evil.example/api/v1/clusters", &[("host", "localhost")], "").await;
    story.ask("POST /clusters/e", &[("origin", "null")], "cluster_user=jane").await;

    story.title("events");
    story.get("/api/v1/events").await;
    story.get("/api/v1/events?cluster=a&since=1").await;
    story.get("/api/v1/clusters/a/events").await;
    story.get("/api/v1/clusters/a/events?since=1").await;
    story.get("/api/v1/clusters/nothing/events").await;
    story.get("/api/v1/events?since=x").await;
    story.get("/api/v1/events?cluster=A").await;
    story.get("/api/v1/events?until=5").await;
    story.get("/api/v1/events/stream?since=-1").await;

    story.title("deletion");
    story.json("DELETE /api/v1/clusters/nothing", r#"{"password": "x"}"#).await;
    story.ask("DELETE /api/v1/clusters/b", &[], "").await;
    story.json("DELETE /api/v1/clusters/b", "{}").await;
    story.json("DELETE /api/v1/clusters/b", r#"{"password": "pass wor"}"#).await;
    story.json("DELETE /api/v1/clusters/b", r#"{"password": 1}"#).await;
    story.ask("DELETE /api/v1/clusters/b", &[("x-cotton-password", "wrong")], "").await;
    story.json("DELETE /api/v1/clusters/b", r#"{"password": "pass word"}"#).await;
    story.ask("DELETE /api/v1/clusters/b", &[("x-cotton-password", "pass word")], "").await;
    story.ask("PATCH /api/v1/clusters/b", &known_b, r#"{"size": 2}"#).await;

    story.title("a scheduler that stopped");
    story.fake.stop();
    for path in ["/api/v1/clusters", "/api/v1/clusters/a", "/api/v1/events", "/healthz", "/metrics", "/vars.json"] {
        story.get(path).await;
    }
    story.json("PATCH /api/v1/clusters/a", r#"{"size": 2}"#).await;
    story.check("v1.txt");
}

#[tokio::test]
async fn numbers_and_the_page() {
    let mut story = Story::new();
    story.get("/").await;
    story.json("POST /api/v1/clusters/a", r#"{"user": "jane"}"#).await;
    story.json("POST /api/v1/clusters/b", r#"{"user": "jane", "size": 3}"#).await;
    for path in ["/", "/vars.json", "/metrics", "/healthz", "/readyz"] {
        story.get(path).await;
    }
    story.fake.damage("torn");
    story.get("/").await;
    story.check("page.txt");
}

#[tokio::test]
async fn openapi_is_served_as_it_is() {
    let story = Story::new();
    let request = Request::get("/api/v1/openapi.json").body(Body::empty()).expect("a request");
    let response = story.router.oneshot(request).await.expect("answers");
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    let openapi: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    for (path, described) in openapi["paths"].as_object().expect("an object") {
        let path = path.replace("{name}", "a").replace("{member}", "1");
        for method in ["get", "put", "post", "delete", "patch"] {
            if path.ends_with("/stream") && method == "get" {
                continue; // has no end
            }
            let router = Story::new().router;
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path).body(Body::empty());
            let status = router.oneshot(request.expect("a request")).await.expect("answers").status();
            assert_eq!(described.get(method).is_some(), status != 405, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_stream_has_the_past_and_the_present_once() {
    let story = Story::new();
    let (a, b) = ("a".parse().expect("valid"), "b".parse().expect("valid"));
    story.fake.log(&a, EventKind::Created { size: 1 });
    story.fake.log(&a, EventKind::Deleting);
    let request = Request::get("/api/v1/events/stream?cluster=a").header("last-event-id", "1").body(Body::empty());
    let response = story.router.clone().oneshot(request.expect("a request")).await.expect("answers");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    story.fake.log(&b, EventKind::Deleting);
    story.fake.log(&a, EventKind::Deleted);
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains("id: 4") {
        let next = tokio::time::timeout(Duration::from_secs(10), body.next()).await.expect("in time");
        text.push_str(std::str::from_utf8(&next.expect("has no end").expect("is whole")).expect("text"));
    }
    let ids: Vec<_> = text.lines().filter(|line| line.starts_with("id:") || line.starts_with("event:")).collect();
    assert_eq!(ids, ["id: 2", "event: deleting", "id: 4", "event: deleted"]);
    story.stopping.send(true).expect("is listened to");
    let end = tokio::time::timeout(Duration::from_secs(10), body.next()).await.expect("in time");
    assert!(end.is_none(), "the stream ends when the server does");
}
