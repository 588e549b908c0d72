//! Judging batch payloads without store and chain: alone, against the offer, against the channel's record.
//!
//! Proofs come from here only. [`VerifiedDeposit`]: a deposit that fits the offer, if the chain has it.
//! [`ProvenVoucher`]: sent by the holder of the channel's key, so its state may be told. [`VerifiedVoucher`]: it
//! also pays for this request. Called by `gateway` and `facilitator`.

mod channel;
mod deposit;

pub use channel::{ChannelFacts, ProvenVoucher, VerifiedVoucher, channel_unknown, prove};
pub use deposit::{EscrowTerms, VerifiedDeposit, verify_deposit};

use super::state::StateError;
use crate::{protocol::refusal::Code, wire::envelope::Fault};

impl From<StateError> for Fault {
    /// As refusals of a voucher.
    fn from(error: StateError) -> Self {
        let code = match error {
            StateError::Voucher { .. } => Code::VoucherAmount,
            StateError::Uncovered { .. } | StateError::Overflow | StateError::Inconsistent | StateError::AboveCeiling { .. } => {
                Code::ChannelBalance
            }
            StateError::NothingToClaim | StateError::NothingAdded => Code::TopUpNothingToClaim,
        };
        Fault::new(code, error.to_string())
    }
}
