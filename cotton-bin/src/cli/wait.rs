//! Waiting for what takes long, with a progress display on a terminal and in silence elsewhere.

use super::CliError;
use super::answers::Cluster;
use super::client::{Client, cluster_path};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);
const DRAW_EVERY: Duration = Duration::from_millis(120);

/// Waits until the cluster is all that it shall be.
pub(super) async fn until_whole(client: &Client, name: &str, timeout: Duration) -> Result<Cluster, CliError> {
    let last = until(client, name, timeout, |found| found.as_ref().is_some_and(Cluster::is_whole)).await?;
    last.ok_or_else(|| CliError::Failed(format!("cluster '{name}' is gone"))) // cannot be: it is whole
}

/// Waits until the cluster can be written to.
pub(super) async fn until_writable(client: &Client, name: &str, timeout: Duration) -> Result<Cluster, CliError> {
    let writable = |found: &Option<Cluster>| found.as_ref().is_some_and(|cluster| cluster.endpoint.is_some());
    let last = until(client, name, timeout, writable).await?;
    last.ok_or_else(|| CliError::Failed(format!("cluster '{name}' is gone"))) // cannot be: it is writable
}

/// Waits until a fresh copy has taken the place of a member, or that was given up.
pub(super) async fn until_rebuilt(client: &Client, name: &str, member: u64, timeout: Duration) -> Result<(), CliError> {
    let stays = |cluster: &Cluster| cluster.members.iter().any(|it| it.id == member && !it.leaving);
    let over = |found: &Option<Cluster>| {
        let is_gone = |cluster: &Cluster| !cluster.members.iter().any(|it| it.id == member);
        found.as_ref().is_some_and(|cluster| stays(cluster) || (is_gone(cluster) && cluster.is_whole()))
    };
    match until(client, name, timeout, over).await? {
        Some(cluster) if stays(&cluster) => Err(CliError::Failed(format!(
            "member {member} of cluster '{name}' is not rebuilt: it became primary meanwhile, and stays; ask again when \
             another member is primary"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Waits until the primary has handed over and commits are done again, or it has not.
pub(super) async fn until_handed_over(client: &Client, name: &str, timeout: Duration) -> Result<(), CliError> {
    let over = |found: &Option<Cluster>| {
        found.as_ref().is_some_and(|cluster| match cluster.switchover.as_ref().map(|it| &*it.state) {
            Some("under_way") => false,
            // It is open; its first replica may still be on its way to it.
            Some("done") => matches!(&*cluster.status, "healthy" | "degraded"),
            Some(_) | None => true,
        })
    };
    let last = until(client, name, timeout, over).await?.and_then(|cluster| cluster.switchover);
    match last {
        Some(it) if it.state == "done" => Ok(()),
        Some(it) => Err(CliError::Failed(format!(
            "the switchover of cluster '{name}' failed: {}",
            it.reason.unwrap_or_default()
        ))),
        None => Err(CliError::Failed(format!(
            "the scheduler was restarted meanwhile: see 'cotton show {name}' for the present primary"
        ))),
    }
}

/// Waits until the cluster is no more.
pub(super) async fn until_gone(client: &Client, name: &str, timeout: Duration) -> Result<(), CliError> {
    until(client, name, timeout, Option::is_none).await.map(|_| ())
}

async fn until(
    client: &Client,
    name: &str,
    timeout: Duration,
    done: impl Fn(&Option<Cluster>) -> bool,
) -> Result<Option<Cluster>, CliError> {
    let deadline = Instant::now() + timeout;
    let bar = bar();
    loop {
        let found = match client.cluster(name).await {
            Ok(cluster) => Some(cluster),
            Err(CliError::Refused { code, .. }) if code == "cluster_not_found" => None,
            Err(error) => return Err(error),
        };
        if done(&found) {
            bar.finish_and_clear();
            return Ok(found);
        }
        let state = describe(found.as_ref());
        bar.set_message(format!("{name}: {state}"));
        if Instant::now() >= deadline || found.is_none() {
            bar.finish_and_clear();
            let seconds = timeout.as_secs();
            let state = last_end(client, name).await.map_or_else(|| state.clone(), |end| format!("{state}; {end}"));
            return Err(match found {
                None => CliError::Refused {
                    code: "cluster_not_found".to_owned(),
                    detail: format!("cluster '{name}' was deleted meanwhile"),
                },
                Some(_) => CliError::Timeout(format!("not done after {seconds} s; cluster '{name}' is {state}")),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Why a member ended last, which is often why it takes so long.
async fn last_end(client: &Client, name: &str) -> Option<String> {
    let events = client.get(&format!("{}/events", cluster_path(name))).await.ok()?;
    let end = events["events"].as_array()?.iter().rev().find(|event| event["event"] == "ended")?;
    Some(format!("lately {}", end["text"].as_str()?))
}

fn describe(cluster: Option<&Cluster>) -> String {
    let Some(cluster) = cluster else { return "gone".to_owned() };
    let why = cluster.why();
    let members = format!("{} of {} members healthy", cluster.healthy_members(), cluster.size);
    let status = cluster.status.replace('_', " ");
    if why.is_empty() { format!("{status}, {members}") } else { format!("{status}, {members} ({why})") }
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(DRAW_EVERY);
    bar
}
