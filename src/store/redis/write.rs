//! The writes of one verb: one script, one slot, all or nothing.

use super::{
    RedisStore,
    link::{Effect, Scripts},
    reply,
};
use crate::store::StoreError;
use tokio::time::Instant;

/// Names one write of one process. A record carries that of its last write: what the next one must find, and how a write that
/// is sent again after its answer was lost knows itself.
pub(super) type Revision = Vec<u8>;

/// See the module.
#[derive(Debug)]
pub(super) struct Commit {
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Done,
    /// The record is another: nothing was written.
    Conflict,
    /// Another lease holds it: nothing was written.
    Stale,
    /// The reservation that it builds on is over: nothing was written.
    Late,
}

impl Commit {
    /// `None` as the next revision removes the record; its key is then among the writes.
    pub fn new(record: Vec<u8>, expected: Option<&Revision>, next: Option<&Revision>) -> Self {
        let revision = |revision: Option<&Revision>| revision.cloned().unwrap_or_default();
        let mut commit = Self { keys: vec![record.clone()], args: vec![revision(expected), revision(next), Vec::new(), Vec::new()] };
        if let Some(next) = next {
            commit.write("HSET", record, [b"r".to_vec(), next.clone()]);
        }
        commit
    }

    /// Only while this lease holds the channel.
    pub fn fenced(mut self, fence: u64) -> Self {
        self.args[2] = fence.to_string().into_bytes();
        self
    }

    /// Only until this moment of the server.
    pub fn until(mut self, millis: u64) -> Self {
        self.args[3] = millis.to_string().into_bytes();
        self
    }

    pub fn write(&mut self, command: &str, key: Vec<u8>, args: impl IntoIterator<Item = Vec<u8>>) {
        let place = self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        let args: Vec<_> = args.into_iter().collect();
        self.args.extend([args.len().to_string().into_bytes(), command.as_bytes().to_vec(), (place + 1).to_string().into_bytes()]);
        self.args.extend(args);
    }

    /// About how much is sent.
    pub fn bytes(&self) -> usize {
        self.args.iter().map(Vec::len).sum()
    }

    pub async fn send(mut self, store: &RedisStore, shard: u16, by: Instant) -> Result<Wrote, StoreError> {
        self.keys.push(store.keys.guard(shard));
        match reply::number(store.link.script(&Scripts::get().commit, &self.keys, &self.args, Effect::Durable(shard), by).await?)? {
            0 => Ok(Wrote::Conflict),
            1 => Ok(Wrote::Done),
            2 => Ok(Wrote::Stale),
            3 => Ok(Wrote::Late),
            _ => Err(StoreError::Corrupt("a row is there before its time, or one is missing".to_owned())),
        }
    }
}
