//! What every [`StateStore`] must do.

use crate::ClusterName;
use crate::ports::state_store::{StateKey, StateStore};

/// Runs the suite. `open` gives a fresh adapter over the same, at first empty, place: as after a restart.
///
/// # Panics
/// When a rule is broken; the message names it.
pub async fn state_store<S: StateStore>(open: impl Fn() -> S) {
    let store = open();
    assert_eq!(live(&store).await, [], "a new store is empty");

    // what is saved is found by whoever opens the place next, in the order of the keys
    store.save(&cluster("b"), b"b1").await.expect("a save succeeds");
    store.save(&cluster("a"), b"a1").await.expect("a save succeeds");
    store.save(&StateKey::Fleet, b"fleet").await.expect("a save succeeds");
    let all = [(StateKey::Fleet, b"fleet".to_vec()), (cluster("a"), b"a1".to_vec()), (cluster("b"), b"b1".to_vec())];
    assert_eq!(live(&store).await, all, "records are listed in the order of their keys");
    drop(store);
    let store = open();
    assert_eq!(live(&store).await, all, "records survive a restart");

    // a save replaces the record as a whole, whatever the bytes are
    let binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    store.save(&cluster("a"), &binary).await.expect("any bytes can be saved");
    assert_eq!(get(&store, "a").await, Some(binary), "bytes come back as they were");
    store.save(&cluster("a"), b"").await.expect("no bytes can be saved");
    assert_eq!(get(&store, "a").await, Some(Vec::new()), "a shorter value leaves nothing of the longer one");
    store.save(&cluster("a"), b"a2").await.expect("a save succeeds");
    store.save(&cluster("a"), b"a2").await.expect("a repeated save succeeds");
    assert_eq!(get(&store, "a").await, Some(b"a2".to_vec()), "the last save counts");

    // names that could be mistaken for something else
    for name in ["fleet", "clusters", "a-json", "0", &"x".repeat(63)] {
        store.save(&cluster(name), name.as_bytes()).await.expect("any cluster name can be saved");
        assert_eq!(get(&store, name).await, Some(name.as_bytes().to_vec()), "record of cluster '{name}'");
        store.remove(&cluster(name)).await.expect("a removal succeeds");
    }
    assert_eq!(live(&store).await[0], (StateKey::Fleet, b"fleet".to_vec()), "a cluster 'fleet' is not the fleet");

    // removing is idempotent and lasts
    store.remove(&cluster("b")).await.expect("a removal succeeds");
    store.remove(&cluster("b")).await.expect("removing what is not there succeeds");
    drop(store);
    let store = open();
    assert_eq!(get(&store, "b").await, None, "a removal survives a restart");

    // a record set aside is reported as damaged until a person has looked at it, and hinders no other
    store.save(&cluster("bad"), b"garbage").await.expect("a save succeeds");
    let place = store.set_aside(&cluster("bad")).await.expect("a record can be set aside");
    assert!(!place.is_empty(), "setting aside says where the record is");
    assert_eq!(store.set_aside(&cluster("bad")).await.expect("may be repeated"), place, "setting aside is idempotent");
    drop(store);
    let store = open();
    let found = store.load().await.expect("a damaged record does not hinder loading");
    let bad = found.iter().find(|stored| stored.key == cluster("bad")).expect("a record set aside is not forgotten");
    assert!(bad.value.is_err(), "a record set aside is reported as damaged");
    assert_eq!(get(&store, "a").await, Some(b"a2".to_vec()), "other records stay readable");
    store.set_aside(&cluster("never")).await.expect_err("nothing cannot be set aside");
    store.save(&cluster("bad"), b"good").await.expect("a new record may take the place");
    assert_eq!(get(&store, "bad").await, Some(b"good".to_vec()), "a new record hides the one set aside");
}

async fn live(store: &impl StateStore) -> Vec<(StateKey, Vec<u8>)> {
    let found = store.load().await.expect("the records can be listed");
    found.into_iter().map(|stored| (stored.key, stored.value.expect("the record is readable"))).collect()
}

async fn get(store: &impl StateStore, name: &str) -> Option<Vec<u8>> {
    let found = store.load().await.expect("the records can be listed");
    found.into_iter().find(|stored| stored.key == cluster(name)).and_then(|stored| stored.value.ok())
}

fn cluster(name: &str) -> StateKey {
    StateKey::Cluster(name.parse::<ClusterName>().expect("a valid name"))
}

#[cfg(test)]
mod tests {
    use crate::testkit::memory_store::MemoryStore;

    #[tokio::test]
    async fn the_memory_store_passes() {
        let store = MemoryStore::new();
        super::state_store(|| store.clone()).await;
    }
}
