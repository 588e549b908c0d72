//! The `channels` section: times, exposure, claims, and whether channels may be sold here at all.

use super::{Context, prices};
use crate::{
    config::{
        problem::{Code, Pos},
        raw::{self, Root},
        shape::At,
        words,
    },
    protocol::{
        amount::Amount,
        limits::DAA_PER_SECOND,
        network::Network,
        policy::{Channels, ClaimPolicy, Exposure},
    },
};
use std::time::Duration;

/// Longest time in this section, seconds: a year. Keeps timeouts far from where the network would read a time of day.
const MAX_SECONDS: u64 = 365 * 86_400;
/// Shortest default lead, seconds: what an operator may need to see that claims fail.
const LEAD_SECONDS: u64 = 3_600;
/// The lead is at least this many final depths: a claim, its loss in a reorganisation, and the claim again.
const LEAD_DEPTHS: u64 = 3;
/// The word for no limit.
const UNLIMITED: &str = "none";
/// Deposits locked longer are warned of, seconds.
const LONG_SECONDS: u64 = 30 * 86_400;

/// Where the file asks for channels.
pub struct Asked {
    /// The first way to pay by `batch-settlement`.
    pub sold: Option<Pos>,
    /// `keys.server`: also without a route, for the channels that are left.
    pub keys: Option<Pos>,
    /// The first tenant of the facilitator with keys of its own.
    pub tenants: Option<Pos>,
}

impl Asked {
    pub fn of(root: &Root) -> Self {
        let routes = || root.routes.iter().flat_map(|routes| &routes.value);
        let listed = |list: Option<&At<Vec<At<raw::AcceptSection>>>>| -> Vec<_> {
            list.iter().flat_map(|list| &list.value).filter_map(|way| way.value.scheme.clone()).collect()
        };
        let ways = |route: &'_ At<raw::RouteSection>| {
            let route = &route.value;
            let tools = route.tools.iter().flat_map(|tools| &tools.value);
            let tools = tools.flat_map(|tool| tool.value.scheme.clone().into_iter().chain(listed(tool.value.accepts.as_ref())));
            route.scheme.clone().into_iter().chain(listed(route.accepts.as_ref())).chain(tools).collect::<Vec<_>>()
        };
        let sold = routes().flat_map(ways).find(|scheme| scheme.value == raw::Scheme::Batch).map(|scheme| scheme.at);
        let tenants = super::facilitator::asks_for_channels(root);
        Self { sold, tenants, keys: root.keys.as_ref().and_then(|keys| keys.value.server.as_ref()).map(|server| server.at) }
    }

    /// Where to complain about what no line says.
    pub fn at(&self) -> Option<Pos> {
        self.sold.or(self.keys).or(self.tenants)
    }
}

/// Where a key stands, else where it is missing.
pub fn place<T>(field: Option<&At<T>>, missing: Pos) -> Pos {
    field.map_or(missing, |field| field.at)
}

/// The section as written, and where what it leaves out is missing.
pub fn section(root: &Root, asked: &Asked) -> (raw::Channels, Pos) {
    let written = root.channels.as_ref();
    let missing = written.map(|section| section.at).or(asked.at()).unwrap_or_default();
    (written.map(|section| section.value.clone()).unwrap_or_default(), missing)
}

/// What the section says, as far as it is right.
pub struct Parts {
    pub times: Option<Times>,
    pub confirmations: u64,
    /// Without the limits that are wrong.
    pub exposure: Exposure,
    pub claims: Option<ClaimPolicy>,
}

impl Parts {
    /// The policy of all channels.
    pub fn whole(self) -> Option<Channels> {
        let times = self.times?;
        Some(Channels {
            refund_horizon_daa: times.horizon,
            refund_epoch_daa: times.epoch,
            refund_lead_daa: times.lead,
            confirmations: self.confirmations,
            exposure: self.exposure,
            claims: self.claims?,
        })
    }
}

/// `None` where nothing is asked for. A section is judged also where nothing is sold from channels.
pub fn parts(root: &Root, asked: &Asked, cx: &mut Context<'_>) -> Option<Parts> {
    if asked.at().is_none() && root.channels.is_none() {
        return None;
    }
    let (raw, missing) = section(root, asked);
    let times = times(root, &raw, missing, cx);
    let (confirmations, at) = (raw.confirmations(), place(raw.confirmations.as_ref(), missing));
    prices::usual_depth(confirmations, at, cx);
    if times.as_ref().is_some_and(|times| confirmations >= times.service) {
        cx.problem(Code::RefundTimes, at, "a deposit would count only when its channel is served no more");
    }
    let exposure = exposure(&raw, missing, cx);
    let claims = claims(&raw, missing, times.as_ref(), cx);
    Some(Parts { times, confirmations, exposure, claims })
}

/// The shortest lead with which the last claim is final before the refund, DAA score.
pub fn least_lead(final_depth: u64) -> u64 {
    final_depth.saturating_mul(LEAD_DEPTHS)
}

/// In DAA score.
pub struct Times {
    pub horizon: u64,
    pub epoch: u64,
    pub lead: u64,
    /// From the opening of a channel to its lead.
    pub service: u64,
}

fn times(root: &Root, raw: &raw::Channels, missing: Pos, cx: &mut Context<'_>) -> Option<Times> {
    let horizon_at = place(raw.refund_horizon_seconds.as_ref(), missing);
    let horizon = score(raw.refund_horizon_seconds(), horizon_at, cx);
    let epoch_at = place(raw.refund_epoch_seconds.as_ref(), missing);
    let epoch = score(raw.refund_epoch_seconds(), epoch_at, cx);
    let final_depth = root.limits.as_ref().map(|limits| limits.value.clone()).unwrap_or_default().final_depth();
    let least = least_lead(final_depth);
    let lead_at = place(raw.refund_lead_seconds.as_ref(), missing);
    let lead = match &raw.refund_lead_seconds {
        Some(seconds) => score(seconds.value, lead_at, cx),
        None => Some(least.max(LEAD_SECONDS * DAA_PER_SECOND)),
    };
    let (horizon, lead) = (horizon?, lead?);
    if lead < least {
        let message = format!(
            "{} is less than three times limits.final_depth ({final_depth}): write at least {}",
            words::daa(lead),
            least.div_ceil(DAA_PER_SECOND)
        );
        cx.problem(Code::RefundTimes, lead_at, message);
    }
    if epoch.is_some_and(|epoch| epoch > horizon) {
        cx.problem(Code::RefundTimes, epoch_at, "timeouts are not rounded by more than `refund_horizon_seconds`");
    }
    let Some(service) = horizon.checked_sub(lead).filter(|service| *service > 0) else {
        let message = format!("no channel is ever served: its lead of {} is not shorter than its horizon", words::daa(lead));
        cx.problem(Code::RefundTimes, horizon_at, message);
        return None;
    };
    if horizon > LONG_SECONDS * DAA_PER_SECOND {
        let message = format!("what a client deposits and does not spend is locked for {}", words::daa(horizon));
        cx.problem(Code::HorizonLong, horizon_at, message);
    }
    Some(Times { horizon, epoch: epoch?, lead, service })
}

/// Seconds as DAA score.
fn score(seconds: u64, at: Pos, cx: &mut Context<'_>) -> Option<u64> {
    if (1..=MAX_SECONDS).contains(&seconds) {
        return seconds.checked_mul(DAA_PER_SECOND);
    }
    cx.problem(Code::BadValue, at, format!("this must be between 1 and {MAX_SECONDS} (a year)"));
    None
}

fn exposure(raw: &raw::Channels, missing: Pos, cx: &mut Context<'_>) -> Exposure {
    let raw = raw.exposure.as_ref().map(|exposure| exposure.value.clone()).unwrap_or_default();
    for (field, text) in [(&raw.per_payer, raw.per_payer()), (&raw.per_refund_address, raw.per_refund_address())] {
        if text == UNLIMITED {
            let message = "a client that opens many channels can owe, without limit, amounts that are too small to be claimed";
            cx.problem(Code::ExposureUnlimited, place(field.as_ref(), missing), message);
        }
    }
    let mut limit = |field: &Option<At<String>>, text: String| match text.as_str() {
        UNLIMITED => None,
        text => prices::amount(text, place(field.as_ref(), missing), cx),
    };
    Exposure {
        per_channel: limit(&raw.per_channel, raw.per_channel()),
        per_payer: limit(&raw.per_payer, raw.per_payer()),
        per_refund_address: limit(&raw.per_refund_address, raw.per_refund_address()),
        total: limit(&raw.total, raw.total()),
        unconfirmed: prices::amount(&raw.unconfirmed(), place(raw.unconfirmed.as_ref(), missing), cx).unwrap_or(Amount::ZERO),
    }
}

fn claims(raw: &raw::Channels, missing: Pos, times: Option<&Times>, cx: &mut Context<'_>) -> Option<ClaimPolicy> {
    let raw = raw.claims.as_ref().map(|claims| claims.value.clone()).unwrap_or_default();
    if !raw.automatic() {
        let message = "claim with `kas402 claim` before the refund timeouts: what is not claimed by then is lost";
        cx.problem(Code::ClaimsManual, place(raw.automatic.as_ref(), missing), message);
    }
    let above = prices::amount(&raw.above(), place(raw.above.as_ref(), missing), cx);
    let after = raw.after_seconds();
    if after == 0 {
        cx.problem(Code::BadValue, place(raw.after_seconds.as_ref(), missing), "this must be at least 1");
    }
    let percent_at = place(raw.max_fee_percent.as_ref(), missing);
    let percent = u8::try_from(raw.max_fee_percent()).ok().filter(|percent| (1..=100).contains(percent));
    if percent.is_none() {
        cx.problem(Code::BadValue, percent_at, "this must be between 1 and 100");
    }
    let before_refund = before_refund(&raw, missing, times, cx);
    Some(ClaimPolicy {
        automatic: raw.automatic(),
        above: above?,
        after: Duration::from_secs(after),
        before_refund_daa: before_refund?,
        max_fee_percent: percent?,
        priority_sompi_per_gram: raw.priority_sompi_per_gram(),
    })
}

fn before_refund(raw: &raw::Claims, missing: Pos, times: Option<&Times>, cx: &mut Context<'_>) -> Option<u64> {
    let Some(seconds) = &raw.before_refund_seconds else {
        return times.map(|times| times.lead.saturating_add(times.lead.min(times.service / 2)));
    };
    let at = place(Some(seconds), missing);
    let before = score(seconds.value, at, cx)?;
    let times = times?;
    if before < times.lead {
        cx.problem(Code::RefundTimes, at, format!("at least `refund_lead_seconds` ({})", times.lead.div_ceil(DAA_PER_SECOND)));
    }
    if before >= times.horizon {
        cx.problem(Code::RefundTimes, at, "less than `refund_horizon_seconds`, or every charge is claimed at once");
    }
    Some(before)
}

/// Whether offers say when channels are claimed.
pub fn announced(root: &Root) -> bool {
    root.channels.as_ref().and_then(|section| section.value.claims.as_ref()).is_some_and(|claims| claims.value.announce())
}

/// Refuses channels where a mistake or a stranger's word costs somebody's deposit.
pub fn allowed(root: &Root, asked: &Asked, cx: &mut Context<'_>) {
    let Some(at) = asked.at() else { return };
    if cx.network == Network::Mainnet {
        cx.problem(Code::BatchMainnet, at, "batch-settlement is refused on mainnet: its escrow script was not audited");
    }
    if root.node.as_ref().is_some_and(|node| node.value.trust_public_nodes()) {
        cx.problem(Code::BatchPublicNodes, at, "batch-settlement needs nodes of your own (`node.urls`)");
    }
}

/// An exposure limit, its name, and where it stands or is missing.
pub fn limits(exposure: &Exposure, raw: &raw::Channels, missing: Pos) -> [(&'static str, Option<Amount>, Pos); 4] {
    let raw = raw.exposure.as_ref().map(|exposure| exposure.value.clone()).unwrap_or_default();
    [
        ("per_channel", exposure.per_channel, place(raw.per_channel.as_ref(), missing)),
        ("per_payer", exposure.per_payer, place(raw.per_payer.as_ref(), missing)),
        ("per_refund_address", exposure.per_refund_address, place(raw.per_refund_address.as_ref(), missing)),
        ("total", exposure.total, place(raw.total.as_ref(), missing)),
    ]
}
