//! What must hold after each round: the cluster heals by itself, and nothing is lost, made up or different.

use crate::ledger::{Ledger, Move};
use crate::scene::Scene;
use crate::users;
use cotton_core::Endpoint;
use cotton_tests::{Cluster, Failure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long nothing may change while the cluster is not healthy. A server that has crashed too often rests for a minute.
const STILL: Duration = Duration::from_secs(150);
/// How long it may take however much changes.
const LONGEST: Duration = Duration::from_mins(10);
/// How long a look at healthy members may fail.
const UNSURE: Duration = Duration::from_mins(1);
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// What users' tables hold, in a form that can be compared.
const TABLES: [&str; 3] = ["chaos.keyless", "chaos.side", "chaos.accounts"];

/// Waits until the cluster is healthy, for as long as it gets on.
pub(crate) async fn heal(scene: &Scene<'_>) -> Result<Cluster, Failure> {
    let (begun, mut changed, mut last) = (Instant::now(), Instant::now(), None);
    loop {
        let seen = scene.api.cluster(&scene.before.name).await;
        let words = match &seen {
            Ok(Some(cluster)) => format!("{cluster:?}"),
            Ok(None) => "there is no such cluster".to_owned(),
            Err(failure) => failure.to_string(),
        };
        let seen = seen.ok().flatten();
        if let Some(cluster) = seen.clone().filter(Cluster::is_healthy) {
            return Ok(cluster);
        }
        // what a healthy member has grows with what clients write, and shows nothing
        let state = seen.map(|cluster| {
            let unwell = cluster.members.into_iter().filter(|member| !member.healthy);
            let unwell: Vec<_> = unwell.map(|member| (member.task, member.role, member.gtids)).collect();
            (cluster.status, cluster.epoch, cluster.primary, unwell)
        });
        if state != last {
            (last, changed) = (state, Instant::now());
        }
        if changed.elapsed() > STILL || begun.elapsed() > LONGEST {
            let (since, still) = (begun.elapsed(), changed.elapsed());
            return Err(Failure::new(format!("not healthy for {since:.0?}, nothing changed for {still:.0?}: {words}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Why members are not as they should be.
enum Finding {
    /// For good.
    Wrong(Failure),
    /// Perhaps only for the moment, such as a statement that failed.
    Unsure(Failure),
}

impl<T: Into<Failure>> From<T> for Finding {
    fn from(failure: T) -> Self {
        Self::Unsure(failure.into())
    }
}

/// Compares all members, of which all must be there and well, while nobody writes.
pub(crate) async fn compare(scene: &Scene<'_>, from: u64) -> Result<Cluster, Failure> {
    let (begun, mut unsure) = (Instant::now(), None);
    loop {
        let healthy = heal(scene).await?;
        let primary = healthy.primary()?.endpoint.clone();
        let compared = async {
            users::end(scene, &primary).await?;
            let _quiet = scene.ledger.quiet().await;
            compare_members(scene, &healthy, from).await
        };
        let compared = compared.await;
        // somebody may be found to be different only now, or lose its primary once more
        let after = scene.api.cluster(&healthy.name).await.ok().flatten();
        let is_same = after.is_some_and(|after| after.is_healthy() && ids(&after) == ids(&healthy));
        match compared {
            Ok(()) if is_same => return Ok(healthy),
            Err(Finding::Wrong(failure)) if is_same => return Err(failure),
            Err(Finding::Unsure(failure)) if is_same => {
                if unsure.get_or_insert_with(Instant::now).elapsed() > UNSURE {
                    return Err(failure);
                }
            }
            Ok(()) | Err(_) if begun.elapsed() > LONGEST => {
                return Err(Failure::new("it is healthy again and again, and never stays so"));
            }
            Ok(()) | Err(_) => unsure = None,
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn ids(cluster: &Cluster) -> (u64, Option<u64>, Vec<&str>) {
    (cluster.epoch, cluster.primary, cluster.members.iter().map(|member| member.task.as_str()).collect())
}

async fn compare_members(scene: &Scene<'_>, cluster: &Cluster, from: u64) -> Result<(), Finding> {
    let endpoints = cluster.endpoints()?;
    let Some((primary, replicas)) = endpoints.split_first() else { return Ok(()) };
    let contents = contents(scene, primary, from).await?;
    let acknowledged: BTreeSet<u64> = scene.ledger.acknowledged()?.range(from..).copied().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !contents.moves.contains_key(id)).collect();
    if !lost.is_empty() {
        let some: Vec<_> = lost.iter().take(20).collect();
        let words = format!("LOST: {} acknowledged moves of {}: {some:?}", lost.len(), acknowledged.len());
        return Err(Finding::Wrong(Failure::new(words)));
    }
    let made_up = |one: &&Move| !scene.ledger.was_tried(one.id) || **one != Move::number(one.id);
    if let Some(one) = contents.moves.values().find(made_up) {
        return Err(Finding::Wrong(Failure::new(format!("nobody tried {one:?}"))));
    }
    if from <= 1 {
        let wanted = Ledger::balances(&contents.moves.values().copied().collect::<Vec<_>>());
        if let Some((id, balance)) = wanted.iter().find(|(id, balance)| contents.accounts.get(id) != Some(balance)) {
            let has = contents.accounts.get(id);
            let words = format!("account {id} has {has:?} where its moves lead to {balance}");
            return Err(Finding::Wrong(Failure::new(words)));
        }
    }
    for replica in replicas {
        until_same(scene, primary, replica, &contents, from).await?;
    }
    published(scene, primary).await?;
    for endpoint in &endpoints {
        let writable = scene.ledger.client().is_writable(endpoint).await?;
        if writable != (endpoint == primary) {
            let is = if writable { "is" } else { "is not" };
            return Err(Failure::new(format!("{endpoint} {is} open for writes, and the primary is {primary}")).into());
        }
    }
    Ok(())
}

/// What clients are told is what is open.
async fn published(scene: &Scene<'_>, primary: &Endpoint) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let told = scene.stage.published(&scene.before.name).await?;
        if told == Some(primary.port) {
            return Ok(());
        }
        if begun.elapsed() > STILL {
            return Err(Failure::new(format!("clients are told {told:?}, and the primary is {primary}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A replica applies what is left. In the end it has the same, and nothing that the primary lacks.
async fn until_same(
    scene: &Scene<'_>,
    primary: &Endpoint,
    replica: &Endpoint,
    wanted: &Contents,
    from: u64,
) -> Result<(), Finding> {
    let (mut last, mut changed) = (None, Instant::now());
    loop {
        let found = contents(scene, replica, from).await?;
        let executed = position(&mut scene.ledger.client().connect(primary).await?).await?;
        let is_same = Contents { position: wanted.position.clone(), ..found.clone() } == *wanted;
        if found.position == executed {
            let words = || found.difference(wanted);
            let differs =
                || Failure::new(format!("{replica} has executed everything and differs from the primary: {}", words()));
            return if is_same { Ok(()) } else { Err(Finding::Wrong(differs())) };
        }
        let words = found.difference(wanted);
        if last.as_ref() != Some(&found) {
            (last, changed) = (Some(found), Instant::now());
        }
        if changed.elapsed() > STILL {
            let executed = format!("the primary executed {executed}");
            return Err(Finding::Wrong(Failure::new(format!(
                "{replica} differs from the primary: {words}; {executed}"
            ))));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Contents {
    /// What was executed before all the rest was read.
    position: String,
    moves: BTreeMap<u64, Move>,
    accounts: BTreeMap<u64, i128>,
    /// Names of all tables.
    names: Vec<String>,
    checksums: Vec<Option<u64>>,
}

impl Contents {
    fn difference(&self, wanted: &Self) -> String {
        let differs = |id: &&u64| self.moves.get(id) != wanted.moves.get(id);
        let all = self.moves.keys().chain(wanted.moves.keys());
        let moves: BTreeSet<_> = all.filter(differs).collect();
        let some: Vec<_> = moves.iter().take(10).collect();
        format!(
            "executed {}; {} moves ({some:?}); accounts are {}; {} tables, {} wanted; checksums {:?}, {:?} wanted",
            self.position,
            moves.len(),
            if self.accounts == wanted.accounts { "equal" } else { "not equal" },
            self.names.len(),
            wanted.names.len(),
            self.checksums,
            wanted.checksums
        )
    }
}

async fn contents(scene: &Scene<'_>, of: &Endpoint, from: u64) -> Result<Contents, Failure> {
    let mut conn = scene.ledger.client().connect(of).await?;
    let position = position(&mut conn).await?;
    let moves: Vec<(u64, u64, u64, u64)> =
        conn.query(format!("SELECT id, source, target, amount FROM chaos.moves WHERE id >= {from}")).await?;
    let moves = moves.into_iter().map(|(id, from, to, amount)| (id, Move { id, from, to, amount })).collect();
    let accounts: Vec<(u64, i64)> = conn.query("SELECT id, balance FROM chaos.accounts").await?;
    let accounts = accounts.into_iter().map(|(id, balance)| (id, i128::from(balance))).collect();
    let names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'chaos' ORDER BY table_name";
    let names = conn.query(names).await?;
    let sums: Vec<(String, Option<u64>)> = conn.query(format!("CHECKSUM TABLE {}", TABLES.join(", "))).await?;
    let checksums = sums.into_iter().map(|(_, sum)| sum).collect();
    Ok(Contents { position, moves, accounts, names, checksums })
}

/// What a member has executed.
async fn position(conn: &mut Conn) -> Result<String, Failure> {
    let position = match conn.query_first("SELECT @@GLOBAL.gtid_binlog_pos").await {
        Ok(position) => position,
        Err(_) => conn.query_first("SELECT @@GLOBAL.gtid_executed").await?, // MySQL
    };
    Ok(position.unwrap_or_default())
}
