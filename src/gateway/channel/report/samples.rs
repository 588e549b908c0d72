//! Records that no store holds.

use super::*;
use crate::{
    binding::escrow_v1::{ChannelConfig, SignedVoucher, TemplateId, state::Parts},
    client::wallet::Wallet,
    protocol::{
        ids::{Salt, SchnorrSignature},
        network::Network,
        requirements::Asset,
    },
    store::channels::Deposit,
};
use std::time::Duration;

pub const BY_AMOUNT: ClaimPolicy = ClaimPolicy {
    automatic: true,
    above: Amount::ZERO,
    after: Duration::from_secs(60),
    before_refund_daa: 1_000,
    max_fee_percent: 20,
    priority_sompi_per_gram: 0,
};

/// An open channel of 10 KAS in which `owed` was charged; its timeout is at 100,000.
pub fn record(sequence: u64, owed: u64) -> ChannelRecord {
    let seed = u8::try_from(sequence).expect("a small number");
    let wallet = Wallet::from_secret(Network::Simnet, &[seed; 32]).expect("a small number is a key");
    let amount = |sompi| Amount::from_sompi(sompi).expect("a small amount");
    let config = ChannelConfig {
        network: Network::Simnet,
        asset: Asset::Kas,
        template_id: TemplateId::EscrowV1,
        client_public_key: wallet.public_key(),
        server_public_key: Wallet::from_secret(Network::Simnet, &[240; 32]).expect("a key").public_key(),
        pay_to: wallet.address().to_string(),
        refund_address: wallet.address().to_string(),
        refund_timeout_daa: 100_000,
        salt: Salt([seed; 32]),
    };
    let outpoint = Outpoint { txid: TxId([seed; 32]), index: 0 };
    let voucher = (owed > 0).then_some(SignedVoucher { amount: amount(owed), signature: SchnorrSignature([1; 64]) });
    ChannelRecord {
        sequence,
        id: config.channel_id(),
        config,
        outpoint,
        parts: Parts { funding: amount(1_000_000_000), charged: amount(owed), signed: amount(owed), ..Parts::default() },
        voucher,
        reserve: amount(2_000_000),
        deposit: Deposit { outpoint, funding: amount(1_000_000_000), transaction: None, taken_back: false, funded_daa: Some(7) },
        moves: Vec::new(),
        before: None,
        stream: None,
        closure: None,
        opened_at: UnixMillis(1_000),
        charges: u64::from(owed > 0),
        unclaimed_since: (owed > 0).then_some(UnixMillis(2_000)),
        last_charge_at: (owed > 0).then_some(UnixMillis(2_000)),
    }
}

pub fn view(sequence: u64, owed: u64, daa_score: Option<u64>) -> ChannelView {
    ChannelView::of(&record(sequence, owed), &Beside { daa_score, now: UnixMillis(3_000), policy: BY_AMOUNT, keys: None })
}
