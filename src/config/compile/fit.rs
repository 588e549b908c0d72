//! Whether channels fit what is sold from them.

use super::{
    Context,
    channels::{self, Asked, Parts, Times, place},
    prices,
};
use crate::{
    binding::escrow_v1::ServerKeys,
    config::{
        escrow::Sample,
        problem::{Code, Pos},
        raw::Root,
        shape::At,
        words,
    },
    protocol::{
        amount::Amount,
        limits::DAA_PER_SECOND,
        policy::{Accept, ClaimPolicy, Observe, Pricing, Route},
        requirements::Scheme,
    },
};
use std::collections::BTreeSet;

/// A channel that is served for less is hardly worth its two transactions, seconds.
const SHORT_SECONDS: u64 = 3_600;
/// A deposit in which fees and reserve no longer count, for judging claims, sompi: 1,000 KAS.
const AMPLE_SOMPI: u64 = 100_000_000_000;

/// A server key that opens channels, as soon as they are sold.
pub fn server_key(root: &Root, asked: &Asked, keys: Option<&ServerKeys>, cx: &mut Context<'_>) {
    let Some(sold) = asked.sold else { return };
    let Some(at) = asked.keys else {
        let written_wrong = root.keys.as_ref().is_some_and(|section| section.value.written.contains(&"server"));
        if !written_wrong {
            let message = "write `keys: {server: {file: server.keys}}`, made by `kas402 keys new --server`: it signs the claims";
            cx.problem(Code::MissingKey, sold, message);
        }
        return;
    };
    if cx.environment.secrets && keys.is_some_and(|keys| keys.opening().is_none()) {
        cx.problem(Code::SecretMalformed, at, "every key is claim_only: put a new key first, channels are opened with it");
    }
}

/// Times, exposure and claims against the prices and the time of every route that is sold from channels.
pub fn channels(root: &Root, asked: &Asked, parts: &Parts, routes: &[At<Route>], cx: &mut Context<'_>) {
    let (raw, missing) = channels::section(root, asked);
    if let Some(policy) = &parts.claims {
        claims(policy, place(raw.claims.as_ref().and_then(|claims| claims.value.above.as_ref()), missing), cx);
    }
    let sold: Vec<(&Route, &Pricing)> =
        routes.iter().flat_map(|route| route.value.sold()).filter_map(|route| Some((route, route.pricing()?))).collect();
    let sold: Vec<_> = sold.into_iter().filter(|(_, pricing)| pricing.accepts.iter().any(by_channel)).collect();
    let Some(dearest) = sold.iter().flat_map(|(_, pricing)| &pricing.accepts).filter(|way| by_channel(way)).map(highest).max() else {
        return;
    };
    let limits = channels::limits(&parts.exposure, &raw, missing);
    exposure(&limits, dearest, parts.claims.as_ref(), cx);
    if let Some(times) = &parts.times {
        let offer = sold.iter().map(|(_, pricing)| pricing.offer_seconds).max().unwrap_or_default();
        horizon(times, offer, place(raw.refund_horizon_seconds.as_ref(), missing), cx);
        let longest = sold.iter().map(|(route, _)| route.timeout.as_secs()).max().unwrap_or_default();
        let final_depth = root.limits.as_ref().map(|limits| limits.value.clone()).unwrap_or_default().final_depth();
        lead(times, longest, final_depth, place(raw.refund_lead_seconds.as_ref(), missing), cx);
    }
}

/// A channel must be worth opening until the last moment of its offer.
fn horizon(times: &Times, offer_seconds: u64, at: Pos, cx: &mut Context<'_>) {
    if times.service < offer_seconds.saturating_mul(2).max(SHORT_SECONDS).saturating_mul(DAA_PER_SECOND) {
        let (service, offer) = (words::daa(times.service), words::seconds(offer_seconds));
        let message = format!("a channel is served for {service} from its offer on, and the offer can be taken for {offer}");
        cx.problem(Code::HorizonShort, at, message);
    }
}

/// A request may begin just before the lead.
fn lead(times: &Times, longest_seconds: u64, final_depth: u64, at: Pos, cx: &mut Context<'_>) {
    let needed = channels::least_lead(final_depth).saturating_add(longest_seconds.saturating_mul(DAA_PER_SECOND));
    // Less than the least is an error already.
    if (channels::least_lead(final_depth)..needed).contains(&times.lead) {
        let (longest, lead) = (words::seconds(longest_seconds), words::daa(times.lead));
        let message = format!("a request may run for {longest} into a lead of {lead}: what it costs might be claimed too late");
        cx.problem(Code::LeadShort, at, message);
    }
}

fn exposure(limits: &[(&str, Option<Amount>, Pos)], dearest: Amount, claims: Option<&ClaimPolicy>, cx: &mut Context<'_>) {
    let automatic = claims.filter(|claims| claims.automatic);
    for (name, limit, at) in limits {
        let Some(limit) = *limit else { continue };
        let (shown, dearest_shown) = (limit.to_kas(), dearest.to_kas());
        if limit < dearest {
            let message = format!("exposure.{name} of {shown} refuses every request of {dearest_shown}");
            cx.problem(Code::ExposureTooLow, *at, message);
        } else if let Some(claims) = automatic.filter(|claims| claims.above.checked_add(dearest).is_none_or(|owed| owed > limit)) {
            let above = claims.above.to_kas();
            let message =
                format!("exposure.{name} of {shown} refuses requests of {dearest_shown} before a channel owes claims.above, {above}");
            cx.problem(Code::ExposureBeforeClaim, *at, message);
        }
    }
}

/// Whether a claim of the value at which channels are claimed is worth its fee.
fn claims(claims: &ClaimPolicy, at: Pos, cx: &mut Context<'_>) {
    if !claims.automatic {
        return;
    }
    let above = claims.above;
    let ample = above.checked_add(Amount::from_sompi(AMPLE_SOMPI).expect("1,000 KAS exist"));
    let fee = ample.and_then(|deposit| Sample::of(cx.network, claims.priority_sompi_per_gram).claim_fee(deposit, above));
    let message = match fee {
        None => format!("the network takes no claim of {}", above.to_kas()),
        Some(fee) => {
            let allowed = u128::from(above.sompi()) * u128::from(claims.max_fee_percent);
            if u128::from(fee.sompi()) * 100 <= allowed {
                return;
            }
            let percent = claims.max_fee_percent;
            format!("the fee of a claim of {} is {}, more than {percent} per cent of it", above.to_kas(), fee.to_kas())
        }
    };
    cx.problem(Code::ClaimUneconomic, at, message);
}

/// With `observe: any` a transaction that anybody saw pays: then nothing of ours may pay the same recipient.
pub fn own_payouts(routes: &[At<Route>], cx: &mut Context<'_>) {
    let sold = || routes.iter().flat_map(|route| route.value.sold().map(|sold| (route.at, sold)));
    let ways = || sold().filter_map(|(at, sold)| Some((at, sold.pricing()?)));
    let ways = || ways().flat_map(|(at, pricing)| pricing.accepts.iter().map(move |way| (at, pricing.observe, way)));
    let payouts: BTreeSet<&str> = ways().filter(|(.., way)| by_channel(way)).map(|(.., way)| way.pay_to.as_str()).collect();
    for (at, observe, way) in ways() {
        if observe == Observe::Any && !by_channel(way) && payouts.contains(way.pay_to.as_str()) {
            let message = "with `observe: any` every claim of a channel would pay this route: give it a `pay_to` of its own";
            cx.problem(Code::ObserveClaims, at, message);
        }
    }
}

fn by_channel(way: &Accept) -> bool {
    way.scheme() == Scheme::BatchSettlement
}

fn highest(way: &Accept) -> Amount {
    prices::highest(&way.price)
}
