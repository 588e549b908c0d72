//! Every way the gateway says no: one closed list with stable codes, whose fault
//! it is, and the HTTP status (PROTOCOL section 6). `docs/refusals.md` is checked
//! against [`Code::ALL`] by a test.

/// Who can do something about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request or payment is wrong; the client must change it.
    Client,
    /// The operator's configuration, store or node.
    Operator,
    /// The network has not decided yet, or something is busy; the same request later.
    Nobody,
    /// The API behind the gateway.
    Upstream,
}

/// What accompanies a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offers {
    /// `PAYMENT-REQUIRED` with fresh offers: paying again is safe.
    Attach,
    /// Never an offer: money may have moved.
    Never,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal, $status:literal, $fault:ident, $offers:ident, $reason:literal;)*) => {
        /// The precise code of a refusal, as `extensions.kaspa.reason` carries it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])* $variant,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The stable code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault),* }
            }

            pub const fn offers(self) -> Offers {
                match self { $(Self::$variant => Offers::$offers),* }
            }

            /// The word of the x402 vocabulary for `errorReason`; empty where no settlement is answered.
            pub const fn error_reason(self) -> &'static str {
                match self { $(Self::$variant => $reason),* }
            }

            /// What the code means, for the response body and the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => {
                    concat!($($doc),*).trim_ascii()
                }),* }
            }
        }
    };
}

codes! {
    /// No payment was sent; the offers say how to pay.
    PaymentRequired = "payment_required", 402, Client, Attach, "";

    // the envelope
    /// The payment header is not standard padded base64.
    HeaderNotBase64 = "payment_header_not_base64", 400, Client, Attach, "invalid_payload";
    /// The payment header is not JSON within its bounds (duplicate keys, depth, trailing text).
    HeaderNotJson = "payment_header_not_json", 400, Client, Attach, "invalid_payload";
    /// A field of the payment header is missing, unknown or of the wrong type.
    HeaderSchema = "payment_header_schema", 400, Client, Attach, "invalid_payload";
    /// More than one payment header was sent.
    HeaderDuplicated = "payment_header_duplicated", 400, Client, Attach, "invalid_payload";
    /// The payment header is longer than the limit.
    HeaderTooLarge = "payment_header_too_large", 431, Client, Never, "";
    /// The envelope is not x402 version 2.
    Version = "invalid_kaspa_x402_version", 402, Client, Attach, "invalid_x402_version";
    /// The scheme is none that this gateway speaks.
    Scheme = "invalid_kaspa_x402_scheme", 402, Client, Attach, "unsupported_scheme";
    /// The network is not the one of the offer.
    Network = "invalid_kaspa_x402_network", 402, Client, Attach, "invalid_network";
    /// The asset is not KAS.
    Asset = "invalid_kaspa_x402_asset", 402, Client, Attach, "invalid_payment_requirements";
    /// The binding is none that this gateway speaks.
    Binding = "invalid_kaspa_x402_binding", 402, Client, Attach, "invalid_payment_requirements";
    /// The payload type does not belong to the scheme.
    PayloadType = "invalid_kaspa_x402_payload_type", 402, Client, Attach, "invalid_payload";
    /// The route requires a payment identifier and none was sent.
    IdentifierRequired = "payment_identifier_required", 400, Client, Attach, "invalid_payload";
    /// The payment identifier is not 16 to 128 characters of A-Z a-z 0-9 _ -.
    IdentifierMalformed = "payment_identifier_malformed", 400, Client, Attach, "invalid_payload";
    /// The advertised payment-identifier extension was not echoed whole.
    IdentifierNotEchoed = "payment_identifier_not_echoed", 400, Client, Attach, "invalid_payload";

    // MCP
    /// The body is not one JSON-RPC message that every server reads alike, or the head contradicts it.
    McpMessage = "mcp_message", 400, Client, Never, "";
    /// A batch that calls a tool which is sold, or carries a payment.
    McpBatch = "mcp_batch", 400, Client, Never, "";
    /// A tool that is sold is not run as a task.
    McpTask = "mcp_task", 400, Client, Never, "";
    /// The name could be taken for a tool that is sold, and is not it.
    McpTool = "mcp_tool", 400, Client, Never, "";

    // the offer
    /// `accepted` carries no offer token, or one that does not parse.
    OfferMalformed = "offer_malformed", 402, Client, Attach, "invalid_payment_requirements";
    /// The offer was signed with a key this gateway does not hold, or no longer.
    OfferKeyUnknown = "offer_key_unknown", 402, Client, Attach, "invalid_payment_requirements";
    /// `accepted` differs from what was offered, or the offer belongs to another store.
    OfferNotOurs = "offer_not_ours", 402, Client, Attach, "invalid_payment_requirements";
    /// The offer belongs to another route or host.
    OfferOtherRoute = "offer_other_route", 402, Client, Attach, "invalid_payment_requirements";
    /// The offer was quoted for other values of the inputs that set the price.
    OfferOtherPrice = "offer_other_price", 402, Client, Attach, "invalid_payment_requirements";
    /// The offer has expired and its transaction was never seen; nothing has moved.
    OfferExpired = "offer_expired", 402, Client, Attach, "invalid_payment_requirements";
    /// The transaction is on the network, but its offer had expired when it was first presented.
    PaidLate = "paid_late", 409, Client, Never, "invalid_transaction_state";

    // exact: the transaction alone
    /// The transaction is not hex, not a known encoding, too large, or has trailing bytes.
    TransactionUndecodable = "invalid_kaspa_exact_transaction", 402, Client, Attach, "invalid_payload";
    /// The transaction's version, subnetwork, gas, lock time, bounds or compute commitments are not those of an ordinary payment.
    TransactionForm = "invalid_kaspa_exact_transaction_form", 402, Client, Attach, "invalid_payload";
    /// `transactionId` is not the id of the transaction.
    TransactionId = "invalid_kaspa_exact_transaction_id", 402, Client, Attach, "invalid_payload";
    /// `paymentOutputIndex` names no output.
    OutputIndex = "invalid_kaspa_exact_output_index", 402, Client, Attach, "invalid_payload";
    /// The payment output does not pay exactly the offered amount.
    OutputAmount = "invalid_kaspa_exact_payment_output", 402, Client, Attach, "invalid_payload";
    /// The payment output does not pay to the offered recipient.
    OutputRecipient = "invalid_kaspa_exact_recipient", 402, Client, Attach, "invalid_payload";
    /// The payment output is bound to a covenant.
    OutputCovenant = "invalid_kaspa_exact_covenant_output", 402, Client, Attach, "invalid_payload";
    /// A second output pays the same amount to the same recipient.
    OutputAmbiguous = "invalid_kaspa_exact_ambiguous_output", 402, Client, Attach, "invalid_payload";
    /// `requestHash` is not the hash of this request.
    RequestHashMismatch = "invalid_kaspa_exact_request_hash", 402, Client, Attach, "invalid_payload";
    /// The route requires `requestHash` and none was sent.
    RequestHashRequired = "kaspa_exact_request_hash_required", 402, Client, Attach, "invalid_payload";

    // batch-settlement: the payload alone and against the offer
    /// A claim or refund was sent to a proxied route: these are operations of the channel's owner, not payments.
    PaymentTypeNotAllowed = "payment_type_not_allowed", 402, Client, Attach, "invalid_payload";
    /// `channelConfig` describes no channel: an address, key or timeout in it cannot be used.
    EscrowConfig = "invalid_kaspa_escrow_config", 402, Client, Attach, "invalid_payload";
    /// `channelConfig.serverPublicKey` is not the offered key.
    EscrowServerKey = "invalid_kaspa_escrow_server_key", 402, Client, Attach, "invalid_payload";
    /// `channelConfig.payTo` is not the offered recipient.
    EscrowPayTo = "invalid_kaspa_escrow_pay_to", 402, Client, Attach, "invalid_payload";
    /// `channelConfig.refundTimeoutDaa` is not the offered one.
    EscrowTimeout = "invalid_kaspa_escrow_refund_timeout", 402, Client, Attach, "invalid_payload";
    /// `channelId` is not the id of `channelConfig`.
    EscrowChannelId = "invalid_kaspa_escrow_channel_id", 402, Client, Attach, "invalid_payload";
    /// `activeScriptPublicKey` is not the script of the channel.
    EscrowScript = "invalid_kaspa_escrow_script", 402, Client, Attach, "invalid_payload";
    /// `escrowAddress` is not the address of the channel's script.
    EscrowAddress = "invalid_kaspa_escrow_address", 402, Client, Attach, "invalid_payload";
    /// `clientPublicKey` is not the key of the channel.
    EscrowClientKey = "invalid_kaspa_escrow_client_key", 402, Client, Attach, "invalid_payload";
    /// `fundingTransaction` does not decode, or is not an ordinary transaction.
    FundingTransaction = "invalid_kaspa_escrow_funding_transaction", 402, Client, Attach, "invalid_payload";
    /// `fundingOutpoint` names no output of `fundingTransaction`.
    FundingOutpoint = "invalid_kaspa_escrow_funding_outpoint", 402, Client, Attach, "invalid_payload";
    /// The funding output is not locked by the channel's script.
    FundingScript = "invalid_kaspa_escrow_funding_script", 402, Client, Attach, "invalid_payload";
    /// The funding output does not hold exactly `fundingAmountSompi`.
    FundingAmount = "invalid_kaspa_escrow_funding_amount", 402, Client, Attach, "invalid_payload";
    /// The funding output is bound to a covenant.
    DepositCovenant = "deposit_covenant", 402, Client, Attach, "invalid_payload";
    /// The deposit is below the offered minimum, or too small for any claim.
    DepositTooSmall = "deposit_too_small", 402, Client, Attach, "invalid_payload";
    /// The inputs or outputs of a top-up are not those of a cooperative claim.
    TopUpForm = "invalid_kaspa_escrow_top_up", 402, Client, Attach, "invalid_payload";
    /// A top-up pays out too little, adds nothing, or does not continue the escrow with the exact amount.
    TopUpAmount = "invalid_kaspa_escrow_top_up_amount", 402, Client, Attach, "invalid_payload";
    /// An input of a top-up is not signed by its owner over the whole transaction.
    TopUpSignature = "invalid_kaspa_escrow_top_up_signature", 402, Client, Attach, "invalid_payload";
    /// A top-up is a claim and there is nothing to claim: a new channel takes its place.
    TopUpNothingToClaim = "top_up_nothing_to_claim", 402, Client, Attach, "invalid_payload";
    /// The voucher's signature is not by the client's key over this outpoint, script and amount.
    VoucherSignature = "voucher_signature", 402, Client, Attach, "invalid_payload";
    /// The voucher's amount is not the one the channel's state requires.
    VoucherAmount = "voucher_amount", 402, Client, Attach, "invalid_payload";

    // batch-settlement: the channel
    /// No such channel, or the voucher does not prove its key; both look the same.
    ChannelUnknown = "channel_unknown", 402, Client, Attach, "invalid_payload";
    /// The voucher is for the outpoint before the last claim or top-up.
    VoucherStaleOutpoint = "voucher_stale_outpoint", 402, Client, Attach, "invalid_payload";
    /// The escrow does not hold the voucher and the reserve of its own claim.
    ChannelBalance = "channel_balance", 402, Client, Attach, "invalid_payload";
    /// The channel was spent on chain or closed by its owner.
    ChannelClosed = "channel_closed", 402, Client, Attach, "invalid_transaction_state";
    /// The channel's refund is so near that a claim might come too late.
    RefundWindow = "refund_window", 402, Client, Attach, "invalid_transaction_state";
    /// The outpoint backs another channel, for ever. No offer: whoever deposited here must not deposit again.
    OutpointInUse = "outpoint_in_use", 409, Client, Never, "invalid_transaction_state";
    /// Another outpoint of the same script backs an open channel. No offer: a third deposit would be locked too.
    ScriptInUse = "script_in_use", 409, Client, Never, "invalid_transaction_state";
    /// The offer was used in this channel with another payment identifier. No offer: the first may have been charged.
    OfferReused = "offer_reused", 409, Client, Never, "invalid_transaction_state";
    /// The node proved the funding transaction invalid; nothing has moved and a new payment is safe.
    FundingRejected = "invalid_kaspa_escrow_funding_rejected", 402, Client, Attach, "invalid_transaction_state";
    /// The deposit was spent before the channel opened.
    DepositSpent = "deposit_spent", 402, Client, Attach, "invalid_transaction_state";
    /// The deposit has not the required confirmations. No offer: the money is on its way.
    DepositNotConfirmed = "deposit_not_confirmed", 503, Nobody, Never, "unexpected_settle_error";
    /// A reorganisation took the deposit back. No offer: it may return by itself.
    DepositReorganised = "deposit_reorganised", 503, Nobody, Never, "unexpected_settle_error";
    /// Another request of this channel is being served; a channel is served one request at a time.
    ChannelBusy = "channel_busy", 402, Nobody, Attach, "invalid_transaction_state";
    /// More unclaimed charges than the operator allows, in this channel, for this payer, or in all.
    ExposureLimit = "exposure_limit", 402, Nobody, Attach, "invalid_transaction_state";
    /// The gateway lost its hold on the channel while the request was served; nothing was charged.
    LeaseLost = "channel_lease_lost", 503, Operator, Never, "unexpected_settle_error";

    // the store
    /// This payment was already used for another request.
    Replay = "invalid_kaspa_exact_replay", 409, Client, Never, "invalid_transaction_state";
    /// This payment identifier was already used for another request.
    IdentifierReused = "payment_identifier_reused", 409, Client, Never, "invalid_transaction_state";
    /// The same payment for the same request is still being served.
    InFlight = "payment_in_flight", 409, Nobody, Never, "invalid_transaction_state";
    /// The time within which a paid, undelivered request could be repeated is over.
    EntitlementExpired = "entitlement_expired", 410, Client, Never, "invalid_transaction_state";

    // the chain
    /// The node proved the transaction invalid; nothing has moved and a new payment is safe.
    TransactionRejected = "invalid_kaspa_exact_transaction_rejected", 402, Client, Attach, "invalid_transaction_state";
    /// A conflicting transaction spent the same inputs and is final; this one can never count.
    TransactionConflicted = "invalid_kaspa_exact_conflicting_spend", 402, Client, Attach, "invalid_transaction_state";
    /// The network knew the transaction before it was presented: prove the payer's key and send the same header again.
    PayerProofRequired = "payer_proof_required", 409, Client, Never, "invalid_transaction_state";
    /// The payer proof does not verify under the key of an input.
    PayerProofInvalid = "payer_proof_invalid", 409, Client, Never, "invalid_transaction_state";
    /// The network knew the transaction before it was presented, and this route never serves such payments.
    ForeignTransaction = "kaspa_exact_foreign_transaction", 409, Client, Never, "invalid_transaction_state";
    /// The transaction was accepted before this offer was made: it paid for something else.
    TransactionOlder = "kaspa_exact_older_than_offer", 409, Client, Never, "invalid_transaction_state";
    /// The transaction may have moved money but has not reached the required finality; send the same header again.
    SettlementPending = "settlement_pending", 503, Nobody, Never, "unexpected_settle_error";

    // the facilitator
    /// The body of a call to the facilitator is not what it has to be: strict JSON with a payment and its requirements.
    CallMalformed = "facilitator_call_malformed", 400, Client, Never, "invalid_payload";
    /// `charge` is more than the amount that the payment's terms allow; nothing was charged.
    ChargeAboveAmount = "charge_above_amount", 400, Client, Never, "invalid_payment_requirements";
    /// A call to the facilitator without a tenant's token, or with a wrong one.
    TenantUnknown = "tenant_unknown", 401, Client, Never, "unexpected_settle_error";
    /// The tenant may not ask for this.
    TenantPermission = "tenant_permission", 403, Client, Never, "unexpected_settle_error";
    /// The recipient or the server key is not this tenant's.
    TenantRecipient = "tenant_recipient", 403, Client, Never, "invalid_payment_requirements";
    /// More calls than the tenant is allowed.
    TenantRate = "tenant_rate", 429, Nobody, Never, "unexpected_settle_error";
    /// The facilitator that settles for this gateway cannot be reached or does not work for it; nothing is known to have been sent.
    FacilitatorUnavailable = "facilitator_unavailable", 503, Operator, Never, "unexpected_settle_error";
    /// The channel owes nothing that could be claimed as it was asked.
    ClaimRefused = "claim_refused", 409, Client, Never, "invalid_transaction_state";

    // the gateway
    /// The request target cannot be brought into its normal form.
    PathMalformed = "path_malformed", 400, Client, Never, "";
    /// No route matches and none is configured for the rest.
    NoRoute = "no_route", 404, Client, Never, "";
    /// The request body is longer than the route's limit.
    BodyTooLarge = "body_too_large", 413, Client, Never, "";
    /// The request body did not arrive whole.
    BodyIncomplete = "body_incomplete", 400, Client, Never, "";
    /// An input that sets the price is missing or has no price.
    PriceInput = "price_input", 400, Client, Never, "";
    /// The store cannot be used; whether this request was charged shows when the same one is sent again.
    StoreUnavailable = "store_unavailable", 503, Operator, Never, "unexpected_settle_error";
    /// No usable node; nothing was sent.
    NodeUnavailable = "node_unavailable", 503, Operator, Never, "unexpected_settle_error";
    /// The gateway is shutting down or over its limit of waiting payments.
    Overloaded = "overloaded", 503, Operator, Never, "unexpected_settle_error";
    /// The upstream could not be reached or broke off; a payment stays good for this request.
    UpstreamFailed = "upstream_failed", 502, Upstream, Never, "";
    /// The upstream did not answer in time; a payment stays good for this request.
    UpstreamTimeout = "upstream_timeout", 504, Upstream, Never, "";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_say_what_they_mean() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(code.meaning().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn an_offer_is_attached_only_where_paying_again_is_safe() {
        for code in Code::ALL {
            let attached = code.offers() == Offers::Attach;
            assert!(!attached || matches!(code.status(), 400 | 402), "{code}");
            assert!(code.status() != 402 || attached, "{code}: a 402 carries offers");
        }
    }
}
