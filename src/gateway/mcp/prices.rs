//! Prices as `tools/list` shows them: what a client can expect, for the offer to say exactly.

use crate::{
    protocol::{
        charge::ChargeRule,
        policy::{Accept, Pricing, Terms},
        price::PriceRule,
        tools::{PricesShown, Tool, Tools},
    },
    wire::mcp::prices::Shown,
};
use serde_json::{Value, json};

/// Where the arguments of a tool are, in the inputs of prices.
const ARGUMENTS: &str = "json:/params/arguments";

/// What is told of a tool; `None` when it is not sold, or nothing is told.
pub(super) fn shown(tools: &Tools, name: &str) -> Option<Shown> {
    let Tool::Sold(_, route) = tools.find(name) else { return None };
    let pricing = route.pricing()?;
    let price = json!({ "asset": "KAS", "accepts": pricing.accepts.iter().map(way).collect::<Vec<_>>() });
    match tools.shown {
        PricesShown::Nowhere => None,
        PricesShown::Meta => Some(Shown { price, sentence: None }),
        PricesShown::Description => Some(Shown { price, sentence: Some(sentence(pricing)) }),
    }
}

/// One way to pay: a fixed amount, or a table by an argument; the most of it that is charged where it is metered.
fn way(accept: &Accept) -> Value {
    let mut way = json!({ "scheme": accept.scheme().as_str() });
    match &accept.price {
        PriceRule::Fixed(amount) => way["amount"] = amount.to_string().into(),
        PriceRule::Table { by, rows, default } => {
            let by = by.to_string();
            way["by"] = json!({ "argument": by.strip_prefix(ARGUMENTS).unwrap_or(&by) });
            way["amounts"] = rows
                .iter()
                .map(|(value, amount)| (value.clone(), Value::from(amount.to_string())))
                .collect::<serde_json::Map<_, _>>()
                .into();
            if let Some(default) = default {
                way["default"] = default.to_string().into();
            }
        }
    }
    if metered(accept) {
        way["metered"] = true.into();
    }
    way
}

fn metered(accept: &Accept) -> bool {
    matches!(&accept.terms, Terms::Channel(terms) if matches!(terms.charge, ChargeRule::Metered(_)))
}

/// For models.
fn sentence(pricing: &Pricing) -> String {
    let ways: Vec<String> = pricing
        .accepts
        .iter()
        .map(|accept| {
            let prices = accept.price.alternatives();
            let least = prices.iter().map(|price| price.amount).min();
            let most = prices.iter().map(|price| price.amount).max();
            match (least, most) {
                (Some(_), Some(most)) if metered(accept) => format!("up to {}", most.to_kas()),
                (Some(least), Some(most)) if least != most => format!("{} to {}", least.to_kas(), most.to_kas()),
                (_, Some(most)) => most.to_kas(),
                _ => String::new(),
            }
        })
        .collect();
    format!("Each call costs {}, paid by x402.", ways.join(", or "))
}
