//! What every [`Discovery`] must do.

use crate::ports::discovery::{Discovery, Published};
use crate::{ClusterName, Endpoint, Epoch, ErrorKind, MemberId};

/// Runs the suite. `open` gives a fresh adapter over the same, at first empty, place; `look` says what a client sees of a
/// cluster at that moment (an adapter whose layout keeps no epoch may answer with any).
///
/// # Panics
/// When a rule is broken; the message names it.
pub async fn discovery<D: Discovery>(open: impl Fn() -> D, look: impl AsyncFn(&ClusterName) -> Option<Published>) {
    let (a, b): (ClusterName, ClusterName) = (name("a"), name("b"));
    let found = async |cluster: &ClusterName| look(cluster).await.map(|p| (p.primary, p.members));
    let wanted = |p: &Published| Some((p.primary, p.members.clone()));
    let port = open();
    assert_eq!(found(&a).await, None, "nothing is published at first");
    port.withdraw(&a).await.expect("withdrawing what is not there succeeds");

    let first = published(1, None, &[0]);
    port.publish(&a, &first).await.expect("a cluster without a primary can be published");
    assert_eq!(found(&a).await, wanted(&first), "clients see what is published");
    let second = published(1, Some(0), &[0, 1, 2]);
    port.publish(&a, &second).await.expect("members may come within an epoch");
    port.publish(&a, &second).await.expect("repeating a publication succeeds");
    assert_eq!(found(&a).await, wanted(&second), "a publication replaces the one before");

    let third = published(3, Some(2), &[1, 2, 3]);
    port.publish(&a, &third).await.expect("a higher epoch is published");
    let late = port.publish(&a, &second).await.expect_err("a lower epoch is refused");
    assert_eq!(late.kind, ErrorKind::Conflict, "a lower epoch is a conflict");
    drop(port);
    let port = open();
    port.publish(&a, &second).await.expect_err("a lower epoch is refused after a restart");
    assert_eq!(found(&a).await, wanted(&third), "a refused publication changes nothing");

    let fewer = published(3, Some(2), &[2]);
    port.publish(&a, &fewer).await.expect("members may go");
    assert_eq!(found(&a).await, wanted(&fewer), "members that are gone are no longer seen");
    port.publish(&b, &first).await.expect("another cluster has epochs of its own");
    port.withdraw(&a).await.expect("a cluster can be withdrawn");
    port.withdraw(&a).await.expect("withdrawing may be repeated");
    assert_eq!(found(&a).await, None, "nothing is left of a withdrawn cluster");
    assert_eq!(found(&b).await, wanted(&first), "other clusters are not touched");
    port.publish(&a, &first).await.expect("a new cluster of that name starts anew");
    assert_eq!(found(&a).await, wanted(&first), "a new cluster of that name is seen");
}

fn name(text: &str) -> ClusterName {
    text.parse().expect("a valid name")
}

fn published(epoch: u64, primary: Option<u64>, members: &[u16]) -> Published {
    let endpoint = |id: u16| (MemberId(id.into()), Endpoint::new("127.0.0.1", 31_000 + id));
    Published {
        epoch: Epoch(epoch),
        primary: primary.map(MemberId),
        members: members.iter().map(|&id| endpoint(id)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testkit::memory_discovery::MemoryDiscovery;

    #[tokio::test]
    async fn the_memory_discovery_passes() {
        let port = MemoryDiscovery::new();
        super::discovery(|| port.clone(), async |cluster| port.get(cluster)).await;
    }
}
