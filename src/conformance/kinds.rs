//! The kinds of vectors and who checks each.

use super::{
    binding, http,
    shape::{Object, Problem},
    transactions,
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
    ("claim-tx", transactions::claim_tx),
    ("refund-tx", transactions::refund_tx),
    ("storage-mass", transactions::storage_mass),
];

pub fn find(kind: &str) -> Option<Check> {
    KINDS.iter().find(|(name, _)| *name == kind).map(|(_, check)| *check)
}
