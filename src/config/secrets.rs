//! Secrets from the environment or from files that only their owner can read.
//!
//! Promises: a secret is zeroised when dropped, prints as nothing, and a file that others can read or
//! write is refused. Never takes one from the YAML. Called by `compile` and `cli::keys`.

use super::problem::Code;
use crate::protocol::{offer::OfferKey, time::UnixMillis};
use base64::{Engine, engine::general_purpose::STANDARD as B64};
use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};
use zeroize::Zeroizing;

/// Length of the keys that are made here, and the least of an offer key, bytes.
pub const KEY_BYTES: usize = 32;
/// Largest secret file, bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Text that is never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// For the one place that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where the process looks for secrets; injected so that tests own it.
#[derive(Clone, Copy)]
pub struct Environment<'e> {
    pub var: &'e dyn Fn(&str) -> Option<String>,
    /// `false` takes every secret for present, to check a file where its secrets are not.
    pub secrets: bool,
}

impl Environment<'_> {
    /// The process's own environment.
    pub fn process() -> Environment<'static> {
        Environment { var: &|name| std::env::var(name).ok(), secrets: true }
    }
}

/// Why a secret cannot be had. Never contains it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the environment variable {0} is not set, or empty")]
    Unset(String),
    #[error("{path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{0} can be used by others than its owner: chmod 600 it, and change the secret if they may have")]
    Mode(String),
    #[error("{0}")]
    Malformed(String),
}

impl SecretError {
    pub const fn code(&self) -> Code {
        match self {
            Self::Unset(_) | Self::Unreadable { .. } => Code::SecretMissing,
            Self::Mode(_) => Code::SecretMode,
            Self::Malformed(_) => Code::SecretMalformed,
        }
    }
}

pub fn from_env(name: &str, environment: &Environment<'_>) -> Result<Secret, SecretError> {
    let value = (environment.var)(name).filter(|value| !value.trim().is_empty());
    value.map(|value| Secret::new(value.trim().to_owned())).ok_or_else(|| SecretError::Unset(name.to_owned()))
}

/// Reads a file whose mode leaves nothing to group and others, judged on the open file.
pub fn from_file(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |reason: String| SecretError::Unreadable { path: path.display().to_string(), reason };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let facts = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if !facts.is_file() {
        return Err(unreadable("not a file".to_owned()));
    }
    if facts.mode() & 0o077 != 0 {
        return Err(SecretError::Mode(path.display().to_string()));
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        return Err(unreadable("too large".to_owned()));
    }
    Ok(Secret::new(text.trim().to_owned()))
}

/// Creates a file only its owner can read; never overwrites.
pub fn create_file(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// One key of a file of keys.
pub(super) struct KeyEntry<'s> {
    /// From 1.
    pub number: usize,
    pub name: &'s str,
    pub key: Zeroizing<Vec<u8>>,
    /// What follows the key after a colon.
    pub rest: Option<&'s str>,
}

impl KeyEntry<'_> {
    pub fn malformed(&self, why: &str) -> SecretError {
        malformed(self.number, why)
    }
}

fn malformed(number: usize, why: &str) -> SecretError {
    SecretError::Malformed(format!("keys, entry {number}: {why}"))
}

/// Keys, one a line: `name:base64`, perhaps with more after another colon. Names occur once.
/// Empty lines and lines that start with `#` are skipped; `,` separates too, for environment variables.
pub(super) fn key_entries(secret: &Secret) -> Result<Vec<KeyEntry<'_>>, SecretError> {
    let mut found: Vec<KeyEntry<'_>> = Vec::new();
    let entries = secret.expose().lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| line.split(','));
    for (number, entry) in entries.map(str::trim).filter(|entry| !entry.is_empty()).enumerate().map(|(i, entry)| (i + 1, entry)) {
        let mut fields = entry.splitn(3, ':');
        let (name, key) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
            return Err(malformed(number, "a key's name is 1 to 32 letters, digits, - or _, then a colon"));
        }
        let key = Zeroizing::new(B64.decode(key).map_err(|_| malformed(number, "the key is not padded base64"))?);
        if found.iter().any(|earlier| earlier.name == name) {
            return Err(malformed(number, "the key's name occurs twice"));
        }
        found.push(KeyEntry { number, name, key, rest: fields.next() });
    }
    Ok(found)
}

/// Offer keys: [`key_entries`] of at least 32 bytes, perhaps with `:not_after` in Unix seconds. The first signs, all verify.
pub fn parse_offer_keys(secret: &Secret) -> Result<Vec<OfferKey>, SecretError> {
    let mut keys: Vec<OfferKey> = Vec::new();
    for entry in key_entries(secret)? {
        if entry.key.len() < KEY_BYTES {
            return Err(entry.malformed("the key is shorter than 32 bytes"));
        }
        let not_after = match entry.rest {
            None => None,
            Some(text) => {
                let seconds = crate::protocol::amount::parse_canonical_u64(text);
                Some(seconds.map(UnixMillis::from_seconds).ok_or_else(|| entry.malformed("the end is not a time in Unix seconds"))?)
            }
        };
        keys.push(OfferKey { kid: entry.name.to_owned(), key: entry.key, not_after });
    }
    match keys.first() {
        None => Err(SecretError::Malformed("offer keys: there is none; create one with `kas402 keys new`".to_owned())),
        Some(first) if first.not_after.is_some() => Err(malformed(1, "the first key signs, so it has no end")),
        Some(_) => Ok(keys),
    }
}

/// One line for [`key_entries`].
pub fn key_line(name: &str, key: &[u8; KEY_BYTES]) -> Zeroizing<String> {
    Zeroizing::new(format!("{name}:{}\n", B64.encode(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn offer_keys_are_read_strictly() {
        let key = B64.encode([7; 32]);
        let short = B64.encode([7; 31]);
        for (text, expect) in [
            (format!("a:{key}"), Some(1)),
            (format!("# first signs\na:{key}\n\n old:{key}:1700000000\n"), Some(2)),
            (format!("a:{key},b:{key}"), Some(2)),
            (String::new(), None),
            ("# only a comment".to_owned(), None),
            (key.clone(), None),
            (format!(":{key}"), None),
            (format!("a b:{key}"), None),
            (format!("a:{short}"), None),
            ("a:zz".to_owned(), None),
            (format!("a:{key}:tomorrow"), None),
            (format!("a:{key}:1700000000"), None),
            (format!("a:{key}\na:{key}"), None),
        ] {
            let got = parse_offer_keys(&Secret::new(text.clone()));
            if let Err(error) = &got {
                assert!(!error.to_string().contains(&key[..8]), "an error never shows a key: {error}");
            }
            assert_eq!(got.ok().map(|keys| keys.len()), expect, "{text:?}");
        }
    }

    #[test]
    fn a_key_file_is_made_for_its_owner_only_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offer.keys");
        create_file(&path, &key_line("k1", &[9; 32])).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(parse_offer_keys(&from_file(&path).unwrap()).unwrap()[0].kid, "k1");
        assert_eq!(create_file(&path, "x").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_file_others_can_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        create_file(&path, "t\n").unwrap();
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o610, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let got = from_file(&path);
            assert_eq!(got.is_ok(), fine, "{mode:o}");
            assert!(fine || got.is_err_and(|error| error.code() == Code::SecretMode));
        }
        assert_eq!(from_file(&folder.path().join("none")).unwrap_err().code(), Code::SecretMissing);
        assert_eq!(from_file(folder.path()).unwrap_err().code(), Code::SecretMissing);
    }

    #[test]
    fn a_secret_prints_as_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hidden".to_owned())), "Secret(..)");
    }
}
