//! What is so between the chapters of the channel's story: asked of client, gateway and node, and waited for.

use crate::{
    channel_ledger::{ChannelLedger, Ending, plus},
    channel_story::ChannelStory,
    parts::Failure,
};
use kas402::{
    chain::Utxo,
    client::channel::{record::Channel, refund::Refunded},
    gateway::channel::report::{ChannelView, MoveStateView, MoveView, PhaseView},
    protocol::{amount::Amount, ids::ChannelId},
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Longest time until the buyer knows that it is time.
const DUE: Duration = Duration::from_secs(10);

impl ChannelStory<'_> {
    pub async fn ending(&mut self, id: &ChannelId, ledger: &ChannelLedger) -> Result<Ending, Failure> {
        let status = self.shop.status().await?;
        let sum = |name: &str| match &status["channels"][name] {
            Value::String(text) => Amount::parse_wire(text).map_err(|error| self.wrong(format!("{name}: {error}"))),
            other => Err(self.wrong(format!("{name} is {other}"))),
        };
        let client = self.buyer.standing(id)?.channel.account;
        Ok(Ending {
            after: self.balances().await?,
            requests: status["channels"]["charges"].as_u64().unwrap_or_default(),
            charged: sum("chargedSompi")?,
            claimed: sum("claimedSompi")?,
            lost: sum("lostSompi")?,
            client_charged: client.charged,
            client_claimed: client.claimed,
            // Each was counted when it came; here none may be left over.
            calls: ledger.requests + u64::try_from(self.weather.new_calls().len()).unwrap_or(u64::MAX),
        })
    }

    /// Client, gateway and node about the escrow: where it is, what it holds, what is charged and claimed.
    pub async fn agree(&self, id: &ChannelId, after: &'static str, ledger: &mut ChannelLedger) -> Result<ChannelView, Failure> {
        let channel = self.buyer.standing(id)?.channel;
        let (account, view) = (channel.account, self.shop.channel(id).await?);
        let gateway = if view.closure.is_none() { view.funding } else { Amount::ZERO };
        let client = if channel.phase.holds_money() { account.funding } else { Amount::ZERO };
        let chain = self.escrow(&channel).await?.iter().fold(Amount::ZERO, |sum, coin| plus(sum, coin.amount));
        ledger.escrow(after, [client, gateway, chain]).map_err(|wrong| self.wrong(wrong))?;
        if (account.charged, account.claimed, account.outpoint) != (view.charged, view.claimed, view.outpoint) {
            return Err(self.wrong(format!("after the {after} client and gateway disagree: {account:?}, {view:?}")));
        }
        if view.closure.is_none() {
            self.on_chain(id, &view).await?;
        }
        Ok(view)
    }

    /// The escrow lies where the gateway says, with what it says, and nowhere else.
    pub async fn on_chain(&self, id: &ChannelId, view: &ChannelView) -> Result<(), Failure> {
        let coins = self.escrow(&self.buyer.standing(id)?.channel).await?;
        match &coins[..] {
            [coin] if coin.outpoint == view.outpoint && coin.amount == view.funding => Ok(()),
            _ => Err(self.wrong(format!("the chain has {coins:?} where the gateway has {view:?}"))),
        }
    }

    async fn escrow(&self, channel: &Channel) -> Result<Vec<Utxo>, Failure> {
        self.node.coins(&channel.script().address().to_string()).await
    }

    /// The newest claim or top-up once the network accepted it, and the channel then.
    pub async fn moved(&self, id: &ChannelId, ledger: &mut ChannelLedger) -> Result<(MoveView, ChannelView), Failure> {
        let known = |step: &&MoveView| !ledger.moves.contains_key(&step.txid);
        let settled = |view: &ChannelView| {
            let accepted = view.moves.iter().find(known).is_some_and(|step| step.state == MoveStateView::Accepted);
            accepted && view.phase == PhaseView::Idle
        };
        let view = self.shop.channel_once(id, "no claim was accepted", settled).await?;
        let step = view.moves.iter().find(known).cloned().ok_or_else(|| self.wrong("the claim is gone"))?;
        ledger.moves.insert(step.txid, (step.takes, step.fee));
        Ok((step, view))
    }

    pub async fn mine_to(&self, daa_score: u64, what: &str) -> Result<(), Failure> {
        let since = self.screen.waiting("mining");
        let mut tip = self.node.chain.tip();
        let blocks = daa_score.saturating_sub(tip.borrow_and_update().daa_score);
        self.node.mine(blocks).await?;
        let seen = tip.wait_for(|tip| tip.daa_score >= daa_score).await.map(|tip| tip.daa_score);
        let seen = seen.map_err(|_| Failure::new("Kaspa node", "the connection is over"))?;
        self.screen.done(since, &format!("{blocks} blocks at once, to DAA score {seen}: {what}"));
        Ok(())
    }

    /// The refund, which is due. Of blocks that were mined at once the node tells in any order: for a moment the buyer may
    /// be told of an older one.
    pub async fn take_back(&self, id: &ChannelId) -> Result<Refunded, Failure> {
        let mut tip = self.node.chain.tip();
        let due = async {
            loop {
                match self.buyer.refund(id).await? {
                    Ok(refunded) => return Ok(refunded),
                    Err(_) if tip.changed().await.is_err() => return Err(Failure::new("Kaspa node", "the connection is over")),
                    Err(_) => {}
                }
            }
        };
        let refunded = timeout(DUE, due).await;
        refunded.unwrap_or_else(|_| Err(self.wrong("the refund is not possible after the timeout")))
    }

    pub async fn balances(&self) -> Result<[Amount; 2], Failure> {
        Ok([self.node.balance(self.wallet).await?, self.node.balance(self.seller).await?])
    }
}
