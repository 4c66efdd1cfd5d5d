//! Clients that write as fast as they can and remember what was acknowledged.

use crate::support::{Member, insert};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Writers that follow the primary they are told.
pub(crate) struct Load {
    primary: watch::Sender<Arc<Member>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    writers: JoinSet<()>,
}

#[derive(Default)]
pub(crate) struct Acknowledged {
    pub(crate) ids: BTreeSet<u64>,
    pub(crate) last: Option<Instant>,
    /// When the first was acknowledged by the server with that port.
    pub(crate) first_by: std::collections::BTreeMap<u16, Instant>,
}

impl Load {
    pub(crate) fn start(primary: Arc<Member>, writers: u64) -> Self {
        let (sender, receiver) = watch::channel(primary);
        let mut this =
            Self { primary: sender, stop: Arc::default(), acknowledged: Arc::default(), writers: JoinSet::new() };
        let next = Arc::new(AtomicU64::new(1));
        for _ in 0..writers {
            let (receiver, stop, acknowledged) =
                (receiver.clone(), Arc::clone(&this.stop), Arc::clone(&this.acknowledged));
            this.writers.spawn(write(receiver, stop, acknowledged, Arc::clone(&next)));
        }
        this
    }

    pub(crate) fn turn_to(&self, primary: Arc<Member>) {
        self.acknowledged.lock().expect("no writer panics").first_by.remove(&primary.endpoint.port);
        self.primary.send_replace(primary);
    }

    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().expect("no writer panics").ids.len()
    }

    pub(crate) fn first_by(&self, port: u16) -> Option<Instant> {
        self.acknowledged.lock().expect("no writer panics").first_by.get(&port).copied()
    }

    /// Waits for that many more acknowledgements.
    pub(crate) async fn progress(&self, more: usize) {
        let wanted = self.count() + more;
        crate::support::until("written", || async { self.count() >= wanted }).await;
    }

    /// Everything that was acknowledged.
    pub(crate) async fn finish(mut self) -> BTreeSet<u64> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("writer");
        }
        std::mem::take(&mut self.acknowledged.lock().expect("no writer panics").ids)
    }
}

async fn write(
    mut primary: watch::Receiver<Arc<Member>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    next: Arc<AtomicU64>,
) {
    let mut conn = None;
    let mut port = 0;
    while !stop.load(Ordering::SeqCst) {
        if primary.has_changed().expect("the load lives") {
            conn = None;
        }
        if conn.is_none() {
            let member = Arc::clone(&primary.borrow_and_update());
            port = member.endpoint.port;
            conn = member.try_client().await.ok();
            if conn.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        }
        let Some(open) = &mut conn else { continue };
        let id = next.fetch_add(1, Ordering::SeqCst);
        let written = tokio::select! {
            written = insert(open, id) => written,
            _ = primary.changed() => { conn = None; primary.mark_changed(); continue }
            () = stopped(&stop) => break,
        };
        if written.is_ok() {
            let mut acknowledged = acknowledged.lock().expect("no writer panics");
            acknowledged.ids.insert(id);
            acknowledged.last = Some(Instant::now());
            acknowledged.first_by.entry(port).or_insert_with(Instant::now);
        } else {
            conn = None;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A commit may wait for an acknowledgement for ever.
async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
