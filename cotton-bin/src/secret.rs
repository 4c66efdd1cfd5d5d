//! Passwords: made, sealed for storage, opened where they are used, compared in constant time.
//!
//! Sealed text is base64 of what Apache Cotton stored: a NaCl secret box (XSalsa20-Poly1305) with its random nonce in
//! front. Clear texts live in [`SecretString`]s, which neither `Debug` nor logs show.

use crate::trust::{self, ExposedSecret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cotton_core::Sealed;
use cotton_core::spec::PASSWORD_BYTES_MAX;
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use secrecy::{ExposeSecret, SecretString};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const PASSWORD_LENGTH: usize = 21;
const PASSWORD_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read or made.
    #[error("could not use key file '{path}'")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("key file {0}")]
    Exposed(ExposedSecret),
    /// Nothing in it but white space.
    #[error("key file '{0}' is empty: it must hold {KEY_BYTES} bytes")]
    Empty(PathBuf),
    /// Not a key.
    #[error("key file '{path}' must hold {KEY_BYTES} bytes besides white space around them, not {found}")]
    Length {
        /// Which file.
        path: PathBuf,
        /// How many bytes it holds.
        found: usize,
    },
}

/// Sealed text cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored password cannot be opened: it is damaged, or was sealed with another key")]
pub struct OpenError;

/// The operating system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoRandomness;

/// The key under which passwords are stored.
#[derive(Clone)]
pub struct SealingKey(XSalsa20Poly1305);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

impl SealingKey {
    /// From its bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(XSalsa20Poly1305::new(&Key::from(bytes)))
    }

    /// Reads a key file; white space around the key is not part of it.
    ///
    /// # Errors
    /// When it cannot be read or others can read it, is empty, or holds something else than 32 bytes.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File { path: path.to_owned(), source };
        trust::secret_file(path).map_err(file)?.map_err(KeyError::Exposed)?;
        let content = std::fs::read(path).map_err(file)?;
        let stripped = strip(&content);
        if stripped.is_empty() {
            return Err(KeyError::Empty(path.to_owned()));
        }
        let length = || KeyError::Length { path: path.to_owned(), found: stripped.len() };
        Ok(Self::new(stripped.try_into().map_err(|_| length())?))
    }

    /// Reads a key file, after making it (mode 0600) when there is none.
    ///
    /// # Errors
    /// As [`load`](Self::load); also when it cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File { path: path.to_owned(), source };
        if !path.try_exists().map_err(file)? {
            create(path).map_err(file)?;
        }
        Self::load(path)
    }

    /// Seals a password for storage.
    ///
    /// # Errors
    /// When there is no randomness for the nonce.
    ///
    /// # Panics
    /// Never: a password fits into a secret box.
    pub fn seal(&self, clear: &SecretString) -> Result<Sealed, NoRandomness> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| NoRandomness)?;
        let sealed = self.0.encrypt(&Nonce::from(nonce), clear.expose_secret().as_bytes());
        let sealed = sealed.expect("only messages of many gigabytes do not fit");
        Ok(Sealed::new(BASE64.encode([&nonce, sealed.as_slice()].concat())))
    }

    /// Opens what [`seal`](Self::seal) made.
    ///
    /// # Errors
    /// When it is damaged or was sealed with another key.
    pub fn open(&self, sealed: &Sealed) -> Result<SecretString, OpenError> {
        let bytes = BASE64.decode(sealed.as_str()).map_err(|_| OpenError)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError)?;
        let clear = self.0.decrypt(&Nonce::from(*nonce), sealed).map_err(|_| OpenError)?;
        String::from_utf8(clear).map(SecretString::from).map_err(|_| OpenError)
    }

    /// Whether `candidate` is the sealed password. How long it takes tells nothing about the password.
    ///
    /// # Errors
    /// When the stored one cannot be opened.
    pub fn matches(&self, sealed: &Sealed, candidate: &str) -> Result<bool, OpenError> {
        Ok(same(self.open(sealed)?.expose_secret(), candidate))
    }
}

/// A new password: 21 characters of A-Z, a-z and 0-9, each as likely as any other.
///
/// # Errors
/// When there is no randomness.
pub fn generate_password() -> Result<SecretString, NoRandomness> {
    const UNBIASED: u8 = 4 * 62; // the rest would favour the first letters
    let mut password = String::with_capacity(PASSWORD_LENGTH);
    let mut random = [0; 32];
    while password.len() < PASSWORD_LENGTH {
        getrandom::fill(&mut random).map_err(|_| NoRandomness)?;
        let characters = random.iter().filter(|&&byte| byte < UNBIASED);
        let characters = characters.map(|&byte| char::from(PASSWORD_ALPHABET[usize::from(byte) % 62]));
        password.extend(characters.take(PASSWORD_LENGTH - password.len()));
    }
    Ok(password.into())
}

/// Compares in a time that depends on neither text: both are padded to the longest password allowed.
fn same(stored: &str, candidate: &str) -> bool {
    const ROOM: usize = PASSWORD_BYTES_MAX;
    if stored.len() > ROOM || candidate.len() > ROOM {
        return false; // no password is that long, so this tells nothing of the stored one
    }
    let pad = |text: &str| {
        let mut padded = [0u8; ROOM];
        padded[..text.len()].copy_from_slice(text.as_bytes());
        padded
    };
    let length = (stored.len() as u64).ct_eq(&(candidate.len() as u64));
    (pad(stored).ct_eq(&pad(candidate)) & length).into()
}

/// Cuts off what Python's `strip` does.
fn strip(content: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let begin = content.iter().position(|byte| !is_space(byte)).unwrap_or(content.len());
    let end = content.iter().rposition(|byte| !is_space(byte)).map_or(begin, |last| last + 1);
    &content[begin..end]
}

fn create(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    loop {
        getrandom::fill(&mut key).map_err(|_| io::Error::other(NoRandomness))?;
        if strip(&key).len() == KEY_BYTES {
            break; // a key that begins or ends with white space would be cut when read
        }
    }
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()), // made meanwhile
        other => other?,
    };
    file.write_all(&key)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key() -> SealingKey {
        SealingKey::new([7; KEY_BYTES])
    }

    #[test]
    fn seals_and_opens() {
        for clear in ["", "x", "pass word", &"p".repeat(PASSWORD_BYTES_MAX)] {
            let sealed = key().seal(&clear.into()).expect("randomness");
            assert_eq!(key().open(&sealed).expect("opens").expose_secret(), clear);
            assert_ne!(key().seal(&clear.into()), Ok(sealed), "a nonce is used once");
        }
    }

    #[test]
    fn opens_a_box_of_nacl() {
        // PyNaCl: SecretBox(b"\x07" * 32).encrypt(b"secret", b"\x01" * 24)
        let sealed = Sealed::new("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBMWG5cnxegBiWQO6u2gtEo/qOIaxLtA==");
        assert_eq!(key().open(&sealed).expect("opens").expose_secret(), "secret");
    }

    #[test]
    fn damage_and_other_keys_are_noticed() {
        let sealed = key().seal(&"secret".into()).expect("randomness");
        assert!(SealingKey::new([8; KEY_BYTES]).open(&sealed).is_err());
        let damaged = sealed.as_str().replacen(|c: char| c.is_ascii_alphabetic(), "0", 1);
        for bad in ["", "AAAA", "not base64!", &damaged, &sealed.as_str()[..40]] {
            assert!(key().open(&Sealed::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn compares_whole_passwords() {
        let sealed = key().seal(&"secret".into()).expect("randomness");
        assert_eq!(key().matches(&sealed, "secret"), Ok(true));
        for wrong in ["", "secre", "secret\0", "secrets", "Secret", &"s".repeat(1000)] {
            assert_eq!(key().matches(&sealed, wrong), Ok(false), "{wrong:?}");
        }
    }

    #[test]
    fn generated_passwords_are_allowed_and_differ() {
        let one = generate_password().expect("randomness");
        assert_eq!(one.expose_secret().len(), PASSWORD_LENGTH);
        assert_eq!(cotton_core::spec::validate_password(one.expose_secret()), Ok(()));
        assert_ne!(one.expose_secret(), generate_password().expect("randomness").expose_secret());
    }

    #[test]
    fn generated_passwords_use_every_character() {
        let many: String =
            (0..200).map(|_| generate_password().expect("randomness").expose_secret().to_owned()).collect();
        for character in PASSWORD_ALPHABET {
            assert!(many.contains(char::from(*character)), "{}", char::from(*character));
        }
    }

    #[test]
    fn key_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        assert!(matches!(SealingKey::load(&path), Err(KeyError::File { .. })));
        let sealed = SealingKey::load_or_create(&path).expect("made").seal(&"x".into()).expect("randomness");
        assert_eq!(path.metadata().expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(SealingKey::load_or_create(&path).expect("read").open(&sealed).expect("opens").expose_secret(), "x");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
        let exposed = SealingKey::load_or_create(&path).expect_err("others can read it").to_string();
        assert!(exposed.contains("chmod 600"), "{exposed}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");

        std::fs::write(&path, " \n\x0b").expect("written");
        assert!(matches!(SealingKey::load_or_create(&path), Err(KeyError::Empty(_))));
        std::fs::write(&path, "too short").expect("written");
        assert!(matches!(SealingKey::load(&path), Err(KeyError::Length { found: 9, .. })));
        std::fs::write(&path, [b"\n ", [7; KEY_BYTES].as_slice(), b" \r\n"].concat()).expect("written");
        assert_eq!(
            SealingKey::load(&path)
                .map(|key| key.open(&self::key().seal(&"x".into()).expect("randomness")).is_ok())
                .ok(),
            Some(true)
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", key()), "SealingKey(..)");
    }
}
