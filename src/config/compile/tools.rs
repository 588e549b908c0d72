//! MCP routes: the tools that are sold, each a route of its own under one path.

use super::{
    Context,
    routes::{Maker, bytes},
    ways::{Paid, places, pos},
};
use crate::{
    config::{
        problem::Code,
        raw::{self, RouteSection, ToolSection},
        shape::At,
    },
    protocol::{
        pattern::Pattern,
        policy::{Access, Pricing, PublicOrigin, Route, RouteId, UpstreamName},
        tools::{PricesShown, ToolName, ToolRule, Tools},
    },
};
use http::Method;
use std::{sync::Arc, time::Duration};

/// What every tool of a route shares with it.
pub struct Shared<'r> {
    pub id: &'r RouteId,
    pub origin: &'r PublicOrigin,
    pub host: &'r Option<String>,
    pub path: &'r str,
    pub upstream: &'r UpstreamName,
}

/// Every one: what is not of the transport is refused, and never left to a free route behind this one.
pub fn methods() -> Vec<Method> {
    Vec::new()
}

/// Settings of the other kind of route.
pub fn misplaced(raw: &RouteSection, cx: &mut Context<'_>) {
    if raw.kind() == raw::RouteKind::Http {
        let settings =
            [("tools", pos(&raw.tools)), ("list_prices", pos(&raw.list_prices)), ("message_limit_bytes", pos(&raw.message_limit_bytes))];
        for (name, at) in places(settings) {
            cx.problem(Code::KindSetting, at, format!("`{name}` belongs to `kind: mcp`"));
        }
        return;
    }
    let settings = [
        ("free", pos(&raw.free)),
        ("price", pos(&raw.price)),
        ("accepts", pos(&raw.accepts)),
        ("scheme", pos(&raw.scheme)),
        ("min_deposit", pos(&raw.min_deposit)),
        ("charge", pos(&raw.charge)),
        ("methods", pos(&raw.methods)),
        ("mime_type", pos(&raw.mime_type)),
        ("charge_on", pos(&raw.charge_on)),
        ("replay_cookies", pos(&raw.replay_cookies)),
    ];
    for (name, at) in places(settings) {
        cx.problem(Code::KindSetting, at, format!("an MCP route has no `{name}`: what is sold are its `tools`"));
    }
    if raw.tools.as_ref().is_none_or(|tools| tools.value.is_empty()) && (raw.tools.is_some() || !raw.written.contains(&"tools")) {
        cx.problem(Code::KindSetting, raw.at, "an MCP route needs `tools`; a server that sells none is `free: true` without `kind`");
    }
    if let Some(path) = &raw.path
        && Pattern::parse(&path.value).is_ok_and(|pattern| !pattern.is_static())
    {
        cx.problem(Code::KindSetting, path.at, "an MCP route has one path, without parameters: payments are bound to its URL");
    }
}

impl Maker<'_> {
    pub fn tools(&self, raw: &RouteSection, shared: &Shared<'_>, cx: &mut Context<'_>) -> Option<Tools> {
        let mut rules: Vec<ToolRule> = Vec::new();
        let mut complete = true;
        for tool in raw.tools.iter().flat_map(|tools| &tools.value) {
            let Some(rule) = self.tool(raw, &tool.value, shared, cx) else {
                complete = false;
                continue;
            };
            if rules.iter().any(|earlier| earlier.name == rule.name) {
                cx.problem(Code::ToolInvalid, tool.at, "this name stands above already");
            }
            rules.push(rule);
        }
        let message_limit = raw.message_limit_bytes.as_ref().map_or(raw.at, |limit| limit.at);
        let message_limit = bytes((raw.message_limit_bytes(), message_limit), cx);
        let shown = match raw.list_prices() {
            raw::ListPrices::Meta => PricesShown::Meta,
            raw::ListPrices::Description => PricesShown::Description,
            raw::ListPrices::Off => PricesShown::Nowhere,
        };
        let body_limit = self.body_limit(raw, cx);
        (complete && !rules.is_empty()).then(|| Tools::new(rules, body_limit, message_limit, shown))
    }

    fn tool(&self, raw: &RouteSection, tool: &ToolSection, shared: &Shared<'_>, cx: &mut Context<'_>) -> Option<ToolRule> {
        let written = tool.tool.as_ref()?;
        let name = ToolName::parse(&written.value);
        if name.is_none() {
            cx.problem(Code::ToolInvalid, written.at, "this names no tool: nothing, or with control characters");
        }
        let section = of_tool(raw, tool);
        let access = self.access(&section, cx)?;
        let sold = match access {
            Access::Priced(pricing) => Some(self.sold(tool, &section, shared, pricing, cx)),
            Access::Free | Access::Tools(_) => None,
        };
        if let Some(on_error) = tool.on_error.as_ref().filter(|_| sold.is_none()) {
            cx.problem(Code::RouteAccess, on_error.at, "`on_error` has no meaning for a free tool");
        }
        Some(ToolRule { name: name?, sold: sold.map(Arc::new), charge_errors: tool.on_error() == raw::OnError::Charge })
    }

    fn sold(&self, tool: &ToolSection, section: &RouteSection, shared: &Shared<'_>, pricing: Box<Pricing>, cx: &mut Context<'_>) -> Route {
        let name = tool.tool.as_ref().map_or("", |name| &name.value);
        Route {
            id: tool.id.as_ref().map_or_else(|| RouteId(format!("{}#{name}", shared.id)), |id| RouteId(id.value.clone())),
            origin: shared.origin.clone(),
            host: shared.host.clone(),
            path: shared.path.to_owned(),
            methods: methods(),
            conditions: Vec::new(),
            upstream: shared.upstream.clone(),
            access: Access::Priced(pricing),
            timeout: Duration::from_secs(self.timeout_seconds(section, cx)),
        }
    }
}

/// A tool as a route: its own settings, else those of the route that fit how it is paid.
fn of_tool(route: &RouteSection, tool: &ToolSection) -> RouteSection {
    fn or<T: Clone>(own: &Option<At<T>>, shared: &Option<At<T>>) -> Option<At<T>> {
        own.clone().or_else(|| shared.clone())
    }
    let mut section = RouteSection {
        at: tool.at,
        written: tool.written.clone(),
        kind: route.kind.clone(),
        free: tool.free.clone(),
        price: tool.price.clone(),
        scheme: tool.scheme.clone(),
        min_deposit: tool.min_deposit.clone(),
        charge: tool.charge.clone(),
        accepts: tool.accepts.clone(),
        finality: tool.finality.clone(),
        observe: tool.observe.clone(),
        require_request_hash: tool.require_request_hash.clone(),
        entitlement_seconds: tool.entitlement_seconds.clone(),
        payment_identifier: tool.payment_identifier.clone(),
        ..RouteSection::default()
    };
    if tool.free() {
        section.pay_to = tool.pay_to.clone();
        return section;
    }
    let paid = Paid::of(&section);
    if paid.exact {
        section.finality = or(&tool.finality, &route.finality);
        section.observe = or(&tool.observe, &route.observe);
        section.require_request_hash = or(&tool.require_request_hash, &route.require_request_hash);
        section.entitlement_seconds = or(&tool.entitlement_seconds, &route.entitlement_seconds);
    }
    if !paid.batch {
        section.payment_identifier = or(&tool.payment_identifier, &route.payment_identifier);
    }
    RouteSection {
        pay_to: or(&tool.pay_to, &route.pay_to),
        description: or(&tool.description, &route.description),
        offer_seconds: or(&tool.offer_seconds, &route.offer_seconds),
        settle_wait_seconds: or(&tool.settle_wait_seconds, &route.settle_wait_seconds),
        body_limit_bytes: route.body_limit_bytes.clone(),
        replay_limit_bytes: or(&tool.replay_limit_bytes, &route.replay_limit_bytes),
        timeout_seconds: or(&tool.timeout_seconds, &route.timeout_seconds),
        ..section
    }
}
