//! The HTTP edge: pingora in front of the [`Paywall`](crate::gateway::answer::Paywall) and behind
//! the [`Upstreams`](crate::gateway::upstream::Upstreams) seam.
//!
//! Promises that every request passes `Paywall::route` once, that only [`Free`](crate::gateway::answer::Free)
//! requests are passed on as they are, that headers which are the gateway's to set never come from a client, and
//! that a body which broke off never looks whole. Never decides about money: no price, no store, no node is named
//! here. The only folder that names pingora; called by `runtime`.
//!
//! One request: [`app`] -> [`head`] -> the paywall. What is free goes on through [`pass`] when it only asks, through
//! pingora's proxy ([`hooks`]) when it brings a body or an upgrade, with [`forward`] and [`peer`] either way. What is
//! sold: [`body`] -> the paywall -> [`respond`]; the paywall's own requests to an upstream leave through [`exchange`].

mod app;
mod body;
mod exchange;
mod failure;
mod forward;
mod head;
mod hooks;
mod in_flight;
mod outgoing;
mod pass;
mod peer;
mod resolve;
mod respond;
mod server;

#[cfg(test)]
mod tests;

pub use exchange::PingoraUpstreams;
pub use server::{BindError, Bound, EdgeSettings, ListenTls, Listener, RequestIds, RunningEdge, Stopped};
