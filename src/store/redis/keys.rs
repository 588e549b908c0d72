//! Where everything lies: `{prefix}:{shard}:name`, one hash slot per shard.
//!
//! A record, its rows, the indexes that list it and the sums that count it share a shard, so that one script writes them all. The number of
//! shards is drawn once with the store. Ids are hashes: their first bytes choose the shard; what clients choose is hashed first.

use crate::{
    protocol::{
        ids::{ChannelId, PaymentIdentifier},
        network::Network,
    },
    store::{
        PaymentKey,
        channels::OutpointKey,
        codec::{self, KeyBytes, channels::outpoint_bytes},
    },
};
use sha2::{Digest, Sha256};

/// Shards of a new store: enough to spread over any cluster, few enough to be asked all at once.
pub const SHARDS: u16 = 128;

/// Names within a shard.
pub(super) mod names {
    pub const PAYMENTS: &str = "payments";
    pub const ACTIVE: &str = "payments-active";
    pub const CHANNELS: &str = "channels";
    pub const OPEN: &str = "channels-open";
    pub const TOTALS: &str = "totals";
    pub const FENCE: &str = "fence";
    pub const RESPONSES: &str = "responses";
    pub const RESPONSE_TIMES: &str = "response-times";
    pub const IDENTIFIERS: &str = "identifiers";
    pub const OUTPOINTS: &str = "outpoints";
    pub const SCRIPTS: &str = "scripts";
    /// In shard 0 alone.
    pub const STORE: &str = "store";
    pub const CHECKPOINTS: &str = "checkpoints";
    pub const SERVER_KEYS: &str = "server-keys";
    pub const PAYMENT_COUNT: &str = "payment-count";
    pub const CHANNEL_COUNT: &str = "channel-count";
    /// Written before waiting for replicas.
    pub const WAITS: &str = "waits";
    /// Why a store takes no steps, in every shard, so that every script sees it.
    pub const MARK: &str = "mark";
    /// Never there.
    pub const NO_MARK: &str = "no-mark";
}

#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    shards: u16,
    /// Of a store that is opened to move from or to it.
    past_mark: bool,
}

impl Keys {
    pub fn new(prefix: &str, shards: u16) -> Self {
        Self { prefix: prefix.to_owned(), shards: shards.max(1), past_mark: false }
    }

    pub fn past_mark(self) -> Self {
        Self { past_mark: true, ..self }
    }

    pub fn is_past_mark(&self) -> bool {
        self.past_mark
    }

    /// What scripts of this shard look at before they write.
    pub fn guard(&self, shard: u16) -> Vec<u8> {
        self.of(shard, if self.past_mark { names::NO_MARK } else { names::MARK })
    }

    pub fn all(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.shards
    }

    pub fn of(&self, shard: u16, name: &str) -> Vec<u8> {
        format!("{}:{{{shard}}}:{name}", self.prefix).into_bytes()
    }

    fn under(&self, shard: u16, kind: &str, id: &[u8]) -> Vec<u8> {
        let mut key = format!("{}:{{{shard}}}:{kind}:", self.prefix).into_bytes();
        key.extend(id);
        key
    }

    fn shard(&self, id: &[u8]) -> u16 {
        id.first_chunk::<2>().map_or(0, |start| u16::from_be_bytes(*start) % self.shards)
    }

    pub fn payment(&self, key: &PaymentKey) -> PaymentPlace {
        let bytes = codec::key_bytes(key);
        let shard = self.shard(&key.txid.0);
        let mut response = vec![b'p'];
        response.extend(bytes);
        PaymentPlace { shard, record: self.under(shard, "p", &bytes), member: bytes, response }
    }

    pub fn channel(&self, id: &ChannelId) -> ChannelPlace {
        let shard = self.shard(&id.0);
        let under = |kind| self.under(shard, kind, &id.0);
        let mut responses = vec![b'c'];
        responses.extend(id.0);
        ChannelPlace {
            shard,
            record: under("c"),
            used: under("u"),
            charges: under("e"),
            moves: under("m"),
            move_numbers: under("n"),
            responses,
        }
    }

    pub fn identifier(&self, network: Network, identifier: &PaymentIdentifier) -> NamePlace {
        let mut name = vec![codec::network_code(network)];
        name.extend(identifier.as_str().as_bytes());
        self.name(self.shard(&Sha256::digest(&name)), names::IDENTIFIERS, name)
    }

    pub fn outpoint(&self, (network, outpoint): OutpointKey) -> NamePlace {
        let mut name = vec![codec::network_code(network)];
        name.extend(outpoint_bytes(outpoint));
        self.name(self.shard(&outpoint.txid.0), names::OUTPOINTS, name)
    }

    pub fn script(&self, script: &[u8; 32]) -> NamePlace {
        self.name(self.shard(script), names::SCRIPTS, script.to_vec())
    }

    fn name(&self, shard: u16, kind: &str, name: Vec<u8>) -> NamePlace {
        NamePlace { shard, names: self.of(shard, kind), name }
    }
}

/// Where a name lies that points to a record of another shard.
#[derive(Debug)]
pub(super) struct NamePlace {
    pub shard: u16,
    /// All names of its kind in the shard.
    pub names: Vec<u8>,
    pub name: Vec<u8>,
}

/// Where a payment lies.
#[derive(Debug)]
pub(super) struct PaymentPlace {
    pub shard: u16,
    pub record: Vec<u8>,
    /// In the indexes.
    pub member: KeyBytes,
    /// Among the responses.
    pub response: Vec<u8>,
}

/// Where a channel lies.
#[derive(Debug)]
pub(super) struct ChannelPlace {
    pub shard: u16,
    pub record: Vec<u8>,
    /// Identifiers and offers that were charged, with the number of the charge.
    pub used: Vec<u8>,
    /// The rows of the ledger, in their order.
    pub charges: Vec<u8>,
    pub moves: Vec<u8>,
    /// Numbers of moves by transaction.
    pub move_numbers: Vec<u8>,
    /// What its places among the responses begin with.
    responses: Vec<u8>,
}

impl ChannelPlace {
    pub fn responses(&self) -> &[u8] {
        &self.responses
    }

    pub fn response(&self, number: u64) -> Vec<u8> {
        [self.responses.as_slice(), number.to_string().as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::TxId;

    #[test]
    fn what_one_verb_writes_has_one_hash_tag() {
        let keys = Keys::new("kas402", SHARDS);
        let tag = |key: &[u8]| {
            let text = String::from_utf8_lossy(key).into_owned();
            text.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag.to_owned()).unwrap()
        };
        for n in 0..=255 {
            let place = keys.payment(&PaymentKey { network: Network::Simnet, txid: TxId([n; 32]) });
            assert_eq!(tag(&place.record), place.shard.to_string());
            let place = keys.channel(&ChannelId([n; 32]));
            for key in [&place.record, &place.used, &place.charges, &place.moves, &place.move_numbers, &keys.of(place.shard, names::TOTALS)]
            {
                assert_eq!(tag(key), place.shard.to_string());
            }
        }
    }
}
