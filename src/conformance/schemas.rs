//! The schemas of `schemas/`, compiled in.

use jsonschema::{Registry, Resource, ValidationError, Validator};
use serde_json::Value;
use std::{collections::BTreeMap, sync::LazyLock};

/// Name and text of each.
pub const FILES: &[(&str, &str)] = &[
    ("common", include_str!("../../schemas/common.schema.json")),
    ("channel-state", include_str!("../../schemas/channel-state.schema.json")),
    ("kaspa-requirements-extra", include_str!("../../schemas/kaspa-requirements-extra.schema.json")),
    ("payment-requirements", include_str!("../../schemas/payment-requirements.schema.json")),
    ("payment-identifier", include_str!("../../schemas/payment-identifier.schema.json")),
    ("payment-required", include_str!("../../schemas/payment-required.schema.json")),
    ("corrective-402", include_str!("../../schemas/corrective-402.schema.json")),
    ("kaspa-payment-payload", include_str!("../../schemas/kaspa-payment-payload.schema.json")),
    ("payment-payload", include_str!("../../schemas/payment-payload.schema.json")),
    ("settlement-response", include_str!("../../schemas/settlement-response.schema.json")),
    ("facilitator-request", include_str!("../../schemas/facilitator-request.schema.json")),
    ("facilitator-supported", include_str!("../../schemas/facilitator-supported.schema.json")),
    ("facilitator-verify-response", include_str!("../../schemas/facilitator-verify-response.schema.json")),
    ("facilitator-settle-response", include_str!("../../schemas/facilitator-settle-response.schema.json")),
    ("config", include_str!("../../schemas/config.schema.json")),
];

static VALIDATORS: LazyLock<BTreeMap<&'static str, Validator>> = LazyLock::new(|| {
    let parsed = FILES.iter().map(|(name, text)| (*name, serde_json::from_str::<Value>(text).expect("our own schemas are JSON")));
    validators(parsed.collect())
});

/// A validator for each schema, all of which know each other.
pub fn validators(schemas: Vec<(&'static str, Value)>) -> BTreeMap<&'static str, Validator> {
    let mut registry = Registry::new();
    for (name, schema) in &schemas {
        let resource = Resource::from_contents(schema.clone());
        registry = registry.add(format!("urn:kas402:schema:{name}"), resource).expect("names of schemas are URNs");
    }
    let registry = registry.prepare().expect("our own schemas name each other rightly");
    let compile = |schema: &Value| jsonschema::options().with_registry(&registry).build(schema).expect("our own schemas compile");
    schemas.iter().map(|(name, schema)| (*name, compile(schema))).collect()
}

/// Our name of what a vector calls its schema: a name, a file, a path or a URL that ends in one.
pub fn name_of(said: &str) -> Option<&'static str> {
    let last = said.rsplit(['/', ':']).next()?;
    let stem = last.strip_suffix(".json").unwrap_or(last);
    let stem = stem.strip_suffix(".schema").unwrap_or(stem);
    FILES.iter().map(|(name, _)| *name).find(|name| *name == stem && *name != "common")
}

/// Whether the value fits; the first faults in words.
pub fn validate(name: &str, value: &Value) -> Result<(), String> {
    let told: Vec<String> = faults(name, value).into_iter().take(3).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    if told.is_empty() { Ok(()) } else { Err(told.join("; ")) }
}

/// Every fault of the value.
pub fn faults<'v>(name: &str, value: &'v Value) -> Vec<ValidationError<'v>> {
    VALIDATORS.get(name).map(|validator| validator.iter_errors(value).collect()).unwrap_or_default()
}
