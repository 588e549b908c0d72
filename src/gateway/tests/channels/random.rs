//! Random lives of one channel over a chain that reorganises: whatever happens, once the chain rests the record says what the
//! chain says, and nothing that was charged is forgotten.

use super::world::*;
use crate::{
    chain::{Chain, OutpointStatus},
    gateway::channel::claim::{Unclaimed, Wanted},
    protocol::ids::{ChannelId, Outpoint, TxId},
    store::channels::*,
};
use std::{collections::BTreeSet, time::Duration};

const SEEDS: u64 = 30;

/// As good as any, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

struct Life {
    world: World,
    id: ChannelId,
    dice: Dice,
    charged: u64,
    /// Every transaction that was ever built.
    built: BTreeSet<TxId>,
    /// Accepted by the present branch, in order.
    branch: Vec<TxId>,
    refunds: u8,
}

impl Life {
    async fn new(seed: u64) -> Self {
        let world = World::new(by_hand()).await;
        let record = world.open(1).await;
        world.chain.accept_at_once(false);
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self { world, id: record.id, dice, charged: 0, built: BTreeSet::new(), branch: Vec::new(), refunds: 0 }
    }

    async fn step(&mut self) {
        let record = self.world.record(&self.id).await;
        self.built.extend(record.moves.iter().map(|step| step.txid));
        match self.dice.roll(10) {
            0 | 1 if record.phase() == Phase::Idle && record.parts.funding > sompi(KAS) => {
                let sompi = KAS / 20 + self.dice.roll(KAS / 20);
                self.world.charge(&self.id, sompi).await;
                self.charged += sompi;
            }
            2 => {
                let claimed = self.world.gateway.claim_channel(&self.id, Wanted::Asked).await;
                assert!(!matches!(claimed, Err(Unclaimed::Refused)), "what the gateway builds the store takes: {record:#?}");
            }
            3 if record.phase() == Phase::Idle && record.active() > sompi(KAS / 20) => {
                let coin = Outpoint { txid: TxId([u8::try_from(self.dice.roll(250)).unwrap(); 32]), index: 7 };
                let (built, transaction) = self.world.build_top_up(&self.id, coin, 2 * KAS).await;
                let txid = transaction.id().into();
                self.world.gateway.submit_of(&built, &txid, &transaction).await;
            }
            // The chain accepts something that spends what is there.
            4 | 5 => {
                let at = record.outpoint;
                let there = matches!(self.world.output(at), OutpointStatus::Unspent(_));
                let candidates: Vec<TxId> = record.next_moves().map(|step| step.txid).collect();
                if there && !candidates.is_empty() {
                    let which = usize::try_from(self.dice.roll(8)).unwrap() % candidates.len();
                    self.world.chain.accept(candidates[which]);
                    self.branch.push(candidates[which]);
                }
            }
            // A reorg takes the last one or two.
            6 => {
                for _ in 0..=self.dice.roll(2) {
                    if let Some(txid) = self.branch.pop() {
                        self.world.chain.take_back(txid);
                    }
                }
            }
            // The client refunds, and a reorg takes it.
            7 if self.dice.roll(4) == 0 && matches!(self.world.output(record.outpoint), OutpointStatus::Unspent(_)) => {
                self.refunds += 1;
                self.world.chain.spend(record.outpoint, TxId([0xfe; 32]));
                self.world.settle().await;
                self.world.chain.unspend(&record.outpoint);
            }
            8 if self.dice.roll(3) == 0 => self.world.restart().await,
            // Within what is not final.
            9 => self.world.chain.advance(self.dice.roll(3)),
            _ => {}
        }
        for _ in 0..self.dice.roll(200) {
            tokio::task::yield_now().await;
        }
    }

    /// The chain rests: every loss is of those moves that the branch does not have, and the books agree with the chain.
    async fn rest(&mut self, seed: u64) {
        self.world.pass(Duration::from_secs(60)).await;
        self.world.settle().await;
        let record = self.world.record(&self.id).await;
        assert_eq!(record.parts.charged, sompi(self.charged), "{seed}");
        assert_eq!(record.closure, None, "{seed}: no spend of ours is taken for the client's");
        let OutpointStatus::Unspent(utxo) = self.world.output(record.outpoint) else {
            panic!("{seed}: the active outpoint is not the chain's: {:?} {record:#?}", self.world.output(record.outpoint))
        };
        assert_eq!(utxo.amount, record.parts.funding, "{seed}");
        let applied = record.moves.iter().filter(|step| matches!(step.state, MoveState::Accepted(_))).count();
        assert_eq!(applied, self.branch.len(), "{seed}");
        let paid: u64 = self.world.unspent(&record.config.pay_to).await.iter().map(|utxo| utxo.amount.sompi()).sum();
        let fees: u64 = record.moves.iter().filter(|step| self.branch.contains(&step.txid)).map(|step| step.fee.sompi()).sum();
        assert_eq!(paid + fees, record.parts.claimed.sompi(), "{seed}");
    }

    /// Whatever the branch lacks comes back, and all that is covered is claimed.
    async fn end(&mut self, seed: u64) {
        for _ in 0..20 {
            let record = self.world.record(&self.id).await;
            let Some(step) = record.next_moves().next() else { break };
            self.world.chain.accept(step.txid);
            self.branch.push(step.txid);
            self.world.settle().await;
        }
        self.rest(seed).await;
        let record = self.world.record(&self.id).await;
        self.world.chain.advance(FINAL_DEPTH + 10);
        let last = self.world.until(&self.id, "final", |record| record.moves.is_empty()).await;
        assert_eq!((last.outpoint, last.parts), (record.outpoint, record.parts), "{seed}");
        self.world.settle().await;
        let settled = self.world.store.settled_moves(&self.id, 0, 1_000).await.unwrap();
        let counted: u64 = settled.iter().filter(|step| matches!(step.state, SettledState::Final(_))).map(|step| step.takes.sompi()).sum();
        assert_eq!(counted, last.parts.claimed.sompi(), "{seed}");
        assert_eq!((self.world.chain.followed(), self.world.chain.watched()), (0, 1 + self.looked_at(&last)), "{seed}");
    }

    /// `World::output` watches, and never stops; the active outpoint is watched by the gateway as well.
    fn looked_at(&self, last: &ChannelRecord) -> usize {
        let script = self.world.gateway.script(last).unwrap();
        let before = self.world.chain.watched();
        self.world.chain.watch_outpoint(last.outpoint, script.script_public_key(), None);
        assert_eq!(self.world.chain.watched(), before);
        before - 1
    }
}

#[tokio::test(start_paused = true)]
async fn after_any_order_of_charges_claims_top_ups_reorgs_refunds_and_restarts_the_books_agree_with_the_chain() {
    let mut refunds = 0;
    for seed in 1..=SEEDS {
        let mut life = Life::new(seed).await;
        for _ in 0..60 {
            life.step().await;
        }
        life.rest(seed).await;
        life.end(seed).await;
        refunds += u32::from(life.refunds);
    }
    assert!(refunds > 2, "{refunds}");
}
