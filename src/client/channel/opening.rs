//! Opening a channel: a configuration, a funding transaction, and the books they begin with. Nothing is sent here.

use super::{
    account::Account,
    channels::Channels,
    error::ChannelError,
    offer::Quote,
    policy::ChannelPolicy,
    record::{Channel, ChannelTransaction, Phase, Purpose},
};
use crate::{
    binding::escrow_v1::{ChannelConfig, EscrowScript, spend::reserve},
    client::{
        coins::{Plan, Purse, Spend, plan},
        error::Unpaid,
        paid::Edge,
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, Salt, TxId},
        requirements::{Asset, TemplateId},
    },
};
use kaspa_consensus_core::tx::Transaction;

/// A channel that only needs to be recorded.
pub(super) struct Prepared {
    pub channel: Channel,
    pub funding: ChannelTransaction,
    pub transaction: Transaction,
    pub fee: Amount,
}

/// What is to be opened.
pub(super) struct Wish<'a> {
    pub quote: &'a Quote,
    pub deposit: Amount,
    pub policy: &'a ChannelPolicy,
    pub max_fee: Amount,
    /// Scheme, host and port, for people.
    pub server: String,
    /// An opening of which nothing reached the network: the new funding transaction excludes its.
    pub replaces: Option<(&'a Channel, &'a [Outpoint])>,
}

impl Channels {
    /// Chooses key, salt and coins, and signs the funding transaction.
    pub(super) async fn prepare(&self, wish: &Wish<'_>, edge: &mut Edge<'_>) -> Result<Prepared, ChannelError> {
        let Wish { quote, deposit, policy, max_fee, server, replaces } = wish;
        let chain = self.ready().await?;
        let now_daa = chain.tip().borrow().daa_score;
        let replaced = replaces.map_or(Amount::ZERO, |(channel, _)| channel.account.funding);
        let locked = self.locked()?.checked_sub(replaced).unwrap_or(Amount::ZERO);
        policy.judge(*deposit, &quote.offer, locked, now_daa)?;
        let key_index = self.journal.next_channel_key()?;
        let mut salt = Salt([0; 32]);
        edge.rng.fill_bytes(&mut salt.0);
        let config = ChannelConfig {
            network: quote.offer.network,
            asset: Asset::Kas,
            template_id: TemplateId::EscrowV1,
            client_public_key: self.wallet.channel_key(key_index).public_key(),
            server_public_key: quote.offer.server_key,
            pay_to: quote.offer.pay_to.to_string(),
            refund_address: self.wallet.address().to_string(),
            refund_timeout_daa: quote.offer.refund_timeout_daa,
            salt,
        };
        // The offer's key need not be a point.
        let malformed = |_| crate::client::challenge::Skipped::ChannelTerm("serverPublicKey");
        let script = EscrowScript::of(&config)
            .map_err(malformed)
            .map_err(|skipped| crate::client::challenge::ChallengeError::NoOffer(vec![skipped]))?;
        let reserve = reserve(&script, *deposit, &self.spend_rules).ok_or(ChannelError::TooSmall(*deposit))?;
        let blank = Account::opened(Outpoint { txid: TxId([0; 32]), index: 0 }, *deposit);
        blank.due(quote.offer.ceiling, reserve).map_err(|due| ChannelError::Due { channel: config.channel_id(), due })?;

        let plan = self.choose_coins(chain.as_ref(), &script, wish).await?;
        if plan.fee > *max_fee {
            return Err(Unpaid::Fee { fee: plan.fee, max: *max_fee }.into());
        }
        let signed = plan.sign(&self.wallet, edge.rng);
        let outpoint = Outpoint { txid: signed.txid, index: signed.payment_output_index };
        let channel = Channel {
            id: config.channel_id(),
            key_index,
            config,
            server: server.clone(),
            phase: Phase::Opening,
            why: None,
            account: Account::opened(outpoint, *deposit),
            known_daa: now_daa,
            created: (edge.now)(),
            replaces: replaces.map(|(channel, _)| channel.id),
            version: 1,
        };
        let funding = ChannelTransaction {
            txid: signed.txid,
            channel: channel.id,
            purpose: Purpose::Funding { fee: signed.fee },
            bytes: borsh::to_vec(&signed.transaction).expect("a transaction encodes into memory"),
            inputs: signed.inputs.clone(),
        };
        Ok(Prepared { channel, funding, transaction: signed.transaction, fee: signed.fee })
    }

    async fn choose_coins(&self, chain: &dyn crate::chain::Chain, script: &EscrowScript, wish: &Wish<'_>) -> Result<Plan, ChannelError> {
        let own = self.wallet.script();
        let conflict = wish.replaces.map(|(_, inputs)| inputs).unwrap_or_default();
        // Locks first: a payment recorded while the node is asked is then seen by the journal.
        let locked = self.locked_coins(conflict)?;
        let utxos = chain.utxos(&self.wallet.address().to_string()).await?;
        let now_daa = chain.tip().borrow().daa_score;
        let purse = Purse::sort(&utxos, &own, now_daa, &locked, &self.coin_rules);
        let spend = Spend { amount: wish.deposit, pay_to: script.script_public_key(), own: &own, conflict_with: conflict };
        Ok(plan(&purse.coins, &spend, &self.coin_rules)?)
    }

    /// The funding transaction of a channel that is being opened.
    pub(super) fn funding(&self, channel: &Channel) -> Result<(ChannelTransaction, Transaction), ChannelError> {
        let ours = self.journal.channel_transactions(&channel.id)?;
        let funding = ours.into_iter().find(|ours| matches!(ours.purpose, Purpose::Funding { .. }));
        let read = |funding: ChannelTransaction| Some((borsh::from_slice(&funding.bytes).ok()?, funding));
        let (transaction, funding) = funding.and_then(read).ok_or(ChannelError::NothingThere(channel.id))?;
        Ok((funding, transaction))
    }
}
