//! A scheduler reduced to what it does in ZooKeeper: it stands for election and, while it leads, writes and publishes without
//! a pause, also after it has been told that it does not lead any more, as far as it is let.
//!
//! `cotton-zookeeper-candidate <url> <name> <session timeout in ms>`; says on its output, a line each: `leads <fence>`,
//! `lost <why>`, `refused <why>`, `follows <leader>`.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use cotton_core::ports::discovery::{Discovery, Published};
use cotton_core::ports::state_store::{StateKey, StateStore};
use cotton_core::{ClusterName, Endpoint, Epoch, ErrorStatus, MemberId};
use cotton_mesos::zookeeper::{Election, ElectionConfig, Leadership, Standing, ZkUrl};
use cotton_tests::Failure;
use std::time::Duration;
use tokio::sync::watch::error::RecvError;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, session_ms] = words.as_slice() else {
        return Err(Failure::new("expecting a URL, a name and a session timeout in milliseconds"));
    };
    let url: ZkUrl = url.parse().map_err(|error| Failure::because(url, &error))?;
    let session_ms: u64 = session_ms.parse().map_err(|error| Failure::because(session_ms, &error))?;
    let session_timeout = Duration::from_millis(session_ms);
    let election = Election::start(ElectionConfig { url, api: name.clone(), session_timeout, has_master: None });
    let mut standing = election.standing();
    let ended = |error: RecvError| Failure::because("the election ended", &error);
    loop {
        let now = standing.borrow_and_update().clone();
        match now {
            Standing::Leading(term) => lead(&term, name).await?,
            Standing::Following { leader } => println!("follows {}", leader.unwrap_or_default()),
            Standing::Apart { .. } => {}
        }
        standing.changed().await.map_err(ended)?;
    }
}

/// Writes until it is refused for good.
async fn lead(term: &Leadership, name: &str) -> Result<(), Failure> {
    println!("leads {}", term.fence());
    let cluster: ClusterName = "shared".parse().map_err(|error| Failure::because("a name", &error))?;
    let key = StateKey::Cluster(cluster.clone());
    let (store, discovery) = (term.state_store(), term.discovery());
    // epochs as of a core that goes on from what it has loaded
    let loaded = store.load().await.unwrap_or_default();
    let text = loaded.into_iter().find(|stored| stored.key == key).and_then(|stored| stored.value.ok());
    let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
    let first = text.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) + 1;
    for number in first.. {
        let saved = store.save(&key, format!("{name} {number}").as_bytes()).await;
        let members = [(MemberId(number), Endpoint::new(name, 3306))].into();
        let published = Published { epoch: Epoch(number), primary: Some(MemberId(number)), members };
        let published = discovery.publish(&cluster, &published).await;
        if let Err(error) = saved.and(published)
            && error.status == ErrorStatus::Permanent
        {
            println!("refused {}", error.chain());
            break;
        }
    }
    println!("lost {}", term.lost().await);
    Ok(())
}
