//! What every gateway of a run sells.

use crate::exchange::ORIGIN;
use kas402::{
    binding::escrow_v1::{ServerKey, ServerKeys},
    client::wallet::Wallet,
    protocol::{
        amount::Amount,
        charge::{ChargeRule, Meter, MeterSource, OnUnknown, UnitPrice},
        ids::StoreId,
        network::Network,
        offer::{OfferKey, OfferKeys},
        policy::{
            Accept, Access, ChannelTerms, Channels, ChargeOn, ClaimPolicy, Cors, ExactTerms, Exposure, HostHeader, Observe, Policy,
            Pricing, PublicOrigin, Route, RouteId, Terms, Upstream,
        },
        price::PriceRule,
        requirements::{Finality, FinalityRule},
        route::Router,
    },
};
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

pub const PRICE: u64 = 25_000_000;
/// Depth that `/deep` asks of a payment.
pub const DEEP: u64 = 4;
pub const OFFER_SECONDS: u64 = 60;
pub const REPLAY_LIMIT: usize = 256;
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Most of one request from a channel.
pub const CEILING: u64 = 200_000_000;
pub const FLOOR: u64 = 50_000_000;
/// Of a metered answer: sompi for each unit.
pub const UNIT: u64 = 300_000;
pub const MIN_DEPOSIT: u64 = 1_500_000_000;
pub const CONFIRMATIONS: u64 = 2;
pub const REFUND_HORIZON: u64 = 120;
pub const REFUND_LEAD: u64 = 60;

pub fn sompi(amount: u64) -> Amount {
    Amount::from_sompi(amount).unwrap()
}

pub fn payee() -> String {
    Wallet::from_secret(Network::Simnet, &[9; 32]).unwrap().address().to_string()
}

fn pricing(price: u64, terms: Terms) -> Pricing {
    Pricing {
        require_identifier: matches!(terms, Terms::Channel(_)),
        accepts: vec![Accept { rule_id: "p".into(), price: PriceRule::Fixed(sompi(price)), pay_to: payee(), terms }],
        body_limit: 1_024,
        replay_limit: REPLAY_LIMIT,
        replay_cookies: false,
        require_request_hash: false,
        offer_seconds: OFFER_SECONDS,
        settle_wait: Duration::from_secs(20),
        entitlement_seconds: 86_400,
        observe: Observe::Proven,
        charge_on: ChargeOn::Below500,
        description: None,
        mime_type: None,
    }
}

fn exact(level: Finality, depth: u64) -> Pricing {
    pricing(PRICE, Terms::Exact(ExactTerms { finality: FinalityRule { level, depth }, mempool_max: None }))
}

fn channel(charge: ChargeRule) -> Pricing {
    let server_key = server_keys().opening().unwrap().public();
    let terms = ChannelTerms { server_key: Some(server_key), min_deposit: sompi(MIN_DEPOSIT), charge, claim_policy: None };
    pricing(CEILING, Terms::Channel(Box::new(terms)))
}

fn metered(source: MeterSource) -> ChargeRule {
    let price = UnitPrice { price: sompi(UNIT), units: 1 };
    ChargeRule::Metered(Meter { source, price, floor: sompi(FLOOR), on_unknown: OnUnknown::Floor })
}

pub fn policy() -> Policy {
    let route = |id: &str, pricing: Pricing| Route {
        id: RouteId(id.to_owned()),
        origin: PublicOrigin(ORIGIN.into()),
        host: None,
        path: format!("/{id}"),
        methods: vec![],
        conditions: vec![],
        upstream: "api".into(),
        access: Access::Priced(Box::new(pricing)),
        timeout: TIMEOUT,
    };
    let routes = vec![
        route("paid", exact(Finality::Accepted, 0)),
        route("deep", exact(Finality::Confirmed, DEEP)),
        route("fixed", channel(ChargeRule::Fixed)),
        route("metered", channel(metered(MeterSource::Bytes))),
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
        remote_channels: false,
        tenants: vec![],
        channels: Some(Channels {
            refund_horizon_daa: REFUND_HORIZON,
            refund_epoch_daa: 20,
            refund_lead_daa: REFUND_LEAD,
            confirmations: CONFIRMATIONS,
            exposure: Exposure::default(),
            claims: ClaimPolicy {
                automatic: true,
                above: sompi(3 * CEILING),
                after: Duration::from_secs(40),
                before_refund_daa: REFUND_LEAD + 10,
                max_fee_percent: 50,
                priority_sompi_per_gram: 0,
            },
        }),
    }
}

pub fn server_keys() -> ServerKeys {
    ServerKeys::new(vec![ServerKey::new(&[42; 32], false).unwrap()])
}

pub fn offer_keys(store: StoreId) -> OfferKeys {
    OfferKeys::derive(&[OfferKey { kid: "a".into(), key: Zeroizing::new(vec![7; 32]), not_after: None }], store)
}
