//! What a request costs: fixed, or by one input of the request (PROTOCOL section 3).

use super::{amount::Amount, request::Request};
use http::HeaderName;
use std::collections::BTreeMap;

/// The price rule of one way to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceRule {
    Fixed(Amount),
    Table {
        by: PriceInput,
        /// Normalised input value -> price; never zero.
        rows: BTreeMap<String, Amount>,
        /// For a missing or unlisted value; without it such a request is refused.
        default: Option<Amount>,
    },
}

/// What a table is keyed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceInput {
    Method,
    Header(HeaderName),
    Query(String),
    /// A JSON pointer into the request body.
    Json(String),
}

/// The normalised inputs a price rule read, in the order it read them; part of the offer's MAC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceInputs(Vec<(String, String)>);

impl PriceInputs {
    pub fn push(&mut self, name: String, value: String) {
        self.0.push((name, value));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A price and what it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub amount: Amount,
    pub inputs: PriceInputs,
}

/// Why a request has no price: it is refused, never free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// The input is absent and the rule has no default.
    #[error("{0} is missing; it sets the price of this request")]
    Missing(String),
    /// The input has a value the table does not list and the rule has no default.
    #[error("{0} has a value without a price")]
    Unlisted(String),
    /// The input occurs more than once or is not text: the upstream might read another value.
    #[error("{0} must occur once, as text, a number or a boolean")]
    Ambiguous(String),
    /// The body is needed and is not JSON (strict: UTF-8, no duplicate keys, bounded depth, no content encoding).
    #[error("the body must be plain JSON: {0}")]
    BodyNotJson(String),
}

impl PriceRule {
    /// The price of `request`. Reads the body only for [`PriceInput::Json`].
    pub fn evaluate(&self, request: &Request) -> Result<Price, PriceError> {
        let _ = request;
        todo!()
    }

    /// Every other price this rule could have quoted, to name why an offer does not fit.
    pub fn alternatives(&self) -> Vec<Price> {
        todo!()
    }
}
