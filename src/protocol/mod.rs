//! Words and rules of the paywall; pure.
//!
//! Nothing here waits, reads a clock, opens a socket or draws randomness: all of
//! that arrives as arguments. Everything else in the crate may name these types.

pub mod acceptance;
pub mod amount;
pub mod bearer;
pub mod charge;
pub mod decimal;
pub mod ids;
pub mod inputs;
pub mod json;
pub mod limits;
pub mod lookalike;
pub mod network;
pub mod offer;
pub mod path;
pub mod pattern;
pub mod policy;
pub mod present;
pub mod price;
pub mod refusal;
pub mod request;
pub mod requirements;
pub mod route;
pub mod tenant;
pub mod time;
pub mod tools;
pub mod units;
