//! What of a channel changes when the chain moves, or a move is built: transactions are in it.

use super::{OutpointFields, Read, VoucherFields, amount, outpoint_fields, outpoint_from, voucher_fields, voucher_from};
use crate::{
    protocol::{ids::TxId, time::UnixMillis},
    store::{
        channels::{Aside, ChannelRecord, Closure, Deposit, Move, MoveState},
        codec::{AcceptanceFields, Kind, acceptance_fields, acceptance_from, encode},
    },
};
use borsh::{BorshDeserialize, BorshSerialize};

/// Rewritten when the chain moves, or a move is built.
#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct Chain {
    pub deposit: OutpointFields,
    pub deposit_funding: u64,
    pub deposit_transaction: Option<Vec<u8>>,
    pub taken_back: bool,
    pub funded_daa: Option<u64>,
    pub moves: Vec<Step>,
    pub before: Option<OutpointFields>,
    pub closure: Option<(OutpointFields, [u8; 32], AcceptanceFields, bool)>,
}

/// [`Move`].
#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct Step {
    pub txid: [u8; 32],
    pub transaction: Vec<u8>,
    pub spends: OutpointFields,
    pub held: u64,
    pub voucher: VoucherFields,
    pub spends_reserve: u64,
    pub takes: u64,
    pub fee: u64,
    pub added: u64,
    pub continuation: OutpointFields,
    pub funding: u64,
    pub reserve: u64,
    pub built_at: u64,
    pub state: Place,
    pub aside_voucher: Option<VoucherFields>,
    pub aside_unclaimed_since: Option<u64>,
}

#[derive(BorshSerialize, BorshDeserialize)]
pub(super) enum Place {
    Built,
    Accepted(AcceptanceFields),
    TakenBack,
}

pub(in crate::store) fn encode_chain(record: &ChannelRecord) -> Vec<u8> {
    let Deposit { outpoint, funding, transaction, taken_back, funded_daa } = &record.deposit;
    let closure =
        |closure: Closure| (outpoint_fields(closure.outpoint), closure.by.0, acceptance_fields(closure.acceptance), closure.is_final);
    let chain = Chain {
        deposit: outpoint_fields(*outpoint),
        deposit_funding: funding.sompi(),
        deposit_transaction: transaction.clone(),
        taken_back: *taken_back,
        funded_daa: *funded_daa,
        moves: record.moves.iter().map(Step::of).collect(),
        before: record.before.map(outpoint_fields),
        closure: record.closure.map(closure),
    };
    encode(Kind::ChannelChain, &record.id.0, &chain)
}

impl Step {
    fn of(step: &Move) -> Self {
        Self {
            txid: step.txid.0,
            transaction: step.transaction.clone(),
            spends: outpoint_fields(step.spends),
            held: step.held.sompi(),
            voucher: voucher_fields(step.voucher),
            spends_reserve: step.spends_reserve.sompi(),
            takes: step.takes.sompi(),
            fee: step.fee.sompi(),
            added: step.added.sompi(),
            continuation: outpoint_fields(step.continuation),
            funding: step.funding.sompi(),
            reserve: step.reserve.sompi(),
            built_at: step.built_at.0,
            state: match step.state {
                MoveState::Built => Place::Built,
                MoveState::Accepted(at) => Place::Accepted(acceptance_fields(at)),
                MoveState::TakenBack => Place::TakenBack,
            },
            aside_voucher: step.aside.voucher.map(voucher_fields),
            aside_unclaimed_since: step.aside.unclaimed_since.map(|at| at.0),
        }
    }

    pub fn read(self) -> Read<Move> {
        Ok(Move {
            txid: TxId(self.txid),
            transaction: self.transaction,
            spends: outpoint_from(self.spends),
            held: amount(self.held)?,
            voucher: voucher_from(self.voucher)?,
            spends_reserve: amount(self.spends_reserve)?,
            takes: amount(self.takes)?,
            fee: amount(self.fee)?,
            added: amount(self.added)?,
            continuation: outpoint_from(self.continuation),
            funding: amount(self.funding)?,
            reserve: amount(self.reserve)?,
            built_at: UnixMillis(self.built_at),
            state: match self.state {
                Place::Built => MoveState::Built,
                Place::Accepted(at) => MoveState::Accepted(acceptance_from(at)),
                Place::TakenBack => MoveState::TakenBack,
            },
            aside: Aside {
                voucher: self.aside_voucher.map(voucher_from).transpose()?,
                unclaimed_since: self.aside_unclaimed_since.map(UnixMillis),
            },
        })
    }
}
