//! What one server needs to know about itself.

use crate::Error;
use cotton_core::{Endpoint, Resources, Sealed};
use secrecy::SecretString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Most that [`InstanceConfig::server_id`] may be: the bits above it count the ids that the member has used, since
/// a replica skips what carries its own `server_id`, and a rebuilt one must get what it wrote in an earlier life.
pub(crate) const SERVER_ID_MAX: u64 = (1 << SERVER_ID_BITS) - 1;
pub(crate) const SERVER_ID_BITS: u32 = 20;

/// Longest user name that every supported server takes, in bytes.
const USER_BYTES_MAX: usize = 32;

/// The passwords of one cluster's accounts, the same on all its members.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// Of the cluster's user.
    pub user: SecretString,
    /// Of the account that manages the server over its unix socket.
    pub admin: SecretString,
    /// Of the account with which replicas connect to the primary.
    pub replication: SecretString,
}

/// An account for those who run the machines: it may do everything, over the unix socket only, which nobody else reaches
/// than root and the account that the server runs as.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// Its name; `root` is the one that every server has, which nobody else can use.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// The unix account that the server runs as when we are root, which needs no entry in `/etc/passwd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// User id; not 0.
    pub uid: u32,
    /// Group id; not 0.
    pub gid: u32,
}

impl Default for RunAs {
    fn default() -> Self {
        Self { uid: 54321, gid: 54321 }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the start of the process to its first answer, crash recovery included.
    pub start: Duration,
    /// Making an empty data directory.
    pub provision: Duration,
    /// One probe.
    pub probe: Duration,
    /// One statement that does not have to wait for anything.
    pub statement: Duration,
    /// Reaching another server.
    pub connect: Duration,
    /// Receiving a copy of another server's data; preparing it has as long again.
    pub copy: Duration,
    /// Without a byte of a copy, at the donor; the recipient waits four times as long, to hear why the donor failed.
    pub copy_stall: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            start: Duration::from_mins(10),
            provision: Duration::from_mins(2),
            probe: Duration::from_secs(1),
            statement: Duration::from_secs(10),
            connect: Duration::from_secs(2),
            copy: Duration::from_hours(12),
            copy_stall: Duration::from_mins(1),
        }
    }
}

/// Gives the clear text of a sealed password, if it can be opened.
pub type UnsealFn = dyn Fn(&Sealed) -> Option<SecretString> + Send + Sync;

/// Opens passwords that are stored sealed.
#[derive(Clone)]
pub struct Unseal(pub Arc<UnsealFn>);

impl std::fmt::Debug for Unseal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unseal(..)")
    }
}

/// One server.
#[derive(Clone, Debug)]
pub struct InstanceConfig {
    /// Directory of the server's programs; `None` looks in `PATH`, `/usr/sbin` and the like.
    pub programs: Option<PathBuf>,
    /// Directory below which everything of this server is. Its parents must be open (`x`) to [`run_as`](Self::run_as).
    pub root: PathBuf,
    /// Where others reach the server; it listens on this port.
    pub endpoint: Endpoint,
    /// Address to listen on.
    pub bind_address: String,
    /// `server_id` of the first data directory, unique in the cluster, 1 to 1,048,575.
    pub server_id: u64,
    /// What the server may use.
    pub resources: Resources,
    /// Whether to prepare for semi-synchronous replication.
    pub semi_sync: bool,
    /// Name of the cluster's user.
    pub user: String,
    /// Passwords of the accounts.
    pub passwords: Passwords,
    /// Opens the passwords of further accounts; without it there are none.
    pub unseal: Option<Unseal>,
    /// One more account, in a data directory that is made here. A copy has those of its donor.
    pub administrator: Option<Administrator>,
    /// Who the server runs as when we are root; else it runs as we do.
    pub run_as: RunAs,
    /// Whether there is data already: then an empty data directory is never made.
    pub has_data: bool,
    /// Time limits.
    pub timing: Timing,
}

impl InstanceConfig {
    /// A server with the defaults: programs of the system, listening on all addresses, prepared for semi-sync.
    pub fn new(
        root: impl Into<PathBuf>,
        endpoint: Endpoint,
        server_id: u64,
        resources: Resources,
        user: impl Into<String>,
        passwords: Passwords,
    ) -> Self {
        Self {
            programs: None,
            root: root.into(),
            endpoint,
            bind_address: "0.0.0.0".to_owned(),
            server_id,
            resources,
            semi_sync: true,
            user: user.into(),
            passwords,
            unseal: None,
            administrator: None,
            run_as: RunAs::default(),
            has_data: false,
            timing: Timing::default(),
        }
    }

    /// Opens a password.
    pub(crate) fn unsealed(&self, sealed: &Sealed) -> Option<SecretString> {
        self.unseal.as_ref().and_then(|unseal| (unseal.0)(sealed))
    }

    /// Where we reach the server over the network.
    pub(crate) fn own_host(&self) -> &str {
        let everywhere = |address: &&str| !matches!(*address, "*" | "0.0.0.0" | "::");
        Some(self.bind_address.as_str()).filter(everywhere).unwrap_or("127.0.0.1")
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |text: &str| Err(Error::Config(text.to_owned()));
        if !self.root.is_absolute() {
            return refuse("directory of a server must be an absolute path");
        }
        let root = self.root.to_str().unwrap_or("\n");
        if root.contains(|c: char| c.is_control() || matches!(c, '#' | '"' | '\'' | '\\')) {
            return refuse("path of a server's directory must be plain text without quotes, '#' and '\\'");
        }
        if !(1..=SERVER_ID_MAX).contains(&self.server_id) {
            return refuse("server id must be 1 to 1048575");
        }
        if self.run_as.uid == 0 || self.run_as.gid == 0 {
            return refuse("server must not run as root: choose another uid and gid");
        }
        let unfit = |user: &str| user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control);
        if unfit(&self.user) {
            return refuse("user name must be 1 to 32 bytes without control characters");
        }
        if let Some(Administrator { user, .. }) = &self.administrator {
            if unfit(user) {
                return refuse("administrator's name must be 1 to 32 bytes without control characters");
            }
            if user != "root" && crate::accounts::RESERVED.contains(&user.as_str()) {
                return refuse("administrator's name is taken by the server or by cotton: choose another");
            }
        }
        if crate::accounts::RESERVED.contains(&self.user.as_str()) {
            return refuse("user name is taken by the server or by cotton: choose another");
        }
        let plain = |text: &str| text.parse::<std::net::IpAddr>().is_ok() || text == "*";
        if !plain(&self.bind_address) {
            return refuse("bind address must be an ip address");
        }
        let host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if self.endpoint.host.is_empty() || !self.endpoint.host.chars().all(host) || self.endpoint.port == 0 {
            return refuse("endpoint must be a host name or address, and a port that is not 0");
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> InstanceConfig {
        let passwords = Passwords { user: "u-secret".into(), admin: "a-secret".into(), replication: "r-secret".into() };
        InstanceConfig::new("/srv/m", Endpoint::new("10.0.0.7", 31001), 1, Resources::DEFAULT, "orders", passwords)
    }

    pub(crate) fn administrator(user: &str) -> Administrator {
        Administrator { user: user.to_owned(), password: "dba-secret".into() }
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", example());
        assert!(!text.contains("secret\""), "{text}");
        assert!(!text.contains("u-secret") && text.contains("orders"), "{text}");
    }

    #[test]
    fn refuses_what_cannot_work() {
        type Edit = fn(&mut InstanceConfig);
        assert!(example().validate().is_ok());
        let bad: &[(&str, Edit)] = &[
            ("absolute", |c| c.root = "here".into()),
            ("quotes", |c| c.root = "/a'b".into()),
            ("quotes", |c| c.root = "/a\nb".into()),
            ("server id", |c| c.server_id = 0),
            ("server id", |c| c.server_id = 1 << 20),
            ("root", |c| c.run_as.uid = 0),
            ("user name", |c| c.user = String::new()),
            ("user name", |c| c.user = "x".repeat(33)),
            ("user name", |c| c.user = "root".to_owned()),
            ("user name", |c| c.user = "cotton_repl".to_owned()),
            ("administrator's name", |c| c.administrator = Some(administrator("cotton"))),
            ("administrator's name", |c| c.administrator = Some(administrator(""))),
            ("bind", |c| c.bind_address = "0.0.0.0\nskip-grant-tables".to_owned()),
            ("endpoint", |c| c.endpoint.port = 0),
            ("endpoint", |c| c.endpoint.host = "a b".to_owned()),
        ];
        for (part, edit) in bad {
            let mut config = example();
            edit(&mut config);
            let error = config.validate().expect_err(part).to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
