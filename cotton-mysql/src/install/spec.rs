//! Which archive: the text of `--installer_args`.

use super::digest::Digest;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use url::Url;

/// What the text looks like.
const FORM: &str = "the form is archive=PATH-OR-URI,sha256=HEX[,directory=DIR], as in \
                    archive=https://packages.example/mysql-8.4.tar.xz,sha256=9f86d0...";

/// An archive with a database server.
#[derive(Clone, PartialEq, Eq)]
pub struct ArchiveSpec {
    /// Where it is.
    pub source: Source,
    /// What `sha256sum` says of it. Always there when it comes over the network.
    pub sha256: Option<Digest>,
    /// The directory in it that has `bin` or `sbin`; found by itself when there is only one.
    pub directory: Option<PathBuf>,
}

/// Where an archive is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of the agent.
    File(PathBuf),
    /// On a web server, http or https.
    Web(Url),
}

/// Why a text names no archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// There is no `archive=`.
    #[error("no archive is named: {FORM}")]
    NoArchive,
    /// A part that is none of the known ones.
    #[error("'{0}' is neither archive=, sha256= nor directory=: {FORM}")]
    Unknown(String),
    /// A part is there twice.
    #[error("{0}= is there twice: {FORM}")]
    Twice(&'static str),
    /// No checksum.
    #[error("sha256= is missing, without which an archive from the network is not trusted: {FORM}")]
    NoChecksum,
    /// A checksum that cannot be one.
    #[error("sha256={0} is not 64 hexadecimal digits, as sha256sum prints them: {FORM}")]
    Checksum(String),
    /// A path that means something else on every agent.
    #[error("archive '{0}' must be an absolute path or a file://, http:// or https:// URI: {FORM}")]
    Archive(String),
    /// A password in an address, which is seen by everybody who sees the task.
    #[error("the address of the archive must not hold a user name or password, since they could be seen by everybody")]
    Credentials,
    /// A directory outside of the archive.
    #[error("directory '{0}' must be a path within the archive, without '..': {FORM}")]
    Directory(String),
}

impl FromStr for ArchiveSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (mut archive, mut sha256, mut directory) = (None, None, None);
        for (name, value) in parts(text)? {
            let slot = match name {
                "archive" => &mut archive,
                "sha256" => &mut sha256,
                _ => &mut directory,
            };
            if slot.replace(value).is_some() {
                return Err(SpecError::Twice(name));
            }
        }
        let source: Source = archive.filter(|archive| !archive.is_empty()).ok_or(SpecError::NoArchive)?.parse()?;
        let sha256 = match sha256 {
            Some(text) => Some(text.parse().map_err(|()| SpecError::Checksum(text))?),
            None if matches!(source, Source::Web(_)) => return Err(SpecError::NoChecksum),
            None => None,
        };
        let within = |text: String| {
            let path = PathBuf::from(&text);
            let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            if stays && !text.is_empty() { Ok(path) } else { Err(SpecError::Directory(text)) }
        };
        Ok(Self { source, sha256, directory: directory.map(within).transpose()? })
    }
}

/// `name=value` with commas between them; a comma that no known name follows belongs to the value.
fn parts(text: &str) -> Result<Vec<(&'static str, String)>, SpecError> {
    const NAMES: [&str; 3] = ["archive", "sha256", "directory"];
    let mut parts: Vec<(&'static str, String)> = Vec::new();
    for piece in text.split(',') {
        let named =
            NAMES.into_iter().find_map(|name| Some((name, piece.trim().strip_prefix(name)?.strip_prefix('=')?)));
        match (named, parts.last_mut()) {
            (Some((name, value)), _) => parts.push((name, value.to_owned())),
            (None, Some(("archive", value))) => *value = format!("{value},{piece}"),
            (None, _) if text.trim().is_empty() => return Err(SpecError::NoArchive),
            (None, _) => return Err(SpecError::Unknown(piece.trim().to_owned())),
        }
    }
    Ok(parts)
}

impl FromStr for Source {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let no = || SpecError::Archive(shown(text));
        if Path::new(text).is_absolute() {
            return Ok(Self::File(text.into()));
        }
        let url = Url::parse(text).map_err(|_| no())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SpecError::Credentials);
        }
        match url.scheme() {
            "file" => url.to_file_path().map(Self::File).map_err(|()| no()),
            "http" | "https" if url.has_host() => Ok(Self::Web(url)),
            _ => Err(no()),
        }
    }
}

/// Without what comes after a question mark, which may let whoever knows it in.
fn shown(text: &str) -> String {
    text.split_once(['?', '#']).map_or(text, |(before, _)| before).to_owned()
}

/// Without secrets that an address may hold.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Web(url) => f.write_str(&shown(url.as_str())),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for ArchiveSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, sha256, directory } = self;
        f.debug_struct("ArchiveSpec")
            .field("source", source)
            .field("sha256", sha256)
            .field("directory", directory)
            .finish()
    }
}

impl ArchiveSpec {
    /// What tells this source from others, without telling it.
    pub(super) fn identity(&self) -> Digest {
        Digest::of(match &self.source {
            Source::File(path) => path.as_os_str().as_encoded_bytes(),
            Source::Web(url) => url.as_str().as_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<ArchiveSpec, SpecError> {
        text.replace("SHA", SHA).parse()
    }

    #[test]
    fn names_an_archive() {
        let spec = parse("archive=/opt/my,sql.tar.gz").expect("a path alone");
        assert_eq!(spec.source, Source::File("/opt/my,sql.tar.gz".into()));
        assert!(spec.sha256.is_none() && spec.directory.is_none());
        let spec = parse("archive=file:///opt/a%20b.tar,sha256=SHA").expect("a URI of a file");
        assert_eq!((spec.source, spec.sha256), (Source::File("/opt/a b.tar".into()), SHA.parse().ok()));
        let spec =
            parse("sha256=SHA, directory=./mysql-8.4/x,archive=https://h:8443/a.tar.xz?token=t-secret").expect("all");
        assert_eq!(spec.source.to_string(), "https://h:8443/a.tar.xz");
        assert_eq!(spec.directory.as_deref(), Some(Path::new("./mysql-8.4/x")));
        assert!(!format!("{spec:?}").contains("t-secret"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let digits = format!("archive=/a,sha256={}", &SHA[1..]);
        for (text, error) in [
            ("", "no archive is named"),
            ("sha256=SHA", "no archive is named"),
            ("archive=,sha256=SHA", "no archive is named"),
            ("/opt/mysql.tar.gz", "'/opt/mysql.tar.gz' is neither archive=, sha256= nor directory="),
            ("archive=/a,sha256=SHA,directroy=x", "'directroy=x' is neither"),
            ("archive=/a,archive=/b", "archive= is there twice"),
            ("archive=http://h/a.tar", "sha256= is missing"),
            (&digits, "is not 64 hexadecimal digits"),
            ("archive=mysql.tar", "archive 'mysql.tar' must be an absolute path"),
            ("archive=hdfs://h/a.tar?k=v,sha256=SHA", "archive 'hdfs://h/a.tar' must be"),
            ("archive=https://u:p@h/a.tar,sha256=SHA", "must not hold a user name"),
            ("archive=/a,directory=../b", "directory '../b' must be a path within"),
            ("archive=/a,directory=/b", "directory '/b' must be a path within"),
        ] {
            let said = parse(text).expect_err(text).to_string();
            assert!(said.contains(error), "{text}: {said}");
            assert!(said.contains("archive=PATH-OR-URI,sha256=HEX") || text.contains("u:p"), "{said}");
        }
    }
}
