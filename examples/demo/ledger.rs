//! The money of the story, from three sources that must agree: the node, the buyer's payment, the gateway's book.

use crate::{shop::Book, show::Screen};
use kas402::protocol::amount::Amount;

/// Balances are (before, after), by the node.
pub struct Ledger {
    pub buyer: (Amount, Amount),
    pub seller: (Amount, Amount),
    pub price: Amount,
    pub fee: Amount,
    pub book: Book,
    /// Paths that reached the API.
    pub calls: Vec<String>,
}

impl Ledger {
    pub fn show(&self, screen: &Screen) {
        screen.title("The ledger");
        screen.row("", ["before", "after", "difference"]);
        for (who, (before, after)) in [("buyer", self.buyer), ("seller", self.seller)] {
            screen.row(who, [&before.to_kas(), &after.to_kas(), &difference(before, after)]);
        }
        screen.line("");
        screen.fact("price + fee", format!("{} + {}", self.price.to_kas(), self.fee.to_kas()));
        let charged = Amount::parse_wire(&self.book.charged).map_or(self.book.charged.clone(), Amount::to_kas);
        screen.fact("gateway", format!("{} charge, {charged}", self.book.charges));
        screen.fact("API calls", format!("{}: {}", self.calls.len(), self.calls.join(", ")));
        if self.check().is_ok() {
            screen.verdict("It adds up to the sompi.");
        }
    }

    /// Says what does not add up.
    pub fn check(&self) -> Result<(), String> {
        let paid = self.price.checked_add(self.fee);
        let lost = self.buyer.0.checked_sub(self.buyer.1);
        let won = self.seller.1.checked_sub(self.seller.0);
        let facts = [
            (lost.is_some() && lost == paid, "the buyer has not lost exactly price and fee"),
            (won == Some(self.price), "the seller has not won exactly the price"),
            (
                self.book == Book { charges: 1, charged: self.price.to_string() },
                "the gateway has not booked exactly one charge of the price",
            ),
            (self.calls == ["/v1/weather/Berlin", "/v1/cities"], "the API was not called exactly once per request that it was to see"),
        ];
        let wrong: Vec<&str> = facts.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

fn difference(before: Amount, after: Amount) -> String {
    match (after.checked_sub(before), before.checked_sub(after)) {
        (Some(more), _) => format!("+{}", more.to_kas()),
        (None, Some(less)) => format!("-{}", less.to_kas()),
        (None, None) => String::new(),
    }
}
