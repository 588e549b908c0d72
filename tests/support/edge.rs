//! A gateway that has no node: a tenant of a place settles its payments there.
#![allow(dead_code)]

use super::{
    gateway::{Gateway, ORIGIN},
    tenants::{Place, furnish},
};

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
