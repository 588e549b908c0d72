//! The mirror of the YAML: every key, its meaning and its default, in one place.
//!
//! Reads shapes only. What a value means, and whether values fit each other, is `compile`'s business.

mod channels;
mod facilitator;
mod values;

pub use channels::*;
pub use facilitator::*;
pub use values::*;

use super::shape::{At, Named, OneOrMany, Shape, section};
use serde_json::{Value, json};

section! {
    /// The whole file.
    Root {
        /// The Kaspa network: `kaspa:testnet-10`, `kaspa:simnet` or `kaspa:mainnet`.
        network: String [required],
        /// Opt in to `kaspa:simnet`, for local development.
        allow_simnet: bool = false,
        /// Opt in to `kaspa:mainnet`: real money.
        allow_mainnet: bool = false,
        /// Scheme, host and port under which clients reach the gateway, for example `https://api.example.com`. Part of every request hash and offer.
        public_origin: String [required],
        /// Where the gateway listens: one address, or a list of addresses or mappings. Default `127.0.0.1:8402`.
        listen: OneOrMany<Listen>,
        /// Limits of the client side.
        edge: Edge,
        /// The Kaspa address that is paid, unless a route says otherwise.
        pay_to: String,
        /// The Kaspa nodes that decide what is paid. Required, unless `remote_facilitator` settles.
        node: NodeSection,
        /// Another gateway's facilitator that settles for this one, which then has no node and no server key.
        remote_facilitator: Remote,
        /// Where payments are kept.
        store: Store,
        /// Keys, from the environment or from files that only their owner can read; never written here.
        keys: Keys,
        /// Health, metrics and the admin API.
        admin: Admin,
        /// Logging.
        log: Log,
        /// Limits of the gateway itself.
        limits: Limits,
        /// Escrow channels: what holds for every route that is sold by `batch-settlement`.
        channels: Channels,
        /// Verification and settlement for other servers.
        facilitator: Facilitator,
        /// Browsers' access to offers and receipts: `any`, `off` (the upstream alone answers), or a list of origins. Default `any`.
        cors: Cors,
        /// Short for one upstream: its URL.
        upstream: String,
        /// Upstreams by name.
        upstreams: Named<UpstreamSection>,
        /// Defaults for every priced route.
        defaults: Sale,
        /// What is free and what costs what; the most specific route wins, whatever the order.
        routes: Vec<At<RouteSection>> [required],
        /// Requests without a route: `404`, or `forward` them for free.
        unmatched: Unmatched = Unmatched::NotFound,
    }
}

section! {
    /// A listener.
    ListenSection {
        /// IP address and port.
        address: String [required],
        /// Serve TLS (HTTP/1.1 and HTTP/2).
        tls: ListenTls,
    }
}

section! {
    /// Certificate of a listener.
    ListenTls {
        /// PEM file with the certificate chain.
        cert: String [required],
        /// PEM file with the private key.
        key: String [required],
    }
}

section! {
    /// Limits of the client side.
    Edge {
        /// Accept HTTP/2 without TLS on listeners without TLS, by prior knowledge.
        h2c: bool = false,
        /// Worker threads; 0 is one per processor.
        threads: u64 = 0u64,
        /// How long an idle client connection is kept.
        client_keepalive_seconds: u64 = 60u64,
        /// Longest silence of a client within a request.
        client_timeout_seconds: u64 = 60u64,
        /// Longest time for the whole body of a priced request.
        body_timeout_seconds: u64 = 120u64,
        /// Idle connections kept to all upstreams together; as many for priced requests, for free questions, and for free requests with a body.
        upstream_connections: u64 = 128u64,
        /// How long running requests may take after the gateway was told to stop.
        grace_seconds: u64 = 30u64,
    }
}

section! {
    /// The Kaspa nodes.
    NodeSection {
        /// wRPC (Borsh) URLs of your nodes, `ws://` or `wss://`; transactions go to all of them.
        urls: Vec<At<String>>,
        /// Use public nodes when no URL is given. Their strangers then decide what counts as paid.
        trust_public_nodes: bool = false,
    }
}

section! {
    /// The store.
    Store {
        /// `embedded` (SQLite, one gateway) or `redis` (one gateway or many). `memory` is for tests of the gateway itself and refused here.
        kind: StoreKind = StoreKind::Embedded,
        /// `embedded`: the store's file, relative to this file.
        path: String = "kas402.db",
        /// `redis`: `redis://host:6379/0`, `redis-sentinel://host,host/master-name` or `redis-cluster://host,host`, with `rediss` for TLS; `user@` before the hosts. `{env: NAME}` or `{file: PATH}` when a password stands in it.
        url: StoreUrl,
        /// `redis`: the password, when the URL has none.
        password: Secret,
        /// `redis`: PEM file with certificate authorities instead of the system's.
        ca_file: String,
        /// `redis`: begins every key. Stores with different prefixes are different stores.
        prefix: String = "kas402",
        /// `redis`: `strict` starts only when the server loses nothing it has acknowledged, and waits for its replicas; `standard` also starts when a crash or failover can lose the last second.
        durability: StoreDurability = StoreDurability::Strict,
        /// `redis` with `strict`: replicas that each master must have at start. All that follow a master must have a fact before it is answered, and never fewer than followed it at start.
        replicas: u64,
        /// `redis`: longest time to connect.
        connect_timeout_seconds: u64 = 2u64,
        /// `redis`: longest time for one step, with everything that is tried again.
        timeout_seconds: u64 = 5u64,
    }
}

section! {
    /// Keys.
    Keys {
        /// Keys that sign offers, see `kas402 keys new`. Default: the environment variable `KAS402_OFFER_KEYS` when it is set, else the file `offer.keys` beside the store.
        offer: Secret,
        /// Keys that sign claims of channels, see `kas402 keys new --server`. Required as soon as something is sold by `batch-settlement`.
        server: Secret,
    }
}

section! {
    /// The admin listener.
    Admin {
        /// `unix:/path`, or a loopback address and port. Default: the socket `admin.sock` beside the store.
        listen: String,
        /// Bearer token; required for a TCP listener.
        token: Secret,
    }
}

section! {
    /// Logging.
    Log {
        /// `human` or `json`.
        format: LogFormat = LogFormat::Human,
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,kas402::chain=debug`.
        level: String = "info",
    }
}

section! {
    /// Limits of the gateway itself.
    Limits {
        /// Blue score depth until which a payment is watched, and after which a conflicting spend is final.
        final_depth: u64 = crate::protocol::limits::FINAL_DEPTH,
        /// Payments that may wait for their finality at the same time; beyond it 503.
        waiting_payments: u64 = 1_000u64,
        /// How long stored responses are kept. Consumed payments are kept for ever.
        retention_seconds: u64 = 604_800u64,
        /// Keep `%2F` in paths as it stands instead of refusing it.
        encoded_slashes: bool = false,
    }
}

section! {
    /// An upstream.
    UpstreamSection {
        /// `http://` or `https://`, host, optional port and base path.
        url: String [required],
        /// The `Host` the upstream sees: `upstream` (its own name), `client` (what the client sent), or a fixed text.
        host_header: String = "upstream",
        /// Headers set on every forwarded request, for example credentials. Values come from the environment or files.
        headers: Named<Secret>,
        /// TLS to an `https://` upstream.
        tls: UpstreamTls,
        /// Longest time to connect.
        connect_timeout_seconds: u64 = 5u64,
        /// Longest silence while reading.
        read_timeout_seconds: u64 = 60u64,
        /// Longest block while writing.
        write_timeout_seconds: u64 = 60u64,
        /// How long an idle connection is kept.
        idle_timeout_seconds: u64 = 60u64,
    }
}

section! {
    /// TLS to an upstream.
    UpstreamTls {
        /// Name that is sent and verified. Default: the host of the URL.
        server_name: String,
        /// PEM file with certificate authorities instead of the system's.
        ca_file: String,
        /// Verify the certificate. `false` lets anybody on the way read and change everything.
        verify: bool = true,
    }
}

section! {
    /// How priced routes are sold: under `defaults` for all, in a route for one.
    Sale {
        /// When a payment counts: `accepted`, `{confirmed: 10}` or `{mempool: {max: "1 KAS", i_accept_the_risk: true}}`. Default `accepted`.
        finality: Finality,
        /// How long an offer can be paid.
        offer_seconds: u64 = 300u64,
        /// How long a request waits for finality before 503.
        settle_wait_seconds: u64 = 30u64,
        /// How long a paid request that was not delivered stays good.
        entitlement_seconds: u64 = crate::protocol::limits::ENTITLEMENT_SECONDS,
        /// Longest request body of a priced route; beyond it 413.
        body_limit_bytes: u64 = 1_048_576u64,
        /// Longest response body kept for repetitions.
        replay_limit_bytes: u64 = 1_048_576u64,
        /// Keep `Set-Cookie` in kept responses.
        replay_cookies: bool = false,
        /// Transactions the network knew before they were presented: `proven` (payer's key), `never`, or `any` (unsafe).
        observe: Observe = Observe::Proven,
        /// Upstream answers that count as delivered: `below_500`, `success` (2xx) or `any`.
        charge_on: ChargeOn = ChargeOn::Below500,
        /// Refuse `exact` payments that are not bound to their request by `requestHash`. Vouchers never are.
        require_request_hash: bool = false,
        /// `optional` or `required`. Always required where `batch-settlement` is among the ways to pay.
        payment_identifier: Identifier = Identifier::Optional,
        /// Whole upstream exchange of a paid request.
        timeout_seconds: u64 = 120u64,
    }
}

section! {
    /// A route. Exactly one of `free`, `price` and `accepts`.
    RouteSection {
        /// Stable name; part of every offer, in logs and metrics. Default: made of methods, host, path and conditions.
        id: String,
        /// Only for this host name; default any.
        host: String,
        /// `/a/b`, `/a/{id}`, `/v1/{model}:run`, `/files/{*rest}`.
        path: String [required],
        /// Only these methods; default all.
        methods: Vec<At<String>>,
        /// Only when all of these hold.
        when: When,
        /// Name of the upstream; default the only one, or `default`.
        upstream: String,
        /// Origin under which clients reach this route. Default: `public_origin` with `host`, when there is one.
        public_origin: String,
        /// `http`, or `mcp`: an MCP server over Streamable HTTP, whose `tools` are sold one by one and everything else is free.
        kind: RouteKind = RouteKind::Http,
        /// With `kind: mcp`: the tools that are sold, and exceptions from patterns.
        tools: Vec<At<ToolSection>>,
        /// With `kind: mcp`: where the prices of tools stand in `tools/list`: in their `meta`, in `description` too, or `off`. Default `meta`.
        list_prices: ListPrices = ListPrices::Meta,
        /// With `kind: mcp`: longest message of the server that is held: the result of a tool that is sold, or one event of a stream.
        message_limit_bytes: u64 = 4_194_304u64,
        /// Forward without payment.
        free: bool = false,
        /// One price: `"0.25 KAS"`, `"25000000 sompi"`, or a table by one input.
        price: Price,
        /// How `price` is paid: `exact` (one transaction per request) or `batch-settlement` (a voucher on an escrow channel). Default `exact`.
        scheme: Scheme,
        /// With `batch-settlement`: the least a channel is opened with. Default: 20 times the highest price, at least 1 KAS.
        min_deposit: String,
        /// With `batch-settlement`: what a request costs once its answer is known; `price` is then the most it can cost. Default: `price` itself.
        charge: Charge,
        /// Several ways to pay, in the order they are offered.
        accepts: Vec<At<AcceptSection>>,
        /// The Kaspa address that is paid; default the top level's.
        pay_to: String,
        /// Shown in the offer.
        description: String,
        /// Shown in the offer.
        mime_type: String,
        /// See `defaults`.
        finality: Finality,
        /// See `defaults`.
        offer_seconds: u64,
        /// See `defaults`.
        settle_wait_seconds: u64,
        /// See `defaults`.
        entitlement_seconds: u64,
        /// See `defaults`.
        body_limit_bytes: u64,
        /// See `defaults`.
        replay_limit_bytes: u64,
        /// See `defaults`.
        replay_cookies: bool,
        /// See `defaults`.
        observe: Observe,
        /// See `defaults`.
        charge_on: ChargeOn,
        /// See `defaults`.
        require_request_hash: bool,
        /// See `defaults`.
        payment_identifier: Identifier,
        /// See `defaults`.
        timeout_seconds: u64,
    }
}

section! {
    /// A tool of an MCP server, or several. Exactly one of `free`, `price` and `accepts`; what else is not written is the route's.
    ToolSection {
        /// The tool's name, or a pattern with `*`. A name goes before patterns, a longer pattern before a shorter one.
        tool: String [required],
        /// Stable name; part of every offer. Default: the route's id, `#` and the name.
        id: String,
        /// Not sold, although a pattern takes it.
        free: bool = false,
        /// As in a route; a table is by `{argument: /pointer}` into the arguments.
        price: Price,
        /// As in a route.
        scheme: Scheme,
        /// As in a route.
        min_deposit: String,
        /// As in a route; `json` points into the result, `bytes` counts those of the result, a header is not read.
        charge: Charge,
        /// As in a route.
        accepts: Vec<At<AcceptSection>>,
        /// Results with `isError`: `charge` for them as for others, or `free`.
        on_error: OnError = OnError::Charge,
        /// The Kaspa address that is paid; default the route's.
        pay_to: String,
        /// Shown in the offer.
        description: String,
        /// See `defaults`.
        finality: Finality,
        /// See `defaults`.
        offer_seconds: u64,
        /// See `defaults`.
        settle_wait_seconds: u64,
        /// See `defaults`.
        entitlement_seconds: u64,
        /// See `defaults`.
        replay_limit_bytes: u64,
        /// See `defaults`.
        observe: Observe,
        /// See `defaults`.
        require_request_hash: bool,
        /// See `defaults`.
        payment_identifier: Identifier,
        /// See `defaults`; counts from the server's last message.
        timeout_seconds: u64,
    }
}

section! {
    /// One way to pay.
    AcceptSection {
        /// Stable name of this way; default its number. Offers made under a name stay good while the name and its terms do.
        id: String,
        /// As in a route.
        price: Price [required],
        /// The Kaspa address that is paid; default the route's.
        pay_to: String,
        /// As in a route.
        scheme: Scheme,
        /// As in a route.
        min_deposit: String,
        /// As in a route.
        charge: Charge,
        /// See `defaults`.
        finality: Finality,
    }
}

section! {
    /// Conditions.
    When {
        /// Headers: the value that is required, or `true` for any.
        header: Named<Wanted>,
        /// Query parameters: the value that is required, or `true` for any.
        query: Named<Wanted>,
    }
}

section! {
    /// A price table.
    PriceTable {
        /// The input: `method`, `{header: X-Tier}`, `{query: size}` or `{json: /model}` (a JSON pointer into the body). Of a tool: `{argument: /size}`.
        by: PriceBy [required],
        /// Value of the input -> price.
        table: Named<String> [required],
        /// Price for a missing or unlisted value; without it such a request is refused.
        default: String,
    }
}

section! {
    /// The input of a price table.
    PriceByField {
        /// Name of a header.
        header: String,
        /// Name of a query parameter.
        query: String,
        /// JSON pointer into the body.
        json: String,
        /// JSON pointer into the arguments of a tool.
        argument: String,
    }
}

section! {
    /// A secret: from the environment or from a file of mode 0600.
    Secret {
        /// Name of an environment variable.
        env: String,
        /// Path of a file that only its owner can read, relative to this file.
        file: String,
    }
}

section! {
    /// Finality with a depth or a risk.
    FinalityField {
        /// Blue score depth above the accepting block.
        confirmed: u64,
        /// In the mempool: replaceable until accepted.
        mempool: Mempool,
    }
}

section! {
    /// Terms of mempool finality.
    Mempool {
        /// The most that is sold at this risk.
        max: String [required],
        /// Must be `true`.
        i_accept_the_risk: bool = false,
    }
}

/// Unknown keys of the file are refused, so this is exactly what a file may hold.
pub fn schema() -> Value {
    let mut schema = Root::schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("kas402 configuration");
    schema
}
