//! What a metered request costs once its answer is known (PROTOCOL section 5): never above the ceiling that was offered.

use super::amount::Amount;
use http::HeaderName;

/// How a way to pay turns an answer into a charge. The offer's amount is the ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeRule {
    /// The ceiling itself.
    Fixed,
    Metered(Meter),
}

/// A count of units in the answer, times a unit price, rounded up, at least `floor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    pub source: MeterSource,
    pub price: UnitPrice,
    pub floor: Amount,
    pub on_unknown: OnUnknown,
}

/// Where the units are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeterSource {
    /// A response header with one non-negative decimal number.
    Header(HeaderName),
    /// A JSON pointer (RFC 6901) into the response body; of an event stream, into the data of the last event that has it.
    Json(String),
    /// Bytes of the response body as sent.
    Bytes,
}

/// `price` for every `units` units: `"10 sompi"` per 1,000 tokens is `{10, 1000}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitPrice {
    pub price: Amount,
    /// Never zero.
    pub units: u64,
}

/// What an answer without a readable meter costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// The ceiling.
    Ceiling,
    /// The floor.
    Floor,
    /// Nothing, and the answer is withheld (502); of a stream that is under way, the floor.
    Refuse,
}

impl std::fmt::Display for ChargeRule {
    /// As `explain` shows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Metered(meter) = self else { return f.write_str("fixed") };
        write!(f, "{} for every {} of ", meter.price.price.to_kas(), meter.price.units)?;
        match &meter.source {
            MeterSource::Header(name) => write!(f, "header {name}"),
            MeterSource::Json(pointer) => write!(f, "json {pointer}"),
            MeterSource::Bytes => f.write_str("response bytes"),
        }
    }
}
