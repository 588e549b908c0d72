//! The runner of an MCP server: a call of a tool that is sold, with its payment in `_meta`.

use crate::{
    Runner, SOLD, Said,
    support::{pay::HTTP, schema, tenants::Place},
    table::{IDENTIFIER, Scheme},
};
use kas402::{protocol::refusal::Code, wire::identifier};
use serde_json::{Value, json};

/// A priced tool and `_meta["x402/payment"]`.
pub struct AtMcp<'p> {
    pub place: &'p Place,
    pub path: &'static str,
}

impl AtMcp<'_> {
    pub const ROUTE: &'static str = "  - {path: /mcp, kind: mcp, tools: [{tool: report, accepts: [{price: 0.25 KAS}, {price: 1 KAS, scheme: batch-settlement, min_deposit: 5 KAS}]}]}";
    /// What the network knew before is sold here to nobody.
    pub const STRICT: &'static str = "  - {path: /strict-mcp, kind: mcp, observe: never, tools: [{tool: report, price: 0.25 KAS}]}";
    /// Where offers are soon over.
    pub const BRIEF: &'static str = "  - {path: /brief-mcp, kind: mcp, offer_seconds: 5, tools: [{tool: report, price: 0.25 KAS}]}";

    /// The result of the call.
    async fn call(&self, operation: u8, payment: Option<&Value>) -> Value {
        let mut message =
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "report", "arguments": {"operation": operation}}});
        if let Some(payment) = payment {
            message["params"]["_meta"]["x402/payment"] = payment.clone();
        }
        let url = format!("{}{}", self.place.gateway.url(), self.path);
        let request = HTTP.post(url).header("content-type", "application/json").body(message.to_string());
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        let message: Value = serde_json::from_slice(&answer).unwrap();
        schema::answered(&message);
        message["result"].clone()
    }
}

impl Runner for AtMcp<'_> {
    fn name(&self) -> &'static str {
        "mcp"
    }

    async fn terms(&self, scheme: Scheme) -> Value {
        let offered = self.call(0, None).await;
        let accepts = offered["structuredContent"]["accepts"].as_array().unwrap_or_else(|| panic!("no offers: {offered}"));
        accepts.iter().find(|terms| terms["scheme"] == scheme.word()).unwrap().clone()
    }

    async fn codes(&self, _: &Value, message: &Value, _: bool) -> Vec<String> {
        vec![self.said(0, message).await.code]
    }

    async fn said(&self, operation: u8, message: &Value) -> Said {
        let mut message = message.clone();
        let place = format!("/extensions/{}/info/id", identifier::NAME);
        if let Some(id) = message.pointer_mut(&place).filter(|id| **id == IDENTIFIER) {
            // The proxy's payment had it: it is one gateway.
            *id = "identifier-of-this-call".into();
        }
        loop {
            let result = self.call(operation, Some(&message)).await;
            let (receipt, words) = (&result["_meta"]["x402/payment-response"], &result["structuredContent"]);
            let places = [&receipt["extensions"]["kaspa"]["reason"], &words["extensions"]["kaspa"]["reason"], &words["error"]];
            let code = places.into_iter().find_map(Value::as_str);
            let later = |code: &&str| Code::ALL.iter().any(|known| known.as_str() == *code && known.status() == 503);
            if code.as_ref().is_some_and(later) {
                // A deposit that the node has not accepted yet; the same payment resumes.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await; // why: bounded by the node's blocks, which tell nobody here
                continue;
            }
            let code = if result["isError"] == true { code.unwrap_or("no code") } else { SOLD }.to_owned();
            return Said { code, receipt: receipt.clone() };
        }
    }
}
