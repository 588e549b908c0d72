//! The edge against real sockets: raw clients, `reqwest`, upstreams on port 0. The paywall is a fake.

mod free;
mod listen;
mod priced;
mod stream;
pub(super) mod support;
mod upstreams;
