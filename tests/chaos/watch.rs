//! Looks at all members at once, again and again: two are never open for writes.

use crate::faults::Fault;
use crate::scene::Scene;
use cotton_core::Endpoint;
use cotton_tests::Failure;
use std::time::Duration;

/// A pause between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// A server that does not answer so long is not open.
const ANSWER: Duration = Duration::from_secs(1);

/// Ends when two members are open for writes at the same time, and only then. Of a primary that was stopped together with
/// whoever could make it read-only, this cannot be said when it goes on: it is open, and nobody acknowledges its commits. That
/// these are not acknowledged is what clients find out that write to every member.
pub(crate) async fn two_are_open(scene: &Scene<'_>, faults: &[Fault]) -> Failure {
    if faults.iter().any(|fault| fault.stops()) {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        let Ok(Some(seen)) = scene.api.cluster(&scene.before.name).await else { continue };
        let endpoints: Vec<Endpoint> = seen.members.into_iter().map(|member| member.endpoint).collect();
        let asked = endpoints.iter().map(|endpoint| is_open(scene, endpoint));
        let asked = futures::future::join_all(asked).await;
        let open: Vec<_> =
            endpoints.iter().zip(asked).filter_map(|(endpoint, open)| open.then_some(endpoint)).collect();
        let [one, other, ..] = open.as_slice() else { continue };
        // one was open before and after the other was, so both were when the other was asked
        if is_open(scene, one).await && is_open(scene, other).await && is_open(scene, one).await {
            scene.note(&format!("{one} and {other} are both open"));
            return Failure::new(format!("{one} and {other} are open for writes at the same time"));
        }
    }
}

async fn is_open(scene: &Scene<'_>, endpoint: &Endpoint) -> bool {
    let asked = tokio::time::timeout(ANSWER, scene.ledger.client().is_writable(endpoint)).await;
    matches!(asked, Ok(Ok(true)))
}
