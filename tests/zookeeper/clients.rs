//! What the clients of Apache Cotton see, by a program that is none of ours.

use crate::{Outcome, STEP, candidate, leads, published, url};
use cotton_core::ports::discovery::Discovery;
use cotton_tests::{Kazoo, Seen, ZooKeeper};

fn at(port: u16) -> Seen {
    Seen::Master(Some(format!("host:{port}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_primary_at_a_time_and_every_change_of_it() -> Outcome {
    let Some(zookeeper) = ZooKeeper::single().await? else { return Ok(()) };
    // with credentials, which clients do not have
    let url = url(&zookeeper.url("cotton:secret@", "/mysos"))?;
    let cluster = "orders".parse().expect("a name");
    let place = url.cluster_url(&cluster);
    assert!(!place.contains("secret"), "{place}");
    let Some(mut resolve) = Kazoo::start("resolve", &place)? else { return Ok(()) };
    let Some(mut watch) = Kazoo::start("watch", &place)? else { return Ok(()) };
    let election = candidate(&url, "a");
    let discovery = leads(&election).await?.discovery();

    discovery.publish(&cluster, &published(1, None, &[])).await.expect("published");
    assert_eq!(watch.next(STEP).await?, Seen::Master(None));
    discovery.publish(&cluster, &published(1, Some(0), &[0])).await.expect("published");
    assert_eq!(watch.next(STEP).await?, at(31_000));
    assert_eq!(resolve.next(STEP).await?, at(31_000));
    let changes = [
        (1, Some(0), &[0, 1, 2][..], None),
        (2, None, &[1, 2], Some(Seen::Master(None))),
        (2, Some(2), &[1, 2], Some(at(31_002))),
        (3, Some(1), &[1, 2, 3], Some(at(31_001))),
        (3, Some(1), &[1, 3], None),
        (4, Some(2), &[1, 2, 3], Some(at(31_002))),
    ];
    for (epoch, primary, members, seen) in changes {
        discovery.publish(&cluster, &published(epoch, primary, members)).await.expect("published");
        if let Some(seen) = seen {
            assert_eq!(watch.next(STEP).await?, seen, "epoch {epoch}");
        }
    }

    // faster than anybody can look: it fails if it ever sees two
    let Some(mut wait) = Kazoo::start("wait", &place)? else { return Ok(()) };
    for epoch in 5..200u16 {
        let (primary, other) = (epoch % 3, (epoch + 1) % 3);
        let published = published(epoch.into(), Some(primary.into()), &[primary, other]);
        discovery.publish(&cluster, &published).await.expect("published");
    }
    discovery.publish(&cluster, &published(200, Some(7), &[0, 7])).await.expect("published");
    watch.until(&at(31_007), STEP).await?;
    discovery.withdraw(&cluster).await.expect("withdrawn");
    assert_eq!(watch.next(STEP).await?, Seen::Terminated);
    assert_eq!(wait.next(STEP).await?, Seen::Terminated);
    Ok(())
}
