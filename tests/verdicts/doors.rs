//! The runners: the proxy with its header, with a node or at the edge, and the facilitator with its two calls.

use crate::{
    Runner, SOLD, Said,
    support::{
        gateway::Gateway,
        pay::{Ask, encode},
        tenants::{Place, Told, call},
    },
    table::Scheme,
};
use kas402::wire::fingerprint;
use reqwest::Method;
use serde_json::{Value, json};

/// A priced route and `PAYMENT-SIGNATURE`.
pub struct AtProxy<'p> {
    pub name: &'static str,
    pub gateway: &'p Gateway,
    /// Of its route's path.
    pub prefix: &'static str,
}

impl<'p> AtProxy<'p> {
    pub const ROUTE: &'static str =
        "  - {path: \"/paid/{*rest}\", accepts: [{price: 0.25 KAS}, {price: 1 KAS, scheme: batch-settlement, min_deposit: 5 KAS}]}";
    /// What the network knew before is sold here to nobody.
    pub const STRICT: &'static str = "  - {path: \"/strict/{*rest}\", observe: never, price: 0.25 KAS}";
    /// Where offers are soon over.
    pub const BRIEF: &'static str = "  - {path: \"/brief/{*rest}\", price: 0.25 KAS, offer_seconds: 5, payment_identifier: required}";

    pub fn of(name: &'static str, gateway: &'p Gateway) -> Self {
        Self { name, gateway, prefix: "/paid" }
    }

    fn ask(&self, operation: u8) -> Ask {
        Ask::get(&format!("{}/report-{operation}", self.prefix))
    }
}

impl Runner for AtProxy<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn terms(&self, scheme: Scheme) -> Value {
        let offered = self.ask(0).send(&self.gateway.url(), None).await;
        let accepts = offered.required().unwrap_or_else(|| panic!("no offers: {offered:?}"))["accepts"].clone();
        accepts.as_array().unwrap().iter().find(|terms| terms["scheme"] == scheme.word()).unwrap().clone()
    }

    async fn codes(&self, _: &Value, message: &Value, _: bool) -> Vec<String> {
        vec![self.said(0, message).await.code]
    }

    async fn said(&self, operation: u8, message: &Value) -> Said {
        loop {
            let answer = self.ask(operation).send(&self.gateway.url(), Some(&encode(message))).await;
            if answer.status == 503 {
                // What the node has not decided yet; the same header resumes.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await; // why: bounded by the node's blocks, which tell nobody here
                continue;
            }
            let code = if answer.status == 200 { SOLD.to_owned() } else { answer.code() };
            return Said { code, receipt: answer.receipt().unwrap_or_default() };
        }
    }
}

/// `POST /verify` and `POST /settle` of a resource server that is a tenant.
pub struct AtFacilitator<'p> {
    pub place: &'p Place,
    pub tenant: usize,
}

impl AtFacilitator<'_> {
    async fn told(&self, door: &str, operation: u8, terms: &Value, message: &Value) -> Told {
        // The server's own terms, and its own fingerprint of the request.
        let url = format!("https://shop.example/report-{operation}");
        let mut body = call(message, Some(&fingerprint::request_hash("GET", &url, b"", terms).to_string()));
        body["paymentRequirements"] = terms.clone();
        loop {
            let told = self.place.call(self.tenant, door, &body).await;
            if told.status != 503 {
                return told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await; // why: bounded by the node's blocks, which tell nobody here
        }
    }
}

impl Runner for AtFacilitator<'_> {
    fn name(&self) -> &'static str {
        "facilitator"
    }

    async fn terms(&self, scheme: Scheme) -> Value {
        let tenant = &self.place.tenants[self.tenant];
        let exact = tenant.terms(25_000_000);
        if scheme == Scheme::Exact {
            return exact;
        }
        let supported = self.place.request(Method::GET, "/supported").bearer_auth(tenant.token()).send().await.unwrap();
        let supported = Told::read(supported).await.body;
        let kind = supported["kinds"].as_array().unwrap().iter().find(|kind| kind["scheme"] == scheme.word()).unwrap().clone();
        let mut extra = kind["extra"].clone();
        extra["minDepositSompi"] = "500000000".into();
        // A server that makes offers as ours do: nobody judges them here, and each is good for one request of a channel.
        let offered = AtProxy::of("proxy", &self.place.gateway).terms(scheme).await;
        extra["offer"] = offered["extra"]["offer"].clone();
        let mut terms = json!({"scheme": scheme.word(), "network": kind["network"], "extra": extra});
        for name in ["asset", "payTo", "maxTimeoutSeconds"] {
            terms[name] = exact[name].clone();
        }
        terms["amount"] = offered["amount"].clone();
        terms
    }

    async fn codes(&self, terms: &Value, message: &Value, by_node: bool) -> Vec<String> {
        let doors: &[&str] = if by_node { &["/settle"] } else { &["/verify", "/settle"] };
        let mut codes = Vec::new();
        for door in doors {
            let told = self.told(door, 0, terms, message).await;
            codes.push(if told.succeeded() { SOLD.to_owned() } else { told.code().to_owned() });
        }
        codes
    }

    async fn said(&self, operation: u8, message: &Value) -> Said {
        let told = self.told("/settle", operation, &message["accepted"], message).await;
        Said { code: if told.succeeded() { SOLD.to_owned() } else { told.code().to_owned() }, receipt: told.body }
    }
}
