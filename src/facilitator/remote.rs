//! The client of another gateway's facilitator.
//!
//! Promises: tells whether a call that failed may have arrived; asks all the time whether the facilitator is there and settles for this
//! tenant, and what channels are opened under there. Never logs the token. Used by a gateway without a node.

use crate::{
    chain::absent::AbsentChain,
    gateway::facilitate::Act,
    gateway::remote::{RemoteAnswer, RemoteChannels, RemoteError, RemoteFacilitator},
    protocol::{
        limits::LOCK_TIME_THRESHOLD,
        requirements::{Binding, Scheme, TemplateId},
    },
};
use async_trait::async_trait;
use reqwest::{Certificate, Client, Response, header::RETRY_AFTER, redirect::Policy};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use url::Url;
use zeroize::Zeroizing;

/// How often it is asked whether it is there; sooner while it is not.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ASK_SOON: Duration = Duration::from_millis(500);
/// Longest time to connect, and for the answer of `/supported`.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest answer, bytes.
const ANSWER_BYTES: usize = 256 * 1024;

/// Where it is, and how it knows this gateway.
#[derive(Clone)]
pub struct Settings {
    /// An origin.
    pub url: Url,
    pub token: Zeroizing<String>,
    /// PEM file with certificate authorities instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// See the module.
pub struct Remote {
    client: Client,
    settings: Settings,
    /// As it said last; gone as soon as it says something else, or nothing.
    channels: Mutex<Option<RemoteChannels>>,
}

/// Why it cannot be called at all.
#[derive(Debug, thiserror::Error)]
#[error("remote_facilitator: {0}")]
pub struct RemoteSettingsError(String);

impl Remote {
    pub fn new(settings: Settings) -> Result<Self, RemoteSettingsError> {
        let failed = |error: &dyn std::fmt::Display| RemoteSettingsError(error.to_string());
        let mut builder = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT);
        if let Some(path) = &settings.ca_file {
            let unreadable = |error: &dyn std::fmt::Display| RemoteSettingsError(format!("{}: {error}", path.display()));
            let pem = std::fs::read(path).map_err(|error| unreadable(&error))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(&error))?;
            builder = builder.tls_built_in_root_certs(false);
            builder = authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = builder.build().map_err(|error| failed(&error))?;
        Ok(Self { client, settings, channels: Mutex::default() })
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.settings.url.clone();
        url.set_path(path);
        url
    }

    /// Keeps the health of the chain that is not there: ready while the facilitator settles for this tenant. Runs for the life of the process.
    pub async fn watch(self: Arc<Self>, chain: Arc<AbsentChain>) {
        loop {
            let (found, channels) = match self.supported(chain.clone()).await {
                Ok(channels) => (Ok(()), channels),
                Err(why) => (Err(why), None),
            };
            *self.channels.lock().unwrap_or_else(PoisonError::into_inner) = channels;
            let pause = if found.is_ok() { ASK_EVERY } else { ASK_SOON };
            chain.set_ready(found);
            tokio::time::sleep(pause).await; // why: whether a server is there shows only by asking it
        }
    }

    /// Whether it settles for this tenant, and what it opens channels under, if it does.
    async fn supported(&self, chain: Arc<AbsentChain>) -> Result<Option<RemoteChannels>, String> {
        let unreachable = |error: reqwest::Error| format!("facilitator_unavailable: {}", error.without_url());
        let request = self.client.get(self.url("/supported")).bearer_auth(&*self.settings.token).timeout(CONNECT);
        let answer = read(request.send().await.map_err(unreachable)?).await.map_err(unreachable)?;
        if answer.status != 200 {
            return Err(format!("facilitator_unavailable: it answers {}", answer.status));
        }
        let network = crate::chain::Chain::network(&*chain).as_str();
        let kinds = answer.body["kinds"].as_array().map(Vec::as_slice).unwrap_or_default();
        let may = |kind: &Value, mode: &str| kind["extra"]["modes"].as_array().is_some_and(|modes| modes.contains(&mode.into()));
        let of = |scheme: Scheme| kinds.iter().filter(move |kind| kind["scheme"] == scheme.as_str() && kind["network"] == network);
        if !of(Scheme::Exact).any(|kind| may(kind, "settle")) {
            return Err(format!("facilitator_unavailable: it does not settle on {network} for this gateway"));
        }
        // What is paid from a channel is looked at before it is served.
        Ok(of(Scheme::BatchSettlement).filter(|kind| may(kind, "verify") && may(kind, "settle")).find_map(channels))
    }
}

/// What channels are opened under.
fn channels(kind: &Value) -> Option<RemoteChannels> {
    let extra = &kind["extra"];
    let known = extra["binding"] == Binding::EscrowV1.as_str() && extra["templateId"] == TemplateId::EscrowV1.as_str();
    let timeout = extra["refundTimeoutDaa"].as_str()?.parse().ok().filter(|timeout| *timeout < LOCK_TIME_THRESHOLD)?;
    known.then_some(RemoteChannels { server_key: extra["serverPublicKey"].as_str()?.parse().ok()?, refund_timeout_daa: timeout })
}

async fn read(mut response: Response) -> Result<RemoteAnswer, reqwest::Error> {
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES {
            bytes.clear();
            break;
        }
    }
    Ok(RemoteAnswer { status, retry_after, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
}

#[async_trait]
impl RemoteFacilitator for Remote {
    fn channels(&self) -> Option<RemoteChannels> {
        *self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, act: Act, call: &Value, within: Duration) -> Result<RemoteAnswer, RemoteError> {
        let path = match act {
            Act::Verify => "/verify",
            Act::Settle => "/settle",
        };
        let request = self.client.post(self.url(path)).bearer_auth(&*self.settings.token).timeout(within);
        let request = request.header("content-type", "application/json").body(call.to_string());
        let lost = |error: reqwest::Error| {
            let error = error.without_url();
            if error.is_connect() { RemoteError::NotSent(error.to_string()) } else { RemoteError::Unknown(error.to_string()) }
        };
        read(request.send().await.map_err(lost)?).await.map_err(|error| RemoteError::Unknown(error.without_url().to_string()))
    }
}
