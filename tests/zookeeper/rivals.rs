//! Three schedulers over links that break, again and again: whatever one of them was told is saved stays, and each number is
//! given once.

use crate::{Outcome, STEP, candidate, comes, leads, record, url};
use cotton_core::ports::state_store::{StateKey, StateStore};
use cotton_mesos::zookeeper::{Election, Standing};
use cotton_tests::{Failure, Link, ZooKeeper, within};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Acknowledged before and after each fault.
const SOME: u64 = 20;
const ROUNDS: usize = 9;

/// What has been acknowledged to any of them.
struct Acknowledged {
    highest: watch::Sender<u64>,
    all: Mutex<BTreeSet<u64>>,
}

/// Counts on from what is there, for as long as this one leads; then waits for its next turn.
async fn reign(election: &Election, key: &StateKey, acknowledged: &Acknowledged) -> Outcome {
    loop {
        let term = leads(election).await?;
        let store = term.state_store();
        let before = *acknowledged.highest.borrow();
        let loaded = loop {
            match store.load().await {
                Ok(loaded) => break Some(loaded),
                Err(error) if error.is_temporary() => {}
                Err(_) => break None,
            }
        };
        if let Some(loaded) = loaded {
            let text =
                loaded.into_iter().find(|stored| stored.key == *key).map(|stored| stored.value.expect("is read"));
            let text = String::from_utf8(text.unwrap_or_default()).expect("text");
            let mut number = text.parse::<u64>().unwrap_or(0);
            assert!(number >= before, "{before} was acknowledged, and a new leader finds {number}");
            loop {
                match store.save(key, (number + 1).to_string().as_bytes()).await {
                    Ok(()) => {
                        number += 1;
                        let is_new = acknowledged.all.lock().expect("not poisoned").insert(number);
                        assert!(is_new, "{number} was acknowledged twice");
                        acknowledged.highest.send_modify(|highest| *highest = number.max(*highest));
                    }
                    Err(error) if error.is_temporary() => {}
                    Err(_) => break,
                }
            }
        }
        within(STEP, "the loss is told", term.lost()).await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_counted_twice() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let (highest, mut progress) = watch::channel(0);
    let acknowledged = Arc::new(Acknowledged { highest, all: Mutex::default() });
    let mut rivals = Vec::new();
    let mut reigns = JoinSet::new();
    for name in ["a", "b", "c"] {
        let link = Link::to(zookeeper.address(0)).await?;
        let election = Arc::new(candidate(&url(&format!("zk://{}/mysos", link.address()))?, name));
        let (key, own, acknowledged) = (record("shared")?, Arc::clone(&election), Arc::clone(&acknowledged));
        reigns.spawn(async move { reign(&own, &key, &acknowledged).await });
        rivals.push((link, election));
    }
    let faults = async {
        for round in 0..ROUNDS {
            let so_far = *progress.borrow();
            comes(&mut progress, "numbers are acknowledged", |now| *now >= so_far + SOME).await?;
            let is_leader = |election: &Election| matches!(*election.standing().borrow(), Standing::Leading(_));
            let Some((link, election)) = rivals.iter().find(|(_, election)| is_leader(election)) else { continue };
            match round % 3 {
                0 => {
                    link.cut();
                    let mut standing = election.standing();
                    comes(&mut standing, "steps down", |s| !matches!(s, Standing::Leading(_))).await?;
                    link.mend();
                }
                1 => link.break_after(3),
                _ => {
                    link.cut();
                    link.mend();
                }
            }
        }
        let so_far = *progress.borrow();
        comes(&mut progress, "numbers are acknowledged", |now| *now >= so_far + SOME).await
    };
    tokio::select! {
        done = faults => done.map(drop),
        Some(ended) = reigns.join_next() => match ended {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::because("a rival found something wrong", &error)),
        },
    }
}
