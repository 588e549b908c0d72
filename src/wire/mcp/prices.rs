//! `tools/list` with prices, so that agents see them before they call.

use serde_json::{Value, json};

/// Under the `_meta` of a tool.
pub const PRICE: &str = "kas402/price";

/// What is told of a tool that is sold.
#[derive(Clone, Debug)]
pub struct Shown {
    pub price: Value,
    /// For the end of the description, when it is wanted there.
    pub sentence: Option<String>,
}

/// The message with the prices of its tools; `None` when it lists none, and goes on as it is.
pub fn annotate(message: &[u8], price_of: &dyn Fn(&str) -> Option<Shown>) -> Option<Vec<u8>> {
    let mut message: Value = serde_json::from_slice(message).ok()?;
    let mut sold = false;
    for tool in message.get_mut("result")?.get_mut("tools")?.as_array_mut()? {
        let Some(shown) = tool.get("name").and_then(Value::as_str).and_then(price_of) else { continue };
        let Some(tool) = tool.as_object_mut() else { continue };
        sold = true;
        let meta = tool.entry("_meta").or_insert_with(|| json!({}));
        if !meta.is_object() {
            *meta = json!({});
        }
        meta[PRICE] = shown.price;
        // What is sold is not run as a task.
        if let Some(execution) = tool.get_mut("execution").filter(|execution| execution.get("taskSupport").is_some()) {
            execution["taskSupport"] = "forbidden".into();
        }
        if let Some(sentence) = shown.sentence {
            let text = match tool.get("description").and_then(Value::as_str) {
                Some(text) if !text.is_empty() => format!("{text}\n\n{sentence}"),
                _ => sentence,
            };
            tool.insert("description".to_owned(), text.into());
        }
    }
    if !sold {
        return None;
    }
    serde_json::to_vec(&message).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tools_that_are_sold_are_told_with_a_price() {
        let list = json!({"jsonrpc": "2.0", "id": 1, "result": {"nextCursor": "c", "tools": [
            {"name": "free", "inputSchema": {}},
            {"name": "sold", "description": "Draws.", "execution": {"taskSupport": "optional"}, "_meta": {"a": 1}},
            {"name": "sold", "_meta": null, "description": ""},
            "odd",
        ]}});
        let price = |sentence: Option<&str>| {
            let sentence = sentence.map(str::to_owned);
            move |name: &str| (name == "sold").then(|| Shown { price: json!({"amount": "1"}), sentence: sentence.clone() })
        };
        let told: Value = serde_json::from_slice(&annotate(list.to_string().as_bytes(), &price(Some("Costs 1."))).unwrap()).unwrap();
        let tools = &told["result"]["tools"];
        assert_eq!(tools[0], list["result"]["tools"][0]);
        assert_eq!(
            tools[1],
            json!({"name": "sold", "description": "Draws.\n\nCosts 1.", "execution": {"taskSupport": "forbidden"},
                "_meta": {"a": 1, PRICE: {"amount": "1"}}})
        );
        assert_eq!(tools[2], json!({"name": "sold", "description": "Costs 1.", "_meta": {PRICE: {"amount": "1"}}}));
        assert_eq!((&tools[3], &told["result"]["nextCursor"]), (&json!("odd"), &json!("c")));
        let told: Value = serde_json::from_slice(&annotate(list.to_string().as_bytes(), &price(None)).unwrap()).unwrap();
        assert_eq!(told["result"]["tools"][1]["description"], "Draws.");
        for other in [json!({"result": {"tools": [{"name": "free"}]}}), json!({"result": {}}), json!({"error": {}}), json!([])] {
            assert_eq!(annotate(other.to_string().as_bytes(), &price(None)), None, "{other}");
        }
    }
}
