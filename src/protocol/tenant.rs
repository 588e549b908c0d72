//! Whom the facilitator works for: plain data, compiled from the configuration.

use super::{
    bearer::Token,
    ids::XOnlyKey,
    policy::{ExactTerms, Observe},
};
use std::{sync::Arc, time::Duration};

/// One resource server, or several of one operator. A recipient and a server key belong to one tenant, and to no route of the gateway's.
#[derive(Debug)]
pub struct Tenant {
    /// Names its records, in the ledger and in logs.
    pub name: String,
    pub token: Token,
    pub permissions: Permissions,
    /// Addresses of the policy's network; only payments to these are verified and settled.
    pub recipients: Vec<String>,
    /// Keys of its channels. The first opens; the others only claim.
    pub server_keys: Vec<XOnlyKey>,
    /// What an exact payment has to reach, at least.
    pub exact: ExactTerms,
    pub observe: Observe,
    /// How long a settlement waits for finality before it is answered as pending.
    pub settle_wait: Duration,
    pub rate: Rate,
    /// Most calls that run at the same time.
    pub running: u32,
}

impl Tenant {
    /// Whether a channel is this tenant's.
    pub fn owns(&self, server_key: &XOnlyKey, pay_to: &str) -> bool {
        self.server_keys.contains(server_key) && self.recipients.iter().any(|recipient| recipient == pay_to)
    }
}

/// What a tenant may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub verify: bool,
    pub settle: bool,
    /// Claims of its own channels, which go through settle.
    pub claim: bool,
}

/// A bucket of `burst` calls that fills with `per_second`; both at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// The tenant whose token this is. Every tenant is compared, so that the time says nothing of which one it was.
pub fn authenticated<'t>(tenants: &'t [Arc<Tenant>], presented: Option<&[u8]>) -> Option<&'t Arc<Tenant>> {
    let presented = presented?;
    let mut found = None;
    for tenant in tenants {
        if tenant.token.is(presented) {
            found = Some(tenant);
        }
    }
    found
}
