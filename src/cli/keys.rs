//! `kas402 keys`: make and check the files of keys. Never prints a secret.

use super::{fail, say};
use crate::{
    binding::escrow_v1::ServerKey,
    config::{
        secrets::{self, KEY_BYTES, Secret, SecretError},
        server_keys,
    },
    runtime::{clock, random},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use zeroize::Zeroizing;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a file with a new key that only you can read; never overwrites.
    New {
        /// Default: offer.keys, with --server server.keys
        file: Option<PathBuf>,
        /// Name of the key; default made of the time.
        #[arg(long)]
        kid: Option<String>,
        /// A key that signs claims of channels, instead of one that signs offers.
        #[arg(long)]
        server: bool,
    },
    /// Check a file of keys and list their names.
    Check {
        /// Default: offer.keys, with --server server.keys
        file: Option<PathBuf>,
        /// The file holds keys that sign claims of channels.
        #[arg(long)]
        server: bool,
    },
}

pub fn run(command: &Command) -> ExitCode {
    let path = |file: &Option<PathBuf>, server: bool| {
        file.clone().unwrap_or_else(|| PathBuf::from(if server { "server.keys" } else { "offer.keys" }))
    };
    let done = match command {
        Command::New { file, kid, server: false } => create(&path(file, false), kid.as_deref()),
        Command::New { file, kid, server: true } => create_server(&path(file, true), kid.as_deref()),
        Command::Check { file, server: false } => check(&path(file, false)),
        Command::Check { file, server: true } => check_server(&path(file, true)),
    };
    match done {
        Ok(text) => {
            say(text);
            ExitCode::SUCCESS
        }
        Err(why) => fail(why),
    }
}

/// A new file with one offer key.
pub fn create(file: &Path, kid: Option<&str>) -> Result<String, String> {
    let (name, _) = create_with(file, kid, secrets::parse_offer_keys)?;
    Ok(format!("wrote {} with the new offer key {name}", file.display()))
}

/// A new file with one server key.
pub fn create_server(file: &Path, kid: Option<&str>) -> Result<String, String> {
    let (name, keys) = create_with(file, kid, server_keys::parse)?;
    let public = keys.iter().map(|named| named.key.public().to_string()).collect::<String>();
    let warning = "Keep a copy in a safe place: without it nobody can claim what channels owe you.";
    Ok(format!("wrote {} with the new server key {name}\npublic key {public}\n{warning}", file.display()))
}

/// Writes what `parse` takes, and nothing else. Gives the key's name and what was parsed.
fn create_with<K>(file: &Path, kid: Option<&str>, parse: impl FnOnce(&Secret) -> Result<K, SecretError>) -> Result<(String, K), String> {
    let name = kid.map_or_else(|| format!("k{}", clock::now().seconds()), str::to_owned);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for half in key.chunks_exact_mut(16) {
        half.copy_from_slice(&random::bytes());
    }
    let line = secrets::key_line(&name, &key);
    let parsed = parse(&Secret::new(line.to_string())).map_err(|error| error.to_string())?;
    secrets::create_file(file, &line).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok((name, parsed))
}

fn check(file: &Path) -> Result<String, String> {
    let keys = secrets::from_file(file).and_then(|secret| secrets::parse_offer_keys(&secret)).map_err(|error| error.to_string())?;
    let now = clock::now();
    let lines = keys.iter().enumerate().map(|(index, key)| {
        let role = match key.not_after {
            None if index == 0 => "signs and verifies".to_owned(),
            None => "verifies".to_owned(),
            Some(end) if end < now => "has ended: remove it".to_owned(),
            Some(end) => format!("verifies until {} (Unix seconds)", end.seconds()),
        };
        format!("{}: {role}", key.kid)
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn check_server(file: &Path) -> Result<String, String> {
    let keys = secrets::from_file(file).and_then(|secret| server_keys::parse(&secret)).map_err(|error| error.to_string())?;
    let lines = keys.iter().map(|named| format!("{}: {}", named.name, describe(&named.key)));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// What a server key does, and its public half.
pub(super) fn describe(key: &ServerKey) -> String {
    let role = if key.claim_only() { "claims only" } else { "opens channels and claims" };
    format!("{role}, public key {}", key.public())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_checked_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("offer.keys");
        let said = create(&file, Some("first")).unwrap() + &check(&file).unwrap();
        let line = std::fs::read_to_string(&file).unwrap();
        let key = line.trim().split_once(':').unwrap().1;
        assert!(said.contains("first: signs and verifies") && !said.contains(key));
        assert!(create(&file, Some("first")).is_err(), "an existing file is never overwritten");
        assert!(create(&folder.path().join("other"), Some("not a name")).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), line);
    }

    #[test]
    fn two_keys_are_never_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            create(&folder.path().join(name), Some("k")).unwrap();
            std::fs::read_to_string(folder.path().join(name)).unwrap()
        };
        let (a, b) = (read("a"), read("b"));
        assert_ne!(a, b);
        assert!(!a.contains("AAAAAAAAAAAAAAAA"), "both halves are random");
    }

    #[test]
    fn server_keys_are_made_once_for_their_owner_and_named_by_their_public_key() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.keys");
        let made = create_server(&file, Some("first")).unwrap();
        let line = std::fs::read_to_string(&file).unwrap();
        let secret = line.trim().split_once(':').unwrap().1;
        let listed = check_server(&file).unwrap();
        let public = listed.strip_prefix("first: opens channels and claims, public key ").unwrap();
        assert!(public.len() == 64 && made.contains(public), "{listed} {made}");
        assert!(!listed.contains(secret) && !made.contains(secret));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create_server(&file, Some("first")).is_err(), "an existing file is never overwritten");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), line);
    }
}
