//! The facilitator over the model store and the simulated chain: two tenants beside the gateway's own routes.

mod channels;
mod exact;
mod races;
mod tenants;

use super::{
    pay::{Payment, new_coin},
    shop::{policy, server_keys},
    world::{Ask, SETTLE_WAIT, World, payee, sompi},
};
use crate::{
    gateway::facilitate::{Act, Caller, Facilitator, Verdict},
    protocol::{
        bearer::Token,
        policy::{ExactTerms, Observe, Policy},
        requirements::{Finality, FinalityRule},
        tenant::{Permissions, Rate, Tenant},
    },
};
use serde_json::{Value, json};
use std::sync::Arc;
use zeroize::Zeroizing;

pub const AMOUNT: u64 = 30_000_000;
pub const SHOP: &str = "shop-token-shop-token-shop-token";
pub const OTHER: &str = "other-token-other-token-other-token";

/// `seed` of its recipient, `key` of its channels' server key.
fn tenant(name: &str, token: &str, seed: u8, key: usize) -> Tenant {
    Tenant {
        name: name.into(),
        token: Token::new(Zeroizing::new(token.as_bytes().to_vec())).unwrap(),
        permissions: Permissions { verify: true, settle: true, claim: true },
        recipients: vec![payee(seed)],
        server_keys: vec![server_keys().iter().nth(key).unwrap().public()],
        exact: ExactTerms { finality: FinalityRule { level: Finality::Accepted, depth: 0 }, mempool_max: None },
        observe: Observe::Proven,
        settle_wait: SETTLE_WAIT,
        rate: Rate { per_second: 1, burst: 1 },
        running: 1,
    }
}

/// `shop` is paid at `payee(21)`, `other` at `payee(22)`; `change` is applied to both.
pub async fn tenants(change: impl Fn(&mut Tenant) + Send + Sync + 'static) -> World {
    let tenants = move || {
        let mut both = [tenant("shop", SHOP, 21, 1), tenant("other", OTHER, 22, 2)];
        both.iter_mut().for_each(&change);
        both.into_iter().map(Arc::new).collect()
    };
    World::of(1, 1_000, Arc::new(move || Policy { tenants: tenants(), ..policy(&|_| {}) })).await
}

/// The terms of another server: it has no offers of ours.
pub fn terms(pay_to: &str, amount: u64) -> Value {
    json!({
        "scheme": "exact", "network": "kaspa:simnet", "amount": amount.to_string(), "asset": "KAS", "payTo": pay_to,
        "maxTimeoutSeconds": 60, "extra": {"binding": "kaspa-exact-v1", "asset": "KAS", "modes": ["verify", "settle"]},
    })
}

/// A call about a message. `hash` is the server's own.
pub fn call(message: &Value, hash: Option<&str>) -> Value {
    let mut call = json!({"x402Version": 2, "paymentPayload": message, "paymentRequirements": message["accepted"]});
    if let Some(hash) = hash {
        call["requestHash"] = hash.into();
    }
    call
}

/// A server's fingerprint of an operation.
pub fn operation(number: u8) -> String {
    hex::encode([number; 32])
}

pub struct Told {
    pub status: u16,
    pub retry_after: Option<u32>,
    pub body: Value,
}

impl World {
    pub fn caller(&self, token: &str) -> Caller {
        self.gateway.caller(Some(token.as_bytes())).expect("a tenant")
    }

    pub async fn call(&self, token: &str, act: Act, body: &Value) -> Told {
        let verdict = self.gateway.call(self.caller(token), act, body.to_string().into(), "r-1".into()).await;
        let Verdict { status, retry_after_seconds, body } = verdict;
        Told { status, retry_after: retry_after_seconds, body: serde_json::from_slice(&body).unwrap() }
    }

    pub async fn verify(&self, token: &str, body: &Value) -> Told {
        self.call(token, Act::Verify, body).await
    }

    pub async fn settle(&self, token: &str, body: &Value) -> Told {
        self.call(token, Act::Settle, body).await
    }

    /// A payment to a tenant's recipient, signed and not sent; without the client's own request hash.
    pub fn pays(&self, pay_to: &str, amount: u64) -> Payment {
        let accepted = terms(pay_to, amount);
        let signed = self.sign(&accepted, new_coin());
        let payment = self.present(Ask::get("/elsewhere"), accepted, signed, &self.payer);
        payment.without_proof().changed(|message| drop(message["payload"].as_object_mut().unwrap().remove("requestHash")))
    }

    /// The store and the network know nothing of it.
    pub async fn untouched(&self, payment: &Payment) {
        assert!(self.record(payment.txid).await.is_none());
        assert!(!self.chain.submits().contains(&payment.txid));
    }
}

impl Told {
    #[track_caller]
    pub fn settled(&self) -> &str {
        assert_eq!((self.status, &self.body["success"]), (200, &true.into()), "{}", self.body);
        self.body["transaction"].as_str().unwrap()
    }

    #[track_caller]
    pub fn valid(&self) {
        assert_eq!((self.status, &self.body["isValid"]), (200, &true.into()), "{}", self.body);
    }

    #[track_caller]
    pub fn refused(&self, status: u16, reason: &str) {
        let body = &self.body;
        let no = body.get("isValid").or(body.get("success")).unwrap();
        assert_eq!((self.status, no, &body["extensions"]["kaspa"]["reason"]), (status, &false.into(), &reason.into()), "{body}");
        let word = body.get("invalidReason").or(body.get("errorReason")).unwrap();
        assert!(word.as_str().is_some_and(|word| !word.is_empty()), "{body}");
    }

    /// Refused because it counted before.
    #[track_caller]
    pub fn counted_before(&self) {
        self.refused(200, "invalid_kaspa_exact_replay");
        assert_eq!(self.body["extensions"]["kaspa"]["alreadySettled"], true, "{}", self.body);
    }
}

pub fn amount(value: u64) -> crate::protocol::amount::Amount {
    sompi(value)
}
