//! What a Mesos agent tells an executor through its environment.

use cotton_core::FrameworkId;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Why an environment is not that of an executor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// Something every agent sets is not set.
    #[error("{0} is not set: this program must be started by a Mesos agent")]
    Missing(&'static str),
    /// Something is set to what cannot be understood.
    #[error("{name} is {value:?}, which is not {expected}")]
    Malformed {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// Who an executor is, and how it shall deal with its agent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExecutorEnvironment {
    /// `host:port` of the agent (`MESOS_AGENT_ENDPOINT`, or what `MESOS_SLAVE_PID` ends with).
    pub agent: String,
    /// `MESOS_FRAMEWORK_ID`.
    pub framework: FrameworkId,
    /// `MESOS_EXECUTOR_ID`.
    pub executor: String,
    /// `MESOS_SANDBOX`, or else `MESOS_DIRECTORY`: where this executor keeps its files.
    pub sandbox: PathBuf,
    /// `MESOS_CHECKPOINT`: whether to outlive the agent, waiting for it to come back.
    pub checkpoint: bool,
    /// `MESOS_RECOVERY_TIMEOUT`: how long to wait then.
    pub recovery_timeout: Duration,
    /// `MESOS_SUBSCRIPTION_BACKOFF_MAX`: longest pause between attempts to connect.
    pub backoff_max: Duration,
    /// `MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD`: how long a clean end may take.
    pub shutdown_grace: Duration,
    /// `MESOS_EXECUTOR_AUTHENTICATION_TOKEN`: sent with every call.
    pub token: Option<SecretString>,
}

impl ExecutorEnvironment {
    /// Reads what is in an environment, given as a map.
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn from_map(environment: &BTreeMap<String, String>) -> Result<Self, EnvironmentError> {
        let get = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let require = |name: &'static str| get(name).ok_or(EnvironmentError::Missing(name));
        let duration = |name: &'static str, default: Duration| match get(name) {
            None => Ok(default),
            Some(text) => parse_duration(text).ok_or_else(|| EnvironmentError::Malformed {
                name,
                value: text.into(),
                expected: "a duration such as '15mins'",
            }),
        };
        let agent = match get("MESOS_AGENT_ENDPOINT") {
            Some(endpoint) => endpoint,
            None => get("MESOS_SLAVE_PID")
                .and_then(|pid| pid.rsplit_once('@'))
                .map(|(_, endpoint)| endpoint)
                .ok_or(EnvironmentError::Missing("MESOS_AGENT_ENDPOINT"))?,
        };
        Ok(Self {
            agent: agent.into(),
            framework: FrameworkId::from(require("MESOS_FRAMEWORK_ID")?),
            executor: require("MESOS_EXECUTOR_ID")?.into(),
            sandbox: get("MESOS_SANDBOX").map_or_else(|| require("MESOS_DIRECTORY"), Ok)?.into(),
            checkpoint: matches!(get("MESOS_CHECKPOINT"), Some("1" | "true")),
            recovery_timeout: duration("MESOS_RECOVERY_TIMEOUT", Duration::from_mins(15))?,
            backoff_max: duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", Duration::from_secs(2))?,
            shutdown_grace: duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Duration::from_secs(5))?,
            token: get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN").map(SecretString::from),
        })
    }
}

/// Reads a duration as Mesos writes them: a number and one of `ns`, `us`, `ms`, `secs`, `mins`, `hrs`, `days`, `weeks`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let unit_secs = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit_secs).ok()
}

/// Writes a duration as Mesos reads them.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}secs", ms / 1000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const LEAST: [(&str, &str); 4] = [
        ("MESOS_AGENT_ENDPOINT", "10.0.0.1:5051"),
        ("MESOS_FRAMEWORK_ID", "f"),
        ("MESOS_EXECUTOR_ID", "e"),
        ("MESOS_DIRECTORY", "/sandbox"),
    ];

    #[test]
    fn defaults_are_those_of_mesos() {
        let found = ExecutorEnvironment::from_map(&map(&LEAST)).expect("complete");
        assert_eq!((found.agent.as_str(), found.executor.as_str()), ("10.0.0.1:5051", "e"));
        assert_eq!(found.sandbox, PathBuf::from("/sandbox"));
        assert!(!found.checkpoint && found.token.is_none());
        assert_eq!(found.recovery_timeout, Duration::from_mins(15));
        assert_eq!((found.backoff_max, found.shutdown_grace), (Duration::from_secs(2), Duration::from_secs(5)));
    }

    #[test]
    fn everything_is_read_and_the_token_is_not_shown() {
        let mut all = map(&LEAST);
        all.remove("MESOS_AGENT_ENDPOINT");
        all.extend(map(&[
            ("MESOS_SLAVE_PID", "slave(1)@10.0.0.2:5051"),
            ("MESOS_SANDBOX", "/mnt/mesos/sandbox"),
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_RECOVERY_TIMEOUT", "1days"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "500ms"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "1.5mins"),
            ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "s3cret"),
        ]));
        let found = ExecutorEnvironment::from_map(&all).expect("complete");
        assert_eq!((found.agent.as_str(), found.checkpoint), ("10.0.0.2:5051", true));
        assert_eq!(found.sandbox, PathBuf::from("/mnt/mesos/sandbox"));
        assert_eq!(found.recovery_timeout, Duration::from_hours(24));
        assert_eq!((found.backoff_max, found.shutdown_grace), (Duration::from_millis(500), Duration::from_secs(90)));
        assert!(found.token.is_some() && !format!("{found:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        for (name, _) in LEAST {
            let mut some = map(&LEAST);
            some.remove(name);
            assert_eq!(ExecutorEnvironment::from_map(&some).expect_err("incomplete"), EnvironmentError::Missing(name));
        }
        for bad in ["15", "mins", "-1secs", "1 sec", "1e400secs", "xsecs", "NaNsecs"] {
            let mut wrong = map(&LEAST);
            wrong.insert("MESOS_RECOVERY_TIMEOUT".into(), bad.into());
            assert!(ExecutorEnvironment::from_map(&wrong).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_round_trip() {
        for ms in [0, 1, 999, 1000, 1500, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
    }
}
