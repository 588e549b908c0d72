//! A `deposit-voucher` alone and against the offer. Script, address and channel id are derived, never believed.

use super::channel::{self, ChannelFacts, ProvenVoucher, VerifiedVoucher};
use crate::{
    binding::{
        escrow_v1::{
            ChannelConfig, ConfigError, EscrowScript, SignedVoucher, TemplateId,
            payload::DepositVoucher,
            spend::{SpendRules, reserve},
            state::Accounts,
        },
        exact_v1::{decode, verify},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, TxId, XOnlyKey},
        network::Network,
        refusal::Code,
        requirements::{EscrowExtra, Requirements},
    },
    wire::envelope::Fault,
};
use kaspa_consensus_core::tx::Transaction;

/// What the offer says about channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscrowTerms<'a> {
    pub server_key: XOnlyKey,
    pub min_deposit: Amount,
    /// Of the offer, for a new channel; of the channel itself, for a top-up.
    pub refund_timeout_daa: u64,
    pub pay_to: &'a str,
    pub network: Network,
    pub template: TemplateId,
}

impl<'a> EscrowTerms<'a> {
    /// Of an offer and its escrow terms.
    pub fn of(offer: &'a Requirements, extra: &EscrowExtra) -> Self {
        Self {
            server_key: extra.server_public_key,
            min_deposit: extra.min_deposit_sompi,
            refund_timeout_daa: extra.refund_timeout_daa,
            pay_to: &offer.pay_to,
            network: offer.network,
            template: extra.template_id,
        }
    }

    /// What a channel agrees with whatever its offer was.
    pub fn of_channel(config: &'a ChannelConfig) -> Self {
        Self {
            server_key: config.server_public_key,
            min_deposit: Amount::ZERO,
            refund_timeout_daa: config.refund_timeout_daa,
            pay_to: &config.pay_to,
            network: config.network,
            template: config.template_id,
        }
    }
}

/// A deposit that is right in all that can be judged without the store and the chain. Whether the outpoint exists, holds this
/// amount under this script without a covenant, and is deep enough, is the node's to say. Made only by [`verify_deposit`].
#[must_use]
#[derive(Clone, Debug)]
pub struct VerifiedDeposit {
    channel: ChannelId,
    config: ChannelConfig,
    script: EscrowScript,
    outpoint: Outpoint,
    funding: Amount,
    reserve: Amount,
    transaction: Option<Transaction>,
    voucher: SignedVoucher,
}

/// All checks of a deposit that need neither store nor chain, cheapest first.
pub fn verify_deposit(payload: &DepositVoucher, terms: &EscrowTerms<'_>, rules: &SpendRules) -> Result<VerifiedDeposit, Fault> {
    let config = &payload.channel_config;
    offered(config, terms)?;
    let channel = config.channel_id();
    if payload.channel_id != channel {
        return Err(Fault::new(Code::EscrowChannelId, format!("the id of this channelConfig is {channel}")));
    }
    let script = EscrowScript::of(config).map_err(|error: ConfigError| Fault::new(Code::EscrowConfig, error.to_string()))?;
    if payload.active_script_public_key != script.serialized() {
        return Err(Fault::new(Code::EscrowScript, format!("the script of this channelConfig is {}", script.serialized())));
    }
    let address = script.address().to_string();
    if payload.escrow_address != address {
        return Err(Fault::new(Code::EscrowAddress, format!("the address of this channelConfig is {address}")));
    }
    let (outpoint, funding) = (payload.funding_outpoint, payload.funding_amount_sompi);
    if funding < terms.min_deposit {
        return Err(Fault::new(Code::DepositTooSmall, format!("{funding} sompi are less than {}", terms.min_deposit)));
    }
    if !payload.voucher.verify(&script, outpoint) {
        return Err(Fault::new(Code::VoucherSignature, "the voucher is not signed by clientPublicKey for this outpoint"));
    }
    let transaction = payload.funding_transaction.as_deref().map(|hex| funds(hex, outpoint, funding, &script)).transpose()?;
    let reserve = reserve(&script, funding, rules)
        .ok_or_else(|| Fault::new(Code::DepositTooSmall, format!("no claim of an escrow of {funding} sompi is possible")))?;
    Ok(VerifiedDeposit { channel, config: config.clone(), script, outpoint, funding, reserve, transaction, voucher: payload.voucher })
}

/// The configuration is the one the offer asks for.
fn offered(config: &ChannelConfig, terms: &EscrowTerms<'_>) -> Result<(), Fault> {
    // Asset and template have one value each: others do not parse.
    let TemplateId::EscrowV1 = terms.template;
    let checks = [
        (config.network == terms.network, Code::Network, "channelConfig.network is not the offered one"),
        (config.server_public_key == terms.server_key, Code::EscrowServerKey, "channelConfig.serverPublicKey is not the offered one"),
        (config.pay_to == terms.pay_to, Code::EscrowPayTo, "channelConfig.payTo is not the offered one"),
        (
            config.refund_timeout_daa == terms.refund_timeout_daa,
            Code::EscrowTimeout,
            "channelConfig.refundTimeoutDaa is not the offered one",
        ),
    ];
    checks.into_iter().find(|(equal, ..)| !equal).map_or(Ok(()), |(_, code, detail)| Err(Fault::new(code, detail)))
}

/// The transaction has the outpoint's id, and that output holds exactly the amount under exactly the script.
fn funds(hex: &str, outpoint: Outpoint, funding: Amount, script: &EscrowScript) -> Result<Transaction, Fault> {
    let undecodable = |detail: String| Fault::new(Code::FundingTransaction, detail);
    let transaction = decode::decode(hex).map_err(|error| undecodable(error.to_string()))?;
    // A lock time is never reached here: a deposit has no use for one.
    verify::form(&transaction, 0).map_err(|fault| undecodable(fault.detail))?;
    let derived = TxId::from(transaction.id());
    if outpoint.txid != derived {
        return Err(Fault::new(Code::FundingOutpoint, format!("the funding transaction's id is {derived}")));
    }
    let output = usize::try_from(outpoint.index).ok().and_then(|index| transaction.outputs.get(index));
    let Some(output) = output else {
        return Err(Fault::new(Code::FundingOutpoint, format!("the funding transaction has {} outputs", transaction.outputs.len())));
    };
    if &output.script_public_key != script.script_public_key() {
        return Err(Fault::new(Code::FundingScript, format!("output {} is not locked by the channel's script", outpoint.index)));
    }
    if output.covenant.is_some() {
        return Err(Fault::new(Code::DepositCovenant, format!("output {} is bound to a covenant", outpoint.index)));
    }
    if output.value != funding.sompi() {
        return Err(Fault::new(Code::FundingAmount, format!("output {} holds {} sompi", outpoint.index, output.value)));
    }
    Ok(transaction)
}

impl VerifiedDeposit {
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    pub fn script(&self) -> &EscrowScript {
        &self.script
    }

    pub fn outpoint(&self) -> Outpoint {
        self.outpoint
    }

    pub fn funding(&self) -> Amount {
        self.funding
    }

    /// What a claim must leave in an escrow of this size.
    pub fn reserve(&self) -> Amount {
        self.reserve
    }

    /// The funding transaction to broadcast, rebuilt; its id is derived.
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_ref()
    }

    pub fn voucher(&self) -> &SignedVoucher {
        &self.voucher
    }

    /// Takes its voucher as payment for a request of at most `ceiling`. `accounts` are [`Accounts::opened`] for a new
    /// channel, and what a top-up leads to for one that exists.
    pub fn authorise(&self, accounts: &Accounts, ceiling: Amount) -> Result<VerifiedVoucher, Fault> {
        channel::authorise((self.channel, self.outpoint, self.voucher), accounts, ceiling, self.reserve)
    }

    /// A deposit that is sent again for a channel that is open already proves its key like a voucher.
    pub fn proven(&self, facts: ChannelFacts<'_>) -> Result<ProvenVoucher, Fault> {
        let same = self.channel == facts.id;
        same.then(|| channel::known_outpoint(self.voucher, self.outpoint, facts)).flatten().ok_or_else(channel::channel_unknown)
    }
}
