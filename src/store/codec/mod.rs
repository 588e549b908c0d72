//! How records lie in a store: version byte, Borsh body, checksum.
//!
//! The checksum (8 bytes of SHA-256) covers what the bytes are, whose they are and the body, so that a flipped bit
//! or a row under a wrong key is never read as money. A version this program does not know is refused, never
//! guessed at. A changed shape gets a new version here and keeps reading the old one.

pub(in crate::store) mod channels;

use crate::{
    protocol::{
        amount::Amount,
        ids::{BlockHash, ChannelId, PaymentIdentifier, RequestHash, RequestIdentity, TxId},
        network::Network,
        policy::RouteId,
        requirements::{Finality, FinalityRule},
        time::UnixMillis,
    },
    store::{
        Acceptance, Checkpoint, FromChannel, HolderId, PaymentKey, PaymentRecord, PaymentState, StoreError, StoredResponse, Submission,
        Totals,
        channels::ChannelTotals,
        compress,
        rules::{Entry, Hold},
    },
};
use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
/// Of an answer whose body is compressed ([`Packed`]); one that is not has [`VERSION`].
const PACKED: u8 = 2;
/// Of a payment that is a sale from another gateway's channel ([`OfChannel`], [`Charged`]); others have [`VERSION`].
const OF_CHANNEL: u8 = 3;
const CHECKSUM: usize = 8;

/// What a record is; part of its checksum.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Kind {
    Terms = 1,
    Progress = 2,
    Response = 3,
    Head = 4,
    Checkpoint = 5,
    ChannelTerms = 6,
    ChannelAccounts = 7,
    ChannelChain = 8,
    Charge = 9,
    ChargeResponse = 10,
    SettledMove = 11,
    Mark = 12,
    Reversal = 13,
}

/// A payment's key as bytes: network, then txid.
pub(in crate::store) type KeyBytes = [u8; 33];

pub(in crate::store) fn key_bytes(key: &PaymentKey) -> KeyBytes {
    let mut bytes = [0; 33];
    bytes[0] = network_code(key.network);
    bytes[1..].copy_from_slice(&key.txid.0);
    bytes
}

pub(in crate::store) const fn network_code(network: Network) -> u8 {
    match network {
        Network::Mainnet => 1,
        Network::Testnet10 => 2,
        Network::Simnet => 3,
    }
}

pub(in crate::store) fn network_from(code: u8) -> Option<Network> {
    Network::ALL.into_iter().find(|network| network_code(*network) == code)
}

pub(in crate::store) fn key_from(bytes: &[u8]) -> Option<PaymentKey> {
    let bytes: &KeyBytes = bytes.try_into().ok()?;
    let (code, txid) = bytes.split_first_chunk::<1>()?;
    let network = network_from(code[0])?;
    Some(PaymentKey { network, txid: TxId(txid.try_into().ok()?) })
}

/// Fixed when the payment is claimed.
#[derive(BorshSerialize, BorshDeserialize)]
struct Terms {
    transaction: Vec<u8>,
    output_index: u32,
    amount: u64,
    pay_to: String,
    route: String,
    summary: String,
    identity: [u8; 32],
    request_hash: [u8; 32],
    identifier: Option<String>,
    finality: u8,
    depth: u64,
    offer_daa: u64,
    entitlement_seconds: u64,
    claimed_at: u64,
}

/// The same of a sale from a channel.
#[derive(BorshSerialize, BorshDeserialize)]
struct OfChannel {
    terms: Terms,
    channel: [u8; 32],
    identifier: String,
}

/// Rewritten with every step.
#[derive(BorshSerialize, BorshDeserialize)]
struct Progress {
    state: u8,
    late: bool,
    submission: u8,
    proven: bool,
    payer: Option<String>,
    acceptance: Option<AcceptanceFields>,
    is_final: bool,
    charged: bool,
    settled_at: Option<u64>,
    delivered_at: Option<u64>,
    entitled_until: Option<u64>,
    last_status: Option<u16>,
    forwards: u32,
    fence: u64,
    holder: [u8; 16],
    held_until: Option<u64>,
}

/// The same of a sale from a channel, from its answer on.
#[derive(BorshSerialize, BorshDeserialize)]
struct Charged {
    progress: Progress,
    charge: Option<u64>,
    receipt: Option<Vec<u8>>,
}

#[derive(BorshDeserialize)]
pub(in crate::store) struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// A response whose body is compressed.
#[derive(BorshDeserialize)]
struct Packed {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    /// Of the body as it was.
    length: u32,
    packed: Vec<u8>,
}

/// The counters and sums of the store, kept in one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(in crate::store) struct Head {
    /// Last ones given out.
    pub sequence: u64,
    pub fence: u64,
    pending: u64,
    settled: u64,
    delivered: u64,
    reversed: u64,
    charged_sompi: u128,
    reversed_sompi: u128,
    owed_sompi: u128,
    /// Last number of a channel, and of an answer to a charge: never given out again.
    pub channel_sequence: u64,
    pub response_sequence: u64,
    channels_open: u64,
    channels_closed: u64,
    charges: u64,
    channel_sompi: [u128; 5],
}

impl Head {
    pub fn totals(&self) -> Totals {
        Totals {
            pending: self.pending,
            settled: self.settled,
            delivered: self.delivered,
            reversed: self.reversed,
            charged_sompi: self.charged_sompi,
            reversed_sompi: self.reversed_sompi,
            owed_sompi: self.owed_sompi,
        }
    }

    pub fn set_totals(&mut self, totals: Totals) {
        let Totals { pending, settled, delivered, reversed, charged_sompi, reversed_sompi, owed_sompi } = totals;
        *self = Self { pending, settled, delivered, reversed, charged_sompi, reversed_sompi, owed_sompi, ..*self };
    }

    pub fn channel_totals(&self) -> ChannelTotals {
        let [charged_sompi, claimed_sompi, active_sompi, lost_sompi, funded_sompi] = self.channel_sompi;
        let (open, closed, charges) = (self.channels_open, self.channels_closed, self.charges);
        ChannelTotals { open, closed, charges, charged_sompi, claimed_sompi, active_sompi, lost_sompi, funded_sompi }
    }

    pub fn set_channel_totals(&mut self, totals: ChannelTotals) {
        let ChannelTotals { open, closed, charges, charged_sompi, claimed_sompi, active_sompi, lost_sompi, funded_sompi } = totals;
        let channel_sompi = [charged_sompi, claimed_sompi, active_sompi, lost_sompi, funded_sompi];
        *self = Self { channels_open: open, channels_closed: closed, charges, channel_sompi, ..*self };
    }
}

pub(in crate::store) fn encode_terms(record: &PaymentRecord) -> Vec<u8> {
    let terms = Terms {
        transaction: record.transaction.clone(),
        output_index: record.output_index,
        amount: record.amount.sompi(),
        pay_to: record.pay_to.clone(),
        route: record.route.0.clone(),
        summary: record.summary.clone(),
        identity: record.identity.0,
        request_hash: record.request_hash.0,
        identifier: record.identifier.as_ref().map(|identifier| identifier.as_str().to_owned()),
        finality: finality_code(record.finality.level),
        depth: record.finality.depth,
        offer_daa: record.offer_daa,
        entitlement_seconds: record.entitlement_seconds,
        claimed_at: record.claimed_at.0,
    };
    let key = key_bytes(&record.key);
    match &record.from_channel {
        None => encode(Kind::Terms, &key, &terms),
        Some(FromChannel { channel, identifier }) => {
            let of_channel = OfChannel { terms, channel: channel.0, identifier: identifier.as_str().to_owned() };
            encode_as(OF_CHANNEL, Kind::Terms, &key, &of_channel)
        }
    }
}

pub(in crate::store) fn encode_progress(Entry { record, hold, .. }: &Entry) -> Vec<u8> {
    let progress = Progress {
        state: state_code(record.state),
        late: record.late,
        submission: submission_code(record.submission),
        proven: record.proven,
        payer: record.payer.clone(),
        acceptance: record.acceptance.map(acceptance_fields),
        is_final: record.is_final,
        charged: record.charged,
        settled_at: record.settled_at.map(|at| at.0),
        delivered_at: record.delivered_at.map(|at| at.0),
        entitled_until: record.entitled_until.map(|at| at.0),
        last_status: record.last_status,
        forwards: record.forwards,
        fence: hold.fence,
        holder: hold.holder.0,
        held_until: hold.until.map(|at| at.0),
    };
    let key = key_bytes(&record.key);
    if record.charge.is_none() && record.receipt.is_none() {
        return encode(Kind::Progress, &key, &progress);
    }
    let charged = Charged { progress, charge: record.charge.map(Amount::sompi), receipt: record.receipt.clone() };
    encode_as(OF_CHANNEL, Kind::Progress, &key, &charged)
}

/// Puts a payment together from its row.
pub(in crate::store) fn decode_entry(
    sequence: u64,
    key: &[u8],
    terms: &[u8],
    progress: &[u8],
    response_kept: bool,
) -> Result<Entry, StoreError> {
    let name = || format!("payment {sequence}");
    let damaged = || StoreError::Corrupt(format!("{}: a field is out of range", name()));
    let parsed_key = key_from(key).ok_or_else(damaged)?;
    let (terms, of_channel) = match opened(Kind::Terms, key, terms, &[VERSION, OF_CHANNEL], &name)? {
        (OF_CHANNEL, record) => {
            let OfChannel { terms, channel, identifier } = read(record, name)?;
            let identifier = PaymentIdentifier::parse(&identifier).map_err(|_| damaged())?;
            (terms, Some(FromChannel { channel: ChannelId(channel), identifier }))
        }
        (_, record) => (read::<Terms>(record, name)?, None),
    };
    let (progress, charge, receipt) = match opened(Kind::Progress, key, progress, &[VERSION, OF_CHANNEL], &name)? {
        (OF_CHANNEL, record) => {
            let Charged { progress, charge, receipt } = read(record, name)?;
            (progress, charge.map(Amount::from_sompi).transpose().map_err(|_| damaged())?, receipt)
        }
        (_, record) => (read::<Progress>(record, name)?, None, None),
    };
    let record = PaymentRecord {
        sequence,
        key: parsed_key,
        state: state_from(progress.state).ok_or_else(damaged)?,
        transaction: terms.transaction,
        output_index: terms.output_index,
        from_channel: of_channel,
        amount: Amount::from_sompi(terms.amount).map_err(|_| damaged())?,
        charge,
        receipt,
        pay_to: terms.pay_to,
        route: RouteId(terms.route),
        summary: terms.summary,
        identity: RequestIdentity(terms.identity),
        request_hash: RequestHash(terms.request_hash),
        identifier: terms.identifier.map(|text| PaymentIdentifier::parse(&text)).transpose().map_err(|_| damaged())?,
        finality: FinalityRule { level: finality_from(terms.finality).ok_or_else(damaged)?, depth: terms.depth },
        offer_daa: terms.offer_daa,
        late: progress.late,
        submission: submission_from(progress.submission).ok_or_else(damaged)?,
        proven: progress.proven,
        payer: progress.payer,
        acceptance: progress.acceptance.map(acceptance_from),
        is_final: progress.is_final,
        charged: progress.charged,
        claimed_at: UnixMillis(terms.claimed_at),
        settled_at: progress.settled_at.map(UnixMillis),
        delivered_at: progress.delivered_at.map(UnixMillis),
        entitlement_seconds: terms.entitlement_seconds,
        entitled_until: progress.entitled_until.map(UnixMillis),
        last_status: progress.last_status,
        forwards: progress.forwards,
    };
    let hold = Hold { fence: progress.fence, holder: HolderId(progress.holder), until: progress.held_until.map(UnixMillis) };
    Ok(Entry { record, hold, response_kept })
}

pub(in crate::store) fn encode_response(key: &PaymentKey, response: &StoredResponse) -> Vec<u8> {
    encode_answer(Kind::Response, &key_bytes(key), response)
}

pub(in crate::store) fn decode_response(key: &PaymentKey, bytes: &[u8]) -> Result<StoredResponse, StoreError> {
    decode_answer(Kind::Response, &key_bytes(key), bytes, || format!("response of {}", key.txid))
}

/// Of a payment or a charge; compressed where that helps.
pub(super) fn encode_answer(kind: Kind, owner: &[u8], response: &StoredResponse) -> Vec<u8> {
    let StoredResponse { status, headers, body } = response;
    // The members of `Packed` and `Response`, borrowed.
    match (compress::packed(response), u32::try_from(body.len())) {
        (Some(packed), Ok(length)) => encode_as(PACKED, kind, owner, &(status, headers, length, packed)),
        _ => encode(kind, owner, &(status, headers, &body[..])),
    }
}

pub(super) fn decode_answer(kind: Kind, owner: &[u8], bytes: &[u8], name: impl Fn() -> String) -> Result<StoredResponse, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt(format!("{}: {why}", name()));
    let (version, record) = opened(kind, owner, bytes, &[VERSION, PACKED], &name)?;
    if version == VERSION {
        let Response { status, headers, body } = borsh::from_slice(record).map_err(|error| corrupt(error.to_string()))?;
        return Ok(StoredResponse { status, headers, body: body.into() });
    }
    let Packed { status, headers, length, packed } = borsh::from_slice(record).map_err(|error| corrupt(error.to_string()))?;
    let body = usize::try_from(length).ok().and_then(|length| compress::unpacked(&packed, length));
    let body = body.ok_or_else(|| corrupt("its body cannot be decompressed".to_owned()))?;
    Ok(StoredResponse { status, headers, body: body.into() })
}

pub(in crate::store) fn encode_head(head: &Head) -> Vec<u8> {
    encode(Kind::Head, &[], head)
}

pub(in crate::store) fn decode_head(bytes: &[u8]) -> Result<Head, StoreError> {
    decode(Kind::Head, &[], bytes, || "sums of the store".to_owned())
}

/// Block, blue score, DAA score.
pub(in crate::store) type AcceptanceFields = ([u8; 32], u64, u64);

pub(in crate::store) fn acceptance_fields(at: Acceptance) -> AcceptanceFields {
    (at.block.0, at.blue_score, at.daa_score)
}

pub(in crate::store) fn acceptance_from((block, blue_score, daa_score): AcceptanceFields) -> Acceptance {
    Acceptance { block: BlockHash(block), blue_score, daa_score }
}

pub(in crate::store) fn encode_checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    encode(Kind::Checkpoint, &[], &(checkpoint.block.0, checkpoint.blue_score))
}

pub(in crate::store) fn decode_checkpoint(bytes: &[u8]) -> Result<Checkpoint, StoreError> {
    let (block, blue_score): ([u8; 32], u64) = decode(Kind::Checkpoint, &[], bytes, || "chain checkpoint".to_owned())?;
    Ok(Checkpoint { block: BlockHash(block), blue_score })
}

pub(in crate::store) fn encode<T: BorshSerialize>(kind: Kind, owner: &[u8], value: &T) -> Vec<u8> {
    encode_as(VERSION, kind, owner, value)
}

fn encode_as<T: BorshSerialize>(version: u8, kind: Kind, owner: &[u8], value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(version);
    value.serialize(&mut bytes).expect("a vector takes every byte, and no field outgrows a 32-bit length");
    let checksum = checksum(kind, owner, &bytes);
    bytes.extend(checksum);
    bytes
}

pub(in crate::store) fn decode<T: BorshDeserialize>(
    kind: Kind,
    owner: &[u8],
    bytes: &[u8],
    name: impl Fn() -> String,
) -> Result<T, StoreError> {
    let (_, record) = opened(kind, owner, bytes, &[VERSION], &name)?;
    read(record, name)
}

fn read<T: BorshDeserialize>(record: &[u8], name: impl Fn() -> String) -> Result<T, StoreError> {
    borsh::from_slice(record).map_err(|error| StoreError::Corrupt(format!("{}: {error}", name())))
}

/// The version and the body of a record that is whole.
fn opened<'b>(kind: Kind, owner: &[u8], bytes: &'b [u8], known: &[u8], name: &impl Fn() -> String) -> Result<(u8, &'b [u8]), StoreError> {
    let corrupt = |why: &str| StoreError::Corrupt(format!("{}: {why}", name()));
    let version = match bytes.first() {
        Some(version) if known.contains(version) => *version,
        // Before the checksum: another version may have another one.
        Some(other) => return Err(corrupt(&format!("record version {other} is unknown to this program, which knows {known:?}"))),
        None => return Err(corrupt("empty record")),
    };
    let (record, stored) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(|| corrupt("record cut short"))?;
    if *stored != checksum(kind, owner, record) {
        return Err(corrupt("checksum does not match, the record is damaged"));
    }
    Ok((version, record.get(1..).unwrap_or_default()))
}

fn checksum(kind: Kind, owner: &[u8], record: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = Sha256::new();
    hasher.update([kind as u8]);
    hasher.update(owner);
    hasher.update(record);
    let digest = hasher.finalize();
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&digest[..CHECKSUM]);
    checksum
}

const STATES: [PaymentState; 4] = [PaymentState::Pending, PaymentState::Settled, PaymentState::Delivered, PaymentState::Reversed];

/// Also the column by which listings select.
pub(in crate::store) const fn state_code(state: PaymentState) -> u8 {
    match state {
        PaymentState::Pending => 1,
        PaymentState::Settled => 2,
        PaymentState::Delivered => 3,
        PaymentState::Reversed => 4,
    }
}

fn state_from(code: u8) -> Option<PaymentState> {
    STATES.into_iter().find(|state| state_code(*state) == code)
}

const SUBMISSIONS: [Submission; 4] = [Submission::None, Submission::Own, Submission::Foreign, Submission::HandedOver];

const fn submission_code(submission: Submission) -> u8 {
    match submission {
        Submission::None => 1,
        Submission::Own => 2,
        Submission::Foreign => 3,
        Submission::HandedOver => 4,
    }
}

fn submission_from(code: u8) -> Option<Submission> {
    SUBMISSIONS.into_iter().find(|submission| submission_code(*submission) == code)
}

const FINALITIES: [Finality; 3] = [Finality::Mempool, Finality::Accepted, Finality::Confirmed];

const fn finality_code(finality: Finality) -> u8 {
    match finality {
        Finality::Mempool => 1,
        Finality::Accepted => 2,
        Finality::Confirmed => 3,
    }
}

fn finality_from(code: u8) -> Option<Finality> {
    FINALITIES.into_iter().find(|finality| finality_code(*finality) == code)
}
