//! Reading channels and their rows.

use super::*;
use crate::store::{
    codec::channels::{self as codec, ChannelBytes},
    redis::keys::ChannelPlace,
};
use ::redis::Value;
use borsh::{BorshDeserialize, BorshSerialize};
use tokio::time::Instant;

/// Rows read at once.
const PAGE: u32 = 256;

/// The holder of a lease and its purpose, as they lie beside it.
#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct Who {
    holder: [u8; 16],
    /// Identifier, nonce and identity of a request.
    request: Option<(String, [u8; 16], [u8; 32])>,
}

impl Who {
    pub fn encoded(ask: &LeaseAsk) -> Vec<u8> {
        let request = match &ask.purpose {
            Purpose::Request { identifier, nonce, identity } => Some((identifier.as_str().to_owned(), *nonce, identity.0)),
            Purpose::Upkeep => None,
        };
        borsh::to_vec(&Self { holder: ask.holder.0, request }).expect("a vector takes every byte")
    }

    pub fn hold(id: &ChannelId, bytes: &[u8], fence: u64, until: UnixMillis) -> Result<Hold, StoreError> {
        let damaged = || StoreError::Corrupt(format!("the lease of channel {id}"));
        let Self { holder, request } = borsh::from_slice(bytes).map_err(|_| damaged())?;
        let purpose = match request {
            None => Purpose::Upkeep,
            Some((identifier, nonce, identity)) => Purpose::Request {
                identifier: PaymentIdentifier::parse(&identifier).map_err(|_| damaged())?,
                nonce,
                identity: crate::protocol::ids::RequestIdentity(identity),
            },
        };
        Ok(Hold { fence, holder: HolderId(holder), until, purpose })
    }
}

/// Sequence, terms, accounts, moves.
pub(super) fn decoded(id: &ChannelId, record: [Value; 4]) -> Result<ChannelRecord, StoreError> {
    let missing = || StoreError::Corrupt(format!("channel {id}: a part is missing"));
    let [sequence, terms, accounts, chain] = record;
    let part = |value| reply::maybe_bytes(value)?.ok_or_else(missing);
    let sequence = reply::parsed(&part(sequence)?)?;
    codec::decode_channel(sequence, *id, ChannelBytes { terms: &part(terms)?, accounts: &part(accounts)?, chain: &part(chain)? })
}

impl RedisStore {
    pub(super) async fn read_channel(&self, id: &ChannelId, place: &ChannelPlace, by: Instant) -> Result<Option<Known>, StoreError> {
        let fields: [&[u8]; 9] = [&place.record, b"r", b"q", b"t", b"a", b"h", b"lf", b"lu", b"lw"];
        let mut parts = reply::Parts::of(self.link.command("HMGET", &fields, Effect::Read, by).await?)?;
        let Some(revision) = reply::maybe_bytes(parts.next())? else {
            self.cache.forget(id);
            return Ok(None);
        };
        let record = Arc::new(decoded(id, [parts.next(), parts.next(), parts.next(), parts.next()])?);
        let lease = (reply::maybe_bytes(parts.next())?, reply::maybe_bytes(parts.next())?, reply::maybe_bytes(parts.next())?);
        let hold = match lease {
            (Some(fence), Some(until), Some(who)) => Some(Who::hold(id, &who, reply::parsed(&fence)?, UnixMillis(reply::parsed(&until)?))?),
            _ => None,
        };
        Ok(Some(Known { record, revision, hold }))
    }

    pub(super) async fn list_channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        let index = if query.selection == ChannelSelection::All { names::CHANNELS } else { names::OPEN };
        let selection = query.selection;
        let read = |member: Vec<u8>, by| async move {
            let id: [u8; 32] = member.try_into().map_err(|_| StoreError::Corrupt("an index names no channel".to_owned()))?;
            let id = ChannelId(id);
            let record = self.read_channel(&id, &self.keys.channel(&id), by).await?.map(|known| known.record);
            Ok(record.filter(|record| rules::selects(selection, record)))
        };
        self.listed(index, names::CHANNEL_COUNT, query.after, query.limit, read).await
    }

    pub(super) async fn read_charge(&self, id: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        let (place, by) = (self.keys.channel(id), self.link.deadline());
        let number = self.link.command("HGET", &[&place.used, &codec::identifier_key(identifier)], Effect::Read, by).await?;
        let Some(number) = reply::maybe_bytes(number)?.map(|digits| reply::parsed(&digits)).transpose()? else { return Ok(None) };
        let (responses, response) = (self.keys.of(place.shard, names::RESPONSES), place.response(number));
        let index = number.saturating_sub(1).to_string();
        let (row, response): ([&[u8]; 2], [&[u8]; 2]) = ([&place.charges, index.as_bytes()], [&responses, &response]);
        let read = |name, args| self.link.command(name, args, Effect::Read, by);
        let (row, response) = tokio::try_join!(read("LINDEX", &row), read("HGET", &response))?;
        let stored = stored_charge(id, number, row, response)?;
        Ok(Some(stored).filter(|stored| stored.record.terms.identifier == *identifier))
    }

    pub(super) async fn read_charges(&self, id: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        let rows = self.rows(&self.keys.channel(id).charges, after, limit).await?;
        rows.into_iter().map(|(number, row)| codec::decode_charge(*id, number, &row)).collect()
    }

    pub(super) async fn read_moves(&self, id: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        let rows = self.rows(&self.keys.channel(id).moves, after, limit).await?;
        rows.into_iter().map(|(number, row)| codec::decode_settled(*id, number, &row)).collect()
    }

    /// Rows of a ledger after a number, with their numbers.
    pub(super) async fn rows(&self, ledger: &[u8], after: u64, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // The server counts in signed numbers, and no ledger has as many rows.
        let (mut rows, mut number) = (Vec::new(), after.min(1 << 62));
        while rows.len() < limit {
            let by = self.link.deadline();
            let (first, last) = (number.to_string(), number.saturating_add(u64::from(PAGE) - 1).to_string());
            let page = reply::list(self.link.command("LRANGE", &[ledger, first.as_bytes(), last.as_bytes()], Effect::Read, by).await?)?;
            let whole = page.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
            for row in page {
                number = number.saturating_add(1);
                rows.push((number, reply::bytes(row)?));
            }
            if !whole {
                break;
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }
}

pub(super) fn stored_charge(id: &ChannelId, number: u64, row: Value, response: Value) -> Result<StoredCharge, StoreError> {
    let row = reply::maybe_bytes(row)?.ok_or_else(|| StoreError::Corrupt(format!("charge {number} of channel {id} is missing")))?;
    let record = codec::decode_charge(*id, number, &row)?;
    let response = reply::maybe_bytes(response)?.map(|bytes| codec::decode_response(*id, number, &bytes)).transpose()?;
    Ok(StoredCharge { record, response })
}
