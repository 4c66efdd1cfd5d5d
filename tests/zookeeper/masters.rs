//! Which Mesos master leads, by what masters write.

use crate::{Outcome, SESSION, STEP, comes, url};
use cotton_core::Endpoint;
use cotton_mesos::zookeeper::{MasterAddress, ZkMasterDetector};
use cotton_tests::{Failure, ZooKeeper, within};
use zookeeper_client as zk;

/// A master with an ephemeral znode, as long as its client is kept; returns the znode too.
async fn master(zookeeper: &ZooKeeper, port: u16) -> Result<(zk::Client, String), Failure> {
    let client = zookeeper.client().await?;
    let options = zk::CreateMode::EphemeralSequential.with_acls(zk::Acls::anyone_all());
    let info = format!(
        r#"{{"address":{{"hostname":"localhost","ip":"127.0.0.1","port":{port}}},"hostname":"localhost","id":"m-{port}",
            "ip":16777343,"pid":"master@127.0.0.1:{port}","port":{port},"version":"1.11.0"}}"#
    );
    let path = "/mesos/json.info_";
    let (_, number) = client.create(path, info.as_bytes(), &options).await.expect("made");
    Ok((client, format!("{path}{number}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leading_master_and_every_change_of_it() -> Outcome {
    let Some(mut zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let detector = ZkMasterDetector::start(url(&zookeeper.url("", "/mesos"))?, SESSION);
    let mut leading = detector.leading();
    let own = zookeeper.client().await?;
    let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
    own.create("/mesos", b"", &options).await.expect("made");
    own.create("/mesos/log_replicas", b"", &options).await.expect("made");
    let is = |port: u16| move |m: &Option<_>| m.as_ref().is_some_and(|m: &MasterAddress| m.port == port);

    let (first, _) = master(&zookeeper, 5051).await?;
    let found = comes(&mut leading, "the first leads", is(5051)).await?;
    assert_eq!(found.map(|master| (master.id, master.host)), Some(("m-5051".to_owned(), "localhost".to_owned())));
    let (second, znode) = master(&zookeeper, 5052).await?;
    let (_third, _) = master(&zookeeper, 5053).await?;
    assert!(is(5051)(&leading.borrow_and_update()), "the lowest number leads");
    let leader = within(STEP, "a leader is known", detector.leader()).await?;
    let endpoint = leader.endpoint();
    assert_eq!((leader.to_string().as_str(), &endpoint), ("127.0.0.1:5051", &Endpoint::new("127.0.0.1", 5051)));
    let changed = within(STEP, "it changes", detector.changed(&endpoint));
    let (changed, ()) = tokio::join!(changed, async { drop(first) });
    changed?;
    comes(&mut leading, "the second leads", is(5052)).await?;

    // what nobody understands is not guessed
    second.set_data(&znode, b"not JSON", None).await.expect("written");
    second.delete(&znode, None).await.expect("removed");
    comes(&mut leading, "the third leads", is(5053)).await?;

    // without ZooKeeper the last one stays
    zookeeper.kill(0).await?;
    assert!(is(5053)(&leading.borrow_and_update()));
    zookeeper.start(0)?;
    zookeeper.serving().await?;
    let (_fourth, _) = master(&zookeeper, 5054).await?;
    comes(&mut leading, "the one that is left leads", |m| is(5053)(m) || is(5054)(m)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_master_is_none() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let own = zookeeper.client().await?;
    let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
    own.create("/mesos", b"", &options).await.expect("made");
    let detector = ZkMasterDetector::start(url(&zookeeper.url("", "/mesos"))?, SESSION);
    let mut leading = detector.leading();
    assert_eq!(*leading.borrow(), None);
    let (only, _) = master(&zookeeper, 5051).await?;
    comes(&mut leading, "it leads", Option::is_some).await?;
    drop(only);
    comes(&mut leading, "nobody leads", Option::is_none).await?;
    Ok(())
}
