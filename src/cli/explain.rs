//! `kas402 check --explain`: the route, price, inputs and offers of one request, decided by the same
//! rules that serve it. Asks no node and signs nothing.

use super::{check::Args, fail, say};
use crate::{
    config::{Compiled, words},
    protocol::{
        charge::{ChargeRule, OnUnknown},
        path::NormalPath,
        policy::{Access, ExactTerms, Policy, Pricing, Route, Terms},
        price::PriceError,
        request::{Request, RequestHead},
        requirements::Finality,
        route::Match,
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use std::process::ExitCode;

pub fn run(args: &Args, request: &str, compiled: &Compiled) -> ExitCode {
    let body = match args.body.as_deref().map(|body| body.strip_prefix('@').ok_or(body)) {
        None => Vec::new(),
        Some(Err(text)) => text.as_bytes().to_vec(),
        Some(Ok(path)) => match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return fail(format!("{path}: {error}")),
        },
    };
    let answer = parse(request, &args.header, body, &compiled.policy).map(|request| explain(&request, &compiled.policy));
    match answer {
        Err(why) => fail(why),
        Ok(answer) if args.json => {
            say(answer);
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            say(to_text(&answer).trim_end());
            ExitCode::SUCCESS
        }
    }
}

fn parse(request: &str, headers: &[String], body: Vec<u8>, policy: &Policy) -> Result<Request, String> {
    let (method, target) = request.split_once(' ').ok_or("write a method and a target: 'POST /v1/chat'")?;
    let method: Method = method.parse().map_err(|_| "this is not a method")?;
    let mut map = HeaderMap::new();
    for line in headers {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?}: write NAME:VALUE"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| format!("{name:?} is not a header name"))?;
        map.append(name, HeaderValue::from_str(value.trim()).map_err(|_| format!("{line:?}: no header can have this value"))?);
    }
    let absolute =
        target.split_once("://").map(|(_, rest)| rest.split_once('/').map_or((rest, "/".to_owned()), |(h, t)| (h, format!("/{t}"))));
    let from_header = map.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let (authority, target) = absolute.map_or((from_header, target.to_owned()), |(authority, target)| (authority.to_owned(), target));
    let host = authority.parse::<http::uri::Authority>().map(|authority| authority.host().to_ascii_lowercase()).unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query.to_owned())));
    let path = NormalPath::parse(path, policy.encoded_slashes).map_err(|error| format!("400 path_malformed: {error}"))?;
    Ok(Request { head: RequestHead { method, host, path, target, query, headers: map }, body: body.into() })
}

fn explain(request: &Request, policy: &Policy) -> Value {
    let path = request.head.path.as_str();
    match policy.router.find(&request.head) {
        Match::Unmatched => json!({"path": path, "answer": "404 no_route"}),
        Match::Preflight(route) => json!({"path": path, "route": route.id.0, "answer": "preflight, answered free"}),
        Match::HeadOfPriced(route) => json!({"path": path, "route": route.id.0, "answer": "402, never forwarded"}),
        Match::Route(route) => match &route.access {
            Access::Free => json!({"path": path, "route": route.id.0, "answer": "free", "upstream": route.upstream}),
            Access::Priced(pricing) => sold(request, &route, pricing, policy),
            Access::Tools(tools) => {
                let sold: Vec<Value> = tools
                    .rules()
                    .iter()
                    .map(|rule| match &rule.sold {
                        Some(sold) => json!({"tool": rule.name.as_str(), "route": sold.id.0, "answer": "sold"}),
                        None => json!({"tool": rule.name.as_str(), "answer": "free"}),
                    })
                    .collect();
                json!({"path": path, "route": route.id.0, "answer": "an MCP server; other tools are free", "upstream": route.upstream, "tools": sold})
            }
        },
    }
}

fn sold(request: &Request, route: &Route, pricing: &Pricing, policy: &Policy) -> Value {
    let mut answer = json!({
        "path": request.head.path.as_str(),
        "route": route.id.0,
        "resource": format!("{}{}", route.origin.0, request.head.target),
        "upstream": route.upstream,
        "identifier": if pricing.require_identifier { "required" } else { "optional" },
    });
    if request.body.len() > pricing.body_limit {
        answer["answer"] = json!("413 body_too_large");
        return answer;
    }
    let offers: Result<Vec<Value>, PriceError> = pricing
        .accepts
        .iter()
        .map(|accept| {
            let price = accept.price.evaluate(request)?;
            let inputs: Vec<Value> = price.inputs.iter().map(|(name, value)| json!({"input": name, "value": value})).collect();
            Ok(json!({
                "scheme": accept.scheme().as_str(),
                "network": policy.network.as_str(),
                "price": price.amount.to_kas(),
                "amount": price.amount.to_string(),
                "payTo": accept.pay_to,
                "terms": terms(&accept.terms, policy),
                "rule": accept.rule_id,
                "inputs": inputs,
                "offerSeconds": pricing.offer_seconds,
            }))
        })
        .collect();
    match offers {
        Ok(offers) => {
            answer["answer"] = json!("402 payment_required");
            answer["accepts"] = json!(offers);
        }
        Err(error) => answer["answer"] = json!(format!("400 price_input: {error}")),
    }
    answer
}

/// What only the scheme of this way to pay has.
fn terms(terms: &Terms, policy: &Policy) -> Value {
    match terms {
        Terms::Exact(ExactTerms { finality, .. }) if finality.level == Finality::Confirmed => {
            json!({"finality": format!("confirmed {}", finality.depth)})
        }
        Terms::Exact(ExactTerms { finality, .. }) => json!({"finality": finality.level.as_str()}),
        Terms::Channel(channel) => {
            let refund = policy.channels.as_ref().map(|channels| words::daa(channels.refund_horizon_daa)).unwrap_or_default();
            json!({
                "charge": charge(&channel.charge),
                "claims": policy.channels.as_ref().map(|channels| words::claims(&channels.claims)),
                "minDeposit": channel.min_deposit.to_kas(),
                "refund": format!("of a new channel at least {refund} after its offer"),
            })
        }
    }
}

fn charge(rule: &ChargeRule) -> String {
    let ChargeRule::Metered(meter) = rule else { return rule.to_string() };
    let unknown = match meter.on_unknown {
        OnUnknown::Ceiling => "the whole price",
        OnUnknown::Floor => "the floor",
        OnUnknown::Refuse => "nothing, and is withheld",
    };
    format!("{rule}, at least {}; an answer without a count costs {unknown}", meter.floor.to_kas())
}

fn to_text(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = String::new();
    for key in ["route", "path", "resource", "upstream", "identifier", "answer"] {
        if let Some(value) = answer.get(key) {
            out += &format!("{key:<10} {}\n", text(value));
        }
    }
    for offer in answer.get("accepts").and_then(Value::as_array).into_iter().flatten() {
        out += &format!("{:<10} {} to {}\n", "offer", text(&offer["price"]), text(&offer["payTo"]));
        let line = |key: &str, value: &Value| format!("{:<10}   {key}: {}\n", "", text(value));
        for key in ["scheme", "network", "offerSeconds"] {
            out += &line(key, &offer[key]);
        }
        for (key, value) in offer["terms"].as_object().into_iter().flatten() {
            out += &line(key, value);
        }
        for input in offer["inputs"].as_array().into_iter().flatten() {
            out += &format!("{:<10}   read {} = {:?}\n", "", text(&input["input"]), text(&input["value"]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, compile_text};
    use std::path::Path;

    #[test]
    fn one_request_is_explained_by_the_rules_that_serve_it() {
        let text = include_str!("../../config/kas402.example.yaml");
        let environment = Environment { var: &|_| None, secrets: false };
        let compiled = compile_text(text, Path::new(""), &environment).map_err(|problems| problems.to_string()).unwrap();
        let json = |body: &str| (vec!["content-type: application/json".to_owned()], body.as_bytes().to_vec());
        for (request, (headers, body), answer, price) in [
            ("GET /health", json(""), "free", None),
            ("POST /v1/chat", json(r#"{"model":"large"}"#), "402 payment_required", Some("2 KAS")),
            ("POST /v1//x/../chat", json(r#"{"model":"small"}"#), "402 payment_required", Some("0.25 KAS")),
            ("POST http://api.example.com:8402/v1/chat", json(r#"{"model":"small"}"#), "402 payment_required", Some("0.25 KAS")),
            ("POST /v1/chat", json("{}"), "400 price_input: json:/model is missing; it sets the price of this request", None),
            ("HEAD /v1/chat", json(""), "402, never forwarded", None),
            ("GET /nowhere", json(""), "404 no_route", None),
        ] {
            let request = parse(request, &headers, body, &compiled.policy).unwrap();
            let got = explain(&request, &compiled.policy);
            assert_eq!(got["answer"], answer, "{got}");
            assert_eq!(got["accepts"][0]["price"].as_str(), price, "{got}");
            assert!(to_text(&got).contains(answer));
        }
        let got = explain(&parse("POST /v1/tokens", &[], vec![], &compiled.policy).unwrap(), &compiled.policy);
        for line in [
            "identifier required",
            "offer      0.01 KAS to kaspatest:",
            "scheme: batch-settlement",
            "minDeposit: 1 KAS",
            "charge: 0.000005 KAS for every 1 of json /usage/total_tokens, at least 0 KAS; an answer without a count costs the whole price",
            "refund: of a new channel at least 7 days after its offer",
            "claims: from 10 KAS on, after 1 day, and 2 hours before the refund timeout",
        ] {
            assert!(to_text(&got).contains(line), "{line}\n{}", to_text(&got));
        }
        let got = explain(&parse("POST /v1/archive", &[], vec![], &compiled.policy).unwrap(), &compiled.policy);
        assert!(to_text(&got).contains("finality: confirmed 100"), "{}", to_text(&got));
        assert!(!to_text(&got).contains("null"), "{}", to_text(&got));
        assert!(parse("GET /a%2Fb", &[], vec![], &compiled.policy).unwrap_err().starts_with("400"));
    }
}
