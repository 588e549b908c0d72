//! Messages of the Model Context Protocol: where a call is found, what of it the server sees, what is not let through, and answers.

use super::shape::{Object, Problem, either};
use crate::{
    protocol::{
        policy::{Access, PublicOrigin, Route, RouteId},
        refusal::Code,
        tools::{PricesShown, Tool, ToolName, ToolRule, Tools},
    },
    wire::mcp::{
        answer::{self, Verdict},
        request::{self, Posted},
    },
};
use serde_json::{Value, json, value::RawValue};
use std::{sync::Arc, time::Duration};

pub fn mcp_message(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let body = input.text("body")?;
    let rules: Option<Vec<ToolRule>> = input.read::<Vec<String>>("sold")?.iter().map(|name| sold(name)).collect();
    let rules = rules.ok_or_else(|| input.malformed("sold", "a name that no tool can have"))?;
    input.done()?;
    let tools = Tools::new(rules, usize::MAX, usize::MAX, PricesShown::Nowhere);
    either(vector, told(&body, &tools).map(|message| ("message", message)).map_err(|code| code.as_str().to_owned()))
}

/// A tool that is sold, whatever it costs.
fn sold(name: &str) -> Option<ToolRule> {
    let route = Route {
        id: RouteId(name.to_owned()),
        origin: PublicOrigin(String::new()),
        host: None,
        path: String::new(),
        methods: Vec::new(),
        conditions: Vec::new(),
        upstream: String::new(),
        access: Access::Free,
        timeout: Duration::ZERO,
    };
    Some(ToolRule { name: ToolName::parse(name)?, sold: Some(Arc::new(route)), charge_errors: true })
}

fn told(body: &str, tools: &Tools) -> Result<Value, Code> {
    let text = |bytes: Option<Vec<u8>>| bytes.map_or(body.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    let free = |forwarded: Option<Vec<u8>>| Ok(json!({ "sold": false, "forwarded": text(forwarded) }));
    match request::read(body.as_bytes()).map_err(|_| Code::McpMessage)? {
        Posted::Other { without_payment, .. } => free(without_payment),
        Posted::Batch { tools: called, pays } => {
            let passes = request::batch_passes(&called, pays, |name| matches!(tools.find(name), Tool::Free));
            if passes { free(None) } else { Err(Code::McpBatch) }
        }
        Posted::Call(call) => match tools.find(&call.tool) {
            Tool::Free => free(call.payment.is_some().then(|| call.forwarded(None))),
            Tool::Unclear => Err(Code::McpTool),
            Tool::Sold(..) => match call.unsold() {
                Some((code, _)) => Err(code),
                None => Ok(json!({
                    "sold": true, "tool": call.tool, "arguments": call.arguments, "payment": call.payment,
                    "forwarded": text(Some(call.forwarded(None))),
                })),
            },
        },
    }
}

/// What a client is answered: the server's `result` or `error` with a receipt, or a `refusal` in the shape of a result.
pub fn mcp_answer(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let id = raw(&mut input, "id")?;
    let receipt = input.maybe("receipt");
    let mut says = Value::Null;
    let made = if input.has("refusal") {
        let retry_after = input.maybe_read("retryAfterSeconds")?;
        Some(answer::refusal(&id, &input.any("refusal")?, receipt.as_ref(), retry_after, input.truth("tagged")?))
    } else if input.has("error") {
        answer::error(&id, raw(&mut input, "error")?.get().as_bytes(), receipt.as_ref())
    } else {
        let result = raw(&mut input, "result")?;
        says = Verdict::of(&result).map_or(Value::Null, |verdict| {
            let word = if verdict.asks_for_input() { "input_required" } else { "complete" };
            json!({ "isError": verdict.is_error(), "resultType": word })
        });
        answer::result(&id, result.get().as_bytes(), receipt.as_ref())
    };
    input.done()?;
    let made = made.map(|message| serde_json::from_slice::<Value>(&message)).transpose();
    let made = made.map_err(|error| input.malformed("result", error.to_string()))?;
    let mut expected = vector.object("expected")?;
    expected.equals_value("message", &made.unwrap_or_default())?;
    expected.equals_value("verdict", &says)?;
    expected.done()
}

/// A text of JSON, as a server wrote it.
fn raw(input: &mut Object, name: &str) -> Result<Box<RawValue>, Problem> {
    let text = input.text(name)?;
    RawValue::from_string(text).map_err(|error| input.malformed(name, error.to_string()))
}
