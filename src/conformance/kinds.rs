//! The kinds of vectors and who checks each.

use super::{
    binding, http, mcp,
    shape::{Object, Problem},
    spends, transactions,
};

pub type Check = fn(&mut Object) -> Result<(), Problem>;

/// Every kind, as `vectors/README.md` has them; a test compares.
pub const KINDS: &[(&str, Check)] = &[
    ("channel-id", binding::channel_id),
    ("voucher-digest", binding::voucher_digest),
    ("voucher-signature", binding::voucher_signature),
    ("escrow-script", binding::escrow_script),
    ("requirements-hash", binding::requirements_hash),
    ("commitment-id", binding::commitment_id),
    ("refund-maturity", binding::refund_maturity),
    ("finality", binding::finality),
    ("request-fingerprint", http::request_fingerprint),
    ("mcp-fingerprint", http::mcp_fingerprint),
    ("x402-http", http::x402_http),
    ("settlement-response", http::settlement_response),
    ("negative", http::negative),
    ("positive", http::positive),
    ("header-decode", http::header_decode),
    ("payment-identifier", http::payment_identifier),
    ("path-normal-form", http::path_normal_form),
    ("offer-mac", http::offer_mac),
    ("transaction-decode", transactions::transaction_decode),
    ("claim-tx", spends::claim_tx),
    ("refund-tx", spends::refund_tx),
    ("escrow-spend", spends::escrow_spend),
    ("continuation", spends::continuation),
    ("top-up-tx", spends::top_up_tx),
    ("channel-voucher", binding::channel_voucher),
    ("canonical-json", http::canonical_json),
    ("mcp-message", mcp::mcp_message),
    ("mcp-answer", mcp::mcp_answer),
    ("storage-mass", transactions::storage_mass),
];

pub fn find(kind: &str) -> Option<Check> {
    KINDS.iter().find(|(name, _)| *name == kind).map(|(_, check)| *check)
}
