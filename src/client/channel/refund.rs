//! Taking back what is left after the timeout. There is no way to have it earlier.

use super::{
    channels::Channels,
    error::ChannelError,
    follow::Place,
    progress::Progress,
    record::{Channel, ChannelTransaction, Event, Phase, Purpose},
};
use crate::{
    binding::escrow_v1::spend::{Escrow, plan_refund, refund_matured},
    chain::{Chain, SubmitOutcome, TxStatus},
    client::{
        error::Unpaid,
        paid::{Edge, Step},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, TxId},
    },
};
use kaspa_consensus_core::tx::Transaction;

/// Refunds built while claims of the server come in between.
const TRIES: u32 = 4;

/// A refund that the chain accepted.
#[derive(Clone, Debug)]
pub struct Refunded {
    pub txid: TxId,
    /// What arrived at the refund address.
    pub amount: Amount,
    pub fee: Amount,
    pub channel: Channel,
}

impl Channels {
    /// Takes the rest of a channel back, once its timeout is over. The same call resumes a refund that is on its way.
    pub async fn refund(&self, id: &ChannelId, max_fee: Amount, edge: &mut Edge<'_>) -> Result<Refunded, ChannelError> {
        let _held = self.lock(id).await?;
        let mut channel = self.get(id)?;
        if !channel.phase.holds_money() {
            let why = channel.why.clone();
            return Err(ChannelError::Unusable { channel: *id, phase: channel.phase.as_str(), why });
        }
        let chain = self.ready().await?.clone();
        for _ in 0..TRIES {
            // A request that nobody finished may have been charged and claimed.
            let more = self.journal.in_flight(id)?.map_or(Amount::ZERO, |flight| flight.attempt.ceiling);
            match self.follow(&mut channel, None, more, edge).await {
                Ok(Place::Here) => {}
                Ok(Place::NotSeen) => return Err(ChannelError::NothingThere(*id)),
                Ok(Place::Gone) => return self.gone(channel),
                // Whatever was taken, the rest is ours.
                Err(ChannelError::Wrong { .. }) if channel.phase == Phase::Disputed => {}
                Err(error) => return Err(error),
            }
            self.matured(&channel, chain.as_ref())?;
            let (txid, transaction) = self.sign_refund(&mut channel, max_fee, edge)?;
            match self.send_refund(chain.as_ref(), &channel, txid, &transaction).await? {
                Sent::Accepted => {
                    channel.phase = Phase::Closed;
                    let Some((amount, fee)) = self.refund_of(&channel, txid)? else { return Err(ChannelError::NothingThere(*id)) };
                    let words = format!("refunded {} by {txid}", amount.to_kas());
                    channel.why = Some(words.clone());
                    let from = channel.account.outpoint;
                    if !self.journal.move_channel(&mut channel, from, txid, &Event { at: (edge.now)(), words })? {
                        return Err(ChannelError::Contended(*id));
                    }
                    return Ok(Refunded { txid, amount, fee, channel });
                }
                // A claim came first: the rest lies at its continuation.
                Sent::Overtaken => {}
            }
        }
        Err(ChannelError::Contended(*id))
    }

    /// The refund that the chain showed while following.
    fn gone(&self, channel: Channel) -> Result<Refunded, ChannelError> {
        let mut ours = self.journal.channel_transactions(&channel.id)?.into_iter();
        let done = ours.find_map(|ours| match ours.purpose {
            Purpose::Refund { from, amount, fee } if from == channel.account.outpoint => Some((ours.txid, amount, fee)),
            _ => None,
        });
        match done {
            Some((txid, amount, fee)) => Ok(Refunded { txid, amount, fee, channel }),
            None => Err(ChannelError::Unusable { channel: channel.id, phase: channel.phase.as_str(), why: channel.why }),
        }
    }

    fn refund_of(&self, channel: &Channel, txid: TxId) -> Result<Option<(Amount, Amount)>, ChannelError> {
        let ours = self.journal.channel_transactions(&channel.id)?.into_iter().find(|ours| ours.txid == txid);
        Ok(ours.and_then(|ours| match ours.purpose {
            Purpose::Refund { amount, fee, .. } => Some((amount, fee)),
            Purpose::Funding { .. } | Purpose::TopUp { .. } => None,
        }))
    }

    fn matured(&self, channel: &Channel, chain: &dyn Chain) -> Result<(), ChannelError> {
        let (timeout_daa, now_daa) = (channel.config.refund_timeout_daa, chain.tip().borrow().daa_score);
        if refund_matured(timeout_daa, now_daa) {
            return Ok(());
        }
        let left = self.time_left(timeout_daa, now_daa);
        Err(ChannelError::NotYet { channel: channel.id, timeout_daa, now_daa, left_daa: left.daa, left: left.time })
    }

    /// The refund of the active outpoint: the one that was signed before, or a new one, durable before it is sent.
    fn sign_refund(&self, channel: &mut Channel, max_fee: Amount, edge: &mut Edge<'_>) -> Result<(TxId, Transaction), ChannelError> {
        let (script, account) = (channel.script(), channel.account);
        let before = self.journal.channel_transactions(&channel.id)?.into_iter().find_map(|ours| match ours.purpose {
            Purpose::Refund { from, .. } if from == account.outpoint => Some((ours.txid, borsh::from_slice(&ours.bytes).ok()?)),
            _ => None,
        });
        if let Some(before) = before {
            return Ok(before);
        }
        let escrow = Escrow { script: &script, outpoint: account.outpoint, funding: account.funding };
        let spend = |error| ChannelError::Spend { channel: channel.id, what: "refund", error };
        let plan = plan_refund(escrow, &self.spend_rules).map_err(spend)?;
        if plan.fee > max_fee {
            return Err(Unpaid::Fee { fee: plan.fee, max: max_fee }.into());
        }
        let mut aux = [0; 32];
        edge.rng.fill_bytes(&mut aux);
        let key = self.key(channel);
        let (txid, transaction) = plan.sign(escrow, |digest| key.sign_digest(digest, &aux));
        let ours = ChannelTransaction {
            txid,
            channel: channel.id,
            purpose: Purpose::Refund { from: account.outpoint, amount: plan.amount, fee: plan.fee },
            bytes: borsh::to_vec(&transaction).expect("a transaction encodes into memory"),
            inputs: Vec::new(),
        };
        channel.phase = Phase::Refunding;
        if !self.journal.begin_refund(channel, &ours)? {
            return Err(ChannelError::Contended(channel.id));
        }
        (edge.watch)(Step::Channel(Progress::Refunding { channel, txid, amount: plan.amount, fee: plan.fee }));
        Ok((txid, transaction))
    }

    /// Submits, and waits for the chain's word.
    async fn send_refund(&self, chain: &dyn Chain, channel: &Channel, txid: TxId, refund: &Transaction) -> Result<Sent, ChannelError> {
        let mut status = chain.follow(refund, None, true);
        let submitted = chain.submit(refund).await;
        let decided = status.wait_for(|status| !matches!(status, TxStatus::Unseen));
        let decided = tokio::time::timeout(self.patience.total, decided).await;
        let decided = decided.ok().and_then(Result::ok).map(|status| *status);
        chain.unfollow(&txid);
        match (decided, submitted) {
            (Some(TxStatus::Accepted(_)), _) => Ok(Sent::Accepted),
            (Some(TxStatus::Conflicted { .. }), _) => Ok(Sent::Overtaken),
            (Some(TxStatus::Unseen) | None, submitted) => {
                let words = match submitted {
                    SubmitOutcome::New | SubmitOutcome::Known => "it was sent".to_owned(),
                    SubmitOutcome::Rejected(words) | SubmitOutcome::Unknown(words) | SubmitOutcome::Unavailable(words) => words,
                };
                Err(ChannelError::NotAccepted { channel: channel.id, txid, words })
            }
        }
    }
}

enum Sent {
    Accepted,
    Overtaken,
}
