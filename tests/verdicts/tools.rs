//! The runner of MCP: a tool that is sold, paid in `_meta`.

use crate::{
    Runner, SOLD,
    client::{Call, Got},
    server::SESSION,
    support::{pay::HTTP, tenants::Place},
    table::Scheme,
};
use serde_json::{Value, json};
use std::time::Duration;

/// A priced tool and `params._meta["x402/payment"]`.
pub struct AtTool<'p>(pub &'p Place);

impl AtTool<'_> {
    /// Its upstream is `tools`.
    pub const ROUTE: &'static str = "  - {path: /mcp, kind: mcp, upstream: tools, tools: [{tool: search, \
         accepts: [{price: 0.25 KAS}, {price: 0.25 KAS, scheme: batch-settlement, min_deposit: 5 KAS}]}]}";

    async fn send(&self, payment: Option<&Value>) -> Got {
        let message = Call::of("search", json!({"q": "kaspa"})).message(1, payment);
        let request = HTTP.post(format!("{}/mcp", self.0.gateway.url())).body(message.to_string());
        let request = [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-session-id", SESSION),
            ("mcp-protocol-version", "2025-11-25"),
        ]
        .into_iter()
        .fold(request, |request, (name, value)| request.header(name, value));
        Got::read(request.send().await.unwrap()).await
    }
}

impl Runner for AtTool<'_> {
    fn name(&self) -> &'static str {
        "mcp"
    }

    async fn terms(&self, scheme: Scheme) -> Value {
        let got = self.send(None).await;
        let accepts = got.result()["structuredContent"]["accepts"].as_array().unwrap_or_else(|| panic!("no offers: {got:?}")).clone();
        accepts.into_iter().find(|terms| terms["scheme"] == scheme.word()).unwrap()
    }

    async fn codes(&self, _: &Value, message: &Value, _: bool) -> Vec<String> {
        loop {
            let got = self.send(Some(message)).await;
            let code = got.code();
            if ["settlement_pending", "deposit_not_confirmed"].contains(&code.as_str()) {
                // The same payment resumes.
                tokio::time::sleep(Duration::from_millis(50)).await; // why: bounded by the node's blocks, which tell nobody here
                continue;
            }
            return vec![if got.receipt()["success"] == true { SOLD.to_owned() } else { code }];
        }
    }
}
