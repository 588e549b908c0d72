//! What a client should do about each refusal: one sentence or two per code, complete by the compiler's count.

use kas402::protocol::refusal::Code;

pub const fn advice(code: Code) -> &'static str {
    match code {
        Code::PaymentRequired => "Choose one of `accepts`, pay it, and send the same request with `PAYMENT-SIGNATURE`.",

        Code::HeaderNotBase64 => "Encode the header as standard base64 with padding, not base64url, and send the same payment again.",
        Code::HeaderNotJson => "Put one JSON object into the header, without duplicate keys, and send the same payment again.",
        Code::HeaderSchema => "Correct the field that `error` names and send the same payment again.",
        Code::HeaderDuplicated => "Send exactly one `PAYMENT-SIGNATURE` header, not one per intermediary.",
        Code::HeaderTooLarge => "Pay with a transaction of fewer inputs, for example after merging small coins.",
        Code::Version => "Send `x402Version: 2`; version 1 and its `X-PAYMENT` headers are not spoken here.",
        Code::Scheme => "Use the scheme of an entry of `accepts`.",
        Code::Network => "Pay on the network that the offer names, and copy its identifier as it stands.",
        Code::Asset => "Send `accepted.asset` as offered: `KAS`.",
        Code::Binding => "Send `accepted.extra.binding` as offered.",
        Code::PayloadType => "Send the payload that belongs to the scheme.",
        Code::IdentifierRequired => "Add `extensions.payment-identifier` with an `id` of your own and send the same payment again.",
        Code::IdentifierMalformed => "Use 16 to 128 characters of letters, digits, `_` and `-` as `id`, for example a UUID.",
        Code::IdentifierNotEchoed => "Return the advertised extension whole, its schema and every field of `info`, and add `id`.",

        Code::McpMessage => "Send one JSON-RPC message as plain JSON, each member once and in its usual spelling, with an id.",
        Code::McpBatch => "Call the tool in a message of its own, with its payment; other messages may still be batched.",
        Code::McpTask => "Call the tool without `task`; its result is kept, and the same payment fetches it again.",
        Code::McpTool => "Write the tool's name exactly as `tools/list` has it.",

        Code::OfferMalformed => "Copy the chosen entry of `accepts` unchanged, `extra.offer` included. Take a fresh offer if it is lost.",
        Code::OfferKeyUnknown => {
            "Take a fresh offer. If this transaction was broadcast already, send it here before paying anew: ask the operator."
        }
        Code::OfferNotOurs => "Return the chosen entry of `accepts` field by field as it was offered. If it was, take a fresh offer.",
        Code::OfferOtherRoute => "Send the payment to the route it was offered for, or take a fresh offer of this one.",
        Code::OfferOtherPrice => {
            "Repeat the request exactly as it was when it was quoted (body, headers, method), or take a fresh offer for this one."
        }
        Code::OfferExpired => "Nothing has moved: drop the transaction, make sure it is never broadcast, and pay a fresh offer.",
        Code::PaidLate => "Do not pay again. The payment is on record; give its transaction id to the operator, who can grant the request.",

        Code::TransactionUndecodable => "Send hex of the Borsh encoding, or of the SDK's transaction JSON, and nothing after it.",
        Code::TransactionForm => "Pay with an ordinary native transaction: no subnetwork, no gas, no future lock time.",
        Code::TransactionId => "Leave `transactionId` out, or send the id of this very transaction in display order.",
        Code::OutputIndex => "Point `paymentOutputIndex` at the output that pays, or leave it out.",
        Code::OutputAmount => "Pay `amount` exactly to the sompi, in one output, and do not round.",
        Code::OutputRecipient => {
            "Pay to the address in `payTo`; if it is paid already to another, that money is not the gateway's to return."
        }
        Code::OutputCovenant => "Pay with an output that is not bound to a covenant.",
        Code::OutputAmbiguous => "Let exactly one output pay `amount` to `payTo`; send change to another address.",
        Code::RequestHashMismatch => {
            "Compute `requestHash` over the request that is sent (method, public URL, body, terms), or leave it out where it is optional."
        }
        Code::RequestHashRequired => "Add `requestHash` over method, public URL, body and terms, and send the same payment again.",

        Code::Replay => "One payment buys one request: pay for this one separately, starting from a request without payment.",
        Code::IdentifierReused => "Use a new identifier for every new request; the old one belongs to the request it was first sent with.",
        Code::EntitlementExpired => "Do not pay again for it unasked. The receipt names the transaction; the operator can re-open it.",

        Code::TransactionRejected => {
            "The node refused it for good and nothing has moved: correct what `error` names and pay a fresh offer."
        }
        Code::TransactionConflicted => {
            "Another transaction of the same coins won and this one is dead: pay a fresh offer with other coins."
        }
        Code::PayerProofRequired => {
            "Do not pay again. Sign the named hash with the key of an input, add `extensions.kaspa.payerProof`, and send the same header."
        }
        Code::PayerProofInvalid => {
            "Do not pay again. Sign this request's hash with the key of a P2PK input of the transaction, and send the same header."
        }
        Code::ForeignTransaction => {
            "Let the gateway broadcast: send the transaction here first. What others broadcast is not served on this route."
        }
        Code::TransactionOlder => {
            "This transaction is older than the offer and paid for something else: start from a request without payment."
        }

        Code::PaymentTypeNotAllowed => "Pay with a `voucher` or a `deposit-voucher`. Refunds are broadcast by the client itself.",
        Code::EscrowConfig => "Correct the field of `channelConfig` that `error` names and derive channel id, script and address anew.",
        Code::EscrowServerKey => "Copy `serverPublicKey` from the offer. A deposit under another key comes back by its own refund.",
        Code::EscrowPayTo => "Copy `payTo` from the offer. A deposit for another recipient comes back by its own refund.",
        Code::EscrowTimeout => "Copy `refundTimeoutDaa` from the offer the channel is opened with.",
        Code::EscrowChannelId => "Derive `channelId` from `channelConfig` as it is sent, address texts included.",
        Code::EscrowScript => "Derive the script from `channelConfig`; a claim or top-up continues under the same one.",
        Code::EscrowAddress => "Derive the address from the script, on the network of the offer.",
        Code::EscrowClientKey => "Send the `clientPublicKey` the channel was opened with.",
        Code::FundingTransaction => "Send hex of the Borsh encoding or of the SDK's transaction JSON, or broadcast it and leave it out.",
        Code::FundingOutpoint => "Compute the transaction's id and the index of the output that funds the escrow.",
        Code::FundingScript => "Fund the address of the channel. What was sent elsewhere is not the gateway's to return.",
        Code::FundingAmount => "Send `fundingAmountSompi` exactly as the funding output holds it.",
        Code::DepositCovenant => "Fund the escrow with an output that is not bound to a covenant.",
        Code::DepositTooSmall => {
            "Deposit at least `minDepositSompi`, and enough for a payout and a continuation. The smaller deposit comes back by its refund."
        }
        Code::TopUpForm => {
            "Spend the active outpoint first with an empty witness, then own coins; pay out first, then continue the escrow; no change."
        }
        Code::TopUpAmount => {
            "Take `channelState` of the last receipt: pay out what is charged and not claimed, and continue with the rest and more."
        }
        Code::TopUpSignature => "Sign every input but the first over the whole transaction (SIGHASH_ALL).",
        Code::TopUpNothingToClaim => "Open another channel with a fresh offer, or pay from this one first.",
        Code::VoucherSignature => "Sign the digest of network, script, outpoint and amount as raw 32 bytes with the client's key.",
        Code::VoucherAmount => "Follow `voucherState` if it verifies under your own key, and sign the amount it leads to.",

        Code::ChannelUnknown => "Send the voucher of the right channel and key, or open a channel with a fresh offer.",
        Code::VoucherStaleOutpoint => "Check the continuation in `channelState` on the chain, and sign for the new outpoint from zero.",
        Code::ChannelBalance => "Top the channel up, or open another one with a fresh offer.",
        Code::ChannelClosed => "Open another channel with a fresh offer.",
        Code::RefundWindow => "Open another channel with a fresh offer; the rest of this one is refunded after its timeout.",
        Code::OutpointInUse => {
            "Do not deposit again. Use the channel this outpoint was opened with: its own `channelConfig`, salt included."
        }
        Code::ScriptInUse => "Do not deposit again. Pay from the open channel; this deposit comes back by its refund after the timeout.",
        Code::OfferReused => "Use the identifier the offer was first sent with to read that answer, and a new offer for a new request.",
        Code::FundingRejected => "The node refused it for good and nothing has moved: correct what `error` names and take a fresh offer.",
        Code::DepositSpent => "Open a channel with another output and a fresh offer.",
        Code::DepositNotConfirmed => "Do not deposit again. Send the same header again after `Retry-After`.",
        Code::DepositReorganised => {
            "Do not deposit again. Send the same header again after `Retry-After`, with `fundingTransaction` in it."
        }
        Code::ChannelBusy => "Wait for `Retry-After` and send the request again; open more channels to be served in parallel.",
        Code::ExposureLimit => "Wait for `Retry-After`, until a claim has been made, or pay by `exact` where it is offered.",
        Code::LeaseLost => "Nothing was charged: send the same request with the same header after `Retry-After`.",

        Code::PathMalformed => "Send a path of valid percent-escapes and UTF-8, without encoded slashes, backslashes or zero bytes.",
        Code::NoRoute => "Nothing is served at this host, path and method: check the URL.",
        Code::BodyTooLarge => "Send a shorter body; `detail` names the limit. Nothing was charged.",
        Code::BodyIncomplete => "Send the whole body with correct framing, and repeat with the same payment header if there was one.",
        Code::PriceInput => "Add the input that `detail` names, once, with a value that has a price. Nothing was charged.",

        Code::InFlight => "Wait for `Retry-After` and send the same header again: the first request's result will be returned.",
        Code::SettlementPending => {
            "Do not pay again. Keep the header and send it again after `Retry-After`, until it is answered otherwise."
        }

        Code::StoreUnavailable => "Send the same request, with the same header if there was one, after `Retry-After`.",
        Code::NodeUnavailable => {
            "Send the same request, with the same header if there was one, after `Retry-After`; do not broadcast it yourself."
        }
        Code::Overloaded => "Send the same request, with the same header if there was one, after `Retry-After`.",

        Code::CallMalformed => "Send the call as the x402 facilitator interface has it, without further fields.",
        Code::TenantUnknown => "Send `Authorization: Bearer` with the tenant's token, once; the facilitator's operator knows it.",
        Code::TenantPermission => "Ask the facilitator's operator for the permission, or leave the call out.",
        Code::TenantRecipient => "Check `payTo` and `serverPublicKey` against what the facilitator's operator configured for the tenant.",
        Code::TenantRate => "Send the same call after `Retry-After`; nothing happened to its payment.",
        Code::FacilitatorUnavailable => "Send the same request with the same header after `Retry-After`; do not pay again.",
        Code::ChargeAboveAmount => "Charge at most what the terms of the payment allow: the voucher covers no more.",
        Code::ClaimRefused => "Read the channel's state in the answer: there is nothing to claim now, or not that much.",

        Code::UpstreamFailed => "Paid requests stay paid: send the same header again, later. Unpaid ones: try again as with any 502.",
        Code::UpstreamTimeout => "Paid requests stay paid: send the same header again, later. Unpaid ones: try again as with any 504.",
    }
}
