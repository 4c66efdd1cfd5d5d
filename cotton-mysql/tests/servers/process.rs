//! The server as a process: it starts, stops, crashes, hangs, and never outlives us.

use crate::support::{Member, PATIENCE, Servers, cluster, free_port, insert, rows, until, until_within};
use cotton_core::ErrorKind;
use cotton_core::ports::mysql::MySql;
use mysql_async::prelude::Queryable;
use rustix::process::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

on_each_server!(
    start_stop_and_exit,
    each_data_directory_has_a_uuid_of_its_own,
    a_hanging_server_is_noticed,
    the_server_dies_with_its_parent,
    failures_have_reasons
);

fn signal(signal: Signal, pid: i32) {
    crate::support::signal(pid, signal);
    if signal == Signal::STOP {
        let is_stopped = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
        };
        while !is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// 5.6 makes equal ones at the same moment, unless it finds one there.
async fn each_data_directory_has_a_uuid_of_its_own(servers: Servers) {
    if servers.is_mariadb() {
        return; // it has none
    }
    let Some(programs) = servers.programs() else { return };
    let members = [(); 2].map(|()| Member::new(programs.clone(), |_| {}));
    tokio::join!(members[0].provision(), members[1].provision());
    let uuid = async |member: &Member| {
        let file = member.root().join("data/auto.cnf");
        let text = std::fs::read_to_string(&file).expect("it is there before the first start");
        member.instance.start().await.expect("start");
        let own: Option<String> = member.admin().await.query_first("SELECT @@server_uuid").await.expect("its uuid");
        let own = own.expect("a row");
        assert!(text.contains(&own), "{own}: {text}");
        own
    };
    let (one, other) = tokio::join!(uuid(&members[0]), uuid(&members[1]));
    assert_ne!(one, other);
    members[0].instance.stop(30_000).await;
    std::fs::remove_file(members[0].root().join("data/auto.cnf")).expect("as in a copy that a person made");
    assert_ne!(uuid_after_start(&members[0]).await, one, "a new one, and not the server's own way of making it");
}

async fn uuid_after_start(member: &Member) -> String {
    member.instance.start().await.expect("start");
    let text = std::fs::read_to_string(member.root().join("data/auto.cnf")).expect("it is there");
    assert!(text.starts_with("[auto]\nserver-uuid=") && text.as_bytes()[33] == b'4', "not random: {text}");
    text
}

async fn start_stop_and_exit(servers: Servers) {
    let Some(members) = cluster(servers, 1, 0).await else { return };
    let (member, instance) = (&members[0], &members[0].instance);
    insert(&mut member.client().await, 1).await.expect("insert");
    let pid = instance.pid();
    instance.start().await.expect("starting a running one succeeds");
    assert_eq!(instance.pid(), pid);

    instance.stop(20_000).await;
    let exit = instance.exited().await;
    assert_eq!((exit.expected, exit.description.as_str()), (true, "status 0"));
    assert_eq!(instance.probe().await.expect_err("it does not run").kind, ErrorKind::Unreachable);
    let again = tokio::time::timeout(Duration::from_millis(50), instance.exited()).await;
    assert!(again.is_err(), "each start is answered once");
    instance.stop(1).await;
    instance.kill().await;

    instance.start().await.expect("start again");
    assert!(!member.probe().await.writable, "read-only at each start");
    assert_eq!(rows(&mut member.client().await).await, [1]);
    signal(Signal::KILL, instance.pid().expect("it runs"));
    let exit = instance.exited().await;
    assert_eq!((exit.expected, exit.description.as_str()), (false, "signal 9"));

    instance.start().await.expect("start after a crash");
    instance.kill().await;
    assert!(instance.exited().await.expected);
    instance.start().await.expect("start after a kill");
    signal(Signal::STOP, instance.pid().expect("it runs"));
    let start = Instant::now();
    instance.stop(100).await; // cannot hear SIGTERM
    assert!(start.elapsed() < Duration::from_secs(10) && instance.pid().is_none());
}

async fn a_hanging_server_is_noticed(servers: Servers) {
    let hasty = |config: &mut cotton_mysql::InstanceConfig| config.timing.probe = Duration::from_millis(300);
    let Some(member) = Member::ready(servers, hasty).await else { return };
    member.instance.start().await.expect("start");
    signal(Signal::STOP, member.instance.pid().expect("it runs"));
    for _ in 0..3 {
        let start = Instant::now();
        let error = member.instance.probe().await.expect_err("it hangs");
        assert_eq!(error.kind, ErrorKind::Timeout, "{}", error.chain());
        assert!(start.elapsed() < Duration::from_secs(3));
    }
    signal(Signal::CONT, member.instance.pid().expect("it runs"));
    until("answers again", || async { member.instance.probe().await.is_ok() }).await;
    signal(Signal::STOP, member.instance.pid().expect("it runs"));
    member.instance.kill().await;
    assert_eq!(member.instance.exited().await.description, "signal 9");
}

const CHILD: &str = "COTTON_TEST_CHILD";

/// A test process of its own holds a server and is killed.
async fn the_server_dies_with_its_parent(servers: Servers) {
    if let Some(dir) = std::env::var_os(CHILD) {
        let member = Member::new(servers.programs().expect("checked by the parent"), |_| {});
        member.provision().await;
        member.instance.start().await.expect("start");
        let pid = member.instance.pid().expect("it runs").to_string();
        std::fs::write(std::path::Path::new(&dir).join("pid.new"), pid).expect("write");
        std::fs::rename(std::path::Path::new(&dir).join("pid.new"), std::path::Path::new(&dir).join("pid"))
            .expect("rename");
        std::future::pending::<()>().await;
    }
    if servers.programs().is_none() {
        return;
    }
    let dir = crate::support::directory();
    let name = match servers {
        Servers::MariaDb => "mariadb",
        Servers::MariaDb118 => "mariadb_11_8",
        Servers::MySql97 => "mysql_9_7",
        Servers::MySql56 => "mysql_5_6",
    };
    let name = format!("process::the_server_dies_with_its_parent::{name}");
    let mut child = Command::new(std::env::current_exe().expect("we are a test"))
        .args(["--exact", &name])
        .env(CHILD, dir.path())
        .env("TMPDIR", dir.path()) // what the child leaves behind goes with it
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("start a test process");
    let file = dir.path().join("pid");
    until_within(Duration::from_mins(8), "started", || async { file.exists() }).await; // it makes its data directory first
    let pid: i32 = std::fs::read_to_string(&file).expect("pid").parse().expect("pid");
    let lives = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(lives());
    child.kill().expect("kill -9");
    let start = Instant::now();
    while lives() {
        assert!(start.elapsed() < PATIENCE, "it outlives its parent"); // it may be writing to the disk
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.wait().expect("gone");
}

async fn failures_have_reasons(servers: Servers) {
    let Some(programs) = servers.programs() else { return };
    let nothing = Member::new(programs, |_| {});
    let error = nothing.instance.start().await.expect_err("not provisioned");
    assert_eq!(error.kind, ErrorKind::DataGone, "{}", error.chain());

    let port = free_port();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a port");
    let Some(member) = Member::ready(servers, |config| config.endpoint.port = port).await else { return };
    let start = Instant::now();
    let error = member.instance.start().await.expect_err("port is taken").chain();
    assert!(error.contains("status 1") && error.contains("port"), "{error}");
    assert!(start.elapsed() < PATIENCE);
    let exit = tokio::time::timeout(Duration::from_millis(50), member.instance.exited()).await;
    assert!(exit.is_err(), "a failed start has its answer");
    drop(taken);
    let (others, maker) = if servers.is_mariadb() { ("mysql.ibd", "MySQL") } else { ("aria_log_control", "MariaDB") };
    let others = member.root().join("data").join(others);
    std::fs::write(&others, "").expect("as in data of another kind of server");
    let error = member.instance.start().await.expect_err("it would write to it").chain();
    assert!(error.contains(&format!("has data of {maker}")), "{error}");
    std::fs::remove_file(others).expect("gone");
    member.instance.start().await.expect("the port is free now");

    assert!(!member.probe().await.data_gone);
    let data = member.root().join("data");
    std::fs::rename(&data, member.root().join("elsewhere")).expect("renamed");
    assert!(member.probe().await.data_gone);
}
