//! What the chain's words mean for a channel's record. Pure, and level-triggered: it compares what is seen with
//! what is stored, so nothing is lost by a crash between the two, and asking again does no harm.

use crate::{
    chain::{OutpointStatus, Tip, TxStatus},
    protocol::{
        acceptance::Acceptance,
        ids::{Outpoint, TxId},
        time::UnixMillis,
    },
    store::channels::{ChannelRecord, ChannelSighting, Closure, Move, MoveState},
};
use std::collections::HashMap;

/// A deposit that nobody was served over, and that did not come for so long, is forgotten. Anybody can make one up; whoever sends it again
/// opens its channel again.
const NEVER_CAME_MILLIS: u64 = 3_600_000;

/// What the chain says now of everything a channel asks about.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the moves that are not final, and of the deposit.
    pub transactions: HashMap<TxId, TxStatus>,
    /// Of the active outpoint, and of every outpoint that a move spends.
    pub outputs: HashMap<Outpoint, OutpointStatus>,
    pub tip: Tip,
    pub now: UnixMillis,
    /// Blue score depth at which something is final.
    pub final_depth: u64,
}

impl Seen {
    /// Blue score never grows faster than the DAA score, nor half as fast.
    fn is_long_ago(&self, daa_score: u64) -> bool {
        self.tip.daa_score >= daa_score.saturating_add(self.final_depth.saturating_mul(2))
    }
}

/// What has to be stored, the most urgent first, and the blue score at which more may be final.
#[derive(Debug, Default)]
pub(super) struct News {
    pub facts: Vec<ChannelSighting>,
    pub final_at: Option<u64>,
}

/// Facts that `record` does not know yet. After the first of them is stored, ask again.
pub(super) fn news(record: &ChannelRecord, seen: &Seen) -> News {
    let mut reader = Reader { record, seen, news: News::default() };
    reader.taken_back();
    reader.accepted();
    reader.outpoint();
    reader.deposit();
    reader.deep_enough();
    reader.news
}

struct Reader<'a> {
    record: &'a ChannelRecord,
    seen: &'a Seen,
    news: News,
}

impl Reader<'_> {
    fn push(&mut self, fact: ChannelSighting) {
        self.news.facts.push(fact);
    }

    /// Whether what was accepted at this blue score is final; remembers when it will be.
    fn is_final(&mut self, blue_score: u64) -> bool {
        let at = blue_score.saturating_add(self.seen.final_depth);
        if self.seen.tip.blue_score >= at {
            return true;
        }
        self.news.final_at = Some(self.news.final_at.map_or(at, |other| other.min(at)));
        false
    }

    fn status(&self, txid: &TxId) -> TxStatus {
        self.seen.transactions.get(txid).copied().unwrap_or(TxStatus::Unseen)
    }

    fn output(&self, outpoint: &Outpoint) -> &OutpointStatus {
        self.seen.outputs.get(outpoint).unwrap_or(&OutpointStatus::Unknown)
    }

    /// Where the chain has this move. Nothing that builds on a move which is not there is there, whatever was
    /// said of it a moment ago.
    fn place(&self, step: &Move) -> Option<Acceptance> {
        let before = self.record.moves.iter().find(|other| other.continuation == step.spends);
        if before.is_some_and(|before| self.place(before).is_none()) {
            return None;
        }
        match self.status(&step.txid) {
            TxStatus::Accepted(acceptance) => Some(acceptance),
            // A spend of the output is found farther back than a transaction that was accepted while nobody followed it.
            TxStatus::Unseen => match self.output(&step.spends) {
                OutpointStatus::Spent { by, acceptance } if *by == step.txid => Some(*acceptance),
                _ => None,
            },
            TxStatus::Conflicted { .. } => None,
        }
    }

    /// The latest first, for each gives back what the one before it left.
    fn taken_back(&mut self) {
        let gone = |step: &&Move| matches!(step.state, MoveState::Accepted(_)) && self.place(step).is_none();
        let gone: Vec<TxId> = self.record.moves.iter().rev().filter(gone).map(|step| step.txid).collect();
        gone.into_iter().for_each(|txid| self.push(ChannelSighting::MoveTakenBack { txid }));
    }

    fn accepted(&mut self) {
        let news = |step: &Move| {
            let acceptance = self.place(step)?;
            (step.state != MoveState::Accepted(acceptance)).then_some((step.txid, acceptance))
        };
        let news: Vec<_> = self.record.moves.iter().filter_map(news).collect();
        news.into_iter().for_each(|(txid, acceptance)| self.push(ChannelSighting::MoveAccepted { txid, acceptance }));
    }

    /// Where the chain says that the escrow is: behind every move that it has.
    fn frontier(&self) -> Outpoint {
        let moves = &self.record.moves;
        let mut at = moves.first().map_or(self.record.outpoint, |first| first.spends);
        // Each step leads to an output of another transaction, so no more steps than moves.
        for _ in moves {
            match moves.iter().find(|step| step.spends == at && self.place(step).is_some()) {
                Some(step) => at = step.continuation,
                None => break,
            }
        }
        at
    }

    /// The escrow is spent by none of our moves, or it is there although somebody was seen to spend it.
    fn outpoint(&mut self) {
        let closure = self.record.closure;
        if closure.is_some_and(|closure| closure.is_final) {
            return;
        }
        let outpoint = self.frontier();
        match *self.output(&outpoint) {
            OutpointStatus::Spent { by, .. } if self.record.moves.iter().any(|step| step.txid == by) => {}
            OutpointStatus::Spent { by, acceptance } => {
                let is_final = self.is_final(acceptance.blue_score);
                let now = Closure { outpoint, by, acceptance, is_final };
                if closure != Some(now) {
                    self.push(ChannelSighting::Closed(now));
                }
            }
            OutpointStatus::Unspent(_) if closure.is_some() => self.push(ChannelSighting::Reopened),
            OutpointStatus::Unspent(_) | OutpointStatus::Absent | OutpointStatus::Unknown => {}
        }
    }

    fn deposit(&mut self) {
        let deposit = &self.record.deposit;
        let (known, at) = (deposit.funded_daa, deposit.outpoint);
        match self.output(&at) {
            OutpointStatus::Unspent(utxo) if known != Some(utxo.daa_score) => {
                let daa_score = utxo.daa_score;
                self.push(ChannelSighting::Funded { daa_score });
            }
            // It was there before it was spent.
            OutpointStatus::Spent { acceptance, .. } if known.is_none() => {
                let daa_score = acceptance.daa_score;
                self.push(ChannelSighting::Funded { daa_score });
            }
            // What a move of ours spent is known by the move.
            OutpointStatus::Absent if known.is_some() && self.frontier() == at => self.push(ChannelSighting::Unfunded),
            _ => {}
        }
        if deposit.transaction.is_none() || self.record.closure.is_some_and(|closure| closure.is_final) {
            return;
        }
        match self.status(&at.txid) {
            TxStatus::Accepted(acceptance) if self.is_final(acceptance.blue_score) => self.push(ChannelSighting::DepositFinal),
            TxStatus::Conflicted { by, acceptance } if self.is_final(acceptance.blue_score) => {
                self.push(ChannelSighting::NeverFunded);
                // Of a channel that was charged the store keeps the record: what is owed is lost.
                self.push(ChannelSighting::Closed(Closure { outpoint: at, by, acceptance, is_final: true }));
            }
            TxStatus::Unseen if self.never_came() => self.push(ChannelSighting::NeverFunded),
            // Accepted long before this process began, and spent since: nobody finds it any more.
            TxStatus::Unseen if known.is_some_and(|funded| self.seen.is_long_ago(funded)) => self.push(ChannelSighting::DepositFinal),
            _ => {}
        }
    }

    fn never_came(&self) -> bool {
        let (record, deposit) = (self.record, &self.record.deposit);
        let absent = matches!(self.output(&deposit.outpoint), OutpointStatus::Absent);
        let late = self.seen.now >= record.opened_at.plus_millis(NEVER_CAME_MILLIS);
        absent && late && deposit.funded_daa.is_none() && !deposit.taken_back && record.moves.is_empty()
    }

    fn deep_enough(&mut self) {
        let record = self.record;
        for step in &record.moves {
            match (step.state, self.status(&step.txid)) {
                (MoveState::Accepted(acceptance), _) if self.place(step) == Some(acceptance) && self.is_final(acceptance.blue_score) => {
                    self.push(ChannelSighting::MoveFinal { txid: step.txid });
                }
                // The escrow is there: the other transaction took a coin of the client.
                (MoveState::Built | MoveState::TakenBack, TxStatus::Conflicted { acceptance, .. }) => {
                    let elsewhere = matches!(self.output(&step.spends), OutpointStatus::Unspent(_));
                    if elsewhere && self.is_final(acceptance.blue_score) {
                        self.push(ChannelSighting::MoveDropped { txid: step.txid });
                    }
                }
                _ => {}
            }
        }
    }
}
