//! A gateway that has no node: a tenant of a place settles its payments there.
#![allow(dead_code)]

use super::{
    gateway::{Gateway, ORIGIN},
    line::Line,
    tenants::{Place, Tenant, furnish},
};

/// The gateway with the node, and one at the edge that settles through it.
pub struct Both {
    pub hub: Place,
    pub edge: Gateway,
    pub line: Line,
}

impl Both {
    /// `tenant` and `hub`: further settings of the tenant that the edge is, and of the hub.
    pub async fn of(tenant: &'static str, hub: &str, routes: &str, settle_wait_seconds: u64) -> Self {
        let hub = Place::start(vec![Tenant::new("edge", 201, tenant)], "  - {path: /x, free: true}", hub).await;
        let line = Line::to(hub.gateway.facilitator()).await;
        let edge = start(&hub, 0, &line.address, routes, settle_wait_seconds).await;
        Self { hub, edge, line }
    }
}

/// Its configuration: the hub as it is reached, and the tenant that it is there.
pub fn yaml(hub: &Place, tenant: usize, facilitator: &str, routes: &str, settle_wait_seconds: u64) -> String {
    let Some(tenant) = hub.tenants.get(tenant) else { panic!("no tenant {tenant}") };
    format!(
        "network: kaspa:simnet\nallow_simnet: true\npublic_origin: {ORIGIN}\nlisten: 127.0.0.1:0\npay_to: {}\n\
         remote_facilitator: {{url: \"http://{facilitator}\", token: {{file: {}.token}}}}\nstore: {{path: store.db}}\nupstream: {}\n\
         defaults: {{settle_wait_seconds: {settle_wait_seconds}}}\nroutes:\n{routes}\n",
        tenant.recipient.address(),
        tenant.name,
        hub.upstream.url(),
    )
}

/// Runs it until it is ready to sell.
pub async fn start(hub: &Place, tenant: usize, facilitator: &str, routes: &str, settle_wait_seconds: u64) -> Gateway {
    let mut edge = Gateway::prepare(&yaml(hub, tenant, facilitator, routes, settle_wait_seconds)).await;
    furnish(&edge, &hub.tenants[tenant..=tenant]).await;
    edge.run(&[]).await;
    edge.ready().await;
    edge
}
