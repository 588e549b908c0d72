//! How channels lie in the database: see [`super::super::codec`]. The owner in each checksum is the channel, and of a row of its
//! ledgers the number too.

use crate::{
    protocol::{
        amount::Amount,
        ids::{ChannelId, CommitmentId, Outpoint, PaymentIdentifier, RequestHash, RequestIdentity, Salt, SchnorrSignature, TxId, XOnlyKey},
        policy::RouteId,
        requirements::{Asset, TemplateId},
        time::UnixMillis,
    },
    store::{
        StoreError, StoredResponse,
        channels::*,
        embedded::codec::{
            AcceptanceFields, Kind, Response, acceptance_fields, acceptance_from, decode, encode, network_code, network_from,
        },
    },
};
use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

/// An outpoint as a key: transaction, then index.
pub(in crate::store::embedded) type OutpointBytes = [u8; 36];

/// What must not be used twice in a channel: what it is, then 16 bytes.
pub(in crate::store::embedded) type UsedKey = [u8; 17];

pub(super) fn outpoint_bytes(outpoint: Outpoint) -> OutpointBytes {
    let mut bytes = [0; 36];
    bytes[..32].copy_from_slice(&outpoint.txid.0);
    bytes[32..].copy_from_slice(&outpoint.index.to_be_bytes());
    bytes
}

/// Clients choose their identifiers; whoever finds two of one hash has used one of their own up.
pub(super) fn identifier_key(identifier: &PaymentIdentifier) -> UsedKey {
    let mut key = [1; 17];
    key[1..].copy_from_slice(&Sha256::digest(identifier.as_str())[..16]);
    key
}

pub(super) fn nonce_key(nonce: &[u8; 16]) -> UsedKey {
    let mut key = [2; 17];
    key[1..].copy_from_slice(nonce);
    key
}

type OutpointFields = ([u8; 32], u32);
type VoucherFields = (u64, [u8; 64]);

/// Fixed when the channel is opened.
#[derive(BorshSerialize, BorshDeserialize)]
struct Terms {
    network: u8,
    template: u8,
    client_public_key: [u8; 32],
    server_public_key: [u8; 32],
    pay_to: String,
    refund_address: String,
    refund_timeout_daa: u64,
    salt: [u8; 32],
    opened_at: u64,
}

/// Rewritten with every charge.
#[derive(BorshSerialize, BorshDeserialize)]
struct Accounts {
    outpoint: OutpointFields,
    funding: u64,
    charged: u64,
    claimed: u64,
    reserved: u64,
    signed: u64,
    voucher: Option<VoucherFields>,
    reserve: u64,
    stream: Option<Stream>,
    charges: u64,
    unclaimed_since: Option<u64>,
    last_charge_at: Option<u64>,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Stream {
    terms: Request,
    charged_before: u64,
    claimed: u64,
    funding: u64,
    reading: Option<u64>,
    unknown: u64,
    status: u16,
    began_at: u64,
}

/// [`ChargeTerms`].
#[derive(BorshSerialize, BorshDeserialize)]
struct Request {
    identifier: String,
    nonce: [u8; 16],
    identity: [u8; 32],
    request_hash: [u8; 32],
    requirements_hash: [u8; 32],
    outpoint: OutpointFields,
    voucher: VoucherFields,
    ceiling: u64,
    route: String,
    summary: String,
}

/// Rewritten when the chain moves, or a move is built.
#[derive(BorshSerialize, BorshDeserialize)]
struct Chain {
    deposit: OutpointFields,
    deposit_funding: u64,
    deposit_transaction: Option<Vec<u8>>,
    taken_back: bool,
    funded_daa: Option<u64>,
    moves: Vec<Step>,
    before: Option<OutpointFields>,
    closure: Option<(OutpointFields, [u8; 32], AcceptanceFields, bool)>,
}

/// [`Move`].
#[derive(BorshSerialize, BorshDeserialize)]
struct Step {
    txid: [u8; 32],
    transaction: Vec<u8>,
    spends: OutpointFields,
    held: u64,
    voucher: VoucherFields,
    spends_reserve: u64,
    takes: u64,
    fee: u64,
    added: u64,
    continuation: OutpointFields,
    funding: u64,
    reserve: u64,
    built_at: u64,
    state: Place,
    aside_voucher: Option<VoucherFields>,
    aside_unclaimed_since: Option<u64>,
}

#[derive(BorshSerialize, BorshDeserialize)]
enum Place {
    Built,
    Accepted(AcceptanceFields),
    TakenBack,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct ChargeRow {
    commitment: [u8; 32],
    terms: Request,
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

const fn template_code(template: TemplateId) -> u8 {
    match template {
        TemplateId::EscrowV1 => 1,
    }
}

fn template_from(code: u8) -> Read<TemplateId> {
    if code == template_code(TemplateId::EscrowV1) { Ok(TemplateId::EscrowV1) } else { Err(OutOfRange) }
}

pub(super) fn encode_terms(record: &ChannelRecord) -> Vec<u8> {
    let ChannelConfig { network, asset: Asset::Kas, template_id, .. } = record.config;
    let config = &record.config;
    let terms = Terms {
        network: network_code(network),
        template: template_code(template_id),
        client_public_key: config.client_public_key.0,
        server_public_key: config.server_public_key.0,
        pay_to: config.pay_to.clone(),
        refund_address: config.refund_address.clone(),
        refund_timeout_daa: config.refund_timeout_daa,
        salt: config.salt.0,
        opened_at: record.opened_at.0,
    };
    encode(Kind::ChannelTerms, &record.id.0, &terms)
}

impl Terms {
    fn config(self) -> Read<ChannelConfig> {
        Ok(ChannelConfig {
            network: network_from(self.network).ok_or(OutOfRange)?,
            asset: Asset::Kas,
            template_id: template_from(self.template)?,
            client_public_key: XOnlyKey(self.client_public_key),
            server_public_key: XOnlyKey(self.server_public_key),
            pay_to: self.pay_to,
            refund_address: self.refund_address,
            refund_timeout_daa: self.refund_timeout_daa,
            salt: Salt(self.salt),
        })
    }
}

pub(super) fn encode_accounts(record: &ChannelRecord) -> Vec<u8> {
    let Parts { funding, charged, claimed, reserved, signed } = record.parts;
    let accounts = Accounts {
        outpoint: outpoint_fields(record.outpoint),
        funding: funding.sompi(),
        charged: charged.sompi(),
        claimed: claimed.sompi(),
        reserved: reserved.sompi(),
        signed: signed.sompi(),
        voucher: record.voucher.map(voucher_fields),
        reserve: record.reserve.sompi(),
        stream: record.stream.as_ref().map(Stream::of),
        charges: record.charges,
        unclaimed_since: record.unclaimed_since.map(|at| at.0),
        last_charge_at: record.last_charge_at.map(|at| at.0),
    };
    encode(Kind::ChannelAccounts, &record.id.0, &accounts)
}

impl Accounts {
    fn parts(&self) -> Read<Parts> {
        Ok(Parts {
            funding: amount(self.funding)?,
            charged: amount(self.charged)?,
            claimed: amount(self.claimed)?,
            reserved: amount(self.reserved)?,
            signed: amount(self.signed)?,
        })
    }
}

impl Stream {
    fn of(stream: &OpenStream) -> Self {
        Self {
            terms: Request::of(&stream.terms),
            charged_before: stream.charged_before.sompi(),
            claimed: stream.claimed.sompi(),
            funding: stream.funding.sompi(),
            reading: stream.reading.map(Amount::sompi),
            unknown: stream.unknown.sompi(),
            status: stream.status,
            began_at: stream.began_at.0,
        }
    }

    fn read(self) -> Read<OpenStream> {
        Ok(OpenStream {
            terms: self.terms.read()?,
            charged_before: amount(self.charged_before)?,
            claimed: amount(self.claimed)?,
            funding: amount(self.funding)?,
            reading: self.reading.map(amount).transpose()?,
            unknown: amount(self.unknown)?,
            status: self.status,
            began_at: UnixMillis(self.began_at),
        })
    }
}

impl Request {
    fn of(terms: &ChargeTerms) -> Self {
        Self {
            identifier: terms.identifier.as_str().to_owned(),
            nonce: terms.nonce,
            identity: terms.identity.0,
            request_hash: terms.request_hash.0,
            requirements_hash: terms.requirements_hash,
            outpoint: outpoint_fields(terms.outpoint),
            voucher: voucher_fields(terms.voucher),
            ceiling: terms.ceiling.sompi(),
            route: terms.route.0.clone(),
            summary: terms.summary.clone(),
        }
    }

    fn read(self) -> Read<ChargeTerms> {
        Ok(ChargeTerms {
            identifier: PaymentIdentifier::parse(&self.identifier).map_err(|_| OutOfRange)?,
            nonce: self.nonce,
            identity: RequestIdentity(self.identity),
            request_hash: RequestHash(self.request_hash),
            requirements_hash: self.requirements_hash,
            outpoint: outpoint_from(self.outpoint),
            voucher: voucher_from(self.voucher)?,
            ceiling: amount(self.ceiling)?,
            route: RouteId(self.route),
            summary: self.summary,
        })
    }
}

pub(super) fn encode_chain(record: &ChannelRecord) -> Vec<u8> {
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

    fn read(self) -> Read<Move> {
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

/// The three parts of a channel as they were read.
pub(super) struct ChannelBytes<'a> {
    pub terms: &'a [u8],
    pub accounts: &'a [u8],
    pub chain: &'a [u8],
}

pub(super) fn decode_channel(sequence: u64, id: ChannelId, bytes: ChannelBytes<'_>) -> Result<ChannelRecord, StoreError> {
    let name = |part: &'static str| move || format!("{part} of channel {id}");
    let terms: Terms = decode(Kind::ChannelTerms, &id.0, bytes.terms, name("terms"))?;
    let accounts: Accounts = decode(Kind::ChannelAccounts, &id.0, bytes.accounts, name("accounts"))?;
    let chain: Chain = decode(Kind::ChannelChain, &id.0, bytes.chain, name("moves"))?;
    channel(sequence, id, terms, accounts, chain).map_err(|OutOfRange| out_of_range(&format!("channel {id}")))
}

fn channel(sequence: u64, id: ChannelId, terms: Terms, accounts: Accounts, chain: Chain) -> Read<ChannelRecord> {
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

/// A row of a channel's ledger.
fn row_owner(channel: &ChannelId, number: u64) -> [u8; 40] {
    let mut owner = [0; 40];
    owner[..32].copy_from_slice(&channel.0);
    owner[32..].copy_from_slice(&number.to_be_bytes());
    owner
}

pub(super) fn encode_charge(record: &ChargeRecord) -> Vec<u8> {
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

pub(super) fn decode_charge(channel: ChannelId, number: u64, bytes: &[u8]) -> Result<ChargeRecord, StoreError> {
    let name = || format!("charge {number} of channel {channel}");
    let row: ChargeRow = decode(Kind::Charge, &row_owner(&channel, number), bytes, name)?;
    let read = |row: ChargeRow| -> Read<ChargeRecord> {
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

pub(super) fn encode_response(record: &ChargeRecord, response: &StoredResponse) -> Vec<u8> {
    encode(Kind::ChargeResponse, &row_owner(&record.channel, record.number), &Response::of(response))
}

pub(super) fn decode_response(channel: ChannelId, number: u64, bytes: &[u8]) -> Result<StoredResponse, StoreError> {
    let name = || format!("answer to charge {number} of channel {channel}");
    decode(Kind::ChargeResponse, &row_owner(&channel, number), bytes, name).map(Response::stored)
}

pub(super) fn encode_settled(row: &SettledMove) -> Vec<u8> {
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

pub(super) fn decode_settled(channel: ChannelId, number: u64, bytes: &[u8]) -> Result<SettledMove, StoreError> {
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
