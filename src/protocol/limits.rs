//! Every fixed bound in one place, with the relations between them asserted.

/// Longest `PAYMENT-SIGNATURE` value accepted, bytes; beyond it 431.
pub const PAYMENT_HEADER_BYTES: usize = 128 * 1024;
/// Deepest JSON nesting accepted in a payment header.
pub const JSON_DEPTH: usize = 32;
/// Largest whole number that every reader of JSON has exactly, and that is printed in one way.
pub const JSON_INTEGER: u64 = (1 << 53) - 1;
/// Most inputs of an exact payment transaction.
pub const TX_INPUTS: usize = 256;
/// Most outputs of an exact payment transaction.
pub const TX_OUTPUTS: usize = 64;
/// Longest transaction encoding, bytes after hex decoding.
pub const TX_BYTES: usize = 60 * 1024;
/// Longest offer token, characters.
pub const OFFER_TOKEN_CHARS: usize = 512;
/// Seconds a client's clock may be ahead or behind when an offer is judged.
pub const OFFER_CLOCK_GRACE_SECONDS: u64 = 5;
/// Milliseconds the node's clock may differ before the gateway calls itself not ready.
pub const NODE_CLOCK_SKEW_MILLIS: u64 = 30_000;
/// Other quotes tried when an offer does not authenticate, to name the reason.
pub const OFFER_DIAGNOSES: usize = 64;
/// Shortest and longest payment identifier, characters.
pub const IDENTIFIER_CHARS: std::ops::RangeInclusive<usize> = 16..=128;
/// A DAA lock time must stay below this; above it the network reads a timestamp.
pub const LOCK_TIME_THRESHOLD: u64 = 500_000_000_000;
/// DAA score the network counts in a second.
pub const DAA_PER_SECOND: u64 = 10;
/// Blue score depth after which a payment is no longer watched (default).
pub const FINAL_DEPTH: u64 = 1_000;
/// Seconds a paid, undelivered request stays good (default).
pub const ENTITLEMENT_SECONDS: u64 = 86_400;
/// Longest JSON text a meter reads of a stream, bytes: one event, or a body that was not held.
pub const METER_JSON_BYTES: usize = 1024 * 1024;
/// Deepest JSON nesting of a message that a client posts to an MCP server.
pub const MCP_JSON_DEPTH: usize = 100;
/// Redeliveries of a response that was too large to store, for one payment.
pub const REDELIVERIES: u32 = 3;

const _: () = assert!(TX_BYTES * 2 < PAYMENT_HEADER_BYTES, "a largest transaction's hex must fit the header before base64");
const _: () = assert!(*IDENTIFIER_CHARS.start() < *IDENTIFIER_CHARS.end());
