//! What every [`MySql`] must do.

use crate::gtid::GtidOrder;
use crate::ports::mysql::{Followed, Following, LinkState, MySql, Promoted, Promotion, ServerStatus};
use crate::{Endpoint, GtidSet, PortError};
use std::sync::Arc;

/// One server under test.
pub struct Subject {
    /// The adapter.
    pub server: Arc<dyn MySql>,
    /// Where it listens.
    pub endpoint: Endpoint,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subject({})", self.endpoint)
    }
}

/// How the suite acts on servers from outside.
#[expect(async_fn_in_trait, reason = "only ever used without boxing")]
pub trait Outside {
    /// A server without data, which can reach all others.
    async fn open(&self) -> Subject;

    /// An ordinary user commits one transaction at a primary that waits for nobody; false when refused.
    async fn write(&self, endpoint: &Endpoint) -> bool;

    /// Ends the server's process, as `SIGKILL` by somebody else does.
    async fn crash(&self, endpoint: &Endpoint);

    /// Lets a little time pass between two looks at a server.
    async fn pause(&self);

    /// Whether `copy_from` can be tried with these servers.
    fn can_copy(&self) -> bool;
}

/// Looks taken before something that takes time counts as failed.
const LOOKS_MAX: usize = 500;

/// Runs the suite.
///
/// # Panics
/// When a rule is broken; the message names it.
pub async fn mysql(outside: &impl Outside) {
    process(outside).await;
    replication(outside).await;
    handover(outside).await;
    errant(outside).await;
    if outside.can_copy() {
        copy(outside).await;
    }
}

async fn process(outside: &impl Outside) {
    let Subject { server, endpoint } = outside.open().await;
    server.start().await.expect_err("without data nothing starts");
    server.kill().await; // killing what does not run succeeds
    server.probe().await.expect_err("what does not run does not answer");
    server.provision().await.expect("a data directory is made");
    server.provision().await.expect("making it again changes nothing");
    server.start().await.expect("it starts");
    server.start().await.expect("starting a running server succeeds");
    let status = server.probe().await.expect("it answers");
    assert!(!status.writable && status.replication.is_none(), "it starts read-only and not replicating");
    assert!(status.position.is_empty(), "making the data directory leaves no transaction");
    assert!(!outside.write(&endpoint).await, "a read-only server refuses writes");
    promote(&*server, GtidSet::Empty).await;
    assert!(outside.write(&endpoint).await, "a promoted server takes writes");
    promote(&*server, GtidSet::Empty).await; // again
    let before = server.probe().await.expect("it answers");
    assert!(before.writable && !before.position.is_empty(), "a write moves the position");

    outside.crash(&endpoint).await;
    assert!(!server.exited().await.expected, "a crash is not expected");
    server.probe().await.expect_err("a crashed server does not answer");
    server.start().await.expect("it starts again");
    let after = server.probe().await.expect("it answers");
    assert!(!after.writable, "a restarted server is read-only");
    assert!(after.position.contains(&before.position), "a restarted server has its data");

    server.kill().await;
    server.probe().await.expect_err("killed is gone when the call returns");
    server.exited().await;
    server.start().await.expect("it starts after a kill");
    server.stop(30_000).await;
    server.probe().await.expect_err("stopped is gone when the call returns");
    assert!(server.exited().await.expected, "each start has one end, and this one was asked for");
}

async fn replication(outside: &impl Outside) {
    let primary = running(outside).await;
    let replica = running(outside).await;
    let late = running(outside).await;
    promote(&*primary.server, GtidSet::Empty).await;
    assert!(outside.write(&primary.endpoint).await);
    follow(&replica, &primary).await;
    follow(&replica, &primary).await; // again
    assert!(outside.write(&primary.endpoint).await);
    let written = primary.server.probe().await.expect("it answers").position;
    until(outside, &replica, "a replica gets what is written", |status| status.position.contains(&written)).await;
    until(outside, &primary, "a primary counts its replicas", |status| status.replicas == 1).await;
    assert!(!outside.write(&replica.endpoint).await, "a replica refuses writes");

    let frozen = replica.server.freeze().await.expect("a replica freezes");
    assert!(frozen.position.contains(&written), "the position of a freeze has all that was received");
    assert!(outside.write(&primary.endpoint).await);
    let again = replica.server.freeze().await.expect("freezing may be repeated");
    assert_eq!(again.position.order(&frozen.position), GtidOrder::Equal, "frozen is frozen");
    assert!(again.unapplied <= frozen.unapplied, "it goes on applying");
    let ahead = primary.server.probe().await.expect("it answers").position;
    let incomplete = Promotion { must_contain: ahead.clone(), acks: 0 };
    let promoted = replica.server.promote(&incomplete).await.expect("an answer");
    assert!(matches!(promoted, Promoted::Incomplete(_)), "what lacks data is not promoted");
    assert!(!replica.server.probe().await.expect("it answers").writable, "a refused promotion opens nothing");

    follow(&replica, &primary).await;
    until(outside, &replica, "a frozen replica catches up", |status| status.position.contains(&ahead)).await;
    primary.server.kill().await;
    promote(&*replica.server, ahead).await;
    assert!(outside.write(&replica.endpoint).await, "a promoted replica takes writes");
    assert!(replica.server.probe().await.expect("it answers").replication.is_none(), "and forgets its primary");
    follow(&late, &replica).await;
    let written = replica.server.probe().await.expect("it answers").position;
    until(outside, &late, "an empty server gets all history", |status| status.position.contains(&written)).await;
    primary.server.start().await.expect("the old primary starts");
    follow(&primary, &replica).await;
    until(outside, &primary, "the old primary catches up", |status| status.position.contains(&written)).await;
    stop(&[&primary, &replica, &late]).await;
}

async fn handover(outside: &impl Outside) {
    let (old, new) = (running(outside).await, running(outside).await);
    old.server.step_down(1_000).await.expect("a read-only server tells its position");
    promote(&*old.server, GtidSet::Empty).await;
    follow(&new, &old).await;
    assert!(outside.write(&old.endpoint).await);
    let written = old.server.probe().await.expect("it answers").position;
    let last = old.server.step_down(1_000).await.expect("a primary steps down").position;
    assert!(last.contains(&written), "the last position has all that was written");
    let status = old.server.probe().await.expect("it answers");
    assert!(!status.writable, "a server that has stepped down is read-only");
    assert!(!outside.write(&old.endpoint).await, "and refuses writes");
    let again = old.server.step_down(1_000).await.expect("stepping down may be repeated").position;
    assert_eq!(again.order(&last), GtidOrder::Equal, "nothing changes any more");

    promote(&*old.server, last.clone()).await;
    assert!(outside.write(&old.endpoint).await, "promoted again, it takes writes");
    let last = old.server.step_down(1_000).await.expect("a primary steps down").position;
    until(outside, &new, "a replica catches up", |status| status.position.contains(&last)).await;
    let frozen = old.server.freeze().await.expect("freezing needs no restart then");
    assert_eq!(frozen.position.order(&last), GtidOrder::Equal, "and changes nothing");
    new.server.freeze().await.expect("it freezes");
    promote(&*new.server, last).await;
    assert!(outside.write(&new.endpoint).await, "the successor takes writes");
    follow(&old, &new).await;
    let written = new.server.probe().await.expect("it answers").position;
    until(outside, &old, "the old primary follows", |status| status.position.contains(&written)).await;
    stop(&[&old, &new]).await;
}

async fn errant(outside: &impl Outside) {
    let (old, new) = (running(outside).await, running(outside).await);
    promote(&*old.server, GtidSet::Empty).await;
    follow(&new, &old).await;
    assert!(outside.write(&old.endpoint).await);
    let shared = old.server.probe().await.expect("it answers").position;
    until(outside, &new, "a replica gets what is written", |status| status.position.contains(&shared)).await;
    new.server.freeze().await.expect("it freezes");
    assert!(outside.write(&old.endpoint).await, "this one nobody else has");
    old.server.kill().await;
    promote(&*new.server, shared).await;
    assert!(outside.write(&new.endpoint).await);
    old.server.start().await.expect("the old primary starts");
    let following = Following { primary: new.endpoint.clone(), semi_sync: false };
    let followed = old.server.follow(&following).await.expect("an answer");
    assert!(matches!(followed, Followed::Errant(_)), "what the primary lacks is noticed, not {followed:?}");
    let status = old.server.probe().await.expect("it answers");
    let receives = status.replication.is_some_and(|replication| replication.link != LinkState::Stopped);
    assert!(!receives && !status.writable, "nothing was changed");
    if outside.can_copy() {
        let copied = old.server.copy_from(&new.endpoint).await;
        assert!(copied.is_err_and(|error| error.is_temporary()), "a copy never replaces what it lacks");
    }
    stop(&[&old, &new]).await;
}

async fn copy(outside: &impl Outside) {
    let (donor, copy) = (running(outside).await, running(outside).await);
    promote(&*donor.server, GtidSet::Empty).await;
    assert!(outside.write(&donor.endpoint).await);
    let written = donor.server.probe().await.expect("it answers").position;
    let copied = copy.server.copy_from(&donor.endpoint).await.expect("a copy is made");
    assert!(copied.kept, "the server that it replaces ran, and had nothing else");
    copy.server.exited().await; // of the start before
    let status = copy.server.probe().await.expect("a copy runs");
    assert!(status.position.contains(&written), "a copy has all that the donor had");
    assert!(!status.writable && status.replication.is_none(), "a copy is read-only and not replicating");
    follow(&copy, &donor).await;
    until(outside, &copy, "a copy can follow", connected).await;
    outside.crash(&copy.endpoint).await;
    assert!(!copy.server.exited().await.expected, "the start that ends a copy has an end of its own");
    stop(&[&donor, &copy]).await;
}

async fn running(outside: &impl Outside) -> Subject {
    let subject = outside.open().await;
    // real ones were seen to hang while they made it, and are killed then
    let mut made = subject.server.provision().await;
    if made.as_ref().is_err_and(PortError::is_temporary) {
        made = subject.server.provision().await;
    }
    made.expect("a data directory is made");
    subject.server.start().await.expect("it starts");
    subject
}

async fn promote(server: &dyn MySql, must_contain: GtidSet) {
    let promoted = server.promote(&Promotion { must_contain: must_contain.clone(), acks: 0 }).await;
    match promoted.expect("an answer") {
        Promoted::Writable(position) => assert!(position.contains(&must_contain), "it has what it must"),
        Promoted::Incomplete(detail) => panic!("what has all data is promoted, but: {detail}"),
        Promoted::Applying { unapplied } => panic!("what has applied all is promoted, but {unapplied} are left"),
    }
    assert!(server.probe().await.expect("it answers").writable, "promoted is writable when the call returns");
}

async fn follow(subject: &Subject, primary: &Subject) {
    let following = Following { primary: primary.endpoint.clone(), semi_sync: false };
    let followed = subject.server.follow(&following).await.expect("an answer");
    assert_eq!(followed, Followed::Attached, "what fits is attached");
}

fn connected(status: &ServerStatus) -> bool {
    status.replication.as_ref().is_some_and(|replication| replication.link == LinkState::Connected)
}

async fn until(outside: &impl Outside, subject: &Subject, rule: &str, holds: impl Fn(&ServerStatus) -> bool) {
    let mut last = None;
    for _ in 0..LOOKS_MAX {
        let status = subject.server.probe().await.expect("it answers");
        if holds(&status) {
            return;
        }
        last = Some(status);
        outside.pause().await;
    }
    panic!("{rule}, but: {last:?}");
}

async fn stop(subjects: &[&Subject]) {
    for subject in subjects {
        subject.server.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::fake_mysql::{Commit, FakeNetwork};
    use std::sync::atomic::{AtomicU16, Ordering};

    struct Fakes {
        network: FakeNetwork,
        port: AtomicU16,
    }

    impl Outside for Fakes {
        async fn open(&self) -> Subject {
            let endpoint = Endpoint::new("fake", self.port.fetch_add(1, Ordering::Relaxed));
            Subject { server: Arc::new(self.network.server(&endpoint)), endpoint }
        }

        async fn write(&self, endpoint: &Endpoint) -> bool {
            matches!(self.network.write(endpoint), Commit::Acknowledged(_))
        }

        async fn crash(&self, endpoint: &Endpoint) {
            self.network.server(endpoint).crash();
        }

        async fn pause(&self) {}

        fn can_copy(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn the_fake_server_passes() {
        mysql(&Fakes { network: FakeNetwork::new(), port: AtomicU16::new(1) }).await;
    }
}
