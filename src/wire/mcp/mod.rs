//! Messages of the Model Context Protocol over Streamable HTTP (PROTOCOL section 8): what a client posts, what it is
//! answered, and the events of a stream.
//!
//! Promises: a call of a tool is found wherever a server would find one, and a message that servers could read differently is
//! no message; what is forwarded keeps the client's own text, but for the payment and the id. Never decides what is sold.
//! Pure; called by `gateway::mcp` and the buyer.

use serde::Serialize;
use serde_json::value::RawValue;

pub mod answer;
pub mod events;
pub mod prices;
pub mod request;

/// The payment of a call, under `params._meta`.
pub const PAYMENT: &str = "x402/payment";
/// Its receipt, under `result._meta`.
pub const PAYMENT_RESPONSE: &str = "x402/payment-response";
/// When to ask again, under `result._meta` of a refusal.
pub const RETRY_AFTER: &str = "kas402/retry-after-seconds";

/// The method that calls a tool.
pub const CALL: &str = "tools/call";
/// The method that lists them.
pub const LIST: &str = "tools/list";

/// Begins the id under which a server sees a call that was paid for. Clients' own ids never begin so.
pub const OWN_ID: &str = "kas402call";

/// Its whole length: 128 random bits in hex follow.
pub const OWN_ID_LENGTH: usize = OWN_ID.len() + 32;

/// Members of the names that a message, or the part of one, may have: their values as they were written.
type Members = std::collections::BTreeMap<String, Box<RawValue>>;

/// A value as a member. It was read as JSON, or is made of what was.
fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("parts of messages that were read")
}
