//! Where things are on this machine: the server's directory, its address, and the user's configuration.

use super::CliError;
use serde_json::{Value, json};
use std::env;
use std::io;
use std::path::{Path, PathBuf};

const API_FILE: &str = "api.json";

/// Where `cotton local` keeps its state when it is not told: databases of root run as another user, who must be able to
/// reach them, so root's own home will not do.
pub fn default_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/cotton");
    }
    xdg("XDG_DATA_HOME", ".local/share").join("cotton")
}

/// Tells commands on this machine where the server is.
///
/// # Errors
/// When the file cannot be written.
pub fn write_api_file(dir: &Path, url: &str) -> io::Result<()> {
    let content = json!({ "url": url, "pid": std::process::id() });
    crate::atomic_file::replace(dir, API_FILE, content.to_string().as_bytes())
}

/// The user's configuration of cotton.
pub(super) fn config_dir() -> PathBuf {
    xdg("XDG_CONFIG_HOME", ".config").join("cotton")
}

/// The server's address: as told, or as `cotton local` on `dir` wrote it down.
pub(super) fn api(told: Option<&str>, dir: &Path) -> Result<String, CliError> {
    if let Some(url) = told {
        let url = url.trim_end_matches('/');
        return Ok(if url.contains("://") { url.to_owned() } else { format!("http://{url}") });
    }
    let path = dir.join(API_FILE);
    let start = "start one with 'cotton local', or say where it is with --api URL or COTTON_API";
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let why = if error.kind() == io::ErrorKind::NotFound { "it does not exist".into() } else { error.to_string() };
        CliError::Unreachable(format!("no server is known ('{}': {why}): {start}", path.display()))
    })?;
    let url = serde_json::from_str::<Value>(&text).ok().and_then(|value| value["url"].as_str().map(str::to_owned));
    url.ok_or_else(|| CliError::Unreachable(format!("'{}' names no server: {start}", path.display())))
}

fn xdg(variable: &str, below_home: &str) -> PathBuf {
    let set = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    set.unwrap_or_else(|| env::home_dir().unwrap_or_else(|| PathBuf::from("/")).join(below_home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(api(Some("http://h:1/"), dir.path()).expect("given"), "http://h:1");
        assert_eq!(api(Some("h:1"), dir.path()).expect("given"), "http://h:1");
        assert_eq!(api(None, dir.path()).expect_err("none").status(), 7);
        write_api_file(dir.path(), "http://127.0.0.1:9").expect("written");
        assert_eq!(api(None, dir.path()).expect("written"), "http://127.0.0.1:9");
    }
}
