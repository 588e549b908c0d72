//! Which codes can be compared through all ways in, and why the others can not. A test keeps this complete: a new code has a case, or a reason.

use crate::{
    stories::{CHANNEL, EXACT, OFFERS, STRICT},
    table::CASES,
};
use kas402::protocol::refusal::Code;
use std::collections::BTreeSet;

/// No verdict about a payment: nothing was decided, and the same call is sent again (a facilitator answers 503). Each way waits through them.
const LATER: &str = "no verdict: the same payment is presented again, and every runner here does";
/// About what surrounds a payment in HTTP, which only the proxy has.
const HTTP: &str = "of the HTTP request that carries the payment: only the proxy has one";
const MCP: &str = "of a JSON-RPC message: only MCP has one; tests/mcp.rs";
const CALL: &str = "of a tenant's call: only the facilitator has one; tests/facilitator.rs";
const OFFER: &str = "the facilitator judges no offers; proxy, MCP and edge are compared in `offers`";
const DELIVERY: &str = "of what is delivered for a payment: the facilitator delivers nothing";

/// A way in that cannot say it, by code.
pub const NOT_EVERYWHERE: &[(Code, &str)] = &[
    (Code::PaymentRequired, "no payment was presented: a call of the facilitator always has one"),
    (Code::HeaderNotBase64, HTTP),
    (Code::HeaderNotJson, HTTP),
    (Code::HeaderDuplicated, HTTP),
    (Code::HeaderTooLarge, HTTP),
    (Code::PathMalformed, HTTP),
    (Code::NoRoute, HTTP),
    (Code::BodyTooLarge, "of the body around a payment, whose limits are each way's own"),
    (Code::BodyIncomplete, HTTP),
    (Code::PriceInput, "the facilitator prices nothing, and the inputs of a tool's price are arguments"),
    (Code::McpMessage, MCP),
    (Code::McpBatch, MCP),
    (Code::McpTask, MCP),
    (Code::McpTool, MCP),
    (Code::CallMalformed, CALL),
    (Code::TenantUnknown, CALL),
    (Code::TenantPermission, CALL),
    (Code::TenantRecipient, CALL),
    (Code::TenantRate, CALL),
    (Code::ChargeAboveAmount, CALL),
    (Code::ClaimRefused, CALL),
    (Code::FacilitatorUnavailable, "only an edge has a facilitator; tests/remote_facilitator.rs"),
    (Code::IdentifierRequired, "whether identifiers are required is the resource server's to say; a facilitator makes one up"),
    (Code::IdentifierNotEchoed, OFFER),
    (Code::OfferMalformed, OFFER),
    (Code::OfferKeyUnknown, OFFER),
    (Code::OfferOtherRoute, OFFER),
    (Code::OfferOtherPrice, "the inputs of a price are the request's at the proxy and arguments in MCP; the facilitator has none"),
    (Code::OfferExpired, OFFER),
    (Code::PaidLate, OFFER),
    (Code::RequestHashRequired, "whether a client has to send the hash is the resource server's to say"),
    (Code::EntitlementExpired, DELIVERY),
    (Code::UpstreamFailed, DELIVERY),
    (Code::UpstreamTimeout, DELIVERY),
    (Code::LeaseLost, LATER),
    (Code::InFlight, LATER),
    (Code::SettlementPending, LATER),
    (Code::StoreUnavailable, LATER),
    (Code::NodeUnavailable, LATER),
    (Code::Overloaded, LATER),
    (Code::DepositNotConfirmed, LATER),
    (Code::DepositReorganised, LATER),
    (Code::DepositSpent, "an escrow is spent by its server or after its timeout: before it is a channel, only by who waits for days"),
];

#[test]
fn every_code_is_compared_through_all_ways_in_or_there_is_a_reason() {
    let compared: BTreeSet<&str> =
        CASES.iter().map(|case| case.code).chain([EXACT, STRICT, CHANNEL].into_iter().flatten().copied()).collect();
    for code in Code::ALL {
        let reasons = NOT_EVERYWHERE.iter().filter(|(named, _)| named == code).count();
        let ways = reasons + usize::from(compared.contains(code.as_str()));
        assert_eq!(ways, 1, "{code}: it has a case or one reason why it can have none");
    }
    for code in compared.iter().chain(OFFERS) {
        assert!(Code::ALL.iter().any(|known| known.as_str() == *code), "{code} is no code");
    }
    for code in OFFERS {
        assert!(NOT_EVERYWHERE.iter().any(|(named, _)| named.as_str() == *code), "{code} is of offers");
    }
}
