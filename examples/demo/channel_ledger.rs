//! The money of a channel, from three sources that must agree after every event: the client's journal, the gateway's
//! record, and the node. At the end nothing may be missing.

use crate::show::{Screen, count};
use kas402::protocol::{amount::Amount, ids::TxId};
use std::collections::BTreeMap;

/// Kept by the story while it is told.
pub struct ChannelLedger {
    /// Balances of buyer and seller before, by the node.
    before: [Amount; 2],
    escrow: Vec<(&'static str, [Amount; 3])>,
    /// Requests that were served, by receipts.
    pub requests: u64,
    pub charged: Amount,
    /// What the API counted, and what that costs by the price list.
    pub units: u64,
    pub metered: Amount,
    /// What the network took of the buyer, by the buyer's own plans.
    pub client_fees: Amount,
    /// Claims and top-ups: what they took from the escrow, and their fee out of that; by the gateway.
    pub moves: BTreeMap<TxId, (Amount, Amount)>,
}

/// How it ended.
pub struct Ending {
    /// Balances of buyer and seller, by the node.
    pub after: [Amount; 2],
    /// Charges and sums of the gateway's record.
    pub requests: u64,
    pub charged: Amount,
    pub claimed: Amount,
    /// Charged and never claimed.
    pub lost: Amount,
    /// The client's own sums.
    pub client_charged: Amount,
    pub client_claimed: Amount,
    /// Requests that reached the API.
    pub calls: u64,
}

/// Sums of the last table, in its order: what the buyer lost, the seller won, the network took.
type Flow = [Option<Amount>; 3];

pub fn plus(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).expect("nobody here has more than was mined")
}

impl ChannelLedger {
    pub fn begin(before: [Amount; 2]) -> Self {
        let zero = Amount::ZERO;
        let (escrow, moves) = (Vec::new(), BTreeMap::new());
        Self { before, escrow, requests: 0, charged: zero, units: 0, metered: zero, client_fees: zero, moves }
    }

    /// What is in the escrow after an event, by client, gateway and chain.
    pub fn escrow(&mut self, after: &'static str, holds: [Amount; 3]) -> Result<(), String> {
        self.escrow.push((after, holds));
        let [client, gateway, chain] = holds;
        if client == gateway && gateway == chain {
            return Ok(());
        }
        Err(format!("after the {after} the escrow holds {client} by the client, {gateway} by the gateway, {chain} by the chain"))
    }

    fn claim_fees(&self) -> Amount {
        self.moves.values().fold(Amount::ZERO, |sum, (_, fee)| plus(sum, *fee))
    }

    fn by_the_books(&self) -> Flow {
        let fees = self.claim_fees();
        let won = self.moves.values().fold(Amount::ZERO, |sum, (takes, _)| plus(sum, *takes)).checked_sub(fees);
        [Some(plus(self.charged, self.client_fees)), won, Some(plus(fees, self.client_fees))]
    }

    fn on_the_chain(&self, ending: &Ending) -> Flow {
        let lost = self.before[0].checked_sub(ending.after[0]);
        let won = ending.after[1].checked_sub(self.before[1]);
        [lost, won, lost.zip(won).and_then(|(lost, won)| lost.checked_sub(won))]
    }

    pub fn show(&self, screen: &Screen, ending: &Ending) {
        screen.title("The ledger of the channel");
        screen.row("in the escrow", ["client", "gateway", "chain"]);
        for (after, holds) in &self.escrow {
            let [client, gateway, chain] = holds.map(Amount::to_kas);
            screen.row(after, [&client, &gateway, &chain]);
        }
        screen.line("");
        screen.row("sums", ["client", "gateway", "API"]);
        screen.row("requests", [self.requests, ending.requests, ending.calls].map(count).each_ref().map(String::as_str));
        let rows = [
            ("charged", ending.client_charged, ending.charged, Some(self.metered)),
            ("claimed", ending.client_claimed, ending.claimed, None),
        ];
        for (name, client, gateway, api) in rows {
            screen.row(name, [&client.to_kas(), &gateway.to_kas(), &api.map_or(String::new(), Amount::to_kas)]);
        }
        screen.line("");
        screen.row("in all", ["buyer", "seller", "network"]);
        for (name, flow) in [("by the books", self.by_the_books()), ("on the chain", self.on_the_chain(ending))] {
            let [lost, won, took] = flow.map(|sum| sum.map_or("?".to_owned(), Amount::to_kas));
            screen.row(name, [&format!("-{lost}"), &format!("+{won}"), &format!("+{took}")]);
        }
        if self.check(ending).is_ok() {
            screen.verdict("It adds up to the sompi, on both sides.");
        }
    }

    /// Says what does not add up.
    pub fn check(&self, ending: &Ending) -> Result<(), String> {
        let (books, chain) = (self.by_the_books(), self.on_the_chain(ending));
        let taken = self.moves.values().fold(Amount::ZERO, |sum, (takes, _)| plus(sum, *takes));
        let agree = |[client, gateway, chain]: &[Amount; 3]| client == gateway && gateway == chain;
        let facts = [
            (self.escrow.iter().all(|(_, holds)| agree(holds)), "client, gateway and chain disagree about the escrow"),
            (self.escrow.last().is_some_and(|(_, [.., chain])| chain.is_zero()), "something is left in the escrow"),
            (self.requests == ending.requests && ending.requests == ending.calls, "not every request was served and charged once"),
            (self.charged == ending.charged, "the receipts are not what the gateway charged"),
            (self.charged == ending.client_charged, "the receipts are not what the client booked"),
            (self.charged == self.metered, "the charges are not the price of what the API counted"),
            (ending.claimed == ending.charged && ending.lost.is_zero(), "not everything that was charged was claimed"),
            (ending.client_claimed == ending.claimed && taken == ending.claimed, "the claims did not take what was claimed"),
            (books[0] == chain[0], "the buyer has not lost exactly charges and fees"),
            (books[1] == chain[1], "the seller has not won exactly the claims less their fees"),
            (books[2] == chain[2], "the network has not taken exactly the fees"),
        ];
        let wrong: Vec<&str> = facts.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}
