//! Records of several clusters under several keys, and agents of several origins.

use super::*;
use cotton_core::cluster::state::{Member, State};
use cotton_core::election::PromotionRule;
use cotton_core::fleet::state::FleetState;
use cotton_core::ports::state_store::{StateKey, StateStore};
use cotton_core::testkit::memory_store::MemoryStore;
use cotton_core::{
    AgentId, ClusterName, ClusterSpec, Durability, Endpoint, Epoch, MemberId, Preference, Resources, Secrets,
};
use secrecy::SecretString;

fn key(byte: u8) -> SealingKey {
    SealingKey::new([byte; 32])
}

fn state(name: &str, key: &SealingKey) -> State {
    let seal = |clear: &str| key.seal(&SecretString::from(clear)).expect("randomness");
    let spec = ClusterSpec {
        name: name.parse::<ClusterName>().expect("valid"),
        size: 1,
        user: "jane".to_owned(),
        secrets: Secrets { user: seal("u"), admin: seal("a"), replication: seal("r") },
        resources: Resources::DEFAULT,
        durability: Durability::Async,
        preference: Preference::Consistency,
        backup_id: None,
    };
    State::new(spec, 0, MemberId(0))
}

fn with_member(mut state: State) -> State {
    let member = Member {
        agent: AgentId::from("agent-1"),
        run: 0,
        endpoint: Endpoint::new("127.0.0.1", 30_000),
        zone: None,
        late: false,
        joined: true,
        received: None,
        attached: Epoch(1),
        volume: false,
        resting: false,
        rule: PromotionRule::Neutral,
        damaged: false,
        leaving: None,
    };
    state.members.insert(MemberId(0), member);
    state
}

async fn records(framework: Option<&str>, clusters: &[State]) -> Records {
    let store = MemoryStore::new();
    if framework.is_some() || !clusters.is_empty() {
        let fleet = FleetState { framework: framework.map(FrameworkId::from), ..FleetState::default() };
        store.save(&StateKey::Fleet, &serde_json::to_vec(&fleet).expect("text")).await.expect("saved");
    }
    for state in clusters {
        let bytes = serde_json::to_vec(state).expect("text");
        store.save(&StateKey::Cluster(state.name().clone()), &bytes).await.expect("saved");
    }
    Records::read(&store).await.expect("can be read")
}

#[tokio::test]
async fn a_key_must_open_every_record() {
    let file = Path::new("/k");
    let both = records(Some("f"), &[state("a", &key(1)), state("b", &key(1))]).await;
    key_opens(&key(1), file, &both).expect("sealed with it");
    let error = key_opens(&key(2), file, &both).expect_err("another").to_string();
    assert!(error.contains("'/k'") && error.contains("all 2 clusters ('a', 'b')"), "{error}");
    let mut last = state("b", &key(1));
    last.spec.secrets.replication = state("b", &key(2)).spec.secrets.replication;
    let mixed = records(Some("f"), &[state("a", &key(1)), last]).await;
    let error = key_opens(&key(1), file, &mixed).expect_err("one password is another's").to_string();
    assert!(error.contains("1 of 2 clusters ('b')"), "{error}");
    key_opens(&key(3), file, &records(Some("f"), &[]).await).expect("nothing was sealed");
}

#[tokio::test]
async fn agents_and_records_must_be_of_one_origin() {
    let (dir, state_dir) = (Path::new("/d"), Path::new("/d/state"));
    let remembered =
        |framework: Option<&str>, members| Remembered { framework: framework.map(FrameworkId::from), members };
    let placed = with_member(state("a", &key(1)));
    let belong = async |records: &Records, remembered: &Remembered| {
        agents_belong(dir, state_dir, records, remembered).map_err(|error| error.to_string())
    };
    let ours = records(Some("f"), std::slice::from_ref(&placed)).await;
    let (empty, unplaced) = (records(None, &[]).await, records(Some("f"), &[state("a", &key(1))]).await);
    for (records, remembered) in [
        (&empty, remembered(None, 0)),
        (&empty, remembered(Some("g"), 0)),
        (&ours, remembered(Some("f"), 1)),
        (&unplaced, remembered(None, 0)),
        (&unplaced, remembered(Some("g"), 0)),
    ] {
        belong(records, &remembered).await.expect("nothing is at stake, or all belongs together");
    }
    for (records, remembered, said) in [
        (&ours, remembered(Some("g"), 1), "framework 'g', the records those of framework 'f'"),
        (&unplaced, remembered(Some("g"), 1), "framework 'g', the records those of framework 'f'"),
        (&ours, remembered(None, 1), "framework '(unknown)'"),
        (&empty, remembered(Some("g"), 2), "the records those of no framework"),
        (&ours, remembered(None, 0), "nothing of their members in '/d/agents'"),
        (&ours, remembered(Some("f"), 0), "nothing of their members in '/d/agents'"),
    ] {
        let error = belong(records, &remembered).await.expect_err(said);
        assert!(error.contains(said) && error.contains("nothing was started or changed"), "{error}");
    }
}

#[tokio::test]
async fn an_executor_that_cannot_run_members_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
        ExecutorCommand {
            program: path,
            args: Vec::new(),
            environment: [("WHY".to_owned(), "no server".to_owned())].into(),
        }
    };
    executor_runs(&script("good", "[ \"$1\" = --check ]")).await.expect("it says so");
    let refused = async |command: &ExecutorCommand| executor_runs(command).await.expect_err("it says no").to_string();
    let error = refused(&script("bad", "echo beginning >&2; echo \"$WHY\" >&2; exit 1")).await;
    assert!(error.contains("/bad': no server; nothing was started"), "{error}");
    let error = refused(&script("silent", "exit 3")).await;
    assert!(error.contains("exit status: 3"), "{error}");
    std::fs::write(dir.path().join("text"), "no program").expect("written");
    let text = ExecutorCommand { program: dir.path().join("text"), ..script("good", "exit 0") };
    assert!(refused(&text).await.contains("cannot be started"));
}
