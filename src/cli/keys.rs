//! `kas402 keys`: make and check the file of offer keys. Never prints a key.

use super::{fail, say};
use crate::{
    config::secrets::{self, OFFER_KEY_BYTES},
    runtime::{clock, random},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use zeroize::Zeroizing;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a file with a new offer key that only you can read; never overwrites.
    New {
        #[arg(default_value = "offer.keys")]
        file: PathBuf,
        /// Name of the key; default made of the time.
        #[arg(long)]
        kid: Option<String>,
    },
    /// Check a file of offer keys and list their names.
    Check {
        #[arg(default_value = "offer.keys")]
        file: PathBuf,
    },
}

pub fn run(command: &Command) -> ExitCode {
    let done = match command {
        Command::New { file, kid } => create(file, kid.as_deref()),
        Command::Check { file } => check(file),
    };
    match done {
        Ok(text) => {
            say(text);
            ExitCode::SUCCESS
        }
        Err(why) => fail(why),
    }
}

/// A new file with one key.
pub fn create(file: &Path, kid: Option<&str>) -> Result<String, String> {
    let kid = kid.map_or_else(|| format!("k{}", clock::now().seconds()), str::to_owned);
    let mut key = Zeroizing::new([0; OFFER_KEY_BYTES]);
    for half in key.chunks_exact_mut(16) {
        half.copy_from_slice(&random::bytes());
    }
    let line = secrets::offer_key_line(&kid, &key);
    secrets::parse_offer_keys(&secrets::Secret::new(line.to_string())).map_err(|error| error.to_string())?;
    secrets::create_file(file, &line).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(format!("wrote {} with the new offer key {kid}", file.display()))
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
}
