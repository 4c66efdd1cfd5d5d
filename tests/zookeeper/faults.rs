//! Servers that die, quorums that are missing, and answers that are lost.

use crate::{Outcome, STEP, candidate, comes, data_is, leads, published, record, url};
use cotton_core::ErrorKind;
use cotton_core::ports::discovery::Discovery;
use cotton_core::ports::state_store::StateStore;
use cotton_mesos::zookeeper::{Election, Leadership, Standing};
use cotton_tests::{Failure, Link, ZooKeeper, within};

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

/// The connection breaks between a write and its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_known_to_be_done() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let link = Link::to(zookeeper.address(0)).await?;
    let election = candidate(&url(&format!("zk://{}/mysos", link.address()))?, "a");
    let term = leads(&election).await?;
    let (store, discovery) = (term.state_store(), term.discovery());
    let client = zookeeper.client().await?;
    let cluster = "a".parse().expect("a name");
    let (key, new, newer) = (record("a")?, published(1, Some(0), &[0]), published(2, Some(1), &[1]));
    let there = "/mysos/state/clusters/a";

    // (what is sent, what then is there, and where)
    link.lose_answers();
    let (saved, seen) = tokio::join!(store.save(&key, b"1"), async {
        let seen = data_is(&client, there, |data| data == b"1").await;
        link.mend();
        seen
    });
    seen?;
    saved.expect("it is done, and said to be");

    discovery.publish(&cluster, &new).await.expect("published");
    link.lose_answers();
    let (sent, seen) = tokio::join!(discovery.publish(&cluster, &newer), async {
        let path = "/mysos/discover/a";
        // the answer to the look before the write must pass: only the write's own is lost
        link.mend();
        data_is(&client, path, |data| data == br#"{"epoch":2}"#).await
    });
    seen?;
    if sent.is_err() {
        discovery.publish(&cluster, &newer).await.expect("a repetition changes nothing");
    }

    link.lose_answers();
    let (removed, gone) = tokio::join!(store.remove(&key), async {
        let gone = async {
            loop {
                let (stat, watcher) = client.check_and_watch_stat(there).await.expect("an answer");
                if stat.is_none() {
                    return;
                }
                watcher.changed().await;
            }
        };
        let gone = within(STEP, "the record is removed", gone).await;
        link.mend();
        gone
    });
    gone?;
    removed.expect("it is done, and said to be");
    assert_eq!(term.loss(), None, "the same term throughout");
    Ok(())
}
