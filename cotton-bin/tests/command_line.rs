//! The command line as people and scripts see it, against a control plane in memory: what is printed where, and the exit
//! status, held against a golden file; `COTTON_UPDATE_GOLDEN=1` writes it anew.

mod support;

use cotton_bin::api::{self, ApiConfig};
use cotton_bin::secret::SealingKey;
use cotton_core::EventKind;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use support::Fake;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::watch;

struct Story {
    fake: Arc<Fake>,
    url: String,
    port: String,
    home: tempfile::TempDir,
    text: String,
    _stopping: watch::Sender<bool>,
}

impl Story {
    async fn new() -> Self {
        let (fake, stopping) = (Fake::new(), watch::channel(false).0);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("is bound"));
        let config = ApiConfig {
            key: SealingKey::new([1; 32]),
            limits: fake.limits.clone(),
            cluster_url_prefix: format!("{url}/api/v1/clusters/"),
            hosts: Arc::new(api::Hosts::new([127, 0, 0, 1].into(), &[])),
            stopping: stopping.subscribe(),
            agents: None,
        };
        let router = api::router(Arc::clone(&fake) as _, config);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let home = tempfile::tempdir().expect("a directory");
        let client = home.path().join("mariadb");
        let script = "#!/bin/sh\nfor a; do echo \"argument ${a%client-*}\"; done\nstat -c 'mode %a' \"${1#*=}\"\ncat \"${1#*=}\"\nexit 9\n";
        std::fs::write(&client, script).expect("written");
        std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).expect("made executable");
        let port = url.rsplit(':').next().expect("has a port").to_owned();
        Self { fake, url, port, home, text: String::new(), _stopping: stopping }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cotton"));
        command.args(arguments.split(' ')).env_clear().env("COTTON_API", &self.url).env("HOME", self.home.path());
        let path = format!("{}:/usr/bin:/bin", self.home.path().display());
        command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs a command and writes down what came of it.
    async fn run(&mut self, arguments: &str) {
        self.run_with(arguments, "").await;
    }

    async fn run_with(&mut self, arguments: &str, input: &str) {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("is piped");
        stdin.write_all(input.as_bytes()).await.expect("is read");
        drop(stdin);
        let output = child.wait_with_output().await.expect("ends");
        write!(self.text, "\n$ cotton {arguments}").expect("a String takes everything");
        for (mark, bytes) in [("", &output.stdout), ("! ", &output.stderr)] {
            for line in String::from_utf8_lossy(bytes).lines() {
                write!(self.text, "\n{mark}{}", self.without_chance(line)).expect("a String takes everything");
            }
        }
        writeln!(self.text, "\n[{}]", output.status.code().expect("was not killed"))
            .expect("a String takes everything");
    }

    /// What differs every time: ports, directories, passwords.
    fn without_chance(&self, line: &str) -> String {
        let mut line = line.replace(&self.home.path().display().to_string(), "HOME").replace(&self.port, "PORT");
        for mark in ["\"password\": \"", "password=\""] {
            if let Some(at) = line.find(mark).map(|at| at + mark.len()) {
                let end = at + line[at..].find('"').expect("ends");
                if end - at == 21 {
                    line.replace_range(at..end, "<21 characters>");
                }
            }
        }
        line
    }

    fn password_file(&self, cluster: &str) -> PathBuf {
        self.home.path().join(".config/cotton/passwords/framework-framework-1").join(cluster)
    }

    fn check(self, name: &str) {
        let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("COTTON_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &self.text).expect("the golden file can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == self.text, "{path} differs; COTTON_UPDATE_GOLDEN=1 accepts:\n{}", self.text);
    }
}

#[tokio::test]
async fn from_creation_to_deletion() {
    let mut story = Story::new().await;
    story.fake.delete_at_once();
    for command in [
        "list",
        "create a --user jane",
        "create b --size 2 --cpus 0.5 --mem 1gb --wait",
        "create b --size 2",
        "create c --size 3 --wait --timeout 1s",
        "list",
        "show c",
        "show a --json",
        "show nothing",
        "explain c",
        "explain a",
        "explain a --json",
        "explain nothing",
        "scale a 2 --wait",
        "scale a 0",
        "scale a 2.5",
        "scale nothing 2",
        "switchover a --wait",
        "switchover nothing",
        "pause a",
        "rebuild a 1",
        "resume a",
        "resume a",
        "rebuild a 0",
        "rebuild a 1",
        "rebuild a x",
        "rule a 1 never",
        "rule a 1 sometimes",
        "elect a",
        "elect a --to 0 --accept-loss",
        "elect a --to 1",
        "elect a --to 1 --yes",
        "elect a --to 1 --accept-loss",
        "elect a --to 1 --accept-loss --yes",
        "pause nothing",
        "prune --dry-run",
        "prune",
        "prune a --yes",
        "prune a --dry-run --json",
        "prune --password-file /nothing",
        "events",
        "events b --json",
        "events nothing",
        "mysql a -- --batch",
        "mysql a --member 1",
        "mysql a --member 7",
        "mysql nothing",
        "create ../x",
        "create d --user root",
        "create d --durability sometimes",
        "create d --mem 1.5gb",
    ] {
        story.run(command).await;
    }
    story.run_with("create d --password-file -", "pass word\n").await;
    story.run_with("create e --password-file -", "pass'word\n").await;
    story.run("create e --password-file /nothing").await;
    let password = story.password_file("d");
    assert_eq!(std::fs::read_to_string(&password).expect("is kept"), "pass word\n");
    assert_eq!(password.metadata().expect("is there").permissions().mode() & 0o777, 0o600);
    assert!(!story.password_file("e").exists(), "the password of a refused cluster is not kept");
    story.run_with("scale d 3 --password-file -", "wrong").await;
    story.run_with("scale d 3 --password-file -", "pass word\n").await;
    story.run_with("switchover d --password-file -", "wrong").await;
    story.run_with("delete d --password-file -", "wrong").await;
    let rotated = story.command("user rotate d").output().await.expect("runs");
    let told = String::from_utf8_lossy(&rotated.stdout).into_owned();
    let kept = std::fs::read_to_string(&password).expect("is kept");
    assert!(rotated.status.success() && told.trim_end().ends_with(kept.trim_end()), "{told}");
    assert_ne!(kept, "pass word\n");
    // a rotation whose answer was not heard: either password may be in force
    for (known, pending) in [(kept.as_str(), "second\n"), ("first\n", "second\n")] {
        std::fs::write(&password, known).expect("written");
        std::fs::write(password.with_extension("new"), pending).expect("written");
        story.run("user rotate d app --json").await;
        assert_eq!(std::fs::read_to_string(&password).expect("is kept"), "second\n");
        assert!(!password.with_extension("new").exists(), "it is settled");
    }
    story.run("user drop d app").await;
    story.run("user create d event_scheduler").await;
    story.run("delete d --wait").await;
    assert!(!password.exists(), "the password of a deleted cluster is not kept");
    story.run("delete d").await;
    std::fs::remove_file(story.password_file("a")).expect("was kept");
    story.run("delete a").await;
    story.run("scale a 1").await;
    story.run("switchover a").await;
    story.run("mysql a").await;
    story.run("delete b --json").await;
    story.fake.stop();
    story.run("list").await;
    story.url = "http://127.0.0.1:1".to_owned();
    story.run("list").await;
    story.run("nonsense").await;
    story.check("command_line.txt");
}

#[tokio::test]
async fn events_are_followed() {
    let story = Story::new().await;
    let name = "a".parse().expect("valid");
    story.fake.log(&name, EventKind::Created { size: 1 });
    let mut child = story.command("events --follow").spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let first = lines.next_line().await.expect("is read").expect("is printed");
    assert_eq!(first, "2023-11-14 22:13:20.001Z  a  epoch 1  created with 1 member");
    story.fake.log(&name, EventKind::Deleting);
    let second = lines.next_line().await.expect("is read").expect("is printed");
    assert_eq!(second, "2023-11-14 22:13:20.002Z  a  epoch 1  deletion was asked for");
    child.kill().await.expect("can be killed");
}

#[tokio::test]
async fn a_server_is_found_by_its_directory() {
    let story = Story::new().await;
    let dir = story.home.path().join(".local/share/cotton");
    let run = async |dir: &Path| {
        let mut command = story.command("list");
        command.env_remove("COTTON_API").env("COTTON_DIR", dir);
        let output = command.output().await.expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, message) = run(&dir).await;
    assert_eq!(status, Some(7));
    assert!(message.contains("start one with 'cotton local'"), "{message}");
    std::fs::create_dir_all(&dir).expect("made");
    cotton_bin::cli::write_api_file(&dir, &story.url).expect("written");
    assert_eq!(run(&dir).await, (Some(0), String::new()));
}
