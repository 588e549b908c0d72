//! The file of server keys: secret keys that sign claims of escrow channels.
//!
//! Promises: one key opens channels, the first; every other one is marked `claim_only` and only claims what its channels
//! owe. Never shows a secret. Called by `compile` and `cli::keys`.

use super::secrets::{self, KEY_BYTES, KeyEntry, Secret, SecretError};
use crate::binding::escrow_v1::{ServerKey, ServerKeys};
use zeroize::Zeroizing;

/// After a key's colon: it claims, and does nothing else any more.
const CLAIM_ONLY: &str = "claim_only";

/// A key and the name its line gives it.
pub struct NamedKey {
    pub name: String,
    pub key: ServerKey,
}

/// Server keys, one a line: `name:base64` of a secret key, `:claim_only` after every one but the first. Comments, separators
/// and names as in the file of offer keys.
pub fn parse(secret: &Secret) -> Result<Vec<NamedKey>, SecretError> {
    let mut keys: Vec<NamedKey> = Vec::new();
    for entry in secrets::key_entries(secret)? {
        let key = server_key(&entry)?;
        if !key.claim_only() && !keys.is_empty() {
            return Err(entry.malformed("the first key opens channels; put :claim_only behind this one, or put it first"));
        }
        if keys.iter().any(|earlier| earlier.key.public() == key.public()) {
            return Err(entry.malformed("the key occurs twice"));
        }
        keys.push(NamedKey { name: entry.name.to_owned(), key });
    }
    if keys.is_empty() {
        return Err(SecretError::Malformed("server keys: there is none; create one with `kas402 keys new --server`".to_owned()));
    }
    Ok(keys)
}

fn server_key(entry: &KeyEntry<'_>) -> Result<ServerKey, SecretError> {
    let claim_only = match entry.rest {
        None => false,
        Some(CLAIM_ONLY) => true,
        Some(_) => return Err(entry.malformed("after the key there is only :claim_only, or nothing")),
    };
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if entry.key.len() != bytes.len() {
        return Err(entry.malformed("a server key has 32 bytes"));
    }
    bytes.copy_from_slice(&entry.key);
    ServerKey::new(&bytes, claim_only).map_err(|error| entry.malformed(&error.to_string()))
}

/// Without their names.
pub fn server_keys(keys: Vec<NamedKey>) -> ServerKeys {
    ServerKeys::new(keys.into_iter().map(|named| named.key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD as B64};

    #[test]
    fn server_keys_are_read_strictly() {
        let [a, b] = [[7; 32], [8; 32]].map(|key| B64.encode(key));
        let [short, long, zero] = [vec![7; 31], vec![7; 33], vec![0; 32]].map(|key| B64.encode(key));
        for (text, expect) in [
            (format!("a:{a}"), Some(vec![false])),
            (format!("# opens\na:{a}\n\n old:{b}:claim_only\n"), Some(vec![false, true])),
            (format!("a:{a}:claim_only,b:{b}:claim_only"), Some(vec![true, true])),
            (format!("a:{a},b:{b}"), None),
            (format!("a:{a}:claim_only,b:{b}"), None),
            (format!("a:{a},b:{a}:claim_only"), None),
            (format!("a:{a},a:{b}:claim_only"), None),
            (format!("a:{a}:claim-only"), None),
            (format!("a:{a}:1700000000"), None),
            (format!("a:{a}:"), None),
            (format!("a:{short}"), None),
            (format!("a:{long}"), None),
            (format!("a:{zero}"), None),
            (a.clone(), None),
            (String::new(), None),
        ] {
            let got = parse(&Secret::new(text.clone()));
            if let Err(error) = &got {
                let said = error.to_string();
                assert!(!said.contains(&a[..8]) && !said.contains(&b[..8]), "an error never shows a key: {said}");
            }
            let claim_only = got.ok().map(|keys| keys.iter().map(|named| named.key.claim_only()).collect::<Vec<_>>());
            assert_eq!(claim_only, expect, "{text:?}");
        }
    }

    #[test]
    fn the_first_key_opens_channels() {
        let text = [secrets::key_line("new", &[7; 32]).to_string(), format!("old:{}:claim_only", B64.encode([8; 32]))].concat();
        let named = parse(&Secret::new(text)).unwrap();
        assert_eq!(named.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["new", "old"]);
        let keys = server_keys(named);
        let expect = ServerKey::new(&[7; 32], false).unwrap().public();
        assert_eq!(keys.opening().map(ServerKey::public), Some(expect));
        assert!(keys.find(&ServerKey::new(&[8; 32], true).unwrap().public()).unwrap().claim_only());
    }
}
