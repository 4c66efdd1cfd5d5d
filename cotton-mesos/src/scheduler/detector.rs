//! Which master leads.

use async_trait::async_trait;
use cotton_core::{Endpoint, PortError};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The port that masters listen on when nothing else is said.
pub const MASTER_PORT: u16 = 5050;

/// Finds the leading master.
#[async_trait]
pub trait MasterDetector: Send + Sync + fmt::Debug {
    /// Where the leading master is, as far as known; waits until there is one. A master that does not lead may be given:
    /// it redirects to the one that does, if it knows it.
    ///
    /// # Errors
    /// When it cannot be found out. A permanent error ends the connection to Mesos, a temporary one is tried again.
    async fn leader(&self) -> Result<Endpoint, PortError>;

    /// Waits until another than `master` leads, or nobody. The connection is given up then. Cancelling this loses nothing.
    async fn changed(&self, master: &Endpoint);

    /// Is told that `master` could not be subscribed to, or not for long.
    fn failed(&self, master: &Endpoint);
}

/// Masters that are known by their addresses, tried in turn.
#[derive(Debug)]
pub struct MasterList {
    masters: Vec<Endpoint>,
    next: AtomicUsize,
}

/// Why a list of masters makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MasterListError {
    /// There is none.
    #[error("at least one master is needed: host:port, or several of them with commas in between")]
    Empty,
    /// One of them makes no sense.
    #[error("'{0}' is not the address of a master: expected host:port (the port may be left out: {MASTER_PORT})")]
    Address(String),
}

impl FromStr for MasterList {
    type Err = MasterListError;

    /// From `host:port,host:port,...`; IPv6 addresses in brackets.
    fn from_str(text: &str) -> Result<Self, MasterListError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let masters = parts
            .map(|part| parse_address(part).ok_or_else(|| MasterListError::Address(part.to_owned())))
            .collect::<Result<Vec<_>, _>>()?;
        if masters.is_empty() { Err(MasterListError::Empty) } else { Ok(Self { masters, next: AtomicUsize::new(0) }) }
    }
}

#[async_trait]
impl MasterDetector for MasterList {
    async fn leader(&self) -> Result<Endpoint, PortError> {
        Ok(self.masters[self.next.load(Ordering::Relaxed) % self.masters.len()].clone())
    }

    async fn changed(&self, _master: &Endpoint) {
        std::future::pending::<()>().await;
    }

    fn failed(&self, _master: &Endpoint) {
        self.next.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads `host`, `host:port`, `[address]` or `[address]:port`.
pub(super) fn parse_address(text: &str) -> Option<Endpoint> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let port = port.map_or(Some(MASTER_PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    (!host.is_empty() && host.chars().all(allowed)).then(|| Endpoint::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("m1", Some(("m1", 5050))),
            ("m1:80", Some(("m1", 80))),
            ("10.0.0.1:5051", Some(("10.0.0.1", 5051))),
            ("[::1]", Some(("::1", 5050))),
            ("[::1]:80", Some(("::1", 80))),
            ("", None),
            (":80", None),
            ("m1:", None),
            ("m1:0", None),
            ("m1:70000", None),
            ("::1", None),
            ("[m1]:80", None),
            ("[::1]80", None),
            ("user@m1:80", None),
            ("m1/x", None),
        ] {
            assert_eq!(parse_address(text), expected.map(|(host, port)| Endpoint::new(host, port)), "{text}");
        }
    }

    #[tokio::test]
    async fn masters_are_tried_in_turn() {
        let list: MasterList = "a, b:1,".parse().expect("a list");
        let (a, b) = (Endpoint::new("a", MASTER_PORT), Endpoint::new("b", 1));
        assert_eq!(list.leader().await.expect("one"), a);
        assert_eq!(list.leader().await.expect("one"), a);
        list.failed(&a);
        assert_eq!(list.leader().await.expect("one"), b);
        list.failed(&b);
        assert_eq!(list.leader().await.expect("one"), a);
        assert_eq!(" ,".parse::<MasterList>().map(|_| ()), Err(MasterListError::Empty));
        assert_eq!("a,b c".parse::<MasterList>().map(|_| ()), Err(MasterListError::Address("b c".to_owned())));
    }
}
