//! Which of several schedulers leads. Each stands for election with an ephemeral, sequential znode below `<zk>/leader`; the
//! lowest number leads, and each of the others watches the one before it, so that the end of one wakes only the next. (All
//! watch the leader's too, for its address: it changes once a term.)
//!
//! A leader that hears nothing from `ZooKeeper` steps down before the servers can have given its place to another, by its
//! own clock; when that clock fails it, as in a process that was stopped, its writes fail all the same: see
//! [`Leadership`](super::Leadership).

use super::error::ZkError;
use super::leadership::Leadership;
use super::session::{Readers, Session, none_if_missing};
use super::{ZkUrl, discovery, state};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};
use zookeeper_client as zk;

const LEADER: &str = "leader";
/// Pause before another session is tried, doubled up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How to stand for election.
#[derive(Clone, Debug)]
pub struct ElectionConfig {
    /// `<zk>`: all schedulers of one framework have the same.
    pub url: ZkUrl,
    /// Address of this scheduler's API, as standbys shall tell it to their callers, such as `http://host:port`. No other
    /// scheduler has the same: a candidate with this address that is there at the start is what an earlier run left, and is
    /// removed, since its session would go on for its timeout. (Were it alive, it would lead no more, and stand again.)
    pub api: String,
    /// After this long without contact another scheduler takes over. The servers may grant another one (by default they
    /// have a tick of 2 s, and grant 2 to 20 ticks).
    pub session_timeout: Duration,
    /// Whether this scheduler reaches the leading Mesos master, as far as known. It is told in the candidate's data: one that
    /// does not lets those pass that do. `None` when nobody looks.
    pub has_master: Option<watch::Receiver<bool>>,
}

/// Where this scheduler stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Without a session: it does not lead, and does not know who does. Also what follows the loss of leadership.
    Apart {
        /// What is missing, in words.
        why: String,
    },
    /// Another one leads, or is about to.
    Following {
        /// Address of its API; `None` for the moment that an election takes.
        leader: Option<String>,
    },
    /// This one leads, until [`Leadership::lost`].
    Leading(Leadership),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apart { why } => write!(f, "neither leads nor knows who does: {why}"),
            Self::Following { leader: Some(leader) } => write!(f, "follows {leader}"),
            Self::Following { leader: None } => f.write_str("waits for a leader"),
            Self::Leading(_) => f.write_str("leads"),
        }
    }
}

/// The data of a candidate's znode.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Candidate {
    api: String,
    /// Whether it reaches the leading Mesos master; schedulers of earlier releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) master: Option<bool>,
}

/// Stands for election, again and again, until it is dropped or [resigned](Self::resign). Either ends the term that it leads;
/// the next one leads at once after the latter, and otherwise when the last copy of the [`Leadership`] is dropped or the
/// session's timeout has passed.
#[derive(Debug)]
pub struct Election {
    standing: watch::Receiver<Standing>,
    resign: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Election {
    /// Begins, in the background of the current runtime.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(config: ElectionConfig) -> Self {
        let first = Standing::Apart { why: format!("connecting to ZooKeeper at {}", config.url) };
        let (standings, standing) = watch::channel(first);
        let (resign, resigned) = oneshot::channel();
        let task = tokio::spawn(async move {
            let campaign = Campaign { config, standings };
            campaign.run(resigned).await;
        });
        Self { standing, resign: Some(resign), task }
    }

    /// Where this scheduler stands, and every change of it. A change may hide an earlier one: whoever leads waits for
    /// [`Leadership::lost`] of its own term.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Gives way to the next one at once, instead of after the session's timeout.
    pub async fn resign(mut self) {
        if let Some(resign) = self.resign.take() {
            let _ended = resign.send(());
        }
        let _ended = (&mut self.task).await;
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.task.abort(); // ends the term with it, see `Leadership::session`
    }
}

struct Campaign {
    config: ElectionConfig,
    standings: watch::Sender<Standing>,
}

/// The end of a session's campaign.
enum End {
    Failed(ZkError),
    /// Stopped leading, for this reason.
    Lost(String),
    /// Lets others pass.
    Passed,
    Resigned,
}

impl From<ZkError> for End {
    fn from(error: ZkError) -> Self {
        Self::Failed(error)
    }
}

impl Campaign {
    async fn run(&self, mut resigned: oneshot::Receiver<()>) {
        let (mut pause, mut known, mut is_first) = (PAUSE_MIN, String::new(), true);
        loop {
            let why = match self.stand(&mut resigned, &mut pause, &mut is_first).await {
                End::Resigned => return self.tell(Standing::Apart { why: "it resigned".to_owned() }),
                End::Lost(why) => why,
                End::Passed => "it lets a scheduler pass that reaches the Mesos master".to_owned(),
                End::Failed(error) => {
                    let why = error.chain();
                    if why != known {
                        warn!("cannot stand for election: {why}; trying again");
                        known.clone_from(&why);
                    }
                    why
                }
            };
            self.tell(Standing::Apart { why });
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                _ = &mut resigned => return,
            }
        }
    }

    /// One session: from its beginning to its end.
    async fn stand(&self, resigned: &mut oneshot::Receiver<()>, pause: &mut Duration, is_first: &mut bool) -> End {
        let opened = tokio::select! {
            opened = Session::open(&self.config.url, self.config.session_timeout) => opened,
            _ = &mut *resigned => return End::Resigned,
        };
        let session = match opened {
            Ok(session) => session,
            Err(error) => return End::Failed(error),
        };
        let (own, mut told) = match self.enter(&session, *is_first).await {
            Ok(entered) => entered,
            Err(error) => return End::Failed(error),
        };
        (*pause, *is_first) = (PAUSE_MIN, false);
        let end = loop {
            match self.look(&session, &own, &mut told, resigned).await {
                Ok(Some(end)) => break end,
                Ok(None) => {}
                Err(error) => break End::Failed(error),
            }
        };
        // The session may be with us for as long as somebody holds the lost term; it must not stay a candidate.
        leave(&session, &own).await;
        end
    }

    /// Makes our znode, exactly once, and returns its path, and what it tells of us.
    async fn enter(&self, session: &Session, is_first: bool) -> Result<(String, Candidate), ZkError> {
        let url = &self.config.url;
        let dir = url.below(LEADER);
        session.make(&dir, Readers::Schedulers).await?;
        for (below, readers) in state::DIRECTORIES.into_iter().chain(discovery::DIRECTORIES) {
            session.make(&url.below(below), readers).await?;
        }
        if is_first {
            self.clear_earlier_run(session, &dir).await?;
        }
        let uuid = crate::new_uuid().map_err(ZkError::Random)?;
        let id = uuid.iter().fold(0u128, |id, byte| (id << 8) | u128::from(*byte));
        let prefix = format!("scheduler-{id:032x}-");
        let candidate = self.candidate();
        let data = candidate.encode();
        let acl = session.acl(Readers::Schedulers);
        let options = zk::CreateMode::EphemeralSequential.with_acls(zk::Acls::new(&acl));
        let path = format!("{dir}/{prefix}");
        let made = session.ask(&dir, session.client().create(&path, &data, &options)).await;
        match made {
            Ok(_) => {}
            // Perhaps it was made: the name tells.
            Err(ZkError::Interrupted(_)) => session.sync(&dir).await?,
            Err(error) => return Err(error),
        }
        let names = session.children(&dir).await?.unwrap_or_default();
        let own = names.into_iter().find(|name| name.starts_with(&prefix)).ok_or(ZkError::Removed)?;
        info!("stands for election as '{own}'");
        Ok((format!("{dir}/{own}"), candidate))
    }

    /// What there is to be told of us.
    fn candidate(&self) -> Candidate {
        let master = self.config.has_master.as_ref().map(|has| *has.borrow());
        Candidate { api: self.config.api.clone(), master }
    }

    /// Whether another candidate reaches the leading Mesos master, and this one does not.
    async fn lets_pass(&self, session: &Session, dir: &str, names: &[String], own: &str) -> Result<bool, ZkError> {
        if self.candidate().master != Some(false) {
            return Ok(false);
        }
        for name in names.iter().filter(|name| number(name).is_some() && !own.ends_with(name.as_str())) {
            let found = session.get(&format!("{dir}/{name}")).await?;
            if found.and_then(|(data, _)| Candidate::decode(&data)).is_some_and(|other| other.master == Some(true)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what an earlier run at our address left. Only once: two schedulers that were given the same address by
    /// mistake must not depose each other again and again.
    async fn clear_earlier_run(&self, session: &Session, dir: &str) -> Result<(), ZkError> {
        session.sync(dir).await?;
        for name in session.children(dir).await?.unwrap_or_default() {
            let path = format!("{dir}/{name}");
            let Some((data, _)) = session.get(&path).await? else { continue };
            if Candidate::decode(&data).is_some_and(|earlier| earlier.api == self.config.api) {
                info!("removes '{path}' of an earlier run of this scheduler");
                session.ask(&path, none_if_missing(session.client().delete(&path, None))).await?;
            }
        }
        Ok(())
    }

    /// Looks where we stand and waits until that may have changed.
    async fn look(
        &self,
        session: &Session,
        own: &str,
        told: &mut Candidate,
        resigned: &mut oneshot::Receiver<()>,
    ) -> Result<Option<End>, ZkError> {
        let mut has_master = self.config.has_master.clone();
        if let Some(has) = &mut has_master {
            has.mark_unchanged();
        }
        let now = self.candidate();
        if now != *told {
            session.ask(own, session.client().set_data(own, &now.encode(), None)).await?;
            *told = now;
        }
        let dir = self.config.url.below(LEADER);
        let names = session.children(&dir).await?.unwrap_or_default();
        let (before, leader) =
            place(names.clone(), own.rsplit('/').next().unwrap_or_default()).ok_or(ZkError::Removed)?;
        let client = session.client();
        let (found, own_watch) = session.ask(own, client.check_and_watch_stat(own)).await?;
        found.ok_or(ZkError::Removed)?;
        let Some(before) = before else {
            if self.lets_pass(session, &dir, &names, own).await? {
                return Ok(Some(End::Passed));
            }
            return Ok(Some(self.lead(session, own, own_watch, resigned).await));
        };
        let before = format!("{dir}/{before}");
        let (stat, before_watch) = session.ask(&before, client.check_and_watch_stat(&before)).await?;
        let leader = format!("{dir}/{leader}");
        let found = session.ask(&leader, none_if_missing(client.get_and_watch_data(&leader))).await?;
        let (Some(_), Some((data, _, leader_watch))) = (stat, found) else {
            return Ok(None); // one of them has just gone
        };
        let leader = Candidate::decode(&data).map(|candidate| candidate.api);
        self.tell(Standing::Following { leader });
        tokio::select! {
            _ = before_watch.changed() => {}
            _ = leader_watch.changed() => {}
            _ = own_watch.changed() => {}
            () = changed(&mut has_master) => {}
            _ = &mut *resigned => return Ok(Some(End::Resigned)),
        }
        if session.has_ended() { Err(ZkError::SessionEnded) } else { Ok(None) }
    }

    /// Leads, until that is over.
    async fn lead(
        &self,
        session: &Session,
        own: &str,
        watcher: zk::OneshotWatcher,
        resigned: &mut oneshot::Receiver<()>,
    ) -> End {
        let (ending, lost) = watch::channel(None);
        let (giving_up, mut given_up) = watch::channel(None);
        let leadership = Leadership::new(self.config.url.clone(), session.clone(), own.to_owned(), lost, giving_up);
        info!("leads, by '{own}'");
        self.tell(Standing::Leading(leadership));
        let mut znode_news = Box::pin(watcher.changed());
        let mut session_news = session.client().state_watcher();
        let alone = session.alone();
        let mut state = session.client().state();
        let mut deadline = None;
        let end = loop {
            if state.is_terminated() {
                break End::Lost("the session with ZooKeeper has ended".to_owned());
            }
            if state == zk::SessionState::Disconnected {
                deadline.get_or_insert_with(|| Instant::now() + alone);
            } else {
                deadline = None;
            }
            tokio::select! {
                event = &mut znode_news => match event.event_type {
                    zk::EventType::NodeDeleted => break End::Lost("its znode was removed".to_owned()),
                    zk::EventType::Session => break End::Lost("the session with ZooKeeper has ended".to_owned()),
                    zk::EventType::NodeCreated | zk::EventType::NodeDataChanged | zk::EventType::NodeChildrenChanged => {
                        match session.ask(own, session.client().check_and_watch_stat(own)).await {
                            Ok((Some(_), watcher)) => znode_news = Box::pin(watcher.changed()),
                            Ok((None, _)) => break End::Lost("its znode was removed".to_owned()),
                            Err(error) => break End::Lost(error.chain()),
                        }
                    }
                },
                now = session_news.changed() => state = now,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    break End::Lost(format!("no contact with ZooKeeper for {alone:?}, so another may be elected"));
                }
                why = reason(&mut given_up) => break End::Lost(format!("it gave way: {why}")),
                _ = &mut *resigned => break End::Resigned,
            }
        };
        let why = if let End::Lost(why) = &end { why.as_str() } else { "it resigned" };
        warn!("leads no more: {why}");
        // In this order: who learns of the loss and then looks where this scheduler stands must not find the lost term.
        self.tell(Standing::Apart { why: why.to_owned() });
        ending.send_replace(Some(why.to_owned()));
        end
    }

    fn tell(&self, standing: Standing) {
        self.standings.send_replace(standing);
    }
}

impl Candidate {
    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text is always JSON")
    }

    pub(super) fn decode(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }
}

/// Waits for a change.
async fn changed(watched: &mut Option<watch::Receiver<bool>>) {
    if let Some(watched) = watched
        && watched.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await; // nobody looks, or not any more
}

/// Waits for a reason.
async fn reason(told: &mut watch::Receiver<Option<String>>) -> String {
    if let Ok(why) = told.wait_for(Option::is_some).await {
        return why.clone().unwrap_or_default();
    }
    std::future::pending().await // nobody holds the term any more
}

/// Removes our znode, unless the session ends first and does so.
async fn leave(session: &Session, own: &str) {
    let gone = async {
        while !session.has_ended() {
            let removed = session.ask(own, none_if_missing(session.client().delete(own, None))).await;
            match removed {
                Ok(_) | Err(ZkError::SessionEnded) => return,
                Err(error) => {
                    warn!(error = %error.chain(), "could not withdraw the candidate '{own}' yet");
                    sleep(PAUSE_MIN).await;
                }
            }
        }
    };
    // The client gives a session up that it cannot reach before this.
    let _ended = timeout(session.timeout() * 3, gone).await;
}

/// A candidate's place in the order; `None` for what is no candidate.
pub(super) fn number(name: &str) -> Option<i64> {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok())
}

/// The name before `own` (`None` when it leads), and the leader's; `None` when `own` is not there.
fn place(names: Vec<String>, own: &str) -> Option<(Option<String>, String)> {
    let mut names: Vec<(i64, String)> = names.into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    names.sort_unstable();
    let at = names.iter().position(|(_, name)| name == own)?;
    let before = at.checked_sub(1).map(|at| names[at].1.clone());
    Some((before, names[0].1.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_leads_and_each_watches_the_one_before() {
        let names = || ["z-0000000009", "a-0000000011", "m-0000000010", "other"].map(str::to_owned).to_vec();
        let leader = "z-0000000009".to_owned();
        assert_eq!(place(names(), "z-0000000009"), Some((None, leader.clone())));
        assert_eq!(place(names(), "m-0000000010"), Some((Some(leader.clone()), leader.clone())));
        assert_eq!(place(names(), "a-0000000011"), Some((Some("m-0000000010".to_owned()), leader)));
        assert_eq!(place(names(), "b-0000000012"), None);
    }
}
