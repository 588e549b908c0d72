//! Selling from channels (`batch-settlement`, PROTOCOL section 5).
//!
//! Promises: a request is served only under a lease and for a voucher that covers its ceiling; its charge is
//! durable before its answer is let out; what the chain says of a channel counts at once. One channel is served in
//! order, thousands in parallel.
//!
//! [`serve`] takes a request from its payload to a lease, [`deposit`] opens and tops up, [`deliver`] forwards and charges,
//! [`meter`] reads what an answer costs, [`exposure`] counts what is owed, [`correct`] says what a client may learn,
//! [`receipts`] answers for charges that are over. [`watch`] follows outputs and moves on the chain, [`claim`] claims.

mod correct;
mod deliver;
mod deposit;
pub(super) mod exposure;
mod meter;
mod outputs;
mod receipts;
mod scripts;
pub(super) mod serve;
mod sse;
mod watch;

pub(in crate::gateway) use receipts::{ReceiptOf, asked};

use super::flight::Flights;
use crate::{
    binding::escrow_v1::spend::SpendRules,
    chain::Chain,
    protocol::{
        ids::{ChannelId, PaymentIdentifier},
        network::Network,
    },
};
use std::sync::Arc;

/// What the gateway keeps of channels besides the store; all of it can be made again.
pub(super) struct Channels {
    scripts: scripts::Scripts,
    pub exposure: exposure::Tally,
    flights: Flights<(ChannelId, PaymentIdentifier)>,
    outputs: outputs::Outputs,
    rules: SpendRules,
}

impl Channels {
    pub fn new(network: Network, chain: Arc<dyn Chain>) -> Self {
        Self {
            scripts: scripts::Scripts::default(),
            exposure: exposure::Tally::default(),
            flights: Flights::default(),
            outputs: outputs::Outputs::new(chain),
            rules: SpendRules::of(network),
        }
    }
}
