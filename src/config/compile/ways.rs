//! Ways to pay: `price` of a route, or its `accepts`.

use super::{Context, charges, prices};
use crate::{
    config::{
        escrow::Sample,
        problem::{Code, Pos},
        raw::{self, AcceptSection, Root, RouteSection},
        shape::At,
    },
    protocol::{
        amount::Amount,
        ids::XOnlyKey,
        policy::{Accept, ChannelTerms, ExactTerms, Terms},
        price::{PriceInput, PriceRule},
        requirements::{Finality, Scheme},
    },
};

/// The default `min_deposit` pays for so many requests of the highest price.
const DEPOSIT_REQUESTS: u64 = 20;
/// The least default `min_deposit`, sompi: 1 KAS. Of less, the reserve and the fees of its claims are a good part.
const DEPOSIT_SOMPI: u64 = 100_000_000;
/// A `min_deposit` for fewer requests is warned of.
const FEW_REQUESTS: u64 = 5;

/// What every way to pay may need.
pub struct Ways<'w> {
    pub root: &'w Root,
    pub network_known: bool,
    /// Claims the channels of every way; `None` where a facilitator does.
    pub server_key: Option<XOnlyKey>,
    /// When channels are claimed, if offers say so.
    pub claim_policy: Option<String>,
    pub sample: &'w Sample,
}

/// Whether a route is paid by transactions, by vouchers, or by either.
#[derive(Clone, Copy)]
pub struct Paid {
    pub exact: bool,
    pub batch: bool,
}

impl Paid {
    /// As far as the schemes can be read.
    pub fn of(raw: &RouteSection) -> Self {
        let schemes: Vec<Option<Scheme>> = ways(raw).iter().map(scheme).collect();
        Self { exact: schemes.contains(&Some(Scheme::Exact)), batch: schemes.contains(&Some(Scheme::BatchSettlement)) }
    }
}

/// Every way to pay as one of `accepts`.
fn ways(raw: &RouteSection) -> Vec<AcceptSection> {
    if let Some(list) = &raw.accepts {
        return list.value.iter().map(|way| way.value.clone()).collect();
    }
    vec![AcceptSection {
        at: raw.at,
        written: raw.written.clone(),
        price: raw.price.clone(),
        scheme: raw.scheme.clone(),
        min_deposit: raw.min_deposit.clone(),
        charge: raw.charge.clone(),
        ..AcceptSection::default()
    }]
}

/// `None` when it was found wrong.
fn scheme(way: &AcceptSection) -> Option<Scheme> {
    match way.scheme.as_ref().map(|scheme| scheme.value) {
        Some(raw::Scheme::Exact) => Some(Scheme::Exact),
        Some(raw::Scheme::Batch) => Some(Scheme::BatchSettlement),
        None => (!way.written.contains(&"scheme")).then_some(Scheme::Exact),
    }
}

impl Ways<'_> {
    /// At least one, or a problem was reported.
    pub fn accepts(&self, raw: &RouteSection, cx: &mut Context<'_>) -> Option<Vec<Accept>> {
        misplaced(raw, cx);
        if let Some(list) = raw.accepts.as_ref().filter(|list| list.value.is_empty()) {
            cx.problem(Code::RouteAccess, list.at, "`accepts` needs at least one way to pay");
            return None;
        }
        let mut accepts: Vec<Accept> = Vec::new();
        let mut complete = true;
        for (index, way) in ways(raw).iter().enumerate() {
            let Some(accept) = self.accept(index, way, raw, cx) else {
                complete = false;
                continue;
            };
            if accepts.iter().any(|earlier| earlier.rule_id == accept.rule_id) {
                cx.problem(Code::RouteIdDuplicate, way.at, "another way to pay of this route has the same id");
            }
            accepts.push(accept);
        }
        (complete && !accepts.is_empty()).then_some(accepts)
    }

    fn accept(&self, index: usize, way: &AcceptSection, raw: &RouteSection, cx: &mut Context<'_>) -> Option<Accept> {
        let (scheme, written) = (scheme(way)?, way.price.as_ref()?);
        let price = prices::price(written, scheme, raw.kind() == raw::RouteKind::Mcp, cx);
        if let Some(price) = &price {
            rows_reachable(price, written.at, raw, cx);
        }
        let recipient = way.pay_to.as_ref().or(raw.pay_to.as_ref()).or(self.root.pay_to.as_ref());
        if recipient.is_none() {
            cx.problem(Code::MissingKey, way.at, "nobody is paid: write `pay_to` here, in the route, or at the top level");
        }
        let pay_to = recipient.and_then(|raw| prices::pay_to(raw, self.network_known, cx));
        let terms = match scheme {
            Scheme::Exact => self.exact(way, raw, price.as_ref(), cx),
            Scheme::BatchSettlement => self.channel(way, price.as_ref()?, raw.kind() == raw::RouteKind::Mcp, cx),
        };
        let rule_id = way.id.as_ref().map_or_else(|| index.to_string(), |id| id.value.clone());
        Some(Accept { rule_id, price: price?, pay_to: pay_to?, terms: terms? })
    }

    fn exact(&self, way: &AcceptSection, raw: &RouteSection, price: Option<&PriceRule>, cx: &mut Context<'_>) -> Option<Terms> {
        for (name, at) in places([("min_deposit", pos(&way.min_deposit)), ("charge", pos(&way.charge))]) {
            cx.problem(Code::SchemeSetting, at, format!("`{name}` belongs to `scheme: batch-settlement`"));
        }
        let defaults = self.root.defaults.as_ref().and_then(|defaults| defaults.value.finality.as_ref());
        let written = way.finality.as_ref().or(raw.finality.as_ref()).or(defaults);
        let final_depth = self.root.limits.as_ref().map(|limits| limits.value.clone()).unwrap_or_default().final_depth();
        let (finality, mempool_max) = prices::finality(written, final_depth, cx)?;
        if finality.level == Finality::Mempool && mempool_max.is_some_and(|max| price.is_some_and(|price| prices::highest(price) > max)) {
            let at = way.price.as_ref().map_or(way.at, |price| price.at);
            cx.problem(Code::MempoolUnbounded, at, "this price is above the maximum of its mempool finality");
        }
        Some(Terms::Exact(ExactTerms { finality, mempool_max }))
    }

    fn channel(&self, way: &AcceptSection, price: &PriceRule, of_tool: bool, cx: &mut Context<'_>) -> Option<Terms> {
        if let Some(at) = pos(&way.finality) {
            cx.problem(Code::SchemeSetting, at, "a voucher is no transaction: `finality` belongs to `exact`; see `channels.confirmations`");
        }
        let charge = charges::charge(way.charge.as_ref(), price, of_tool, cx);
        let min_deposit = self.min_deposit(way, price, cx);
        Some(Terms::Channel(Box::new(ChannelTerms {
            server_key: self.server_key,
            min_deposit: min_deposit?,
            charge: charge?,
            claim_policy: self.claim_policy.clone(),
        })))
    }

    fn min_deposit(&self, way: &AcceptSection, price: &PriceRule, cx: &mut Context<'_>) -> Option<Amount> {
        let dearest = prices::highest(price);
        let at = pos(&way.min_deposit).unwrap_or(way.at);
        let deposit = match &way.min_deposit {
            Some(text) => prices::amount(&text.value, text.at, cx)?,
            None if way.written.contains(&"min_deposit") => return None,
            None => {
                let least = Amount::from_sompi(DEPOSIT_SOMPI).expect("1 KAS exists");
                let Some(many) = times(dearest, DEPOSIT_REQUESTS) else {
                    cx.problem(Code::DepositInvalid, at, "write `min_deposit`: 20 times this price is more than there is");
                    return None;
                };
                many.max(least)
            }
        };
        let shown = deposit.to_kas();
        let Some(reserve) = self.sample.reserve(deposit) else {
            cx.problem(
                Code::DepositInvalid,
                at,
                format!("the network takes no claim from a deposit of {shown}, whatever it claims: ask for more"),
            );
            return None;
        };
        // Neither voucher nor claim can touch the reserve.
        let usable = deposit.checked_sub(reserve).unwrap_or(Amount::ZERO);
        let kept = reserve.to_kas();
        if usable < prices::lowest(price) {
            let message = format!("a deposit of {shown} pays no request: {kept} of it must stay behind when it is claimed");
            cx.problem(Code::DepositInvalid, at, message);
            return None;
        }
        if times(dearest, FEW_REQUESTS).is_none_or(|few| usable < few) {
            let message =
                format!("a deposit of {shown} pays few requests of {}: {kept} of it must stay behind when it is claimed", dearest.to_kas());
            cx.problem(Code::DepositSmall, at, message);
        }
        Some(deposit)
    }
}

fn times(amount: Amount, count: u64) -> Option<Amount> {
    Amount::from_sompi(amount.sompi().checked_mul(count)?).ok()
}

/// Where a setting was written.
pub fn pos<T>(field: &Option<At<T>>) -> Option<Pos> {
    field.as_ref().map(|field| field.at)
}

/// The settings that were written.
pub fn places<const N: usize>(settings: [(&'static str, Option<Pos>); N]) -> impl Iterator<Item = (&'static str, Pos)> {
    settings.into_iter().filter_map(|(name, at)| Some((name, at?)))
}

/// Settings of the route that none of its ways to pay has.
fn misplaced(raw: &RouteSection, cx: &mut Context<'_>) {
    if raw.accepts.is_some() {
        for (name, at) in places([("scheme", pos(&raw.scheme)), ("min_deposit", pos(&raw.min_deposit)), ("charge", pos(&raw.charge))]) {
            cx.problem(Code::SchemeSetting, at, format!("beside `accepts`, write `{name}` in the ways to pay"));
        }
    }
    let paid = Paid::of(raw);
    if paid.batch && !paid.exact {
        let settings = [
            ("finality", pos(&raw.finality)),
            ("observe", pos(&raw.observe)),
            ("require_request_hash", pos(&raw.require_request_hash)),
            ("entitlement_seconds", pos(&raw.entitlement_seconds)),
        ];
        for (name, at) in places(settings) {
            cx.problem(Code::SchemeSetting, at, format!("`{name}` is about transactions: this route is paid by vouchers alone"));
        }
    }
    if let Some(identifier) = raw.payment_identifier.as_ref().filter(|identifier| identifier.value == raw::Identifier::Optional)
        && paid.batch
    {
        cx.problem(
            Code::SchemeSetting,
            identifier.at,
            "batch-settlement is always paid with an identifier, and the route has one rule for all",
        );
    }
}

/// A table by method can only list methods of the route.
fn rows_reachable(price: &PriceRule, at: Pos, raw: &RouteSection, cx: &mut Context<'_>) {
    let PriceRule::Table { by: PriceInput::Method, rows, .. } = price else { return };
    let Some(methods) = &raw.methods else { return };
    if let Some(row) = rows.keys().find(|row| methods.value.iter().all(|method| method.value != **row)) {
        cx.problem(Code::PriceInvalid, at, format!("{row} is not among the route's methods"));
    }
}
