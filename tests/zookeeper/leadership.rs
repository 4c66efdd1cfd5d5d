//! Who leads, who learns of it, and that whoever does not lead any more changes nothing.

use crate::{Outcome, SESSION, STEP, candidate, comes, data_is, follows, leads, published, record, until, url};
use cotton_core::ports::discovery::Discovery;
use cotton_core::ports::state_store::StateStore;
use cotton_core::{ErrorKind, ErrorStatus, PortError};
use cotton_mesos::zookeeper::{Election, ElectionConfig, Standing};
use cotton_tests::{Failure, Link, Process, ZooKeeper, within};
use rustix::process::Signal;
use std::process::Stdio;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

/// Whether an error says that leadership is over.
fn is_over(error: &PortError) -> bool {
    (error.kind, error.status) == (ErrorKind::Conflict, ErrorStatus::Permanent) && error.chain().contains("lead")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standbys_follow_and_take_over_in_their_order() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let url = url(&zookeeper.url("", "/mysos"))?;
    let a = candidate(&url, "http://a:1");
    let first = leads(&a).await?;
    let b = candidate(&url, "http://b:1");
    follows(&b, "http://a:1").await?;
    let c = candidate(&url, "http://c:1");
    follows(&c, "http://a:1").await?;

    let start = Instant::now();
    a.resign().await;
    let second = leads(&b).await?;
    assert!(start.elapsed() < SESSION, "who resigns is not waited for");
    assert_eq!(within(STEP, "the end of the first term", first.lost()).await?, "it resigned");
    assert_ne!(first.fence(), second.fence());
    // c watches b alone for its turn, and learns all the same who leads now
    follows(&c, "http://b:1").await?;
    assert!(is_over(&first.state_store().save(&record("a")?, b"late").await.expect_err("refused")));
    second.state_store().save(&record("a")?, b"x").await.expect("the new leader writes");

    // one in the middle goes: nothing changes for the others
    let d = candidate(&url, "http://d:1");
    follows(&d, "http://b:1").await?;
    c.resign().await;
    b.resign().await;
    leads(&d).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_way_stands_behind_the_others() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let url = url(&zookeeper.url("", "/mysos"))?;
    let a = candidate(&url, "a");
    let first = leads(&a).await?;
    assert!(!first.has_successor().await.expect("an answer"));
    let b = candidate(&url, "b");
    follows(&b, "a").await?;
    assert!(first.has_successor().await.expect("an answer"));

    let start = Instant::now();
    first.give_way("no reason");
    assert_eq!(within(STEP, "the end of the first term", first.lost()).await?, "it gave way: no reason");
    let second = leads(&b).await?;
    assert!(start.elapsed() < SESSION, "who gives way is not waited for");
    assert!(is_over(&first.state_store().save(&record("a")?, b"late").await.expect_err("refused")));
    assert!(first.has_successor().await.is_err(), "it does not count any more");
    follows(&a, "b").await?;
    second.give_way("nor here");
    leads(&a).await?;
    follows(&b, "a").await
}

/// Leadership is of no use to a scheduler that does not reach Mesos.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_master_is_no_successor_and_lets_others_pass() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let url = url(&zookeeper.url("", "/mysos"))?;
    let stands = |name: &str, has: &watch::Sender<bool>| {
        let has_master = Some(has.subscribe());
        let (url, api) = (url.clone(), name.to_owned());
        Election::start(ElectionConfig { url, api, session_timeout: SESSION, has_master })
    };
    let [has_a, has_b, has_c] = [(); 3].map(|()| watch::Sender::new(false));
    let a = stands("a", &has_a);
    let first = leads(&a).await?; // there is nobody else
    let b = stands("b", &has_b);
    follows(&b, "a").await?;
    let c = stands("c", &has_c);
    follows(&c, "a").await?;
    assert!(!first.has_successor().await.expect("an answer"));
    has_c.send_replace(true);
    let told = async {
        while !first.has_successor().await.expect("an answer") {
            tokio::task::yield_now().await;
        }
    };
    within(STEP, "it is told", told).await?;

    first.give_way("it has no master");
    let second = leads(&c).await?; // although b stood before it
    follows(&b, "c").await?;
    follows(&a, "c").await?;
    // without anybody that has one, one leads all the same
    has_c.send_replace(false);
    second.give_way("no reason");
    within(STEP, "the end of the second term", second.lost()).await?;
    let led = tokio::select! { led = leads(&a) => led?, led = leads(&b) => led?, led = leads(&c) => led? };
    assert!(!led.has_successor().await.expect("an answer"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_by_hand_leads_no_more_and_stands_again() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let url = url(&zookeeper.url("", "/mysos"))?;
    let election = candidate(&url, "a");
    let first = leads(&election).await?;
    let store = first.state_store();
    let client = zookeeper.client().await?;
    client.delete(first.fence(), None).await.expect("removed");
    // refused by the servers, whether this side has been told or not
    assert!(is_over(&store.save(&record("a")?, b"late").await.expect_err("refused")));
    assert!(is_over(&store.remove(&record("a")?).await.expect_err("refused")));
    let cluster = "a".parse().expect("a name");
    let error = first.discovery().publish(&cluster, &published(1, None, &[])).await.expect_err("refused");
    assert!(is_over(&error), "{}", error.chain());
    within(STEP, "the loss is told", first.lost()).await?;

    let mut standing = election.standing();
    let is_other = |s: &Standing| matches!(s, Standing::Leading(term) if term.fence() != first.fence());
    comes(&mut standing, "leads again", is_other).await?;
    assert!(is_over(&store.load().await.expect_err("an old term stays over")));

    // numbers begin anew when somebody removes the directory, and the fence is another one all the same
    let Standing::Leading(second) = standing.borrow().clone() else { return Err(Failure::new("does not lead")) };
    client.delete(second.fence(), None).await.expect("removed");
    within(STEP, "the loss is told", second.lost()).await?;
    Ok(())
}

/// A leader that has lost its place and has not been told: it is the servers that refuse it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_know_yet_is_refused_by_the_servers() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let link = Link::to(zookeeper.address(0)).await?;
    let election = candidate(&url(&format!("zk://{}/mysos", link.address()))?, "a");
    let client = zookeeper.client().await?;
    let (saved, kept) = ("/mysos/state/clusters/saved", "/mysos/state/clusters/kept");
    for is_removal in [false, true] {
        let term = leads(&election).await?;
        let store = term.state_store();
        for name in ["saved", "kept"] {
            store.save(&record(name)?, b"old").await.expect("saved");
        }
        link.hold();
        client.delete(term.fence(), None).await.expect("removed");
        let (saved_key, kept_key) = (record("saved")?, record("kept")?);
        let write = async {
            assert_eq!(term.loss(), None, "it has not been told");
            if is_removal { store.remove(&kept_key).await } else { store.save(&saved_key, b"late").await }
        };
        // the write is on its way when the news are let through
        let (refused, ()) = tokio::join!(write, async { link.release() });
        let error = refused.expect_err("refused");
        assert!(is_over(&error), "{}", error.chain());
        for path in [saved, kept] {
            assert_eq!(client.get_data(path).await.expect("is there").0, b"old", "{path} has not changed");
        }
        within(STEP, "the loss is told", term.lost()).await?;
    }
    Ok(())
}

/// A leader that is cut off steps down by its own clock before another one leads, and changes nothing when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_steps_down_before_another_leads() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let link = Link::to(zookeeper.address(0)).await?;
    let behind = url(&format!("zk://{}/mysos", link.address()))?;
    let direct = url(&zookeeper.url("", "/mysos"))?;
    let a = candidate(&behind, "a");
    let old = leads(&a).await?;
    let store = old.state_store();
    store.save(&record("x")?, b"a").await.expect("saved");
    let b = candidate(&direct, "b");
    follows(&b, "a").await?;

    link.cut();
    let lost = async {
        old.lost().await;
        Instant::now()
    };
    let (lost, new) = tokio::join!(within(STEP, "steps down", lost), async {
        let new = leads(&b).await;
        new.map(|new| (new, Instant::now()))
    });
    let (lost, (new, leads_since)) = (lost?, new?);
    assert!(lost < leads_since, "the old one has stepped down before");
    let error = store.save(&record("x")?, b"late").await.expect_err("refused");
    assert!(is_over(&error), "{}", error.chain());
    new.state_store().save(&record("x")?, b"b").await.expect("the new leader writes");

    link.mend();
    follows(&a, "b").await?;
    assert!(is_over(&store.save(&record("x")?, b"late").await.expect_err("refused")));
    let client = zookeeper.client().await?;
    assert_eq!(client.get_data("/mysos/state/clusters/x").await.expect("is there").0, b"b");
    Ok(())
}

/// A short break is none of leadership.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_break_costs_nothing() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let link = Link::to(zookeeper.address(0)).await?;
    let url = url(&format!("zk://{}/mysos", link.address()))?;
    // long enough for the slowest machine
    let session_timeout = SESSION.max(std::time::Duration::from_secs(4));
    let election = Election::start(ElectionConfig { url, api: "a".to_owned(), session_timeout, has_master: None });
    let term = leads(&election).await?;
    let store = term.state_store();
    for round in 0..3u8 {
        link.cut();
        link.mend();
        let mut saved = store.save(&record("x")?, &[round]).await;
        while saved.as_ref().is_err_and(PortError::is_temporary) {
            saved = store.save(&record("x")?, &[round]).await;
        }
        saved.expect("saved in the same term");
    }
    assert_eq!(term.loss(), None);
    Ok(())
}

/// A scheduler as a process of its own.
struct Rival {
    name: &'static str,
    lines: Lines<BufReader<ChildStdout>>,
    process: Process,
    _child: Child,
}

impl Rival {
    fn start(url: &str, name: &'static str) -> Result<Self, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cotton-zookeeper-candidate"));
        command.args([url, name, &SESSION.as_millis().to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new("no output"))?;
        let process = child.id().and_then(Process::open).ok_or_else(|| Failure::new("has ended already"))?;
        Ok(Self { name, lines: BufReader::new(stdout).lines(), process, _child: child })
    }

    async fn says(&mut self, words: &str) -> Result<String, Failure> {
        loop {
            let what = format!("{} says '{words}'", self.name);
            let line = within(STEP, &what, self.lines.next_line()).await??;
            let line = line.ok_or_else(|| Failure::new(format!("ended before: {what}")))?;
            if line.starts_with(words) {
                return Ok(line);
            }
        }
    }
}

/// Who is started again need not wait for the end of the session that its earlier run left. Were that run alive, it would
/// be refused like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_started_again_takes_its_own_place_at_once() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let url = zookeeper.url("", "/mysos");
    let mut first = Rival::start(&url, "a")?;
    first.says("leads").await?;
    let mut second = Rival::start(&url, "a")?;
    second.says("leads").await?; // the session of the first never ends
    first.says("refused").await?;
    first.says("lost").await?;
    first.says("follows a").await?; // and leaves the other in peace
    second.process.kill();
    first.says("leads").await?;
    Ok(())
}

/// Two processes fight: whoever leads is stopped in the middle of its writes, and continued after the other took over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_stopped_and_continued_changes_nothing() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let url = zookeeper.url("", "/mysos");
    let client = zookeeper.client().await?;
    let path = "/mysos/state/clusters/shared";
    let writes = |name: &'static str| move |data: &[u8]| data.starts_with(format!("{name} ").as_bytes());
    let mut leader = Rival::start(&url, "a")?;
    leader.says("leads").await?;
    let mut standby = Rival::start(&url, "b")?;
    standby.says("follows a").await?;
    for _ in 0..2 {
        data_is(&client, path, writes(leader.name)).await?;
        leader.process.signal(Signal::STOP);
        standby.says("leads").await?;
        data_is(&client, path, writes(standby.name)).await?;
        leader.process.signal(Signal::CONT);
        // It goes on with what it was doing, and is refused. From the takeover on every write is the new leader's.
        let watch = async {
            let mut number = 0;
            loop {
                let (data, _, watcher) = client.get_and_watch_data(path).await.expect("is there");
                let text = String::from_utf8(data).expect("text");
                let (name, count) = text.split_once(' ').expect("a name and a number");
                assert_eq!(name, standby.name, "the old leader has written");
                let count: u64 = count.parse().expect("a number");
                assert!(count >= number, "from {number} back to {count}");
                number = count;
                watcher.changed().await;
            }
        };
        tokio::select! {
            refused = leader.says("refused") => { let line = refused?; assert!(line.contains("lead") || line.contains("published already"), "{line}"); }
            () = watch => {}
        }
        leader.says("lost").await?;
        leader.says(&format!("follows {}", standby.name)).await?;
        let master = client.list_children("/mysos/discover/shared/master").await.expect("is there");
        assert_eq!(master.len(), 1, "one is published: {master:?}");
        std::mem::swap(&mut leader, &mut standby);
    }
    // killed outright
    leader.process.kill();
    standby.says("leads").await?;
    data_is(&client, path, writes(standby.name)).await?;
    Ok(())
}

/// Nobody leads without a connection, and everybody says what is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_zookeeper_it_says_what_it_waits_for() -> Outcome {
    let Some(mut zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    zookeeper.kill(0).await?;
    let election = candidate(&url(&zookeeper.url("user:secret@", "/mysos"))?, "a");
    let told = until(&election, "says why", |s| s.to_string().contains("no ZooKeeper server")).await?;
    assert!(told.to_string().contains(&zookeeper.address(0)) && !told.to_string().contains("secret"), "{told}");
    zookeeper.start(0)?;
    leads(&election).await?;
    Ok(())
}
