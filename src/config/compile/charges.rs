//! Charges: what a request costs once its answer is known.

use super::{Context, prices};
use crate::{
    config::{problem::Code, raw, shape::At},
    protocol::{
        amount::Amount,
        charge::{ChargeRule, Meter, MeterSource, OnUnknown, UnitPrice},
        price::PriceRule,
    },
    wire::headers,
};
use http::HeaderName;

/// The rule of one way to pay; `price` is its ceiling.
pub fn charge(raw: Option<&At<raw::Charge>>, price: &PriceRule, of_tool: bool, cx: &mut Context<'_>) -> Option<ChargeRule> {
    let Some(At { at, value: raw }) = raw else { return Some(ChargeRule::Fixed) };
    let source = source(raw, cx);
    if let Some(name) = raw.header.as_ref().filter(|_| of_tool) {
        cx.problem(Code::KindSetting, name.at, "a tool is metered by its result: `json` or `bytes`");
        return None;
    }
    let unit = unit_price(raw, cx);
    let floor = floor(raw, price, cx);
    let (source, unit, floor) = (source?, unit?, floor?);
    if unit.price.sompi().div_ceil(unit.units) > prices::highest(price).sompi() {
        let message = "already the first unit costs more than the price: is `per` missing?";
        cx.problem(Code::MeterSaturated, *at, message);
    }
    let on_unknown = match raw.on_unknown() {
        raw::OnUnknown::Ceiling => OnUnknown::Ceiling,
        raw::OnUnknown::Floor => OnUnknown::Floor,
        raw::OnUnknown::Refuse => OnUnknown::Refuse,
    };
    if on_unknown == OnUnknown::Floor && floor.is_zero() {
        let message = "an answer without a readable count is free: write a `floor`, or `on_unknown: ceiling`";
        cx.problem(Code::MeterOptional, *at, message);
    }
    Some(ChargeRule::Metered(Meter { source, price: unit, floor, on_unknown }))
}

fn source(raw: &raw::Charge, cx: &mut Context<'_>) -> Option<MeterSource> {
    let written = ["header", "json", "bytes"].into_iter().filter(|key| raw.written.contains(key)).count();
    if written != 1 {
        cx.problem(Code::ChargeInvalid, raw.at, "a charge counts exactly one of `header`, `json` and `bytes: true`");
        return None;
    }
    if let Some(name) = &raw.header {
        return match name.value.parse::<HeaderName>() {
            Ok(parsed) if headers::reserved(&parsed) || headers::hop_by_hop(&parsed) => {
                cx.problem(Code::ChargeInvalid, name.at, "this header is the gateway's own, or ends at the connection: it is not read");
                None
            }
            Ok(parsed) => Some(MeterSource::Header(parsed)),
            Err(_) => {
                cx.problem(Code::ChargeInvalid, name.at, "this is not a header name");
                None
            }
        };
    }
    if let Some(pointer) = &raw.json {
        return prices::json_pointer(pointer, Code::ChargeInvalid, cx).map(MeterSource::Json);
    }
    let bytes = raw.bytes.as_ref()?;
    if !bytes.value {
        cx.problem(Code::ChargeInvalid, bytes.at, "write `bytes: true`, or leave `charge` out");
    }
    bytes.value.then_some(MeterSource::Bytes)
}

fn unit_price(raw: &raw::Charge, cx: &mut Context<'_>) -> Option<UnitPrice> {
    let units = raw.per();
    if units == 0 {
        let at = raw.per.as_ref().map_or(raw.at, |per| per.at);
        cx.problem(Code::ChargeInvalid, at, "this must be at least 1");
    }
    let written = raw.unit_price.as_ref()?;
    let price = prices::amount(&written.value, written.at, cx)?;
    if price.is_zero() {
        cx.problem(Code::ChargeInvalid, written.at, "units that cost nothing need no count: leave `charge` out, or price them");
    }
    (units > 0 && !price.is_zero()).then_some(UnitPrice { price, units })
}

fn floor(raw: &raw::Charge, price: &PriceRule, cx: &mut Context<'_>) -> Option<Amount> {
    let at = raw.floor.as_ref().map_or(raw.at, |floor| floor.at);
    let floor = prices::amount(&raw.floor(), at, cx)?;
    let lowest = prices::lowest(price);
    if floor > lowest {
        cx.problem(
            Code::ChargeInvalid,
            at,
            format!("the floor is above the price, which is the most a request costs ({})", lowest.to_kas()),
        );
    }
    Some(floor)
}
