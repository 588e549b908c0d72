//! How channels lie in the database: see [`super`]. The owner in each checksum is the channel, and of a row of its
//! ledgers the number too.

mod accounts;
mod chain;
mod ledger;
mod terms;

pub(in crate::store) use accounts::encode_accounts;
pub(in crate::store) use chain::encode_chain;
pub(in crate::store) use ledger::{decode_charge, decode_response, decode_settled, encode_charge, encode_response, encode_settled};
pub(in crate::store) use terms::encode_terms;

use crate::{
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, PaymentIdentifier, SchnorrSignature, TxId},
        time::UnixMillis,
    },
    store::{
        StoreError,
        channels::{ChannelRecord, ChargeRecord, Closure, Deposit, SignedVoucher},
        codec::{Kind, acceptance_from, decode},
    },
};
use accounts::{Accounts, Stream};
use chain::{Chain, Step};
use sha2::{Digest, Sha256};
use terms::Terms;

/// An outpoint as a key: transaction, then index.
pub(in crate::store) type OutpointBytes = [u8; 36];

/// What must not be used twice in a channel: what it is, then 16 bytes.
pub(in crate::store) type UsedKey = [u8; 17];

pub(in crate::store) fn outpoint_bytes(outpoint: Outpoint) -> OutpointBytes {
    let mut bytes = [0; 36];
    bytes[..32].copy_from_slice(&outpoint.txid.0);
    bytes[32..].copy_from_slice(&outpoint.index.to_be_bytes());
    bytes
}

pub(in crate::store) fn outpoint_from_bytes(bytes: &[u8]) -> Option<Outpoint> {
    let (txid, index) = bytes.split_first_chunk::<32>()?;
    Some(Outpoint { txid: TxId(*txid), index: u32::from_be_bytes(index.try_into().ok()?) })
}

/// What a charge uses up in its channel.
pub(in crate::store) fn keys_of(charge: &ChargeRecord) -> [UsedKey; 2] {
    [identifier_key(&charge.terms.identifier), nonce_key(&charge.terms.nonce)]
}

/// Clients choose their identifiers; whoever finds two of one hash has used one of their own up.
pub(in crate::store) fn identifier_key(identifier: &PaymentIdentifier) -> UsedKey {
    let mut key = [1; 17];
    key[1..].copy_from_slice(&Sha256::digest(identifier.as_str())[..16]);
    key
}

pub(in crate::store) fn nonce_key(nonce: &[u8; 16]) -> UsedKey {
    let mut key = [2; 17];
    key[1..].copy_from_slice(nonce);
    key
}

type OutpointFields = ([u8; 32], u32);
type VoucherFields = (u64, [u8; 64]);

/// A field that no program of this version has written.
struct OutOfRange;

type Read<T> = Result<T, OutOfRange>;

fn amount(sompi: u64) -> Read<Amount> {
    Amount::from_sompi(sompi).map_err(|_| OutOfRange)
}

fn outpoint_fields(outpoint: Outpoint) -> OutpointFields {
    (outpoint.txid.0, outpoint.index)
}

fn outpoint_from((txid, index): OutpointFields) -> Outpoint {
    Outpoint { txid: TxId(txid), index }
}

fn voucher_fields(voucher: SignedVoucher) -> VoucherFields {
    (voucher.amount.sompi(), voucher.signature.0)
}

fn voucher_from((sompi, signature): VoucherFields) -> Read<SignedVoucher> {
    Ok(SignedVoucher { amount: amount(sompi)?, signature: SchnorrSignature(signature) })
}

/// The three parts of a channel as they were read.
pub(in crate::store) struct ChannelBytes<'a> {
    pub terms: &'a [u8],
    pub accounts: &'a [u8],
    pub chain: &'a [u8],
}

pub(in crate::store) fn decode_channel(sequence: u64, id: ChannelId, bytes: ChannelBytes<'_>) -> Result<ChannelRecord, StoreError> {
    let name = |part: &'static str| move || format!("{part} of channel {id}");
    let terms: Terms = decode(Kind::ChannelTerms, &id.0, bytes.terms, name("terms"))?;
    let accounts: Accounts<'_> = decode(Kind::ChannelAccounts, &id.0, bytes.accounts, name("accounts"))?;
    let chain: Chain = decode(Kind::ChannelChain, &id.0, bytes.chain, name("moves"))?;
    channel(sequence, id, terms, accounts, chain).map_err(|OutOfRange| out_of_range(&format!("channel {id}")))
}

fn channel(sequence: u64, id: ChannelId, terms: Terms, accounts: Accounts<'_>, chain: Chain) -> Read<ChannelRecord> {
    let closure = |(outpoint, by, at, is_final)| Closure {
        outpoint: outpoint_from(outpoint),
        by: TxId(by),
        acceptance: acceptance_from(at),
        is_final,
    };
    Ok(ChannelRecord {
        sequence,
        id,
        opened_at: UnixMillis(terms.opened_at),
        config: terms.config()?,
        outpoint: outpoint_from(accounts.outpoint),
        parts: accounts.parts()?,
        voucher: accounts.voucher.map(voucher_from).transpose()?,
        reserve: amount(accounts.reserve)?,
        deposit: Deposit {
            outpoint: outpoint_from(chain.deposit),
            funding: amount(chain.deposit_funding)?,
            transaction: chain.deposit_transaction,
            taken_back: chain.taken_back,
            funded_daa: chain.funded_daa,
        },
        moves: chain.moves.into_iter().map(Step::read).collect::<Read<_>>()?,
        before: chain.before.map(outpoint_from),
        stream: accounts.stream.map(Stream::read).transpose()?,
        closure: chain.closure.map(closure),
        charges: accounts.charges,
        unclaimed_since: accounts.unclaimed_since.map(UnixMillis),
        last_charge_at: accounts.last_charge_at.map(UnixMillis),
    })
}

fn out_of_range(name: &str) -> StoreError {
    StoreError::Corrupt(format!("{name}: a field is out of range"))
}
