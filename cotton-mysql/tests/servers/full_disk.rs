//! A primary whose disk is full: commits wait, nothing is broken off, and nothing is lost.

use crate::support::{Member, Servers, until};
use cotton_core::ErrorKind;
use cotton_core::ports::mysql::MySql;
use mysql_async::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

on_each_server!(commits_that_wait_for_room_are_told_and_not_broken_off);

/// Room for a server, and some rows.
const ROOM_MIB: u32 = 500;

/// A file system in memory, which only root can mount.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).expect("directory");
        let options = format!("size={ROOM_MIB}m,mode=0755");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: no small file system can be mounted here");
        }
        mounted.then(|| Self(path.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("a file");
        let mib = vec![0; 1 << 20];
        while file.write_all(&mib).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

async fn commits_that_wait_for_room_are_told_and_not_broken_off(servers: Servers) {
    if !servers.has_semi_sync() {
        return; // it has the same wait, and nobody who would act on it
    }
    let mut disk = None;
    let primary = Member::ready(servers, |config| disk = SmallDisk::mount(&config.root)).await;
    let (Some(primary), Some(disk)) = (primary, disk) else { return };
    primary.instance.start().await.expect("start");
    let replica = Member::running(servers).await.expect("as the primary");
    primary.promote(1).await;
    replica.attach(&primary, true).await;
    let primary = Arc::new(primary);
    let mut client = primary.client().await;
    client.query_drop("CREATE DATABASE app").await.expect("create");
    client.query_drop("CREATE TABLE app.t (id INT PRIMARY KEY, n INT, b VARBINARY(5000))").await.expect("create");
    client.query_drop("INSERT INTO app.t VALUES (0, 0, ''), (1, 0, ''), (2, 0, '')").await.expect("insert");
    assert!(!primary.probe().await.waits_for_room);

    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let mut writers = tokio::task::JoinSet::new();
    for id in 0..3_u64 {
        let (primary, acknowledged) = (Arc::clone(&primary), Arc::clone(&acknowledged));
        writers.spawn(async move {
            let mut client = primary.client().await;
            // in place: it is the binary log that needs room, and no table
            let update = |n| format!("UPDATE app.t SET n = {n}, b = REPEAT(CHAR(97 + {n} % 20), 5000) WHERE id = {id}");
            let mut n = 1_u64;
            while client.query_drop(update(n)).await.is_ok() {
                acknowledged.lock().expect("no panic").insert(id, n);
                n += 1;
            }
        });
    }
    let count = || acknowledged.lock().expect("no panic").values().sum::<u64>();
    until("written", || async { count() > 50 }).await;
    disk.fill();
    until("waiting for room", || async { primary.probe().await.waits_for_room }).await;
    if servers.is_mariadb() {
        let error = primary.instance.step_down(1_000).await.expect_err("it would break a commit off");
        assert_eq!((error.kind, error.is_temporary()), (ErrorKind::Storage, true), "{}", error.chain());
        assert!(error.chain().contains("waits for room"), "{}", error.chain());
    }
    // as an executor does whose cluster has another primary
    primary.instance.kill().await;
    primary.instance.exited().await;
    while writers.join_next().await.is_some() {}
    disk.make_room();
    primary.instance.start().await.expect("it recovers");
    primary.promote(1).await;
    client = primary.client().await;
    replica.until_connected().await;
    client.query_drop("INSERT INTO app.t VALUES (3, 1, '')").await.expect("acknowledged");
    let acknowledged = acknowledged.lock().expect("no panic").clone();
    for member in [&replica, &*primary] {
        member.until_has(&BTreeSet::from([3])).await;
        let found: Vec<(u64, u64)> = member.client().await.query("SELECT id, n FROM app.t").await.expect("rows");
        let lost = |id: &u64, n: &u64| !found.iter().any(|(row, found)| row == id && found >= n);
        assert!(!acknowledged.iter().any(|(id, n)| lost(id, n)), "{acknowledged:?}, and there is {found:?}");
    }
}
