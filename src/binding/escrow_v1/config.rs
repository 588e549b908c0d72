//! The configuration of a channel and the id that names it.
//!
//! Promises: one id per configuration, to the letter of its address texts. Never decides whether the
//! terms in it are acceptable; that is `verify`.

use super::digest::{Preimage, sha256};
use crate::protocol::{
    decimal,
    ids::{ChannelId, Salt, XOnlyKey},
    limits::LOCK_TIME_THRESHOLD,
    network::Network,
    requirements::{Asset, TemplateId},
};
use kaspa_addresses::Address;
use serde::{Deserialize, Serialize};

/// As it stands on the wire; everything that tells one channel from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelConfig {
    pub network: Network,
    pub asset: Asset,
    pub template_id: TemplateId,
    /// Signs vouchers and the refund.
    pub client_public_key: XOnlyKey,
    /// Signs claims.
    pub server_public_key: XOnlyKey,
    /// Where claims pay to.
    pub pay_to: String,
    /// Where the refund pays to.
    pub refund_address: String,
    /// The refund is valid in blocks whose DAA score is greater than this.
    #[serde(with = "decimal")]
    pub refund_timeout_daa: u64,
    pub salt: Salt,
}

/// Why a configuration describes no channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} is not an address")]
    NotAnAddress(&'static str),
    #[error("{0} is an address of another network")]
    OtherNetwork(&'static str),
    #[error("refundTimeoutDaa is a timestamp to the network: it must stay below {LOCK_TIME_THRESHOLD}")]
    Timeout,
    #[error("{0} is not a public key")]
    NotAKey(&'static str),
}

impl ChannelConfig {
    const DOMAIN: &str = "kaspa:x402:channel:v1";

    /// What is hashed to the id.
    pub fn id_preimage(&self) -> Vec<u8> {
        Preimage::new(Self::DOMAIN)
            .hashed(self.network.as_str())
            .hashed("KAS")
            .hashed(self.template_id.as_str())
            .bytes(&self.client_public_key.0)
            .bytes(&self.server_public_key.0)
            .hashed(&self.pay_to)
            .hashed(&self.refund_address)
            .u64(self.refund_timeout_daa)
            .bytes(&self.salt.0)
            .into_bytes()
    }

    pub fn channel_id(&self) -> ChannelId {
        ChannelId(sha256(self.id_preimage()))
    }
}

/// `text` as an address of `network`, in its one spelling.
pub(super) fn address(text: &str, network: Network, field: &'static str) -> Result<Address, ConfigError> {
    let address = Address::try_from(text).map_err(|_| ConfigError::NotAnAddress(field))?;
    if address.prefix != network.address_prefix() {
        return Err(ConfigError::OtherNetwork(field));
    }
    // Two spellings of one address would be two channels over one script.
    if address.to_string() != text {
        return Err(ConfigError::NotAnAddress(field));
    }
    Ok(address)
}
