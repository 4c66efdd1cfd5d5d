//! How long a leader goes on without Mesos: it can do nothing then. It gives way only to a scheduler that has Mesos.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// The first time. Masters that change their leader are back sooner.
const AFTER: Duration = Duration::from_secs(30);
/// And the longest: it doubles each time that it was in vain, when those that stand by reach a master that takes nothing.
const AFTER_MAX: Duration = Duration::from_mins(16);
/// When others have led for so long since, they had what this one had not, and did not just use up their own patience.
const OTHERS_HAD_IT: Duration = Duration::from_hours(4);
/// A subscription that lasts for so long is a good one: with a master that takes no calls, or says nothing, it is lost
/// sooner (10 s, 23.5 s).
const GOOD_AFTER: Duration = Duration::from_secs(25);
/// So many times as long it goes on with subscriptions that do not last: masters that are restarted one by one pass.
const UNSTEADY: u32 = 4;
/// How often it is looked for somebody who stands by, once patience is used up.
const LOOK: Duration = Duration::from_secs(3);

/// Of one scheduler, over all its terms.
#[derive(Debug)]
pub(crate) struct Patience {
    after: Duration,
    /// When it was used up, unless there was success since.
    used_up: Option<Instant>,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { after: AFTER, used_up: None }
    }

    /// A term begins.
    pub(crate) fn begin_term(&mut self) {
        if self.used_up.is_some_and(|when| when.elapsed() > OTHERS_HAD_IT) {
            *self = Self::new();
        }
    }

    /// Waits until there has been no lasting subscription for too long and somebody stands by that has Mesos; says so. `subscribed` tells
    /// whether there is one.
    pub(crate) async fn used_up(
        &mut self,
        mut subscribed: watch::Receiver<bool>,
        stands_by: impl AsyncFn() -> bool,
    ) -> String {
        let mut unsteady = Instant::now();
        loop {
            let longest = unsteady + UNSTEADY * self.after;
            let mut due = longest.min(Instant::now() + self.after);
            while timeout_at(due, becomes(&mut subscribed, true)).await.is_err() {
                if stands_by().await && (!*subscribed.borrow() || longest <= Instant::now()) {
                    let seconds = unsteady.elapsed().as_secs();
                    *self = Self { after: (self.after * 2).min(AFTER_MAX), used_up: Some(Instant::now()) };
                    return format!(
                        "no lasting connection to Mesos for {seconds} s, and another scheduler that reaches it stands by"
                    );
                }
                due = Instant::now() + LOOK;
            }
            if timeout(GOOD_AFTER, becomes(&mut subscribed, false)).await.is_err() {
                *self = Self::new();
                becomes(&mut subscribed, false).await;
                unsteady = Instant::now();
            }
        }
    }
}

/// Waits for that value; for ever when there will be no other.
async fn becomes(watched: &mut watch::Receiver<bool>, value: bool) {
    if watched.wait_for(|now| *now == value).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// How long it lasts from now on, without a subscription and with somebody who stands by.
    async fn lasts(patience: &mut Patience, subscribed: &watch::Sender<bool>) -> u64 {
        let start = Instant::now();
        patience.used_up(subscribed.subscribe(), async || true).await;
        start.elapsed().as_secs()
    }

    /// Gets or loses a subscription, each after so many seconds.
    async fn change(subscribed: &watch::Sender<bool>, changes: &[(u64, bool)]) {
        for (after, is_subscribed) in changes {
            tokio::time::sleep(Duration::from_secs(*after)).await;
            subscribed.send_replace(*is_subscribed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn doubles_in_vain_and_starts_anew_after_success() {
        let (mut patience, subscribed) = (Patience::new(), watch::Sender::new(false));
        for expected in [30, 60, 120, 240, 480, 960, 960] {
            patience.begin_term();
            assert_eq!(lasts(&mut patience, &subscribed).await, expected);
        }
        // subscribed all the time, until it is lost
        subscribed.send_replace(true);
        let (took, ()) = tokio::join!(lasts(&mut patience, &subscribed), change(&subscribed, &[(1000, false)]));
        assert_eq!(took, 1030);
        assert_eq!(lasts(&mut patience, &subscribed).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_loss_is_borne_and_forgotten() {
        let (mut patience, subscribed) = (Patience::new(), watch::Sender::new(true));
        let changes = [(40, false), (25, true), (40, false)];
        let (took, ()) = tokio::join!(lasts(&mut patience, &subscribed), change(&subscribed, &changes));
        assert_eq!(took, 105 + 30);
    }

    /// Masters are restarted one by one.
    #[tokio::test(start_paused = true)]
    async fn several_short_losses_are_borne() {
        let (mut patience, subscribed) = (Patience::new(), watch::Sender::new(true));
        let changes = [false, true, false, true, false, true].map(|is_subscribed| (13, is_subscribed));
        let used_up = timeout(Duration::from_hours(1), patience.used_up(subscribed.subscribe(), async || true));
        let (used_up, ()) = tokio::join!(used_up, change(&subscribed, &changes));
        assert!(used_up.is_err());
    }

    /// A master can be subscribed to, and takes no calls.
    #[tokio::test(start_paused = true)]
    async fn what_never_lasts_is_no_connection() {
        let (mut patience, subscribed) = (Patience::new(), watch::Sender::new(false));
        let flap = async {
            loop {
                change(&subscribed, &[(1, true), (10, false)]).await;
            }
        };
        let took = tokio::select! { took = lasts(&mut patience, &subscribed) => took, never = flap => never };
        assert!((120..=131).contains(&took), "{took}");
    }

    /// Back in the last moment, while it is asked who stands by: it is not given up.
    #[tokio::test(start_paused = true)]
    async fn one_that_has_just_begun_is_given_its_time() {
        let (mut patience, subscribed) = (Patience::new(), watch::Sender::new(false));
        let asked = AtomicBool::new(false);
        let stands_by = async || {
            asked.store(true, Ordering::Relaxed);
            change(&subscribed, &[(1, true)]).await;
            true
        };
        let used_up = timeout(Duration::from_hours(1), patience.used_up(subscribed.subscribe(), stands_by)).await;
        assert!(used_up.is_err() && asked.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_follows_for_long_has_its_patience_back() {
        let (mut patience, subscribed) = (Patience::new(), watch::Sender::new(false));
        for _ in 0..3 {
            lasts(&mut patience, &subscribed).await;
        }
        tokio::time::sleep(2 * OTHERS_HAD_IT).await;
        patience.begin_term();
        assert_eq!(lasts(&mut patience, &subscribed).await, 30);
    }

    /// While masters answer and take nobody, leaders rotate less and less often.
    #[tokio::test(start_paused = true)]
    async fn many_in_turn_all_become_patient() {
        let subscribed = watch::Sender::new(false);
        let mut schedulers = [const { Patience::new() }; 7];
        for expected in [30, 60, 120, 240, 480, 960, 960, 960] {
            for patience in &mut schedulers {
                patience.begin_term();
                assert_eq!(lasts(patience, &subscribed).await, expected);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn alone_it_goes_on_until_somebody_comes() {
        let (mut patience, subscribed) = (Patience::new(), watch::Sender::new(false));
        let comes = AtomicBool::new(false);
        let start = Instant::now();
        let come = async {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            comes.store(true, Ordering::Relaxed);
        };
        let why = patience.used_up(subscribed.subscribe(), async || comes.load(Ordering::Relaxed));
        let (why, ()) = tokio::join!(why, come);
        let took = start.elapsed().as_secs();
        assert!((1000..=1003).contains(&took), "{took}");
        assert_eq!(
            why,
            format!("no lasting connection to Mesos for {took} s, and another scheduler that reaches it stands by")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_not_waited_for_with_a_busy_loop() {
        let (mut patience, subscribed) = (Patience::new(), watch::Sender::new(false));
        let receiver = subscribed.subscribe();
        drop(subscribed);
        let ended = timeout(Duration::from_hours(1), patience.used_up(receiver, async || false)).await;
        assert!(ended.is_err());
    }
}
