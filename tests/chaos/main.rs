//! Chaos: a real cluster, faults and hostile users by seed, and after each round a look at whether anything was lost.
//!
//! `cotton-chaos [--minutes N] [--seed S] [--server mariadb|mysql] [--on local|mesos] [--rounds N] [--full-disks yes|no]
//! [--aim any|primary]`. The last line is `chaos: ok ...`, or what is wrong, with all that is needed to understand it. A
//! round depends on the seed and on its number alone, as far as the world lets it. With `--aim primary` each round takes
//! the primary, whatever else it does. With `--spoil lose|differ|invent` the data is changed behind the cluster's back,
//! which must be found.
#![allow(clippy::print_stdout, reason = "it is there to be read")]

mod check;
mod faults;
mod ledger;
mod rng;
mod scene;
mod spoil;
mod stage;
mod users;
mod watch;

use cotton_tests::{Client, Cluster, Event, Failure, Flavour, Wanted};
use faults::Fault;
use ledger::Ledger;
use rng::Rng;
use scene::Scene;
use spoil::Spoil;
use stage::{On, Stage};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use users::User;

const NAME: &str = "chaos";
/// Far more than a step takes that waits for nobody to heal.
const STEP: Duration = Duration::from_mins(3);
/// Moves that must be acknowledged before a round begins.
const SOME: usize = 30;
/// All moves are looked at after so many rounds, and at the end; the latest ones after each.
const ALL_EVERY: u64 = 10;

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    minutes: u64,
    rounds: u64,
    seed: u64,
    server: Flavour,
    on: On,
    full_disks: bool,
    /// Whether each round takes the primary.
    at_primary: bool,
    spoil: Option<Spoil>,
}

/// What came of it.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    failovers: usize,
    moves: usize,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(failure) => {
            eprintln!("chaos: {failure}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(interruptible(&options)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(Tally { rounds, failovers, moves }) => {
            println!("chaos: ok: {rounds} rounds, {failovers} failovers, {moves} acknowledged moves, 0 lost");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("chaos: failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = u64::from(now.subsec_nanos());
    let mut options = Options {
        minutes: 3,
        rounds: u64::MAX,
        seed,
        server: Flavour::MariaDb,
        on: On::Local,
        full_disks: true,
        at_primary: false,
        spoil: None,
    };
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let wrong = || Failure::new(format!("'{name} {value}' is not understood"));
        let number = || value.parse::<u64>().map_err(|_| wrong());
        match (name.as_str(), value.as_str()) {
            ("--seed", "") => {} // as make hands it on: any
            ("--minutes", _) => options.minutes = number()?,
            ("--rounds", _) => options.rounds = number()?,
            ("--seed", _) => options.seed = number()?,
            ("--server", "mariadb") => options.server = Flavour::MariaDb,
            ("--server", "mysql") => options.server = Flavour::MySql97,
            ("--on", "local") => options.on = On::Local,
            ("--on", "mesos") => options.on = On::Mesos,
            ("--full-disks", "yes") => options.full_disks = true,
            ("--full-disks", "no") => options.full_disks = false,
            ("--aim", "any") => options.at_primary = false,
            ("--aim", "primary") => options.at_primary = true,
            ("--spoil", _) => options.spoil = Some(Spoil::named(&value).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        }
    }
    Ok(options)
}

async fn interruptible(options: &Options) -> Result<Tally, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = run(options) => result, // whichever ends first: dropping the other one cleans up
        _ = interrupt.recv() => Err(Failure::new("interrupted")),
        _ = terminate.recv() => Err(Failure::new("told to stop")),
    }
}

async fn run(options: &Options) -> Result<Tally, Failure> {
    println!(
        "chaos: seed {}, {} minutes, {:?} on {:?} (the same again: --seed {})",
        options.seed, options.minutes, options.server, options.on, options.seed
    );
    let stage = Stage::start(options).await?;
    let api = stage.api();
    let resources = match options.server {
        Flavour::MariaDb | Flavour::MariaDb118 => Wanted::small(3).resources,
        Flavour::MySql97 | Flavour::MySql56 => serde_json::json!({ "cpus": 0.3, "mem": "400mb", "disk": "512mb" }),
    };
    let wanted = Wanted { durability: Some("semi_sync"), resources, ..Wanted::small(3) };
    let created = api.create(NAME, &wanted).await?;
    let client = Client::new(wanted.user, created.password);
    let mut cluster = api.until_healthy(NAME, STEP).await?;
    let ledger = Ledger::start(&api, NAME, client, &cluster.primary()?.endpoint, &directory()?).await?;
    users::prepare(&Scene::new(&stage, &ledger, cluster.clone())).await?;
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut seen = 1;
    while tally.rounds < options.rounds && begun.elapsed() < Duration::from_secs(options.minutes * 60) {
        let number = tally.rounds + 1;
        let plan = Plan::of(options, number);
        let scene = Scene::new(&stage, &ledger, cluster);
        let from = if number.is_multiple_of(ALL_EVERY) { 1 } else { seen };
        let events = api.events(NAME, 0).await?.last().map_or(0, |event| event.number);
        let result = round(&scene, &plan, from, options.spoil).await;
        cluster = match result {
            Ok(cluster) => cluster,
            Err(failure) => return Err(explain(&scene, options, number, &plan, events, &failure).await),
        };
        println!("{}", line(number, &plan, &scene, &cluster, ledger.count()));
        let happened = api.events(NAME, events).await?;
        tally.failovers += happened.iter().filter(|event| event.kind == "failed_over").count();
        seen = ledger.acknowledged()?.last().map_or(1, |last| last + 1);
        tally.rounds = number;
    }
    let scene = Scene::new(&stage, &ledger, cluster);
    check::compare(&scene, 1).await?;
    tally.moves = ledger.count();
    drop(scene);
    ledger.finish().await;
    Ok(tally)
}

/// What happens in a round.
#[derive(Debug)]
struct Plan {
    faults: Vec<Fault>,
    users: Vec<User>,
    rng: Rng,
}

impl Plan {
    /// One to three things at a time.
    fn of(options: &Options, round: u64) -> Self {
        let mut rng = Rng::of(options.seed, round);
        let (mut faults, mut users) = (Vec::new(), Vec::new());
        if options.at_primary {
            let takes: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| fault.takes_the_primary()).collect();
            faults.extend(rng.pick(&takes));
        }
        for _ in 0..=rng.below(3) {
            if rng.below(5) < 3 {
                let wanted = |fault: &Fault| options.full_disks || !matches!(fault, Fault::FillDisk(_));
                let bearable = |fault: &Fault| wanted(fault) && is_bearable(options.on, &faults, *fault);
                let fault = rng.pick(&Fault::ALL).copied().filter(bearable);
                faults.extend(fault);
            } else {
                users.extend(rng.pick(&User::ALL));
            }
        }
        Self { faults, users, rng }
    }
}

/// Two lost members of three are more than a cluster can bear, where data is lost with its task.
fn is_bearable(on: On, faults: &[Fault], fault: Fault) -> bool {
    let takes = |fault: &Fault| fault.ends_a_task() || fault.takes_the_primary();
    on == On::Local || !fault.ends_a_task() || !faults.iter().any(takes)
}

async fn round(scene: &Scene<'_>, plan: &Plan, from: u64, spoil: Option<Spoil>) -> Result<Cluster, Failure> {
    scene.ledger.progress(SOME, STEP).await?;
    let mut rng = plan.rng.clone();
    let faults: Vec<_> = plan.faults.iter().map(|fault| (*fault, rng.part())).collect();
    let users: Vec<_> = plan.users.iter().map(|user| (*user, rng.part())).collect();
    let faults = faults.into_iter().map(|(fault, rng)| fault.happen(scene, rng));
    let users = users.into_iter().map(|(user, rng)| user.act(scene, rng));
    let begun = Instant::now();
    let happens = async {
        tokio::try_join!(futures::future::try_join_all(faults), futures::future::try_join_all(users))?;
        scene.note("nothing more is done to it");
        check::heal(scene).await
    };
    tokio::select! {
        healed = happens => drop(healed?),
        failure = watch::two_are_open(scene, &plan.faults) => return Err(failure),
    }
    scene.note("healthy");
    scene.ledger.progress(SOME, STEP).await?;
    if let Some(spoil) = spoil {
        spoil.spoil(scene).await?;
    }
    let cluster = check::compare(scene, from).await?;
    let (switches, epochs) = (scene.ledger.switches(begun), cluster.epoch - scene.before.epoch);
    if switches as u64 > epochs {
        let words = format!("{switches} changes of who acknowledges, in {epochs} elections: two took writes at once");
        return Err(Failure::new(words));
    }
    Ok(cluster)
}

fn line(number: u64, plan: &Plan, scene: &Scene<'_>, after: &Cluster, moves: usize) -> String {
    let did: Vec<_> =
        plan.faults.iter().map(|f| format!("{f:?}")).chain(plan.users.iter().map(|u| format!("{u:?}"))).collect();
    format!(
        "round {number:3}: {:5.1} s, epoch {:3}, {moves} moves: {}",
        scene.begun.elapsed().as_secs_f64(),
        after.epoch,
        did.join(", ")
    )
}

/// All that is known about a round that failed.
async fn explain(
    scene: &Scene<'_>,
    options: &Options,
    round: u64,
    plan: &Plan,
    since: u64,
    failure: &Failure,
) -> Failure {
    let api = &scene.api;
    let path = format!("/api/v1/clusters/{NAME}");
    let show = api.send(reqwest::Method::GET, &path, None).await;
    let show = show.map_or_else(|failure| failure.to_string(), |(_, show)| format!("{show:#}"));
    let events = api.events(NAME, since).await.unwrap_or_default();
    let skipped = events.len().saturating_sub(100);
    let words = |event: &Event| format!("{} {} (epoch {}): {}", event.unix_ms, event.kind, event.epoch, event.text);
    let events: Vec<String> = events.iter().skip(skipped).map(words).collect();
    println!("--- show\n{show}\n--- events\n{}\n--- logs\n{}", events.join("\n"), scene.stage.logs().await);
    println!("--- done in round {round}: {:?} {:?}\n{}\n", plan.faults, plan.users, scene.notes());
    let again = format!("make chaos SEED={}", options.seed);
    Failure::new(format!("round {round} of seed {}: {failure} ({again})", options.seed))
}

/// For what shall outlive a crash of this program: beside it, in `target/chaos`.
fn directory() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).unwrap_or(Path::new("target")).join("chaos"))
}
