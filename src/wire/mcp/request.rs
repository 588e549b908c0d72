//! What a client posts: one JSON-RPC message, or a batch, read strictly.

use super::{CALL, LIST, Members, OWN_ID, PAYMENT, raw};
use crate::protocol::{inputs::folded, json, limits::MCP_JSON_DEPTH, refusal::Code};
use serde_json::{Map, Value, value::RawValue};

/// Names that mean something in a message, and in the parameters of a call.
const TOP: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
const PARAMS: [&str; 4] = ["name", "arguments", "_meta", "task"];
/// In `_meta`, from the revision 2026-07-28 on.
const REVISION: &str = "io.modelcontextprotocol/protocolVersion";

/// Why a body is no message that every server reads alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    #[error("the body must be one JSON document: {0}")]
    Json(#[from] json::JsonError),
    #[error("this is no JSON-RPC message")]
    Shape,
    #[error("{0:?} could be taken for another member")]
    Member(String),
    #[error("{0:?} could be taken for another method")]
    Method(String),
    #[error("a call names its tool in params.name")]
    Tool,
    #[error("an id is a whole number, or a string that is not the gateway's own")]
    Id,
}

/// What was posted.
#[derive(Debug)]
pub enum Posted {
    Call(Box<Call>),
    /// Any other message.
    Other {
        lists_tools: bool,
        /// The message without its payment, when it had one.
        without_payment: Option<Vec<u8>>,
    },
    /// Several messages: the tools that are called among them, and whether one carries a payment.
    Batch {
        tools: Vec<String>,
        pays: bool,
    },
}

/// A call of a tool.
#[derive(Debug)]
pub struct Call {
    /// As the client wrote it; `None` of a notification.
    pub id: Option<Box<RawValue>>,
    pub tool: String,
    /// `None` when absent or `null`.
    pub arguments: Option<Value>,
    /// Asks for a task instead of a result.
    pub task: bool,
    pub payment: Option<Value>,
    /// Of the revision 2026-07-28 or later, whose results say what they are.
    pub tagged: bool,
    message: Message,
}

impl Call {
    /// Why this call of a tool that is sold is not sold, paid for or not.
    pub fn unsold(&self) -> Option<(Code, &'static str)> {
        if self.id.is_none() {
            Some((Code::McpMessage, "a call without an id has no answer: this tool is sold"))
        } else if self.task {
            Some((Code::McpTask, "leave `task` out"))
        } else {
            None
        }
    }

    /// The message for the server, without the payment, under this id or the client's own.
    pub fn forwarded(&self, id: Option<&str>) -> Vec<u8> {
        self.message.print(id)
    }
}

/// Whether a batch is let through: it carries no payment, and every tool it calls is free.
pub fn batch_passes(called: &[String], pays: bool, free: impl Fn(&str) -> bool) -> bool {
    !pays && called.iter().all(|tool| free(tool))
}

/// Reads a body. No member twice anywhere, none that differs from a known one only in letter case.
pub fn read(body: &[u8]) -> Result<Posted, Unclear> {
    match json::parse_strict(body, MCP_JSON_DEPTH)? {
        Value::Object(object) => one(object, body),
        Value::Array(items) if !items.is_empty() => {
            let (mut tools, mut pays) = (Vec::new(), false);
            for item in &items {
                let object = item.as_object().ok_or(Unclear::Shape)?;
                let kind = kind(object)?;
                pays |= payment(object)?.is_some();
                if let Kind::Call(tool) = kind {
                    tools.push(tool.to_owned());
                }
            }
            Ok(Posted::Batch { tools, pays })
        }
        _ => Err(Unclear::Shape),
    }
}

fn one(mut object: Map<String, Value>, body: &[u8]) -> Result<Posted, Unclear> {
    let tool = match kind(&object)? {
        Kind::Call(tool) => tool.to_owned(),
        Kind::Other { lists_tools } => {
            let pays = payment(&object)?.is_some();
            let without_payment = if pays { Some(Message::read(body)?.print(None)) } else { None };
            return Ok(Posted::Other { lists_tools, without_payment });
        }
    };
    let pays = payment(&object)?.is_some();
    let message = Message::read(body)?;
    // Taken out of the message, not copied: they are all of its length.
    let params = object.get_mut("params").and_then(Value::as_object_mut).ok_or(Unclear::Tool)?;
    let arguments = params.remove("arguments").filter(|arguments| !arguments.is_null());
    let task = params.contains_key("task");
    let mut meta = params.get_mut("_meta").and_then(Value::as_object_mut);
    let payment = meta.as_mut().filter(|_| pays).and_then(|meta| meta.remove(PAYMENT));
    let tagged = meta.is_some_and(|meta| meta.contains_key(REVISION));
    Ok(Posted::Call(Box::new(Call { id: message.top.get("id").cloned(), tool, arguments, task, payment, tagged, message })))
}

enum Kind<'m> {
    Call(&'m str),
    Other { lists_tools: bool },
}

fn kind(object: &Map<String, Value>) -> Result<Kind<'_>, Unclear> {
    unlike(object, &TOP)?;
    match object.get("id") {
        None => {}
        Some(Value::String(id)) if !id.starts_with(OWN_ID) => {}
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => {}
        Some(_) => return Err(Unclear::Id),
    }
    let answers = object.contains_key("result") || object.contains_key("error");
    let Some(method) = object.get("method") else {
        return if answers { Ok(Kind::Other { lists_tools: false }) } else { Err(Unclear::Shape) };
    };
    let method = method.as_str().filter(|_| !answers).ok_or(Unclear::Shape)?;
    let params = object.get("params");
    if method == CALL {
        let params = params.and_then(Value::as_object).ok_or(Unclear::Tool)?;
        unlike(params, &PARAMS)?;
        return params.get("name").and_then(Value::as_str).map(Kind::Call).ok_or(Unclear::Tool);
    }
    let letters: String = method.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./$".contains(&byte));
    if !plain || letters.eq_ignore_ascii_case("toolscall") {
        return Err(Unclear::Method(method.to_owned()));
    }
    if params.and_then(|params| params.get("requestId")).and_then(Value::as_str).is_some_and(|id| id.starts_with(OWN_ID)) {
        return Err(Unclear::Id);
    }
    Ok(Kind::Other { lists_tools: method == LIST })
}

/// The payment in `params._meta`.
fn payment(object: &Map<String, Value>) -> Result<Option<&Value>, Unclear> {
    let Some(params) = object.get("params").and_then(Value::as_object) else { return Ok(None) };
    unlike(params, &["_meta"])?;
    match params.get("_meta") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(meta)) => {
            unlike(meta, &[PAYMENT])?;
            Ok(meta.get(PAYMENT))
        }
        Some(_) => Err(Unclear::Shape),
    }
}

/// No name that some reader would take for one of these.
fn unlike(object: &Map<String, Value>, names: &[&str]) -> Result<(), Unclear> {
    let alike = |key: &&String| !names.contains(&key.as_str()) && names.contains(&folded(key).as_str());
    object.keys().find(alike).map_or(Ok(()), |key| Err(Unclear::Member(key.clone())))
}

/// A message in its own text, without its payment.
#[derive(Debug)]
struct Message {
    top: Members,
    params: Option<Members>,
    meta: Option<Members>,
}

impl Message {
    /// Of a body that was read strictly.
    fn read(body: &[u8]) -> Result<Self, Unclear> {
        let members = |raw: &RawValue| serde_json::from_str::<Members>(raw.get()).ok();
        let mut top: Members = serde_json::from_slice(body).map_err(|_| Unclear::Shape)?;
        let mut params = top.get("params").and_then(|params| members(params));
        let mut meta = params.as_ref().and_then(|params| params.get("_meta")).and_then(|meta| members(meta));
        if params.is_some() {
            top.remove("params");
        }
        if let (Some(params), Some(meta)) = (&mut params, &mut meta) {
            params.remove("_meta");
            meta.remove(PAYMENT);
        }
        Ok(Self { top, params, meta })
    }

    fn print(&self, id: Option<&str>) -> Vec<u8> {
        let mut top = self.top.clone();
        if let Some(params) = &self.params {
            let mut params = params.clone();
            if let Some(meta) = self.meta.as_ref().filter(|meta| !meta.is_empty()) {
                params.insert("_meta".to_owned(), raw(meta));
            }
            top.insert("params".to_owned(), raw(&params));
        }
        if let Some(id) = id {
            top.insert("id".to_owned(), raw(id));
        }
        serde_json::to_vec(&top).expect("members of a message that was read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a body is, in a word.
    fn word(body: &str) -> String {
        match read(body.as_bytes()) {
            Ok(Posted::Call(call)) => format!("call {} {}", call.tool, if call.payment.is_some() { "paid" } else { "unpaid" }),
            Ok(Posted::Other { lists_tools, without_payment }) => {
                let list = if lists_tools { "list" } else { "other" };
                without_payment.map_or(list.to_owned(), |text| String::from_utf8(text).unwrap())
            }
            Ok(Posted::Batch { tools, pays }) => format!("batch {tools:?} {pays}"),
            Err(Unclear::Json(_)) => "json".into(),
            Err(Unclear::Shape) => "shape".into(),
            Err(Unclear::Member(_)) => "member".into(),
            Err(Unclear::Method(_)) => "method".into(),
            Err(Unclear::Tool) => "tool".into(),
            Err(Unclear::Id) => "id".into(),
        }
    }

    #[test]
    fn a_call_is_found_wherever_a_server_would_find_one() {
        for (body, expect) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#, "call a unpaid"),
            (r#"{"id":"x","method":"tools\/call","params":{"na\u006de":"a"}}"#, "call a unpaid"),
            (r#"{"method":"tools/call","params":{"name":"a"}}"#, "call a unpaid"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a","_meta":{"x402/payment":{}}}}"#, "call a paid"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a","_meta":null}}"#, "call a unpaid"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a","arguments":{"_meta":{"x402/payment":{}}}}}"#, "call a unpaid"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a","_meta":{"_meta":{"x402/payment":{}}}}}"#, "call a unpaid"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a","_meta":{"X402/Payment":{}}}}"#, "member"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a","_meta":7}}"#, "shape"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#, "member"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#, "json"),
            (r#"{"id":1,"method":"tools/call","params":{"name":["a"]}}"#, "tool"),
            (r#"{"id":1,"method":"tools/call","params":["a"]}"#, "tool"),
            (r#"{"id":1,"method":"tools/call"}"#, "tool"),
            (r#"{"id":1,"method":"ping","method":"tools/call","params":{"name":"a"}}"#, "json"),
            (r#"{"id":1,"method":"ping","Method":"tools/call","params":{"name":"a"}}"#, "member"),
            ("{\"id\":1,\"method\":\"ping\",\"param\u{17f}\":{\"name\":\"a\"}}", "member"),
            (r#"{"id":1,"method":"Tools/Call","params":{"name":"a"}}"#, "method"),
            (r#"{"id":1,"method":"tools/call ","params":{"name":"a"}}"#, "method"),
            (r#"{"id":1,"method":"tools//call","params":{"name":"a"}}"#, "method"),
            (r#"{"id":1,"method":"tools/call\u0000","params":{"name":"a"}}"#, "method"),
            (r#"{"id":1,"method":"t\u00f6ols","params":{}}"#, "method"),
            (r#"{"id":1,"method":["tools/call"],"params":{"name":"a"}}"#, "shape"),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a"},"result":{}}"#, "shape"),
            (r#"{"id":1,"params":{"name":"a"}}"#, "shape"),
            (r#"{"id":null,"method":"tools/call","params":{"name":"a"}}"#, "id"),
            (r#"{"id":1.5,"method":"tools/call","params":{"name":"a"}}"#, "id"),
            (r#"{"id":-7,"method":"tools/call","params":{"name":"a"}}"#, "call a unpaid"),
            (r#"{"id":18446744073709551615,"method":"ping"}"#, "other"),
            (r#"{"id":{},"method":"tools/call","params":{"name":"a"}}"#, "id"),
            (r#"{"id":"kas402call1","method":"ping"}"#, "id"),
            (r#"{"method":"notifications/cancelled","params":{"requestId":"kas402call1"}}"#, "id"),
            (r#"{"id":1,"id":2,"method":"tools/call","params":{"name":"a"}}"#, "json"),
            (r#"{"id":1,"method":"tools/list"}"#, "list"),
            (r#"{"id":1,"method":"initialize","params":{}}"#, "other"),
            (r#"{"method":"notifications/initialized"}"#, "other"),
            (r#"{"id":1,"result":{}}"#, "other"),
            (r#"{"id":1,"error":{}}"#, "other"),
            (
                r#"{"id":1,"method":"ping","params":{"_meta":{"x402/payment":{"a":1},"b":1.50},"c":[1e2]}}"#,
                r#"{"id":1,"method":"ping","params":{"_meta":{"b":1.50},"c":[1e2]}}"#,
            ),
            (
                r#"[{"id":1,"method":"ping"},{"id":2,"method":"tools/call","params":{"name":"a","_meta":{"x402/payment":1}}}]"#,
                r#"batch ["a"] true"#,
            ),
            (r#"[{"id":1,"method":"ping"}]"#, "batch [] false"),
            (r#"[{"id":1,"method":"Tools/call","params":{"name":"a"}}]"#, "method"),
            (r#"[[{"id":1,"method":"tools/call","params":{"name":"a"}}]]"#, "shape"),
            ("[]", "shape"),
            ("7", "shape"),
            ("", "json"),
            ("{} {}", "json"),
            ("\u{feff}{}", "json"),
            ("{\"id\":1,\"method\":\"ping\"}\n{\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}", "json"),
        ] {
            assert_eq!(word(body), expect, "{body}");
        }
        assert_eq!(word(&format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))), "json");
    }

    #[test]
    fn a_call_has_what_its_client_wrote() {
        let call = |params: &str| {
            let body = format!(r#"{{"id":"x","method":"tools/call","params":{{"name":"a"{params}}}}}"#);
            let Posted::Call(call) = read(body.as_bytes()).unwrap() else { panic!("a call: {body}") };
            (call.arguments, call.task, call.tagged)
        };
        let tagged = r#","arguments":{"n":1},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        for (params, expect) in [
            ("", (None, false, false)),
            (r#","arguments":null"#, (None, false, false)),
            (r#","arguments":{},"task":{}"#, (Some(serde_json::json!({})), true, false)),
            (tagged, (Some(serde_json::json!({"n": 1})), false, true)),
        ] {
            assert_eq!(call(params), expect, "{params}");
        }
    }

    #[test]
    fn what_is_forwarded_keeps_the_clients_own_text() {
        let body = r#"{ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "a",
            "arguments": {"n": 1.10, "big": 123456789012345678901234567890, "a": "\u00fc"},
            "_meta": {"progressToken": 7, "x402/payment": {"secret": 1}} } }"#;
        let Posted::Call(call) = read(body.as_bytes()).unwrap() else { panic!("a call") };
        assert_eq!(call.id.as_ref().map(|id| id.get()), Some("7"));
        assert_eq!(call.payment, Some(serde_json::json!({"secret": 1})));
        for (id, expect) in [(Some("kas402call0"), r#""id":"kas402call0""#), (None, r#""id":7"#)] {
            let forwarded = String::from_utf8(call.forwarded(id)).unwrap();
            assert!(forwarded.contains(expect), "{forwarded}");
            assert!(forwarded.contains(r#"{"n": 1.10, "big": 123456789012345678901234567890, "a": "\u00fc"}"#), "{forwarded}");
            assert!(forwarded.contains(r#""_meta":{"progressToken":7}"#) && !forwarded.contains("secret"), "{forwarded}");
            assert_eq!(read(forwarded.as_bytes()).err(), id.map(|_| Unclear::Id), "a client cannot say it itself");
        }
    }
}
