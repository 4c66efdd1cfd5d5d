//! `zk://[user:password@]host[:port],.../path`, as Mesos and Apache Cotton write it. The password is never shown, not even in
//! the error for a URL that cannot be read.

use cotton_core::ClusterName;
use secrecy::SecretString;
use std::fmt;
use std::str::FromStr;

/// Port of servers that are given without one.
const DEFAULT_PORT: u16 = 2181;
const SCHEME: &str = "zk://";

/// What is wrong with the URL of a `ZooKeeper`. Parts that may be or hold a password are not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Another kind of URL, or none.
    #[error("expecting 'zk://' at the beginning of the URL")]
    Scheme,
    /// What is before the `@` is not `user:password`.
    #[error("expecting 'user:password' before the '@', with both of them given")]
    Credentials,
    /// An `@` where it can belong to a password or to a path.
    #[error("'@' after the first '/': neither can a password have a '/', nor a path an '@'")]
    Ambiguous,
    /// No server is named.
    #[error("expecting at least one server, as 'host:port', separated by commas")]
    NoServer,
    /// A server is not `host:port`.
    #[error(
        "server number {number} is not 'host' or 'host:port' with a port from 1 to 65535 (IPv6 addresses in brackets)"
    )]
    Server {
        /// Which, counted from 1.
        number: usize,
    },
    /// The path is not one of `ZooKeeper`.
    #[error("'{0}' is not a path of ZooKeeper: no empty parts, no '.' or '..' as a part, no control characters")]
    Path(String),
}

/// Where a `ZooKeeper` is, which path of it is meant, and as whom to go there.
///
/// ```
/// use cotton_mesos::zookeeper::ZkUrl;
/// let url: ZkUrl = "zk://cotton:secret@zk1:2181,zk2/mysos/".parse()?;
/// assert_eq!(url.to_string(), "zk://zk1:2181,zk2:2181/mysos");
/// assert!(!format!("{url:?}").contains("secret"));
/// # Ok::<(), cotton_mesos::zookeeper::UrlError>(())
/// ```
#[derive(Clone)]
pub struct ZkUrl {
    /// As `digest` wants them: `user:password`.
    credentials: Option<SecretString>,
    servers: String,
    /// Empty for the root, else with a `/` in front and none behind.
    path: String,
}

impl ZkUrl {
    /// `host:port` of all servers, separated by commas.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The path, `/` for the root.
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// What clients are told of where a cluster is found: without the credentials, which reading does not need.
    pub fn cluster_url(&self, cluster: &ClusterName) -> String {
        format!("{}{cluster}", self.cluster_url_prefix())
    }

    /// What every [`ZkUrl::cluster_url`] begins with.
    ///
    /// Apache Cotton's clients take every `z`, `k`, `:` and `/` away from the beginning, not just `zk://`. Hosts are the same
    /// in capitals, and those they leave.
    pub fn cluster_url_prefix(&self) -> String {
        let mut servers = self.servers.clone();
        if let Some(first) = servers.get_mut(..1).filter(|first| matches!(&**first, "z" | "k")) {
            first.make_ascii_uppercase();
        }
        format!("{SCHEME}{servers}{}/discover/", self.path)
    }

    /// The path of something below; `below` has no `/` in front.
    pub(super) fn below(&self, below: &str) -> String {
        format!("{}/{below}", self.path)
    }

    pub(super) fn credentials(&self) -> Option<&SecretString> {
        self.credentials.as_ref()
    }
}

impl FromStr for ZkUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.trim().strip_prefix(SCHEME).ok_or(UrlError::Scheme)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if path.contains('@') {
            return Err(UrlError::Ambiguous);
        }
        let (credentials, servers) = match authority.rsplit_once('@') {
            Some((credentials, servers)) => (Some(credentials), servers),
            None => (None, authority),
        };
        let is_pair =
            |text: &str| text.split_once(':').is_some_and(|(user, pass)| !user.is_empty() && !pass.is_empty());
        if credentials.is_some_and(|text| !is_pair(text)) {
            return Err(UrlError::Credentials);
        }
        if servers.is_empty() {
            return Err(UrlError::NoServer);
        }
        let servers =
            servers.split(',').enumerate().map(|(at, text)| server(text).ok_or(UrlError::Server { number: at + 1 }));
        let servers = servers.collect::<Result<Vec<_>, _>>()?.join(",");
        let path = path.trim_end_matches('/');
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        if !path.is_empty() && !path.split('/').skip(1).all(is_part) {
            return Err(UrlError::Path(path.to_owned()));
        }
        Ok(Self { credentials: credentials.map(SecretString::from), servers, path: path.to_owned() })
    }
}

/// A server with its port, or `None` when it is not one.
fn server(text: &str) -> Option<String> {
    let after_host = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, port) = text.split_at(after_host);
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().ok().filter(|port| *port > 0)?,
        None if port.is_empty() => DEFAULT_PORT,
        None => return None,
    };
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(is_host_char),
    };
    is_host.then(|| format!("{host}:{port}"))
}

/// Without the credentials.
impl fmt::Display for ZkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.servers, self.path())
    }
}

impl fmt::Debug for ZkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = if self.credentials.is_some() { "(hidden)@" } else { "" };
        write!(f, "{SCHEME}{credentials}{}{}", self.servers, self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn parse(text: &str) -> (Option<String>, String, String) {
        let url: ZkUrl = text.parse().expect("a URL");
        (url.credentials.as_ref().map(|c| c.expose_secret().to_owned()), url.servers.clone(), url.path().to_owned())
    }

    #[test]
    fn reads_what_cotton_and_mesos_write() {
        let owned = |c: Option<&str>, s: &str, p: &str| (c.map(str::to_owned), s.to_owned(), p.to_owned());
        assert_eq!(parse("zk://host1:1"), owned(None, "host1:1", "/"));
        assert_eq!(parse("zk://host1:1/"), owned(None, "host1:1", "/"));
        assert_eq!(parse("zk://zk1:2181,k:1,z/mesos/a/"), owned(None, "zk1:2181,k:1,z:2181", "/mesos/a"));
        assert_eq!(parse("zk://jake:p@ss:w,rd@h:1,g:2/a"), owned(Some("jake:p@ss:w,rd"), "h:1,g:2", "/a"));
        assert_eq!(parse("zk://[::1]:2182,[fe80::1]/a"), owned(None, "[::1]:2182,[fe80::1]:2181", "/a"));
    }

    #[test]
    fn clients_of_apache_cotton_find_the_servers() {
        for (servers, found) in [
            ("zk1:2181,zk2:2181", "Zk1:2181,zk2:2181"),
            ("kz.example:1", "Kz.example:1"),
            ("host:1,zk:2", "host:1,zk:2"),
            ("[::1]:1", "[::1]:1"),
        ] {
            let url: ZkUrl = format!("zk://u:p@{servers}/mysos").parse().expect("a URL");
            let url = url.cluster_url(&"a".parse().expect("a name"));
            let read = url.trim_start_matches(['z', 'k', ':', '/']); // as they do: Python's lstrip(url, "zk://")
            assert_eq!(read, format!("{found}/mysos/discover/a"));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let table = [
            ("http://h:1/a", UrlError::Scheme),
            ("h:2181", UrlError::Scheme),
            ("zk://", UrlError::NoServer),
            ("zk:///a", UrlError::NoServer),
            ("zk://u:p@/a", UrlError::NoServer),
            ("zk://jake@h:1", UrlError::Credentials),
            ("zk://:p@h:1", UrlError::Credentials),
            ("zk://u:@h:1", UrlError::Credentials),
            ("zk://u:p/w@h:1/a", UrlError::Ambiguous),
            ("zk://h:1,,g:1/a", UrlError::Server { number: 2 }),
            ("zk://h:0/a", UrlError::Server { number: 1 }),
            ("zk://h:99999", UrlError::Server { number: 1 }),
            ("zk://h:port", UrlError::Server { number: 1 }),
            ("zk://a b:1", UrlError::Server { number: 1 }),
            ("zk://[::1", UrlError::Server { number: 1 }),
            ("zk://[::1]2181", UrlError::Server { number: 1 }),
            ("zk://h:1/a//b", UrlError::Path("/a//b".to_owned())),
            ("zk://h:1/a/../b", UrlError::Path("/a/../b".to_owned())),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<ZkUrl>().expect_err(text), error, "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: ZkUrl = "zk://user:hunter2@h:1/a".parse().expect("a URL");
        assert_eq!(format!("{url} {url:?}"), "zk://h:1/a zk://(hidden)@h:1/a");
        let cluster = "orders".parse().expect("a name");
        assert_eq!(url.cluster_url(&cluster), "zk://h:1/a/discover/orders");
        for bad in ["zk://user:hunter2@", "zk://user:hunter2/x@h:1", "zk://user:hunter2@h:x", "user:hunter2@h"] {
            let error = bad.parse::<ZkUrl>().expect_err(bad);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
