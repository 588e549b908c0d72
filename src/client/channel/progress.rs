//! What just happened with a channel, for people.

use super::{
    offer::ChannelOffer,
    record::{Channel, Flight},
};
use crate::protocol::{amount::Amount, ids::TxId, refusal::Code};

#[derive(Debug)]
pub enum Progress<'a> {
    /// The journal has an open payment of this request; it is sent again.
    Resumed(&'a Flight),
    /// The server sells from channels; this offer is taken.
    Offered(&'a ChannelOffer),
    /// A new channel is recorded; its funding transaction goes with the first request.
    Opening { channel: &'a Channel, deposit: Amount, fee: Amount },
    /// A top-up is recorded; its transaction goes with this request.
    ToppingUp { channel: &'a Channel, added: Amount },
    /// A coin of the right size is being made; waiting for its acceptance.
    MakingCoin { txid: TxId, amount: Amount, fee: Amount },
    /// The voucher is durable and about to be sent.
    Signed(&'a Flight),
    /// The server does not answer: the funding transaction was given to our own node too.
    Broadcast(TxId),
    /// The server said where the channel stands, and that was verified.
    Corrected { channel: &'a Channel, code: Code },
    /// The chain shows that the channel moved on.
    Moved { channel: &'a Channel, words: &'a str },
    /// Another request of this channel was left behind: not known whether it was charged.
    LeftBehind(&'a Flight),
    /// A refund is recorded and about to be sent.
    Refunding { channel: &'a Channel, txid: TxId, amount: Amount, fee: Amount },
}
