//! The ports, held to what is asked of every adapter, and what is ZooKeeper's own about them.

use crate::{Outcome, STEP, candidate, leads, published, record, url};
use cotton_core::ports::discovery::{Discovery, Published};
use cotton_core::ports::state_store::{StateKey, StateStore};
use cotton_core::testkit::contract;
use cotton_core::{ClusterName, Endpoint, Epoch, ErrorKind, ErrorStatus, MemberId};
use cotton_mesos::zookeeper::RECORD_BYTES_MAX;
use cotton_tests::{ZooKeeper, tree, within};
use std::collections::BTreeMap;
use zookeeper_client as zk;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_store_on_one_server() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("", "/mysos"))?, "a");
    let term = leads(&election).await?;
    within(STEP, "the suite", contract::state_store::state_store(|| term.state_store())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_on_an_ensemble_with_credentials() -> Outcome {
    let Some(zookeeper) = ZooKeeper::ensemble().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("cotton:secret@", "/mysos/deep/er"))?, "a");
    let term = leads(&election).await?;
    within(STEP, "the suite", contract::state_store::state_store(|| term.state_store())).await?;
    let client = zookeeper.client().await?;
    let look = async |cluster: &ClusterName| look(&client, "/mysos/deep/er/discover", cluster).await;
    within(STEP, "the suite", contract::discovery::discovery(|| term.discovery(), look)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_on_one_server_at_the_root() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("", ""))?, "a");
    let term = leads(&election).await?;
    let client = zookeeper.client().await?;
    let look = async |cluster: &ClusterName| look(&client, "/discover", cluster).await;
    within(STEP, "the suite", contract::discovery::discovery(|| term.discovery(), look)).await
}

/// A cluster as clients see it; the bytes must be those that they know.
async fn look(client: &zk::Client, dir: &str, cluster: &ClusterName) -> Option<Published> {
    let path = format!("{dir}/{cluster}");
    client.sync(&path).await.expect("this server catches up");
    let found = tree(client, &path).await.expect("the tree is read");
    let mark: serde_json::Value = serde_json::from_slice(found.get(&path)?).expect("an epoch");
    let epoch = mark.get("epoch")?.as_u64()?;
    let mut published = Published { epoch: Epoch(epoch), primary: None, members: BTreeMap::new() };
    for (znode, data) in &found {
        let Some((_, name)) = znode.rsplit_once("/member_") else { continue };
        assert_eq!(name.len(), 10, "{znode}");
        let id = MemberId(name.parse().expect("a number"));
        let text = String::from_utf8(data.clone()).expect("text");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let host = json["serviceEndpoint"]["host"].as_str().expect("a host");
        let port = json["serviceEndpoint"]["port"].as_u64().expect("a port");
        let known = format!(
            r#"{{"serviceEndpoint":{{"host":"{host}","port":{port}}},"additionalEndpoints":{{}},"status":"ALIVE"}}"#
        );
        assert_eq!(text, known);
        let endpoint = Endpoint::new(host, port.try_into().expect("a port"));
        assert_eq!(published.members.insert(id, endpoint), None, "a member is in one group only");
        if znode.starts_with(&format!("{path}/master/")) {
            assert_eq!(published.primary.replace(id), None, "there is one primary at most");
        }
    }
    assert!(found.contains_key(&format!("{path}/master")) && found.contains_key(&format!("{path}/slaves")));
    Some(published)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_leaves_nothing_behind() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("", "/mysos"))?, "a");
    let term = leads(&election).await?;
    let (store, discovery) = (term.state_store(), term.discovery());
    let client = zookeeper.client().await?;
    let before = tree(&client, "/mysos").await?;
    let cluster: ClusterName = "orders".parse().expect("a name");
    store.save(&record("orders")?, b"{}").await.expect("saved");
    discovery.publish(&cluster, &published(1, Some(0), &[0, 1, 2])).await.expect("published");
    // what somebody else has put there goes too
    let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
    client.create("/mysos/discover/orders/slaves/x", b"", &options).await.expect("made");
    client.create("/mysos/discover/orders/slaves/x/y", b"", &options).await.expect("made");
    discovery.withdraw(&cluster).await.expect("withdrawn");
    store.remove(&record("orders")?).await.expect("removed");
    assert_eq!(tree(&client, "/mysos").await?, before);
    drop(term);
    drop((store, discovery));
    election.resign().await;
    let after = tree(&client, "/mysos").await?;
    assert!(!after.keys().any(|path| path.starts_with("/mysos/leader/")), "{after:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_removed_is_made_again() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("", "/mysos"))?, "a");
    let term = leads(&election).await?;
    let (store, discovery) = (term.state_store(), term.discovery());
    let cluster: ClusterName = "a".parse().expect("a name");
    let client = zookeeper.client().await?;
    store.save(&record("b")?, b"old").await.expect("saved");
    for path in tree(&client, "/mysos").await?.keys().rev() {
        if path.starts_with("/mysos/state") || path.starts_with("/mysos/discover") {
            client.delete(path, None).await.expect("removed");
        }
    }
    assert_eq!(store.load().await.expect("nothing is there").len(), 0);
    store.remove(&record("b")?).await.expect("nothing is there");
    discovery.withdraw(&cluster).await.expect("nothing is there");
    store.save(&record("a")?, b"new").await.expect("saved");
    let new = published(1, Some(0), &[0, 1]);
    discovery.publish(&cluster, &new).await.expect("published");
    assert_eq!(look(&client, "/mysos/discover", &cluster).await, Some(new.clone()));
    // parts of a publication too
    client.delete("/mysos/discover/a/master/member_0000000000", None).await.expect("removed");
    discovery.publish(&cluster, &new).await.expect("published");
    assert_eq!(look(&client, "/mysos/discover", &cluster).await, Some(new));
    let place = store.set_aside(&record("a")?).await.expect("moved");
    assert_eq!(client.get_data(&place).await.expect("is there").0, b"new");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cotton_has_published_is_taken_over() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let client = zookeeper.client().await?;
    let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
    let old = br#"{"status": "ALIVE", "additionalEndpoints": {}, "serviceEndpoint": {"host": "old", "port": 1}}"#;
    for path in
        ["/mysos", "/mysos/discover", "/mysos/discover/a", "/mysos/discover/a/slaves", "/mysos/discover/a/master"]
    {
        client.create(path, b"", &options).await.expect("made");
    }
    client.create("/mysos/discover/a/master/member_0000000004", old, &options).await.expect("made");
    client.create("/mysos/discover/a/slaves/member_0000000005", old, &options).await.expect("made");
    let election = candidate(&url(&zookeeper.url("", "/mysos"))?, "a");
    let term = leads(&election).await?;
    let cluster: ClusterName = "a".parse().expect("a name");
    let new = published(7, Some(5), &[5, 6]);
    term.discovery().publish(&cluster, &new).await.expect("published");
    assert_eq!(look(&client, "/mysos/discover", &cluster).await, Some(new));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_have_a_limit_and_hinder_no_other() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("", "/mysos"))?, "a");
    let term = leads(&election).await?;
    let store = term.state_store();
    store.save(&record("big")?, &vec![b'x'; RECORD_BYTES_MAX]).await.expect("the longest record is saved");
    let error = store.save(&record("big")?, &vec![b'y'; RECORD_BYTES_MAX + 1]).await.expect_err("too long");
    assert_eq!((error.kind, error.status), (ErrorKind::Invalid, ErrorStatus::Permanent));
    assert!(
        error.chain().contains("state of cluster 'big'") && error.chain().contains("1000001 bytes"),
        "{}",
        error.chain()
    );
    store.set_aside(&record("big")?).await.expect("the longest record can be moved");

    store.save(&StateKey::Fleet, b"fleet").await.expect("saved");
    store.save(&record("good")?, b"good").await.expect("saved");
    // a record that we may not read, and one that is not ours
    let client = zookeeper.client().await?;
    client.auth("digest", b"somebody:else").await.expect("authenticated");
    let theirs = zk::CreateMode::Persistent.with_acls(zk::Acls::creator_all());
    client.create("/mysos/state/clusters/theirs", b"x", &theirs).await.expect("made");
    client.create("/mysos/state/clusters/Not.Ours", b"x", &theirs).await.expect("made");
    let loaded = store.load().await.expect("the others are loaded");
    let keys: Vec<_> = loaded.iter().map(|stored| stored.key.clone()).collect();
    assert_eq!(keys, [StateKey::Fleet, record("big")?, record("good")?, record("theirs")?]);
    let error = loaded[3].value.as_ref().expect_err("cannot be read");
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.chain().contains("'/mysos/state/clusters/theirs'"), "{}", error.chain());
    assert_eq!(loaded[2].value.as_deref().expect("is read"), b"good");
    let place = store.set_aside(&record("good")?).await.expect("moved");
    assert_eq!(place, "/mysos/state/aside/good.1");
    assert_eq!(client.get_data(&place).await.expect("is there").0, b"good", "what was damaged is kept as it was");
    store.set_aside(&record("theirs")?).await.expect_err("what cannot be read stays in its place");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_keep_others_out() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    let election = candidate(&url(&zookeeper.url("cotton:secret@", "/mysos"))?, "a");
    let term = leads(&election).await?;
    term.state_store().save(&record("a")?, b"sealed").await.expect("saved");
    let cluster: ClusterName = "a".parse().expect("a name");
    term.discovery().publish(&cluster, &published(1, Some(0), &[0])).await.expect("published");

    let anybody = zookeeper.client().await?;
    let denied = Err(zk::Error::NoAuth);
    for path in ["/mysos/state/clusters/a", "/mysos/state/aside", term.fence()] {
        assert_eq!(anybody.get_data(path).await.map(drop), denied, "{path} is not read by others");
        assert_eq!(anybody.set_data(path, b"", None).await.map(drop), denied, "{path} is not written by others");
        assert_eq!(anybody.delete(path, None).await, denied, "{path} is not removed by others");
    }
    let member = "/mysos/discover/a/master/member_0000000000";
    anybody.get_data(member).await.expect("everybody finds the primary");
    for path in [member, "/mysos/discover/a"] {
        assert_eq!(anybody.set_data(path, b"", None).await.map(drop), denied, "{path} is not written by others");
        assert_eq!(anybody.delete(member, None).await, denied, "{path} is not removed by others");
    }
    drop(term);
    election.resign().await;

    // with a wrong password: an error that says where and what to do
    let other = candidate(&url(&zookeeper.url("cotton:wrong@", "/mysos"))?, "b");
    let told = crate::until(&other, "is refused", |standing| standing.to_string().contains("denies access")).await?;
    assert!(told.to_string().contains("'/mysos/leader'") && !told.to_string().contains("wrong"), "{told}");
    Ok(())
}
