//! Records of every version that was ever released are read, those of later ones are refused and left alone.
//!
//! `version-N` holds records as that version wrote them; they are never written again. A new version adds a directory, with
//! `COTTON_WRITE_RECORDS=1`.

use super::*;
use crate::cluster::state::{Acker, Leaving, Member};
use crate::testkit::memory_store::MemoryStore;
use crate::{
    AgentId, ClusterSpec, Durability, Endpoint, Epoch, FrameworkId, MemberId, Preference, Resources, Sealed, Secrets,
};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn directory(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/driver/records/version-{version}"))
}

/// With something in every field.
fn fleet() -> FleetState {
    FleetState {
        framework: Some(FrameworkId::from("5b2a-0000")),
        runs: 7,
        first_member: MemberId(4),
        deleted: vec![("gone".parse().expect("valid"), MemberId(3))],
        let_go: BTreeSet::from([AgentId::from("S1")]),
        ..FleetState::default()
    }
}

/// With something in every field.
fn cluster() -> State {
    let member = |id: u64| Member {
        agent: AgentId::from(format!("S{id}").as_str()),
        run: u32::try_from(id).expect("small"),
        endpoint: Endpoint::new("10.0.0.7", 31_000),
        zone: Some("a".to_owned()),
        joined: true,
        received: None,
        late: false,
        rule: crate::election::PromotionRule::Neutral,
        attached: Epoch(5),
        volume: true,
        resting: id == 6,
        damaged: false,
        leaving: (id == 7).then_some(Leaving::Unreachable),
    };
    let spec = ClusterSpec {
        name: "orders".parse().expect("valid"),
        size: 3,
        user: "jane".to_owned(),
        secrets: Secrets { user: Sealed::new("dQ=="), admin: Sealed::new("YQ=="), replication: Sealed::new("cg==") },
        resources: Resources::DEFAULT,
        durability: Durability::SemiSync,
        preference: Preference::Consistency,
        backup_id: Some("b1".to_owned()),
    };
    let acker = |id| Acker { member: MemberId(id), incarnation: 2, boot: 3 };
    let mut state = State::new(spec, 11, MemberId(5));
    state.epoch = Epoch(5);
    (state.primary, state.last_primary, state.last_epoch) = (Some(MemberId(5)), Some(MemberId(5)), Epoch(5));
    (state.opened, state.leased, state.turn, state.switchover) = (true, true, 2, Some(MemberId(6)));
    state.witnesses = BTreeSet::from([MemberId(5)]);
    state.floor = serde_json::from_value(serde_json::json!({ "mariadb": "0-1-90" })).expect("a position");
    state.ackers = BTreeSet::from([acker(6)]);
    state.strays = [(MemberId(5), BTreeSet::from([acker(7)]))].into();
    state.members = (5..8).map(|id| (MemberId(id), member(id))).collect();
    (state.kept, state.next_member) = ([MemberId(1)].into(), MemberId(8));
    state.first_member = MemberId(0); // which the first records did not have
    state
}

async fn stored(fleet: &[u8], cluster: &[u8]) -> MemoryStore {
    let store = MemoryStore::new();
    store.save(&StateKey::Fleet, fleet).await.expect("saved");
    store.save(&key(), cluster).await.expect("saved");
    store
}

fn key() -> StateKey {
    StateKey::Cluster("orders".parse().expect("valid"))
}

#[tokio::test]
async fn records_of_every_released_version_are_read() {
    for version in 1..=STATE_VERSION.max(FLEET_STATE_VERSION) {
        let dir = directory(version);
        if std::env::var_os("COTTON_WRITE_RECORDS").is_some() && !dir.join("fleet.json").exists() {
            std::fs::create_dir_all(dir.join("clusters")).expect("made");
            std::fs::write(dir.join("fleet.json"), serde_json::to_vec(&fleet()).expect("text")).expect("written");
            std::fs::write(dir.join("clusters/orders.json"), serde_json::to_vec(&cluster()).expect("text"))
                .expect("written");
        }
        let read = |name: &str| std::fs::read(dir.join(name)).expect("each version has its records here");
        let store = stored(&read("fleet.json"), &read("clusters/orders.json")).await;
        let records = Records::read(&store).await.expect("can be read");
        assert_eq!((records.fleet(), records.clusters()), (Some(&fleet()), &[cluster()][..]), "version {version}");
        assert!(records.damaged.is_empty());
    }
}

#[tokio::test]
async fn a_record_of_a_later_version_is_refused_and_nothing_is_moved() {
    let later = |text: &[u8]| {
        let mut value: serde_json::Value = serde_json::from_slice(text).expect("is json");
        value["version"] = (STATE_VERSION + 1).into();
        value["spec"] = "of another form".into();
        serde_json::to_vec(&value).expect("text")
    };
    let (fleet, cluster) = (serde_json::to_vec(&fleet()).expect("text"), serde_json::to_vec(&cluster()).expect("text"));
    let cases =
        [(later(&fleet), cluster.clone(), "fleet state"), (fleet, later(&cluster), "state of cluster 'orders'")];
    for (fleet, cluster, which) in cases {
        let store = stored(&fleet, &cluster).await;
        let torn = StateKey::Cluster("torn".parse().expect("valid"));
        store.save(&torn, b"{ half").await.expect("saved");
        let error = Records::read(&store).await.expect_err("refused");
        let text = error.chain();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{text}");
        let versions = [format!("is of version {}", STATE_VERSION + 1), format!("versions up to {STATE_VERSION}")];
        assert!(text.contains(which) && versions.iter().all(|part| text.contains(part)), "{text}");
        let kept = [&StateKey::Fleet, &key(), &torn].map(|key| store.get(key));
        assert_eq!(kept, [Some(fleet), Some(cluster), Some(b"{ half".to_vec())]);
    }
}

#[tokio::test]
async fn all_later_records_are_counted() {
    let store = MemoryStore::new();
    for name in ["a", "b", "c"] {
        let key = StateKey::Cluster(name.parse().expect("valid"));
        store.save(&key, br#"{"version":9}"#).await.expect("saved");
    }
    let text = Records::read(&store).await.expect_err("refused").chain();
    assert!(text.contains("cluster 'a'") && text.contains("2 more records"), "{text}");
}
