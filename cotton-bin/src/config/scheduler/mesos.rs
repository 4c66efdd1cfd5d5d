//! Flags that mean something with a real Mesos only.

use super::raw::Raw;
use super::{FlagError, credentials, invalid, too_short};
use crate::config::duration;
use cotton_mysql::install::ArchiveSpec;
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long Mesos keeps tasks without a scheduler, when nothing else is asked for.
const FAILOVER_TIMEOUT: &str = "14d";

/// Shortest such time: another scheduler takes over after 4 s without contact, and Mesos must not have ended every database
/// by then. That is the least that can work at all; what is safe is longer than people need to notice that no scheduler runs.
const FAILOVER_TIMEOUT_MIN: Duration = Duration::from_secs(5);
const FAILOVER_TIMEOUT_WHY: &str = "when no scheduler has been connected for so long, Mesos ends every database, and \
                                    another scheduler needs 4 s to take over; leave it at 14d, or give people some days";

/// Where state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateStorage {
    /// In ZooKeeper, where another scheduler finds it.
    ZooKeeper,
    /// In files below the working directory.
    Local,
}

/// With whom, as whom and how.
#[derive(Clone, Debug)]
pub struct MesosFlags {
    /// Masters: `HOST:PORT`, several with commas, or a `zk://` URL.
    pub master: String,
    /// File with the certificates of the masters' authority; without it, nothing is encrypted.
    pub ca_file: Option<PathBuf>,
    /// `zk://[USER:PASSWORD@]SERVERS/PATH`, for discovery and state.
    pub zk_url: SecretString,
    /// Unix user of the executors.
    pub user: String,
    /// Role whose resources are used, and under which volumes are reserved.
    pub role: String,
    /// How long Mesos keeps our tasks while no scheduler is there.
    pub failover_timeout: Duration,
    /// As whom to register.
    pub credentials: Option<credentials::FrameworkCredentials>,
    /// Where agents get the executor's package from.
    pub executor_uri: String,
    /// The command that runs the executor.
    pub executor_cmd: String,
    /// Environment of the executors.
    pub executor_environ: BTreeMap<String, String>,
    /// What the executors' source begins with.
    pub executor_source_prefix: Option<String>,
    /// File on the agents with the key that opens passwords.
    pub executor_keypath: String,
    /// File on the agents with the MySQL administrator's account.
    pub admin_keypath: String,
    /// The archive with the database server, for the executors' installer; checked.
    pub installer_args: Option<String>,
    /// Passed to the executors' backup store.
    pub backup_store_args: Option<String>,
    /// Where state is kept.
    pub state_storage: StateStorage,
}

impl MesosFlags {
    /// Whether members keep their data on persistent volumes: where there is a role to reserve resources for.
    pub fn volumes(&self) -> bool {
        self.role != "*"
    }

    /// Checks them, in the order in which Apache Cotton did.
    pub(super) fn check(raw: &Raw, master: String, scheduler_keypath: &Path) -> Result<Self, FlagError> {
        let must = |flag, value: &Option<String>| value.clone().ok_or(FlagError::Missing(flag));
        let user = must("framework_user", &raw.framework_user)?;
        let executor_uri = must("executor_uri", &raw.executor_uri)?;
        let executor_cmd = must("executor_cmd", &raw.executor_cmd)?;
        let zk_url = must("zk_url", &raw.zk_url)?;
        if !zk_url.starts_with("zk://") {
            return Err(invalid("zk_url", "it must begin with 'zk://', as in zk://host1:2181,host2:2181/mysos"));
        }
        let admin_keypath = must("admin_keypath", &raw.admin_keypath)?;
        let timeout = raw.framework_failover_timeout.as_deref().unwrap_or(FAILOVER_TIMEOUT);
        let failover_timeout =
            duration::parse(timeout).map_err(|error| invalid("framework_failover_timeout", error))?;
        if failover_timeout < FAILOVER_TIMEOUT_MIN {
            let reason = too_short(FAILOVER_TIMEOUT_MIN, FAILOVER_TIMEOUT_WHY);
            return Err(invalid("framework_failover_timeout", reason));
        }
        let credentials = raw.framework_authentication_file.as_deref();
        let credentials = credentials.map(credentials::FrameworkCredentials::load).transpose();
        let credentials = credentials.map_err(|error| invalid("framework_authentication_file", error))?;
        let ca_file = raw.mesos_ca_file.as_deref().map(readable).transpose()?;
        if cfg!(not(feature = "tls")) && ca_file.is_some() {
            return Err(invalid("mesos_ca_file", "this program was built without TLS"));
        }
        let executor_environ = raw.executor_environ.as_deref().map(environ).transpose()?.unwrap_or_default();
        let installer_args = raw.installer_args.clone().filter(|text| !text.is_empty());
        if let Some(Err(error)) = installer_args.as_deref().map(str::parse::<ArchiveSpec>) {
            return Err(invalid("installer_args", error));
        }
        let key = || scheduler_keypath.display().to_string();
        Ok(Self {
            master,
            ca_file,
            zk_url: SecretString::from(zk_url),
            user,
            role: raw.framework_role.clone().unwrap_or_else(|| "*".to_owned()),
            failover_timeout,
            credentials,
            executor_uri,
            executor_cmd,
            executor_environ,
            executor_source_prefix: raw.executor_source_prefix.clone(),
            executor_keypath: raw.executor_keypath.clone().unwrap_or_else(key),
            admin_keypath,
            installer_args,
            backup_store_args: raw.backup_store_args.clone(),
            // anything but 'zk' was local with Apache Cotton
            state_storage: match raw.state_storage.as_deref() {
                None | Some("zk") => StateStorage::ZooKeeper,
                Some(_) => StateStorage::Local,
            },
        })
    }
}

/// Said at the start, not when this scheduler happens to lead.
fn readable(path: &Path) -> Result<PathBuf, FlagError> {
    let file = std::fs::File::open(path);
    let unreadable = |error| invalid("mesos_ca_file", format!("could not read '{}': {error}", path.display()));
    file.map(|_| path.to_owned()).map_err(unreadable)
}

fn environ(text: &str) -> Result<BTreeMap<String, String>, FlagError> {
    #[derive(Deserialize)]
    struct Variable {
        name: String,
        value: String,
    }
    let shape = || invalid("executor_environ", r#"it must be a JSON list such as [{"name": "A", "value": "b"}]"#);
    let list: Option<Vec<Variable>> = serde_json::from_str(text).map_err(|_| shape())?;
    let mut environ = BTreeMap::new();
    for Variable { name, value } in list.unwrap_or_default() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(invalid("executor_environ", format!("'{name}' cannot be the name of a variable")));
        }
        if name == "MYSOS_DEFAULTS_FILE" {
            let why = "options of servers come from no file of yours any more; remove it, and see docs/operations.md, \
                       'Options of the servers'";
            return Err(invalid("executor_environ", format!("'{name}': {why}")));
        }
        if environ.insert(name.clone(), value).is_some() {
            return Err(invalid("executor_environ", format!("'{name}' is there twice")));
        }
    }
    Ok(environ)
}
