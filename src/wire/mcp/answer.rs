//! What a client is answered: results with their receipt, refusals in the shape of a result, errors.

use super::{Members, OWN_ID, OWN_ID_LENGTH, PAYMENT_RESPONSE, RETRY_AFTER, raw};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Value, json, value::RawValue};
use std::borrow::Cow;

const INPUT_REQUIRED: &str = "input_required";

/// What a message of a server says, as far as the gateway looks.
#[derive(Debug, Default, Deserialize)]
pub struct Answered<'m> {
    #[serde(borrow, default)]
    id: Option<Id<'m>>,
    #[serde(borrow, default)]
    pub result: Option<&'m RawValue>,
    #[serde(borrow, default)]
    pub error: Option<&'m RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Id<'m> {
    #[serde(borrow)]
    Text(Cow<'m, str>),
    Other(IgnoredAny),
}

impl Answered<'_> {
    /// The id, when it is one under which the gateway called a tool.
    pub fn own_id(&self) -> Option<&str> {
        match self.id.as_ref()? {
            Id::Text(id) if id.starts_with(OWN_ID) => Some(id),
            Id::Text(_) | Id::Other(_) => None,
        }
    }
}

/// Reads a message of a server. `None` when it is none; see [`hides_own_id`] then.
pub fn read(message: &[u8]) -> Option<Answered<'_>> {
    // A list would be read member by member.
    let object = message.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice(message).ok().filter(|_| object)
}

/// Whether an answer to one of the gateway's calls may be in there. For what [`read`] does not understand, arrays among them.
pub fn hides_own_id(message: &[u8]) -> bool {
    message.windows(OWN_ID.len()).any(|window| window == OWN_ID.as_bytes())
}

/// Whether a whole id of the gateway's is in there, wherever: nobody writes one by chance. For what is too long to be read.
pub fn names_own_id(bytes: &[u8]) -> bool {
    let hex = |window: &[u8]| window[OWN_ID.len()..].iter().all(u8::is_ascii_hexdigit);
    bytes.windows(OWN_ID_LENGTH).any(|window| window.starts_with(OWN_ID.as_bytes()) && hex(window))
}

/// Whether it is a whole document of JSON, whatever is in it.
pub fn is_json(message: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(message).is_ok()
}

/// What the result of a tool says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verdict {
    is_error: Option<bool>,
    /// From the revision 2026-07-28 on; nothing means `complete`.
    result_type: Option<String>,
}

impl Verdict {
    /// `None` when this is no result of a tool.
    pub fn of(result: &RawValue) -> Option<Self> {
        let verdict: Self = serde_json::from_str(result.get()).ok().filter(|_| result.get().starts_with('{'))?;
        let known = matches!(verdict.result_type.as_deref(), None | Some("complete" | INPUT_REQUIRED));
        known.then_some(verdict)
    }

    pub fn is_error(&self) -> bool {
        self.is_error == Some(true)
    }

    /// The server asks for more before it goes on: nothing is served yet.
    pub fn asks_for_input(&self) -> bool {
        self.result_type.as_deref() == Some(INPUT_REQUIRED)
    }
}

/// The result of a tool under the client's id, with its receipt. `None` when it is no object.
pub fn result(id: &RawValue, result: &[u8], receipt: Option<&Value>) -> Option<Vec<u8>> {
    let mut result: Members = serde_json::from_slice(result).ok()?;
    if let Some(receipt) = receipt {
        let mut meta: Members = result.get("_meta").and_then(|meta| serde_json::from_str(meta.get()).ok()).unwrap_or_default();
        meta.insert(PAYMENT_RESPONSE.to_owned(), raw(receipt));
        result.insert("_meta".to_owned(), raw(&meta));
    }
    Some(message(id, "result", &result))
}

/// An error of the server under the client's id; a receipt says that the payment is still good.
pub fn error(id: &RawValue, error: &[u8], receipt: Option<&Value>) -> Option<Vec<u8>> {
    let mut error: Members = serde_json::from_slice(error).ok()?;
    let data: Option<Members> = match error.get("data") {
        None => Some(Members::new()),
        Some(data) => serde_json::from_str(data.get()).ok(),
    };
    if let (Some(receipt), Some(mut data)) = (receipt, data) {
        data.insert(PAYMENT_RESPONSE.to_owned(), raw(receipt));
        error.insert("data".to_owned(), raw(&data));
    }
    Some(message(id, "error", &error))
}

/// A refusal, in the shape of a result: `words` are offers, or say why there are none.
pub fn refusal(id: &RawValue, words: &Value, receipt: Option<&Value>, retry_after: Option<u64>, tagged: bool) -> Vec<u8> {
    let mut result = json!({
        "content": [{ "type": "text", "text": words.to_string() }],
        "isError": true,
        "structuredContent": words,
    });
    if tagged {
        result["resultType"] = "complete".into();
    }
    if let Some(receipt) = receipt {
        result["_meta"][PAYMENT_RESPONSE] = receipt.clone();
    }
    if let Some(seconds) = retry_after {
        result["_meta"][RETRY_AFTER] = seconds.into();
    }
    message(id, "result", &result)
}

/// A message that was not understood, or is not let through.
pub fn invalid(id: Option<&RawValue>, words: &str, data: &Value) -> Vec<u8> {
    let null = raw(&Value::Null);
    message(id.unwrap_or(&null), "error", &json!({ "code": -32600, "message": words, "data": data }))
}

fn message<T: Serialize>(id: &RawValue, member: &'static str, value: &T) -> Vec<u8> {
    let message = Members::from([("jsonrpc".to_owned(), raw("2.0")), ("id".to_owned(), id.to_owned()), (member.to_owned(), raw(value))]);
    serde_json::to_vec(&message).expect("members of messages that were read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_answer_takes_the_clients_id_and_its_receipt() {
        let id = raw(&7);
        let receipt = json!({"success": true});
        for (body, receipt, expect) in [
            (r#"{"content":[],"x":1.50}"#, None, r#"{"id":7,"jsonrpc":"2.0","result":{"content":[],"x":1.50}}"#),
            (
                r#"{"content":[],"_meta":{"a":1}}"#,
                Some(&receipt),
                r#"{"id":7,"jsonrpc":"2.0","result":{"_meta":{"a":1,"x402/payment-response":{"success":true}},"content":[]}}"#,
            ),
            (
                r#"{"_meta":null}"#,
                Some(&receipt),
                r#"{"id":7,"jsonrpc":"2.0","result":{"_meta":{"x402/payment-response":{"success":true}}}}"#,
            ),
        ] {
            assert_eq!(text(result(&id, body.as_bytes(), receipt).unwrap()), expect);
        }
        assert_eq!(result(&id, b"[]", None), None);
        for (body, expect) in [
            (r#"{"code":-1}"#, r#"{"error":{"code":-1,"data":{"x402/payment-response":{"success":true}}},"id":7,"jsonrpc":"2.0"}"#),
            (r#"{"code":-1,"data":"x"}"#, r#"{"error":{"code":-1,"data":"x"},"id":7,"jsonrpc":"2.0"}"#),
        ] {
            assert_eq!(text(error(&id, body.as_bytes(), Some(&receipt)).unwrap()), expect);
        }
    }

    #[test]
    fn an_answer_to_an_own_call_is_known_by_its_id() {
        for (body, expect) in [
            (r#"{"id":"kas402call1","result":{}}"#, Some("kas402call1")),
            (r#"{"result":{"a":[1]},"id":"kas402c\u0061ll1"}"#, Some("kas402call1")),
            (r#"{"id":"1","result":{}}"#, None),
            (r#"{"id":1,"result":{}}"#, None),
            (r#"{"id":null,"method":"x"}"#, None),
            (r#"{"method":"x","params":{"id":"kas402call1"}}"#, None),
        ] {
            assert_eq!(read(body.as_bytes()).unwrap().own_id(), expect, "{body}");
        }
        for body in [r#"[{"id":"kas402call1","result":{}}]"#, r#"{"id":"kas402call1","id":1}"#, "kas402call1"] {
            assert!(read(body.as_bytes()).is_none() && hides_own_id(body.as_bytes()), "{body}");
        }
        for body in [r#"[{"id":"kas402cal","result":{}}]"#, "", "kas402"] {
            assert!(!hides_own_id(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn a_whole_id_is_seen_in_any_bytes() {
        let own = format!("{OWN_ID}{}", "0a".repeat(16));
        for (bytes, expect) in [
            (own.clone(), true),
            (format!("{{\"result\":{{}},\"id\":\"{own}\"}}"), true),
            (own[..own.len() - 1].to_owned(), false),
            (format!("{}g", &own[..own.len() - 1]), false),
            (format!("ids begin with {OWN_ID} here"), false),
        ] {
            assert_eq!(names_own_id(bytes.as_bytes()), expect, "{bytes}");
        }
    }

    #[test]
    fn a_refusal_says_the_same_twice() {
        let words = json!({"x402Version": 2, "accepts": []});
        let made: Value = serde_json::from_slice(&refusal(&raw("a"), &words, Some(&json!(1)), Some(5), true)).unwrap();
        let told: Value = serde_json::from_str(made["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!((&told, &made["result"]["structuredContent"], &made["id"]), (&words, &words, &json!("a")));
        assert_eq!(made["result"]["_meta"], json!({"x402/payment-response": 1, "kas402/retry-after-seconds": 5}));
        assert_eq!((&made["result"]["isError"], &made["result"]["resultType"]), (&json!(true), &json!("complete")));
        let made: Value = serde_json::from_slice(&refusal(&raw("a"), &words, None, None, false)).unwrap();
        assert!(made["result"].get("_meta").is_none() && made["result"].get("resultType").is_none());
    }
    #[test]
    fn a_result_says_whether_it_is_one() {
        let verdict = |text: &str| {
            let read = Verdict::of(&RawValue::from_string(text.to_owned()).unwrap());
            read.map(|verdict| (verdict.is_error(), verdict.asks_for_input()))
        };
        for (text, expect) in [
            (r#"{}"#, Some((false, false))),
            (r#"{"content":[],"isError":false}"#, Some((false, false))),
            (r#"{"isError":true}"#, Some((true, false))),
            (r#"{"resultType":"complete","isError":null}"#, Some((false, false))),
            (r#"{"resultType":"input_required"}"#, Some((false, true))),
            (r#"{"resultType":"task"}"#, None),
            (r#"{"isError":"yes"}"#, None),
            (r#"[]"#, None),
            (r#"7"#, None),
        ] {
            assert_eq!(verdict(text), expect, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_of_the_message() {
        for (id, expect) in [(Some(raw(&7)), json!(7)), (None, Value::Null)] {
            let made: Value = serde_json::from_slice(&invalid(id.as_deref(), "no", &json!({"error": "mcp_message"}))).unwrap();
            let error = json!({"code": -32600, "message": "no", "data": {"error": "mcp_message"}});
            assert_eq!(made, json!({"jsonrpc": "2.0", "id": expect, "error": error}));
        }
    }

    #[test]
    fn half_a_document_is_none() {
        for (text, expect) in [(r#"{"a":[1]}"#, true), (" 7 ", true), (r#"{"a":"#, false), ("{} {}", false), ("", false)] {
            assert_eq!(is_json(text.as_bytes()), expect, "{text}");
        }
    }
}
