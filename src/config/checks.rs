//! Gaps between routes: ways around a price that a configuration leaves open.
//!
//! They may be meant, so they are warnings; each names the free route that takes the request.

use super::{
    problem::{Code, Problems},
    shape::At,
};
use crate::protocol::{
    pattern::Pattern,
    policy::{Access, Route},
};

pub fn gaps(routes: &[At<Route>], problems: &mut Problems) {
    let parse = |route: &At<Route>| Pattern::parse(&route.value.path).ok();
    let (priced, free): (Vec<_>, Vec<_>) =
        routes.iter().filter_map(|route| Some((route, parse(route)?))).partition(|(route, _)| !matches!(route.value.access, Access::Free));
    for (route, pattern) in &priced {
        for (other, _) in free.iter().filter(|(_, wider)| wider.covers(pattern)) {
            if let Some((code, what)) = gap(&route.value, &other.value, priced.iter().map(|(route, _)| &route.value)) {
                let message = format!("{what} for free by the route at line {} ({})", other.at.line, other.value.id);
                problems.push(code, route.at, message);
            }
        }
    }
}

/// How a request like `priced` reaches `free`, which matches every path of it.
fn gap<'r>(priced: &Route, free: &Route, mut all: impl Iterator<Item = &'r Route>) -> Option<(Code, &'static str)> {
    let shared_method = free.methods.is_empty() || priced.methods.is_empty() || free.methods.iter().any(|m| priced.methods.contains(m));
    if priced.host.is_some() && free.host.is_none() && shared_method {
        return Some((Code::HostGap, "the same path under another Host header is forwarded"));
    }
    if free.host.is_some() && priced.host != free.host {
        // The operator wrote that this host is different.
        return None;
    }
    if !priced.conditions.is_empty() && shared_method {
        let same_place = |other: &&Route| other.host == priced.host && other.path == priced.path;
        let unconditional = |other: &Route| other.conditions.is_empty() && (other.methods.is_empty() || other.methods == priced.methods);
        if !all.by_ref().filter(same_place).any(unconditional) {
            return Some((Code::ConditionGap, "without the condition the request is forwarded"));
        }
        return None;
    }
    let any_method_priced = all.any(|other| other.host == priced.host && other.path == priced.path && other.methods.is_empty());
    if !priced.methods.is_empty() && free.methods.is_empty() && !any_method_priced {
        return Some((Code::MethodGap, "methods this route does not list are forwarded"));
    }
    None
}
