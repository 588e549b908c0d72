//! Values with more than one way to write them, and closed lists of words.

use super::{FinalityField, ListenSection, PriceByField, PriceTable, Secret};
use crate::config::{
    problem::{Code, Problems},
    shape::{At, Shape, words, wrong},
    yaml::{Kind, Node},
};
use serde_json::{Value, json};

words! {
    StoreKind { Embedded = "embedded", Redis = "redis", Memory = "memory", }
}
words! {
    StoreDurability { Strict = "strict", Standard = "standard", }
}
words! {
    LogFormat { Human = "human", Json = "json", }
}
words! {
    Observe { Proven = "proven", Never = "never", Any = "any", }
}
words! {
    ChargeOn { Below500 = "below_500", Success = "success", Any = "any", }
}
words! {
    Identifier { Optional = "optional", Required = "required", }
}
words! {
    RouteKind { Http = "http", Mcp = "mcp", }
}
words! {
    ListPrices { Meta = "meta", Description = "description", Off = "off", }
}
words! {
    OnError { Charge = "charge", Free = "free", }
}
words! {
    Scheme { Exact = "exact", Batch = "batch-settlement", }
}
words! {
    OnUnknown { Ceiling = "ceiling", Floor = "floor", Refuse = "refuse", }
}
words! {
    Unmatched { NotFound = "404", Forward = "forward", }
}

/// An address, or a mapping with more.
#[derive(Clone, Debug)]
pub struct Listen(pub ListenSection);

impl Shape for Listen {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => ListenSection::read(node, problems).map(Self),
            _ => At::read(node, problems)
                .map(|address| Self(ListenSection { at: node.at, address: Some(address), ..ListenSection::default() })),
        }
    }

    fn schema() -> Value {
        json!({"oneOf": [{"type": "string"}, ListenSection::schema()]})
    }
}

/// A URL without a secret, or a secret that is one.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    Plain(String),
    Secret(Secret),
}

impl Shape for StoreUrl {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => Secret::read(node, problems).map(Self::Secret),
            _ => String::read(node, problems).map(Self::Plain),
        }
    }

    fn schema() -> Value {
        json!({"oneOf": [{"type": "string"}, Secret::schema()]})
    }
}

/// A fixed price, or a table.
#[derive(Clone, Debug)]
pub enum Price {
    Fixed(String),
    Table(Box<PriceTable>),
}

impl Shape for Price {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => PriceTable::read(node, problems).map(|table| Self::Table(Box::new(table))),
            _ => String::read(node, problems).map(Self::Fixed),
        }
    }

    fn schema() -> Value {
        json!({"oneOf": [{"type": "string"}, PriceTable::schema()]})
    }
}

#[derive(Clone, Debug)]
pub enum PriceBy {
    Method,
    Field(Box<PriceByField>),
}

impl Shape for PriceBy {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) if entries.len() == 1 => PriceByField::read(node, problems).map(|field| Self::Field(Box::new(field))),
            Kind::Text(text) if text == "method" => Some(Self::Method),
            _ => {
                problems.push(
                    Code::BadValue,
                    node.at,
                    "this must be method, or one of {header: ...}, {query: ...}, {json: ...}; of a tool {argument: ...}",
                );
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"oneOf": [{"const": "method"}, PriceByField::schema()]})
    }
}

/// What a condition requires.
#[derive(Clone, Debug)]
pub enum Wanted {
    Present,
    Value(String),
}

impl Shape for Wanted {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Bool(true) => Some(Self::Present),
            Kind::Bool(false) => {
                problems.push(Code::BadValue, node.at, "absence cannot be required; write \"false\" in quotes for that text");
                None
            }
            _ => String::read(node, problems).map(Self::Value),
        }
    }

    fn schema() -> Value {
        json!({"oneOf": [{"const": true}, {"type": ["string", "integer"]}]})
    }
}

#[derive(Clone, Debug)]
pub enum Finality {
    Accepted,
    Other(Box<FinalityField>),
}

impl Shape for Finality {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text == "accepted" => Some(Self::Accepted),
            Kind::Map(entries) if entries.len() == 1 => FinalityField::read(node, problems).map(|field| Self::Other(Box::new(field))),
            _ => {
                let hint = "this must be accepted, {confirmed: 10}, or {mempool: {max: \"1 KAS\", i_accept_the_risk: true}}";
                problems.push(Code::FinalityInvalid, node.at, hint);
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"oneOf": [{"const": "accepted"}, FinalityField::schema()]})
    }
}

#[derive(Clone, Debug)]
pub enum Cors {
    Any,
    Off,
    Origins(Vec<At<String>>),
}

impl Shape for Cors {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text == "any" => return Some(Self::Any),
            Kind::Text(text) if text == "off" => return Some(Self::Off),
            Kind::List(_) => return Vec::read(node, problems).map(Self::Origins),
            _ => wrong(node, "any, off, or a list of origins", problems),
        }
        None
    }

    fn schema() -> Value {
        json!({"oneOf": [{"enum": ["any", "off"]}, {"type": "array", "items": {"type": "string"}}]})
    }
}
