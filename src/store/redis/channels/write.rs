//! Writing channels: the record, its rows, its place in the indexes and the sums, in one script.

use super::*;
use crate::{
    protocol::ids::TxId,
    store::{
        channels::rules::Change,
        codec::channels as codec,
        redis::{
            keys::{ChannelPlace, NamePlace},
            write::Commit,
        },
    },
};
use tokio::time::Instant;

/// The script of a channel points to the channel and to the outpoint it was opened with.
pub(super) fn script_target(id: &ChannelId, outpoint: crate::protocol::ids::Outpoint) -> Vec<u8> {
    [id.0.as_slice(), &codec::outpoint_bytes(outpoint)].concat()
}

impl RedisStore {
    /// A step of the holder.
    pub(super) fn changing(
        &self,
        place: &ChannelPlace,
        known: &Known,
        next: &Revision,
        change: &Change,
        response: Option<&StoredResponse>,
    ) -> Commit {
        let mut commit = self.rewriting(place, known, next, &change.record);
        if change.hold.is_none() {
            commit.write("HDEL", place.record.clone(), [b"lf".to_vec(), b"lu".to_vec(), b"lw".to_vec(), b"lo".to_vec()]);
        }
        if let Some(charge) = &change.charge {
            let number = charge.number.to_string().into_bytes();
            let keys = [codec::identifier_key(&charge.terms.identifier).to_vec(), codec::nonce_key(&charge.terms.nonce).to_vec()];
            // The lease looked before: a key that is there all the same, or a row too many, is damage.
            commit.write("LENGTH", place.charges.clone(), [known.record.charges.to_string().into_bytes()]);
            for key in keys {
                commit.write("ABSENT", place.used.clone(), [key.clone()]);
                commit.write("HSET", place.used.clone(), [key, number.clone()]);
            }
            commit.write("RPUSH", place.charges.clone(), [codec::encode_charge(charge)]);
            if let Some(response) = response {
                let encoded = codec::encode_response(charge, response);
                self.keep_response(&mut commit, place.shard, place.response(charge.number), encoded, charge.at);
            }
        }
        commit
    }

    /// The record after a step or a sighting, with what follows from it.
    fn rewriting(&self, place: &ChannelPlace, known: &Known, next: &Revision, after: &ChannelRecord) -> Commit {
        let before = &*known.record;
        let mut commit = Commit::new(place.record.clone(), Some(&known.revision), Some(next));
        let mut fields = vec![b"a".to_vec(), codec::encode_accounts(after)];
        let parts = |record: &ChannelRecord| (record.before, record.closure);
        if before.deposit != after.deposit || before.moves != after.moves || parts(before) != parts(after) {
            fields.extend([b"h".to_vec(), codec::encode_chain(after)]);
        }
        commit.write("HSET", place.record.clone(), fields);
        if rules::is_open(before) && !rules::is_open(after) {
            commit.write("ZREM", self.keys.of(place.shard, names::OPEN), [after.id.0.to_vec()]);
        }
        let totals = self.keys.of(place.shard, names::TOTALS);
        sums::move_channels(&mut commit, totals, rules::contribution(before), rules::contribution(after));
        commit
    }

    /// Inserts a channel, while its script is still reserved for it.
    pub(super) fn inserting(&self, place: &ChannelPlace, next: &Revision, record: &ChannelRecord) -> Commit {
        let of = |name| self.keys.of(place.shard, name);
        let mut commit = Commit::new(place.record.clone(), None, Some(next));
        let sequence = record.sequence.to_string().into_bytes();
        let (terms, accounts, chain) = (codec::encode_terms(record), codec::encode_accounts(record), codec::encode_chain(record));
        let fields = [b"q".to_vec(), sequence.clone(), b"t".to_vec(), terms, b"a".to_vec(), accounts, b"h".to_vec(), chain];
        commit.write("HSET", place.record.clone(), fields);
        for index in [names::CHANNELS, names::OPEN] {
            commit.write("ZADD", of(index), [sequence.clone(), record.id.0.to_vec()]);
        }
        sums::move_channels(&mut commit, of(names::TOTALS), ChannelTotals::default(), rules::contribution(record));
        commit
    }

    pub(super) async fn save_sighting(
        &self,
        place: &ChannelPlace,
        known: &Known,
        after: ChannelRecord,
        rows: &[SettledMove],
        by: Instant,
    ) -> Result<Wrote, StoreError> {
        let next = self.next_revision();
        let mut commit = self.rewriting(place, known, &next, &after);
        self.settle(&mut commit, place, rows, by).await?;
        let wrote = commit.send(self, place.shard, by).await?;
        if wrote == Wrote::Done {
            let closes = rules::is_open(&known.record) && !rules::is_open(&after);
            let (id, name, target) = (after.id, self.script_name(&after), script_target(&after.id, after.deposit.outpoint));
            self.cache.put(&id, Known { record: Arc::new(after), revision: next, hold: known.hold.clone() });
            if closes {
                self.unpoint(&name, &target, by).await?;
            }
        }
        Ok(wrote)
    }

    /// Appends or replaces the rows of moves; their numbers and first moments stay.
    async fn settle(&self, commit: &mut Commit, place: &ChannelPlace, rows: &[SettledMove], by: Instant) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let keys = [place.moves.clone(), place.move_numbers.clone()];
        let txids: Vec<_> = rows.iter().map(|row| row.txid.0.to_vec()).collect();
        let mut parts = reply::Parts::of(self.link.script(&Scripts::get().moves, &keys, &txids, Effect::Read, by).await?)?;
        let mut last = reply::number(parts.next())?;
        let mut appended: Vec<TxId> = Vec::new();
        commit.write("LENGTH", place.moves.clone(), [last.to_string().into_bytes()]);
        for row in rows {
            let (number, known) = (reply::bytes(parts.next())?, reply::bytes(parts.next())?);
            if number.is_empty() {
                debug_assert!(!appended.contains(&row.txid), "one row of a move in a sighting");
                appended.push(row.txid);
                last = last.saturating_add(1);
                let row = SettledMove { number: last, ..row.clone() };
                commit.write("RPUSH", place.moves.clone(), [codec::encode_settled(&row)]);
                commit.write("HSET", place.move_numbers.clone(), [row.txid.0.to_vec(), last.to_string().into_bytes()]);
            } else {
                let known = codec::decode_settled(row.channel, reply::parsed(&number)?, &known)?;
                if known.state != row.state {
                    let index = known.number.saturating_sub(1).to_string().into_bytes();
                    let row = SettledMove { state: row.state, ..known };
                    commit.write("LSET", place.moves.clone(), [index, codec::encode_settled(&row)]);
                }
            }
        }
        Ok(())
    }

    /// Forgets a channel that never was; its outpoint stays its own.
    pub(super) async fn remove_channel(&self, place: &ChannelPlace, known: &Known, by: Instant) -> Result<Wrote, StoreError> {
        let record = &*known.record;
        let of = |name| self.keys.of(place.shard, name);
        let mut commit = Commit::new(place.record.clone(), Some(&known.revision), None);
        commit.write("DEL", place.record.clone(), []);
        for rows in [&place.moves, &place.move_numbers] {
            commit.write("DEL", rows.clone(), []);
        }
        for index in [names::CHANNELS, names::OPEN] {
            commit.write("ZREM", of(index), [record.id.0.to_vec()]);
        }
        sums::move_channels(&mut commit, of(names::TOTALS), rules::contribution(record), ChannelTotals::default());
        let wrote = commit.send(self, place.shard, by).await?;
        if wrote == Wrote::Done {
            self.cache.forget(&record.id);
            self.unpoint(&self.script_name(record), &script_target(&record.id, record.deposit.outpoint), by).await?;
        }
        Ok(wrote)
    }

    fn script_name(&self, record: &ChannelRecord) -> NamePlace {
        self.keys.script(&rules::script_key(&record.config))
    }
}
