//! A gateway process with a facilitator, and the calls of its tenants.
#![allow(dead_code)]

use super::{
    devnet::{Devnet, Wallet},
    gateway::{Gateway, yaml},
    pay::HTTP,
    schema,
    upstream::Upstream,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

/// A tenant of the tests.
pub struct Tenant {
    pub name: &'static str,
    pub recipient: Wallet,
    /// Further lines of its section, in braces' style: `burst: 3, calls_per_second: 1`.
    pub more: &'static str,
}

impl Tenant {
    pub fn new(name: &'static str, seed: u8, more: &'static str) -> Self {
        Self { name, recipient: Wallet::new(seed), more }
    }

    pub fn token(&self) -> String {
        format!("{:0<40}", self.name)
    }

    /// The terms of this tenant's own server, which has no offers of the gateway's.
    pub fn terms(&self, sompi: u64) -> Value {
        json!({
            "scheme": "exact", "network": "kaspa:simnet", "amount": sompi.to_string(), "asset": "KAS",
            "payTo": self.recipient.address().to_string(), "maxTimeoutSeconds": 60,
            "extra": {"binding": "kaspa-exact-v1"},
        })
    }
}

/// The `facilitator` section.
pub fn section(tenants: &[Tenant], more: &str) -> String {
    let mut text = format!("facilitator:\n  listen: {{address: 127.0.0.1:0{more}}}\n  tenants:\n");
    for Tenant { name, recipient, more } in tenants {
        let keys = if more.contains("claim") { format!("server_keys: {{file: {name}.keys}}, ") } else { String::new() };
        let comma = if more.is_empty() { "" } else { ", " };
        let recipient = recipient.address();
        text += &format!("    {name}: {{{keys}token: {{file: {name}.token}}, recipients: [\"{recipient}\"]{comma}{more}}}\n");
    }
    text
}

/// A devnet, a gateway with routes of its own, and tenants.
pub struct Place {
    pub devnet: Devnet,
    pub upstream: Upstream,
    pub seller: Wallet,
    pub gateway: Gateway,
    pub tenants: Vec<Tenant>,
}

impl Place {
    pub async fn start(tenants: Vec<Tenant>, routes: &str, more: &str) -> Self {
        let (devnet, upstream, seller) = (Devnet::start(1, 10.0).await, Upstream::start().await, Wallet::new(200));
        let more = format!("{}{more}", section(&tenants, ""));
        let text = yaml(&devnet.wrpc[..1], &seller, &upstream.url(), routes, &more);
        let mut gateway = Gateway::prepare(&text).await;
        furnish(&gateway, &tenants).await;
        gateway.run(&[]).await;
        gateway.ready().await;
        Self { devnet, upstream, seller, gateway, tenants }
    }

    /// A call of the tenant's.
    pub async fn call(&self, tenant: usize, path: &str, body: &Value) -> Told {
        let request = self.request(Method::POST, path).bearer_auth(self.tenants[tenant].token());
        Told::read(request.body(body.to_string()).send().await.unwrap()).await
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        HTTP.request(method, format!("http://{}{path}", self.gateway.facilitator()))
    }
}

/// Token and key files beside the configuration.
pub async fn furnish(gateway: &Gateway, tenants: &[Tenant]) {
    for tenant in tenants {
        let path = gateway.path(&format!("{}.token", tenant.name));
        fs::write(&path, tenant.token()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if tenant.more.contains("claim") {
            let made = gateway.command().args(["keys", "new", "--server", &format!("{}.keys", tenant.name)]).output().await.unwrap();
            assert!(made.status.success(), "{made:?}");
        }
    }
}

/// A call about a message.
pub fn call(message: &Value, hash: Option<&str>) -> Value {
    let mut call = json!({"x402Version": 2, "paymentPayload": message, "paymentRequirements": message["accepted"]});
    if let Some(hash) = hash {
        call["requestHash"] = hash.into();
    }
    call
}

/// What a tenant was told.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Told {
    pub async fn read(response: Response) -> Self {
        let (status, headers, path) = (response.status().as_u16(), response.headers().clone(), response.url().path().to_owned());
        let body = response.bytes().await.unwrap_or_default();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        // A path that does not exist answers a tenant without words.
        if status != 404 {
            schema::facilitator(&path, status, &body);
        }
        Self { status, headers, body }
    }

    /// The precise code of a refusal; `-` for none.
    pub fn code(&self) -> &str {
        self.body["extensions"]["kaspa"]["reason"].as_str().unwrap_or("-")
    }

    pub fn succeeded(&self) -> bool {
        self.status == 200 && (self.body["success"] == true || self.body["isValid"] == true)
    }
}
