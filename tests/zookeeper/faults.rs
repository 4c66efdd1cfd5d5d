//! Servers that die, quorums that are missing, and answers that are lost.

use crate::{Outcome, STEP, candidate, comes, leads, published, record, url};
use cotton_core::ports::discovery::Discovery;
use cotton_core::ports::state_store::StateStore;
use cotton_core::{ClusterName, ErrorKind, PortError};
use cotton_mesos::zookeeper::{Election, Leadership, Standing};
use cotton_tests::{Failure, Link, ZooKeeper, within};
use zookeeper_client as zk;

/// Saves as the driver does: again after errors that may pass; with the next term when this one is over.
async fn save_at_last(election: &Election, value: &[u8]) -> Result<Leadership, Failure> {
    let save = async {
        loop {
            let term = leads(election).await?;
            match term.state_store().save(&record("a")?, value).await {
                Ok(()) => return Ok(term),
                Err(error) if error.is_temporary() => {}
                Err(_) => drop(within(STEP, "the loss is told", term.lost()).await?),
            }
        }
    };
    within(STEP, "a save succeeds", save).await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back() -> Outcome {
    let Some(mut zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("", "/mysos"))?, "a");
    let term = leads(&election).await?;
    term.state_store().save(&record("a")?, b"1").await.expect("saved");
    zookeeper.kill(0).await?;
    let error = term.state_store().save(&record("a")?, b"2").await.expect_err("nobody is there");
    assert!(error.is_temporary(), "{}", error.chain());
    assert!(matches!(error.kind, ErrorKind::Timeout | ErrorKind::Unreachable), "{}", error.chain());
    zookeeper.start(0)?;
    let term = save_at_last(&election, b"3").await?;
    let loaded = term.state_store().load().await.expect("loaded");
    assert_eq!(loaded[0].value.as_deref().expect("is read"), b"3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ensemble_that_loses_one_and_then_its_quorum() -> Outcome {
    let Some(mut zookeeper) = ZooKeeper::ensemble().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("", "/mysos"))?, "a");
    leads(&election).await?;
    save_at_last(&election, b"three").await?;
    // one server less is none too few, whichever it is
    for number in 0..zookeeper.size() {
        zookeeper.kill(number).await?;
        save_at_last(&election, format!("without {number}").as_bytes()).await?;
        zookeeper.start(number)?;
        zookeeper.serving().await?;
    }

    let term = save_at_last(&election, b"before").await?;
    let cluster = "a".parse().expect("a name");
    term.discovery().publish(&cluster, &published(1, Some(0), &[0])).await.expect("published");
    zookeeper.kill(0).await?;
    zookeeper.kill(1).await?;
    let error = term.state_store().save(&record("a")?, b"during").await.expect_err("no quorum");
    assert!(error.is_temporary(), "{}", error.chain());
    let error = term.discovery().publish(&cluster, &published(2, Some(0), &[0])).await.expect_err("no quorum");
    assert!(error.is_temporary() || term.loss().is_some(), "{}", error.chain());
    // in the end nobody leads, and what is known from before is not taken for the truth
    within(STEP, "the loss is told", term.lost()).await?;
    term.state_store().load().await.expect_err("no records without leadership");
    let mut standing = election.standing();
    comes(&mut standing, "says what is missing", |s| s.to_string().contains("no ZooKeeper server")).await?;

    zookeeper.start(0)?;
    let mut seen = standing;
    comes(&mut seen, "leads again", |s| matches!(s, Standing::Leading(_))).await?;
    let term = leads(&election).await?;
    let loaded = term.state_store().load().await.expect("loaded");
    let value = loaded[0].value.as_deref().expect("is read");
    assert!(value == b"before" || value == b"during", "{:?}", String::from_utf8_lossy(value));
    save_at_last(&election, b"after").await?;
    Ok(())
}

/// What is done when the connection breaks in place of an answer, and then is looked at.
struct Breaking {
    zookeeper: ZooKeeper,
    link: Link,
    election: Election,
}

impl Breaking {
    async fn start() -> Result<Option<Self>, Failure> {
        let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(None) };
        let link = Link::to(zookeeper.address(0)).await?;
        let election = candidate(&url(&format!("zk://{}/mysos", link.address()))?, "a");
        Ok(Some(Self { zookeeper, link, election }))
    }

    /// Does something again and again, with the connection breaking in place of its first, second, ... answer, until it
    /// needs no more answers. `act` has the number of the round, `is_done` what an independent client sees. What is said
    /// to be done must be, and the other way round; what is not must succeed when it is repeated.
    async fn in_place_of_each_answer(
        &self,
        act: impl AsyncFn(&Leadership, u64) -> Result<(), PortError>,
        is_done: impl AsyncFn(&zk::Client, u64) -> bool,
    ) -> Result<u64, Failure> {
        let client = self.zookeeper.client().await?;
        let term = leads(&self.election).await?;
        for answers in 0.. {
            self.link.break_after(answers);
            let acted = within(STEP, "it is done or not", act(&term, answers)).await?;
            let done = is_done(&client, answers).await;
            if self.link.spare() {
                acted.expect("nothing went wrong");
                return Ok(answers);
            }
            match acted {
                Ok(()) => assert!(done, "answer {answers}: it is said to be done, and is not"),
                Err(error) => {
                    assert!(error.is_temporary(), "answer {answers}: {}", error.chain());
                    assert!(!done, "answer {answers}: it is done, and said not to be: {}", error.chain());
                    within(STEP, "it is done", act(&term, answers)).await?.expect("the repetition succeeds");
                    assert!(is_done(&client, answers).await, "answer {answers}: it is not done by the repetition");
                }
            }
            assert_eq!(term.loss(), None, "the same term throughout");
        }
        Ok(0)
    }
}

async fn holds(client: &zk::Client, path: &str, value: &[u8]) -> bool {
    client.get_data(path).await.is_ok_and(|(data, _)| data == value)
}

async fn is_gone(client: &zk::Client, path: &str) -> bool {
    client.check_stat(path).await.expect("an answer").is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_record_is_saved_is_known_when_the_answer_is_lost() -> Outcome {
    let Some(breaking) = Breaking::start().await? else { return Ok(()) };
    let key = record("a")?;
    let path = "/mysos/state/clusters/a";
    let value = |round: u64| format!("value {round}").into_bytes();
    let save = async |term: &Leadership, round| term.state_store().save(&key, &value(round)).await;
    let saved = async |client: &zk::Client, round| holds(client, path, &value(round)).await;
    let answers = breaking.in_place_of_each_answer(save, saved).await?;
    assert!(answers > 0);
    // and when it is new each time
    let key = |round: u64| record(&format!("b{round}"));
    let save = async |term: &Leadership, round| term.state_store().save(&key(round).expect("a name"), b"x").await;
    let saved =
        async |client: &zk::Client, round| holds(client, &format!("/mysos/state/clusters/b{round}"), b"x").await;
    let answers = breaking.in_place_of_each_answer(save, saved).await?;
    assert!(answers > 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_record_is_removed_or_moved_is_known_when_the_answer_is_lost() -> Outcome {
    let Some(breaking) = Breaking::start().await? else { return Ok(()) };
    let store = leads(&breaking.election).await?.state_store();
    for name in (0..9).flat_map(|round| [format!("r{round}"), format!("m{round}")]) {
        store.save(&record(&name)?, b"x").await.expect("saved");
    }
    let key = |kind: char, round: u64| record(&format!("{kind}{round}")).expect("a name");
    let remove = async |term: &Leadership, round| term.state_store().remove(&key('r', round)).await;
    let removed = async |client: &zk::Client, round| is_gone(client, &format!("/mysos/state/clusters/r{round}")).await;
    breaking.in_place_of_each_answer(remove, removed).await?;
    let set_aside = async |term: &Leadership, round| term.state_store().set_aside(&key('m', round)).await.map(drop);
    let moved = async |client: &zk::Client, round| {
        let is_there = holds(client, &format!("/mysos/state/aside/m{round}.1"), b"x").await;
        is_there && is_gone(client, &format!("/mysos/state/clusters/m{round}")).await
    };
    breaking.in_place_of_each_answer(set_aside, moved).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_cluster_is_published_is_known_when_the_answer_is_lost() -> Outcome {
    let Some(breaking) = Breaking::start().await? else { return Ok(()) };
    let cluster = "a".parse().expect("a name");
    let what = |round: u64| published(round + 1, Some(round % 2), &[0, 1]);
    let publish = async |term: &Leadership, round| term.discovery().publish(&cluster, &what(round)).await;
    let mark = |round: u64| format!(r#"{{"epoch":{}}}"#, round + 1).into_bytes();
    let is_published = async |client: &zk::Client, round| {
        let primary = format!("/mysos/discover/a/master/member_{:010}", round % 2);
        holds(client, "/mysos/discover/a", &mark(round)).await && !is_gone(client, &primary).await
    };
    breaking.in_place_of_each_answer(publish, is_published).await?;

    let names: Vec<ClusterName> = (0..12).map(|n| format!("w{n}").parse().expect("a name")).collect();
    let discovery = leads(&breaking.election).await?.discovery();
    for name in &names {
        discovery.publish(name, &what(0)).await.expect("published");
    }
    let name = |round: u64| &names[usize::try_from(round).expect("small")];
    let withdraw = async |term: &Leadership, round| term.discovery().withdraw(name(round)).await;
    let gone = async |client: &zk::Client, round| is_gone(client, &format!("/mysos/discover/{}", name(round))).await;
    breaking.in_place_of_each_answer(withdraw, gone).await?;
    Ok(())
}
