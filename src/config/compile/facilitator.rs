//! The `facilitator` section: where it listens and whom it works for.

use super::{
    Context, is_loopback_address, prices,
    settings::{listener, pem_pair},
};
use crate::{
    binding::escrow_v1::{ServerKey, ServerKeys},
    config::{
        problem::{Code, Pos},
        raw::{self, Permission, Root},
        server_keys,
        settings::{FacilitatorSettings, ListenSettings},
        shape::At,
        yaml::Key,
    },
    protocol::{
        bearer::Token,
        ids::XOnlyKey,
        policy::{ExactTerms, Observe, Route},
        tenant::{Permissions, Rate, Tenant},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use zeroize::Zeroizing;

const DEFAULT_LISTEN: &str = "127.0.0.1:8404";
/// Bodies carry a transaction of at most 60 KiB as hex, twice at most, and their terms.
const BODY_LIMITS: std::ops::RangeInclusive<u64> = 16 * 1024..=16 * 1024 * 1024;
/// Most calls a second and at once: more is no limit.
const MOST_CALLS: u64 = 1_000_000;
/// Most calls of one tenant that run at once: half of the listener's connections, so that no tenant holds them all.
const MOST_RUNNING: u64 = 512;
/// Longest name of a tenant: it stands in every record.
const NAME_CHARS: usize = 32;

/// The section as far as it is right.
pub struct Facilitated {
    /// `None` without a tenant: it is not started.
    pub settings: Option<FacilitatorSettings>,
    pub tenants: Vec<Arc<Tenant>>,
    /// Of all tenants.
    pub server_keys: Vec<ServerKey>,
}

/// Where the tenants ask for channels; secrets are not read here.
pub fn asks_for_channels(root: &Root) -> Option<Pos> {
    tenants(root).find_map(|(_, tenant)| tenant.value.server_keys.as_ref().map(|keys| keys.at))
}

fn tenants(root: &Root) -> impl Iterator<Item = &(Key, At<raw::TenantSection>)> {
    root.facilitator.iter().flat_map(|section| &section.value.tenants).flat_map(|tenants| &tenants.value.0)
}

/// `own` are the gateway's server keys, which no tenant may have.
pub fn facilitator(root: &Root, routes: &[At<Route>], own: Option<&ServerKeys>, network_known: bool, cx: &mut Context<'_>) -> Facilitated {
    let mut found = Facilitated { settings: None, tenants: Vec::new(), server_keys: Vec::new() };
    let Some(section) = &root.facilitator else { return found };
    let listen = listen(&section.value, section.at, cx);
    let limit = section.value.body_limit_bytes();
    if !BODY_LIMITS.contains(&limit) {
        let at = section.value.body_limit_bytes.as_ref().map_or(section.at, |field| field.at);
        cx.problem(Code::BadValue, at, format!("this must be between {} and {}", BODY_LIMITS.start(), BODY_LIMITS.end()));
    }
    let mut taken = Taken::of(routes, own);
    let mut key_files = Vec::new();
    for (name, tenant) in tenants(root) {
        if let Some(file) = tenant.value.server_keys.as_ref().and_then(|secret| secret.value.file.as_ref()) {
            key_files.push(cx.path(&file.value));
        }
        let (tenant, keys) = compiled(root, name, tenant, network_known, &mut taken, cx);
        found.tenants.extend(tenant.map(Arc::new));
        found.server_keys.extend(keys);
    }
    if tenants(root).next().is_none() {
        cx.problem(Code::FacilitatorIdle, section.at, "without `tenants` nobody can call the facilitator, and it is not started");
        return found;
    }
    let body_limit = usize::try_from(limit).unwrap_or(usize::MAX);
    found.settings = listen.map(|listen| FacilitatorSettings { listen, body_limit, key_files });
    found
}

fn listen(raw: &raw::Facilitator, at: Pos, cx: &mut Context<'_>) -> Option<ListenSettings> {
    let default = || raw::ListenSection { at, address: Some(At { at, value: DEFAULT_LISTEN.to_owned() }), ..raw::ListenSection::default() };
    let section = raw.listen.as_ref().map_or_else(default, |listen| listen.value.0.clone());
    let address = section.address.as_ref()?;
    let socket = listener(address, cx)?;
    if section.tls.is_none() && !is_loopback_address(&socket) {
        let message = "tokens and payments can be read on the way: give `tls`, or listen on a loopback address behind a proxy that has it";
        cx.problem(Code::FacilitatorPlain, address.at, message);
    }
    Some(ListenSettings { address: socket, tls: section.tls.and_then(|tls| pem_pair(&tls.value, cx)) })
}

/// What belongs to somebody already, and to whom.
struct Taken {
    recipients: BTreeMap<String, String>,
    keys: BTreeMap<XOnlyKey, String>,
    tokens: Vec<(Token, String)>,
}

impl Taken {
    fn of(routes: &[At<Route>], own: Option<&ServerKeys>) -> Self {
        let sold = routes.iter().flat_map(|route| route.value.sold()).filter_map(|route| Some((route, route.pricing()?)));
        let paid = sold.flat_map(|(route, pricing)| pricing.accepts.iter().map(move |way| (way.pay_to.clone(), route)));
        let recipients = paid.map(|(address, route)| (address, format!("the route {}", route.id))).collect();
        let keys = own.into_iter().flat_map(ServerKeys::iter).map(|key| (key.public(), "the gateway itself (keys.server)".to_owned()));
        Self { recipients, keys: keys.collect(), tokens: Vec::new() }
    }
}

fn compiled(
    root: &Root,
    name: &Key,
    tenant: &At<raw::TenantSection>,
    network_known: bool,
    taken: &mut Taken,
    cx: &mut Context<'_>,
) -> (Option<Tenant>, Vec<ServerKey>) {
    let raw = &tenant.value;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.text.is_empty() || name.text.len() > NAME_CHARS || !name.text.chars().all(plain) {
        cx.problem(Code::BadValue, name.at, "a tenant's name is 1 to 32 letters, digits, - _ or .");
    }
    let token = token(name, raw, taken, cx);
    let recipients = recipients(name, raw, network_known, taken, cx);
    let keys = server_keys(name, raw, taken, cx);
    let final_depth = root.limits.as_ref().map(|limits| limits.value.clone()).unwrap_or_default().final_depth();
    let exact =
        prices::finality(raw.finality.as_ref(), final_depth, cx).map(|(finality, mempool_max)| ExactTerms { finality, mempool_max });
    let observe = match raw.observe() {
        raw::Observe::Proven => Observe::Proven,
        raw::Observe::Never => Observe::Never,
        raw::Observe::Any => {
            let at = raw.observe.as_ref().map_or(tenant.at, |field| field.at);
            cx.problem(Code::ObserveAny, at, "whoever sees a payment on the network can present it as their own");
            if raw.server_keys.is_some() {
                let message = "with `observe: any` every claim of a channel would pay this tenant: give its channels a tenant of their own";
                cx.problem(Code::ObserveClaims, at, message);
            }
            Observe::Any
        }
    };
    let rate = Rate {
        per_second: most(MOST_CALLS, raw.calls_per_second(), raw.calls_per_second.as_ref(), tenant.at, cx),
        burst: most(MOST_CALLS, raw.burst(), raw.burst.as_ref(), tenant.at, cx),
    };
    let running = most(MOST_RUNNING, raw.running_calls(), raw.running_calls.as_ref(), tenant.at, cx);
    let permissions = permissions(raw, cx);
    let whole = (|| {
        Some(Tenant {
            name: name.text.clone(),
            token: token?,
            permissions,
            recipients: recipients?,
            server_keys: keys.iter().map(ServerKey::public).collect(),
            exact: exact?,
            observe,
            settle_wait: Duration::from_secs(raw.settle_wait_seconds()),
            rate,
            running,
        })
    })();
    (whole, keys)
}

fn token(name: &Key, raw: &raw::TenantSection, taken: &mut Taken, cx: &mut Context<'_>) -> Option<Token> {
    let written = raw.token.as_ref()?;
    let secret = cx.secret(written)?;
    // Where secrets are not read, any token stands in; each is another, so that they are told apart.
    let text = if cx.environment.secrets { secret.expose().to_owned() } else { format!("{:-<64}", hex::encode(&name.text)) };
    let token = Token::new(Zeroizing::new(text.into_bytes()));
    let token = token.map_err(|error| cx.problem(Code::SecretMalformed, written.at, error.to_string())).ok()?;
    if let Some((_, other)) = taken.tokens.iter().find(|(other, _)| *other == token) {
        cx.problem(Code::TenantOverlap, written.at, format!("this token is that of {other}"));
        return None;
    }
    taken.tokens.push((token.clone(), of_tenant(name)));
    Some(token)
}

fn recipients(name: &Key, raw: &raw::TenantSection, network_known: bool, taken: &mut Taken, cx: &mut Context<'_>) -> Option<Vec<String>> {
    let written = raw.recipients.as_ref()?;
    if written.value.is_empty() {
        cx.problem(Code::BadValue, written.at, "a tenant has at least one recipient");
    }
    let mut recipients = Vec::new();
    for address in &written.value {
        let address_at = address.at;
        let address = prices::pay_to(address, network_known, cx)?;
        if let Some(other) = taken.recipients.insert(address.clone(), of_tenant(name)) {
            cx.problem(Code::TenantOverlap, address_at, format!("{other} is paid to this address already: one payment must not buy twice"));
        }
        recipients.push(address);
    }
    Some(recipients)
}

fn server_keys(name: &Key, raw: &raw::TenantSection, taken: &mut Taken, cx: &mut Context<'_>) -> Vec<ServerKey> {
    let Some(written) = &raw.server_keys else { return Vec::new() };
    let Some(secret) = cx.secret(written).filter(|_| cx.environment.secrets) else { return Vec::new() };
    let Some(named) = cx.secret_found(server_keys::parse(&secret), written.at) else { return Vec::new() };
    let keys: Vec<ServerKey> = named.into_iter().map(|named| named.key).collect();
    for key in &keys {
        if let Some(other) = taken.keys.insert(key.public(), of_tenant(name)) {
            cx.problem(Code::TenantOverlap, written.at, format!("the key {} is that of {other}", key.public()));
        }
    }
    keys
}

fn of_tenant(name: &Key) -> String {
    format!("the tenant {:?}", name.text)
}

fn permissions(raw: &raw::TenantSection, cx: &mut Context<'_>) -> Permissions {
    let Some(written) = &raw.permissions else { return Permissions { verify: true, settle: true, claim: false } };
    let has = |wanted: Permission| written.value.iter().any(|permission| permission.value == wanted);
    if has(Permission::Claim) && raw.server_keys.is_none() {
        cx.problem(Code::BadValue, written.at, "there is nothing to claim without `server_keys`");
    }
    Permissions { verify: has(Permission::Verify), settle: has(Permission::Settle), claim: has(Permission::Claim) }
}

fn most(most: u64, number: u64, field: Option<&At<u64>>, at: Pos, cx: &mut Context<'_>) -> u32 {
    if !(1..=most).contains(&number) {
        cx.problem(Code::BadValue, field.map_or(at, |field| field.at), format!("this must be between 1 and {most}"));
    }
    u32::try_from(number).unwrap_or(1).max(1)
}
