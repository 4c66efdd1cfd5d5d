//! One session with `ZooKeeper`: it is opened once, survives broken connections for as long as the servers allow, and ends for
//! good. Every question is bounded in time; nothing is asked twice here.

use super::ZkUrl;
use super::error::ZkError;
use secrecy::ExposeSecret;
use std::time::Duration;
use zookeeper_client as zk;

/// A connection that is silent for this part of the timeout that was asked for is given up, so that there is time for another.
const SILENCE_PARTS: u32 = 3;
/// Part of the session's timeout after which a leader that heard nothing is not sure of its place any more: the servers
/// wait for the whole of it.
const SURE: (u32, u32) = (14, 15);

/// What a znode holds, and its version.
pub(super) type Data = (Vec<u8>, zk::Stat);

/// See the module. When the last copy is dropped, the session is closed and its ephemeral znodes go.
#[derive(Clone, Debug)]
pub(super) struct Session {
    client: zk::Client,
    is_anonymous: bool,
    /// The timeout that was asked for; the servers may have granted another.
    asked: Duration,
}

impl Session {
    /// Opens one.
    ///
    /// # Errors
    /// When no server gives one within `timeout`.
    pub(super) async fn open(url: &ZkUrl, timeout: Duration) -> Result<Self, ZkError> {
        let mut connector =
            zk::Client::connector().with_session_timeout(timeout).with_connection_timeout(timeout / SILENCE_PARTS);
        if let Some(credentials) = url.credentials() {
            connector = connector.with_auth("digest", credentials.expose_secret().as_bytes());
        }
        let no_session = |source| ZkError::NoSession { servers: url.servers().to_owned(), source };
        match tokio::time::timeout(timeout * 2, connector.connect(url.servers())).await {
            Ok(Ok(client)) => Ok(Self { client, is_anonymous: url.credentials().is_none(), asked: timeout }),
            Ok(Err(zk::Error::AuthFailed)) => Err(ZkError::AuthFailed),
            Ok(Err(source)) => Err(no_session(source)),
            Err(_) => Err(no_session(zk::Error::Timeout)),
        }
    }

    /// Of the session, as the servers granted it.
    pub(super) fn timeout(&self) -> Duration {
        self.client.session_timeout()
    }

    /// How long one question may take: less than the time after which a leader without a connection steps down, so that
    /// a short break is an error that may pass, and only a long one the end of leadership.
    pub(super) fn limit(&self) -> Duration {
        (self.timeout() / 2).min(self.alone())
    }

    /// How long after the loss of its connection a leader still has its place for certain.
    pub(super) fn alone(&self) -> Duration {
        alone(self.asked, self.timeout())
    }

    /// The client, for watches and transactions.
    pub(super) fn client(&self) -> &zk::Client {
        &self.client
    }

    /// Whether nothing will ever come of this session again.
    pub(super) fn has_ended(&self) -> bool {
        self.client.state().is_terminated()
    }

    /// Who may do what with znodes: with credentials all for us, and reading for everybody where clients look; without
    /// credentials everything for everybody.
    pub(super) fn acl(&self, readers: Readers) -> Vec<zk::Acl> {
        let acls = match (self.is_anonymous, readers) {
            (true, _) => vec![zk::Acls::anyone_all()],
            (false, Readers::Everybody) => vec![zk::Acls::creator_all(), zk::Acls::anyone_read()],
            (false, Readers::Schedulers) => vec![zk::Acls::creator_all()],
        };
        acls.iter().flat_map(|acls| acls.iter().cloned()).collect()
    }

    /// Waits for an answer, for a bounded time.
    pub(super) async fn ask<T>(
        &self,
        path: &str,
        question: impl Future<Output = Result<T, zk::Error>>,
    ) -> Result<T, ZkError> {
        match tokio::time::timeout(self.limit(), question).await {
            Ok(answer) => answer.map_err(|error| ZkError::asking(path, error)),
            Err(_) if self.has_ended() => Err(ZkError::SessionEnded),
            Err(_) => Err(ZkError::Late(self.limit())),
        }
    }

    /// What is at `path`, if it is there.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Data>, ZkError> {
        self.ask(path, none_if_missing(self.client.get_data(path))).await
    }

    /// Names of what is below `path`, in order; `None` when it is not there.
    pub(super) async fn children(&self, path: &str) -> Result<Option<Vec<String>>, ZkError> {
        let children = self.ask(path, none_if_missing(self.client.list_children(path))).await?;
        Ok(children.map(sorted))
    }

    /// Waits until what is read after this includes all that was decided before it, also by servers that we were not connected to.
    pub(super) async fn sync(&self, path: &str) -> Result<(), ZkError> {
        self.ask(path, self.client.sync(path)).await
    }

    /// Makes a persistent znode without data, and those above it; one that is there stays as it is.
    pub(super) async fn make(&self, path: &str, readers: Readers) -> Result<(), ZkError> {
        let mut ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).skip(1).collect();
        ends.push(path.len());
        // From below, so that what is there is not asked for: our credentials may not suffice to make it.
        let mut missing = Vec::new();
        for end in ends.iter().rev() {
            if self.ask(&path[..*end], self.client.check_stat(&path[..*end])).await?.is_some() {
                break;
            }
            missing.push(*end);
        }
        for end in missing.into_iter().rev() {
            // Those above may be other programs' too; who may list names there is not what the records say.
            let readers = if end == path.len() { readers } else { Readers::Everybody };
            let acl = self.acl(readers);
            let options = zk::CreateMode::Persistent.with_acls(zk::Acls::new(&acl));
            let made = async {
                match self.client.create(&path[..end], b"", &options).await {
                    Ok(_) | Err(zk::Error::NodeExists) => Ok(()),
                    Err(error) => Err(error),
                }
            };
            self.ask(&path[..end], made).await?;
        }
        Ok(())
    }
}

/// Who may read a znode; those with our credentials may do everything.
#[derive(Clone, Copy, Debug)]
pub(super) enum Readers {
    /// Clients have no credentials.
    Everybody,
    /// Nobody else.
    Schedulers,
}

/// Turns an answer about a znode that is not there into `None`.
pub(super) async fn none_if_missing<T>(
    question: impl Future<Output = Result<T, zk::Error>>,
) -> Result<Option<T>, zk::Error> {
    match question.await {
        Ok(answer) => Ok(Some(answer)),
        Err(zk::Error::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is left of a session when the loss of a connection is noticed, which may have been silent before.
fn alone(asked: Duration, granted: Duration) -> Duration {
    let silence = asked / SILENCE_PARTS;
    // the client has a rule of its own when that is much of what was granted
    let silence = if silence > granted * 3 / 5 { granted * 2 / 5 } else { silence };
    (granted * SURE.0 / SURE.1).saturating_sub(silence)
}

/// In order: `ZooKeeper` lists names in none.
pub(super) fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_steps_down_before_its_session_can_end() {
        let seconds = Duration::from_secs;
        assert_eq!(alone(seconds(15), seconds(15)), seconds(9));
        assert_eq!(alone(seconds(3), seconds(15)), seconds(13), "silence is noticed sooner");
        assert_eq!(alone(seconds(24), seconds(15)), seconds(6), "silence is noticed later");
        assert_eq!(alone(seconds(100), seconds(15)), seconds(8), "the client's own rule");
    }
}
