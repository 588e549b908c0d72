//! The keys of the facilitator.

use super::{Finality, Listen, Observe, Secret};
use crate::config::shape::{At, Named, section, words};

words! {
    Permission { Verify = "verify", Settle = "settle", Claim = "claim", }
}

section! {
    /// Verification and settlement for other servers. Without a tenant it is not started.
    Facilitator {
        /// Where it listens: an address of its own, or a mapping with `tls`. Default `127.0.0.1:8404`.
        listen: Listen,
        /// Longest body of a call; beyond it 413.
        body_limit_bytes: u64 = 262_144u64,
        /// Whom it works for, by name.
        tenants: Named<TenantSection>,
    }
}

section! {
    /// A tenant: who calls with its token. Its recipients and keys are no other tenant's and no route's.
    TenantSection {
        /// Bearer token, at least 32 characters.
        token: Secret [required],
        /// The Kaspa addresses that may be paid through this tenant.
        recipients: Vec<At<String>> [required],
        /// Keys that sign claims of this tenant's channels, see `kas402 keys new --server`. With them `batch-settlement` is offered beside `exact`.
        server_keys: Secret,
        /// What it may ask for: `verify`, `settle`, `claim`. Default `[verify, settle]`.
        permissions: Vec<At<Permission>>,
        /// When an exact payment counts, see `defaults.finality`. A payment that asks for more is given more. Default `accepted`.
        finality: Finality,
        /// Transactions the network knew before they were presented: `proven` (payer's key), `never`, or `any` (unsafe).
        observe: Observe = Observe::Proven,
        /// How long a settlement waits for finality before it is answered as pending.
        settle_wait_seconds: u64 = 30u64,
        /// Calls a second, in the long run; beyond it 429.
        calls_per_second: u64 = 50u64,
        /// Calls in one go, before that rate holds.
        burst: u64 = 100u64,
        /// Most calls that run at the same time, whether or not their callers still wait; beyond it 429.
        running_calls: u64 = 256u64,
    }
}

section! {
    /// Another gateway's facilitator.
    Remote {
        /// `https://`, host and port of its `facilitator.listen`.
        url: String [required],
        /// This gateway's token there.
        token: Secret [required],
        /// PEM file with certificate authorities instead of the system's.
        ca_file: String,
    }
}
