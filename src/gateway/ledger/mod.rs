//! The books for people and programs: every payment and every charge of a channel in one list.
//!
//! Made from records alone, so that the command line shows the same beside a running gateway and without one. A page is
//! bounded in what it returns and in what it reads, so a list of millions holds up nothing. Reads, and promises nothing.
//! Called by `admin` and `cli::payments`.

pub mod date;
pub mod report;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use super::{Gateway, remote::channel as remote};
use crate::{
    protocol::{
        amount::Amount,
        ids::{ChannelId, PaymentIdentifier, TxId},
        network::Network,
        time::UnixMillis,
    },
    store::{
        Acceptance, ChainFact, Observed, PaymentKey, PaymentRecord, PaymentState, Query, Reading, Selection, StoreError,
        channels::{ChannelQuery, ChannelRecord, ChannelSelection, ChargeRecord},
    },
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Records read at once.
const CHUNK: u32 = 256;
/// Records looked at for one page: a filter that takes little must not hold up the store for long.
const SCAN: usize = 2_048;

/// One payment or one charge. Amounts are decimal strings of sompi, as on the wire; times milliseconds since 1970. Members are only
/// ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Where it stands; a list continues after it.
    pub cursor: Cursor,
    pub scheme: Scheme,
    pub network: Network,
    /// The transaction of a payment; the commitment id of a charge (of one that another gateway has yet to make, the name of its record).
    pub id: TxId,
    pub state: EntryState,
    pub amount: Amount,
    pub route: String,
    /// Method and URL.
    pub summary: String,
    /// An address, as the node told it; of a charge the client's public key.
    pub payer: Option<String>,
    pub pay_to: String,
    /// When it was charged; of what is not charged, when it was claimed.
    pub at: UnixMillis,
    pub delivered_at: Option<UnixMillis>,
    /// Of the last answer of the upstream.
    pub status: Option<u16>,
    pub identifier: Option<PaymentIdentifier>,
    /// Of a payment that the virtual chain accepted.
    pub acceptance: Option<Acceptance>,
    /// Of a charge.
    pub channel: Option<ChannelId>,
    /// Of a charge, within its channel; of one that another gateway made none is known.
    pub number: Option<u64>,
    /// Until when a payment that is not delivered stays good.
    pub entitled_until: Option<UnixMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scheme {
    #[serde(rename = "exact")]
    Exact,
    #[serde(rename = "batch-settlement")]
    Batch,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Batch => "batch-settlement",
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Nobody knows yet whether the money moved.
    Pending,
    /// Presented after its offer was over, and not granted.
    PaidLate,
    /// Charged and owed: not delivered.
    Settled,
    Delivered,
    /// A conflicting spend is final.
    Reversed,
    /// A charge that no accepted claim covers yet.
    Charged,
    /// A charge that an accepted claim covers.
    Claimed,
    /// A charge of a channel that its client closed before a claim.
    Lost,
}

impl EntryState {
    pub const ALL: [Self; 8] =
        [Self::Pending, Self::PaidLate, Self::Settled, Self::Delivered, Self::Reversed, Self::Charged, Self::Claimed, Self::Lost];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::PaidLate => "paid_late",
            Self::Settled => "settled",
            Self::Delivered => "delivered",
            Self::Reversed => "reversed",
            Self::Charged => "charged",
            Self::Claimed => "claimed",
            Self::Lost => "lost",
        }
    }
}

impl FromStr for EntryState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| format!("a state is one of {}", names()))
    }
}

/// A place in the list: payments in the order of their claims, then the charges of each channel. `p12`, `c3.7`; `p0` is the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cursor {
    /// After the payment of this sequence.
    Payment(u64),
    /// After this charge of the channel of this sequence.
    Charge { channel: u64, number: u64 },
}

impl Default for Cursor {
    fn default() -> Self {
        Self::Payment(0)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payment(sequence) => write!(f, "p{sequence}"),
            Self::Charge { channel, number } => write!(f, "c{channel}.{number}"),
        }
    }
}

/// The text names no place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the list of payments")]
pub struct MalformedCursor;

impl FromStr for Cursor {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| MalformedCursor);
        match (text.strip_prefix('p'), text.strip_prefix('c').and_then(|rest| rest.split_once('.'))) {
            (Some(sequence), _) => Ok(Self::Payment(number(sequence)?)),
            (_, Some((channel, last))) => Ok(Self::Charge { channel: number(channel)?, number: number(last)? }),
            _ => Err(MalformedCursor),
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a list takes; nothing set takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// [`Entry::at`], from and before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<EntryState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The beginning of [`Entry::id`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        self.since.is_none_or(|since| since <= entry.at)
            && self.until.is_none_or(|until| entry.at < until)
            && is(&self.route, Some(&entry.route))
            && is(&self.payer, entry.payer.as_deref())
            && self.state.is_none_or(|state| state == entry.state)
            && self.scheme.is_none_or(|scheme| scheme == entry.scheme)
            && self.id.as_ref().is_none_or(|id| entry.id.to_string().starts_with(id.as_str()))
    }

    /// The smallest of the store's lists that has every payment this takes; `None` when it takes no payment.
    fn selection(&self) -> Option<Selection> {
        match (self.scheme, self.state) {
            (_, Some(EntryState::Charged | EntryState::Claimed | EntryState::Lost)) => None,
            (_, Some(EntryState::Pending | EntryState::PaidLate)) => Some(Selection::Unresolved),
            (_, Some(EntryState::Settled)) => Some(Selection::Owed),
            (_, None | Some(EntryState::Delivered | EntryState::Reversed)) => Some(Selection::All),
        }
    }

    fn takes_charges(&self) -> bool {
        let state = self.state.is_none_or(|state| matches!(state, EntryState::Charged | EntryState::Claimed | EntryState::Lost));
        state && self.scheme != Some(Scheme::Exact)
    }

    /// Whether a charge of this channel can be among what this takes, by what its record says.
    fn takes_of(&self, record: &ChannelRecord) -> bool {
        self.payer.as_ref().is_none_or(|payer| record.config.client_public_key.to_string() == *payer)
            && self.since.is_none_or(|since| record.last_charge_at.is_some_and(|last| since <= last))
            && self.until.is_none_or(|until| record.opened_at < until)
    }
}

/// Some entries, and where the list goes on; `next` is `None` at its end. A page may be empty and not the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub next: Option<Cursor>,
}

/// One entry with what is kept of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    #[serde(flatten)]
    pub entry: Entry,
    /// `None`: not delivered, over the replay limit, or pruned.
    pub response: Option<Kept>,
}

/// An answer as a replay repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub status: u16,
    pub headers: usize,
    /// Of the body, bytes.
    pub bytes: usize,
}

impl Entry {
    pub fn of_payment(record: &PaymentRecord) -> Self {
        let state = match record.state {
            PaymentState::Pending if record.late => EntryState::PaidLate,
            PaymentState::Pending => EntryState::Pending,
            PaymentState::Settled => EntryState::Settled,
            PaymentState::Delivered => EntryState::Delivered,
            PaymentState::Reversed => EntryState::Reversed,
        };
        let receipt = remote::receipt_of(record);
        Self {
            cursor: Cursor::Payment(record.sequence),
            scheme: if record.from_channel.is_some() { Scheme::Batch } else { Scheme::Exact },
            network: record.key.network,
            id: receipt.map_or(record.key.txid, |receipt| TxId(receipt.commitment_id.0)),
            state,
            amount: record.cost(),
            route: record.route.0.clone(),
            summary: record.summary.clone(),
            payer: record.payer.clone().or_else(|| remote::client_of(record).map(|key| key.to_string())),
            pay_to: record.pay_to.clone(),
            at: record.settled_at.unwrap_or(record.claimed_at),
            delivered_at: record.delivered_at,
            status: record.last_status,
            identifier: record.from_channel.as_ref().map(|from| from.identifier.clone()).or_else(|| record.identifier.clone()),
            acceptance: record.acceptance,
            channel: record.from_channel.as_ref().map(|from| from.channel),
            number: None,
            entitled_until: record.entitled_until,
        }
    }

    pub fn of_charge(channel: &ChannelRecord, charge: &ChargeRecord) -> Self {
        let state = if charge.charged_after <= channel.parts.claimed {
            EntryState::Claimed
        } else if channel.closure.is_some() {
            EntryState::Lost
        } else {
            EntryState::Charged
        };
        Self {
            cursor: Cursor::Charge { channel: channel.sequence, number: charge.number },
            scheme: Scheme::Batch,
            network: channel.config.network,
            id: TxId(charge.commitment.0),
            state,
            amount: charge.charge,
            route: charge.terms.route.0.clone(),
            summary: charge.terms.summary.clone(),
            payer: Some(channel.config.client_public_key.to_string()),
            pay_to: channel.config.pay_to.clone(),
            at: charge.at,
            delivered_at: Some(charge.at),
            status: Some(charge.status),
            identifier: Some(charge.terms.identifier.clone()),
            acceptance: None,
            channel: Some(charge.channel),
            number: Some(charge.number),
            entitled_until: None,
        }
    }
}

/// At most `limit` entries after a place.
pub async fn page<R: Reading + ?Sized>(store: &R, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
    let mut walk = Walk { store, filter, limit: limit.max(1), scanned: 0, entries: Vec::new() };
    let next = match after {
        Cursor::Payment(sequence) => match walk.payments(sequence).await? {
            None => walk.charges(0, 0).await?,
            stopped => stopped,
        },
        Cursor::Charge { channel, number } => walk.charges(channel, number).await?,
    };
    Ok(Page { entries: walk.entries, next })
}

/// One page in the making; each part says where it stopped, and `None` when it came to its end.
struct Walk<'a, R: ?Sized> {
    store: &'a R,
    filter: &'a Filter,
    limit: usize,
    scanned: usize,
    entries: Vec<Entry>,
}

impl<R: Reading + ?Sized> Walk<'_, R> {
    /// `false`: the page is full.
    fn take(&mut self, entry: Entry) -> bool {
        self.scanned += 1;
        if self.filter.takes(&entry) {
            self.entries.push(entry);
        }
        self.entries.len() < self.limit && self.scanned < SCAN
    }

    async fn payments(&mut self, mut after: u64) -> Result<Option<Cursor>, StoreError> {
        let Some(selection) = self.filter.selection() else { return Ok(None) };
        loop {
            let chunk = self.store.read_payments(&Query { selection, after, limit: CHUNK }).await?;
            if chunk.is_empty() {
                return Ok(None);
            }
            for record in &chunk {
                after = record.sequence;
                if !self.take(Entry::of_payment(record)) {
                    return Ok(Some(Cursor::Payment(after)));
                }
            }
        }
    }

    /// Goes on within the channel of this sequence, after this charge, and then with the channels behind it.
    async fn charges(&mut self, mut sequence: u64, mut number: u64) -> Result<Option<Cursor>, StoreError> {
        if !self.filter.takes_charges() {
            return Ok(None);
        }
        loop {
            let query = ChannelQuery { selection: ChannelSelection::All, after: sequence.saturating_sub(1), limit: CHUNK };
            let channels = self.store.read_channels(&query).await?;
            let Some(last) = channels.last().map(|last| last.sequence) else { return Ok(None) };
            for channel in &channels {
                if channel.sequence != sequence {
                    (sequence, number) = (channel.sequence, 0);
                }
                if let Some(stopped) = self.charges_of(channel, number).await? {
                    return Ok(Some(stopped));
                }
            }
            (sequence, number) = (last.saturating_add(1), 0);
        }
    }

    async fn charges_of(&mut self, channel: &ChannelRecord, mut number: u64) -> Result<Option<Cursor>, StoreError> {
        self.scanned += 1;
        if !self.filter.takes_of(channel) || channel.charges <= number {
            let here = Cursor::Charge { channel: channel.sequence, number: u64::MAX };
            return Ok((self.scanned >= SCAN).then_some(here));
        }
        loop {
            let chunk = self.store.read_charges(&channel.id, number, CHUNK).await?;
            if chunk.is_empty() {
                return Ok(None);
            }
            for charge in &chunk {
                number = charge.number;
                if !self.take(Entry::of_charge(channel, charge)) {
                    return Ok(Some(Cursor::Charge { channel: channel.sequence, number }));
                }
            }
        }
    }
}

/// What is kept beside an entry.
pub async fn detail<R: Reading + ?Sized>(store: &R, entry: Entry) -> Result<Detail, StoreError> {
    let response = match (&entry.channel, &entry.identifier, entry.number) {
        (Some(channel), Some(identifier), Some(_)) => store.read_charge(channel, identifier).await?.and_then(|stored| stored.response),
        _ => store.read_payment(&key(&entry)).await?.and_then(|stored| stored.response),
    };
    let kept = |kept: crate::store::StoredResponse| Kept { status: kept.status, headers: kept.headers.len(), bytes: kept.body.len() };
    Ok(Detail { entry, response: response.map(kept) })
}

/// Under which the payment of an entry is kept.
fn key(entry: &Entry) -> PaymentKey {
    match (&entry.channel, &entry.identifier) {
        (Some(channel), Some(identifier)) => remote::key_of(entry.network, channel, identifier),
        _ => PaymentKey { network: entry.network, txid: entry.id },
    }
}

/// The entry of this id: at once for a transaction, by reading the charges for a commitment.
pub async fn find<R: Reading + ?Sized>(store: &R, id: TxId) -> Result<Option<Detail>, StoreError> {
    for network in Network::ALL {
        if let Some(stored) = store.read_payment(&PaymentKey { network, txid: id }).await? {
            return detail(store, Entry::of_payment(&stored.record)).await.map(Some);
        }
    }
    let filter = Filter { id: Some(id.to_string()), scheme: Some(Scheme::Batch), ..Filter::default() };
    let mut after = Some(Cursor::default());
    while let Some(place) = after {
        let page = page(store, &filter, place, 1).await?;
        if let Some(entry) = page.entries.into_iter().next() {
            return detail(store, entry).await.map(Some);
        }
        after = page.next;
    }
    Ok(None)
}

/// What became of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granted {
    /// Good again: a payment that was late may be served; one that is owed stays good until the given moment.
    Done,
    /// Neither late nor owed, or good for longer already.
    Unchanged,
    Unknown,
}

impl Gateway {
    /// See [`page`].
    pub async fn ledger(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        self.ask(page(self.store.as_ref(), filter, after, limit)).await
    }

    /// See [`find`]. Not bounded by the length of a hold: a commitment is looked for in all charges.
    pub async fn ledger_entry(&self, id: TxId) -> Result<Option<Detail>, StoreError> {
        find(self.store.as_ref(), id).await
    }

    /// An operator makes a payment good for its request again, for so long from now.
    pub async fn grant(&self, txid: TxId, seconds: u64) -> Result<Granted, StoreError> {
        let (key, now) = (PaymentKey { network: self.chain.network(), txid }, self.now());
        let fact = ChainFact::Granted { until: now.plus_seconds(seconds) };
        let mut granted = self.ask(self.store.observe(&key, fact.clone(), now)).await?;
        // Of a charge that another gateway made it is the commitment, under which nothing is kept.
        if granted == Observed::NotFound
            && let Some(Detail { entry, .. }) = self.ledger_entry(txid).await?
            && entry.channel.is_some()
            && entry.number.is_none()
        {
            granted = self.ask(self.store.observe(&self::key(&entry), fact, now)).await?;
        }
        tracing::info!(%txid, seconds, ?granted, "granted by the operator");
        Ok(match granted {
            Observed::Done => Granted::Done,
            Observed::Unchanged => Granted::Unchanged,
            Observed::NotFound => Granted::Unknown,
        })
    }
}
