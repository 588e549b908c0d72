//! Opening a channel: its script is reserved, then the outpoint becomes its own for ever, then the record is written.

use super::{super::names::Pointer, write::script_target, *};
use crate::store::channels::rules::{Found, Open};
use tokio::time::Instant;

/// Who has the script.
enum Script {
    /// Nobody, or this very opening.
    Free,
    /// An open channel, or an opening that may still be written; `same_outpoint` when over the outpoint of this one.
    Of { channel: ChannelId, same_outpoint: bool },
}

impl RedisStore {
    pub(super) async fn open_or_find(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        let by = self.link.deadline();
        let (id, place) = (&opening.id, self.keys.channel(&opening.id));
        let outpoint = self.keys.outpoint((opening.config.network, opening.outpoint));
        let script = self.keys.script(&rules::script_key(&opening.config));
        let target = script_target(id, opening.outpoint);
        loop {
            let (known, owner, pointer) =
                tokio::try_join!(self.read_channel(id, &place, by), self.pointer(&outpoint, by), self.pointer(&script, by))?;
            let owner = owner.map(|owner| channel_id(owner.target())).transpose()?;
            let whose = self.script_holder(pointer.as_ref(), &target, by).await?;
            let (holder, same_outpoint) = match whose {
                Script::Free => (None, false),
                Script::Of { channel, same_outpoint } => (Some(channel), same_outpoint),
            };
            let found = Found { owner, known: known.as_ref().map(|known| &*known.record), script: holder };
            let record = match rules::open(opening, found, 0, now) {
                Open::New(record) => record,
                Open::Known => match known {
                    Some(known) => return Ok(Opened::Known(self.cache.put(id, known))),
                    None => return Ok(Opened::OutpointInUse),
                },
                Open::OutpointInUse => return Ok(Opened::OutpointInUse),
                // Another channel was quicker with both; which of them is read first means nothing.
                Open::ScriptInUse if same_outpoint && holder != Some(*id) => return Ok(Opened::OutpointInUse),
                Open::ScriptInUse => return Ok(Opened::ScriptInUse),
            };
            if let Some(record) = self.open_new(&place, *record, [&script, &outpoint], pointer.as_ref(), &target, by).await? {
                return Ok(record);
            }
            in_time(by)?;
        }
    }

    /// `None` when somebody was quicker.
    async fn open_new(
        &self,
        place: &super::super::keys::ChannelPlace,
        mut record: ChannelRecord,
        [script, outpoint]: [&super::super::keys::NamePlace; 2],
        seen: Option<&Pointer>,
        target: &[u8],
        by: Instant,
    ) -> Result<Option<Opened>, StoreError> {
        let until = match self.point(script, seen, target, false, by).await? {
            Pointed::Here { until } => until,
            Pointed::Elsewhere => return Ok(None),
        };
        if let Pointed::Elsewhere = self.point(outpoint, None, &record.id.0, true, by).await? {
            self.unpoint(script, target, by).await?;
            return Ok(Some(Opened::OutpointInUse));
        }
        record.sequence = self.count(names::CHANNEL_COUNT, by).await?;
        let next = self.next_revision();
        match self.inserting(place, &next, &record).until(until).send(self, place.shard, by).await? {
            Wrote::Done => {
                let id = record.id;
                Ok(Some(Opened::New(self.cache.put(&id, Known { record: Arc::new(record), revision: next, hold: None }))))
            }
            _ => Ok(None),
        }
    }

    async fn script_holder(&self, pointer: Option<&Pointer>, own: &[u8], by: Instant) -> Result<Script, StoreError> {
        let Some(pointer) = pointer.filter(|pointer| pointer.target() != own) else { return Ok(Script::Free) };
        let channel = channel_id(pointer.target())?;
        let same_outpoint = pointer.target()[32..] == own[32..];
        let held = Script::Of { channel, same_outpoint };
        Ok(match self.read_channel(&channel, &self.keys.channel(&channel), by).await? {
            Some(known) if rules::is_open(&known.record) => held,
            // A crash after the channel was closed for good, before its script was freed.
            Some(_) => Script::Free,
            // Not written yet, or never: a crash in the middle of an opening.
            None if pointer.is_abandoned(self.server_millis(by).await?) => Script::Free,
            None => held,
        })
    }
}

fn channel_id(target: &[u8]) -> Result<ChannelId, StoreError> {
    target.first_chunk().map(|id| ChannelId(*id)).ok_or_else(|| StoreError::Corrupt("a name points to no channel".to_owned()))
}
