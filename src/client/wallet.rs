//! A wallet of one key, kept in one file that only its owner may read.
//!
//! Promises: the file is created once and never overwritten, is refused when others may read
//! it, and the secret leaves this module only through [`Wallet::secret_hex`]. `Debug` shows the
//! address. Used by the buyer ([`super::paid`]) and the command line.

use crate::protocol::{ids::XOnlyKey, network::Network};
use hkdf::Hkdf;
use kaspa_addresses::{Address, Version};
use kaspa_consensus_core::tx::ScriptPublicKey;
use kaspa_txscript::pay_to_address_script;
use secp256k1::{Keypair, Message, SECP256K1, SecretKey};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use zeroize::{Zeroize, Zeroizing};

/// The only version of the file's shape.
const FILE_VERSION: u32 = 1;
/// A wallet file is a few hundred bytes; more is not one.
const FILE_BYTES: u64 = 16 * 1024;
const CHANNEL_KEY_INFO: &[u8] = b"kas402 channel key v1";

/// Why a wallet cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    #[error("{0} exists already; a wallet is never overwritten")]
    Exists(PathBuf),
    #[error("there is no wallet at {0}; make one with `kas402 wallet new`")]
    Missing(PathBuf),
    #[error("{path} may be read by others (mode {mode:o}); run `chmod 600 {path}` first", path = path.display(), mode = mode)]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("{0} is not a wallet file of version 1")]
    Malformed(PathBuf),
    #[error("the address in {0} does not belong to its key")]
    AddressMismatch(PathBuf),
    #[error("these 32 bytes are not a secp256k1 secret key")]
    NotASecret,
    #[error("cannot use {path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// One secp256k1 key on one network, paid through its P2PK Schnorr address.
pub struct Wallet {
    network: Network,
    keypair: Keypair,
}

/// The key of one channel: signs its vouchers and its refund.
///
/// Each channel has its own, derived from the wallet's secret and a small number: two channels to one server then never share a
/// script (salts are not in scripts), servers cannot link a channel to the wallet's coins by its key, and a wallet whose journal
/// is lost still finds every key by counting from 0.
pub struct ChannelKey(Keypair);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WalletFile {
    version: u32,
    network: Network,
    /// For people and for a check against a mixed-up file; the key decides.
    address: String,
    secret_key: String,
}

impl Drop for WalletFile {
    fn drop(&mut self) {
        self.secret_key.zeroize();
    }
}

impl Wallet {
    /// A wallet of the given secret.
    pub fn from_secret(network: Network, secret: &[u8; 32]) -> Result<Self, WalletError> {
        let keypair = Keypair::from_seckey_slice(SECP256K1, secret).map_err(|_| WalletError::NotASecret)?;
        Ok(Self { network, keypair })
    }

    /// A new random key; the randomness comes from the caller.
    pub fn generate<R: rand::Rng + rand::CryptoRng>(network: Network, rng: &mut R) -> Self {
        Self { network, keypair: Keypair::from_secret_key(SECP256K1, &SecretKey::new(rng)) }
    }

    /// Reads the file, and refuses it when anybody but the owner may.
    pub fn load(path: &Path) -> Result<Self, WalletError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => WalletError::Missing(path.to_owned()),
            _ => WalletError::Io { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(io)?;
        refuse_open_mode(&file, path)?;
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES).read_to_string(&mut text).map_err(io)?;
        let parsed: WalletFile = serde_json::from_str(&text).map_err(|_| WalletError::Malformed(path.to_owned()))?;
        let mut secret = Zeroizing::new([0; 32]);
        let decoded = hex::decode_to_slice(parsed.secret_key.as_bytes(), secret.as_mut());
        if parsed.version != FILE_VERSION || decoded.is_err() {
            return Err(WalletError::Malformed(path.to_owned()));
        }
        let wallet = Self::from_secret(parsed.network, &secret)?;
        if wallet.address().to_string() != parsed.address {
            return Err(WalletError::AddressMismatch(path.to_owned()));
        }
        Ok(wallet)
    }

    /// Writes a new file with mode 0600, durable before it returns. Never overwrites.
    pub fn create(&self, path: &Path) -> Result<(), WalletError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => WalletError::Exists(path.to_owned()),
            _ => WalletError::Io { path: path.to_owned(), source },
        };
        let file = WalletFile {
            version: FILE_VERSION,
            network: self.network,
            address: self.address().to_string(),
            secret_key: self.secret_hex().to_string(),
        };
        let text = Zeroizing::new(serde_json::to_string_pretty(&file).expect("a struct of strings and a number is JSON"));
        make_private_parent(path).map_err(io)?;
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.sync_all()).map_err(io)?;
        sync_parent(path).map_err(io)
    }

    pub fn network(&self) -> Network {
        self.network
    }

    /// Where this wallet is paid.
    pub fn address(&self) -> Address {
        Address::new(self.network.address_prefix(), Version::PubKey, &self.public_key().0)
    }

    /// The script of [`Wallet::address`].
    pub fn script(&self) -> ScriptPublicKey {
        pay_to_address_script(&self.address())
    }

    pub fn public_key(&self) -> XOnlyKey {
        XOnlyKey(self.keypair.x_only_public_key().0.serialize())
    }

    /// BIP340 Schnorr over a raw 32-byte digest; `aux` is fresh randomness that hardens the nonce.
    pub fn sign_digest(&self, digest: &[u8; 32], aux: &[u8; 32]) -> [u8; 64] {
        *SECP256K1.sign_schnorr_with_aux_rand(&Message::from_digest(*digest), &self.keypair, aux).as_ref()
    }

    /// The key of the channel with this number: HKDF-SHA256 of the wallet's secret.
    pub fn channel_key(&self, index: u32) -> ChannelKey {
        let secret = Zeroizing::new(self.keypair.secret_bytes());
        let hkdf = Hkdf::<Sha256>::new(None, secret.as_ref());
        let mut derived = Zeroizing::new([0; 32]);
        // All but about one in 2^128 outputs are a key; the next round serves the rest.
        (0..=u8::MAX)
            .find_map(|round| {
                let info = [CHANNEL_KEY_INFO, &index.to_be_bytes(), &[round]].concat();
                hkdf.expand(&info, derived.as_mut()).expect("32 bytes are a possible length");
                Keypair::from_seckey_slice(SECP256K1, derived.as_ref()).ok()
            })
            .map(ChannelKey)
            .expect("256 outputs in a row that are no key")
    }

    /// The secret, for a person who asked to see it. Nothing else may call this.
    pub fn secret_hex(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(self.keypair.secret_bytes());
        Zeroizing::new(hex::encode(secret.as_ref()))
    }
}

impl ChannelKey {
    pub fn public_key(&self) -> XOnlyKey {
        XOnlyKey(self.0.x_only_public_key().0.serialize())
    }

    /// As [`Wallet::sign_digest`].
    pub fn sign_digest(&self, digest: &[u8; 32], aux: &[u8; 32]) -> [u8; 64] {
        *SECP256K1.sign_schnorr_with_aux_rand(&Message::from_digest(*digest), &self.0, aux).as_ref()
    }
}

impl Drop for ChannelKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelKey({})", self.public_key())
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({})", self.address())
    }
}

impl Drop for Wallet {
    fn drop(&mut self) {
        self.keypair.non_secure_erase();
    }
}

/// Refuses a file that group or others may read or write.
pub(super) fn refuse_open_mode(file: &File, path: &Path) -> Result<(), WalletError> {
    let metadata = file.metadata().map_err(|source| WalletError::Io { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 { Err(WalletError::TooOpen { path: path.to_owned(), mode }) } else { Ok(()) }
}

/// Creates the folder of `path` for its owner only, when it is missing.
pub(super) fn make_private_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent),
        _ => Ok(()),
    }
}

/// Makes the directory entry of a new file durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallet() -> Wallet {
        Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap()
    }

    #[test]
    fn a_wallet_comes_back_from_its_file_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/wallet.json");
        wallet().create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let back = Wallet::load(&path).unwrap();
        assert_eq!(back.address(), wallet().address());
        assert_eq!(back.secret_hex(), wallet().secret_hex());
        for mode in [0o640, 0o604, 0o660, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Wallet::load(&path), Err(WalletError::TooOpen { .. })), "{mode:o}");
        }
    }

    #[test]
    fn a_wallet_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wallet.json");
        wallet().create(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        let other = Wallet::from_secret(Network::Simnet, &[8; 32]).unwrap();
        assert!(matches!(other.create(&path), Err(WalletError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn damaged_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wallet.json");
        wallet().create(&path).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let check = |text: String, expect: fn(&WalletError) -> bool| {
            std::fs::write(&path, &text).unwrap();
            let error = Wallet::load(&path).expect_err(&text);
            assert!(expect(&error), "{error} for {text}");
        };
        let malformed = |e: &WalletError| matches!(e, WalletError::Malformed(_));
        check(String::new(), malformed);
        check(good.replace("\"version\": 1", "\"version\": 2"), malformed);
        check(good.replace("kaspa:simnet", "simnet"), malformed);
        check(good.replace("0707", "07zz"), malformed);
        check(good.replace('{', "{\"more\": 1,"), malformed);
        check(good.replace("kaspa:simnet", "kaspa:mainnet"), |e| matches!(e, WalletError::AddressMismatch(_)));
        check(good.replace(&"07".repeat(32), &"08".repeat(32)), |e| matches!(e, WalletError::AddressMismatch(_)));
        check(good.replace(&"07".repeat(32), &"00".repeat(32)), |e| matches!(e, WalletError::NotASecret));
        assert!(matches!(Wallet::load(&dir.path().join("none")), Err(WalletError::Missing(_))));
    }

    #[test]
    fn every_channel_has_a_key_of_its_own_that_the_wallet_finds_again() {
        let keys: std::collections::HashSet<_> = (0..50).map(|index| wallet().channel_key(index).public_key().0).collect();
        assert_eq!(keys.len(), 50);
        assert!(!keys.contains(&wallet().public_key().0));
        let other = Wallet::from_secret(Network::Simnet, &[8; 32]).unwrap();
        assert_ne!(wallet().channel_key(3).public_key(), other.channel_key(3).public_key());
        // Computed with Python's hmac: HKDF-SHA256 of 32 bytes 07 without salt, info "kas402 channel key v1" 00000003 00,
        // and the x coordinate of that multiple of the generator.
        assert_eq!(wallet().channel_key(3).public_key().to_string(), "14e2b1140a13f2ea55a05ddb37b18aeca25ecf20a609b6fd980270008a090f22");
        let key = wallet().channel_key(3);
        let signature = secp256k1::schnorr::Signature::from_slice(&key.sign_digest(&[5; 32], &[6; 32])).unwrap();
        let public = secp256k1::XOnlyPublicKey::from_slice(&key.public_key().0).unwrap();
        SECP256K1.verify_schnorr(&signature, &Message::from_digest([5; 32]), &public).unwrap();
        assert!(!format!("{key:?}").contains(&hex::encode(key.0.secret_bytes())));
    }

    #[test]
    fn the_secret_never_shows_in_debug_output() {
        let shown = format!("{:?}", wallet());
        assert!(shown.contains("kaspasim:") && !shown.contains(wallet().secret_hex().as_str()));
    }
}
