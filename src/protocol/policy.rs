//! The typed policy a configuration compiles to: plain data, no behaviour beyond look-up.

use super::{
    amount::Amount,
    charge::ChargeRule,
    ids::XOnlyKey,
    limits::LOCK_TIME_THRESHOLD,
    network::Network,
    price::PriceRule,
    requirements::{FinalityRule, Scheme},
    route::Router,
    tenant::Tenant,
    tools::Tools,
};
use http::{HeaderName, HeaderValue, Method};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Everything the request path needs to know, swapped whole on reload.
#[derive(Debug)]
pub struct Policy {
    pub network: Network,
    pub router: Router,
    pub upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    pub cors: Cors,
    /// Keep `%2F` in paths as it stands instead of refusing it.
    pub encoded_slashes: bool,
    /// `None` when no route sells under `batch-settlement` and no server key is left to claim with.
    pub channels: Option<Channels>,
    /// A route sells under `batch-settlement` from channels that another gateway keeps.
    pub remote_channels: bool,
    /// Whom the facilitator serves; empty when there is none.
    pub tenants: Vec<Arc<Tenant>>,
}

pub type UpstreamName = String;

/// A stable, unique name of a route: part of every offer's MAC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub String);

impl RouteId {
    /// Begins the ids under which records of the facilitator's tenants stand; no route's does.
    pub const FACILITATOR: &str = "facilitator:";
}

impl std::fmt::Display for RouteId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The scheme, host and port under which clients reach a route, for example `https://api.example.com`; no trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicOrigin(pub String);

/// One rule of the YAML.
#[derive(Debug)]
pub struct Route {
    pub id: RouteId,
    pub origin: PublicOrigin,
    /// Lower case, no port; `None` matches every host.
    pub host: Option<String>,
    /// `/a/{id}`, `/v1/{model}:run`, `/files/{*rest}`: see [`super::pattern`].
    pub path: String,
    /// Empty matches every method.
    pub methods: Vec<Method>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    pub upstream: UpstreamName,
    pub access: Access,
    /// Whole upstream exchange of a priced request; for free routes the upstream's own timeouts apply.
    pub timeout: Duration,
}

/// A further condition on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The header is present, once, and equal when a value is given.
    Header(HeaderName, Option<HeaderValue>),
    /// The query parameter is present, once, and (decoded) equal when a value is given.
    Query(String, Option<String>),
}

impl Route {
    /// Every route that sells something here: this one, or those of its tools.
    pub fn sold(&self) -> impl Iterator<Item = &Route> {
        let tools = match &self.access {
            Access::Tools(tools) => Some(tools),
            Access::Free | Access::Priced(_) => None,
        };
        let own = matches!(self.access, Access::Priced(_)).then_some(self);
        own.into_iter().chain(tools.into_iter().flat_map(|tools| tools.sold().map(|route| &**route)))
    }

    /// How this route itself is sold.
    pub fn pricing(&self) -> Option<&Pricing> {
        match &self.access {
            Access::Priced(pricing) => Some(pricing),
            Access::Free | Access::Tools(_) => None,
        }
    }

    /// The URL under which clients reach a route with a static path.
    pub fn public_url(&self) -> String {
        format!("{}{}", self.origin.0, self.path)
    }
}

/// Free or priced, or an MCP server, each of whose tools is one or the other.
#[derive(Debug)]
pub enum Access {
    Free,
    Priced(Box<Pricing>),
    Tools(Box<Tools>),
}

/// How a priced route is sold.
#[derive(Debug)]
pub struct Pricing {
    /// Every way to pay, in the order they are offered; never empty.
    pub accepts: Vec<Accept>,
    /// Longest request body, bytes; beyond it 413 before any 402.
    pub body_limit: usize,
    /// Longest response body kept for replays, bytes.
    pub replay_limit: usize,
    /// Keep `Set-Cookie` in stored responses.
    pub replay_cookies: bool,
    /// Refuse payments without `requestHash`.
    pub require_request_hash: bool,
    /// Refuse payments without a payment identifier.
    pub require_identifier: bool,
    /// How long the offer lives, seconds; also `maxTimeoutSeconds`.
    pub offer_seconds: u64,
    /// How long a request waits for finality before 503 `settlement_pending`.
    pub settle_wait: Duration,
    /// How long a paid, undelivered request stays good, seconds.
    pub entitlement_seconds: u64,
    pub observe: Observe,
    pub charge_on: ChargeOn,
    /// Shown in `resource.description` of the offer.
    pub description: Option<String>,
    /// Shown in `resource.mimeType` of the offer.
    pub mime_type: Option<String>,
}

/// One way to pay a route.
#[derive(Debug)]
pub struct Accept {
    /// Identifies the price rule in the offer's MAC; unique within the route.
    pub rule_id: String,
    /// The price, or under `batch-settlement` the ceiling of one request.
    pub price: PriceRule,
    /// A valid address of the policy's network.
    pub pay_to: String,
    pub terms: Terms,
}

impl Accept {
    pub const fn scheme(&self) -> Scheme {
        match &self.terms {
            Terms::Exact(_) => Scheme::Exact,
            Terms::Channel(_) => Scheme::BatchSettlement,
        }
    }
}

/// What only one scheme has.
#[derive(Debug)]
pub enum Terms {
    Exact(ExactTerms),
    Channel(Box<ChannelTerms>),
}

#[derive(Clone, Copy, Debug)]
pub struct ExactTerms {
    pub finality: FinalityRule,
    /// With mempool finality: the most that is sold at that risk.
    pub mempool_max: Option<Amount>,
}

/// How a route is sold from channels.
#[derive(Clone, Debug)]
pub struct ChannelTerms {
    /// The key that claims, x-only; its secret is given to the gateway beside the policy. `None`: the facilitator's, as it says at the time.
    pub server_key: Option<XOnlyKey>,
    pub min_deposit: Amount,
    pub charge: ChargeRule,
    /// The claim policy in words, for the offer.
    pub claim_policy: Option<String>,
}

/// What holds for every channel of this gateway (PROTOCOL section 5). Times in DAA score.
#[derive(Clone, Debug)]
pub struct Channels {
    /// A new channel's refund timeout is at least so far ahead, and is rounded up to `refund_epoch_daa`.
    pub refund_horizon_daa: u64,
    pub refund_epoch_daa: u64,
    /// Service stops, and every claim must be final, so long before a channel's timeout.
    pub refund_lead_daa: u64,
    /// How far the DAA score must be past that of the block which accepted a deposit before it counts without limit (the node
    /// tells no blue score of an output).
    pub confirmations: u64,
    pub exposure: Exposure,
    pub claims: ClaimPolicy,
}

impl Channels {
    /// The refund timeout of a channel that is offered at this DAA score: `ceil((now + horizon) / epoch) * epoch`. `None` when the
    /// network would read it as a time of day.
    pub fn refund_timeout(&self, daa_score: u64) -> Option<u64> {
        let ahead = daa_score.checked_add(self.refund_horizon_daa)?;
        ahead
            .div_ceil(self.refund_epoch_daa.max(1))
            .checked_mul(self.refund_epoch_daa.max(1))
            .filter(|timeout| *timeout < LOCK_TIME_THRESHOLD)
    }
}

/// The most the gateway is owed at a time, each `None` without a limit. Beyond it new charges are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Unclaimed and reserved in one channel.
    pub per_channel: Option<Amount>,
    /// Over all channels of one client key.
    pub per_payer: Option<Amount>,
    /// Over all channels that refund to one address.
    pub per_refund_address: Option<Amount>,
    /// Over all channels whose deposit, last top-up, or last claim that competes with another spend is not `confirmations` deep. Zero: none are served before.
    pub unconfirmed: Amount,
    pub total: Option<Amount>,
}

/// When the gateway claims by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimPolicy {
    pub automatic: bool,
    /// Unclaimed value of a channel from which it is claimed.
    pub above: Amount,
    /// Age of the oldest unclaimed charge from which the channel is claimed.
    pub after: Duration,
    /// Claimed, whatever the value, when the refund timeout is nearer than this, DAA score. At least `refund_lead_daa`.
    pub before_refund_daa: u64,
    /// The most of a claim that may go into its fee, in per cent of what it moves; beyond it the claim is uneconomic and reported.
    pub max_fee_percent: u8,
    /// Fee rate over the least that is relayed, sompi per gram of mass; 0 for the least.
    pub priority_sompi_per_gram: u64,
}

/// Whether a transaction the network already knew may pay (PROTOCOL section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observe {
    /// Only for who proves the key of an input.
    Proven,
    Never,
    /// Unsafe: anybody may present a transaction seen on the network.
    Any,
}

/// Which upstream answers count as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeOn {
    /// Every answer below 500 (default).
    Below500,
    /// Only 2xx.
    Success,
    /// Every complete answer, 5xx included.
    Any,
}

impl ChargeOn {
    pub const fn delivered(self, status: u16) -> bool {
        match self {
            Self::Below500 => status < 500,
            Self::Success => status >= 200 && status < 300,
            Self::Any => true,
        }
    }
}

/// An unmodified API behind the gateway.
#[derive(Debug)]
pub struct Upstream {
    pub name: UpstreamName,
    /// Host name or address to connect to.
    pub host: String,
    pub port: u16,
    pub tls: Option<UpstreamTls>,
    /// What the upstream sees as `Host`.
    pub host_header: HostHeader,
    /// Put in front of the forwarded path; normal form, no trailing slash; empty for none.
    pub base_path: String,
    /// Set on every forwarded request, overwriting the client's; values come from the environment.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub connect_timeout: Duration,
    /// Longest silence of the upstream.
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
}

#[derive(Debug)]
pub struct UpstreamTls {
    /// Name sent and verified.
    pub server_name: String,
    /// `false` only by an explicit, warned-about setting.
    pub verify: bool,
    /// A CA bundle (PEM file) instead of the system's.
    pub ca_file: Option<std::path::PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The upstream's own name.
    Upstream,
    /// What the client sent.
    Client,
    Fixed(HeaderValue),
}

/// Which browser origins may read offers and receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// `Access-Control-Allow-Origin: *` (default: payments carry no cookies).
    Any,
    Origins(Vec<String>),
    /// The upstream alone answers preflights and CORS.
    Off,
}
