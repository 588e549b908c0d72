//! What the journal keeps of a channel and of each request that was paid from it.

use super::{account::Account, offer::ChannelOffer};
use crate::{
    binding::escrow_v1::{ChannelConfig, EscrowScript, SignedVoucher},
    client::journal::RequestKey,
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, PaymentIdentifier, RequestHash, TxId},
        time::UnixMillis,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How far a channel got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The funding transaction is signed and perhaps sent; the server has not served a request yet.
    Opening,
    Open,
    /// Of no more use to pay with; the rest comes back after the timeout.
    Retired,
    /// Its server said what cannot be true, or took too much: nothing is signed for it any more.
    Disputed,
    /// A refund is signed and perhaps sent.
    Refunding,
    /// The escrow is gone.
    Closed,
    /// Never opened; another funding transaction that excludes this one took its place.
    Replaced,
}

impl Phase {
    pub const ALL: [Self; 7] = [Self::Opening, Self::Open, Self::Retired, Self::Disputed, Self::Refunding, Self::Closed, Self::Replaced];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Retired => "retired",
            Self::Disputed => "disputed",
            Self::Refunding => "refunding",
            Self::Closed => "closed",
            Self::Replaced => "replaced",
        }
    }

    /// Whether requests may be paid from it.
    pub const fn pays(self) -> bool {
        matches!(self, Self::Opening | Self::Open)
    }

    /// Whether money of the buyer may lie in the escrow.
    pub const fn holds_money(self) -> bool {
        !matches!(self, Self::Closed | Self::Replaced)
    }
}

/// One channel of this wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub id: ChannelId,
    /// Which of the wallet's channel keys it uses ([`crate::client::wallet::Wallet::channel_key`]).
    pub key_index: u32,
    pub config: ChannelConfig,
    /// Scheme, host and port of the server it was opened at, for people.
    pub server: String,
    pub phase: Phase,
    /// Why it pays no more, or what closed it.
    pub why: Option<String>,
    pub account: Account,
    /// A DAA score at which the active outpoint was not spent: where a search for its spend may begin.
    pub known_daa: u64,
    pub created: UnixMillis,
    /// The opening whose place this one took.
    pub replaces: Option<ChannelId>,
    /// Grows with every change; a change on top of an older one is refused.
    pub version: u64,
}

impl Channel {
    /// The script of its escrow.
    pub fn script(&self) -> EscrowScript {
        EscrowScript::of(&self.config).expect("the configuration was checked before it was recorded")
    }

    /// Whether requests under this offer can be paid from it.
    pub fn serves(&self, offer: &ChannelOffer) -> bool {
        let config = &self.config;
        config.network == offer.network && config.server_public_key == offer.server_key && config.pay_to == offer.pay_to.to_string()
    }
}

/// What kind of payment a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Voucher,
    /// Opens the channel.
    Deposit,
    /// Moves the channel: the voucher is for the outpoint that the transaction makes.
    TopUp {
        txid: TxId,
        from: Outpoint,
        takes: Amount,
    },
}

/// One `PAYMENT-SIGNATURE`, with everything needed to send it again and to judge its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub kind: Kind,
    /// The value of the header, sent again unchanged every time.
    pub header: String,
    /// The offer as it is echoed.
    pub accepted: Value,
    pub resource: Option<Value>,
    pub extensions: Map<String, Value>,
    pub ceiling: Amount,
    pub request_hash: RequestHash,
    /// `BatchTerms::hash` of the offer.
    pub requirements_hash: RequestHash,
    pub voucher: SignedVoucher,
    /// What the voucher is for, and what that holds; of a top-up, what it makes.
    pub outpoint: Outpoint,
    pub funding: Amount,
    /// K there.
    pub claimed: Amount,
    /// C when it was signed.
    pub charged: Amount,
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlightState {
    /// Recorded; perhaps sent, perhaps charged. Sent again with the same header. At most one of a channel.
    Sent,
    /// Left behind for another request. Perhaps charged; resumed by the same request.
    GivenUp,
    /// The answer came without a receipt. Perhaps charged.
    Unreceipted,
    /// The answer's receipt cannot be true.
    Disputed,
    /// Charged by a verified receipt, and the answer was never received. Resumed by the same request.
    Undelivered,
    /// Charged by a verified receipt, and answered.
    Charged,
    /// The server said that nothing was charged, whatever it answered.
    Refused,
}

impl FlightState {
    pub const ALL: [Self; 7] =
        [Self::Sent, Self::GivenUp, Self::Unreceipted, Self::Disputed, Self::Undelivered, Self::Charged, Self::Refused];

    /// Whether the same request takes it up again instead of paying anew.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Sent | Self::GivenUp | Self::Undelivered)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::GivenUp => "given-up",
            Self::Unreceipted => "unreceipted",
            Self::Disputed => "disputed",
            Self::Undelivered => "undelivered",
            Self::Charged => "charged",
            Self::Refused => "refused",
        }
    }
}

/// One request paid from a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    pub channel: ChannelId,
    /// Kept by every attempt of the same request: the server charges it once.
    pub identifier: PaymentIdentifier,
    pub key: RequestKey,
    pub method: String,
    pub url: String,
    pub attempt: Attempt,
    pub state: FlightState,
    pub charge: Option<Amount>,
    /// The receipt, canonical JSON.
    pub receipt: Option<String>,
    pub created: UnixMillis,
}

/// A transaction of a channel that this wallet signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelTransaction {
    pub txid: TxId,
    pub channel: ChannelId,
    pub purpose: Purpose,
    /// Borsh, signed by this wallet.
    pub bytes: Vec<u8>,
    /// The wallet's own coins in it; no other payment may spend them while it can still be accepted.
    pub inputs: Vec<Outpoint>,
}

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    Funding {
        fee: Amount,
    },
    /// A claim of `takes` that adds to the escrow: `funding` lies at `to` afterwards.
    TopUp {
        from: Outpoint,
        to: Outpoint,
        takes: Amount,
        added: Amount,
        funding: Amount,
    },
    /// Everything at `from` comes back, less the fee.
    Refund {
        from: Outpoint,
        amount: Amount,
        fee: Amount,
    },
}

/// Something worth remembering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: UnixMillis,
    pub words: String,
}
