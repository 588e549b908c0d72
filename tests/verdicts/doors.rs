//! The runners: the proxy with its header, the facilitator with its two calls.

use crate::{
    Runner, SOLD,
    support::{
        pay::{Ask, encode},
        tenants::{Place, Told, call},
    },
    table::Scheme,
};
use kas402::wire::fingerprint;
use reqwest::Method;
use serde_json::{Value, json};

/// A priced route and `PAYMENT-SIGNATURE`.
pub struct AtProxy<'p>(pub &'p Place);

impl AtProxy<'_> {
    pub const ROUTE: &'static str =
        "  - {path: \"/paid/{*rest}\", accepts: [{price: 0.25 KAS}, {price: 0.25 KAS, scheme: batch-settlement, min_deposit: 5 KAS}]}";

    fn ask() -> Ask {
        Ask::get("/paid/report")
    }
}

impl Runner for AtProxy<'_> {
    fn name(&self) -> &'static str {
        "proxy"
    }

    async fn terms(&self, scheme: Scheme) -> Value {
        let offered = Self::ask().send(&self.0.gateway.url(), None).await;
        let accepts = offered.required().unwrap_or_else(|| panic!("no offers: {offered:?}"))["accepts"].clone();
        accepts.as_array().unwrap().iter().find(|terms| terms["scheme"] == scheme.word()).unwrap().clone()
    }

    async fn codes(&self, _: &Value, message: &Value, _: bool) -> Vec<String> {
        loop {
            let answer = Self::ask().send(&self.0.gateway.url(), Some(&encode(message))).await;
            if answer.status == 503 {
                // A deposit that the node has not accepted yet; the same header resumes.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await; // why: bounded by the node's blocks, which tell nobody here
                continue;
            }
            return vec![if answer.status == 200 { SOLD.to_owned() } else { answer.code() }];
        }
    }
}

/// `POST /verify` and `POST /settle` of a resource server that is a tenant.
pub struct AtFacilitator<'p>(pub &'p Place);

impl Runner for AtFacilitator<'_> {
    fn name(&self) -> &'static str {
        "facilitator"
    }

    async fn terms(&self, scheme: Scheme) -> Value {
        let tenant = &self.0.tenants[0];
        let exact = tenant.terms(25_000_000);
        if scheme == Scheme::Exact {
            return exact;
        }
        let supported = self.0.request(Method::GET, "/supported").bearer_auth(tenant.token()).send().await.unwrap();
        let supported = Told::read(supported).await.body;
        let kind = supported["kinds"].as_array().unwrap().iter().find(|kind| kind["scheme"] == scheme.word()).unwrap().clone();
        let mut extra = kind["extra"].clone();
        extra["minDepositSompi"] = "500000000".into();
        let mut terms = json!({"scheme": scheme.word(), "network": kind["network"], "extra": extra});
        for name in ["amount", "asset", "payTo", "maxTimeoutSeconds"] {
            terms[name] = exact[name].clone();
        }
        terms
    }

    async fn codes(&self, terms: &Value, message: &Value, by_node: bool) -> Vec<String> {
        // The server's own terms, and its own fingerprint of the request.
        let mut body = call(message, Some(&fingerprint::request_hash("GET", "https://shop.example/report", b"", terms).to_string()));
        body["paymentRequirements"] = terms.clone();
        let doors: &[&str] = if by_node { &["/settle"] } else { &["/verify", "/settle"] };
        let mut codes = Vec::new();
        for door in doors {
            let told = loop {
                let told = self.0.call(0, door, &body).await;
                if told.status != 503 {
                    break told;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await; // why: bounded by the node's blocks, which tell nobody here
            };
            codes.push(if told.succeeded() { SOLD.to_owned() } else { told.code().to_owned() });
        }
        codes
    }
}
