//! A tenant's call as a sale: what the paths of the gateway's own routes take.

use super::Caller;
use crate::{
    gateway::respond::Reply,
    protocol::{
        amount::Amount,
        ids::{RequestHash, RequestIdentity},
        limits::DAA_PER_SECOND,
        offer::OfferToken,
        path::NormalPath,
        policy::{Accept, Access, ChargeOn, Cors, Pricing, PublicOrigin, Route, RouteId},
        request::{Request, RequestHead},
        requirements::Requirements,
        tenant::Tenant,
        time::UnixMillis,
    },
    wire::{canonical, facilitator::Called},
};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// Part of every hash that is made here.
const SCOPE: &str = "kas402:facilitator:v1";
/// How long a settled payment that was not told yet can be told, seconds: ten years, for nobody else may use it.
pub(super) const ENTITLED_SECONDS: u64 = 315_360_000;
/// Beside the wait for finality.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A call whose payment belongs to its caller.
pub(super) struct Asked {
    pub caller: Caller,
    pub called: Called,
    /// As the tenant itself sent it.
    pub hash: Option<RequestHash>,
    /// How deep the payment has to be, beyond what its terms and the tenant ask.
    pub confirmations: Option<u64>,
    /// What a payment from a channel costs, when that is less than its amount.
    pub charge: Option<Amount>,
    /// Only the deposit is brought in.
    pub deposit: bool,
    pub request_id: String,
}

/// The name under which a tenant's records stand. No route has such an id.
pub(super) fn route_id(tenant: &Tenant) -> RouteId {
    RouteId(format!("{}{}", RouteId::FACILITATOR, tenant.name))
}

impl Asked {
    pub fn accepted(&self) -> &Requirements {
        &self.called.envelope.accepted
    }

    /// What is claimed for: the tenant's operation and what it pays, under whatever offer, or, when it names none, the terms alone.
    pub fn identity(&self) -> RequestIdentity {
        let (tenant, terms) = (&self.caller.tenant.name, self.accepted());
        let operation = match self.hash {
            Some(hash) => json!({
                "scope": SCOPE, "tenant": tenant, "requestHash": hash,
                "scheme": terms.scheme, "network": terms.network, "payTo": terms.pay_to, "amount": terms.amount,
            }),
            None => {
                let terms = hex::encode(self.called.requirements_hash);
                json!({ "scope": SCOPE, "tenant": tenant, "paymentRequirementsHash": terms })
            }
        };
        RequestIdentity(canonical::sha256(&operation))
    }

    /// What stands for the request where none was named.
    pub fn local_hash(&self) -> RequestHash {
        let (tenant, payment) = (&self.caller.tenant.name, hex::encode(self.called.payment_hash));
        RequestHash(canonical::sha256(&json!({ "scope": SCOPE, "tenant": tenant, "payment": payment })))
    }

    pub fn repeatable(&self) -> bool {
        self.hash.is_some()
    }

    /// The offer's token, when the resource server's offers have ours.
    pub fn token(&self) -> Option<OfferToken> {
        OfferToken::parse(self.accepted().extra.offer()).ok()
    }

    /// When it was offered, at the earliest: no payment is good for an offer that it is older than.
    pub fn offered_daa(&self, daa_score: u64, now: UnixMillis) -> u64 {
        let lifetime = self.accepted().max_timeout_seconds;
        let age = match self.token() {
            Some(token) if token.daa > 0 => return token.daa,
            // A gateway without a node knows no score, but the time; the call may come long after the payment.
            Some(token) => now.seconds().saturating_sub(token.issued).max(lifetime),
            None => lifetime,
        };
        daa_score.saturating_sub(age.saturating_mul(DAA_PER_SECOND))
    }

    pub fn reply(&self) -> Reply {
        Reply::new(&Cors::Off, &HeaderMap::new(), self.request_id.clone())
    }

    /// The way to pay as a route of one price.
    pub fn route(&self, accept: Accept) -> Arc<Route> {
        let tenant = &self.caller.tenant;
        let pricing = Pricing {
            accepts: vec![accept],
            body_limit: 0,
            replay_limit: 0,
            replay_cookies: false,
            require_request_hash: false,
            require_identifier: false,
            offer_seconds: self.accepted().max_timeout_seconds,
            settle_wait: tenant.settle_wait,
            entitlement_seconds: ENTITLED_SECONDS,
            observe: tenant.observe,
            charge_on: ChargeOn::Below500,
            description: None,
            mime_type: None,
        };
        Arc::new(Route {
            id: route_id(tenant),
            origin: PublicOrigin(String::new()),
            host: None,
            path: String::new(),
            methods: Vec::new(),
            conditions: Vec::new(),
            upstream: String::new(),
            access: Access::Priced(Box::new(pricing)),
            timeout: TIMEOUT,
        })
    }

    /// The call as a request, for the summaries of the ledger.
    pub fn request(&self) -> Arc<Request> {
        let target = "/settle";
        let head = RequestHead {
            method: Method::POST,
            host: self.caller.tenant.name.clone(),
            path: NormalPath::parse(target, false).expect("a plain path is normal"),
            target: target.to_owned(),
            query: None,
            headers: HeaderMap::new(),
        };
        Arc::new(Request { head, body: Bytes::new() })
    }
}
