//! What is wrong or risky in a configuration: stable codes, a place, a sentence.
//!
//! `docs/config.md` lists every code; a test compares. Called by everything in `config`, printed by `cli::check`.

use serde::Serialize;
use std::fmt;

/// A place in the file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pos {
    pub line: u64,
    pub column: u64,
}

impl Pos {
    pub const START: Self = Self { line: 1, column: 1 };
}

impl Default for Pos {
    fn default() -> Self {
        Self::START
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The gateway does not start.
    Error,
    /// It starts; somebody should have decided this.
    Warning,
}

macro_rules! codes {
    ($($severity:ident { $(#[doc = $doc:literal] $variant:ident = $code:literal,)* })*) => {
        /// The stable code of a problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc] $variant,)*)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$($(Code::$variant),*),*];

            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$variant => $code,)*)* }
            }

            pub const fn severity(self) -> Severity {
                match self { $($(Self::$variant => Severity::$severity,)*)* }
            }

            /// What it means, for the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $($(Self::$variant => $doc.trim_ascii(),)*)* }
            }
        }
    };
}

codes! {
    Error {
        /// The file cannot be read, or is not UTF-8.
        FileUnreadable = "file_unreadable",
        /// The file is larger than 1 MiB.
        FileTooLarge = "file_too_large",
        /// Not well-formed YAML, a key twice in one mapping, a merge key, or too many aliases.
        YamlSyntax = "yaml_syntax",
        /// A key this version does not know.
        UnknownKey = "unknown_key",
        /// A key that must be written.
        MissingKey = "missing_key",
        /// A value of the wrong kind.
        WrongType = "wrong_type",
        /// A value outside its range or list.
        BadValue = "bad_value",
        /// Mainnet or simnet without its opt-in.
        NetworkNotAllowed = "network_not_allowed",
        /// Not an origin: scheme, host and port only.
        OriginInvalid = "origin_invalid",
        /// Not an address to listen on.
        ListenInvalid = "listen_invalid",
        /// Not a Kaspa address of the configured network.
        AddressInvalid = "address_invalid",
        /// No node, or a node URL that is not ws:// or wss://.
        NodeInvalid = "node_invalid",
        /// The memory store forgets who paid.
        StoreMemory = "store_memory",
        /// Not the URL of a Redis server, of sentinels or of a cluster, or one with a password in plain sight.
        StoreUrl = "store_url",
        /// A setting that this kind of store does not have.
        StoreSetting = "store_setting",
        /// An environment variable or key file that is missing.
        SecretMissing = "secret_missing",
        /// A key file that others than its owner can read or write.
        SecretMode = "secret_mode",
        /// Keys that do not parse, are too short, or occur twice; a secret that is no header value.
        SecretMalformed = "secret_malformed",
        /// A TCP admin listener without a token.
        AdminToken = "admin_token",
        /// Not an upstream: a URL, header or TLS setting that cannot work.
        UpstreamInvalid = "upstream_invalid",
        /// A route names an upstream that is not configured, or none is.
        UpstreamUnknown = "upstream_unknown",
        /// A route must be exactly one of `free: true`, `price` or `accepts`.
        RouteAccess = "route_access",
        /// Not a path pattern.
        PathInvalid = "path_invalid",
        /// Not a host name, method or condition.
        MatchInvalid = "match_invalid",
        /// Two routes match the same requests with the same precedence.
        RouteConflict = "route_conflict",
        /// Two routes have the same id.
        RouteIdDuplicate = "route_id_duplicate",
        /// Not an amount with its unit, a price table without rows, or a row that no request can have.
        PriceInvalid = "price_invalid",
        /// A price of nothing: write `free: true`.
        PriceZero = "price_zero",
        /// A finality that does not exist, or a depth out of range.
        FinalityInvalid = "finality_invalid",
        /// Mempool finality without its maximum amount and its risk opt-in, or a price above the maximum.
        MempoolUnbounded = "mempool_unbounded",
        /// Durations or limits that contradict each other.
        LimitsInconsistent = "limits_inconsistent",
        /// A setting that the scheme of this way to pay does not have, or that stands in the wrong place.
        SchemeSetting = "scheme_setting",
        /// Not the name or pattern of a tool, or one that stands twice.
        ToolInvalid = "tool_invalid",
        /// A setting that routes of this kind, or tools, do not have; an MCP route without its tools.
        KindSetting = "kind_setting",
        /// Not a charge rule, or one whose floor is above the price.
        ChargeInvalid = "charge_invalid",
        /// A `min_deposit` from which no claim is possible, or which does not pay one request.
        DepositInvalid = "deposit_invalid",
        /// Times of channels that contradict each other or `limits.final_depth`.
        RefundTimes = "refund_times",
        /// An exposure limit below the price of a request: none would be served.
        ExposureTooLow = "exposure_too_low",
        /// `batch-settlement` on mainnet: its escrow was not audited.
        BatchMainnet = "batch_mainnet",
        /// `batch-settlement` on public nodes: a stranger's word would close channels and take claims back.
        BatchPublicNodes = "batch_public_nodes",
        /// A recipient, a server key or a token of a tenant that is another tenant's or the gateway's own.
        TenantOverlap = "tenant_overlap",
        /// A setting of a gateway with a node (`node`, `keys.server`, `channels`, `facilitator`) beside `remote_facilitator`.
        RemoteConflict = "remote_conflict",
        /// `observe: any` with a recipient that claims of channels pay to: every claim could be presented as a payment.
        ObserveClaims = "observe_claims",
    }
    Warning {
        /// An ordinary wallet cannot pay this: the output's storage mass is above what a block may hold (KIP-9).
        PriceUnpayable = "price_unpayable",
        /// Wallets that keep to 100,000 grams per transaction cannot pay this with change.
        PriceSmall = "price_small",
        /// The default is not the highest price of the table: leaving the input out is a discount.
        DefaultCheaper = "default_cheaper",
        /// The JSON body that sets the price is limited to less than 1 KiB.
        BodyLimitSmall = "body_limit_small",
        /// Mempool finality: a payment can be replaced after the resource was released.
        MempoolRisk = "mempool_risk",
        /// Less than 10 or more than 10,000 confirmations.
        ConfirmDepth = "confirm_depth",
        /// `observe: any` serves whoever presents a transaction seen on the network.
        ObserveAny = "observe_any",
        /// `charge_on: any` keeps the money when the upstream fails.
        ChargeOnAny = "charge_on_any",
        /// Stored responses keep `Set-Cookie`: whoever repeats the payment gets the session.
        ReplayCookies = "replay_cookies",
        /// Payments without a request hash are accepted together with `observe: any`: anybody can redeem them.
        HashOptional = "hash_optional",
        /// The upstream's certificate is not verified.
        TlsVerifyOff = "tls_verify_off",
        /// Credentials go to a remote upstream without TLS.
        UpstreamPlain = "upstream_plain",
        /// Strangers' nodes decide what counts as paid.
        TrustPublicNodes = "trust_public_nodes",
        /// A remote node without TLS: anybody on the way decides what counts as paid.
        NodePlain = "node_plain",
        /// A remote Redis server without TLS: whoever is on the way reads and writes money.
        StorePlain = "store_plain",
        /// `durability: standard`: a crash or a failover of the server can lose payments of its last second.
        StoreStandard = "store_standard",
        /// Real money.
        MainnetEnabled = "mainnet_enabled",
        /// Clients reach the gateway without TLS: payments can be read and replayed on the way.
        OriginPlain = "origin_plain",
        /// Methods the price does not list reach a free route on the same path.
        MethodGap = "method_gap",
        /// The same path is free under another host name, which a client chooses.
        HostGap = "host_gap",
        /// The same path is free for who leaves out or changes a header or query parameter.
        ConditionGap = "condition_gap",
        /// Every path without a route is forwarded for free.
        UnmatchedForward = "unmatched_forward",
        /// No route is priced.
        NothingPriced = "nothing_priced",
        /// A mainnet or testnet payment is watched for less than the usual final depth.
        FinalDepthShallow = "final_depth_shallow",
        /// `min_deposit` pays for less than five requests.
        DepositSmall = "deposit_small",
        /// A count that is larger than nothing always costs the ceiling.
        MeterSaturated = "meter_saturated",
        /// An answer whose units cannot be read costs nothing.
        MeterOptional = "meter_optional",
        /// A channel is served for hardly longer than its offer lives, or for less than an hour.
        HorizonShort = "horizon_short",
        /// Deposits are locked for more than 30 days.
        HorizonLong = "horizon_long",
        /// A request that runs into the refund lead may end too late for a claim to be final in time.
        LeadShort = "lead_short",
        /// One client can owe without limit what is too little to be claimed.
        ExposureUnlimited = "exposure_unlimited",
        /// Requests are refused by an exposure limit before their channel is claimed for its value.
        ExposureBeforeClaim = "exposure_before_claim",
        /// What is not claimed by hand before the refund timeout is lost.
        ClaimsManual = "claims_manual",
        /// A facilitator without tenants is not started.
        FacilitatorIdle = "facilitator_idle",
        /// Other machines call the facilitator without TLS: tokens can be read on the way.
        FacilitatorPlain = "facilitator_plain",
        /// A claim of `claims.above` costs more than `claims.max_fee_percent`, or is not taken by the network.
        ClaimUneconomic = "claim_uneconomic",
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub at: Pos,
    pub message: String,
}

impl Problem {
    pub fn new(code: Code, at: Pos, message: impl Into<String>) -> Self {
        Self { code, at, message: message.into() }
    }

    pub const fn is_error(&self) -> bool {
        matches!(self.code.severity(), Severity::Error)
    }
}

/// What was found, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn push(&mut self, code: Code, at: Pos, message: impl Into<String>) {
        self.add(Problem::new(code, at, message));
    }

    pub fn add(&mut self, problem: Problem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(Problem::is_error)
    }

    pub fn sort(&mut self) {
        self.0.sort_by_key(|problem| (problem.at, problem.code.severity()));
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// One line per problem, without excerpts; `cli::check` prints more.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{}:{}: {}: {}", problem.at.line, problem.at.column, problem.code.as_str(), problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
