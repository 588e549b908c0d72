//! `tools/list` with prices, so that agents see them before they call.
//!
//! Promises: what is told of prices is put into the server's own text; every other byte of it stays.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};
use std::{fmt, ops::Range};

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
    let text = std::str::from_utf8(message).ok()?;
    let result = serde_json::from_str::<Object<'_>>(text).ok()?.object("result")?;
    let tools: Vec<&RawValue> = serde_json::from_str(result.get("tools")?.get()).ok()?;
    let mut edits = Edits { text, made: Vec::new() };
    for tool in tools {
        let Ok(object) = serde_json::from_str::<Object<'_>>(tool.get()) else { continue };
        let name = object.get("name").and_then(|name| serde_json::from_str::<String>(name.get()).ok());
        if let Some(shown) = name.and_then(|name| price_of(&name)) {
            edits.tool(tool, &object, &shown);
        }
    }
    edits.applied()
}

/// The members of an object as they were written. Of a name that occurs twice the last counts, as it does for JavaScript and Python.
struct Object<'m>(Vec<(String, &'m RawValue)>);

impl<'m> Object<'m> {
    fn get(&self, name: &str) -> Option<&'m RawValue> {
        self.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| *value)
    }

    fn object(&self, name: &str) -> Option<Object<'m>> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }
}

impl<'de: 'm, 'm> Deserialize<'de> for Object<'m> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = entries.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Self)
    }
}

/// What is put into a text, and where.
struct Edits<'t> {
    text: &'t str,
    made: Vec<(Range<usize>, String)>,
}

impl Edits<'_> {
    /// Where a part of the text is.
    fn place(&self, part: &RawValue) -> Range<usize> {
        let start = part.get().as_ptr().addr() - self.text.as_ptr().addr();
        start..start + part.get().len()
    }

    fn replace(&mut self, part: &RawValue, by: String) {
        self.made.push((self.place(part), by));
    }

    /// Before the last byte of a part.
    fn append(&mut self, part: &RawValue, more: String) {
        let end = self.place(part).end - 1;
        self.made.push((end..end, more));
    }

    fn tool(&mut self, tool: &RawValue, object: &Object<'_>, shown: &Shown) {
        let price = shown.price.to_string();
        let named = format!("\"{PRICE}\":{price}");
        match (object.get("_meta"), object.object("_meta")) {
            (None, _) => self.append(tool, format!(",\"_meta\":{{{named}}}")),
            // Members that cannot be told apart are not touched.
            (Some(meta), None) if meta.get().starts_with('{') => {}
            (Some(meta), None) => self.replace(meta, format!("{{{named}}}")),
            (Some(meta), Some(members)) => match members.get(PRICE) {
                Some(old) => self.replace(old, price),
                None => self.append(meta, if members.0.is_empty() { named } else { format!(",{named}") }),
            },
        }
        // What is sold is not run as a task.
        if let Some(support) = object.object("execution").and_then(|execution| execution.get("taskSupport")) {
            self.replace(support, "\"forbidden\"".to_owned());
        }
        let Some(sentence) = &shown.sentence else { return };
        let quoted = |text: &str| Value::from(text).to_string();
        match object.get("description") {
            None => self.append(tool, format!(",\"description\":{}", quoted(sentence))),
            Some(text) if text.get().starts_with('"') && text.get() != "\"\"" => {
                let more = quoted(&format!("\n\n{sentence}"));
                self.append(text, more[1..more.len() - 1].to_owned());
            }
            Some(other) => self.replace(other, quoted(sentence)),
        }
    }

    /// The text with everything that is told; `None` when that is nothing.
    fn applied(mut self) -> Option<Vec<u8>> {
        if self.made.is_empty() {
            return None;
        }
        // Stable: what is appended at one place keeps its order.
        self.made.sort_by_key(|(place, _)| place.start);
        let mut told = Vec::with_capacity(self.text.len() + self.made.iter().map(|(_, more)| more.len()).sum::<usize>());
        let mut at = 0;
        for (place, more) in &self.made {
            told.extend_from_slice(&self.text.as_bytes()[at..place.start]);
            told.extend_from_slice(more.as_bytes());
            at = place.end;
        }
        told.extend_from_slice(&self.text.as_bytes()[at..]);
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(message: &str, sentence: Option<&str>) -> Option<String> {
        let price = |name: &str| {
            let sentence = sentence.map(str::to_owned);
            (name == "sold").then(|| Shown { price: json!({"amount": "1"}), sentence })
        };
        annotate(message.as_bytes(), &price).map(|told| String::from_utf8(told).unwrap())
    }

    #[test]
    fn only_tools_that_are_sold_are_told_with_a_price() {
        for (tool, expect) in [
            (r#"{"name":"sold"}"#, r#"{"name":"sold","_meta":{"kas402/price":{"amount":"1"}},"description":"It \"costs\"."}"#),
            (
                r#"{"name":"sold","_meta":null,"description":""}"#,
                r#"{"name":"sold","_meta":{"kas402/price":{"amount":"1"}},"description":"It \"costs\"."}"#,
            ),
            (
                r#"{"description":7,"_meta":{},"name":"sold"}"#,
                r#"{"description":"It \"costs\".","_meta":{"kas402/price":{"amount":"1"}},"name":"sold"}"#,
            ),
            (
                r#"{"_meta":{"kas402/price":"my own","a":[1 ]},"na\u006de":"sold","description":"Draws. \u00fc\""}"#,
                r#"{"_meta":{"kas402/price":{"amount":"1"},"a":[1 ]},"na\u006de":"sold","description":"Draws. \u00fc\"\n\nIt \"costs\"."}"#,
            ),
            (
                r#"{"name":"sold","_meta":{"\ud800":1},"description":"D"}"#,
                r#"{"name":"sold","_meta":{"\ud800":1},"description":"D\n\nIt \"costs\"."}"#,
            ),
            (
                r#"{"name":"free","name":"sold","_meta":{"a":1},"_meta":{"b":2},"execution":{"x":1.0,"taskSupport":"required"},"description":"D"}"#,
                r#"{"name":"free","name":"sold","_meta":{"a":1},"_meta":{"b":2,"kas402/price":{"amount":"1"}},"execution":{"x":1.0,"taskSupport":"forbidden"},"description":"D\n\nIt \"costs\"."}"#,
            ),
        ] {
            let list = |tool: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tool}]}}}}"#);
            assert_eq!(told(&list(tool), Some("It \"costs\".")).as_deref(), Some(&*list(expect)), "{tool}");
        }
        for other in [
            r#"{"result":{"tools":[{"name":"free"}]}}"#,
            r#"{"result":{"tools":[{"name":"sold","name":"free"}]}}"#,
            r#"{"result":{"tools":["sold",{"name":["sold"]}]}}"#,
            r#"{"result":{"tools":{"name":"sold"}}}"#,
            r#"{"result":{}}"#,
            r#"{"error":{"tools":[{"name":"sold"}]}}"#,
            r#"[{"result":{"tools":[{"name":"sold"}]}}]"#,
            "{",
        ] {
            assert_eq!(told(other, Some("It costs.")), None, "{other}");
        }
    }

    #[test]
    fn every_other_byte_of_the_list_stays() {
        let list = "\r\n{ \"result\" : {\"z\":1.50, \"tools\":[ {\"name\":\"free\",\"inputSchema\":{\"b\":1e2,\"a\":1,\"a\":2}} ,\t\"odd\",\n\
            {\"name\":\"sold\",\"title\":\"\\u00fc\\/\",\"big\":123456789012345678901234567890,\"_meta\":{ \"y\":-0.0 } }, \
            {\"name\" : \"sold\" } ], \"nextCursor\":\"c\"},\"id\" : 1E0,\"jsonrpc\":\"2.0\"} \n";
        let price = r#""kas402/price":{"amount":"1"}"#;
        let told = told(list, None).unwrap();
        assert_eq!(told.matches(price).count(), 2);
        assert_eq!(told.replace(&format!(",\"_meta\":{{{price}}}"), "").replace(&format!(",{price}"), ""), list);
        serde_json::from_str::<Value>(&told).unwrap();
    }
}
