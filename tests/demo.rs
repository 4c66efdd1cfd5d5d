//! The main job, live: a cluster of three is made, written to, loses its primary, is scaled up and down, and deleted.
//!
//! Nothing is left behind, whatever happens. The last line is `demo: ok`, or a reason. Arguments are handed on to
//! `cotton local`, such as `--mysql-bin-dir` to see it with another server.
#![allow(clippy::print_stdout, reason = "it is there to be read")]

use cotton_tests::{Ack, Client, Cluster, Event, Failure, Flavour, Options, RealCotton, Wanted, Writer, within};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};

const NAME: &str = "demo";
/// Four writers that together commit some hundred rows a second: three servers share the cores of this machine.
const CONNECTIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// Events that tell of the end of a member's task.
const ENDS: [&str; 2] = ["ended", "resting"];
/// How long any single step may take: far more than it does, so that a failure is one and not a slow machine.
const STEP: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => {
            println!("demo: ok");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("demo: failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = demo() => result, // whichever ends first: dropping the other one cleans up
        _ = interrupt.recv() => Err(Failure::new("interrupted")),
        _ = terminate.recv() => Err(Failure::new("told to stop")),
    }
}

async fn demo() -> Result<(), Failure> {
    Flavour::MariaDb.require()?;
    let start = Instant::now();
    let cotton =
        RealCotton::start(Options { agents: 6, arguments: std::env::args().skip(1).collect(), ..Options::default() })
            .await?;
    step("start", &format!("cotton local with 6 agents, at {}", cotton.api().base()), start);
    let told = tell(&cotton).await;
    if told.is_err() {
        println!("the end of cotton's log:\n{}\n", cotton.log_end());
    }
    told
}

async fn tell(cotton: &RealCotton) -> Result<(), Failure> {
    let api = cotton.api();
    let start = Instant::now();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(3) };
    let created = api.create(NAME, &wanted).await?;
    let cluster = first_members(cotton).await?;
    step("create", &format!("cluster '{NAME}' with 3 members, semi_sync: {}", words(&cluster)), start);

    let client = Client::new(wanted.user, created.password);
    let start = Instant::now();
    let writer = Writer::start_paced(&api, NAME, client.clone(), CONNECTIONS, PAUSE).await?;
    writer.progress(1_000, STEP).await?;
    let text = format!("{} rows acknowledged on {CONNECTIONS} connections, which go on writing", writer.count());
    step("write", &text, start);

    let (cluster, outage) = fail_over(cotton, &cluster, &writer).await?;
    println!("  {:9} the writers saw no acknowledgement for {} ms", "outage", outage.as_millis());

    let start = Instant::now();
    writer.progress(500, STEP).await?;
    let acknowledged = writer.finish().await;
    prove(&client, &cluster, &acknowledged).await?;
    let on = format!("on the new primary and on both replicas, which hold nothing else: {}", words(&cluster));
    step("prove", &format!("all {} acknowledged rows are there, {on}", acknowledged.len()), start);

    for size in [5, 2] {
        let start = Instant::now();
        let primary = cluster.primary;
        api.scale(NAME, size).await?;
        let scaled = api.until_healthy(NAME, STEP).await?;
        if scaled.primary != primary {
            return Err(Failure::new(format!("scaling changed the primary: {scaled:?}")));
        }
        prove(&client, &scaled, &acknowledged).await?;
        step("scale", &format!("to {size} members, all with all rows: {}", words(&scaled)), start);
    }

    let start = Instant::now();
    let password = client.password().to_owned();
    api.delete(NAME, &password).await?;
    api.until_gone(NAME, STEP).await?;
    let ended = async {
        for process in cotton.members_processes() {
            process.ended(STEP).await?;
        }
        Ok::<_, Failure>(())
    };
    within(STEP, "the end of all processes", ended).await??;
    step("delete", "the cluster is gone, and no process of it is left", start);
    Ok(())
}

/// Waits for the members of a new cluster. Each is launched again when it fails, for whatever a person may do about it; here
/// nobody does anything, so that the first failure is the last.
async fn first_members(cotton: &RealCotton) -> Result<Cluster, Failure> {
    let api = cotton.api();
    let mut events = api.stream(NAME, Some(0)).await?;
    let failed = events.until(STEP, "the end of a member", |event| ENDS.contains(&event.kind.as_str()));
    tokio::select! {
        healthy = api.until_healthy(NAME, STEP) => healthy,
        failed = failed => {
            let event = failed?;
            let reason = event.fields.get("reason").and_then(|reason| reason.as_str()).unwrap_or(&event.text);
            Err(Failure::new(format!("a database server could not be set up: {reason}")))
        }
    }
}

/// Kills the primary's server and tells what follows.
async fn fail_over(cotton: &RealCotton, cluster: &Cluster, writer: &Writer) -> Result<(Cluster, Duration), Failure> {
    let api = cotton.api();
    let old = cluster.primary()?;
    let server = cotton.server(&old.task)?;
    let before = api.events(NAME, 0).await?.last().map_or(0, |event| event.number);
    let (killed, killed_unix_ms) = (Instant::now(), unix_ms());
    server.kill();
    println!("  {:9} mysqld of the primary (member {}, process {}) got SIGKILL under load", "kill", old.id, server.pid);
    let first = writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    let cluster = api.until_healthy(NAME, STEP).await?;
    let timeline = cluster.last_failover.clone().ok_or_else(|| Failure::new("the API tells of no failover"))?;
    let events = api.events(NAME, before).await?;
    let at = |ms: u64, text: &str| println!("  {:9} +{ms:4} ms  {text}", "");
    let since = |event: &Event| event.unix_ms.saturating_sub(killed_unix_ms);
    let find = |kind: &str, member: Option<u64>| {
        let found = events.iter().find(|e| e.kind == kind && (member.is_none() || e.member() == member));
        found.ok_or_else(|| Failure::new(format!("no event '{kind}' of {member:?} in {events:?}")))
    };
    let lost = find("primary_lost", None)?;
    let base = since(lost);
    let to = timeline.to.0;
    at(base, &lost.text);
    at(
        base + timeline.checkpointed_ms,
        &format!("epoch {} is durable; the replicas are told to freeze", timeline.epoch),
    );
    at(base + timeline.frozen_ms, "enough replicas are frozen: the old primary can acknowledge nothing any more");
    at(base + timeline.decided_ms, &format!("the election of member {to}, which has everything, is durable"));
    at(base + timeline.promoted_ms, &format!("member {to} is open for writes"));
    let Ack { at: acked, .. } = first;
    at(ms(acked.duration_since(killed)), "first row acknowledged by the new primary");
    if let Some(ms) = timeline.replica_ms {
        at(base + ms, "the first replica is connected to it");
    }
    let back = find("following", Some(old.id));
    if cluster.member(old.id).is_some() {
        at(since(back?), &format!("member {}, restarted in place with its data, follows the new primary", old.id));
    } else {
        // it held rows that nobody had acknowledged, which is nobody's fault
        let left = find("leaving", Some(old.id))?;
        if !left.text.contains("holds transactions that the primary lacks") {
            return Err(Failure::new(format!("member {} was not restarted in place: {}", old.id, left.text)));
        }
        at(since(left), &left.text);
    }
    if cluster.primary != Some(to) || to == old.id {
        return Err(Failure::new(format!("member {to} should be primary: {cluster:?}")));
    }
    let outage = writer.outage(killed).ok_or_else(|| Failure::new("nothing was written after the failover"))?;
    Ok((cluster, outage))
}

/// Every acknowledged row is on every member, and all members hold the same.
async fn prove(client: &Client, cluster: &Cluster, acknowledged: &BTreeSet<u64>) -> Result<(), Failure> {
    Writer::compare(client, acknowledged, &cluster.endpoints()?, STEP).await
}

fn step(name: &str, text: &str, since: Instant) {
    println!("  {name:9} {text} ({:.1} s)", since.elapsed().as_secs_f64());
}

fn words(cluster: &Cluster) -> String {
    let member = |m: &cotton_tests::Member| {
        let role = if Some(m.id) == cluster.primary { "primary" } else { "replica" };
        format!("{role} {} on {}", m.id, m.agent)
    };
    cluster.members.iter().map(member).collect::<Vec<_>>().join(", ")
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms)
}
