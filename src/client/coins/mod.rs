//! From unspent outputs to one signed payment.
//!
//! Promises of a [`Plan`]: one output pays exactly the amount to the recipient and is output 0;
//! everything else but the fee comes back to the wallet's own script; inputs = outputs + fee to
//! the sompi; every mass of the transaction is within the node's limits, and the storage-mass
//! commitment is set. Planning is deterministic: same coins, same plan. No I/O, no clock, no
//! randomness of its own. Used by the buyer ([`super::paid`]) and the command line.

mod purse;
mod rules;
mod select;
mod sign;

pub use purse::{Coin, Purse};
pub use rules::CoinRules;
pub use select::{Plan, PlanError, Spend, plan};
pub use sign::{SignedPayment, sign_input};

#[cfg(test)]
mod tests;
