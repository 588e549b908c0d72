//! Following a channel along the chain: from the outpoint the buyer knows to the one that is active now.
//!
//! Promises: the books move only to an output that the buyer's own node shows under the channel's script; a claim that took more
//! than was owed retires the channel. A server's word for the new outpoint is only where to look.

use super::{
    account::{Account, Lie},
    channels::Channels,
    error::ChannelError,
    progress::Progress,
    record::{Channel, Event, Phase, Purpose},
};
use crate::{
    binding::escrow_v1::{
        EscrowScript, SignedVoucher,
        spend::{Continuation, ContinuationError, Escrow, SpendFacts, check_spend, claimed_voucher},
    },
    chain::{Chain, ChainError, OutpointStatus, Utxo},
    client::paid::{Edge, Step},
    protocol::{
        acceptance::Acceptance,
        amount::{Amount, MAX_SOMPI},
        ids::{ChannelId, Outpoint, TxId},
    },
};
use std::time::Duration;

/// Claims that are followed at once.
const HOPS: usize = 64;
/// Longest wait for the node to show what the server says.
const SHOWN: Duration = Duration::from_secs(15);

/// Where the channel's money is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Unspent at the active outpoint of the books.
    Here,
    /// The node knows nothing of it: not accepted yet, or taken back by a reorg.
    NotSeen,
    /// Spent by the refund; nothing is left.
    Gone,
}

impl Channels {
    /// Brings the books up to date with the chain. Leaves a channel alone that a request is using.
    pub async fn sync(&self, id: &ChannelId, edge: &mut Edge<'_>) -> Result<(Channel, Option<Place>), ChannelError> {
        let Some(_held) = self.try_lock(id)? else { return Ok((self.get(id)?, None)) };
        let mut channel = self.get(id)?;
        if !channel.phase.holds_money() {
            return Ok((channel, None));
        }
        let more = self.journal.in_flight(id)?.map_or(Amount::ZERO, |flight| flight.attempt.ceiling);
        let place = self.follow(&mut channel, None, more, edge).await?;
        Ok((channel, Some(place)))
    }

    /// Follows the channel to the outpoint where it is unspent, or to `wanted`. `more`: the ceiling of a request whose fate is open.
    pub(super) async fn follow(
        &self,
        channel: &mut Channel,
        wanted: Option<Outpoint>,
        more: Amount,
        edge: &mut Edge<'_>,
    ) -> Result<Place, ChannelError> {
        let chain = self.ready().await?.clone();
        let script = channel.script();
        for _ in 0..HOPS {
            if wanted == Some(channel.account.outpoint) {
                return Ok(Place::Here);
            }
            let found = match self.status(chain.as_ref(), channel, &script, wanted.is_some()).await {
                OutpointStatus::Unspent(_) if wanted.is_some() => {
                    return Err(not_shown(channel, "the escrow is unspent where it was"));
                }
                OutpointStatus::Unspent(utxo) => return self.held(channel, &utxo, &script, edge),
                OutpointStatus::Spent { by, acceptance } => self.spent(chain.as_ref(), channel, &script, by, acceptance).await?,
                OutpointStatus::Absent | OutpointStatus::Unknown => None,
            };
            // A spend too old for the node to name is followed by what it left unspent.
            let found = match found {
                Some(found) => found,
                None => match self.unspent(chain.as_ref(), channel, &script, wanted).await? {
                    Some(found) => found,
                    None if wanted.is_some() => return Err(not_shown(channel, "it is not in the utxo set")),
                    None => return Ok(Place::NotSeen),
                },
            };
            if self.apply(channel, found, more, edge)? == Place::Gone {
                return Ok(Place::Gone);
            }
        }
        Err(not_shown(channel, "it moved on too often"))
    }

    /// What the node says of the active outpoint, once it says something that helps.
    async fn status(&self, chain: &dyn Chain, channel: &Channel, script: &EscrowScript, moved: bool) -> OutpointStatus {
        let outpoint = channel.account.outpoint;
        let mut status = chain.watch_outpoint(outpoint, script.script_public_key(), Some(channel.known_daa));
        let told = |status: &OutpointStatus| match status {
            OutpointStatus::Spent { .. } | OutpointStatus::Absent => true,
            OutpointStatus::Unspent(_) => !moved,
            OutpointStatus::Unknown => false,
        };
        let _ = tokio::time::timeout(SHOWN.min(self.patience.total), status.wait_for(told)).await;
        let last = status.borrow().clone();
        chain.unwatch_outpoint(&outpoint);
        last
    }

    /// The escrow is where the books say: with the amount they say.
    fn held(&self, channel: &mut Channel, utxo: &Utxo, script: &EscrowScript, edge: &Edge<'_>) -> Result<Place, ChannelError> {
        let known = channel.account.funding;
        if utxo.amount != known || !under(utxo, script) {
            return Err(self.dispute(channel, Lie::Funding { told: utxo.amount, known }, edge));
        }
        Ok(Place::Here)
    }

    /// What the transaction that spent the active outpoint did; `None` when the node cannot tell any more.
    async fn spent(
        &self,
        chain: &dyn Chain,
        channel: &Channel,
        script: &EscrowScript,
        by: TxId,
        acceptance: Acceptance,
    ) -> Result<Option<Found>, ChannelError> {
        let ours = self.journal.channel_transactions(&channel.id)?.into_iter().find(|ours| ours.txid == by);
        let daa_score = acceptance.daa_score;
        match ours.map(|ours| ours.purpose) {
            Some(Purpose::Refund { amount, .. }) => {
                return Ok(Some(Found::Closed { by, words: format!("refunded {} by {by}", amount.to_kas()) }));
            }
            Some(Purpose::TopUp { to, takes, funding, .. }) => {
                return Ok(Some(Found::TopUp { by, to, takes, funding, daa_score }));
            }
            Some(Purpose::Funding { .. }) | None => {}
        }
        let accepted = match chain.accepted(&by, &acceptance).await {
            Ok(accepted) => accepted,
            Err(ChainError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let facts = SpendFacts {
            txid: by,
            spends: accepted.inputs.iter().map(|input| input.outpoint).collect(),
            outputs: accepted.outputs.iter().map(|output| (output.amount, &output.script_public_key, output.covenant)).collect(),
        };
        let Account { outpoint, funding, .. } = channel.account;
        // The bound on what it took is the books' to judge, which know what is still open.
        let anything = Amount::from_sompi(MAX_SOMPI).expect("the maximum is an amount");
        match check_spend(&facts, Escrow { script, outpoint, funding }, anything) {
            Ok(to) => {
                let spend = accepted.inputs.iter().find(|input| input.outpoint == outpoint);
                let voucher = spend.and_then(|input| claimed_voucher(&input.signature_script));
                let voucher = voucher.filter(|voucher| voucher.verify(script, outpoint));
                Ok(Some(Found::Claim { by, to, daa_score, voucher }))
            }
            Err(ContinuationError::NotContinued) => {
                Ok(Some(Found::Closed { by, words: format!("spent by {by}, which does not continue it") }))
            }
            Err(ContinuationError::NotASpend | ContinuationError::TookTooMuch { .. }) => Ok(None),
        }
    }

    /// The output under the channel's script that the books have not seen yet; with `wanted`, exactly that one.
    async fn unspent(
        &self,
        chain: &dyn Chain,
        channel: &Channel,
        script: &EscrowScript,
        wanted: Option<Outpoint>,
    ) -> Result<Option<Found>, ChannelError> {
        let mut found: Option<Utxo> = None;
        for utxo in chain.utxos(&script.address().to_string()).await? {
            let candidate = under(&utxo, script) && wanted.is_none_or(|wanted| wanted == utxo.outpoint);
            if !candidate || utxo.outpoint == channel.account.outpoint || self.journal.was_left(&channel.id, utxo.outpoint)? {
                continue;
            }
            if found.as_ref().is_none_or(|found| found.amount < utxo.amount) {
                found = Some(utxo);
            }
        }
        let Some(Utxo { outpoint, amount, daa_score, .. }) = found else { return Ok(None) };
        let ours = self.journal.channel_transactions(&channel.id)?;
        let top_up = ours.into_iter().find_map(|ours| match ours.purpose {
            Purpose::TopUp { to, takes, funding, .. } if to == outpoint => {
                Some(Found::TopUp { by: ours.txid, to, takes, funding, daa_score })
            }
            _ => None,
        });
        let taken = channel.account.funding.checked_sub(amount).unwrap_or(Amount::ZERO);
        let claim = Found::Claim { by: outpoint.txid, to: Continuation { outpoint, funding: amount, taken }, daa_score, voucher: None };
        Ok(Some(top_up.unwrap_or(claim)))
    }

    /// Moves the books.
    fn apply(&self, channel: &mut Channel, found: Found, more: Amount, edge: &mut Edge<'_>) -> Result<Place, ChannelError> {
        let before = channel.account;
        let id = channel.id;
        let signed = |outpoint| self.journal.voucher(&id, outpoint);
        let (by, moved, words) = match found {
            Found::Closed { by, words } => {
                channel.phase = Phase::Closed;
                channel.why = Some(words.clone());
                self.moved(channel, before.outpoint, by, &words, edge)?;
                return Ok(Place::Gone);
            }
            Found::TopUp { by, to, takes, funding, daa_score } => {
                channel.known_daa = daa_score;
                let words = format!("top-up {by}: {} at {to}", funding.to_kas());
                (by, before.topped_up(to, funding, takes, signed(to)?), words)
            }
            Found::Claim { by, to, daa_score, voucher } => {
                channel.known_daa = daa_score;
                // The claim shows what was signed for it, also to a journal that is an old copy.
                let before = voucher.map_or(before, |voucher| before.recall(voucher));
                let words = format!("claim {by} took {}, {} at {}", to.taken.to_kas(), to.funding.to_kas(), to.outpoint);
                let judged = before.continued(to, more, signed(to.outpoint)?);
                if let Err(lie @ Lie::TookTooMuch { .. }) = judged {
                    // The money is where it is: the refund needs to know. But nothing more is signed.
                    channel.account = before.overtaken(to);
                    channel.phase = Phase::Disputed;
                    channel.why = Some(lie.to_string());
                    self.moved(channel, before.outpoint, by, &format!("{words}: {lie}"), edge)?;
                    return Err(ChannelError::Wrong { channel: channel.id, lie });
                }
                (by, judged, words)
            }
        };
        channel.account = moved.map_err(|lie| ChannelError::Wrong { channel: channel.id, lie })?;
        if channel.phase == Phase::Opening {
            channel.phase = Phase::Open;
        }
        self.moved(channel, before.outpoint, by, &words, edge)?;
        Ok(Place::Here)
    }

    fn moved(&self, channel: &mut Channel, from: Outpoint, by: TxId, words: &str, edge: &mut Edge<'_>) -> Result<(), ChannelError> {
        let event = Event { at: (edge.now)(), words: words.to_owned() };
        if !self.journal.move_channel(channel, from, by, &event)? {
            return Err(ChannelError::Contended(channel.id));
        }
        (edge.watch)(Step::Channel(Progress::Moved { channel, words }));
        Ok(())
    }
}

/// What became of the escrow at the outpoint of the books.
enum Found {
    Claim { by: TxId, to: Continuation, daa_score: u64, voucher: Option<SignedVoucher> },
    TopUp { by: TxId, to: Outpoint, takes: Amount, funding: Amount, daa_score: u64 },
    Closed { by: TxId, words: String },
}

fn under(utxo: &Utxo, script: &EscrowScript) -> bool {
    &utxo.script_public_key == script.script_public_key() && !utxo.covenant
}

fn not_shown(channel: &Channel, words: &str) -> ChannelError {
    ChannelError::NotShown { channel: channel.id, words: words.to_owned() }
}
