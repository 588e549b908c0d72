//! From a request head to its route (PROTOCOL sections 3 and 6).

use super::{policy::Route, request::RequestHead};
use std::sync::Arc;

/// All routes, compiled for look-up by host, path, method and conditions; the most specific wins.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Arc<Route>>,
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

impl Router {
    pub fn build(routes: Vec<Route>) -> Result<Self, Vec<RouteConflict>> {
        Ok(Self { routes: routes.into_iter().map(Arc::new).collect() })
    }

    pub fn find(&self, head: &RequestHead) -> Match {
        let _ = head;
        todo!()
    }

    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Whether any route of this host is priced: only there is the strict path form demanded.
    pub fn sells_on(&self, host: &str) -> bool {
        let _ = host;
        todo!()
    }
}
