//! Names that point to a record of another slot: an identifier to its payment, a script to its channel, an outpoint to its channel.
//!
//! A name is set before the record that it points to, so that two never get one; a crash in between leaves a name that points to
//! nothing. Whoever set it must write the record within [`RESERVED`] (the script that writes asks the server's clock); whoever finds
//! it pointing to nothing for longer than [`ABANDONED`] takes it over. In between it is waited for.

use super::{
    keys::NamePlace,
    link::{Effect, Scripts},
    *,
};
use tokio::time::Instant;

/// How long a name is good for writing its record, and after how long it may be taken over, by the server's clock. Two masters of a
/// cluster may disagree about the time by the difference.
const RESERVED: u64 = 2_000;
const ABANDONED: u64 = 6_000;
/// The time at the end of what is stored.
const STAMP: usize = 16;

/// What a name points to, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    raw: Vec<u8>,
    set_at: u64,
}

/// What became of an attempt to set a name.
#[derive(Debug)]
pub(super) enum Pointed {
    /// It points where it should; the record must be written by then.
    Here {
        until: u64,
    },
    Elsewhere,
}

impl Pointer {
    fn parse(raw: Vec<u8>) -> Result<Self, StoreError> {
        let place = raw.len().checked_sub(STAMP).ok_or_else(|| StoreError::Corrupt("a stored name is cut short".to_owned()))?;
        let set_at = reply::parsed(&raw[place..])?;
        Ok(Self { raw, set_at })
    }

    /// To whom.
    pub fn target(&self) -> &[u8] {
        &self.raw[..self.raw.len() - STAMP]
    }

    /// Nobody who set it may still write its record.
    pub fn is_abandoned(&self, server_now: u64) -> bool {
        server_now > self.set_at.saturating_add(ABANDONED)
    }
}

impl RedisStore {
    pub(super) async fn pointer(&self, place: &NamePlace, by: Instant) -> Result<Option<Pointer>, StoreError> {
        let found = self.link.command("HGET", &[&place.names, &place.name], Effect::Read, by).await?;
        reply::maybe_bytes(found)?.map(Pointer::parse).transpose()
    }

    /// Points a name to somebody, when it is still as it was seen.
    pub(super) async fn point(
        &self,
        place: &NamePlace,
        seen: Option<&Pointer>,
        target: &[u8],
        for_ever: bool,
        by: Instant,
    ) -> Result<Pointed, StoreError> {
        let seen = seen.map(|seen| seen.raw.clone()).unwrap_or_default();
        let once = if for_ever { b"once".to_vec() } else { Vec::new() };
        let args = [place.name.clone(), seen, target.to_vec(), once];
        let keys = [place.names.clone(), self.keys.guard(place.shard)];
        let answer = self.link.script(&Scripts::get().point, &keys, &args, Effect::Durable(place.shard), by).await?;
        let mut parts = reply::Parts::of(answer)?;
        let here = reply::number(parts.next())? == 1;
        let found = Pointer::parse(reply::bytes(parts.next())?)?;
        Ok(if here { Pointed::Here { until: found.set_at.saturating_add(RESERVED) } } else { Pointed::Elsewhere })
    }

    /// Frees a name that points to them. What a crash leaves behind points to nothing and is taken over.
    pub(super) async fn unpoint(&self, place: &NamePlace, target: &[u8], by: Instant) -> Result<(), StoreError> {
        let args = [place.name.clone(), target.to_vec()];
        self.link.script(&Scripts::get().unpoint, std::slice::from_ref(&place.names), &args, Effect::Note, by).await.map(drop)
    }

    pub(super) async fn server_millis(&self, by: Instant) -> Result<u64, StoreError> {
        let mut parts = reply::Parts::of(self.link.command("TIME", &[], Effect::Read, by).await?)?;
        let (seconds, micros) = (reply::number(parts.next())?, reply::number(parts.next())?);
        Ok(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
    }
}
