//! The rows of a channel's ledger: its charges, their answers, its claims.

use super::{OutOfRange, OutpointFields, Read, accounts::Request, amount, out_of_range, outpoint_fields, outpoint_from};
use crate::{
    protocol::{
        ids::{ChannelId, CommitmentId, TxId},
        time::UnixMillis,
    },
    store::{
        StoreError, StoredResponse,
        channels::{ChargeRecord, SettledMove, SettledState},
        codec::{AcceptanceFields, Kind, acceptance_fields, acceptance_from, decode, decode_answer, encode, encode_answer},
    },
};
use borsh::{BorshDeserialize, BorshSerialize};

#[derive(BorshSerialize, BorshDeserialize)]
struct ChargeRow<'a> {
    commitment: [u8; 32],
    terms: Request<'a>,
    charge: u64,
    charged_after: u64,
    claimed: u64,
    funding: u64,
    status: u16,
    at: u64,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Settled {
    txid: [u8; 32],
    spends: OutpointFields,
    continuation: OutpointFields,
    takes: u64,
    fee: u64,
    added: u64,
    state: SettledPlace,
    at: u64,
}

#[derive(BorshSerialize, BorshDeserialize)]
enum SettledPlace {
    Accepted(AcceptanceFields),
    Final(AcceptanceFields),
    TakenBack,
}

/// A row of a channel's ledger.
fn row_owner(channel: &ChannelId, number: u64) -> [u8; 40] {
    let mut owner = [0; 40];
    owner[..32].copy_from_slice(&channel.0);
    owner[32..].copy_from_slice(&number.to_be_bytes());
    owner
}

pub(in crate::store) fn encode_charge(record: &ChargeRecord) -> Vec<u8> {
    let row = ChargeRow {
        commitment: record.commitment.0,
        terms: Request::of(&record.terms),
        charge: record.charge.sompi(),
        charged_after: record.charged_after.sompi(),
        claimed: record.claimed.sompi(),
        funding: record.funding.sompi(),
        status: record.status,
        at: record.at.0,
    };
    encode(Kind::Charge, &row_owner(&record.channel, record.number), &row)
}

pub(in crate::store) fn decode_charge(channel: ChannelId, number: u64, bytes: &[u8]) -> Result<ChargeRecord, StoreError> {
    let name = || format!("charge {number} of channel {channel}");
    let row: ChargeRow<'_> = decode(Kind::Charge, &row_owner(&channel, number), bytes, name)?;
    let read = |row: ChargeRow<'_>| -> Read<ChargeRecord> {
        Ok(ChargeRecord {
            number,
            channel,
            commitment: CommitmentId(row.commitment),
            terms: row.terms.read()?,
            charge: amount(row.charge)?,
            charged_after: amount(row.charged_after)?,
            claimed: amount(row.claimed)?,
            funding: amount(row.funding)?,
            status: row.status,
            at: UnixMillis(row.at),
        })
    };
    read(row).map_err(|OutOfRange| out_of_range(&name()))
}

pub(in crate::store) fn encode_response(record: &ChargeRecord, response: &StoredResponse) -> Vec<u8> {
    encode_answer(Kind::ChargeResponse, &row_owner(&record.channel, record.number), response)
}

pub(in crate::store) fn decode_response(channel: ChannelId, number: u64, bytes: &[u8]) -> Result<StoredResponse, StoreError> {
    let name = || format!("answer to charge {number} of channel {channel}");
    decode_answer(Kind::ChargeResponse, &row_owner(&channel, number), bytes, name)
}

pub(in crate::store) fn encode_settled(row: &SettledMove) -> Vec<u8> {
    let settled = Settled {
        txid: row.txid.0,
        spends: outpoint_fields(row.spends),
        continuation: outpoint_fields(row.continuation),
        takes: row.takes.sompi(),
        fee: row.fee.sompi(),
        added: row.added.sompi(),
        state: match row.state {
            SettledState::Accepted(at) => SettledPlace::Accepted(acceptance_fields(at)),
            SettledState::Final(at) => SettledPlace::Final(acceptance_fields(at)),
            SettledState::TakenBack => SettledPlace::TakenBack,
        },
        at: row.at.0,
    };
    encode(Kind::SettledMove, &row_owner(&row.channel, row.number), &settled)
}

pub(in crate::store) fn decode_settled(channel: ChannelId, number: u64, bytes: &[u8]) -> Result<SettledMove, StoreError> {
    let name = || format!("claim {number} of channel {channel}");
    let settled: Settled = decode(Kind::SettledMove, &row_owner(&channel, number), bytes, name)?;
    let read = |settled: Settled| -> Read<SettledMove> {
        Ok(SettledMove {
            number,
            channel,
            txid: TxId(settled.txid),
            spends: outpoint_from(settled.spends),
            continuation: outpoint_from(settled.continuation),
            takes: amount(settled.takes)?,
            fee: amount(settled.fee)?,
            added: amount(settled.added)?,
            state: match settled.state {
                SettledPlace::Accepted(at) => SettledState::Accepted(acceptance_from(at)),
                SettledPlace::Final(at) => SettledState::Final(acceptance_from(at)),
                SettledPlace::TakenBack => SettledState::TakenBack,
            },
            at: UnixMillis(settled.at),
        })
    };
    read(settled).map_err(|OutOfRange| out_of_range(&name()))
}
