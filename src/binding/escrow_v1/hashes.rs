//! The two hashes of a charge: of the terms it was made under, and of the charge itself.

use super::{
    BINDING,
    digest::{Preimage, sha256},
    voucher::SignedVoucher,
};
use crate::protocol::{
    amount::Amount,
    ids::{ChannelId, CommitmentId, Outpoint, RequestHash, XOnlyKey},
    network::Network,
    requirements::{EscrowExtra, Requirements, Scheme, TemplateId},
};

/// The terms of a batch offer that a charge commits to; the rolling offer token is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTerms<'a> {
    pub network: Network,
    /// The ceiling of one request.
    pub amount: Amount,
    pub pay_to: &'a str,
    pub max_timeout_seconds: u64,
    pub template: TemplateId,
    pub server_key: XOnlyKey,
    pub min_deposit: Amount,
    pub refund_timeout_daa: u64,
}

impl<'a> BatchTerms<'a> {
    /// Of an offer and its escrow terms.
    pub fn of(offer: &'a Requirements, extra: &EscrowExtra) -> Self {
        Self {
            network: offer.network,
            amount: offer.amount,
            pay_to: &offer.pay_to,
            max_timeout_seconds: offer.max_timeout_seconds,
            template: extra.template_id,
            server_key: extra.server_public_key,
            min_deposit: extra.min_deposit_sompi,
            refund_timeout_daa: extra.refund_timeout_daa,
        }
    }
}

impl BatchTerms<'_> {
    const DOMAIN: &'static str = "kaspa:x402:batch-payment-requirements:v1";

    /// What is hashed to the requirements hash.
    pub fn preimage(&self) -> Vec<u8> {
        Preimage::new(Self::DOMAIN)
            .hashed(Scheme::BatchSettlement.as_str())
            .hashed(self.network.as_str())
            .hashed("KAS")
            .u64(self.amount.sompi())
            .hashed(self.pay_to)
            .u64(self.max_timeout_seconds)
            .hashed(BINDING)
            .hashed(self.template.as_str())
            .bytes(&self.server_key.0)
            .u64(self.min_deposit.sompi())
            .u64(self.refund_timeout_daa)
            .into_bytes()
    }

    pub fn hash(&self) -> [u8; 32] {
        sha256(self.preimage())
    }
}

/// One charge of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment {
    pub channel: ChannelId,
    pub request_hash: RequestHash,
    /// Of the terms it was charged under: [`BatchTerms::hash`].
    pub requirements_hash: [u8; 32],
    /// The outpoint the voucher is for.
    pub outpoint: Outpoint,
    pub voucher: SignedVoucher,
    pub charge: Amount,
    /// The channel's cumulative charges before and after this one.
    pub charged_before: Amount,
    pub charged_after: Amount,
    /// The channel's cumulative claims at that moment.
    pub claimed: Amount,
}

impl Commitment {
    const DOMAIN: &str = "kaspa:x402:batch-commitment:v1";

    /// What is hashed to the commitment id.
    pub fn preimage(&self) -> Vec<u8> {
        Preimage::new(Self::DOMAIN)
            .bytes(&self.channel.0)
            .bytes(&self.request_hash.0)
            .bytes(&self.requirements_hash)
            .bytes(&self.outpoint.txid.0)
            .u32(self.outpoint.index)
            .u64(self.voucher.amount.sompi())
            .hashed(self.voucher.signature.0)
            .u64(self.charge.sompi())
            .u64(self.charged_before.sompi())
            .u64(self.charged_after.sompi())
            .u64(self.claimed.sompi())
            .into_bytes()
    }

    pub fn id(&self) -> CommitmentId {
        CommitmentId(sha256(self.preimage()))
    }
}
