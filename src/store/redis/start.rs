//! Opening the store: its id, its checkpoint, what the server promises.

use super::{
    demands::{Fit, Misfit},
    durability::Replicas,
    keys::names,
    link::{Effect, Link},
    *,
};
use crate::store::{codec, moving::Moving};
use std::sync::Mutex;
use tokio::time::Instant;

/// The layout this program writes; others are refused.
pub(super) const VERSION: &str = "1";
/// A gateway whose checkpoint is older than this is gone.
const GONE_MILLIS: u64 = 120_000;
const STAMP: usize = 16;
/// Whose the checkpoint is that came with a move.
const MOVED: &[u8] = b"moved";

/// Why a store was not opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the server is not fit to keep money:{}", .0.iter().map(|misfit| format!("\n  {misfit}")).collect::<String>())]
    Unfit(Vec<Misfit>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checkpoints of gateways that are gone.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(Mutex<Vec<Vec<u8>>>);

impl RedisStore {
    /// Opens the store, creating it when there is none under the prefix, on a server that is fit for it.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        let mut link = Link::new(options)?;
        let by = link.deadline();
        let Fit { replicas, on_disk } =
            demands::examine(&link, options.durability, options.replicas, by).await?.map_err(OpenError::Unfit)?;
        link.load_scripts(by).await;
        create(&link, options, by).await?;
        let (id, shards) = identity(&link, options, by).await?.ok_or_else(|| nothing(options))?;
        let keys = Keys::new(&options.prefix, shards);
        if replicas > 0 {
            link.wait_for(Replicas::new(Link::new(options)?, keys.clone(), replicas, on_disk));
        }
        let store = Self::over(id, link, keys, options);
        store.mark().await?.map_or(Ok(store), |mark| Err(mark.refusal().into()))
    }

    /// Opens an existing store to read it, also one that has moved, whatever the server promises.
    pub async fn open_reading(options: &Options) -> Result<Self, OpenError> {
        let link = Link::new(options)?;
        let (id, shards) = identity(&link, options, link.deadline()).await?.ok_or_else(|| nothing(options))?;
        Ok(Self::over(id, link, Keys::new(&options.prefix, shards), options))
    }

    /// Opens an existing store past its mark, to move from or to it; never for serving. What the server promises is demanded of a target
    /// alone, when it is made.
    /// `None` where there is no store.
    pub async fn open_moving(options: &Options) -> Result<Option<Self>, OpenError> {
        let mut link = Link::new(options)?;
        let by = link.deadline();
        let Some((id, shards)) = identity(&link, options, by).await? else { return Ok(None) };
        let keys = Keys::new(&options.prefix, shards).past_mark();
        if let Ok(Fit { replicas, on_disk }) = demands::examine(&link, options.durability, options.replicas, by).await?
            && replicas > 0
        {
            link.wait_for(Replicas::new(Link::new(options)?, keys.clone(), replicas, on_disk));
        }
        Ok(Some(Self::over(id, link, keys, options)))
    }

    fn over(id: StoreId, link: Link, keys: Keys, options: &Options) -> Self {
        Self {
            id,
            link,
            keys,
            lease_clock: options.lease_clock,
            process: options.process,
            writes: AtomicU64::default(),
            cache: channels::Cache::default(),
            orphans: super::orphans::Orphans::default(),
            checkpoints: Checkpoints::default(),
        }
    }

    /// The lowest of all gateways' checkpoints. A gateway that is gone may have left payments behind that nobody followed since: whoever
    /// starts takes them up, and follows the chain from where the last of the others was.
    pub(super) async fn lowest_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let by = self.link.deadline();
        let key = self.keys.of(0, names::CHECKPOINTS);
        let mut fields = reply::list(self.link.command("HGETALL", &[&key], Effect::Read, by).await?)?.into_iter();
        let now = self.server_millis(by).await?;
        let (mut lowest, mut gone): (Option<Checkpoint>, _) = (None, Vec::new());
        while let (Some(process), Some(value)) = (fields.next(), fields.next()) {
            let (process, value) = (reply::bytes(process)?, reply::bytes(value)?);
            let (stamp, record) =
                value.split_at_checked(STAMP).ok_or_else(|| StoreError::Corrupt("a checkpoint is cut short".to_owned()))?;
            let checkpoint = codec::decode_checkpoint(record)?;
            if lowest.is_none_or(|lowest| checkpoint.blue_score < lowest.blue_score) {
                lowest = Some(checkpoint);
            }
            if process != self.process && now > reply::parsed(stamp)?.saturating_add(GONE_MILLIS) {
                gone.push(process);
            }
        }
        *self.checkpoints.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = gone;
        Ok(lowest)
    }

    /// This gateway followed the chain up to here, with everything that the gateways which are gone had left open: theirs are forgotten.
    pub(super) async fn own_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let by = self.link.deadline();
        let key = self.keys.of(0, names::CHECKPOINTS);
        // Of a move: whoever starts first takes it up at once.
        let stamp = if self.keys.is_past_mark() { 0 } else { self.server_millis(by).await? };
        let field = if self.keys.is_past_mark() { MOVED } else { self.process.as_slice() };
        let mut value = format!("{stamp:016}").into_bytes();
        value.extend(codec::encode_checkpoint(&checkpoint));
        self.single(names::CHECKPOINTS, &[b"HSET", field, &value], by).await?;
        let gone = std::mem::take(&mut *self.checkpoints.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if !gone.is_empty() {
            let args: Vec<&[u8]> = std::iter::once(key.as_slice()).chain(gone.iter().map(Vec::as_slice)).collect();
            self.link.command("HDEL", &args, Effect::Note, by).await?;
        }
        Ok(())
    }
}

fn nothing(options: &Options) -> StoreError {
    StoreError::Unavailable(format!("there is no store under the prefix {}", options.prefix))
}

/// Draws what the store is where it is not drawn yet; each field once, whoever comes first.
async fn create(link: &Link, options: &Options, by: Instant) -> Result<(), StoreError> {
    let key = Keys::new(&options.prefix, 1).of(0, names::STORE);
    let id = hex::encode(options.new_store_id.0);
    let shards = options.shards.max(1).to_string();
    for (field, value) in [("version", VERSION), ("shards", &shards), ("id", &id)] {
        link.command("HSETNX", &[&key, field.as_bytes(), value.as_bytes()], Effect::Durable(0), by).await?;
    }
    Ok(())
}

/// Reads what the store is; `None` when there is none.
async fn identity(link: &Link, options: &Options, by: Instant) -> Result<Option<(StoreId, u16)>, StoreError> {
    let key = Keys::new(&options.prefix, 1).of(0, names::STORE);
    let mut parts = reply::Parts::of(link.command("HMGET", &[&key, b"version", b"shards", b"id"], Effect::Read, by).await?)?;
    let version = match parts.next() {
        ::redis::Value::Nil => return Ok(None),
        found => reply::text(found)?,
    };
    let (shards, id) = (reply::number(parts.next())?, reply::text(parts.next())?);
    if version != VERSION {
        return Err(StoreError::Corrupt(format!(
            "{}: layout {version} is unknown to this program, which knows {VERSION}: run the program that wrote it",
            options.prefix
        )));
    }
    let damaged = || StoreError::Corrupt(format!("{}: what the store is cannot be read", options.prefix));
    let id: [u8; 16] = hex::decode(id).ok().and_then(|id| id.try_into().ok()).ok_or_else(damaged)?;
    let shards = u16::try_from(shards).ok().filter(|shards| *shards > 0).ok_or_else(damaged)?;
    Ok(Some((StoreId(id), shards)))
}
