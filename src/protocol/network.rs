//! The networks of the wire (PROTOCOL section 1).

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A network identifier as it stands on the wire. Aliases without a colon do not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Network {
    #[serde(rename = "kaspa:mainnet")]
    Mainnet,
    #[serde(rename = "kaspa:testnet-10")]
    Testnet10,
    #[serde(rename = "kaspa:simnet")]
    Simnet,
}

impl Network {
    pub const ALL: [Network; 3] = [Self::Mainnet, Self::Testnet10, Self::Simnet];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mainnet => "kaspa:mainnet",
            Self::Testnet10 => "kaspa:testnet-10",
            Self::Simnet => "kaspa:simnet",
        }
    }

    /// The prefix of this network's addresses.
    pub const fn address_prefix(self) -> kaspa_addresses::Prefix {
        match self {
            Self::Mainnet => kaspa_addresses::Prefix::Mainnet,
            Self::Testnet10 => kaspa_addresses::Prefix::Testnet,
            Self::Simnet => kaspa_addresses::Prefix::Simnet,
        }
    }

    /// The node's own name of the network.
    pub fn id(self) -> kaspa_consensus_core::network::NetworkId {
        use kaspa_consensus_core::network::{NetworkId, NetworkType};
        match self {
            Self::Mainnet => NetworkId::new(NetworkType::Mainnet),
            Self::Testnet10 => NetworkId::with_suffix(NetworkType::Testnet, 10),
            Self::Simnet => NetworkId::new(NetworkType::Simnet),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not one of the three identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network: use kaspa:testnet-10, kaspa:mainnet or kaspa:simnet")]
pub struct UnknownNetwork;

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(text: &str) -> Result<Self, UnknownNetwork> {
        Self::ALL.into_iter().find(|n| n.as_str() == text).ok_or(UnknownNetwork)
    }
}
