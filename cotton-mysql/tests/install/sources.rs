//! Where archives come from, and everything that can be wrong with one.

use crate::site::Site;
use crate::{Place, sha256, small};
use cotton_core::ports::mysql::MySql;
use cotton_core::{ErrorKind, PortError};
use cotton_mysql::install::{FromArchive, InstallError, Installer, Limits};
use cotton_mysql::{Error, Instance};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const OTHER: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn limits() -> Limits {
    Limits::default()
}

/// As the executor's machine gets to know it.
async fn at_port(place: &Place, arguments: &str, limits: Limits) -> PortError {
    let config = crate::support::config(None, place.0.path(), 1);
    let installer = Arc::new(place.installer(arguments, limits));
    let instance = Instance::with_installer(config, installer).expect("nothing is looked for yet");
    instance.provision().await.expect_err(arguments)
}

#[tokio::test]
async fn every_way_of_packing() {
    let from = crate::support::directory();
    for (name, option) in [("plain", ""), ("gz", "--gzip"), ("xz", "--xz"), ("zst", "--zstd")] {
        let archive = small(from.path(), name, option);
        let place = Place::new();
        let installed = place.install(&format!("archive={}", archive.display()), limits()).await.expect(name);
        let bin = place.server().join("tree").join(name).join("bin");
        assert_eq!(installed.programs, std::slice::from_ref(&bin));
        assert_eq!(std::fs::read_to_string(bin.join("mysqld")).expect("unpacked"), name.repeat(10_000));
        assert_eq!(place.left(), [place.server()], "and nothing beside it");
    }
}

#[tokio::test]
async fn from_a_web_server_once() {
    let from = crate::support::directory();
    let archive = small(from.path(), "a", "--gzip");
    let site = Site::with(std::fs::read(&archive).expect("packed")).await;
    let arguments = format!("archive={},sha256={}", site.url, sha256(&archive));
    let place = Place::new();
    let installed = place.install(&arguments, limits()).await.expect("all is well");
    assert_eq!(place.install(&arguments, limits()).await.expect("it is there"), installed);
    assert_eq!(site.asked(), 1, "what is there is used again");
    // the same archive from elsewhere is the same archive
    let elsewhere = format!("archive={},sha256={}", archive.display(), sha256(&archive));
    std::fs::remove_file(&archive).expect("it was there");
    assert_eq!(place.install(&elsewhere, limits()).await.expect("it is there"), installed);
    // another one takes its place
    let other = small(from.path(), "b", "--gzip");
    let arguments = format!("archive=file://{},sha256={}", other.display(), sha256(&other));
    let installed = place.install(&arguments, limits()).await.expect("all is well");
    assert!(installed.programs[0].ends_with("tree/b/bin"));
    assert!(!place.server().join("tree/a").exists());
    let site =
        Site::start(&format!("302 Found\r\ncontent-length: 0\r\nlocation: {}", site.url), Vec::new(), true).await;
    let place = Place::new();
    let arguments = elsewhere.replace(&archive.display().to_string(), &site.url);
    place.install(&arguments, limits()).await.expect("redirected");
}

#[tokio::test]
async fn web_servers_that_fail() {
    for (head, kind, temporary, said) in [
        ("404 Not Found", ErrorKind::NotFound, false, "the web server answers 404"),
        ("403 Forbidden", ErrorKind::Denied, false, "the web server answers 403"),
        ("503 Busy", ErrorKind::Unreachable, true, "the web server answers 503"),
        ("200 OK\r\ncontent-length: 1000", ErrorKind::Unreachable, true, "did not arrive"),
        ("302 Found\r\nlocation: /", ErrorKind::Unreachable, true, "did not arrive"),
        ("200 OK\r\ncontent-length: 99999999999999", ErrorKind::Invalid, false, "has more than 4294967296 bytes"),
        ("200 OK", ErrorKind::Corrupt, false, "has the sha256"),
        ("nonsense", ErrorKind::Unreachable, true, "did not arrive"),
    ] {
        let site = Site::start(head, b"not much".to_vec(), true).await;
        let place = Place::new();
        let error = at_port(&place, &format!("archive={},sha256={OTHER}", site.url), limits()).await;
        assert_eq!((error.kind, error.is_temporary()), (kind, temporary), "{}", error.chain());
        assert!(
            error.chain().starts_with("could not install the server: archive http://127.0.0.1"),
            "{}",
            error.chain()
        );
        assert!(error.chain().contains(said) && !error.chain().contains("t-secret"), "{}", error.chain());
        assert_eq!(place.left(), Vec::<std::path::PathBuf>::new());
    }
    // nobody listens
    let site = Site::with(Vec::new()).await;
    let url = site.url.clone();
    drop(site);
    let closed = async {
        // the port is closed when the task has ended
        let address = url.trim_start_matches("http://").split_once('/').expect("a path").0.to_owned();
        while tokio::net::TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("closed");
    let error = at_port(&Place::new(), &format!("archive={url},sha256={OTHER}"), limits()).await;
    assert!(error.kind == ErrorKind::Unreachable && error.is_temporary(), "{}", error.chain());
}

#[tokio::test]
async fn web_servers_that_take_long() {
    let site = Site::start("200 OK\r\ncontent-length: 1000", b"not much".to_vec(), false).await;
    let arguments = format!("archive={},sha256={OTHER}", site.url);
    let stalled = Limits { stall: Duration::from_millis(200), ..limits() };
    let slow = Limits { time: Duration::from_millis(200), ..limits() };
    for (limits, said) in [(stalled, "did not arrive"), (slow, "was not installed within")] {
        let place = Place::new();
        let start = Instant::now();
        let error = at_port(&place, &arguments, limits).await;
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(error.kind == ErrorKind::Timeout && error.is_temporary(), "{}", error.chain());
        assert!(error.chain().contains(said), "{}", error.chain());
        assert_eq!(place.left(), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test]
async fn bounded_without_being_told_the_size() {
    let site = Site::start("200 OK", vec![0; 10_000], true).await;
    let arguments = format!("archive={},sha256={OTHER}", site.url);
    let error = Place::new().refused(&arguments, Limits { archive_bytes: 5_000, ..limits() }).await;
    assert!(error.to_string().contains("more than 5000 bytes"), "{error}");
}

#[tokio::test]
async fn bad_files() {
    let from = crate::support::directory();
    let write = |name: &str, bytes: &[u8]| std::fs::write(from.path().join(name), bytes).expect("written");
    let archive = small(from.path(), "a", "--gzip");
    let whole = std::fs::read(&archive).expect("packed");
    write("cut.tar", &whole[..whole.len() / 2]);
    write("zip.tar", b"PK\x03\x04 and so on");
    write("empty.tar", b"");
    std::fs::create_dir_all(from.path().join("client/bin")).expect("a directory");
    write("client/bin/mysql", b"x");
    crate::tar(&["-cf"], &from.path().join("client.tar"), from.path(), "client");
    Command::new("mkfifo").arg(from.path().join("pipe.tar")).status().expect("mkfifo runs");
    crate::tar(
        &["-P", "--transform=s,^client/bin,../..,", "-cf"],
        &from.path().join("up.tar"),
        from.path(),
        "client/bin",
    );
    let of = |name: &str| format!("archive={}", from.path().join(name).display());
    for (arguments, kind, said) in [
        (format!("{},sha256={OTHER}", of("a.tar")), ErrorKind::Corrupt, "has the sha256"),
        (of("none.tar"), ErrorKind::NotFound, "it must be on every agent"),
        (of("client"), ErrorKind::Other, "it must be on every agent"),
        (of("cut.tar"), ErrorKind::Corrupt, "is damaged or not complete"),
        (of("zip.tar"), ErrorKind::Invalid, "is no tar file"),
        (of("empty.tar"), ErrorKind::Invalid, "is no tar file"),
        (of("client.tar"), ErrorKind::Invalid, "has no mariadbd or mysqld in"),
        (of("up.tar"), ErrorKind::Invalid, "its name leads out of the archive"),
        (format!("{},directory=b", of("a.tar")), ErrorKind::Invalid, "of its directory b"),
    ] {
        let place = Place::new();
        let error = at_port(&place, &arguments, limits()).await;
        assert!(error.kind == kind && error.chain().contains(said), "{arguments}: {:?} {}", error.kind, error.chain());
        assert_eq!(place.left(), Vec::<std::path::PathBuf>::new());
    }
    let place = Place::new();
    let error = place.refused(&of("a.tar"), Limits { unpacked_bytes: 5_000, ..limits() }).await;
    assert!(error.to_string().contains("more than 5000 bytes"), "{error}");
    // a pipe would be waited for, for ever
    let error = tokio::time::timeout(Duration::from_secs(10), place.refused(&of("pipe.tar"), limits())).await;
    assert!(matches!(error.expect("in time"), Error::Install(InstallError::Open { .. })));
}

/// Who was killed in the middle leaves something behind, which is neither used nor in the way.
#[tokio::test]
async fn after_a_kill() {
    let from = crate::support::directory();
    let arguments = format!("archive={}", small(from.path(), "a", "").display());
    let place = Place::new();
    let partial = place.0.path().join("server.partial");
    std::fs::create_dir_all(partial.join("tree/a/bin")).expect("directories");
    std::fs::write(partial.join("tree/a/bin/mysqld"), "half").expect("a file");
    let installed = place.install(&arguments, limits()).await.expect("all is well");
    assert_eq!(std::fs::read(installed.programs[0].join("mysqld")).expect("there").len(), 10_000);
    assert_eq!(place.left(), [place.server()]);
}

/// Nobody waits any more: what was begun is gone as soon as the thread notices.
#[tokio::test]
async fn given_up() {
    let from = crate::support::directory();
    let arguments = format!("archive={}", small(from.path(), "a", "--gzip").display());
    let place = Place::new();
    let installer = place.installer(&arguments, limits());
    let first = installer.clone();
    let task = tokio::spawn(async move { first.install().await });
    tokio::task::yield_now().await;
    task.abort();
    let _ = task.await;
    // it was done before, or what is left of it is removed first
    installer.install().await.expect("all is well");
    assert_eq!(place.left(), [place.server()]);
}

/// The inner half runs where nothing else is written, on a file system of 64 KiB.
#[tokio::test]
async fn a_full_disk() {
    if let Some(small_disk) = std::env::var_os("COTTON_TEST_SMALL_DISK") {
        return full(Path::new(&small_disk)).await;
    }
    let here = std::env::current_exe().expect("this program");
    let script = "mount -t tmpfs -o size=64k,mode=755 none \"$1\" && COTTON_TEST_SMALL_DISK=$1 exec \"$2\" --exact \
                  sources::a_full_disk";
    let dir = crate::support::directory();
    let run = |options: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(options).args(["sh", "-c", script, "sh"]).arg(dir.path()).arg(&here);
        command.output().expect("unshare runs")
    };
    let may = |options: &[&str]| {
        let probe = ["sh", "-c", "mount -t tmpfs none /mnt"];
        Command::new("unshare").args(options).args(probe).output().is_ok_and(|output| output.status.success())
    };
    let ways: [&[&str]; 2] = [&["-m"], &["-Urm"]];
    let Some(way) = ways.into_iter().find(|way| may(way)) else {
        assert!(std::env::var_os("CI").is_none(), "a small file system cannot be mounted");
        eprintln!("SKIPPED: a small file system cannot be mounted");
        return;
    };
    let output = run(way);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn full(disk: &Path) {
    let from = crate::support::directory();
    let archive = small(from.path(), "a-name-of-twenty-char", "--gzip"); // 210,000 bytes, packed to some hundred
    let site = Site::with(vec![7; 200_000]).await;
    for arguments in [format!("archive={}", archive.display()), format!("archive={},sha256={OTHER}", site.url)] {
        let installer = FromArchive::new(arguments.parse().expect("known"), disk.join("server"), limits());
        let error = installer.install().await.expect_err("no room");
        let Error::Install(InstallError::File { source, .. }) = &error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{error}");
        assert_eq!(std::fs::read_dir(disk).expect("mounted").count(), 0, "room is made again");
    }
}
