//! Channels: what the chain does to them, and their claims; every request is written to the store directly.

mod automatic;
mod claims;
mod crashes;
mod mortal;
mod moves;
mod random;
mod watching;
pub(in crate::gateway) mod world;

pub(in crate::gateway) use world::config;
