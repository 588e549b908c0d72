//! Amounts, prices, recipients and finality.

use super::Context;
use crate::{
    config::{
        mass::{Payable, payable},
        problem::{Code, Pos},
        raw,
        shape::At,
    },
    protocol::{
        amount::Amount,
        price::{PriceInput, PriceRule},
        requirements::{Finality, FinalityRule, Scheme},
    },
};
use http::{HeaderName, HeaderValue, Method};
use std::collections::BTreeMap;

/// Where the arguments of a tool are in the message that calls it.
const ARGUMENTS: &str = "/params/arguments";
/// Depths outside are accepted with a warning.
const USUAL_DEPTHS: std::ops::RangeInclusive<u64> = 10..=10_000;

pub fn price(raw: &At<raw::Price>, scheme: Scheme, of_tool: bool, cx: &mut Context<'_>) -> Option<PriceRule> {
    match &raw.value {
        raw::Price::Fixed(text) => sellable(text, raw.at, scheme, cx).map(PriceRule::Fixed),
        raw::Price::Table(table) => table_rule(table, scheme, of_tool, cx),
    }
}

/// A price that somebody can pay.
fn sellable(text: &str, at: Pos, scheme: Scheme, cx: &mut Context<'_>) -> Option<Amount> {
    let amount = amount(text, at, cx)?;
    if amount.is_zero() {
        cx.problem(Code::PriceZero, at, "this is free: write `free: true` on a route of its own");
        return None;
    }
    if scheme == Scheme::Exact {
        judge_payable(amount, at, cx);
    }
    Some(amount)
}

/// A payment is an output, which the network does not let be small; a voucher is a signature.
fn judge_payable(amount: Amount, at: Pos, cx: &mut Context<'_>) {
    let hint = "ask for more, or sell by `scheme: batch-settlement`";
    match payable(cx.network, amount) {
        Payable::Yes => {}
        Payable::NotByEveryWallet => {
            let message = format!("many wallets cannot pay {} and keep change, above 0.1 KAS all can: {hint}", amount.to_kas());
            cx.problem(Code::PriceSmall, at, message);
        }
        Payable::No => {
            let message = format!("no ordinary wallet can pay {}, the network refuses outputs up to 0.02 KAS: {hint}", amount.to_kas());
            cx.problem(Code::PriceUnpayable, at, message);
        }
    }
}

/// An amount with its unit.
pub fn amount(text: &str, at: Pos, cx: &mut Context<'_>) -> Option<Amount> {
    Amount::parse_price(text).map_err(|error| cx.problem(Code::PriceInvalid, at, error.to_string())).ok()
}

fn table_rule(raw: &raw::PriceTable, scheme: Scheme, of_tool: bool, cx: &mut Context<'_>) -> Option<PriceRule> {
    let by = raw.by.as_ref().and_then(|by| if of_tool { argument(by, cx) } else { input(by, cx) });
    let mut rows = BTreeMap::new();
    let table = raw.table.as_ref()?;
    for (key, price) in &table.value.0 {
        if let Some(by) = &by
            && let Err(why) = possible(by, &key.text)
        {
            cx.problem(Code::PriceInvalid, key.at, why);
        }
        if let Some(amount) = sellable(&price.value, price.at, scheme, cx) {
            rows.insert(key.text.clone(), amount);
        }
    }
    if table.value.0.is_empty() {
        cx.problem(Code::PriceInvalid, table.at, "a price table needs a row");
    }
    let default = raw.default.as_ref().and_then(|price| Some((sellable(&price.value, price.at, scheme, cx)?, price.at)));
    if let (Some((default, at)), Some(highest)) = (default, rows.values().max())
        && default < *highest
    {
        cx.problem(Code::DefaultCheaper, at, "who leaves the input out, or sends an unlisted value, pays less than the highest price");
    }
    Some(PriceRule::Table { by: by?, rows, default: default.map(|(amount, _)| amount) })
}

/// Whether a request can have this value.
fn possible(by: &PriceInput, key: &str) -> Result<(), &'static str> {
    let fine = match by {
        PriceInput::Method => return method(key).map(drop),
        PriceInput::Header(_) => {
            key.trim_matches([' ', '\t']) == key && HeaderValue::from_str(key).is_ok_and(|value| value.to_str().is_ok())
        }
        PriceInput::Query(_) | PriceInput::Json(_) => true,
    };
    if fine { Ok(()) } else { Err("a header is compared as visible ASCII without blanks around it: this row matches nothing") }
}

/// A method that can be sold.
pub fn method(text: &str) -> Result<Method, &'static str> {
    match text.parse::<Method>() {
        Ok(method) if text.bytes().all(|byte| !byte.is_ascii_lowercase()) => match method {
            Method::HEAD => Err("HEAD is never sold: on a priced path it is answered 402"),
            Method::CONNECT => Err("CONNECT is never forwarded"),
            method => Ok(method),
        },
        Ok(_) => Err("methods are case-sensitive: write it in upper case"),
        Err(_) => Err("this is not a method"),
    }
}

/// The input of a tool's price: nothing of HTTP says what the tool does.
fn argument(raw: &At<raw::PriceBy>, cx: &mut Context<'_>) -> Option<PriceInput> {
    let written = match &raw.value {
        raw::PriceBy::Field(field) => field.argument.as_ref(),
        raw::PriceBy::Method => None,
    };
    let Some(pointer) = written else {
        cx.problem(Code::KindSetting, raw.at, "a tool is priced by {argument: /pointer}, into its arguments");
        return None;
    };
    let pointer = json_pointer(pointer, Code::PriceInvalid, cx)?;
    Some(PriceInput::Json(format!("{ARGUMENTS}{pointer}")))
}

fn input(raw: &At<raw::PriceBy>, cx: &mut Context<'_>) -> Option<PriceInput> {
    let field = match &raw.value {
        raw::PriceBy::Method => return Some(PriceInput::Method),
        raw::PriceBy::Field(field) => field,
    };
    if let Some(name) = &field.header {
        let parsed = name.value.parse::<HeaderName>();
        return parsed.map(PriceInput::Header).map_err(|_| cx.problem(Code::PriceInvalid, name.at, "this is not a header name")).ok();
    }
    if let Some(name) = &field.query {
        return Some(PriceInput::Query(name.value.clone()));
    }
    if let Some(pointer) = &field.argument {
        cx.problem(Code::KindSetting, pointer.at, "only tools of an MCP route have arguments; a body is priced by {json: /pointer}");
        return None;
    }
    json_pointer(field.json.as_ref()?, Code::PriceInvalid, cx).map(PriceInput::Json)
}

/// RFC 6901: tokens after slashes, where ~ only occurs as ~0 and ~1.
pub fn json_pointer(raw: &At<String>, code: Code, cx: &mut Context<'_>) -> Option<String> {
    let text = &raw.value;
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !(text.is_empty() || text.starts_with('/')) || !escapes {
        cx.problem(code, raw.at, "this is not a JSON pointer, for example /model or /usage/total_tokens");
        return None;
    }
    Some(text.clone())
}

/// A valid address of the network, in its one spelling.
pub fn pay_to(raw: &At<String>, network_known: bool, cx: &mut Context<'_>) -> Option<String> {
    let address = kaspa_addresses::Address::try_from(raw.value.as_str());
    match address {
        Ok(address) if !network_known || address.prefix == cx.network.address_prefix() => Some(address.to_string()),
        Ok(address) => {
            let message = format!("this is an address of {}, not of {}", address.prefix, cx.network);
            cx.problem(Code::AddressInvalid, raw.at, message);
            None
        }
        Err(_) => {
            cx.problem(Code::AddressInvalid, raw.at, "this is not a Kaspa address: a letter is wrong or missing");
            None
        }
    }
}

/// Warns of a depth that is hardly one, and of one that nobody waits for.
pub fn usual_depth(depth: u64, at: Pos, cx: &mut Context<'_>) {
    if !USUAL_DEPTHS.contains(&depth) {
        let message = "the network makes about 10 blocks a second: this depth is hardly more than `accepted`, or minutes long";
        cx.problem(Code::ConfirmDepth, at, message);
    }
}

/// The rule, and the most that is sold at mempool risk.
pub fn finality(raw: Option<&At<raw::Finality>>, final_depth: u64, cx: &mut Context<'_>) -> Option<(FinalityRule, Option<Amount>)> {
    let accepted = (FinalityRule { level: Finality::Accepted, depth: 0 }, None);
    let field = match raw.map(|raw| &raw.value) {
        None | Some(raw::Finality::Accepted) => return Some(accepted),
        Some(raw::Finality::Other(field)) => field,
    };
    if let Some(depth) = &field.confirmed {
        if depth.value == 0 || depth.value > final_depth {
            let message = format!("a depth is between 1 and limits.final_depth ({final_depth})");
            cx.problem(Code::FinalityInvalid, depth.at, message);
            return None;
        }
        usual_depth(depth.value, depth.at, cx);
        return Some((FinalityRule { level: Finality::Confirmed, depth: depth.value }, None));
    }
    let mempool = field.mempool.as_ref()?;
    if !mempool.value.i_accept_the_risk() {
        cx.problem(Code::MempoolUnbounded, mempool.at, "a payment in the mempool can be replaced: write `i_accept_the_risk: true`");
        return None;
    }
    let max = mempool.value.max.as_ref().and_then(|max| amount(&max.value, max.at, cx))?;
    cx.problem(Code::MempoolRisk, mempool.at, format!("up to {} are released before the network decided", max.to_kas()));
    Some((FinalityRule { level: Finality::Mempool, depth: 0 }, Some(max)))
}

/// The highest price of a rule.
pub fn highest(rule: &PriceRule) -> Amount {
    rule.alternatives().into_iter().map(|price| price.amount).max().unwrap_or(Amount::ZERO)
}

/// The lowest price of a rule.
pub fn lowest(rule: &PriceRule) -> Amount {
    rule.alternatives().into_iter().map(|price| price.amount).min().unwrap_or(Amount::ZERO)
}
