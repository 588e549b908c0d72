//! Leases: taken, renewed and ended by one script each, by the server's clock.

use super::{
    read::{Who, decoded, stored_charge},
    *,
};
use crate::store::{codec::channels as codec, redis::keys::ChannelPlace};
use tokio::time::Instant;

/// The server adds in doubles; nobody holds a channel for longer than this.
const LONGEST_MILLIS: u64 = 1 << 50;

/// A moment as the scripts compare it.
fn digits(at: UnixMillis) -> Vec<u8> {
    format!("{:020}", at.0).into_bytes()
}

impl RedisStore {
    pub(super) async fn take_lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        let by = self.link.deadline();
        let id = &ask.channel;
        let place = self.keys.channel(id);
        let of = |name| self.keys.of(place.shard, name);
        let known = self.cache.get(id);
        let (asked_at, ends) = match self.lease_clock {
            LeaseClock::Server => (Vec::new(), Vec::new()),
            LeaseClock::Caller => (digits(now), digits(now.plus_millis(ask.hold_millis))),
        };
        let (by_identifier, by_nonce) = match &ask.purpose {
            Purpose::Request { identifier, nonce, .. } => (codec::identifier_key(identifier).to_vec(), codec::nonce_key(nonce).to_vec()),
            Purpose::Upkeep => (Vec::new(), Vec::new()),
        };
        let keys = [
            place.record.clone(),
            place.used.clone(),
            place.charges.clone(),
            of(names::RESPONSES),
            of(names::FENCE),
            self.keys.guard(place.shard),
        ];
        let name = self.next_revision();
        let args = [
            known.as_ref().map(|known| known.revision.clone()).unwrap_or_default(),
            name.clone(),
            Who::encoded(ask),
            ask.hold_millis.min(LONGEST_MILLIS).to_string().into_bytes(),
            asked_at,
            ends,
            by_identifier,
            by_nonce,
            place.responses().to_vec(),
            self.orphans.of(&place.record),
        ];
        let attempt = self.orphans.attempt(&place.record, &name);
        // Nothing that was acknowledged hangs on a lease: one that is lost leaves its holder's last step stale.
        let (answer, history) = self.link.script_in(&Scripts::get().lease, &keys, &args, Effect::Note, by).await?;
        attempt.answered();
        let mut parts = reply::Parts::of(answer)?;
        let held = match reply::text(parts.next())?.as_str() {
            "unknown" => {
                self.cache.forget(id);
                return Ok(Leased::Unknown);
            }
            "nonce" => return Ok(Leased::NonceReused),
            "charged" => {
                self.link.settled(place.shard, &history, by).await?;
                let charge = stored_charge(id, reply::number(parts.next())?, parts.next(), parts.next())?;
                let Purpose::Request { identifier, identity, .. } = &ask.purpose else { return Ok(Leased::IdentifierReused) };
                // Two identifiers of one hash: a client that looked for them has used one of its own up.
                let same = charge.record.terms.identifier == *identifier;
                return Ok(if same { rules::charged_before(charge, identity) } else { Leased::IdentifierReused });
            }
            other => other == "held",
        };
        let whose = parts.next();
        let (until, server_now) = (reply::number(parts.next())?, reply::number(parts.next())?);
        let until = Shift::between(self.lease_clock, now, server_now).to_caller(UnixMillis(until));
        let revision = reply::bytes(parts.next())?;
        let record = match known.filter(|known| known.revision == revision) {
            Some(known) => known.record,
            None => match decoded(id, [parts.next(), parts.next(), parts.next(), parts.next()]) {
                Ok(record) => Arc::new(record),
                Err(error) => {
                    if held {
                        // Best effort: its expiry does it too.
                        let _ = self.change_lease(&place, reply::number(whose)?, None, &ChannelFact::Released, by).await;
                    }
                    return Err(error);
                }
            },
        };
        if held {
            let fence = reply::number(whose)?;
            let hold = Hold { fence, holder: ask.holder, until, purpose: ask.purpose.clone() };
            let record = self.cache.put(id, Known { record, revision, hold: Some(hold) });
            return Ok(Leased::Held(Lease { channel: *id, fence }, record));
        }
        let holder = Who::hold(id, &reply::bytes(whose)?, 0, until)?;
        Ok(Leased::Busy { until, same: rules::same_request(&holder.purpose, &ask.purpose), record })
    }

    /// What of a step touches the lease alone.
    pub(super) async fn change_lease(
        &self,
        place: &ChannelPlace,
        fence: u64,
        hold: Option<&Hold>,
        fact: &ChannelFact,
        by: Instant,
    ) -> Result<Wrote, StoreError> {
        let (millis, ends) = match (hold, fact) {
            (Some(hold), ChannelFact::Renewed { hold_millis }) => {
                let ends = if self.lease_clock == LeaseClock::Caller { digits(hold.until) } else { Vec::new() };
                ((*hold_millis).min(LONGEST_MILLIS).to_string().into_bytes(), ends)
            }
            _ => (Vec::new(), Vec::new()),
        };
        let args = [fence.to_string().into_bytes(), millis, ends];
        let keys = [place.record.clone(), self.keys.guard(place.shard)];
        let answer = self.link.script(&Scripts::get().renew, &keys, &args, Effect::Note, by).await?;
        Ok(if reply::number(answer)? == 1 { Wrote::Done } else { Wrote::Stale })
    }
}
