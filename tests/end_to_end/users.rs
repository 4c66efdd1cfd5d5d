//! Further accounts, all the way from the command line to the servers, and what keeps clusters apart on one machine.

use crate::{Outcome, STEP, cluster, cotton};
use cotton_core::Endpoint;
use cotton_tests::{Client, Failure, Process, RealCotton, Wanted, program};
use mysql_async::prelude::Queryable;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs the command line; gives what it printed.
async fn run(cotton: &RealCotton, password: &str, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new(program("cotton")?);
    command.arg("--api").arg(cotton.api().base()).args(arguments).args(["--password-file", "-"]);
    command.env("XDG_CONFIG_HOME", cotton.path()); // not the passwords of whoever runs this
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(password.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(Failure::new(text(&output.stderr))) }
}

/// The password that ends a line of the command line.
fn told(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Waits until an account gets in, or does not any more.
async fn until_lets_in(client: &Client, at: &Endpoint, wanted: bool) -> Outcome {
    let start = Instant::now();
    while client.connect(at).await.is_ok() != wanted {
        if start.elapsed() > STEP {
            return Err(Failure::new(format!("{at:?} lets it in: {}", !wanted)));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // servers tell nobody of new accounts
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_from_the_command_line_to_every_server() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (owner, seen) = cluster(&cotton, "a", 2).await?;
    let primary = seen.primary()?.endpoint.clone();
    for sql in ["CREATE DATABASE s", "CREATE DATABASE t", "CREATE TABLE s.k (id INT PRIMARY KEY)"] {
        owner.run(&primary, sql).await?;
    }
    owner.run(&primary, "INSERT INTO s.k VALUES (1)").await?;

    let refused = run(&cotton, "wrong", &["user", "create", "a", "reports"]).await.expect_err("a wrong password");
    assert!(refused.to_string().contains("password"), "{refused}");
    let made = run(&cotton, owner.password(), &["user", "create", "a", "reports", "--read-only", "--databases", "s"]);
    let reports = Client::new("reports", told(&made.await?));
    for member in &seen.members {
        until_lets_in(&reports, &member.endpoint, true).await?;
        assert_eq!(reports.numbers(&member.endpoint, "SELECT id FROM s.k").await?, [1].into());
    }
    for sql in ["INSERT INTO s.k VALUES (2)", "CREATE TABLE t.k (id INT)", "DROP TABLE s.k"] {
        assert!(reports.run(&primary, sql).await.is_err(), "{sql}");
    }

    // a new password: the old one and its sessions are out
    let mut session = reports.connect(&primary).await?;
    let rotated = run(&cotton, owner.password(), &["user", "rotate", "a", "reports"]).await?;
    let renewed = Client::new("reports", told(&rotated));
    assert_ne!(renewed.password(), reports.password());
    until_lets_in(&renewed, &primary, true).await?;
    until_lets_in(&reports, &primary, false).await?;
    let start = Instant::now();
    while session.query_drop("DO 0").await.is_ok() {
        assert!(start.elapsed() < STEP, "its session goes on");
    }

    // the cluster's own user: by hand it is taken back, by cotton it is the way into the API, too
    let own = Wanted::small(2).user;
    if owner.run(&primary, "SET PASSWORD = PASSWORD('by-hand')").await.is_err() {
        owner.run(&primary, "SET PASSWORD = 'by-hand'").await?; // as MySQL says it
    }
    until_lets_in(&owner, &primary, true).await?;
    let rotated = run(&cotton, owner.password(), &["user", "rotate", "a"]).await?;
    let (former, owner) = (owner, Client::new(own, told(&rotated)));
    assert_ne!(owner.password(), former.password());
    until_lets_in(&owner, &primary, true).await?;
    until_lets_in(&former, &primary, false).await?;
    let refused = run(&cotton, former.password(), &["user", "drop", "a", "reports"]).await.expect_err("not any more");
    assert!(refused.to_string().contains("password"), "{refused}");

    // whoever is primary next knows them, too
    cotton.server(&seen.primary()?.task)?.kill();
    let seen = cotton.api().until("a", STEP, "failed over and whole", |c| c.epoch > 1 && c.is_healthy()).await?;
    for member in &seen.members {
        until_lets_in(&renewed, &member.endpoint, true).await?;
        until_lets_in(&owner, &member.endpoint, true).await?;
        until_lets_in(&former, &member.endpoint, false).await?;
    }

    run(&cotton, owner.password(), &["user", "drop", "a", "reports"]).await?;
    for member in &seen.members {
        until_lets_in(&renewed, &member.endpoint, false).await?;
    }
    let refused = run(&cotton, owner.password(), &["user", "drop", "a", "cotton_repl"]).await.expect_err("not theirs");
    assert!(!refused.to_string().is_empty());
    assert_eq!(cotton.api().until_healthy("a", STEP).await?.epoch, seen.epoch);
    Ok(())
}

/// Which of these paths a user and group can read or write.
async fn reached_by((user, group): (u32, u32), paths: &[&str]) -> Result<String, Failure> {
    let mut probe = Command::new("setpriv");
    probe.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups", "sh", "-c"]);
    probe.arg("for f; do if [ -r \"$f\" ] || [ -w \"$f\" ]; then echo \"$f\"; fi; done").arg("sh").args(paths);
    let reached = probe.output().await?;
    assert!(reached.status.success(), "{}", String::from_utf8_lossy(&reached.stderr));
    Ok(String::from_utf8_lossy(&reached.stdout).into_owned())
}

/// One cluster's server must not be able to read or write what belongs to another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_different_clusters_are_different_users() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start servers as other users");
        return Ok(());
    }
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (_, a) = cluster(&cotton, "a", 2).await?;
    let (_, b) = cluster(&cotton, "b", 1).await?;
    let user = |server: &Process| std::fs::metadata(format!("/proc/{}", server.pid)).map(|of| (of.uid(), of.gid()));
    let mut of_a = Vec::new();
    for member in &a.members {
        of_a.push(user(&cotton.server(&member.task)?)?);
    }
    let of_b = user(&cotton.server(&b.primary()?.task)?)?;
    assert_eq!(of_a[0], of_a[1], "one cluster, one user");
    assert!(of_a[0].0 != of_b.0 && of_a[0].1 != of_b.1, "{of_a:?} and {of_b:?}");
    assert!([of_a[0].0, of_a[0].1, of_b.0, of_b.1].iter().all(|id| *id != 0), "nobody is root");

    // what the user of a's servers can reach of what is b's
    let mut find = std::process::Command::new("find");
    find.arg(cotton.path()).args(["-user", &of_b.0.to_string(), "-not", "-type", "l", "-print"]);
    let listed = String::from_utf8_lossy(&find.output()?.stdout).into_owned();
    let data: Vec<&str> = listed.lines().collect();
    assert!(data.iter().any(|path| path.ends_with("ibdata1")), "b has data: {data:?}");
    let reached = reached_by(of_b, &data).await?;
    assert!(reached.contains("/ibdata1"), "its own servers reach it: {reached}");
    let reached = reached_by(of_a[0], &data).await?;
    assert!(reached.lines().all(|path| !path.contains("/data/")), "open to a's servers: {reached}");
    Ok(())
}
