//! What an answer costs: reads the meter of a response while it passes (PROTOCOL section 5).
//!
//! Promises: never above the ceiling; the same charge however the body is cut into chunks; bounded memory; no bytes of a body make
//! it fail. Never holds back or changes the body, and knows no store. Called by what delivers a response that is paid from a channel.

use super::sse::{self, Events};
use crate::protocol::{
    amount::Amount,
    charge::{ChargeRule, Meter, MeterSource},
    inputs::{self, Once},
    limits::METER_JSON_BYTES,
    units::Units,
};
use http::HeaderMap;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Ending {
    Complete,
    /// The client went away first.
    ClientLeft,
    /// The upstream did not send all of it.
    UpstreamBroke,
}

/// What a response costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::gateway) enum Charged {
    Amount(Amount),
    /// The meter cannot be read and the rule refuses: nothing is charged and the answer is withheld.
    Refused,
}

impl Charged {
    /// The charge where nothing can be withheld any more: see [`MeterReader::unknown_in_stream`].
    pub fn amount_or(self, unknown_in_stream: Amount) -> Amount {
        match self {
            Self::Amount(amount) => amount,
            Self::Refused => unknown_in_stream,
        }
    }
}

/// The meter of one response. Its chunks are given to it as they pass, then the end.
#[derive(Debug)]
pub(in crate::gateway) struct MeterReader {
    ceiling: Amount,
    /// `None` for a fixed charge.
    meter: Option<Meter>,
    count: Count,
}

/// What was counted so far.
#[derive(Debug)]
enum Count {
    /// Of the head, for good; `None` when it is not readable.
    Head(Option<Units>),
    Bytes(u64),
    /// Of the last event that had a number at the pointer.
    Events {
        pointer: String,
        events: Events,
        last: Option<Units>,
    },
    /// A JSON body as far as it came; `None` once it is too long.
    Document {
        pointer: String,
        body: Option<Vec<u8>>,
    },
}

impl MeterReader {
    /// `headers`: those of the response, as the upstream sent them.
    pub fn new(rule: &ChargeRule, ceiling: Amount, headers: &HeaderMap) -> Self {
        let ChargeRule::Metered(meter) = rule else { return Self { ceiling, meter: None, count: Count::Head(None) } };
        let count = match &meter.source {
            MeterSource::Header(name) => match inputs::header(headers, name) {
                Once::One(text) => Count::Head(Units::parse(text)),
                Once::Absent | Once::Ambiguous => Count::Head(None),
            },
            MeterSource::Bytes => Count::Bytes(0),
            MeterSource::Json(_) if !inputs::plainly_coded(headers) => Count::Head(None),
            MeterSource::Json(pointer) if sse::is_event_stream(headers) => {
                Count::Events { pointer: pointer.clone(), events: Events::default(), last: None }
            }
            MeterSource::Json(pointer) => Count::Document { pointer: pointer.clone(), body: Some(Vec::new()) },
        };
        Self { ceiling, meter: Some(meter.clone()), count }
    }

    /// The charge for a response whose whole body is held; a JSON body may have any length.
    pub fn whole(rule: &ChargeRule, ceiling: Amount, headers: &HeaderMap, body: &[u8]) -> Charged {
        let mut reader = Self::new(rule, ceiling, headers);
        if let Count::Document { pointer, .. } = &reader.count {
            reader.count = Count::Head(Units::at(body, pointer));
        } else {
            reader.chunk(body);
        }
        reader.finish(Ending::Complete)
    }

    /// The next bytes of the body.
    pub fn chunk(&mut self, bytes: &[u8]) {
        match &mut self.count {
            Count::Head(_) => {}
            Count::Bytes(count) => *count = count.saturating_add(u64::try_from(bytes.len()).expect("a length fits 64 bits")),
            Count::Events { pointer, events, last } => {
                events.feed(bytes, &mut |data| *last = Units::at(data, pointer).or(*last));
            }
            Count::Document { body, .. } => match body {
                Some(kept) if kept.len() + bytes.len() <= METER_JSON_BYTES => kept.extend_from_slice(bytes),
                _ => *body = None,
            },
        }
    }

    /// The charge by what has passed so far. `None` while nothing was read, and always for a fixed charge and for a JSON body, which
    /// only their end decides.
    pub fn reading(&self) -> Option<Amount> {
        let units = match &self.count {
            Count::Head(units) => *units,
            Count::Bytes(count) => Some((*count).into()),
            Count::Events { last, .. } => *last,
            Count::Document { .. } => None,
        };
        self.charge(units)
    }

    /// The charge when nothing can be read: of a fixed one the ceiling.
    pub fn unknown(&self) -> Charged {
        match &self.meter {
            None => Charged::Amount(self.ceiling),
            Some(meter) => meter.unknown(self.ceiling).map_or(Charged::Refused, Charged::Amount),
        }
    }

    /// The same when the answer is out already: instead of a refusal the floor.
    pub fn unknown_in_stream(&self) -> Amount {
        let floor = self.meter.as_ref().map_or(self.ceiling, |meter| meter.floor(self.ceiling));
        self.unknown().amount_or(floor)
    }

    /// The charge as far as the head decides it; else the ceiling, for what has to be charged before its body came.
    pub fn before_the_body(self) -> Charged {
        match &self.count {
            Count::Head(units) => self.charge(*units).map_or_else(|| self.unknown(), Charged::Amount),
            Count::Bytes(_) | Count::Events { .. } | Count::Document { .. } => Charged::Amount(self.ceiling),
        }
    }

    /// The charge. Refuses only a complete response.
    pub fn finish(mut self, ending: Ending) -> Charged {
        match ending {
            Ending::Complete => {
                let unknown = self.unknown();
                self.complete();
                self.reading().map_or(unknown, Charged::Amount)
            }
            Ending::ClientLeft => Charged::Amount(self.reading().unwrap_or_else(|| self.unknown_in_stream())),
            // Not even the floor for an answer of which nothing came.
            Ending::UpstreamBroke if matches!(self.count, Count::Bytes(0)) => Charged::Amount(Amount::ZERO),
            Ending::UpstreamBroke => Charged::Amount(self.reading().unwrap_or(Amount::ZERO)),
        }
    }

    /// Reads what only a complete body tells.
    fn complete(&mut self) {
        let units = match std::mem::replace(&mut self.count, Count::Head(None)) {
            Count::Events { pointer, events, mut last } => {
                events.end(&mut |data| last = Units::at(data, &pointer).or(last));
                last
            }
            Count::Document { pointer, body } => body.and_then(|body| Units::at(&body, &pointer)),
            Count::Head(units) => units,
            Count::Bytes(count) => Some(count.into()),
        };
        self.count = Count::Head(units);
    }

    fn charge(&self, units: Option<Units>) -> Option<Amount> {
        Some(self.meter.as_ref()?.charge(units?, self.ceiling))
    }
}

#[cfg(test)]
mod tests;
