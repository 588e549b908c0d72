//! What `batch-settlement` in a file compiles to.

use super::{
    tests::{compile, root},
    *,
};
use crate::{
    binding::escrow_v1::ServerKey,
    protocol::{
        amount::Amount,
        charge::{ChargeRule, Meter, MeterSource, OnUnknown, UnitPrice},
        limits::FINAL_DEPTH,
        policy::{Access, ChannelTerms, Channels, ClaimPolicy, Exposure, Pricing, Terms},
        requirements::Scheme,
    },
};
use http::HeaderName;
use std::time::Duration;

fn case(name: &str) -> String {
    std::fs::read_to_string(root().join("tests/config_cases").join(name)).unwrap()
}

fn compiled(text: &str) -> Compiled {
    compile(text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn pricing<'c>(compiled: &'c Compiled, path: &str) -> &'c Pricing {
    let route = compiled.policy.router.routes().iter().find(|route| route.path == path).unwrap();
    let Access::Priced(pricing) = &route.access else { panic!("{path} is free") };
    pricing
}

fn terms(pricing: &Pricing) -> &ChannelTerms {
    let found = pricing.accepts.iter().find_map(|way| match &way.terms {
        Terms::Channel(terms) => Some(&**terms),
        Terms::Exact(_) => None,
    });
    found.unwrap()
}

fn kas(text: &str) -> Amount {
    Amount::parse_price(text).unwrap()
}

fn codes(result: &Result<Compiled, Problems>) -> Vec<&'static str> {
    let problems = match result {
        Ok(compiled) => &compiled.warnings,
        Err(problems) => problems,
    };
    problems.iter().map(|problem| problem.code.as_str()).collect()
}

#[test]
fn every_way_to_pay_becomes_the_terms_that_were_written() {
    let compiled = compiled(&case("channels.yaml"));
    let meter = |source, price, units, floor, on_unknown| {
        ChargeRule::Metered(Meter { source, price: UnitPrice { price: kas(price), units }, floor: kas(floor), on_unknown })
    };
    let header = MeterSource::Header(HeaderName::from_static("x-cost-units"));
    let json = MeterSource::Json("/usage/total_tokens".into());
    for (path, min_deposit, charge) in [
        ("/fixed", "1 KAS", ChargeRule::Fixed),
        ("/tokens", "1 KAS", meter(json, "10 sompi", 1000, "5 sompi", OnUnknown::Ceiling)),
        ("/either", "60 KAS", meter(MeterSource::Bytes, "1 sompi", 1, "0 sompi", OnUnknown::Ceiling)),
        ("/units", "0.2 KAS", meter(header, "0.05 KAS", 50_000, "0 sompi", OnUnknown::Refuse)),
    ] {
        let terms = terms(pricing(&compiled, path));
        assert_eq!((terms.min_deposit, &terms.charge, &terms.claim_policy), (kas(min_deposit), &charge, &None), "{path}");
    }
    let either = &pricing(&compiled, "/either").accepts;
    let ways: Vec<_> = either.iter().map(|way| (way.rule_id.as_str(), way.scheme())).collect();
    assert_eq!(ways, [("channel", Scheme::BatchSettlement), ("single", Scheme::Exact)], "in their order");
    assert!(compiled.server_keys.opening().is_none(), "secrets were not read");
}

#[test]
fn channels_always_require_an_identifier_and_never_a_request_hash() {
    let text = case("channels.yaml").replace("routes:\n", "routes:\n  - {path: /exact, price: 1 KAS}\n");
    let text = text + "defaults: {require_request_hash: true, payment_identifier: optional}\n";
    let compiled = compiled(&text);
    for (path, identifier, hash) in
        [("/fixed", true, false), ("/tokens", true, false), ("/units", true, false), ("/either", true, true), ("/exact", false, true)]
    {
        let pricing = pricing(&compiled, path);
        assert_eq!((pricing.require_identifier, pricing.require_request_hash), (identifier, hash), "{path}");
    }
}

#[test]
fn the_defaults_are_a_week_an_hour_and_limits_per_client() {
    let channels = compiled(&case("channels.yaml")).policy.channels.unwrap();
    let Channels { refund_horizon_daa, refund_epoch_daa, refund_lead_daa, confirmations, exposure, claims } = channels;
    assert_eq!((refund_horizon_daa, refund_epoch_daa, refund_lead_daa, confirmations), (6_048_000, 36_000, 36_000, 10));
    let hundred = Some(kas("100 KAS"));
    let limits = Exposure { per_channel: None, per_payer: hundred, per_refund_address: hundred, unconfirmed: Amount::ZERO, total: None };
    assert_eq!(exposure, limits);
    let expect = ClaimPolicy {
        automatic: true,
        above: kas("10 KAS"),
        after: Duration::from_secs(86_400),
        before_refund_daa: 72_000,
        max_fee_percent: 10,
        priority_sompi_per_gram: 0,
    };
    assert_eq!(claims, expect);
}

#[test]
fn small_values_are_converted_at_ten_a_second_and_are_warnings_at_most() {
    let compiled = compiled(&case("channels_small.yaml"));
    let channels = compiled.policy.channels.as_ref().unwrap();
    assert_eq!((channels.refund_horizon_daa, channels.refund_epoch_daa, channels.refund_lead_daa), (600, 10, 30));
    let exposure = channels.exposure;
    assert_eq!((exposure.per_channel, exposure.per_payer, exposure.per_refund_address), (Some(kas("1 KAS")), None, None));
    assert_eq!((exposure.unconfirmed, exposure.total), (kas("5 KAS"), Some(kas("100 KAS"))));
    assert_eq!((channels.claims.after, channels.claims.before_refund_daa), (Duration::from_secs(1), 100));
    let announced = terms(pricing(&compiled, "/a")).claim_policy.as_deref();
    assert_eq!(announced, Some("from 1 KAS on, after 1 second, and 10 seconds before the refund timeout"));
}

#[test]
fn what_is_left_out_follows_from_what_is_written() {
    for (section, final_depth, lead, before_refund) in [
        ("{}", FINAL_DEPTH, 36_000, 72_000),
        ("{}", 12_000, 36_000, 72_000),
        ("{}", 20_000, 60_000, 120_000),
        ("{refund_lead_seconds: 600}", FINAL_DEPTH, 6_000, 12_000),
        ("{refund_horizon_seconds: 7200}", FINAL_DEPTH, 36_000, 54_000),
        ("{refund_horizon_seconds: 7200, claims: {before_refund_seconds: 3600}}", FINAL_DEPTH, 36_000, 36_000),
        ("{refund_horizon_seconds: 7200, claims: {before_refund_seconds: 7199}}", FINAL_DEPTH, 36_000, 71_990),
    ] {
        let text = case("channels.yaml") + &format!("channels: {section}\nlimits: {{final_depth: {final_depth}}}\n");
        let channels = compiled(&text).policy.channels.unwrap();
        assert_eq!((channels.refund_lead_daa, channels.claims.before_refund_daa), (lead, before_refund), "{section} {final_depth}");
    }
}

#[test]
fn times_meet_at_their_last_fitting_second() {
    for (section, expect) in [
        ("{refund_lead_seconds: 300}", &["lead_short"][..]),
        ("{refund_lead_seconds: 299}", &["refund_times"]),
        ("{refund_lead_seconds: 420}", &[]),
        ("{refund_lead_seconds: 419}", &["lead_short"]),
        ("{refund_lead_seconds: 604797, claims: {before_refund_seconds: 604799}}", &["horizon_short"]),
        ("{refund_lead_seconds: 604797, confirmations: 29}", &["horizon_short"]),
        ("{refund_lead_seconds: 604797, confirmations: 30}", &["horizon_short", "refund_times"]),
        ("{refund_lead_seconds: 604800}", &["refund_times"]),
        ("{refund_epoch_seconds: 604800}", &[]),
        ("{refund_epoch_seconds: 604801}", &["refund_times"]),
        ("{claims: {before_refund_seconds: 604800}}", &["refund_times"]),
        ("{claims: {before_refund_seconds: 3599}}", &["refund_times"]),
        ("{refund_horizon_seconds: 7200}", &[]),
        ("{refund_horizon_seconds: 7199}", &["horizon_short"]),
        ("{refund_horizon_seconds: 2592000}", &[]),
        ("{refund_horizon_seconds: 2592001}", &["horizon_long"]),
        ("{refund_horizon_seconds: 31536001}", &["bad_value"]),
        ("{refund_horizon_seconds: 18446744073709551615}", &["bad_value"]),
        ("{exposure: {per_payer: 13 KAS}}", &[]),
        ("{exposure: {per_payer: 12.99999999 KAS}}", &["exposure_before_claim"]),
        ("{exposure: {total: 3 KAS}, claims: {automatic: false}}", &["claims_manual"]),
        ("{exposure: {total: 2.99999999 KAS}}", &["exposure_too_low"]),
        ("{claims: {above: 0 KAS}}", &["claim_uneconomic"]),
        // A claim weighs 3,466 grams.
        ("{claims: {above: 34660000 sompi, max_fee_percent: 1}}", &[]),
        ("{claims: {above: 34659999 sompi, max_fee_percent: 1}}", &["claim_uneconomic"]),
        ("{claims: {priority_sompi_per_gram: 18446744073709551615}}", &["deposit_invalid", "claim_uneconomic"]),
    ] {
        let got = compile(&(case("channels.yaml") + &format!("channels: {section}\n")));
        let mut found = codes(&got);
        found.dedup();
        assert_eq!(found, expect, "{section}\n{}", got.err().map(|problems| problems.to_string()).unwrap_or_default());
    }
}

#[test]
fn a_deposit_is_judged_to_the_sompi() {
    let text = |deposit: u64| {
        case("channels.yaml")
            .replace("\"0.01 KAS\"\n        min_deposit: \"0.2 KAS\"", &format!("0.5 KAS\n        min_deposit: {deposit} sompi"))
    };
    let sample = escrow::Sample::of(crate::protocol::network::Network::Testnet10, 0);
    let pays = |deposit: u64, requests: u64| {
        let reserve = sample.reserve(Amount::from_sompi(deposit).unwrap()).unwrap().sompi();
        reserve + requests * 50_000_000 <= deposit
    };
    // The reserve changes more slowly than the deposit: there is one least deposit.
    let least = |requests: u64| {
        let (mut too_small, mut enough) = (10_000_000, 1_000_000_000);
        while enough - too_small > 1 {
            let middle = too_small + (enough - too_small) / 2;
            *(if pays(middle, requests) { &mut enough } else { &mut too_small }) = middle;
        }
        enough
    };
    let (few, one) = (least(5), least(1));
    assert!(one < few, "{one} {few}");
    assert_eq!(codes(&compile(&text(few))), [""; 0]);
    assert_eq!(codes(&compile(&text(few - 1))), ["deposit_small"]);
    assert_eq!(codes(&compile(&text(one))), ["deposit_small"]);
    assert_eq!(codes(&compile(&text(one - 1))), ["deposit_invalid"]);
}

#[test]
fn channels_exist_where_something_is_sold_or_left_to_claim() {
    let exact = case("minimal.yaml");
    for (extra, expect) in [
        ("", false),
        ("channels: {confirmations: 20}\n", false),
        ("keys: {server: {file: server.keys}}\n", true),
        ("keys: {server: {file: server.keys}}\nchannels: {confirmations: 20}\n", true),
    ] {
        let compiled = compiled(&format!("{exact}{extra}"));
        assert_eq!(
            compiled.policy.channels.map(|channels| channels.confirmations),
            expect.then_some(if extra.contains("20") { 20 } else { 10 })
        );
    }
}

#[test]
fn server_keys_are_asked_for_as_soon_as_channels_are_sold() {
    let folder = tempfile::tempdir().unwrap();
    let [offer, new, old] = [3u8, 7, 8].map(|byte| secrets::key_line(&format!("k{byte}"), &[byte; 32]).trim().to_owned());
    let both = format!("{new}\n{old}:claim_only\n");
    let retired = format!("{old}:claim_only\n");
    secrets::create_file(&folder.path().join("server.keys"), &both).unwrap();
    std::fs::write(folder.path().join("open.keys"), &both).unwrap();
    let var = |name: &str| match name {
        "KAS402_OFFER_KEYS" => Some(offer.clone()),
        "BOTH" => Some(both.clone()),
        "RETIRED" => Some(retired.clone()),
        "BROKEN" => Some("k:short".to_owned()),
        _ => None,
    };
    let (sold, unsold) = (case("channels.yaml").replace("keys: {server: {file: server.keys}}\n", ""), case("minimal.yaml"));
    let load = |text: &str, keys: &str| compile_text(&format!("{text}{keys}"), folder.path(), &Environment { var: &var, secrets: true });
    for (text, keys, expect) in [
        (&sold, "", &["missing_key"][..]),
        (&unsold, "", &[]),
        (&sold, "keys: {server: {file: server.keys}}\n", &[]),
        (&sold, "keys: {server: {env: BOTH}}\n", &[]),
        (&sold, "keys: {server: {env: NOBODY}}\n", &["secret_missing"]),
        (&unsold, "keys: {server: {env: NOBODY}}\n", &["secret_missing"]),
        (&sold, "keys: {server: {file: none.keys}}\n", &["secret_missing"]),
        (&sold, "keys: {server: {file: open.keys}}\n", &["secret_mode"]),
        (&sold, "keys: {server: {env: BROKEN}}\n", &["secret_malformed"]),
        (&sold, "keys: {server: {env: RETIRED}}\n", &["secret_malformed"]),
        (&unsold, "keys: {server: {env: RETIRED}}\n", &[]),
        (&sold, "keys: {server: k7:inline}\n", &["wrong_type"]),
    ] {
        assert_eq!(codes(&load(text, keys)), expect, "{keys}");
    }
    let compiled = load(&sold, "keys: {server: {file: server.keys}}\n").unwrap_or_else(|problems| panic!("{problems}"));
    let public = |byte: u8| ServerKey::new(&[byte; 32], false).unwrap().public();
    assert_eq!(terms(pricing(&compiled, "/fixed")).server_key, Some(public(7)), "the first key opens channels");
    let keys: Vec<_> = compiled.server_keys.iter().map(|key| (key.public(), key.claim_only())).collect();
    assert_eq!(keys, [(public(7), false), (public(8), true)]);
}

#[test]
fn the_example_of_the_reference_compiles_without_a_warning() {
    let text = std::fs::read_to_string(root().join("docs/config.md")).unwrap();
    let example =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).find(|block| block.contains("scheme:")).unwrap();
    let minimal = case("minimal.yaml");
    let (head, _) = minimal.split_once("routes:").unwrap();
    let compiled = compiled(&format!("{head}{example}"));
    assert!(compiled.warnings.is_empty(), "{}", compiled.warnings);
    assert_eq!(terms(pricing(&compiled, "/v1/tokens")).min_deposit, kas("1 KAS"));
}
