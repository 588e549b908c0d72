//! From a request head to its route (PROTOCOL sections 3 and 6).
//!
//! Precedence: a route for this host before one for any host; then the path, literal before parameter
//! before rest; then a listed method before any method; then the number of conditions. A route that does
//! not take the method or whose conditions fail leaves the request to the next one.
//!
//! Promises: equal precedence is refused at build; a priced path is never reached through HEAD, a method
//! in other letter case, a repeated condition header, or a path that a forgiving upstream would take
//! for the priced one ([`lookalike`]). Never reads a body, never decides a price. Called by `gateway`.

use super::{
    inputs::{self, Once},
    lookalike,
    pattern::{Pattern, PatternTree},
    policy::{Access, Condition, Route},
    request::RequestHead,
};
use http::{HeaderMap, Method, header};
use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

/// All routes, compiled for look-up by host, path, method and conditions; the most specific wins.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Arc<Route>>,
    groups: Vec<Group>,
    hosts: HashMap<String, Paths>,
    any_host: Paths,
}

/// Two routes that could match the same request with the same specificity, or a path that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConflict {
    /// Index of the offending route in the list given to [`Router::build`].
    pub route: usize,
    /// The other route, when there is one.
    pub other: Option<usize>,
    pub reason: String,
}

/// What the router found.
#[derive(Clone, Debug)]
pub enum Match {
    /// Forward or sell by this route.
    Route(Arc<Route>),
    /// HEAD on a path that some method sells: always 402, never forwarded.
    HeadOfPriced(Arc<Route>),
    /// An OPTIONS preflight (Origin and Access-Control-Request-Method) on a priced path: answered by the gateway, free.
    Preflight(Arc<Route>),
    /// No route: 404.
    Unmatched,
}

/// The paths of one host.
#[derive(Debug)]
struct Paths {
    exact: PatternTree<Option<GroupId>>,
    /// By look-alike key. Several patterns may share one.
    alike: PatternTree<Vec<GroupId>>,
    sells: bool,
}

type GroupId = usize;

/// The routes of one host and pattern, in order of precedence.
#[derive(Debug)]
struct Group {
    is_static: bool,
    routes: Vec<Arc<Route>>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { exact: PatternTree::new(false), alike: PatternTree::new(true), sells: false }
    }
}

impl Router {
    /// Every conflict is reported, not only the first.
    pub fn build(routes: Vec<Route>) -> Result<Self, Vec<RouteConflict>> {
        let routes: Vec<Arc<Route>> = routes.into_iter().map(Arc::new).collect();
        let mut router = Self { routes: routes.clone(), groups: Vec::new(), hosts: HashMap::new(), any_host: Paths::default() };
        let mut conflicts = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            match Pattern::parse(&route.path) {
                Ok(pattern) => router.insert(&pattern, route),
                Err(reason) => conflicts.push(RouteConflict { route: index, other: None, reason: reason.to_string() }),
            }
        }
        for (index, route) in routes.iter().enumerate() {
            let tie = routes[..index].iter().position(|earlier| ties(earlier, route));
            if let Some(other) = tie {
                let reason = "both could match the same request with the same precedence; add or change a method or a condition".to_owned();
                conflicts.push(RouteConflict { route: index, other: Some(other), reason });
            }
        }
        if !conflicts.is_empty() {
            conflicts.sort_by_key(|conflict| conflict.route);
            return Err(conflicts);
        }
        for group in &mut router.groups {
            group.routes.sort_by_key(|route| (route.methods.is_empty(), std::cmp::Reverse(route.conditions.len())));
        }
        Ok(router)
    }

    fn insert(&mut self, pattern: &Pattern, route: &Arc<Route>) {
        let paths = match &route.host {
            Some(host) => self.hosts.entry(host.clone()).or_default(),
            None => &mut self.any_host,
        };
        paths.sells |= is_priced(route);
        let next = self.groups.len();
        let id = *paths.exact.entry(pattern).get_or_insert(next);
        if id == next {
            self.groups.push(Group { is_static: pattern.is_static(), routes: Vec::new() });
            paths.alike.entry(&lookalike::pattern_key(pattern)).push(id);
        }
        self.groups[id].routes.push(route.clone());
    }

    pub fn find(&self, head: &RequestHead) -> Match {
        if head.method.as_str().eq_ignore_ascii_case("CONNECT") {
            return Match::Unmatched;
        }
        let host = bare_host(&head.host);
        let segments: Vec<&str> = head.path.segments().collect();
        let ask = Ask::of(head);
        if ask == Ask::OddCase && self.any_priced(host, &segments) {
            return Match::Unmatched;
        }
        let found = self.walk(host, &segments, &mut |id| {
            let group = &self.groups[id];
            group.answer(ask, head).map_break(|found| (id, found))
        });
        match found {
            ControlFlow::Break((id, Match::Route(_) | Match::HeadOfPriced(_))) if self.looks_priced(host, head, id) => Match::Unmatched,
            ControlFlow::Break((_, found)) => found,
            ControlFlow::Continue(()) => Match::Unmatched,
        }
    }

    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Whether any route of this host is priced: only there is the strict path form demanded.
    pub fn sells_on(&self, host: &str) -> bool {
        self.any_host.sells || self.hosts.get(bare_host(host)).is_some_and(|paths| paths.sells)
    }

    fn paths(&self, host: &str) -> impl Iterator<Item = &Paths> {
        self.hosts.get(host).into_iter().chain([&self.any_host])
    }

    fn walk<B>(&self, host: &str, segments: &[&str], visit: &mut impl FnMut(GroupId) -> ControlFlow<B>) -> ControlFlow<B> {
        for paths in self.paths(host) {
            paths.exact.walk(segments, &mut |id| id.map_or(ControlFlow::Continue(()), &mut *visit))?;
        }
        ControlFlow::Continue(())
    }

    fn any_priced(&self, host: &str, segments: &[&str]) -> bool {
        let stop_at_priced = &mut |id: GroupId| match self.groups[id].priced() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        };
        self.walk(host, segments, stop_at_priced).is_break()
    }

    /// Whether a request that `matched` caught by a wildcard would be a more specific priced path in the
    /// eyes of a forgiving upstream. A static path is what the operator wrote and meant.
    fn looks_priced(&self, host: &str, head: &RequestHead, matched: GroupId) -> bool {
        if self.groups[matched].is_static || !self.sells_on(host) {
            return false;
        }
        // Routes of exactly this path are no look-alikes: they declined the request, or are less specific.
        let mut asked = Vec::new();
        let exact: Vec<&str> = head.path.segments().collect();
        let _: ControlFlow<()> = self.walk(host, &exact, &mut |id| {
            asked.push(id);
            ControlFlow::Continue(())
        });
        let key = lookalike::key(head.path.as_str());
        let segments: Vec<&str> = key.iter().map(String::as_str).collect();
        for paths in self.paths(host) {
            let verdict = paths.alike.walk(&segments, &mut |ids: &Vec<GroupId>| {
                if ids.iter().any(|id| !asked.contains(id) && self.groups[*id].priced().is_some()) {
                    ControlFlow::Break(true)
                } else if ids.contains(&matched) {
                    ControlFlow::Break(false)
                } else {
                    ControlFlow::Continue(())
                }
            });
            if let ControlFlow::Break(verdict) = verdict {
                return verdict;
            }
        }
        false
    }
}

/// What a method asks of the routes on its path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Plain,
    Head,
    Preflight,
    /// A known or unknown method with lower-case letters: some upstreams would take `get` for `GET`.
    OddCase,
}

impl Ask {
    fn of(head: &RequestHead) -> Self {
        let preflight =
            |headers: &HeaderMap| headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        match &head.method {
            method if *method == Method::HEAD => Self::Head,
            method if *method == Method::OPTIONS && preflight(&head.headers) => Self::Preflight,
            method if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) => Self::OddCase,
            _ => Self::Plain,
        }
    }
}

impl Group {
    fn priced(&self) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| is_priced(route))
    }

    fn answer(&self, ask: Ask, head: &RequestHead) -> ControlFlow<Match> {
        match (ask, self.priced()) {
            (Ask::Head, Some(route)) => ControlFlow::Break(Match::HeadOfPriced(route.clone())),
            (Ask::Preflight, Some(route)) => ControlFlow::Break(Match::Preflight(route.clone())),
            (Ask::Head, None) => {
                self.pick(&Method::HEAD, head)?;
                self.pick(&Method::GET, head)
            }
            _ => self.pick(&head.method, head),
        }
    }

    /// The first route that takes the request as `method`.
    fn pick(&self, method: &Method, head: &RequestHead) -> ControlFlow<Match> {
        for route in self.routes.iter().filter(|route| route.methods.is_empty() || route.methods.contains(method)) {
            match hold(&route.conditions, head) {
                Holds::Yes => return ControlFlow::Break(Match::Route(route.clone())),
                // The upstream may see the value that sells: not for free, and not for another price.
                Holds::Unclear if is_priced(route) => return ControlFlow::Break(Match::Unmatched),
                Holds::No | Holds::Unclear => {}
            }
        }
        ControlFlow::Continue(())
    }
}

enum Holds {
    Yes,
    No,
    /// A value occurs in a way that servers read differently.
    Unclear,
}

fn hold(conditions: &[Condition], head: &RequestHead) -> Holds {
    let mut holds = Holds::Yes;
    for condition in conditions {
        let one = match condition {
            Condition::Header(name, wanted) => match inputs::header(&head.headers, name) {
                Once::Absent => Holds::No,
                Once::One(value) if wanted.as_ref().is_none_or(|wanted| value.as_bytes() == wanted.as_bytes()) => Holds::Yes,
                Once::One(_) => Holds::No,
                Once::Ambiguous => Holds::Unclear,
            },
            Condition::Query(name, wanted) => match inputs::query(head.query.as_deref(), name) {
                Once::Absent => Holds::No,
                Once::One(value) if wanted.as_ref().is_none_or(|wanted| value == *wanted) => Holds::Yes,
                Once::One(_) => Holds::No,
                Once::Ambiguous => Holds::Unclear,
            },
        };
        match one {
            Holds::No => return Holds::No,
            Holds::Unclear => holds = Holds::Unclear,
            Holds::Yes => {}
        }
    }
    holds
}

fn is_priced(route: &Route) -> bool {
    !matches!(route.access, Access::Free)
}

/// `api.example.com.` is `api.example.com`.
fn bare_host(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether two routes could match one request with the same precedence.
fn ties(a: &Route, b: &Route) -> bool {
    let methods_meet = match (a.methods.is_empty(), b.methods.is_empty()) {
        (true, true) => true,
        (false, false) => a.methods.iter().any(|method| b.methods.contains(method)),
        _ => return false,
    };
    // Two values of one header or parameter cannot both be the only one.
    let excludes = |x: &Condition, y: &Condition| match (x, y) {
        (Condition::Header(n, Some(v)), Condition::Header(m, Some(w))) => n == m && v != w,
        (Condition::Query(n, Some(v)), Condition::Query(m, Some(w))) => n == m && v != w,
        _ => false,
    };
    let disjoint = a.conditions.iter().any(|x| b.conditions.iter().any(|y| excludes(x, y)));
    let same_path = matches!((Pattern::parse(&a.path), Pattern::parse(&b.path)), (Ok(p), Ok(q)) if p == q);
    a.host == b.host && same_path && methods_meet && a.conditions.len() == b.conditions.len() && !disjoint
}

#[cfg(test)]
mod tests;
