//! `kas402 mcp call URL TOOL --arg k=v`: call a tool of an MCP server, and pay for it within the limits of `kas402 pay`.
//!
//! Without a tool: what the server offers, and what it costs. The result of the tool goes to standard output as JSON, everything
//! else to standard error; exit codes are those of `kas402 pay`.

use super::{fail, pay, say};
use crate::{
    client::{
        exchange::{Exchange, ToolCall},
        mcp::{McpClient, Tool},
        policy::Patience,
    },
    protocol::amount::{Amount, parse_canonical_u64},
};
use clap::Subcommand;
use serde_json::{Map, Value};
use std::{process::ExitCode, sync::Arc};

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Call a tool, or list the tools and their prices
    Call(Box<Call>),
}

#[derive(clap::Args, Debug)]
pub struct Call {
    #[command(flatten)]
    pay: pay::Args,
    /// The tool; without it the tools are listed
    tool: Option<String>,
    /// An argument, 'name=value': the value as JSON if it is JSON, else as text; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    arg: Vec<String>,
    /// All arguments as one JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "arg")]
    args: Option<String>,
}

/// Runs the subcommand.
pub async fn run(command: Command) -> ExitCode {
    let Command::Call(call) = command;
    let Call { pay, tool, arg, args } = *call;
    let Some(tool) = tool else { return list(&pay).await };
    match arguments(&arg, args.as_deref()) {
        Ok(arguments) => pay::call(pay, ToolCall { tool, arguments: Some(arguments) }).await,
        Err(error) => fail(error),
    }
}

async fn list(pay: &pay::Args) -> ExitCode {
    let fields = match pay.fields() {
        Ok(fields) => fields,
        Err(error) => return fail(error),
    };
    let client = McpClient::over(Arc::new(Exchange::new(&Patience::default())));
    match client.tools(pay.url(), &fields).await {
        Err(error) => fail(error),
        Ok(tools) => {
            for tool in &tools {
                say(line(tool));
            }
            ExitCode::SUCCESS
        }
    }
}

/// A tool in one line: its name, its price, the first line of its description.
fn line(tool: &Tool) -> String {
    let price = tool.price.as_ref().map_or_else(|| "free, or not told".to_owned(), price);
    let description = tool.description.as_deref().and_then(|text| text.lines().next()).unwrap_or_default();
    format!("{}  {price}  {description}", tool.name).trim_end().to_owned()
}

/// Every way to pay, as the server tells it.
fn price(price: &Value) -> String {
    let ways = price.get("accepts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ways: Vec<String> = ways
        .iter()
        .map(|way| {
            let by = way.get("by").and_then(|by| by.get("argument")).and_then(Value::as_str);
            let rows = way.get("amounts").and_then(Value::as_object).into_iter().flatten();
            let amounts: Vec<String> = match way.get("amount") {
                Some(amount) => vec![kas(amount)],
                None => rows.map(|(value, amount)| format!("{value}: {}", kas(amount))).collect(),
            };
            let most = if way.get("metered").is_some() { "at most " } else { "" };
            let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
            let scheme = way.get("scheme").and_then(Value::as_str).unwrap_or("?");
            format!("{most}{}{by} ({scheme})", amounts.join(", "))
        })
        .collect();
    ways.join(" or ")
}

fn kas(amount: &Value) -> String {
    let amount = amount.as_str().and_then(parse_canonical_u64).and_then(|sompi| Amount::from_sompi(sompi).ok());
    amount.map_or_else(|| "?".to_owned(), Amount::to_kas)
}

fn arguments(list: &[String], whole: Option<&str>) -> Result<Value, String> {
    if let Some(text) = whole {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("--args is not JSON: {error}"))?;
        return if value.is_object() { Ok(value) } else { Err("--args must be a JSON object".to_owned()) };
    }
    let mut arguments = Map::new();
    for argument in list {
        let (name, value) = argument.split_once('=').ok_or_else(|| format!("{argument:?} is not 'name=value'"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        if arguments.insert(name.to_owned(), value).is_some() {
            return Err(format!("{name:?} is given twice"));
        }
    }
    Ok(Value::Object(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_argument_is_json_where_it_can_be() {
        let read = |list: &[&str]| arguments(&list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), None);
        assert_eq!(
            read(&["q=kaspa", "n=7", "deep={\"a\":[true]}", "text=\"7\"", "empty=", "is=a=b"]).unwrap(),
            json!({"q": "kaspa", "n": 7, "deep": {"a": [true]}, "text": "7", "empty": "", "is": "a=b"})
        );
        assert_eq!(read(&[]).unwrap(), json!({}));
        assert!(read(&["q"]).is_err() && read(&["q=1", "q=2"]).is_err());
        assert_eq!(arguments(&[], Some("{\"a\":1}")).unwrap(), json!({"a": 1}));
        assert!(arguments(&[], Some("[1]")).is_err() && arguments(&[], Some("x")).is_err());
    }

    #[test]
    fn a_tool_is_listed_with_every_way_to_pay() {
        let tool =
            |price: Option<Value>| Tool { name: "search".into(), description: Some("Searches.\nMore.".into()), price, listed: Value::Null };
        assert_eq!(line(&tool(None)), "search  free, or not told  Searches.");
        let accepts = json!({"asset": "KAS", "accepts": [
            {"scheme": "exact", "amount": "25000000"},
            {"scheme": "batch-settlement", "amount": "1000000", "metered": true},
            {"scheme": "exact", "by": {"argument": "/size"}, "amounts": {"small": "25000000"}},
        ]});
        assert_eq!(
            line(&tool(Some(accepts))),
            "search  0.25 KAS (exact) or at most 0.01 KAS (batch-settlement) or small: 0.25 KAS by /size (exact)  Searches."
        );
    }
}
