//! Servers run from archives: packed as their makers do, and from elsewhere than they were built for.

use crate::support::{Servers, config, directory};
use crate::{sha256, tar};
use cotton_core::ports::mysql::MySql;
use cotton_mysql::Instance;
use cotton_mysql::install::{FromArchive, Limits};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A server out of an archive answers, and its program is the one that was unpacked.
async fn runs(archive: &Path, version: &str) {
    let dir = directory();
    let arguments = format!("archive={},sha256={}", archive.display(), sha256(archive));
    let installer = || {
        let spec = arguments.parse().expect("known");
        Arc::new(FromArchive::new(spec, dir.path().join("server"), Limits::default()))
    };
    let config = config(None, dir.path(), 1);
    let instance = Instance::with_installer(config.clone(), installer()).expect("nothing is looked for yet");
    instance.provision().await.expect("provision");
    instance.start().await.expect("start");
    let status = instance.probe().await.expect("it answers");
    assert!(status.version.starts_with(version), "{}", status.version);
    let server = std::fs::read_link(format!("/proc/{}/exe", instance.pid().expect("it runs"))).expect("it is ours");
    assert!(server.starts_with(dir.path()), "{}", server.display());
    instance.stop(10_000).await;
    // an executor that comes back needs no archive any more
    std::fs::remove_file(archive).expect("it was there");
    let instance = Instance::with_installer(config, installer()).expect("nothing is looked for yet");
    instance.provision().await.expect("there is a data directory");
    instance.start().await.expect("start");
    assert!(instance.probe().await.expect("it answers").version.starts_with(version));
    instance.kill().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().expect("not the root")).expect("directories");
    let copied = Command::new("cp").arg("-aL").arg(from).arg(to).status();
    assert!(copied.expect("cp runs").success(), "{}", from.display());
}

/// MariaDB was built for `/usr`: elsewhere it must be told where its files are, and so must the script that makes its data
/// directories.
#[tokio::test]
async fn mariadb_elsewhere() {
    let Some(None) = Servers::MariaDb.programs() else { return };
    let dir = directory();
    let top = dir.path().join("mariadb-linux");
    for program in ["sbin/mariadbd", "bin/mariadb-install-db", "bin/my_print_defaults"] {
        copy(&Path::new("/usr").join(program), &top.join(program));
    }
    let share = ["share/mariadb", "share/mysql"].into_iter().find(|share| has_messages(&Path::new("/usr").join(share)));
    let share = share.expect("before MariaDB 11 it is the second");
    copy(&Path::new("/usr").join(share), &top.join(share));
    std::os::unix::fs::symlink("mariadbd", top.join("sbin/mysqld")).expect("a link");
    let archive = dir.path().join("mariadb.tar.zst");
    tar(&["--zstd", "-cf"], &archive, dir.path(), "mariadb-linux");
    runs(&archive, "1").await;
}

fn has_messages(share: &Path) -> bool {
    share.join("english/errmsg.sys").exists()
}

/// As Debian 13 packs it, with everything that it needs, down to the C library, and programs that are scripts.
#[tokio::test]
async fn mariadb_11_8_with_everything() {
    let Some(from) = unpacked(Servers::MariaDb118) else { return };
    let dir = directory();
    let archive = dir.path().join("mariadb.tar.zst");
    tar(&["--zstd", "-cf"], &archive, &from, ".");
    runs(&archive, "11.8.").await;
}

fn unpacked(servers: Servers) -> Option<PathBuf> {
    Some(servers.programs()??.parent()?.to_owned())
}

/// As Oracle packs it, with a library that the system does not have.
#[tokio::test]
async fn mysql_5_6_with_its_own_library() {
    let Some(from) = unpacked(Servers::MySql56) else { return };
    let dir = directory();
    let top = dir.path().join("mysql-5.6");
    copy(&from.join("lib/libaio.so.1"), &top.join("lib/libaix.so.1"));
    copy(&from.join("share"), &top.join("share"));
    let mut program = std::fs::read(from.join("lib/mysqld.bin")).expect("it is there");
    let (old, new) = (b"\0libaio.so.1\0", b"\0libaix.so.1\0");
    let at = program.windows(old.len()).position(|window| window == old).expect("it needs this library");
    program[at..at + new.len()].copy_from_slice(new);
    std::fs::create_dir_all(top.join("bin")).expect("a directory");
    std::fs::write(top.join("bin/mysqld"), program).expect("written");
    let made = Command::new("chmod").arg("755").arg(top.join("bin/mysqld")).status();
    assert!(made.expect("chmod runs").success());
    let archive = dir.path().join("mysql.tar.gz");
    tar(&["-I", "gzip -1", "-cf"], &archive, dir.path(), "mysql-5.6");
    runs(&archive, "5.6.").await;
}

/// With everything that it needs, down to the C library, and programs that are scripts.
#[tokio::test]
async fn mysql_9_7_with_everything() {
    let Some(from) = unpacked(Servers::MySql97) else { return };
    let dir = directory();
    let archive = dir.path().join("mysql.tar.zst");
    tar(&["--zstd", "--exclude=root/usr/bin", "-cf"], &archive, &from, ".");
    runs(&archive, "9.").await;
}

#[tokio::test]
async fn without_a_server_the_reason_is_told() {
    let dir = directory();
    let spec = "archive=/none/mysql.tar.gz".parse().expect("known");
    let installer = Arc::new(FromArchive::new(spec, dir.path().join("server"), Limits::default()));
    let instance = Instance::with_installer(config(None, dir.path(), 1), installer).expect("nothing is looked for yet");
    let error = instance.provision().await.expect_err("there is none").chain();
    assert!(error.starts_with("could not install the server: archive /none/mysql.tar.gz cannot be read"), "{error}");
    assert!(error.contains("No such file"), "{error}");
    assert!(!dir.path().join("m").exists(), "nothing was made");
}
