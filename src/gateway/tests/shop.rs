//! What is sold: the policy of every test.

use super::world::*;
use crate::{
    binding::escrow_v1::{ServerKey, ServerKeys},
    client::wallet::Wallet,
    protocol::{
        amount::Amount,
        charge::ChargeRule,
        limits,
        network::Network,
        policy::{
            Accept, Access, ChannelTerms, Channels, ChargeOn, ClaimPolicy, Cors, ExactTerms, Exposure, HostHeader, Observe, Policy,
            Pricing, PublicOrigin, Route, RouteId, Terms, Upstream,
        },
        price::{PriceInput, PriceRule},
        requirements::{Finality, FinalityRule},
        route::Router,
    },
};
use http::HeaderName;
use std::{sync::Arc, time::Duration};

pub fn payee(seed: u8) -> String {
    Wallet::from_secret(Network::Simnet, &[seed; 32]).unwrap().address().to_string()
}

pub fn exact_terms(finality: FinalityRule) -> Terms {
    Terms::Exact(ExactTerms { finality, mempool_max: None })
}

fn pricing(price: PriceRule) -> Pricing {
    let finality = FinalityRule { level: Finality::Accepted, depth: 0 };
    Pricing {
        accepts: vec![Accept { rule_id: "p".into(), price, pay_to: payee(9), terms: exact_terms(finality) }],
        body_limit: BODY_LIMIT,
        replay_limit: REPLAY_LIMIT,
        replay_cookies: false,
        require_request_hash: false,
        require_identifier: false,
        offer_seconds: OFFER_SECONDS,
        settle_wait: SETTLE_WAIT,
        entitlement_seconds: limits::ENTITLEMENT_SECONDS,
        observe: Observe::Proven,
        charge_on: ChargeOn::Below500,
        description: None,
        mime_type: None,
    }
}

/// Deposits count as soon as they are accepted; refunds are far away; nothing is claimed by itself.
pub fn channel_rules() -> Channels {
    Channels {
        refund_horizon_daa: 100_000,
        refund_epoch_daa: 1_000,
        refund_lead_daa: 5_000,
        confirmations: 0,
        exposure: Exposure::default(),
        claims: ClaimPolicy {
            automatic: false,
            above: sompi(50_000_000),
            after: Duration::from_secs(3_600),
            before_refund_daa: 10_000,
            max_fee_percent: 10,
            priority_sompi_per_gram: 0,
        },
    }
}

/// Another way to pay a route, in front of the others.
pub fn from_channels(pricing: &mut Pricing, ceiling: u64, charge: ChargeRule) {
    let server_key = server_keys().opening().unwrap().public();
    let terms = ChannelTerms { server_key: Some(server_key), min_deposit: sompi(100_000_000), charge, claim_policy: None };
    let price = PriceRule::Fixed(sompi(ceiling));
    pricing.accepts.insert(0, Accept { rule_id: "c".into(), price, pay_to: payee(9), terms: Terms::Channel(Box::new(terms)) });
    pricing.require_identifier = true;
}

pub fn server_keys() -> ServerKeys {
    let key = |byte: u8| ServerKey::new(&[byte; 32], false).unwrap();
    // The gateway's own, and those of two tenants.
    ServerKeys::new(vec![key(42)]).joined(vec![key(43), key(44)])
}

pub fn sompi(amount: u64) -> Amount {
    Amount::from_sompi(amount).unwrap()
}

fn table(by: PriceInput, cheap: &str, dear: &str) -> PriceRule {
    PriceRule::Table { by, rows: [(cheap.into(), sompi(PRICE)), (dear.into(), sompi(DEAR))].into(), default: None }
}

/// Free and priced routes on any host, and one that another host sells.
pub fn policy(change: &impl Fn(&mut Pricing)) -> Policy {
    let route = |id: &str, host: Option<&str>, access: Access| Route {
        id: RouteId(id.to_owned()),
        origin: PublicOrigin(format!("https://{}", host.unwrap_or("shop.example"))),
        host: host.map(str::to_owned),
        path: format!("/{}", id.split(':').next().unwrap()),
        methods: vec![],
        conditions: vec![],
        upstream: "api".into(),
        access,
        timeout: TIMEOUT,
    };
    let priced = |id: &str, host: Option<&str>, price: PriceRule| {
        let mut pricing = pricing(price);
        change(&mut pricing);
        route(id, host, Access::Priced(Box::new(pricing)))
    };
    let fixed = || PriceRule::Fixed(sompi(PRICE));
    let routes = vec![
        route("free", None, Access::Free),
        priced("paid", None, fixed()),
        priced("other", None, fixed()),
        priced("paid:elsewhere", Some("elsewhere.example"), fixed()),
        priced("chat", None, table(PriceInput::Json("/model".into()), "small", "large")),
        priced("header", None, table(PriceInput::Header(HeaderName::from_static("x-model")), "small", "large")),
        priced("method", None, table(PriceInput::Method, "GET", "POST")),
    ];
    let upstream = Upstream {
        name: "api".into(),
        host: "127.0.0.1".into(),
        port: 1,
        tls: None,
        host_header: HostHeader::Upstream,
        base_path: String::new(),
        headers: vec![],
        connect_timeout: TIMEOUT,
        read_timeout: TIMEOUT,
        write_timeout: TIMEOUT,
        idle_timeout: TIMEOUT,
    };
    Policy {
        network: Network::Simnet,
        router: Router::build(routes).unwrap(),
        upstreams: [("api".to_owned(), Arc::new(upstream))].into(),
        cors: Cors::Any,
        encoded_slashes: false,
        channels: Some(channel_rules()),
        remote_channels: false,
        tenants: vec![],
    }
}
