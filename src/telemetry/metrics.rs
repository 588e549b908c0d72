//! Prometheus metrics of the money path, one registry per gateway.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder, exponential_buckets,
};

/// Every metric of the gateway; names and meanings are listed in `docs/operating.md`.
pub struct Metrics {
    registry: Registry,
    /// Requests by `outcome`.
    pub requests: Outcomes,
    /// Refusals by `code`.
    pub refusals: IntCounterVec,
    /// Calls of the facilitator by `tenant`, `call` and `code`.
    facilitator: IntCounterVec,
    /// Sompi charged since start.
    pub charged_sompi: IntCounter,
    /// Payments taken back by a final conflicting spend since start.
    pub reversed: IntCounter,
    /// Sompi of those.
    pub reversed_sompi: IntCounter,
    /// From the claim to the route's finality.
    pub settle_seconds: Histogram,
    /// From the node's acceptance reaching us to the request being forwarded.
    pub release_seconds: Histogram,
    /// The upstream's whole answer to a paid request.
    pub upstream_seconds: Histogram,
    /// Payments being settled or served now.
    pub waiting: IntGauge,
    /// Payments followed on the chain.
    pub followed: IntGauge,
    /// 1 while the node is usable.
    pub node_ready: IntGauge,
    /// 1 while the store takes writes.
    pub store_ready: IntGauge,
    /// Virtual DAA score.
    pub daa_score: IntGauge,
    /// Channels whose escrow is not known to be spent.
    pub channels_open: IntGauge,
    /// Sompi charged and not claimed: what is lost when the escrows are spent elsewhere.
    pub unclaimed_sompi: IntGauge,
    /// Sompi reserved for requests and streams that run.
    pub reserved_sompi: IntGauge,
    /// Claims and top-ups by `step`.
    pub claims: Claims,
    /// Fees of final claims.
    pub claim_fee_sompi: IntCounter,
    /// Claims that are not accepted for a long time.
    pub claims_stuck: IntGauge,
    /// Channels that are due and not worth their claim.
    pub claims_uneconomic: IntGauge,
    /// Channels whose escrow the client spent since start.
    pub channels_closed_by_client: IntCounter,
    /// Sompi charged, never claimed, and gone for good since start.
    pub lost_sompi: IntCounter,
}

/// One counter per step of a claim or top-up.
pub struct Claims {
    pub built: IntCounter,
    pub accepted: IntCounter,
    pub is_final: IntCounter,
    pub taken_back: IntCounter,
    pub dropped: IntCounter,
}

impl Claims {
    fn of(family: &IntCounterVec) -> Self {
        let [built, accepted, is_final, taken_back, dropped] =
            ["built", "accepted", "final", "taken_back", "dropped"].map(|step| family.with_label_values(&[step]));
        Self { built, accepted, is_final, taken_back, dropped }
    }
}

/// One counter per outcome of a request, looked up once: every request counts in one.
pub struct Outcomes {
    pub free: IntCounter,
    pub offered: IntCounter,
    pub paid: IntCounter,
    pub replayed: IntCounter,
    pub refused: IntCounter,
}

impl Outcomes {
    fn of(family: &IntCounterVec) -> Self {
        let [free, offered, paid, replayed, refused] =
            ["free", "offered", "paid", "replayed", "refused"].map(|outcome| family.with_label_values(&[outcome]));
        Self { free, offered, paid, replayed, refused }
    }
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        Self {
            requests: Outcomes::of(&counters(&registry, "kas402_requests_total", "Requests by outcome", "outcome")),
            refusals: counters(&registry, "kas402_refusals_total", "Refusals by code", "code"),
            facilitator: register(
                &registry,
                IntCounterVec::new(Opts::new("kas402_facilitator_calls_total", "Calls of the facilitator"), &["tenant", "call", "code"]),
            ),
            charged_sompi: counter(&registry, "kas402_charged_sompi_total", "Sompi charged since start"),
            reversed: counter(&registry, "kas402_reversed_total", "Payments taken back since start"),
            reversed_sompi: counter(&registry, "kas402_reversed_sompi_total", "Sompi taken back since start"),
            settle_seconds: histogram(&registry, "kas402_settle_seconds", "Claim to finality"),
            release_seconds: histogram(&registry, "kas402_release_seconds", "Acceptance seen to request forwarded"),
            upstream_seconds: histogram(&registry, "kas402_upstream_seconds", "Upstream's whole answer to a paid request"),
            waiting: gauge(&registry, "kas402_waiting", "Payments being settled or served"),
            followed: gauge(&registry, "kas402_followed", "Payments followed on the chain"),
            node_ready: gauge(&registry, "kas402_node_ready", "1 while the node is usable"),
            store_ready: gauge(&registry, "kas402_store_ready", "1 while the store takes writes"),
            daa_score: gauge(&registry, "kas402_daa_score", "Virtual DAA score of the node"),
            channels_open: gauge(&registry, "kas402_channels_open", "Channels whose escrow is not known to be spent"),
            unclaimed_sompi: gauge(&registry, "kas402_unclaimed_sompi", "Sompi charged and not claimed"),
            reserved_sompi: gauge(&registry, "kas402_reserved_sompi", "Sompi reserved for requests and streams that run"),
            claims: Claims::of(&counters(&registry, "kas402_claims_total", "Claims and top-ups by step", "step")),
            claim_fee_sompi: counter(&registry, "kas402_claim_fee_sompi_total", "Fees of final claims"),
            claims_stuck: gauge(&registry, "kas402_claims_stuck", "Claims not accepted for a long time"),
            claims_uneconomic: gauge(&registry, "kas402_claims_uneconomic", "Channels due and not worth their claim"),
            channels_closed_by_client: counter(&registry, "kas402_channels_closed_by_client_total", "Channels closed by a refund"),
            lost_sompi: counter(&registry, "kas402_lost_sompi_total", "Sompi charged, never claimed, and gone for good"),
            registry,
        }
    }

    /// One call of the facilitator: without a tenant a stranger's, without a code a good one.
    pub fn facilitated(&self, tenant: Option<&str>, call: &str, code: Option<&str>) {
        self.facilitator.with_label_values(&[tenant.unwrap_or("-"), call, code.unwrap_or("ok")]).inc();
    }

    /// The text exposition format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("metrics encode to memory");
        String::from_utf8(text).expect("the exposition format is UTF-8")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: Result<C, prometheus::Error>) -> C {
    let metric = metric.expect("names and labels are constants that prometheus accepts");
    registry.register(Box::new(metric.clone())).expect("names are unique");
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), &[label]))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn histogram(registry: &Registry, name: &str, help: &str) -> Histogram {
    let buckets = exponential_buckets(0.0005, 2.0, 18).expect("constants that prometheus accepts");
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_render_by_name() {
        let metrics = Metrics::new();
        metrics.refusals.with_label_values(&["offer_expired"]).inc();
        assert!(metrics.render().contains("kas402_refusals_total{code=\"offer_expired\"} 1"));
    }
}
