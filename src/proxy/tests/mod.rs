//! The edge against real sockets: raw clients, `reqwest`, upstreams on port 0. The paywall is a fake.

pub(super) mod support;

#[test]
fn it_compiles() {}
