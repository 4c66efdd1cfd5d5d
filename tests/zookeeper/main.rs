//! State, discovery, election and master detection on real ZooKeeper: one server and ensembles of three, which are killed,
//! cut off and brought back.
//!
//! One file a theme. Tests wait for events with deadlines, never for time to pass.

mod clients;
mod contracts;
mod faults;
mod leadership;
mod masters;
mod rivals;

use cotton_core::ports::discovery::Published;
use cotton_core::ports::state_store::StateKey;
use cotton_core::{Endpoint, Epoch, MemberId};
use cotton_mesos::zookeeper::{Election, ElectionConfig, Leadership, Standing, ZkUrl};
use cotton_tests::{Failure, within};
use std::time::Duration;
use tokio::sync::watch;
use zookeeper_client as zk;

type Outcome = Result<(), Failure>;

/// Far more than any step takes, so that a failure is one, and not a slow machine.
const STEP: Duration = Duration::from_secs(90);
/// Of sessions, in tests that wait for their end.
const SESSION: Duration = Duration::from_secs(3);

fn url(text: &str) -> Result<ZkUrl, Failure> {
    text.parse().map_err(|error| Failure::because(text, &error))
}

/// Somebody who stands for election.
fn candidate(url: &ZkUrl, name: &str) -> Election {
    Election::start(ElectionConfig {
        url: url.clone(),
        api: name.to_owned(),
        session_timeout: SESSION,
        has_master: None,
    })
}

/// Waits until that candidate leads.
async fn leads(election: &Election) -> Result<Leadership, Failure> {
    let standing = until(election, "leads", |standing| matches!(standing, Standing::Leading(_))).await?;
    if let Standing::Leading(term) = standing { Ok(term) } else { Err(Failure::new("does not lead")) }
}

/// Waits until that candidate follows another one.
async fn follows(election: &Election, name: &str) -> Result<(), Failure> {
    let is = |standing: &Standing| matches!(standing, Standing::Following { leader: Some(leader) } if leader == name);
    until(election, &format!("follows {name}"), is).await.map(drop)
}

async fn until(election: &Election, what: &str, is: impl Fn(&Standing) -> bool) -> Result<Standing, Failure> {
    let mut standing = election.standing();
    let found = within(STEP, what, standing.wait_for(is)).await.map(|found| found.map(|standing| standing.clone()));
    match found {
        Ok(Ok(standing)) => Ok(standing),
        Ok(Err(error)) => Err(Failure::because("the election ended", &error)),
        Err(error) => Err(Failure::new(format!("{error}; it {}", election.standing().borrow().clone()))),
    }
}

/// Waits until what is watched is so.
async fn comes<T: Clone + Send + Sync>(
    watched: &mut watch::Receiver<T>,
    what: &str,
    is: impl FnMut(&T) -> bool,
) -> Result<T, Failure> {
    let found = within(STEP, what, watched.wait_for(is)).await?;
    found.map(|value| value.clone()).map_err(|error| Failure::because(what, &error))
}

fn record(name: &str) -> Result<StateKey, Failure> {
    name.parse().map(StateKey::Cluster).map_err(|error| Failure::because(name, &error))
}

/// Members on ports from 31000, by number.
fn published(epoch: u64, primary: Option<u64>, members: &[u16]) -> Published {
    let endpoint = |id: u16| (MemberId(id.into()), Endpoint::new("host", 31_000 + id));
    let members = members.iter().map(|&id| endpoint(id)).collect();
    Published { epoch: Epoch(epoch), primary: primary.map(MemberId), members }
}

/// Waits until a znode's data is so, as an independent client sees it.
async fn data_is(client: &zk::Client, path: &str, is: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, Failure> {
    let wait = async {
        loop {
            let (stat, watcher) = client.check_and_watch_stat(path).await?;
            if stat.is_some() {
                let (data, _) = client.get_data(path).await?;
                if is(&data) {
                    return Ok(data);
                }
            }
            watcher.changed().await;
        }
    };
    let found: Result<Vec<u8>, zk::Error> = within(STEP, &format!("'{path}' is as expected"), wait).await?;
    found.map_err(|error| Failure::because(path, &error))
}
