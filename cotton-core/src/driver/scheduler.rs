//! The scheduler's loop: facts in, persist, then effects; the only place that waits, retries and reads a clock.
//!
//! Saving, publishing and calling Mesos run beside the loop, each in its own order: a slow store or a slow cluster
//! delays nobody else. A save that fails is repeated until it succeeds; what depends on it waits, nothing else does.

use super::handle::{Handle, Metrics, Request};
use super::log::EventLog;
use super::records::Records;
use crate::fleet::{self, Checkpoint, CommandError, Config, Effect, Fleet};
use crate::ports::discovery::{Discovery, Published};
use crate::ports::mesos::{Mesos, MesosCall};
use crate::ports::state_store::{StateKey, StateStore};
use crate::resources::MIB;
use crate::{ClusterName, Millis, PortError, Revision};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

/// Commands and questions that may wait for the loop; more make their senders wait.
const REQUESTS_MAX: usize = 1_024;
/// Calls to Mesos that may wait for their turn; more make the loop wait.
const CALLS_MAX: usize = 65_536;
/// First and longest pause before a failed save or publication is repeated.
const RETRY_MS: (u64, u64) = (100, 5_000);

/// The systems that a scheduler works with.
#[derive(Clone)]
pub struct Ports {
    /// Where tasks run.
    pub mesos: Arc<dyn Mesos>,
    /// Where state is kept.
    pub state: Arc<dyn StateStore>,
    /// Where clients look.
    pub discovery: Arc<dyn Discovery>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ports")
    }
}

/// Wall-clock time in milliseconds since 1970 (UTC), for the event log only.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A running scheduler.
#[derive(Debug)]
pub struct Scheduler {
    /// To command and watch it.
    pub handle: Handle,
    /// Ends when the scheduler does: with an error when a person must mend something first.
    pub ended: tokio::task::JoinHandle<Result<(), PortError>>,
}

/// Loads the state, connects to Mesos and runs until stopped.
///
/// A damaged record is kept aside and its cluster left alone; the others go on.
///
/// # Errors
/// As [`Records::read`] and [`start_with`].
pub async fn start(config: Config, ports: Ports, wall_clock: WallClock) -> Result<Scheduler, PortError> {
    let records = Records::read(&*ports.state).await?;
    start_with(config, records, ports, wall_clock).await
}

/// As [`start`], with records that were read from the same store, and found to be fine.
///
/// # Errors
/// When the number of this run cannot be saved, or Mesos refuses us.
pub async fn start_with(
    config: Config,
    records: Records,
    ports: Ports,
    wall_clock: WallClock,
) -> Result<Scheduler, PortError> {
    let started = Instant::now();
    records.set_damaged_aside(&*ports.state).await;
    let Records { fleet, clusters, damaged } = records;
    let framework = fleet.as_ref().and_then(|f| f.framework.clone());
    let (count, damaged) = (clusters.len(), damaged.into_keys().collect());
    let fleet = Fleet::recover(config, fleet, clusters, damaged, Millis(0));
    let took = started.elapsed();
    info!(clusters = count, ?took, "state loaded");
    let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
    let log = EventLog::new(wall_clock);
    let handle = Handle::new(requests, log.sender());
    let (calls, outbox) = mpsc::channel(CALLS_MAX);
    let mesos_calls = tokio::spawn(make_calls(Arc::clone(&ports.mesos), outbox));
    let mut running = Running {
        fleet,
        ports,
        started,
        log,
        calls,
        waiting: BTreeMap::new(),
        publications: BTreeMap::new(),
        jobs: FuturesUnordered::new(),
        failures: BTreeMap::new(),
    };
    running.persist_first_run().await?;
    running.ports.mesos.subscribe(framework).await?;
    let ended = tokio::spawn(async move {
        let result = running.run(inbox).await;
        drop(running.calls);
        let _ = mesos_calls.await; // what was handed over still goes out
        result
    });
    Ok(Scheduler { handle, ended })
}

/// Makes the calls in their order. A call that fails is not repeated here: the machines repeat what still matters.
async fn make_calls(mesos: Arc<dyn Mesos>, mut outbox: mpsc::Receiver<MesosCall>) {
    while let Some(call) = outbox.recv().await {
        let name = call.name();
        if let Err(error) = mesos.call(call).await {
            warn!(error = %error.chain(), "call '{name}' was not taken");
        }
    }
}

/// What a job that ran beside the loop came back with.
enum Done {
    Saved(StateKey, Revision),
    NotSaved(StateKey, PortError),
    Published(ClusterName, u64, Result<(), PortError>),
    /// A pause is over: try to save this again.
    SaveAgain(StateKey),
    PublishAgain(ClusterName),
}

/// What clients shall see of a cluster.
#[derive(Clone)]
struct Publication {
    number: u64,
    wanted: Option<Published>,
    busy: bool,
}

type Answer = oneshot::Sender<Result<(), CommandError>>;

struct Running {
    fleet: Fleet,
    ports: Ports,
    started: Instant,
    log: EventLog,
    calls: mpsc::Sender<MesosCall>,
    /// Commands that are answered once this revision of that cluster is durable.
    waiting: BTreeMap<ClusterName, VecDeque<(Revision, Answer)>>,
    publications: BTreeMap<ClusterName, Publication>,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Failures in a row, by what failed.
    failures: BTreeMap<String, u32>,
}

impl Running {
    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The number of this run must be durable before anything is said under it.
    async fn persist_first_run(&mut self) -> Result<(), PortError> {
        let checkpoint = self.fleet.poll_checkpoint();
        if let Some(checkpoint) = checkpoint {
            let bytes = checkpoint.bytes().unwrap_or_default();
            self.ports.state.save(&checkpoint.key(), &bytes).await?;
            self.fleet.handle_persisted(self.now(), &checkpoint.key(), checkpoint.revision);
        }
        Ok(())
    }

    async fn run(&mut self, mut inbox: mpsc::Receiver<Request>) -> Result<(), PortError> {
        let mesos = Arc::clone(&self.ports.mesos);
        let mut next_event = mesos.next_event();
        let result = loop {
            self.flush().await;
            let wake = self.fleet.poll_timeout().map(|at| self.started + Duration::from_millis(at.0));
            tokio::select! {
                event = &mut next_event => {
                    let event = match event {
                        Ok(event) => event,
                        Err(error) => break Err(error),
                    };
                    next_event = mesos.next_event();
                    let now = self.now();
                    self.fleet.handle(now, fleet::Input::Mesos(event));
                }
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.on_done(done),
                request = inbox.recv() => match request {
                    Some(Request::Stop) | None => break Ok(()),
                    Some(request) => self.on_request(request),
                },
                () = sleep_until(wake.unwrap_or(self.started)), if wake.is_some() => {
                    let now = self.now();
                    self.fleet.handle_timeout(now);
                }
            }
        };
        self.finish_saving().await; // requests that still come in are refused when the inbox is dropped, after this
        result
    }

    /// Persists what changed, then runs what follows, until nothing is left that does not wait for something.
    async fn flush(&mut self) {
        while let Some(checkpoint) = self.fleet.poll_checkpoint() {
            self.save(checkpoint);
        }
        while let Some(effect) = self.fleet.poll_effect() {
            match effect {
                Effect::Mesos(call) => {
                    let _ = self.calls.send(call).await; // the receiver ends after us
                }
                Effect::Publish(name, published) => self.publish(&name, Some(published)),
                Effect::Withdraw(name) => self.publish(&name, None),
                Effect::Log(name, event) => self.log.append(name, event),
            }
        }
    }

    fn save(&mut self, checkpoint: Checkpoint) {
        let store = Arc::clone(&self.ports.state);
        let (key, revision, bytes) = (checkpoint.key(), checkpoint.revision, checkpoint.bytes());
        drop(checkpoint);
        let job = async move {
            let saved = match bytes {
                Some(bytes) => store.save(&key, &bytes).await,
                None => store.remove(&key).await,
            };
            match saved {
                Ok(()) => Done::Saved(key, revision),
                Err(error) => Done::NotSaved(key, error),
            }
        };
        self.jobs.push(job.boxed());
    }

    fn publish(&mut self, name: &ClusterName, wanted: Option<Published>) {
        let fresh = Publication { number: 0, wanted: None, busy: false };
        let publication = self.publications.entry(name.clone()).or_insert(fresh);
        if publication.busy && publication.number > 0 && publication.wanted == wanted {
            return; // asked for again because it takes long: it is under way, or next
        }
        publication.number += 1;
        publication.wanted = wanted;
        self.start_publication(name);
    }

    /// Publishes the latest, unless a publication of this cluster is under way: that one is followed by the latest.
    fn start_publication(&mut self, name: &ClusterName) {
        let Some(publication) = self.publications.get_mut(name).filter(|p| !p.busy) else { return };
        publication.busy = true;
        let Publication { number, wanted, .. } = publication.clone();
        let (discovery, name) = (Arc::clone(&self.ports.discovery), name.clone());
        let job = async move {
            let result = match &wanted {
                Some(published) => discovery.publish(&name, published).await,
                None => discovery.withdraw(&name).await,
            };
            Done::Published(name, number, result)
        };
        self.jobs.push(job.boxed());
    }

    fn on_done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Saved(key, revision) => {
                self.failures.remove(&key.to_string());
                self.fleet.handle_persisted(now, &key, revision);
                self.answer(&key);
            }
            Done::NotSaved(key, error) => {
                error!(error = %error.chain(), "{key} is not saved; trying again");
                self.fleet.note_not_persisted(now, &key, error.chain());
                self.refuse(&key, &error);
                let pause = self.pause(key.to_string());
                self.jobs.push(pause.map(move |()| Done::SaveAgain(key)).boxed());
            }
            Done::SaveAgain(key) => self.fleet.handle_not_persisted(&key),
            Done::Published(name, number, result) => self.on_published(name, number, result),
            Done::PublishAgain(name) => self.start_publication(&name),
        }
    }

    fn on_published(&mut self, name: ClusterName, number: u64, result: Result<(), PortError>) {
        let Some(publication) = self.publications.get_mut(&name) else { return };
        publication.busy = false;
        let (latest, withdrawn) = (publication.number == number, publication.wanted.is_none());
        match result {
            Ok(()) => {
                self.failures.remove(name.as_str());
                if !latest {
                    self.start_publication(&name);
                } else if withdrawn {
                    self.publications.remove(&name);
                    let now = self.now();
                    self.fleet.handle(now, fleet::Input::Withdrawn(name));
                }
            }
            Err(error) => {
                warn!(error = %error.chain(), "cluster '{name}' is not published; trying again");
                let pause = self.pause(name.to_string());
                self.jobs.push(pause.map(move |()| Done::PublishAgain(name)).boxed());
            }
        }
    }

    /// A pause that doubles with every failure in a row.
    fn pause(&mut self, what: String) -> impl Future<Output = ()> + Send + 'static {
        let failures = self.failures.entry(what).or_insert(0);
        let pause = (RETRY_MS.0 << (*failures).min(16)).min(RETRY_MS.1);
        *failures += 1;
        tokio::time::sleep(Duration::from_millis(pause))
    }

    /// Answers the commands on a cluster whose changes are durable now.
    fn answer(&mut self, key: &StateKey) {
        let StateKey::Cluster(name) = key else { return };
        let persisted = self.fleet.cluster(name).map(crate::cluster::Cluster::persisted);
        let Some(waiting) = self.waiting.get_mut(name) else { return };
        while let Some((_, answer)) = waiting.pop_front_if(|(revision, _)| persisted.is_none_or(|p| *revision <= p)) {
            let _ = answer.send(Ok(())); // nobody waits any more: as good
        }
        if waiting.is_empty() {
            self.waiting.remove(name);
        }
    }

    fn refuse(&mut self, key: &StateKey, error: &PortError) {
        let StateKey::Cluster(name) = key else { return };
        for (_, answer) in self.waiting.remove(name).into_iter().flatten() {
            let _ = answer.send(Err(CommandError::NotSaved(error.chain())));
        }
    }

    fn on_request(&mut self, request: Request) {
        let now = self.now();
        match request {
            Request::Create(spec, answer) => {
                let name = spec.name.clone();
                let result = self.fleet.create(now, *spec);
                self.answer_when_durable(name, result, answer);
            }
            Request::Scale(name, size, answer) => {
                let result = self.fleet.scale(now, &name, size);
                self.answer_when_durable(name, result, answer);
            }
            Request::Switchover(name, to, answer) => {
                let result = self.fleet.switchover(now, &name, to);
                self.answer_when_durable(name, result, answer);
            }
            Request::Pull(name, lever, answer) => {
                let result = self.fleet.pull(now, &name, lever);
                self.answer_when_durable(name, result, answer);
            }
            Request::ChangeAccount(name, user, change, answer) => {
                let result = self.fleet.change_account(now, &name, &user, change);
                self.answer_when_durable(name, result, answer);
            }
            Request::Accounts(name, answer) => drop(answer.send(self.fleet.accounts(&name))),
            Request::Delete(name, answer) => {
                let result = self.fleet.delete(now, &name);
                self.answer_when_durable(name, result, answer);
            }
            Request::Adopt(name, answer) => {
                let result = self.fleet.adopt(now, &name);
                self.answer_when_durable(name, result, answer);
            }
            Request::Discard(name, answer) => {
                let result = self.fleet.discard(now, &name);
                self.answer_when_durable(name, result, answer);
            }
            Request::Unknown(answer) => drop(answer.send(self.fleet.unknown().collect())),
            Request::Left(members, answer) => {
                let left = members.iter().map(|(name, member)| self.fleet.left(now, name, *member));
                drop(answer.send(left.collect()));
            }
            Request::LeftoverVolumes(answer) => drop(answer.send(self.fleet.leftover_volumes())),
            Request::ReleaseLeftovers(answer) => {
                self.fleet.release_leftovers(now);
                let _ = answer.send(());
            }
            Request::View(name, answer) => drop(answer.send(self.fleet.view(now, &name))),
            Request::Explain(name, answer) => {
                drop(answer.send(self.fleet.explain(now, &name).map(Box::new)));
            }
            Request::List(answer) => {
                let names: Vec<ClusterName> = self.fleet.clusters().map(|c| c.name().clone()).collect();
                drop(answer.send(names.iter().filter_map(|name| self.fleet.view(now, name)).collect()));
            }
            Request::Damaged(answer) => drop(answer.send(self.fleet.damaged().clone())),
            Request::Framework(answer) => drop(answer.send(self.fleet.framework().cloned())),
            Request::Spec(name, answer) => {
                let known = self.fleet.cluster(&name).map(|c| c.state().spec.clone());
                drop(answer.send(known.or_else(|| self.fleet.unknown_spec(&name))));
            }
            Request::Events(answer) => drop(answer.send(self.log.latest())),
            Request::Metrics(answer) => drop(answer.send(self.metrics())),
            Request::Stop => {}
        }
    }

    fn answer_when_durable(&mut self, name: ClusterName, result: Result<(), CommandError>, answer: Answer) {
        let cluster = self.fleet.cluster(&name);
        let due = cluster.filter(|c| c.persisted() < c.revision()).map(crate::cluster::Cluster::revision);
        match (result, due) {
            (Ok(()), Some(revision)) => self.waiting.entry(name).or_default().push_back((revision, answer)),
            (result, _) => drop(answer.send(result)),
        }
    }

    fn metrics(&self) -> Metrics {
        let counters = self.fleet.counters();
        let requested = self.fleet.requested();
        BTreeMap::from([
            ("cluster_count", self.fleet.clusters().count() as u64),
            ("clusters_damaged", self.fleet.damaged().len() as u64),
            ("tasks_unknown", self.fleet.unknown().count() as u64),
            ("elections", counters.elections),
            ("failovers", counters.failovers),
            ("switchovers", counters.switchovers),
            ("switchovers_failed", counters.switchovers_failed),
            ("framework_registered", u64::from(self.fleet.is_connected())),
            ("messages_malformed", counters.messages_malformed),
            ("offers_incompatible_role", 0),
            ("offers_unused", counters.offers_unused),
            ("resource_offers", counters.resource_offers),
            ("tasks_failed", counters.tasks_failed),
            ("tasks_finished", counters.tasks_finished),
            ("tasks_killed", counters.tasks_killed),
            ("tasks_launched", counters.tasks_launched),
            ("tasks_lost", counters.tasks_lost),
            ("total_requested_cpus_milli", requested.cpus_milli),
            ("total_requested_disk_mb", requested.disk_bytes / MIB),
            ("total_requested_mem_mb", requested.mem_bytes / MIB),
            ("uptime", self.started.elapsed().as_secs()),
        ])
    }

    /// Ends what is being saved and saves what is left, for a bounded time.
    async fn finish_saving(&mut self) {
        let finish = async {
            loop {
                self.flush().await;
                match self.jobs.next().await {
                    Some(done) => self.on_done(done),
                    None => break,
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), finish).await; // recovery repeats what is missing
    }
}
