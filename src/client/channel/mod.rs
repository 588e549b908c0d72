//! The paying side of channels (`batch-settlement`, PROTOCOL section 5): one deposit, many requests paid by signatures.
//!
//! [`channels::Channels`] are all channels of a wallet: its books, its keys, the way along the chain, refunds. A
//! [`payer::ChannelPayer`] pays requests from them, over any transport, with any [`crate::chain::Chain`]. The rules of the books
//! are [`account`], pure; what an answer means is [`decide`], pure; everything that must survive a crash is in the
//! [`crate::client::journal`] before it has an effect.
//!
//! Every channel has a key of its own, derived from the wallet's secret ([`crate::client::wallet::Wallet::channel_key`]).

pub mod account;
pub mod channels;
pub mod course;
pub mod decide;
pub mod error;
pub mod follow;
mod lock;
mod message;
pub mod offer;
mod opening;
pub mod payer;
pub mod policy;
pub mod progress;
pub mod receipt;
mod receipt_url;
pub mod record;
pub mod refund;
mod top_up;

pub use channels::{Channels, Standing};
pub use course::{Charge, Cost};
pub use error::ChannelError;
pub use payer::{ChannelPayer, Pauses, Preview, Want};
pub use policy::ChannelPolicy;
pub use progress::Progress;
