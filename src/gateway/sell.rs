//! From a request to a verified payment, or to the refusal it earns (PROTOCOL sections 3, 4 and 6).
//!
//! The order is that of the contract: cheap checks first, no store and no chain before they pass.

use super::{
    Gateway,
    answer::{Answer, BodyRead, Free, Paywall, RawHead, ReceiptAsk, Routed, Sale, Served},
    channel::{
        self,
        serve::{ChannelSale, Offered},
    },
    facilitate::Goal,
    mcp::ToolCall,
    purchase::Purchase,
    quote::{self, Authentic, Quote},
    remote,
    respond::{Refusal, Reply},
};
use crate::{
    binding::{
        escrow_v1::{
            self,
            payload::{RoutePayload, TypedVoucher},
        },
        exact_v1::{self, payload, verify::Facts},
    },
    protocol::{
        ids::{ChannelId, PaymentIdentifier, RequestHash, RequestIdentity, TxId},
        limits,
        network::Network,
        offer::OfferToken,
        path::NormalPath,
        policy::{Access, Policy, Pricing, Route, Terms},
        price::Price,
        refusal::{Code, Offers},
        request::{Request, RequestHead},
        requirements::{Extra, Requirements, Scheme},
        route::Match,
    },
    store::{Claim, PaymentKey, StoreError},
    wire::{
        envelope::{self, Envelope},
        fingerprint, header, headers, identifier, mcp,
        messages::Resource,
        ordinary::{self, Ordinary},
    },
};
use async_trait::async_trait;
use http::Method;
use std::sync::Arc;

#[async_trait]
impl Paywall for Arc<Gateway> {
    fn route(&self, head: RawHead) -> Routed {
        let policy = self.policy.load_full();
        let refuse = |reply: Reply, code: Code, detail: String| {
            self.count_refusal(code);
            Routed::Answer(Box::new(reply.refuse(&Refusal::new(code, detail))))
        };
        let RawHead { method, authority, target, headers, request_id } = head;
        // What has no normal form is refused on every host: there is no second form to forward.
        let path = match NormalPath::parse(target.split('?').next().unwrap_or_default(), policy.encoded_slashes) {
            Ok(path) => path,
            Err(error) => return refuse(Reply::new(&policy.cors, &headers, request_id), Code::PathMalformed, error.to_string()),
        };
        if (policy.channels.is_some() || policy.remote_channels)
            && let Some(of) = channel::asked(path.as_str())
        {
            return match method {
                Method::GET => {
                    let reply = Reply::new(&policy.cors, &headers, request_id);
                    Routed::Receipt(Box::new(ReceiptAsk { of, network: policy.network, reply }))
                }
                _ => refuse(Reply::new(&policy.cors, &headers, request_id), Code::NoRoute, "receipts are read with GET".to_owned()),
            };
        }
        let query = target.split_once('?').map(|(_, query)| query.to_owned());
        let head = RequestHead { method, host: host_of(&authority), path, target, query, headers };
        let route = match policy.router.find(&head) {
            Match::Route(route) => route,
            found => {
                let reply = Reply::new(&policy.cors, &head.headers, request_id);
                return match found {
                    Match::Preflight(_) => Routed::Answer(Box::new(reply.preflight())),
                    Match::HeadOfPriced(route) => Routed::Answer(Box::new(self.answer_head(&policy, &route, head, &reply))),
                    Match::Route(_) | Match::Unmatched => refuse(reply, Code::NoRoute, String::new()),
                };
            }
        };
        match &route.access {
            Access::Free => {
                self.metrics.requests.free.inc();
                Routed::Free(Box::new(Free { route, policy, head }))
            }
            Access::Priced(_) | Access::Tools(_) if payment_too_long(&head) => {
                let reply = Reply::new(&policy.cors, &head.headers, request_id);
                refuse(reply, Code::HeaderTooLarge, format!("at most {} bytes", limits::PAYMENT_HEADER_BYTES))
            }
            Access::Priced(_) | Access::Tools(_) => Routed::Priced(Box::new(Sale { request_id, route, policy, head })),
        }
    }

    async fn serve(&self, sale: Box<Sale>, body: BodyRead) -> Served {
        let limit = sale.body_limit();
        let Sale { route, policy, head, request_id } = *sale;
        let reply = Reply::new(&policy.cors, &head.headers, request_id);
        let body = match body {
            BodyRead::Whole(body) => body,
            BodyRead::TooLarge => {
                let detail = format!("at most {limit} bytes on this route");
                return self.closed(&reply, Refusal::new(Code::BodyTooLarge, detail));
            }
            BodyRead::Incomplete => return self.closed(&reply, Refusal::new(Code::BodyIncomplete, "")),
        };
        let order = Order { route, policy, request: Arc::new(Request { head, body }), reply, call: None };
        match &order.route.access {
            Access::Priced(_) => self.sell(order).await,
            Access::Tools(_) => Box::pin(self.serve_mcp(order)).await,
            // Only what sells makes a `Sale`; a free route has nothing to serve here.
            Access::Free => Served::Answer(Box::new(order.reply.refuse(&Refusal::new(Code::NoRoute, "")))),
        }
    }

    async fn receipt(&self, ask: Box<ReceiptAsk>) -> Answer {
        let ReceiptAsk { of, network, reply } = *ask;
        Gateway::receipt(self, of, network, &reply).await
    }
}

/// A request for what one priced route sells.
pub(super) struct Order {
    pub route: Arc<Route>,
    pub policy: Arc<Policy>,
    pub request: Arc<Request>,
    pub reply: Reply,
    /// Of a tool; the request is then what its server gets, with the payment in its header.
    pub call: Option<Arc<ToolCall>>,
}

impl Order {
    /// What binds a payment to this request; `canonical` are the terms as canonical JSON.
    fn request_hash(&self, accepted: &Requirements, canonical: &[u8]) -> RequestHash {
        match &self.call {
            Some(call) => fingerprint::tool_call_hash(&call.audience, &call.tool, call.arguments.as_ref(), accepted),
            None => {
                let method = self.request.head.method.as_str();
                fingerprint::request_hash_of_canonical(method, &self.url(), &self.request.body, canonical)
            }
        }
    }

    fn identity(&self, accepted: &Requirements) -> RequestIdentity {
        let of = |method: &str, url: &str, body: &[u8]| {
            fingerprint::request_identity(method, url, body, accepted.scheme, accepted.network, &accepted.pay_to, accepted.amount)
        };
        match &self.call {
            Some(call) => of(mcp::CALL, &call.audience, &call.operation()),
            None => of(self.request.head.method.as_str(), &self.url(), &self.request.body),
        }
    }

    /// What is sold, as the offer names it.
    fn url(&self) -> String {
        match &self.call {
            Some(call) => call.audience.clone(),
            None => fingerprint::url(&self.route.origin, &self.request),
        }
    }

    /// For lists of payments.
    fn summary(&self) -> String {
        summary(&self.request.head, self.call.as_deref())
    }
}

pub(super) fn summary(head: &RequestHead, call: Option<&ToolCall>) -> String {
    match call {
        Some(call) => format!("{} {} {}{}", mcp::CALL, call.tool, head.host, head.path.as_str()),
        None => format!("{} {}{}", head.method, head.host, head.path.as_str()),
    }
}

impl Gateway {
    /// Sells what the request is for, or says why not.
    pub(super) async fn sell(self: &Arc<Self>, order: Order) -> Served {
        let Order { route, policy, request, reply, call } = &order;
        let Some(pricing) = route.pricing() else {
            return Served::Answer(Box::new(reply.refuse(&Refusal::new(Code::NoRoute, ""))));
        };
        let quotes = match quote::quotes(pricing, request) {
            Ok(quotes) => quotes,
            Err(error) => {
                self.count_refusal(Code::PriceInput);
                return Served::Answer(Box::new(reply.refuse(&Refusal::new(Code::PriceInput, error.to_string()))));
            }
        };
        let sold = match self.verify(&order, pricing, &quotes) {
            Ok(Verified::Exact(verified)) => {
                let purchase = Purchase::new(*verified, route.clone(), policy.clone(), request.clone(), reply.clone(), call.clone());
                // Boxed, as all that is rare beside requests that channels pay: they must not make room for it.
                Box::pin(self.purchase(purchase)).await
            }
            Ok(Verified::Channel(parts)) => {
                let ChannelParts { payload, accepted, token, accept, price, identifier, identity, request_hash } = *parts;
                let sale = Box::new(ChannelSale {
                    payload,
                    accepted,
                    offer: Offered::by(&token),
                    accept,
                    price,
                    identifier,
                    identity,
                    request_hash,
                    goal: Goal::Forward,
                    charge: None,
                    tenant: None,
                    route: route.clone(),
                    policy: policy.clone(),
                    request: request.clone(),
                    reply: reply.clone(),
                    call: call.clone(),
                });
                match self.sell_from_channel(sale).await {
                    Err(refusal) if refusal.correction.is_none() => Err(Box::pin(self.never_twice(policy.network, request, refusal)).await),
                    sold => sold,
                }
            }
            Err(refusal) => Err(Box::pin(self.never_twice(policy.network, request, refusal)).await),
        };
        sold.unwrap_or_else(|refusal| Served::Answer(Box::new(self.refuse_or_offer(&order, pricing, &quotes, refusal))))
    }
}

/// A payment that passed every check that needs neither store nor chain.
enum Verified {
    Exact(Box<VerifiedSale>),
    Channel(Box<ChannelParts>),
}

/// What a payment from a channel says, and the offer it was made for.
struct ChannelParts {
    payload: RoutePayload,
    accepted: Requirements,
    token: OfferToken,
    accept: usize,
    price: Price,
    identifier: PaymentIdentifier,
    identity: RequestIdentity,
    request_hash: RequestHash,
}

/// An exact payment that passed.
pub(super) struct VerifiedSale {
    pub exact: exact_v1::VerifiedExact,
    /// What the store is asked; the hold's length and holder are the gateway's.
    pub claim: Claim,
    pub accepted: Requirements,
}

/// Lower case, without port, user info or the trailing dot of a rooted name.
fn host_of(authority: &str) -> String {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

impl Gateway {
    /// PROTOCOL section 4, up to the store.
    fn verify(&self, order: &Order, pricing: &Pricing, quotes: &[Quote<'_>]) -> Result<Verified, Refusal> {
        let Order { route, policy, request, .. } = order;
        let authenticate = |accepted| quote::authenticate(policy, route, quotes, accepted, &self.keys.load(), self.now());
        let value = payment(request)?;
        if let Some(Ordinary { accepted, payload, identifier }) = ordinary_voucher(value, pricing) {
            let authentic = authenticate(&accepted)?;
            let payload = RoutePayload::Voucher(Box::new(payload.into()));
            return from_channel(order, pricing, authentic, ChannelPayment { accepted, payload, identifier });
        }
        let envelope = envelope::decode(value)?;
        let authentic = authenticate(&envelope.accepted)?;
        let (Terms::Exact(terms), Extra::Exact(quoted)) = (&authentic.quote.accept.terms, &envelope.accepted.extra) else {
            return from_channel(order, pricing, authentic, ChannelPayment::of(envelope, pricing)?);
        };
        let transfer = payload::parse(envelope.payload)?;
        let accepted = &envelope.accepted;
        let facts = Facts {
            accepted,
            request_hash: order.request_hash(accepted, &authentic.canonical),
            require_request_hash: pricing.require_request_hash,
            daa_score: self.chain.tip().borrow().daa_score,
        };
        let exact = exact_v1::verify(&transfer, envelope.payer_proof, facts)?;
        let identifier = identifier::read(&envelope.extensions, pricing.require_identifier)
            .map_err(|code| Refusal::new(code, "").of(policy.network, exact.txid()))?;
        let claim = Claim {
            key: PaymentKey { network: policy.network, txid: exact.txid() },
            transaction: exact_v1::decode::encode(exact.transaction()),
            output_index: exact.output_index(),
            from_channel: None,
            amount: accepted.amount,
            pay_to: accepted.pay_to.clone(),
            route: route.id.clone(),
            request_hash: facts.request_hash,
            summary: order.summary(),
            identity: order.identity(accepted),
            identifier,
            finality: quote::finality(terms.finality, quoted.finality),
            accepted_until: authentic.token.accepted_until(),
            offer_daa: authentic.token.daa,
            entitlement_seconds: pricing.entitlement_seconds,
            holder: self.holder,
            hold_millis: self.limits.hold_millis(),
            late: false,
        };
        Ok(Verified::Exact(Box::new(VerifiedSale { exact, claim, accepted: envelope.accepted })))
    }

    /// A payment that does not fit this request may have paid for another: then the money has moved
    /// already, and no offer may follow.
    async fn never_twice(&self, network: Network, request: &Request, refusal: Refusal) -> Refusal {
        if refusal.code.offers() == Offers::Never || refusal.code == Code::PaymentRequired {
            return refusal;
        }
        if let Some((channel, identifier)) = presented_charge(request) {
            let known = async {
                let charge = self.ask(self.store.charge(&channel, &identifier)).await?;
                let elsewhere = self.ask(self.store.payment(&remote::key_of(network, &channel, &identifier))).await?;
                Ok::<_, StoreError>(charge.is_some() || elsewhere.is_some())
            };
            return match known.await {
                Ok(false) => refusal,
                Ok(true) => Refusal::new(Code::Replay, refusal.detail),
                Err(_) => Refusal::new(Code::StoreUnavailable, ""),
            };
        }
        let Some(txid) = presented_transaction(request) else { return refusal };
        match self.ask(self.store.payment(&PaymentKey { network, txid })).await {
            Ok(None) => refusal,
            Ok(Some(_)) => Refusal::new(Code::Replay, refusal.detail).of(network, txid),
            Err(_) => Refusal::new(Code::StoreUnavailable, "").of(network, txid),
        }
    }

    /// HEAD on what is sold: always 402, with offers where GET itself can be priced without more.
    fn answer_head(&self, policy: &Arc<Policy>, route: &Arc<Route>, head: RequestHead, reply: &Reply) -> Answer {
        let Access::Priced(pricing) = &route.access else {
            return reply.refuse(&Refusal::new(Code::NoRoute, ""));
        };
        let request = Arc::new(Request { head, body: bytes::Bytes::new() });
        let quotes = quote::quotes(pricing, &request).unwrap_or_default();
        let refusal = Refusal::new(Code::PaymentRequired, "HEAD is not served on a priced path");
        let order = Order { route: route.clone(), policy: policy.clone(), request, reply: reply.clone(), call: None };
        let mut answer = self.refuse_or_offer(&order, pricing, &quotes, refusal);
        answer.status = 402;
        answer
    }

    /// The one place where a refusal becomes an answer: offers are attached where the code says so,
    /// and only while they could be paid.
    fn refuse_or_offer(&self, order: &Order, pricing: &Pricing, quotes: &[Quote<'_>], mut refusal: Refusal) -> Answer {
        let Order { route, policy, reply, request, .. } = order;
        self.count_refusal(refusal.code);
        refusal.network = refusal.network.or_else(|| presented_network(request));
        if refusal.code.offers() == Offers::Never {
            return reply.refuse(&refusal);
        }
        if let Err(reason) = self.readiness() {
            let code = if reason == "store_unavailable" { Code::StoreUnavailable } else { Code::NodeUnavailable };
            return reply.refuse(&Refusal { payment: refusal.payment, network: refusal.network, ..Refusal::new(code, reason) });
        }
        let keys = self.keys.load();
        let signing = self.signing(&keys);
        let correction = refusal.correction.as_deref();
        let accepts: Option<Vec<_>> = quotes
            .iter()
            .map(|quote| quote::offer(policy, route, pricing, quote, &signing, correction, (self.environment.random)()))
            .collect();
        let Some(accepts) = accepts else {
            return reply.refuse(&Refusal::new(Code::StoreUnavailable, "no offer key is configured"));
        };
        let resource = Resource { url: order.url(), description: pricing.description.clone(), mime_type: pricing.mime_type.clone() };
        reply.offer(&refusal, resource, accepts, pricing)
    }

    pub(super) fn closed(&self, reply: &Reply, refusal: Refusal) -> Served {
        self.count_refusal(refusal.code);
        let mut answer = reply.refuse(&refusal);
        answer.close = true;
        Served::Answer(Box::new(answer))
    }

    pub(super) fn count_refusal(&self, code: Code) {
        let requests = &self.metrics.requests;
        if code == Code::PaymentRequired { &requests.offered } else { &requests.refused }.inc();
        self.metrics.refusals.with_label_values(&[code.as_str()]).inc();
    }
}

/// The id of the transaction in a refused payment, as far as it can be read.
fn presented_transaction(request: &Request) -> Option<TxId> {
    let value = request.head.headers.get(headers::PAYMENT_SIGNATURE)?;
    let message = header::decode(value.as_bytes()).ok()?;
    let transaction = message.pointer("/payload/transaction")?.as_str()?;
    Some(exact_v1::decode::decode(transaction).ok()?.id().into())
}

/// The network that a refused payment names. Other people's clients want one in every receipt; what is not named is not made up.
fn presented_network(request: &Request) -> Option<Network> {
    let value = request.head.headers.get(headers::PAYMENT_SIGNATURE)?;
    header::decode(value.as_bytes()).ok()?.pointer("/accepted/network")?.as_str()?.parse().ok()
}

/// What a payment under terms of `batch-settlement` says; its route always names payments.
struct ChannelPayment {
    accepted: Requirements,
    payload: RoutePayload,
    identifier: PaymentIdentifier,
}

impl ChannelPayment {
    fn of(envelope: Envelope, pricing: &Pricing) -> Result<Self, Refusal> {
        let payload = escrow_v1::payload::parse(envelope.payload)?.on_route()?;
        let identifier = identifier::read(&envelope.extensions, pricing.require_identifier)
            .and_then(|identifier| identifier.ok_or(Code::IdentifierRequired))
            .map_err(|code| Refusal::new(code, ""))?;
        Ok(Self { accepted: envelope.accepted, payload, identifier })
    }
}

/// What almost every payment from a channel is. Everything else is read, or refused, by way of its [`Envelope`].
fn ordinary_voucher(value: &[u8], pricing: &Pricing) -> Option<Ordinary<TypedVoucher>> {
    let sells = pricing.accepts.iter().any(|accept| accept.scheme() == Scheme::BatchSettlement);
    let read = if sells { ordinary::read::<TypedVoucher>(value, pricing.require_identifier) } else { None };
    read.filter(|read| read.accepted.scheme == Scheme::BatchSettlement)
}

fn from_channel(order: &Order, pricing: &Pricing, authentic: Authentic<'_, '_>, paid: ChannelPayment) -> Result<Verified, Refusal> {
    let ChannelPayment { accepted, payload, identifier } = paid;
    let (request_hash, identity) = (order.request_hash(&accepted, &authentic.canonical), order.identity(&accepted));
    let accept = pricing.accepts.iter().position(|accept| accept.rule_id == authentic.quote.accept.rule_id);
    let Some(accept) = accept else { return Err(Refusal::new(Code::OfferNotOurs, "")) };
    let (price, token) = (authentic.quote.price.clone(), authentic.token);
    Ok(Verified::Channel(Box::new(ChannelParts { payload, accepted, token, accept, price, identifier, identity, request_hash })))
}

/// The charge that a refused payment from a channel would be, if it was made before.
fn presented_charge(request: &Request) -> Option<(ChannelId, PaymentIdentifier)> {
    let value = request.head.headers.get(headers::PAYMENT_SIGNATURE)?;
    let message = header::decode(value.as_bytes()).ok()?;
    let channel = message.pointer("/payload/channelId")?.as_str()?.parse().ok()?;
    let identifier = message.get("extensions")?.get(identifier::NAME)?.get("info")?.get("id")?.as_str()?;
    Some((channel, PaymentIdentifier::parse(identifier).ok()?))
}

/// Judged before the body is read.
fn payment_too_long(head: &RequestHead) -> bool {
    head.headers.get_all(headers::PAYMENT_SIGNATURE).iter().any(|value| value.len() > limits::PAYMENT_HEADER_BYTES)
}

/// The one payment header of a request.
fn payment(request: &Request) -> Result<&[u8], Refusal> {
    let mut values = request.head.headers.get_all(headers::PAYMENT_SIGNATURE).iter();
    let Some(value) = values.next() else {
        return Err(Refusal::new(Code::PaymentRequired, ""));
    };
    if values.next().is_some() {
        return Err(Refusal::new(Code::HeaderDuplicated, ""));
    }
    Ok(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn a_host_is_compared_without_case_port_user_and_root_dot() {
        for (authority, host) in [
            ("API.example.com", "api.example.com"),
            ("api.example.com:8402", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("user@api.example.com:1", "api.example.com"),
            ("[::1]:80", "::1"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }
}
