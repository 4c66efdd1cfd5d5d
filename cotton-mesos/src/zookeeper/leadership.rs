//! What a scheduler may do only while it leads: every write is one transaction that begins with a check of the leader's
//! znode, whose name is never used twice. Once that znode is gone, nothing that was or will be sent under it has an effect:
//! neither late packets nor a process that slept through its end. So a new leader sees what it loads change by nobody else.

use super::ZkUrl;
use super::discovery::ZkDiscovery;
use super::election::{self, Candidate};
use super::error::{ZkError, is_answer, is_end_of_session};
use super::session::Session;
use super::state::ZkStateStore;
use std::sync::Arc;
use tokio::sync::watch;
use zookeeper_client as zk;

/// One term as the leader, from election to loss; a later term is another value. Copies are the same term.
#[derive(Clone, Debug)]
pub struct Leadership {
    term: Arc<Term>,
}

#[derive(Debug)]
struct Term {
    url: ZkUrl,
    session: Session,
    /// The leader's znode: exists for as long as this term does.
    fence: String,
    /// Why it is over.
    lost: watch::Receiver<Option<String>>,
    /// Why it shall be over.
    given_up: watch::Sender<Option<String>>,
}

impl Leadership {
    /// `given_up` tells why the holder of this term wants it to end.
    pub(super) fn new(
        url: ZkUrl,
        session: Session,
        fence: String,
        lost: watch::Receiver<Option<String>>,
        given_up: watch::Sender<Option<String>>,
    ) -> Self {
        Self { term: Arc::new(Term { url, session, fence, lost, given_up }) }
    }

    /// The records of the scheduler, as long as this term lasts.
    pub fn state_store(&self) -> ZkStateStore {
        ZkStateStore::new(self.clone())
    }

    /// Where clients look clusters up, as long as this term lasts.
    pub fn discovery(&self) -> ZkDiscovery {
        ZkDiscovery::new(self.clone())
    }

    /// The znode that stands for this term; no other term ever has the same.
    pub fn fence(&self) -> &str {
        &self.term.fence
    }

    /// Why this term is over; `None` while it lasts, as far as is known here.
    pub fn loss(&self) -> Option<String> {
        self.term.lost.borrow().clone()
    }

    /// Waits for the end of this term and says why it ended. This scheduler must then stop whatever it does as the leader:
    /// its writes are refused already, what it tells Mesos is not.
    pub async fn lost(&self) -> String {
        let mut lost = self.term.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "its election was dropped".to_owned(),
        }
    }

    /// Whether another scheduler stands by that reaches the leading Mesos master, to lead if this term ends. One that does
    /// not say may be of an earlier release, and counts.
    ///
    /// # Errors
    /// When the term is over, or `ZooKeeper` does not answer.
    pub async fn has_successor(&self) -> Result<bool, ZkError> {
        let (dir, own) = self.fence().rsplit_once('/').unwrap_or_default();
        let session = self.session()?;
        let names = session.children(dir).await?.unwrap_or_default();
        for name in names.iter().filter(|name| *name != own && election::number(name).is_some()) {
            let found = session.get(&format!("{dir}/{name}")).await?;
            if found.and_then(|(data, _)| Candidate::decode(&data)).is_some_and(|other| other.master != Some(false)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends this term and stands for election again, behind all others, for a reason such as that another one may do what
    /// this one cannot. The end is told as any other; see [`lost`](Self::lost).
    pub fn give_way(&self, why: &str) {
        self.term.given_up.send_replace(Some(why.to_owned()));
    }

    pub(super) fn url(&self) -> &ZkUrl {
        &self.term.url
    }

    /// The session, for reading.
    ///
    /// # Errors
    /// When the term is over.
    pub(super) fn session(&self) -> Result<&Session, ZkError> {
        match self.loss() {
            Some(why) => Err(ZkError::NotLeading { why }),
            None if self.term.lost.has_changed().is_err() => Err(self.not_leading()),
            None => Ok(&self.term.session),
        }
    }

    /// Begins a write.
    ///
    /// # Errors
    /// When the term is over.
    pub(super) fn transaction(&self) -> Result<Transaction<'_>, ZkError> {
        let session = self.session()?;
        let mut writer = session.client().new_multi_writer();
        // -1: of any version; what counts is that it is there
        writer.add_check_version(&self.term.fence, -1).map_err(ZkError::Other)?;
        Ok(Transaction { leadership: self, session, writer })
    }

    /// What the end of the session means to whoever writes.
    pub(super) fn explain(&self, error: ZkError) -> ZkError {
        if matches!(error, ZkError::SessionEnded) { self.not_leading() } else { error }
    }

    fn not_leading(&self) -> ZkError {
        let unknown = || "its session with ZooKeeper has ended".to_owned();
        ZkError::NotLeading { why: self.loss().unwrap_or_else(unknown) }
    }
}

/// A write that has its effect as a whole, and only as the leader's.
pub(super) struct Transaction<'a> {
    leadership: &'a Leadership,
    session: &'a Session,
    writer: zk::MultiWriter<'a>,
}

/// How a write ended, unless leadership, access or an answer in time was missing.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// It is not done, because of its step with this number, counted from 0.
    Refused(usize, zk::Error),
    /// The connection broke before the answer: it may be done, or may not.
    Unknown(ZkError),
}

impl Transaction<'_> {
    /// Adds a step: a new persistent znode.
    pub(super) fn create(&mut self, path: &str, data: &[u8], acl: &[zk::Acl]) -> Result<(), ZkError> {
        let options = zk::CreateMode::Persistent.with_acls(zk::Acls::new(acl));
        self.writer.add_create(path, data, &options).map_err(ZkError::Other)
    }

    /// Adds a step: other data, if what is there has this version.
    pub(super) fn set(&mut self, path: &str, data: &[u8], version: Option<i32>) -> Result<(), ZkError> {
        self.writer.add_set_data(path, data, version).map_err(ZkError::Other)
    }

    /// Adds a step: no such znode, if what is there has this version.
    pub(super) fn delete(&mut self, path: &str, version: Option<i32>) -> Result<(), ZkError> {
        self.writer.add_delete(path, version).map_err(ZkError::Other)
    }

    /// Writes; `path` is what it is about.
    ///
    /// # Errors
    /// When the term is over, access is denied, or nobody answers in time; it may be done in the last case.
    pub(super) async fn commit(mut self, path: &str) -> Result<Outcome, ZkError> {
        let limit = self.session.limit();
        let written = tokio::time::timeout(limit, self.writer.commit()).await;
        let error = match written {
            Ok(Ok(_)) => return Ok(Outcome::Done),
            Err(_) if self.session.has_ended() => return Err(self.leadership.not_leading()),
            // Not asked whether it is done: there is nobody who answers.
            Err(_) => return Err(ZkError::Late(limit)),
            Ok(Err(error)) => error,
        };
        match error {
            zk::MultiWriteError::OperationFailed { index: 0, source: zk::Error::NoNode } => Err(ZkError::NotLeading {
                why: self.leadership.loss().unwrap_or_else(|| "its znode is gone".to_owned()),
            }),
            zk::MultiWriteError::OperationFailed { source: zk::Error::NoAuth, .. }
            | zk::MultiWriteError::RequestFailed { source: zk::Error::NoAuth } => {
                Err(ZkError::Denied { path: path.to_owned() })
            }
            zk::MultiWriteError::OperationFailed { index, source } => {
                Ok(Outcome::Refused(index.saturating_sub(1), source))
            }
            zk::MultiWriteError::RequestFailed { source } if is_end_of_session(&source) => {
                Err(self.leadership.not_leading())
            }
            zk::MultiWriteError::RequestFailed { source } if is_answer(&source) => Err(ZkError::Other(source)),
            zk::MultiWriteError::RequestFailed { source } => Ok(Outcome::Unknown(ZkError::Interrupted(source))),
        }
    }
}
