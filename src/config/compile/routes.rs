//! Routes: what is free, what is sold, and how.

use super::{
    Context, is_loopback, prices,
    tools::{self, Shared},
    upstreams::Upstreams,
    ways::{Paid, Ways, places, pos},
};
use crate::{
    config::{
        problem::{Code, Pos},
        raw::{self, Root, RouteSection, Sale},
        shape::At,
    },
    protocol::{
        pattern::Pattern,
        policy::{Accept, Access, ChargeOn, Condition, Observe, Pricing, PublicOrigin, Route, RouteId},
    },
};
use http::{HeaderName, HeaderValue, Method};
use std::{collections::BTreeMap, time::Duration};
use url::Url;

/// Largest body limit, bytes: bodies of priced requests are held in memory.
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;
/// Below this a JSON body that sets the price is likely to be cut off.
const SMALL_BODY_BYTES: usize = 1024;

pub fn routes(root: &Root, upstreams: &Upstreams, ways: &Ways<'_>, cx: &mut Context<'_>) -> Vec<At<Route>> {
    let public = root.public_origin.as_ref().and_then(|raw| Some((cx.origin(raw)?, raw.at)));
    if let Some((url, at)) = &public
        && url.scheme() == "http"
        && !is_loopback(url)
    {
        cx.problem(Code::OriginPlain, *at, "payments travel unencrypted: put TLS in front, and write https://");
    }
    let maker = Maker { root, upstreams, ways, public: public.map(|(url, _)| url), defaults: root.defaults.as_ref() };
    if let Some(pay_to) = &root.pay_to {
        prices::pay_to(pay_to, ways.network_known, cx);
    }
    let mut ids: BTreeMap<String, Pos> = BTreeMap::new();
    let mut routes = Vec::new();
    for raw in root.routes.iter().flat_map(|routes| &routes.value) {
        let Some(route) = maker.route(&raw.value, cx) else { continue };
        let at = raw.value.id.as_ref().map_or(raw.at, |id| id.at);
        let named = |id: &RouteId| id.0.starts_with(RouteId::FACILITATOR);
        if named(&route.id) || route.sold().any(|sold| named(&sold.id)) {
            let message = format!("ids that begin with {:?} name the records of the facilitator's tenants", RouteId::FACILITATOR);
            cx.problem(Code::BadValue, at, message);
        }
        if let Some(earlier) = ids.insert(route.id.0.clone(), at) {
            // Without written ids equal ids mean equal routes: the router says it better.
            if raw.value.id.is_some() {
                cx.problem(Code::RouteIdDuplicate, at, format!("the route at line {} has the same id", earlier.line));
            }
        }
        if matches!(route.access, Access::Tools(_)) {
            for sold in route.sold() {
                if let Some(earlier) = ids.insert(sold.id.0.clone(), at) {
                    cx.problem(Code::RouteIdDuplicate, at, format!("what is sold at line {} has the same id, {}", earlier.line, sold.id));
                }
            }
        }
        routes.push(At { at: raw.at, value: route });
    }
    if let Some(list) = &root.routes
        && !cx.problems.has_errors()
        && root.facilitator.is_none()
        && routes.iter().all(|route| route.value.sold().next().is_none())
    {
        cx.problem(Code::NothingPriced, list.at, "no route has a price");
    }
    routes.extend(maker.unmatched(cx));
    routes
}

pub struct Maker<'m> {
    root: &'m Root,
    upstreams: &'m Upstreams,
    ways: &'m Ways<'m>,
    public: Option<Url>,
    defaults: Option<&'m At<Sale>>,
}

/// A setting of the route, else of `defaults`, else the default; and where it stands.
macro_rules! setting {
    ($maker:expr, $route:expr, $field:ident) => {{
        let defaults = $maker.defaults.map(|defaults| defaults.value.clone()).unwrap_or_default();
        match (&$route.$field, &defaults.$field) {
            (Some(field), _) | (None, Some(field)) => (field.value.clone(), field.at),
            (None, None) => (defaults.$field(), $route.at),
        }
    }};
}

impl Maker<'_> {
    fn route(&self, raw: &RouteSection, cx: &mut Context<'_>) -> Option<Route> {
        let mcp = raw.kind() == raw::RouteKind::Mcp;
        tools::misplaced(raw, cx);
        let host = raw.host.as_ref().map(|host| self.host(host, cx));
        let methods = if mcp { tools::methods() } else { self.methods(raw, cx) };
        let conditions = conditions(raw, cx);
        let upstream = self.upstreams.choose(raw.upstream.as_ref(), raw.at, cx);
        let access = if mcp { None } else { self.access(raw, cx) };
        let host = match host {
            None => None,
            Some(host) => Some(host?),
        };
        let origin = self.origin(raw, host.as_deref(), cx);
        let path = path(raw.path.as_ref()?, cx);
        let path = path?;
        let named = if mcp { "mcp".to_owned() } else { list(&methods) };
        let description = describe(&named, host.as_deref(), &path, &conditions);
        let id = RouteId(raw.id.as_ref().map_or(description, |id| id.value.clone()));
        let (origin, upstream) = (origin?, upstream?);
        let access = if mcp {
            let shared = Shared { id: &id, origin: &origin, host: &host, path: &path, upstream: &upstream };
            self.tools(raw, &shared, cx).map(|tools| Access::Tools(Box::new(tools)))
        } else {
            access
        };
        Some(Route {
            id,
            origin,
            host,
            path,
            methods,
            conditions,
            upstream,
            access: access?,
            timeout: Duration::from_secs(self.timeout_seconds(raw, cx)),
        })
    }

    pub fn timeout_seconds(&self, raw: &RouteSection, cx: &mut Context<'_>) -> u64 {
        at_least_one(setting!(self, raw, timeout_seconds), cx)
    }

    pub fn body_limit(&self, raw: &RouteSection, cx: &mut Context<'_>) -> usize {
        bytes(setting!(self, raw, body_limit_bytes), cx)
    }

    /// `unmatched: forward`: the least specific free route there can be.
    fn unmatched(&self, cx: &mut Context<'_>) -> Option<At<Route>> {
        let unmatched = self.root.unmatched.as_ref().filter(|unmatched| unmatched.value == raw::Unmatched::Forward)?;
        cx.problem(Code::UnmatchedForward, unmatched.at, "every path without a route is free, also those the upstream adds later");
        let route = Route {
            id: RouteId("unmatched".to_owned()),
            origin: PublicOrigin(self.public.as_ref()?.origin().ascii_serialization()),
            host: None,
            path: "/{*rest}".to_owned(),
            methods: Vec::new(),
            conditions: Vec::new(),
            upstream: self.upstreams.choose(None, unmatched.at, cx)?,
            access: Access::Free,
            timeout: Duration::from_secs(Sale::default().timeout_seconds()),
        };
        Some(At { at: unmatched.at, value: route })
    }

    fn host(&self, raw: &At<String>, cx: &mut Context<'_>) -> Option<String> {
        let lower = raw.value.to_ascii_lowercase();
        match url::Host::parse(&lower) {
            Ok(host) if host.to_string() == lower && !lower.ends_with('.') => Some(lower),
            _ => {
                cx.problem(Code::MatchInvalid, raw.at, "write a host name without scheme, port or dot at its end");
                None
            }
        }
    }

    fn origin(&self, raw: &RouteSection, host: Option<&str>, cx: &mut Context<'_>) -> Option<PublicOrigin> {
        let mut url = match &raw.public_origin {
            Some(origin) => return Some(PublicOrigin(cx.origin(origin)?.origin().ascii_serialization())),
            None => self.public.clone()?,
        };
        if let Some(host) = host {
            url.set_host(Some(host)).ok()?;
        }
        Some(PublicOrigin(url.origin().ascii_serialization()))
    }

    fn methods(&self, raw: &RouteSection, cx: &mut Context<'_>) -> Vec<Method> {
        let mut methods = Vec::new();
        for raw_method in raw.methods.iter().flat_map(|methods| &methods.value) {
            let parsed = match prices::method(&raw_method.value) {
                // Only a price makes HEAD special.
                Err(_) if raw.free() && raw_method.value == "HEAD" => Ok(Method::HEAD),
                parsed => parsed,
            };
            match parsed {
                Ok(method) if !methods.contains(&method) => methods.push(method),
                Ok(_) => cx.problem(Code::MatchInvalid, raw_method.at, "this method occurs twice"),
                Err(why) => cx.problem(Code::MatchInvalid, raw_method.at, why),
            }
        }
        if let Some(list) = raw.methods.as_ref().filter(|list| list.value.is_empty()) {
            cx.problem(Code::MatchInvalid, list.at, "leave `methods` out for all methods");
        }
        methods
    }

    pub fn access(&self, raw: &RouteSection, cx: &mut Context<'_>) -> Option<Access> {
        let written = |key| raw.written.contains(&key);
        let faulty = (written("free") && raw.free.is_none()) || (written("price") && raw.price.is_none());
        if faulty || (written("accepts") && raw.accepts.is_none()) {
            // Its value was already found wrong.
            return None;
        }
        let ways = [raw.free(), raw.price.is_some(), raw.accepts.is_some()];
        if ways.into_iter().filter(|way| *way).count() != 1 {
            cx.problem(Code::RouteAccess, raw.at, "a route is exactly one of `free: true`, `price` and `accepts`");
            return None;
        }
        if raw.free() {
            let sold = [
                ("pay_to", pos(&raw.pay_to)),
                ("scheme", pos(&raw.scheme)),
                ("min_deposit", pos(&raw.min_deposit)),
                ("charge", pos(&raw.charge)),
            ];
            for (name, at) in places(sold) {
                cx.problem(Code::RouteAccess, at, format!("`{name}` has no meaning on a free route"));
            }
            return Some(Access::Free);
        }
        self.pricing(raw, cx).map(|pricing| Access::Priced(Box::new(pricing)))
    }

    fn pricing(&self, raw: &RouteSection, cx: &mut Context<'_>) -> Option<Pricing> {
        let paid = Paid::of(raw);
        let offer = at_least_one(setting!(self, raw, offer_seconds), cx);
        let (offer_seconds, offer_at) = (offer, setting!(self, raw, offer_seconds).1);
        let (entitlement_seconds, entitlement_at) = setting!(self, raw, entitlement_seconds);
        let retention = self.root.limits.as_ref().map(|limits| limits.value.clone()).unwrap_or_default().retention_seconds();
        if entitlement_seconds > retention {
            let message = format!("a paid request cannot stay good longer than it is kept (limits.retention_seconds, {retention})");
            cx.problem(Code::LimitsInconsistent, entitlement_at, message);
        }
        if entitlement_seconds < offer_seconds {
            cx.problem(Code::LimitsInconsistent, entitlement_at, "a paid request must stay good at least as long as its offer");
        }
        if offer_seconds > 86_400 {
            cx.problem(Code::BadValue, offer_at, "an offer lives at most a day");
        }
        let (observe, observe_at) = setting!(self, raw, observe);
        let (hash, _) = setting!(self, raw, require_request_hash);
        if observe == raw::Observe::Any && paid.exact {
            cx.problem(Code::ObserveAny, observe_at, "whoever presents a transaction seen on the network first gets the resource");
            if !hash {
                cx.problem(
                    Code::HashOptional,
                    observe_at,
                    "set `require_request_hash: true` too, or a payment fits every request of its price",
                );
            }
        }
        let (charge_on, charge_at) = setting!(self, raw, charge_on);
        if charge_on == raw::ChargeOn::Any {
            cx.problem(Code::ChargeOnAny, charge_at, "the payer loses the money when the upstream fails");
        }
        let (replay_cookies, cookies_at) = setting!(self, raw, replay_cookies);
        if replay_cookies {
            cx.problem(Code::ReplayCookies, cookies_at, "a repeated payment is answered with the first one's session cookies");
        }
        let body = setting!(self, raw, body_limit_bytes);
        let body_limit = bytes(body, cx);
        let accepts = self.ways.accepts(raw, cx);
        let reads_json = |accept: &Accept| accept.price.reads_body();
        if body_limit < SMALL_BODY_BYTES && accepts.as_ref().is_some_and(|accepts| accepts.iter().any(reads_json)) {
            cx.problem(Code::BodyLimitSmall, body.1, "the body sets the price, but must be shorter than 1 KiB");
        }
        Some(Pricing {
            accepts: accepts?,
            body_limit,
            replay_limit: bytes(setting!(self, raw, replay_limit_bytes), cx),
            replay_cookies,
            // A voucher is bound to no request.
            require_request_hash: hash && paid.exact,
            // One rule for all ways of a route, as its offers say it.
            require_identifier: paid.batch || setting!(self, raw, payment_identifier).0 == raw::Identifier::Required,
            offer_seconds,
            settle_wait: Duration::from_secs(at_least_one(setting!(self, raw, settle_wait_seconds), cx)),
            entitlement_seconds,
            observe: match observe {
                raw::Observe::Proven => Observe::Proven,
                raw::Observe::Never => Observe::Never,
                raw::Observe::Any => Observe::Any,
            },
            charge_on: match charge_on {
                raw::ChargeOn::Below500 => ChargeOn::Below500,
                raw::ChargeOn::Success => ChargeOn::Success,
                raw::ChargeOn::Any => ChargeOn::Any,
            },
            description: raw.description.as_ref().map(|text| text.value.clone()),
            mime_type: raw.mime_type.as_ref().map(|text| text.value.clone()),
        })
    }
}

fn at_least_one((number, at): (u64, Pos), cx: &mut Context<'_>) -> u64 {
    if number == 0 {
        cx.problem(Code::BadValue, at, "this must be at least 1");
    }
    number.max(1)
}

pub fn bytes((number, at): (u64, Pos), cx: &mut Context<'_>) -> usize {
    match usize::try_from(number) {
        Ok(bytes) if number <= MAX_BODY_BYTES => bytes,
        _ => {
            cx.problem(Code::BadValue, at, format!("at most {MAX_BODY_BYTES} bytes, because they are held in memory"));
            0
        }
    }
}

fn path(raw: &At<String>, cx: &mut Context<'_>) -> Option<String> {
    Pattern::parse(&raw.value).map_err(|error| cx.problem(Code::PathInvalid, raw.at, error.to_string())).ok()?;
    Some(raw.value.clone())
}

fn conditions(raw: &RouteSection, cx: &mut Context<'_>) -> Vec<Condition> {
    let Some(when) = &raw.when else { return Vec::new() };
    let mut conditions = Vec::new();
    for (key, wanted) in when.value.header.iter().flat_map(|named| &named.value.0) {
        let value = match &wanted.value {
            raw::Wanted::Present => Ok(None),
            raw::Wanted::Value(text) => HeaderValue::from_str(text).map(Some),
        };
        match (key.text.parse::<HeaderName>(), value) {
            (Ok(name), Ok(value)) => conditions.push(Condition::Header(name, value)),
            (Err(_), _) => cx.problem(Code::MatchInvalid, key.at, "this is not a header name"),
            (_, Err(_)) => cx.problem(Code::MatchInvalid, wanted.at, "no header can have this value"),
        }
    }
    for (key, wanted) in when.value.query.iter().flat_map(|named| &named.value.0) {
        let value = match &wanted.value {
            raw::Wanted::Present => None,
            raw::Wanted::Value(text) => Some(text.clone()),
        };
        conditions.push(Condition::Query(key.text.clone(), value));
    }
    if conditions.is_empty() {
        cx.problem(Code::MatchInvalid, when.at, "`when` needs a header or a query parameter");
    }
    conditions
}

fn list(methods: &[Method]) -> String {
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if methods.is_empty() { "any".to_owned() } else { methods.join(",") }
}

/// The default id: what the route matches, in one line.
fn describe(methods: &str, host: Option<&str>, path: &str, conditions: &[Condition]) -> String {
    let mut text = format!("{methods} {}{path}", host.unwrap_or_default());
    for condition in conditions {
        text += &match condition {
            Condition::Header(name, Some(value)) => format!(" {name}:{}", value.to_str().unwrap_or("?")),
            Condition::Header(name, None) => format!(" {name}"),
            Condition::Query(name, Some(value)) => format!(" ?{name}={value}"),
            Condition::Query(name, None) => format!(" ?{name}"),
        };
    }
    text
}
