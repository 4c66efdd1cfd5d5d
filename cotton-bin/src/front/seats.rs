//! Who is connected, what they do, and who has to leave when somebody comes and all seats are taken: first whoever waits
//! for no answer, the one that does so longest; then whoever has read events longest, if such are more than half of
//! all; then whoever has been answered for too long. If there is nobody of these, whoever comes is told to come again.

use super::Limits;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// How long whoever has to leave may take; only a runtime that is stuck takes so long.
const LEAVING: Duration = Duration::from_secs(1);

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It sends the head of a request, or should.
    Asking,
    /// Its request is being answered.
    Answering,
    /// It reads events.
    Streaming,
    /// It was answered, and has not asked again.
    Idle,
    /// It has to leave.
    Leaving,
}

type State = (Activity, Instant);

/// All seats.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    limits: Limits,
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, watch::Sender<State>>,
}

/// One of them, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    limits: Limits,
    state: watch::Sender<State>,
    taken: Arc<Mutex<Taken>>,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, free: Arc::new(Semaphore::new(limits.connections)), taken: Arc::default() }
    }

    /// A seat for who has just come, if need be that of somebody else.
    pub(super) async fn take(&self) -> Option<Seat> {
        let free = || Arc::clone(&self.free);
        let permit = match free().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) if self.make_room() => tokio::time::timeout(LEAVING, free().acquire_owned()).await.ok()?.ok()?,
            Err(_) => return None,
        };
        let state = watch::Sender::new((Activity::Asking, Instant::now()));
        let mut taken = lock(&self.taken);
        let number = taken.next;
        taken.next += 1;
        taken.seats.insert(number, state.clone());
        Some(Seat { number, limits: self.limits, state, taken: Arc::clone(&self.taken), _permit: permit })
    }

    /// Sends somebody away; `false` when there is nobody of whom that can be asked.
    pub(super) fn make_room(&self) -> bool {
        let taken = lock(&self.taken);
        let now = Instant::now();
        let oldest = |wanted: &[Activity]| {
            let of = taken.seats.values().map(|seat| (*seat.borrow(), seat));
            let of = of.filter(|((activity, _), _)| wanted.contains(activity));
            let mut of: Vec<_> = of.map(|((_, since), seat)| (since, seat)).collect();
            of.sort_by_key(|(since, _)| *since);
            of
        };
        let idle = oldest(&[Activity::Asking, Activity::Idle]);
        let streams = oldest(&[Activity::Streaming]);
        let answering = oldest(&[Activity::Answering]);
        let many_streams = streams.len() > self.limits.connections / 2;
        let slow = |since: Instant| now.duration_since(since) > self.limits.answer;
        let first = idle.first().or_else(|| streams.first().filter(|_| many_streams));
        let first = first.or_else(|| answering.first().filter(|(since, _)| slow(*since)));
        first.is_some_and(|(_, seat)| {
            seat.send_replace((Activity::Leaving, now));
            true
        })
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.taken).seats.len()
    }
}

impl Seat {
    /// What its client does from now on.
    pub(super) fn now(&self, activity: Activity) {
        self.state.send_if_modified(|state| {
            let stays = state.0 == Activity::Leaving;
            if !stays {
                *state = (activity, Instant::now());
            }
            !stays
        });
    }

    /// Something came from the client.
    pub(super) fn heard(&self) {
        if self.state.borrow().0 == Activity::Idle {
            self.now(Activity::Asking);
        }
    }

    /// Waits until the client has to leave: for another, or because it takes too long.
    pub(super) async fn overdue(&self) {
        let mut state = self.state.subscribe();
        loop {
            let (activity, since) = *state.borrow_and_update();
            let limit = match activity {
                Activity::Leaving => return,
                Activity::Asking => Some(self.limits.head),
                Activity::Idle => Some(self.limits.idle),
                Activity::Answering | Activity::Streaming => None, // its body and its reading have limits of their own
            };
            let changed = state.changed();
            match limit {
                None => drop(changed.await), // we hold the sender
                Some(limit) => tokio::select! {
                    () = tokio::time::sleep_until(since + limit) => return,
                    _ = changed => {}
                },
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.taken).seats.remove(&self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize) -> Limits {
        let seconds = Duration::from_secs;
        Limits { connections, head: seconds(10), idle: seconds(60), stall: seconds(30), answer: seconds(60) }
    }

    async fn leaves(seat: Seat) {
        tokio::time::timeout(Duration::ZERO, seat.overdue()).await.expect("it has to leave");
    }

    async fn stays(seat: &Seat) {
        tokio::time::timeout(Duration::ZERO, seat.overdue()).await.expect_err("it may stay");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_too_long_leaves() {
        let seats = Seats::new(limits(4));
        let (asking, idle, answering) = (seats.take().await, seats.take().await, seats.take().await);
        let [asking, idle, answering] = [asking, idle, answering].map(|seat| seat.expect("there is room"));
        idle.now(Activity::Answering);
        idle.now(Activity::Idle);
        answering.now(Activity::Answering);
        tokio::time::advance(Duration::from_secs(9)).await;
        stays(&asking).await;
        tokio::time::advance(Duration::from_secs(2)).await;
        leaves(asking).await;
        stays(&idle).await;
        idle.heard(); // and then nothing more
        tokio::time::advance(Duration::from_secs(11)).await;
        leaves(idle).await;
        tokio::time::advance(Duration::from_hours(1)).await;
        stays(&answering).await;
        drop(answering);
        assert_eq!(seats.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_nothing_makes_room() {
        let seats = Seats::new(limits(3));
        let mut first = seats.take().await.expect("there is room");
        for round in 0..5 {
            tokio::time::advance(Duration::from_millis(1)).await;
            let next = seats.take().await;
            if round < 2 {
                // kept, busy
                next.as_ref().expect("there is room").now(Activity::Answering);
                std::mem::forget(next);
                continue;
            }
            assert!(next.is_none(), "nobody has left yet");
            leaves(first).await;
            first = seats.take().await.expect("somebody has left");
        }
        first.now(Activity::Answering);
        assert!(!seats.make_room(), "all are being answered");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(seats.make_room(), "and too long");
    }

    #[tokio::test(start_paused = true)]
    async fn streams_take_half_of_the_seats_when_others_come() {
        let seats = Seats::new(limits(4));
        let mut all = Vec::new();
        for activity in [Activity::Streaming, Activity::Streaming, Activity::Answering, Activity::Answering] {
            let seat = seats.take().await.expect("there is room");
            seat.now(activity);
            all.push(seat);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(!seats.make_room(), "half of the seats are theirs");
        all[3].now(Activity::Streaming);
        assert!(seats.make_room());
        leaves(all.remove(0)).await;
        stays(&all[0]).await;
    }
}
