//! A voucher against the record of its channel.

use crate::{
    binding::escrow_v1::{
        payload::ChannelVoucher,
        script::EscrowScript,
        state::{Accounts, Authorised},
        voucher::SignedVoucher,
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint},
        refusal::Code,
    },
    wire::envelope::Fault,
};

/// What the store knows of a channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelFacts<'a> {
    pub id: ChannelId,
    pub script: &'a EscrowScript,
    /// The active outpoint.
    pub outpoint: Outpoint,
    /// The one before the last claim or top-up.
    pub previous: Option<Outpoint>,
}

/// A voucher by the channel's key for its active or previous outpoint. Its holder may see the channel's state, and an
/// identifier that came with it may be looked up. Made only by [`prove`] and [`super::VerifiedDeposit::proven`].
#[must_use]
#[derive(Clone, Debug)]
pub struct ProvenVoucher {
    channel: ChannelId,
    outpoint: Outpoint,
    voucher: SignedVoucher,
    current: bool,
}

/// A voucher that pays for one request. Made only here.
#[must_use]
#[derive(Clone, Debug)]
pub struct VerifiedVoucher {
    channel: ChannelId,
    outpoint: Outpoint,
    voucher: SignedVoucher,
    authorised: Authorised,
}

/// The one answer to whoever has not proven the channel's key: whether the channel exists does not show.
pub fn channel_unknown() -> Fault {
    Fault::new(Code::ChannelUnknown, "no channel of this id has a voucher like this")
}

/// Whether the presenter holds the channel's key. Amounts are not judged here: a repeated request must find its answer first.
pub fn prove(payload: &ChannelVoucher, facts: ChannelFacts<'_>) -> Result<ProvenVoucher, Fault> {
    if payload.channel_id != facts.id {
        return Err(channel_unknown());
    }
    let proven = known_outpoint(payload.voucher, payload.funding_outpoint, facts).ok_or_else(channel_unknown)?;
    if !payload.voucher.verify(facts.script, payload.funding_outpoint) {
        return Err(channel_unknown());
    }
    if payload.client_public_key != facts.script.client_key().x_only() {
        return Err(Fault::new(Code::EscrowClientKey, "clientPublicKey is not the key of the channel"));
    }
    if payload.active_script_public_key != facts.script.serialized() {
        return Err(Fault::new(Code::EscrowScript, "activeScriptPublicKey is not the script of the channel"));
    }
    Ok(proven)
}

/// The voucher as proven, if it is for an outpoint of the channel; the caller has checked its signature or does.
pub(super) fn known_outpoint(voucher: SignedVoucher, outpoint: Outpoint, facts: ChannelFacts<'_>) -> Option<ProvenVoucher> {
    let current = outpoint == facts.outpoint;
    let known = current || facts.previous == Some(outpoint);
    known.then_some(ProvenVoucher { channel: facts.id, outpoint, voucher, current })
}

/// The voucher as payment, by the rules of the channel's accounts.
pub(super) fn authorise(
    (channel, outpoint, voucher): (ChannelId, Outpoint, SignedVoucher),
    accounts: &Accounts,
    ceiling: Amount,
    reserve: Amount,
) -> Result<VerifiedVoucher, Fault> {
    let authorised = Authorised { voucher: voucher.amount, ceiling, reserve };
    accounts.authorise(authorised)?;
    Ok(VerifiedVoucher { channel, outpoint, voucher, authorised })
}

impl ProvenVoucher {
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    pub fn outpoint(&self) -> Outpoint {
        self.outpoint
    }

    pub fn voucher(&self) -> &SignedVoucher {
        &self.voucher
    }

    /// Whether it is for the active outpoint.
    pub fn is_current(&self) -> bool {
        self.current
    }

    /// Takes it as payment for a request of at most `ceiling`. Every fault of this step is corrected by the channel's state.
    pub fn authorise(self, accounts: &Accounts, ceiling: Amount, reserve: Amount) -> Result<VerifiedVoucher, Fault> {
        if !self.current {
            return Err(Fault::new(Code::VoucherStaleOutpoint, "the voucher is for the outpoint before the last claim"));
        }
        authorise((self.channel, self.outpoint, self.voucher), accounts, ceiling, reserve)
    }
}

impl VerifiedVoucher {
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    pub fn outpoint(&self) -> Outpoint {
        self.outpoint
    }

    pub fn voucher(&self) -> &SignedVoucher {
        &self.voucher
    }

    /// What the channel's accounts charge it by.
    pub fn authorised(&self) -> Authorised {
        self.authorised
    }
}
