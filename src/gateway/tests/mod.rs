//! The whole gateway over the model store, the simulated chain and a scripted upstream, driven as the
//! proxy drives it. Time is tokio's paused clock: nothing here waits for real time.

pub(in crate::gateway) mod channels;
mod conflicts;
mod edges;
mod exchange;
mod facilitator;
mod fakes;
mod fleet;
mod foreign;
mod from_channels;
mod headers;
mod limits;
mod offers;
mod pay;
mod reconcile;
mod recovery;
mod remote;
mod replay;
mod shop;
mod store_faults;
mod streams;
mod submits;
mod terms;
mod upstream_faults;
mod world;
