//! Test vectors, checked: `vectors/README.md` documents each kind and its shape.
//!
//! Promises: a vector passes only if its values are computed anew and equal, and if every one of its fields was read;
//! a kind that is not known fails. Never lenient about a shape, and never opens a file. Called by `cli::vectors` and by tests.

mod binding;
mod faults;
mod http;
mod judge;
mod kinds;
mod mcp;
mod published;
pub mod schemas;
mod shape;
mod spends;
mod transactions;

#[cfg(test)]
mod tests;

pub use judge::judge_payment;
pub use shape::Problem;

use crate::protocol::json;
use serde_json::Value;
use shape::Object;

/// Deepest nesting of a vector.
const DEPTH: usize = 64;

/// One case of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// `-` where the file does not say.
    pub kind: String,
    /// What the case calls itself, or its place among the cases.
    pub name: Option<String>,
    pub outcome: Result<(), Problem>,
}

/// Checks the text of one vector file: every case in it, at least one result.
pub fn check(text: &[u8]) -> Vec<Checked> {
    let whole = |kind: &str, outcome| vec![Checked { kind: kind.to_owned(), name: None, outcome }];
    let value = match json::parse_strict(text, DEPTH) {
        Ok(value) => value,
        Err(error) => return whole("-", Err(Problem::NotJson(error))),
    };
    let mut file = match Object::of("", value) {
        Ok(file) => file,
        Err(problem) => return whole("-", Err(problem)),
    };
    if !file.has("kind") {
        return match published::recognise(&file) {
            Some((kind, check)) => whole(kind, check(&mut file).and_then(|()| file.done())),
            None => whole("-", Err(Problem::Missing("kind".into()))),
        };
    }
    let kind = match file.text("kind") {
        Ok(kind) => kind,
        Err(problem) => return whole("-", Err(problem)),
    };
    let Some(check) = kinds::find(&kind) else { return whole(&kind, Err(Problem::UnknownKind(kind.clone()))) };
    if !file.has("cases") {
        let named = file.spoken();
        let outcome = named.and_then(|name| check(&mut file).and_then(|()| file.done()).map(|()| name));
        return vec![Checked { kind, name: outcome.as_ref().ok().cloned().flatten(), outcome: outcome.map(drop) }];
    }
    let cases = file.spoken().and_then(|_| file.list("cases")).and_then(|cases| file.done().map(|()| cases));
    match cases {
        Ok(cases) if cases.is_empty() => whole(&kind, Err(Problem::Malformed("cases".into(), "there is none".into()))),
        Ok(cases) => cases.into_iter().enumerate().map(|(at, case)| one(&kind, check, at, case)).collect(),
        Err(problem) => whole(&kind, Err(problem)),
    }
}

fn one(kind: &str, check: kinds::Check, at: usize, case: Value) -> Checked {
    let place = format!("cases/{at}");
    let mut name = None;
    let outcome = Object::of(&place, case).and_then(|mut case| {
        name = case.spoken()?;
        check(&mut case)?;
        case.done()
    });
    Checked { kind: kind.to_owned(), name: Some(name.unwrap_or(place)), outcome }
}
