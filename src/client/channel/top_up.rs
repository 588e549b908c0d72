//! Topping up: a claim that this wallet builds, in which a coin of its own joins the escrow. Nothing is sent here but the coin.
//!
//! A top-up has no change, so it takes one coin of about the right size; when there is none, one is made first by paying oneself.

use super::{
    channels::Channels,
    error::ChannelError,
    policy::ChannelPolicy,
    progress::Progress,
    record::{Channel, ChannelTransaction, Kind, Purpose},
};
use crate::{
    binding::escrow_v1::spend::{self, Escrow, plan_top_up},
    chain::{Chain, SubmitOutcome, TxStatus},
    client::{
        coins::{Coin, Purse, Spend, plan, sign_input},
        error::Unpaid,
        paid::{Edge, Step},
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, TxId},
    },
};
use kaspa_consensus_core::{
    hashing::sighash::SigHashReusedValuesUnsync,
    tx::{PopulatedTransaction, Transaction, UtxoEntry},
};

/// A coin may be greater than what is to be added by this part of it: more is locked than was asked for, but no transaction is needed.
const SURPLUS: u64 = 16;

/// A top-up that only needs to be recorded.
pub(super) struct TopUp {
    pub kind: Kind,
    pub ours: ChannelTransaction,
    pub transaction: Transaction,
    /// What the active outpoint will be, what it will hold, and K there.
    pub to: Outpoint,
    pub funding: Amount,
    pub claimed: Amount,
    pub added: Amount,
}

impl Channels {
    /// Builds and signs a top-up that adds at least `amount`.
    pub(super) async fn prepare_top_up(
        &self,
        channel: &Channel,
        amount: Amount,
        policy: &ChannelPolicy,
        max_fee: Amount,
        edge: &mut Edge<'_>,
    ) -> Result<TopUp, ChannelError> {
        let chain = self.ready().await?.clone();
        let (account, script) = (channel.account, channel.script());
        let takes = account.active();
        if takes.is_zero() {
            return Err(ChannelError::NothingActive(channel.id));
        }
        self.within(policy, amount)?;
        let escrow = Escrow { script: &script, outpoint: account.outpoint, funding: account.funding };
        let refused = |error| ChannelError::Spend { channel: channel.id, what: "top-up", error };
        let needed = self.coin_for(escrow, takes, amount).map_err(refused)?;
        // A coin of an earlier try from the same outpoint may be used again: both cannot be accepted.
        let earlier = self.journal.channel_transactions(&channel.id)?.into_iter();
        let earlier = earlier.filter(|ours| matches!(ours.purpose, Purpose::TopUp { from, .. } if from == account.outpoint));
        let freed: Vec<Outpoint> = earlier.flat_map(|ours| ours.inputs).collect();
        let coin = match self.fitting_coin(chain.as_ref(), needed, &freed).await? {
            Some(coin) => coin,
            None => self.make_coin(chain.as_ref(), needed, max_fee, edge).await?,
        };
        let spent = spend::Coin { outpoint: coin.outpoint, entry: self.entry(&coin) };
        let planned = plan_top_up(escrow, takes, &[spent], &self.spend_rules).map_err(refused)?;
        self.within(policy, planned.added)?;
        let mut transaction = planned.transaction;
        let witness = {
            let populated = PopulatedTransaction::new(&transaction, planned.entries);
            sign_input(&self.wallet, &populated, 1, &SigHashReusedValuesUnsync::new(), edge.rng)
        };
        transaction.inputs[1].signature_script = witness;
        let to = Outpoint { txid: transaction.id().into(), index: 1 };
        let sums = (account.funding.checked_sub(takes), account.claimed.checked_add(takes));
        let (Some(rest), Some(claimed)) = sums else { return Err(ChannelError::NothingActive(channel.id)) };
        let funding = rest.checked_add(planned.added).ok_or(ChannelError::TooSmall(amount))?;
        let purpose = Purpose::TopUp { from: account.outpoint, to, takes, added: planned.added, funding };
        let bytes = borsh::to_vec(&transaction).expect("a transaction encodes into memory");
        Ok(TopUp {
            kind: Kind::TopUp { txid: to.txid, from: account.outpoint, takes },
            ours: ChannelTransaction { txid: to.txid, channel: channel.id, purpose, bytes, inputs: vec![coin.outpoint] },
            transaction,
            to,
            funding,
            claimed,
            added: planned.added,
        })
    }

    /// The coin that adds exactly `amount`: with what its weight costs.
    fn coin_for(&self, escrow: Escrow<'_>, takes: Amount, amount: Amount) -> Result<Amount, spend::SpendError> {
        let added = |brought: Amount| {
            let outpoint = Outpoint { txid: TxId([0; 32]), index: 0 };
            let coin = Coin { outpoint, amount: brought, daa_score: 0, is_coinbase: false };
            let spent = spend::Coin { outpoint, entry: self.entry(&coin) };
            plan_top_up(escrow, takes, &[spent], &self.spend_rules).map(|plan| plan.added)
        };
        let short = amount.checked_sub(added(amount)?).unwrap_or(Amount::ZERO);
        Ok(amount.checked_add(short).unwrap_or(amount))
    }

    fn entry(&self, coin: &Coin) -> UtxoEntry {
        UtxoEntry::new(coin.amount.sompi(), self.wallet.script(), coin.daa_score, coin.is_coinbase, None)
    }

    async fn purse(&self, chain: &dyn Chain, freed: &[Outpoint]) -> Result<Purse, ChannelError> {
        let locked = self.locked_coins(freed)?;
        let utxos = chain.utxos(&self.wallet.address().to_string()).await?;
        let now_daa = chain.tip().borrow().daa_score;
        Ok(Purse::sort(&utxos, &self.wallet.script(), now_daa, &locked, &self.coin_rules))
    }

    /// The smallest coin that is enough, if it is not much more.
    async fn fitting_coin(&self, chain: &dyn Chain, needed: Amount, freed: &[Outpoint]) -> Result<Option<Coin>, ChannelError> {
        let most = needed.checked_add(Amount::from_sompi(needed.sompi() / SURPLUS).unwrap_or(Amount::ZERO)).unwrap_or(needed);
        let purse = self.purse(chain, freed).await?;
        Ok(purse.coins.into_iter().filter(|coin| coin.amount >= needed && coin.amount <= most).min_by_key(|coin| coin.amount))
    }

    /// Pays `amount` to this wallet itself, and waits until that coin may be spent. A crash in between loses nothing: the coin
    /// is found the next time.
    async fn make_coin(&self, chain: &dyn Chain, amount: Amount, max_fee: Amount, edge: &mut Edge<'_>) -> Result<Coin, ChannelError> {
        let own = self.wallet.script();
        let purse = self.purse(chain, &[]).await?;
        let plan = plan(&purse.coins, &Spend { amount, pay_to: &own, own: &own, conflict_with: &[] }, &self.coin_rules)?;
        if plan.fee > max_fee {
            return Err(Unpaid::Fee { fee: plan.fee, max: max_fee }.into());
        }
        let signed = plan.sign(&self.wallet, edge.rng);
        (edge.watch)(Step::Channel(Progress::MakingCoin { txid: signed.txid, amount, fee: signed.fee }));
        let mut status = chain.follow(&signed.transaction, None, true);
        let sent = chain.submit(&signed.transaction).await;
        let accepted = match sent {
            SubmitOutcome::Rejected(words) | SubmitOutcome::Unavailable(words) => Err(words),
            SubmitOutcome::New | SubmitOutcome::Known | SubmitOutcome::Unknown(_) => {
                let accepted = status.wait_for(|status| matches!(status, TxStatus::Accepted(_)));
                let seen = tokio::time::timeout(self.patience.total, accepted).await;
                seen.ok().and_then(Result::ok).map(|_| ()).ok_or_else(|| "no acceptance in time".to_owned())
            }
        };
        chain.unfollow(&signed.txid);
        accepted.map_err(Unpaid::NodeNotReady)?;
        let outpoint = Outpoint { txid: signed.txid, index: signed.payment_output_index };
        let mut tip = chain.tip();
        let ripe = async {
            loop {
                let purse = self.purse(chain, &[]).await?;
                if let Some(coin) = purse.coins.iter().find(|coin| coin.outpoint == outpoint) {
                    return Ok::<_, ChannelError>(*coin);
                }
                if tip.changed().await.is_err() {
                    return Err(Unpaid::NodeNotReady("disconnected".into()).into());
                }
            }
        };
        let waited = tokio::time::timeout(self.patience.total, ripe).await;
        waited.unwrap_or_else(|_| Err(Unpaid::NodeNotReady("the coin for the top-up did not ripen in time".into()).into()))
    }
}
