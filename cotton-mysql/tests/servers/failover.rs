//! A primary that is killed under load: another takes over, and what was acknowledged is there.

use crate::load::Load;
use crate::support::{Member, Servers, cluster, signal};
use cotton_core::ports::mysql::{Followed, MySql, Promotion};
use rustix::process::Signal;
use std::sync::Arc;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_the_primary_under_load_mariadb() {
    lose_the_primary_under_load(Servers::MariaDb, Loss::Crash, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_the_primary_under_load_mariadb_11_8() {
    lose_the_primary_under_load(Servers::MariaDb118, Loss::Crash, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_the_primary_under_load_mysql_9_7() {
    lose_the_primary_under_load(Servers::MySql97, Loss::Crash, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freeze_the_primary_under_load_mariadb() {
    lose_the_primary_under_load(Servers::MariaDb, Loss::Standstill, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freeze_the_primary_under_load_mariadb_11_8() {
    lose_the_primary_under_load(Servers::MariaDb118, Loss::Standstill, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freeze_the_primary_under_load_mysql_9_7() {
    lose_the_primary_under_load(Servers::MySql97, Loss::Standstill, 2).await;
}

/// What happens to a primary.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    /// It is killed.
    Crash,
    /// It stands still until another has its place, goes on for a moment, and is killed then.
    Standstill,
}

/// `ROUNDS` in the environment asks for more.
async fn lose_the_primary_under_load(servers: Servers, loss: Loss, rounds: u32) {
    let Some(members) = cluster(servers, 3, 1).await else { return };
    let mut members: Vec<Arc<Member>> = members.into_iter().map(Arc::new).collect();
    let load = Load::start(Arc::clone(&members[0]), 4);
    for round in 0..std::env::var("ROUNDS").map_or(rounds, |n| n.parse().expect("a number")) {
        load.progress(200).await;
        let old = Arc::clone(&members[0]);
        let start = Instant::now();
        let pid = old.instance.pid().expect("it runs");
        let ended = || async {
            signal(pid, Signal::KILL);
            let exit = old.instance.exited().await;
            assert_eq!((exit.description.as_str(), exit.expected), ("signal 9", false));
        };
        match loss {
            Loss::Crash => ended().await,
            Loss::Standstill => signal(pid, Signal::STOP),
        }
        let seen = start.elapsed();
        let (a, b) = tokio::join!(members[1].instance.freeze(), members[2].instance.freeze());
        let (a, b) = (a.expect("freeze"), b.expect("freeze"));
        let unapplied = (a.unapplied, b.unapplied);
        let (a, b) = (a.position, b.position);
        let frozen = start.elapsed();
        if !a.contains(&b) {
            members.swap(1, 2);
        }
        let must_contain = if a.contains(&b) { a } else { b };
        let (winner, other) = (Arc::clone(&members[1]), Arc::clone(&members[2]));
        let promote = async {
            winner.promote_to(&Promotion { must_contain, acks: 1 }).await;
            load.turn_to(Arc::clone(&winner));
            start.elapsed()
        };
        let follow = async {
            assert_eq!(other.follow(&winner, true).await, Followed::Attached);
            start.elapsed()
        };
        let (promoted, followed) = tokio::join!(promote, follow);
        load.progress(1).await;
        let written = load.first_by(winner.endpoint.port).expect("written").duration_since(start);
        eprintln!(
            "round {round}: seen {seen:.1?} frozen {frozen:.1?} unapplied {unapplied:?} promoted {promoted:.1?} followed {followed:.1?} first write {written:.1?}"
        );
        if loss == Loss::Standstill {
            signal(pid, Signal::CONT);
            load.progress(10 * (round as usize % 8)).await; // it goes on beside its successor, and nobody acknowledges
            ended().await;
        }
        // the old one comes back with its data
        old.instance.start_replaced().await.expect("restart"); // the winner is open
        let restarted = start.elapsed();
        match old.follow(&winner, true).await {
            Followed::Attached => {}
            // recovery keeps what nobody acknowledged; MariaDB can cut it off
            Followed::Errant(gtids) if !servers.is_mariadb() => {
                eprintln!("  errant {gtids}: rebuilding");
                old.instance.kill().await; // nothing is copied over what nobody else has
                assert!(old.instance.exited().await.expected);
                std::fs::remove_dir_all(old.root().join("data")).expect("removed");
                std::fs::remove_file(old.root().join("last-start")).expect("removed"); // or it would not be made anew
                old.instance.copy_from(&other.endpoint).await.expect("copy");
                assert_eq!(old.follow(&winner, true).await, Followed::Attached);
            }
            followed @ (Followed::Errant(_) | Followed::HistoryMissing(_)) => panic!("{followed:?}"),
        }
        old.until_connected().await;
        eprintln!("  restarted {restarted:.1?}, back {:.1?}", start.elapsed());
        members.rotate_left(1);
    }
    load.progress(100).await;
    let acknowledged = load.finish().await;
    for member in &members {
        member.until_has(&acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_down_at_once_mariadb() {
    everything_goes_down_at_once(Servers::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_down_at_once_mariadb_11_8() {
    everything_goes_down_at_once(Servers::MariaDb118).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_down_at_once_mysql_9_7() {
    everything_goes_down_at_once(Servers::MySql97).await;
}

/// The machine of all members loses power, executors included: what was acknowledged is on somebody's disk.
async fn everything_goes_down_at_once(servers: Servers) {
    let Some(members) = cluster(servers, 3, 1).await else { return };
    let members: Vec<Arc<Member>> = members.into_iter().map(Arc::new).collect();
    let load = Load::start(Arc::clone(&members[0]), 4);
    load.progress(300).await;
    for member in &members {
        signal(member.instance.pid().expect("it runs"), Signal::KILL);
    }
    let acknowledged = load.finish().await;
    let mut back = Vec::new();
    for member in members {
        back.push(Arc::into_inner(member).expect("the load is gone").reopened());
    }
    let mut position = None;
    for (index, member) in back.iter().enumerate() {
        member.instance.start().await.expect("restart");
        let own = member.instance.freeze().await.expect("freeze").position;
        if position.as_ref().is_none_or(|(_, best)| own.is_ahead_of(best)) {
            position = Some((index, own));
        }
    }
    let (winner, must_contain) = position.expect("there are members");
    back[winner].promote_to(&Promotion { must_contain, acks: 0 }).await;
    for (index, member) in back.iter().enumerate() {
        if index != winner {
            member.attach(&back[winner], true).await;
        }
        member.until_has(&acknowledged).await;
    }
}
