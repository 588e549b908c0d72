//! Listings and sums over all shards.

use super::{keys::names, link::Effect, sums::Sums, *};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::time::Instant;

/// The first window of numbers that is asked for; each next one is twice as wide.
const WINDOW: u64 = 256;
/// Records read at the same time.
const READS: usize = 128;

impl RedisStore {
    /// What an index lists after a number, in the order of the numbers, `limit` at a time. `read` answers `None` for what is not wanted.
    /// Shards are asked for windows of numbers, which are given out one after another, so no page reads much more than it returns.
    pub(super) async fn listed<T, F>(
        &self,
        index: &str,
        counter: &str,
        after: u64,
        limit: u32,
        read: impl Fn(Vec<u8>, Instant) -> F,
    ) -> Result<Vec<T>, StoreError>
    where
        F: Future<Output = Result<Option<T>, StoreError>>,
    {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let last = self.link.command("GET", &[&self.keys.of(0, counter)], Effect::Read, self.link.deadline()).await?;
        let last = reply::maybe_bytes(last)?.map(|digits| reply::parsed(&digits)).transpose()?.unwrap_or(0);
        let (mut found, mut at, mut from, mut width) = (Vec::new(), 0, after, WINDOW);
        while found.len() < limit {
            let by = self.link.deadline();
            let to = from.saturating_add(width);
            // The last window has no end: a counter that a crash set back hides nothing.
            let rest = to >= last;
            let members = self.window(index, from, (!rest).then_some(to), by).await?;
            let read = |(number, member)| {
                let read = read(member, self.link.deadline());
                async move { read.await.map(|record| (number, record)) }
            };
            let mut reads = stream::iter(members.into_iter().map(read)).buffered(READS);
            while let Some((number, record)) = reads.try_next().await? {
                // Two of one number (a crash set the counter back) are never on different pages.
                if found.len() >= limit && number != at {
                    break;
                }
                if let Some(record) = record {
                    found.push(record);
                    at = number;
                }
            }
            if rest {
                break;
            }
            (from, width) = (to, width.saturating_mul(2));
        }
        Ok(found)
    }

    /// Members with numbers above `from` up to `to`.
    async fn window(&self, index: &str, from: u64, to: Option<u64>, by: Instant) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let (from, to) = (format!("({from}"), to.map_or_else(|| "+inf".to_owned(), |to| to.to_string()));
        let shards = self.keys.all().map(|shard| {
            let (key, from, to) = (self.keys.of(shard, index), from.as_bytes(), to.as_bytes());
            async move { self.link.command("ZRANGEBYSCORE", &[&key, from, to, b"WITHSCORES"], Effect::Read, by).await }
        });
        let mut members = Vec::new();
        for shard in try_join_all(shards).await? {
            let mut parts = reply::list(shard)?.into_iter();
            while let (Some(member), Some(number)) = (parts.next(), parts.next()) {
                members.push((reply::number(number)?, reply::bytes(member)?));
            }
        }
        members.sort_unstable();
        Ok(members)
    }

    pub(super) async fn sums(&self) -> Result<Sums, StoreError> {
        let by = self.link.deadline();
        let shards = self.keys.all().map(|shard| {
            let key = self.keys.of(shard, names::TOTALS);
            async move { self.link.command("HGETALL", &[&key], Effect::Read, by).await }
        });
        let mut sums = Sums::default();
        for shard in try_join_all(shards).await? {
            sums.add(shard)?;
        }
        Ok(sums)
    }
}
