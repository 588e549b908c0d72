//! Channels over the model store and the simulated chain: opening, paying, correcting, topping up, streaming, posting.

mod attacks;
pub(super) mod buyer;
mod corrections;
mod deposits;
mod money;
mod streams;
mod terms;
