//! The flows, in their order: each does one thing, and holds what came of it against gateway and chain.

use super::{
    buyer::{Answered, Buyer, Purchase},
    report::Facts,
    shop::{PRICE, Shop},
};
use crate::{
    chain::{Chain, Utxo},
    client::{
        channel::{ChannelError, Want},
        coins::CoinRules,
    },
    gateway::channel::report::{ChannelView, MoveView},
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, TxId},
        refusal::Code,
    },
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// What everything bought may cost together.
pub const MOST: &str = "3 KAS";
const DEPOSIT: &str = "3 KAS";
const ADDED: &str = "1 KAS";
const MAX_FEE: &str = "0.05 KAS";
/// Longest wait for blocks and for what they bring.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(200);
/// Blocks, in DAA score, between what is told while waiting for the timeout.
const TOLD_EVERY_DAA: u64 = 600;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Exact,
    Replay,
    Deposit,
    Voucher,
    TopUp,
    Claim,
    StaleVoucher,
    EarlyRefund,
    LastClaim,
    Refund,
}

impl Flow {
    pub const ALL: [Self; 10] = [
        Self::Exact,
        Self::Replay,
        Self::Deposit,
        Self::Voucher,
        Self::TopUp,
        Self::Claim,
        Self::StaleVoucher,
        Self::EarlyRefund,
        Self::LastClaim,
        Self::Refund,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Replay => "replay refused",
            Self::Deposit => "deposit",
            Self::Voucher => "vouchers",
            Self::TopUp => "top-up",
            Self::Claim => "claim",
            Self::StaleVoucher => "stale voucher refused",
            Self::EarlyRefund => "early refund refused",
            Self::LastClaim => "last claim",
            Self::Refund => "refund after the timeout",
        }
    }

    pub const fn expects(self) -> &'static str {
        match self {
            Self::Exact => "One transaction pays for one request, and its output is the seller's on the chain",
            Self::Replay => "The same payment buys nothing else, and gives the same answer for its own request",
            Self::Deposit => "A deposit opens a channel with the request that it pays, and lies in the escrow on the chain",
            Self::Voucher => "Requests are charged by signatures, and the escrow does not move",
            Self::TopUp => "The client adds to the escrow, and what it owed is paid out by the same transaction",
            Self::Claim => "The gateway takes what is owed, no more, and the rest goes on under the same script",
            Self::StaleVoucher => "A voucher for the spent outpoint is refused; the client follows the claim and is served",
            Self::EarlyRefund => "Before the timeout nothing comes back",
            Self::LastClaim => "The gateway takes the rest of what is owed",
            Self::Refund => "After the timeout the client takes back everything that was not charged",
        }
    }
}

/// Everybody, and what happened so far.
pub struct Flows {
    shop: Shop,
    buyer: Buyer,
    chain: Arc<dyn Chain>,
    seller: String,
    refund_to: String,
    /// The exact payment's header.
    payment: String,
    channel: Option<ChannelId>,
    known: HashSet<TxId>,
    /// What was put into the escrow.
    locked: Amount,
}

impl Flows {
    pub fn new(shop: Shop, buyer: Buyer, chain: Arc<dyn Chain>, seller: String, refund_to: String) -> Self {
        let (known, locked) = (HashSet::new(), Amount::ZERO);
        Self { shop, buyer, chain, seller, refund_to, payment: String::new(), channel: None, known, locked }
    }

    pub async fn run(&mut self, flow: Flow, tell: &mut (dyn FnMut(&str) + Send)) -> Result<Facts, String> {
        match flow {
            Flow::Exact => self.exact().await,
            Flow::Replay => self.replay().await,
            Flow::Deposit => self.deposit().await,
            Flow::Voucher => self.vouchers().await,
            Flow::TopUp => self.top_up().await,
            Flow::Claim => self.claim(2).await,
            Flow::StaleVoucher => self.stale_voucher().await,
            Flow::EarlyRefund => self.early_refund().await,
            Flow::LastClaim => self.claim(0).await,
            Flow::Refund => self.refund(tell).await,
        }
    }

    async fn exact(&mut self) -> Result<Facts, String> {
        let (payment, receipt) = self.buyer.pay("/exact/report").await?;
        self.payment.clone_from(&payment.header);
        same("the price", payment.amount, amount(PRICE))?;
        let output = self.arrived(&self.seller, Outpoint { txid: payment.txid, index: 0 }).await?;
        same("what the seller has on the chain", output.amount, payment.amount)?;
        let finality = receipt.finality.clone().unwrap_or_default();
        Ok(Facts::default()
            .text("transaction", payment.txid)
            .amount("price", payment.amount)
            .amount("fee", payment.fee)
            .text("finality", finality))
    }

    async fn replay(&mut self) -> Result<Facts, String> {
        let (other, _) = self.buyer.present("/exact/other", &self.payment).await?;
        refused(&other, 409, Code::Replay)?;
        let (again, reply) = self.buyer.present("/exact/report", &self.payment).await?;
        if again.status != 200 || reply.body.is_empty() {
            return Err(format!("the payment's own request is not answered again: {again:?}"));
        }
        Ok(Facts::default().number("statusElsewhere", 409).text("reason", Code::Replay).number("statusAgain", 200))
    }

    async fn deposit(&mut self) -> Result<Facts, String> {
        self.ripen().await?;
        let want = Want::Open { deposit: amount(DEPOSIT), another: true };
        let bought = self.buyer.charge("/channel/deposit", want).await?;
        let id = bought.charge.channel;
        self.channel = Some(id);
        let view = self.agree().await?;
        same("the deposit", view.funding, amount(DEPOSIT))?;
        self.locked = view.funding;
        let facts = Facts::default()
            .text("channel", id)
            .text("transaction", view.outpoint.txid)
            .text("outpoint", view.outpoint)
            .text("escrow", bought.charge.after.script().address())
            .amount("deposit", view.funding)
            .text("refundTimeoutDaa", view.refund_timeout_daa);
        let facts = bought.deposit_fee.map_or(facts.clone(), |fee| facts.amount("fee", fee));
        Ok(charged(facts, &bought))
    }

    async fn vouchers(&mut self) -> Result<Facts, String> {
        let before = self.agree().await?;
        let one = self.buyer.charge("/channel/one", Want::Pay).await?;
        let two = self.buyer.charge("/channel/two", Want::Pay).await?;
        let after = self.agree().await?;
        same("the outpoint", after.outpoint, before.outpoint)?;
        let owed = before.unclaimed.checked_add(one.amount).and_then(|sum| sum.checked_add(two.amount));
        same("what is owed", Some(after.unclaimed), owed)?;
        let facts = charged(charged(Facts::default(), &one), &two);
        Ok(facts.amount("owed", after.unclaimed).text("outpoint", after.outpoint))
    }

    async fn top_up(&mut self) -> Result<Facts, String> {
        self.ripen().await?;
        let owed = self.view().await?.unclaimed;
        let bought = self.buyer.charge("/channel/top-up", Want::TopUp(amount(ADDED))).await?;
        let (step, _) = self.shop.moved(&self.id()?, &mut self.known).await?;
        let view = self.agree().await?;
        same("what the top-up pays out", step.takes, owed)?;
        same("what it adds", step.added, amount(ADDED))?;
        self.locked = self.locked.checked_add(step.added).ok_or("more money than there is")?;
        self.paid_out(&step).await?;
        Ok(charged(moved(&step, &view).amount("added", step.added), &bought))
    }

    async fn claim(&mut self, requests: u32) -> Result<Facts, String> {
        for number in 0..requests {
            self.buyer.charge(&format!("/channel/before-claim-{number}"), Want::Pay).await?;
        }
        let owed = self.view().await?.unclaimed;
        self.shop.operate(&["claim", &self.id()?.to_string(), "--any-fee"]).await?;
        let (step, view) = self.shop.moved(&self.id()?, &mut self.known).await?;
        same("what the claim takes", step.takes, owed)?;
        same("what is owed afterwards", view.unclaimed, Amount::ZERO)?;
        self.in_escrow(&view).await?;
        self.paid_out(&step).await?;
        Ok(moved(&step, &view))
    }

    async fn stale_voucher(&mut self) -> Result<Facts, String> {
        let bought = self.buyer.charge("/channel/after-claim", Want::Pay).await?;
        let first = bought.answered.first().ok_or("nothing was answered")?;
        refused(first, 402, Code::VoucherStaleOutpoint)?;
        let view = self.agree().await?;
        let facts = Facts::default().number("status", first.status.into()).text("reason", Code::VoucherStaleOutpoint);
        Ok(charged(facts.text("followedTo", view.outpoint), &bought))
    }

    async fn early_refund(&mut self) -> Result<Facts, String> {
        match self.try_refund().await {
            Err(ChannelError::NotYet { timeout_daa, now_daa, left_daa, .. }) => {
                Ok(Facts::default().text("timeoutDaa", timeout_daa).text("nowDaa", now_daa).text("leftDaa", left_daa))
            }
            Err(error) => Err(error.to_string()),
            Ok(refunded) => Err(format!("the refund was possible before the timeout: {}", refunded.txid)),
        }
    }

    async fn refund(&mut self, tell: &mut (dyn FnMut(&str) + Send)) -> Result<Facts, String> {
        let view = self.view().await?;
        self.wait_past(view.refund_timeout_daa, tell).await?;
        let mut tip = self.chain.tip();
        let refunded = loop {
            match self.try_refund().await {
                Ok(refunded) => break refunded,
                // Blocks come in any order: for a moment the tip may be an older one.
                Err(ChannelError::NotYet { .. }) => tip.changed().await.map_err(|_| "the connection to the node is over")?,
                Err(error) => return Err(error.to_string()),
            }
        };
        let output = self.arrived(&self.refund_to, Outpoint { txid: refunded.txid, index: 0 }).await?;
        same("what came back", output.amount, refunded.amount)?;
        let closed = self.closed().await?;
        let gone = [closed.claimed, refunded.amount, refunded.fee].into_iter().try_fold(Amount::ZERO, Amount::checked_add);
        same("what was locked, and what was claimed and came back", gone, Some(self.locked))?;
        same("what was charged and what was claimed", closed.charged, closed.claimed)?;
        Ok(Facts::default()
            .text("transaction", refunded.txid)
            .amount("refunded", refunded.amount)
            .amount("fee", refunded.fee)
            .amount("lockedInAll", self.locked)
            .amount("chargedInAll", closed.charged)
            .amount("claimedInAll", closed.claimed))
    }

    async fn try_refund(&self) -> Result<crate::client::channel::refund::Refunded, ChannelError> {
        let id = self.channel.ok_or(ChannelError::NoChannel { least: Amount::ZERO })?;
        self.buyer.aside(async |edge| self.buyer.channels.refund(&id, amount(MAX_FEE), edge).await).await
    }

    fn id(&self) -> Result<ChannelId, String> {
        self.channel.ok_or_else(|| "no channel was opened".to_owned())
    }

    async fn view(&self) -> Result<ChannelView, String> {
        self.shop.channel(&self.id()?).await
    }

    /// Gateway, buyer and chain say the same of the channel.
    async fn agree(&self) -> Result<ChannelView, String> {
        let view = self.view().await?;
        let mine = self.buyer.channels.get(&self.id()?).map_err(|error| error.to_string())?.account;
        same("where the escrow is", mine.outpoint, view.outpoint)?;
        same("what the escrow holds", mine.funding, view.funding)?;
        same("what is charged", mine.charged, view.charged)?;
        same("what is claimed", mine.claimed, view.claimed)?;
        self.in_escrow(&view).await?;
        Ok(view)
    }

    async fn in_escrow(&self, view: &ChannelView) -> Result<(), String> {
        let mine = self.buyer.channels.get(&view.channel).map_err(|error| error.to_string())?;
        let output = self.arrived(&mine.script().address().to_string(), view.outpoint).await?;
        same("what the chain has in the escrow", output.amount, view.funding)
    }

    /// What a claim or top-up took is the seller's, less the fee.
    async fn paid_out(&self, step: &MoveView) -> Result<(), String> {
        let output = self.arrived(&self.seller, payout(step)).await?;
        same("what the seller got", Some(output.amount), step.takes.checked_sub(step.fee))
    }

    /// The output, once the node's utxo index has it.
    async fn arrived(&self, address: &str, outpoint: Outpoint) -> Result<Utxo, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.chain.utxos(address).await.map_err(|error| error.to_string())?;
            if let Some(output) = found.into_iter().find(|utxo| utxo.outpoint == outpoint) {
                return Ok(output);
            }
            if Instant::now() > deadline {
                return Err(format!("{outpoint} never came to {address}"));
            }
            sleep(POLL).await; // why: the utxo index of the node is asked, it does not notify this side
        }
    }

    async fn closed(&self) -> Result<ChannelView, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.view().await?;
            if view.closure.is_some() {
                return Ok(view);
            }
            if Instant::now() > deadline {
                return Err("the gateway did not see the refund".into());
            }
            sleep(POLL).await; // why: the admin listener answers, it does not notify
        }
    }

    /// Until the wallet's newest coins may be spent.
    async fn ripen(&self) -> Result<(), String> {
        let mut tip = self.chain.tip();
        let rules = CoinRules::of(self.chain.network());
        let ripe = tip.borrow_and_update().daa_score.saturating_add(rules.confirmations_daa.saturating_mul(2));
        let seen = timeout(PATIENCE, tip.wait_for(|tip| tip.daa_score >= ripe)).await;
        if seen.is_ok_and(|seen| seen.is_ok()) { Ok(()) } else { Err("no blocks come".into()) }
    }

    async fn wait_past(&self, timeout_daa: u64, tell: &mut (dyn FnMut(&str) + Send)) -> Result<(), String> {
        let mut tip = self.chain.tip();
        let mut told = None;
        loop {
            let now = tip.borrow_and_update().daa_score;
            if now > timeout_daa {
                return Ok(());
            }
            if told.is_none_or(|told| now.saturating_sub(told) >= TOLD_EVERY_DAA) {
                told = Some(now);
                tell(&format!("   waiting until after DAA score {timeout_daa}; it is {now} now"));
            }
            let seen = timeout(PATIENCE, tip.changed()).await;
            if !seen.is_ok_and(|seen| seen.is_ok()) {
                return Err("no blocks come".into());
            }
        }
    }
}

fn amount(text: &str) -> Amount {
    Amount::parse_price(text).expect("a constant of this program")
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, one: T, other: T) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("{what} should agree: {one:?} and {other:?}")) }
}

fn refused(answered: &Answered, status: u16, code: Code) -> Result<(), String> {
    if answered.status == status && answered.reason.as_deref() == Some(code.as_str()) {
        return Ok(());
    }
    Err(format!("{status} {code} was expected, not {answered:?}"))
}

fn charged(facts: Facts, bought: &Purchase) -> Facts {
    facts.amount("charged", bought.amount).text("commitment", &bought.commitment)
}

/// The script has the payout in the first place.
fn payout(step: &MoveView) -> Outpoint {
    Outpoint { txid: step.txid, index: 0 }
}

fn moved(step: &MoveView, view: &ChannelView) -> Facts {
    Facts::default()
        .text("transaction", step.txid)
        .amount("takes", step.takes)
        .amount("fee", step.fee)
        .text("paidOutAt", payout(step))
        .text("goesOnAt", view.outpoint)
        .amount("goesOnWith", view.funding)
}
