//! Every vector of `vectors/` is met, and a vector that is wrong in any way fails.

use super::{Checked, Problem, check, faults, http::facts, judge::Facts, kinds::KINDS, schemas, shape::Object};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn vectors() -> Vec<(PathBuf, Value)> {
    let read = |path: PathBuf| (path.clone(), serde_json::from_slice(&fs::read(path).unwrap()).unwrap());
    files(&root().join("vectors")).into_iter().map(read).collect()
}

/// The cases of a file, each as a file of its own.
fn cases(vector: &Value) -> Vec<Value> {
    let Some(cases) = vector.get("cases").and_then(Value::as_array) else { return vec![vector.clone()] };
    let alone = |case: &Value| {
        let mut case = case.clone();
        case["kind"] = vector["kind"].clone();
        case
    };
    cases.iter().map(alone).collect()
}

fn failed(vector: &Value) -> Vec<Checked> {
    check(vector.to_string().as_bytes()).into_iter().filter(|checked| checked.outcome.is_err()).collect()
}

#[test]
fn every_vector_is_met() {
    let (mut seen, mut unmet) = (BTreeSet::new(), Vec::new());
    for (path, vector) in vectors() {
        unmet.extend(failed(&vector).into_iter().map(|checked| format!("{}: {checked:?}", path.display())));
        seen.extend(check(vector.to_string().as_bytes()).into_iter().map(|checked| checked.kind));
    }
    assert!(unmet.is_empty(), "{}", unmet.join("\n"));
    for (kind, _) in KINDS {
        assert!(seen.contains(*kind), "no vector of kind {kind}");
    }
}

#[test]
fn the_readme_names_every_kind() {
    let readme = fs::read_to_string(root().join("vectors/README.md")).unwrap();
    let named: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for (kind, _) in KINDS {
        assert!(named.contains(kind), "{kind} has no row");
    }
}

/// What the table of rules names: `file#case`, `*` for any ending.
#[test]
fn every_rule_has_a_right_and_a_wrong_vector() {
    let readme = fs::read_to_string(root().join("vectors/README.md")).unwrap();
    let (_, table) = readme.split_once("## Which rule, which vector").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let mut named = BTreeSet::new();
    for (path, vector) in vectors() {
        let file = path.strip_prefix(root().join("vectors")).unwrap().with_extension("");
        let file = file.to_str().unwrap().to_owned();
        let cases = vector["cases"].as_array().into_iter().flatten();
        named.extend(cases.filter_map(|case| Some(format!("{file}#{}", case["name"].as_str()?))));
        named.insert(file);
    }
    let there = |name: &str| match name.strip_suffix('*') {
        Some(begin) => named.range(begin.to_owned()..).next().is_some_and(|first| first.starts_with(begin)),
        None => named.contains(name),
    };
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        for cell in &cells[2..] {
            let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "nothing is named: {row}");
            names.iter().for_each(|name| assert!(there(name), "{name} is not there: {row}"));
        }
        assert_eq!(cells.len(), 4, "{row}");
    }
}

#[test]
fn the_messages_are_what_the_independent_program_computes() {
    let program = root().join("vectors/independent/messages.py");
    let Ok(run) = std::process::Command::new("python3").arg("-B").arg(program).arg("--check").output() else {
        eprintln!("SKIPPED: no python3 here, the vectors were not computed anew");
        return;
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Every place in a value, as pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| places(member, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found))
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found)),
        _ => {}
    }
}

#[test]
fn a_vector_with_a_field_that_nobody_reads_fails() {
    for (path, vector) in vectors() {
        for case in cases(&vector).into_iter().take(1) {
            let mut more = case.clone();
            more["more"] = json!(1);
            assert_eq!(failed(&more).len(), 1, "{}", path.display());
            for part in ["input", "expected", "headers", "sample", "computeBudget"] {
                let mut more = case.clone();
                if more.get(part).is_some_and(Value::is_object) {
                    more[part]["more"] = json!(1);
                    assert_eq!(failed(&more).len(), 1, "{part} of {}", path.display());
                }
            }
            for name in case.as_object().unwrap().keys().filter(|name| !["name", "reason", "note", "description"].contains(&name.as_str()))
            {
                let mut less = case.clone();
                less.as_object_mut().unwrap().remove(name);
                assert_eq!(failed(&less).len(), 1, "without {name}: {}", path.display());
            }
        }
    }
}

/// The least change of a leaf that makes it something else.
fn other(leaf: &Value) -> Option<Value> {
    Some(match leaf {
        Value::Bool(truth) => (!truth).into(),
        Value::Number(number) => (number.as_u64()? + 1).into(),
        Value::String(text) if text.is_empty() => "x".into(),
        Value::String(text) => {
            let (last, rest) = text.chars().last().map(|last| (last, &text[..text.len() - last.len_utf8()]))?;
            format!("{rest}{}", if last == '1' { '2' } else { '1' }).into()
        }
        Value::Null => "x".into(),
        _ => return None,
    })
}

#[test]
fn a_vector_with_another_expected_value_fails() {
    for (path, vector) in vectors() {
        for case in cases(&vector) {
            let expected = ["expected", "expectedError", "headers"].into_iter().find(|name| case.get(name).is_some());
            let Some(expected) = expected else { continue };
            let mut found = Vec::new();
            places(&case[expected], &format!("/{expected}"), &mut found);
            for place in found {
                let mut wrong = case.clone();
                let Some(changed) = wrong.pointer(&place).and_then(other) else { continue };
                *wrong.pointer_mut(&place).unwrap() = changed;
                assert_eq!(failed(&wrong).len(), 1, "{place} of {} in {}", case["name"], path.display());
            }
        }
    }
}

#[test]
fn what_is_no_vector_is_said_to_be_none() {
    for (text, expect) in [
        ("", "not JSON: it is not well-formed JSON"),
        ("[]", "the file: not an object"),
        ("{}", "kind is missing"),
        (r#"{"kind": "finality", "kind": "finality"}"#, "not JSON: a key occurs twice in one object"),
        (r#"{"kind": 1}"#, "kind: not a text"),
        (r#"{"kind": "finalities"}"#, "the kind \"finalities\" is not known"),
        (r#"{"kind": "finality", "cases": []}"#, "cases: there is none"),
        (r#"{"kind": "finality", "cases": {}}"#, "cases: not a list"),
        (r#"{"kind": "finality", "cases": [1]}"#, "cases/0: not an object"),
        (r#"{"kind": "finality", "name": 1}"#, "name: not a text"),
        (r#"{"kind": "finality", "cases": [{}], "more": 1}"#, "more was not read: no such field belongs here"),
        (r#"{"kind": "finality", "actual": "mempool", "required": "soon", "expected": true}"#, "required: unknown variant"),
        (r#"{"kind": "negative", "schema": "nothing", "value": 1, "expectedError": "x"}"#, "the schema \"nothing\" is not known"),
        (r#"{"kind": "refund-maturity", "timeoutDaa": 1, "currentDaa": "2", "expected": true}"#, "timeoutDaa: not a text"),
    ] {
        let checked = check(text.as_bytes());
        assert!(
            checked.len() == 1 && matches!(&checked[0].outcome, Err(problem) if problem.to_string().starts_with(expect)),
            "{text}: {checked:?}"
        );
    }
}

#[test]
fn a_value_that_nothing_refuses_is_no_negative_vector() {
    let good = fs::read(root().join("vectors/x402-http/exact.json")).unwrap();
    let good: Value = serde_json::from_slice(&good).unwrap();
    for (schema, member) in
        [("payment-payload", "paymentPayload"), ("payment-required", "paymentRequired"), ("settlement-response", "settlementResponse")]
    {
        let vector = json!({"kind": "negative", "schema": schema, "value": good[member], "expectedError": "invalid_payload"});
        assert_eq!(failed(&vector)[0].outcome, Err(Problem::NotRefused), "{schema}");
    }
}

#[test]
fn a_schema_is_known_by_its_name_its_file_and_its_address() {
    for said in [
        "payment-payload",
        "payment-payload.schema.json",
        "schemas/payment-payload.schema.json",
        "https://example.com/schemas/payment-payload.schema.json",
        "urn:kas402:schema:payment-payload",
    ] {
        assert_eq!(schemas::name_of(said), Some("payment-payload"), "{said}");
    }
    for said in ["", "payload", "common", "payment-payload.schema", "payment-payload.txt"] {
        assert!(schemas::name_of(said) != Some("payment-payload") || said == "payment-payload.schema", "{said}");
    }
}

/// Payments, payloads and terms that are right, out of the vectors.
fn right() -> Vec<(&'static str, Value)> {
    let mut found = Vec::new();
    for path in files(&root().join("vectors/x402-http")) {
        let vector: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let payment = vector["paymentPayload"].clone();
        found.push(("kaspa-payment-payload", payment["payload"].clone()));
        found.push(("payment-requirements", payment["accepted"].clone()));
        found.push(("facilitator-request", called(&payment)));
        found.push(("payment-payload", payment));
    }
    for (name, member) in [("claim", "claimAmount"), ("refund", "refundAmount")] {
        let path = root().join(format!("vectors/negative/{name}.json"));
        let vector: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        // The first value, made right again: a claim or refund stands in no positive vector of HTTP.
        let without = vector["cases"].as_array().unwrap().iter().find(|case| case["name"] == format!("without-{member}")).unwrap();
        let mut payment = without["value"].clone();
        payment["payload"][member] = json!("900000");
        found.push(("kaspa-payment-payload", payment["payload"].clone()));
        found.push(("facilitator-request", called(&payment)));
        found.push(("payment-payload", payment));
    }
    found
}

/// A facilitator's call about the payment, with all that a call may have.
fn called(payment: &Value) -> Value {
    json!({
        "x402Version": 2, "paymentPayload": payment, "paymentRequirements": payment["accepted"],
        "resource": {"url": "https://shop.example/report"}, "requestHash": "ab".repeat(32),
        "confirmations": 10, "sighting": true,
    })
}

#[test]
fn what_is_right_fits_its_schema() {
    for (schema, value) in right() {
        assert_eq!(schemas::validate(schema, &value), Ok(()), "{value}");
    }
    for (schema, value) in right().into_iter().filter(|(_, value)| value["accepted"]["extra"]["offer"].is_string()) {
        assert_eq!(faults::decoded(schema, &value, &Facts::default()), Ok(()), "{value}");
    }
}

#[test]
fn our_negative_payments_state_the_code_that_the_gateway_gives() {
    let mut codes = BTreeSet::new();
    for path in files(&root().join("vectors/negative")) {
        let vector: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for case in vector["cases"].as_array().unwrap() {
            if case["schema"] == "payment-payload" {
                let facts = Object::of("", case.clone())
                    .and_then(|mut case| if case.has("facts") { facts(&mut case) } else { Ok(Facts::default()) });
                let refused = faults::decoded("payment-payload", &case["value"], &facts.unwrap()).expect_err(&case["name"].to_string());
                assert_eq!(case["expectedError"], refused.code.as_str(), "{} in {}: {}", case["name"], path.display(), refused.detail);
                codes.insert(refused.code.as_str());
            }
        }
    }
    assert!(codes.len() >= 30, "{codes:?}");
}

/// The call with the terms of its payment as its requirements.
fn alike(call: &Value) -> Option<Value> {
    let accepted = call.pointer("/paymentPayload/accepted")?.clone();
    let mut call = call.clone();
    *call.get_mut("paymentRequirements")? = accepted;
    Some(call)
}

/// What stands at a place instead: of another type, at a bound, or beyond it.
fn replacements() -> Vec<Value> {
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(0.5),
        json!(60.0),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("0"),
        json!("1"),
        json!("01"),
        json!("-1"),
        json!("ab"),
        json!("AB".repeat(32)),
        json!("zz".repeat(32)),
        json!("ab".repeat(64)),
        json!("x".repeat(600)),
        json!("2900000000000000000"),
        json!("2900000000000000001"),
        json!("18446744073709551615"),
        json!("500000000000"),
        json!([]),
        json!({}),
        json!([1]),
        json!({"more": 1}),
        json!("kaspa:mainnet"),
        json!("kaspa:testnet-10"),
        json!("exact"),
        json!("batch-settlement"),
        json!("kaspa-exact-v1"),
        json!("kaspa-escrow-v1"),
        json!("exact-transfer"),
        json!("voucher"),
        json!("\u{661}"),
        json!("a\nb"),
        json!("ab\n"),
        deep,
    ]
}

/// Whether the schema refused the value; an error when it did and the decoder did not.
fn no_wider(schema: &str, value: &Value) -> Result<bool, String> {
    let Err(why) = schemas::validate(schema, value) else { return Ok(false) };
    match faults::decoded(schema, value, &Facts::default()) {
        Err(_) => Ok(true),
        Ok(()) => Err(format!("{schema} refuses and the decoder takes: {why}")),
    }
}

#[test]
fn what_a_schema_refuses_no_decoder_takes() {
    let (mut refused, mut wider) = (0_usize, BTreeSet::new());
    let mut hold = |schema: &str, value: &Value| {
        // A call whose two terms differ is refused for that: the same change in both.
        let alike = (schema == "facilitator-request").then(|| alike(value)).flatten();
        for value in [Some(value), alike.as_ref()].into_iter().flatten() {
            match no_wider(schema, value) {
                Ok(was) => refused += usize::from(was),
                Err(why) => drop(wider.insert(why)),
            }
        }
    };
    for (schema, value) in right() {
        let mut found = Vec::new();
        places(&value, "", &mut found);
        for place in found {
            // The echoed schema of an identifier is compared whole.
            if place.contains("/payment-identifier/schema/") {
                continue;
            }
            for replacement in replacements() {
                let mut changed = value.clone();
                *changed.pointer_mut(&place).unwrap() = replacement;
                hold(schema, &changed);
            }
            let (parent, name) = place.rsplit_once('/').unwrap_or(("", ""));
            type Change<'c> = &'c dyn Fn(&mut Map<String, Value>);
            let changes: [Change<'_>; 3] =
                [&|object| drop(object.remove(name)), &|object| drop(object.insert("more".into(), json!(1))), &|object| {
                    drop(object.insert(name.to_uppercase(), json!(1)))
                }];
            for change in changes {
                let mut changed = value.clone();
                if let Some(object) = changed.pointer_mut(parent).and_then(Value::as_object_mut) {
                    change(object);
                    hold(schema, &changed);
                }
            }
        }
    }
    assert!(wider.is_empty(), "{}", Vec::from_iter(wider).join("\n"));
    assert!(refused > 5_000, "only {refused} of the changes were refused by a schema");
}

proptest! {
    #[test]
    fn what_a_schema_refuses_no_decoder_takes_after_two_changes_either(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 2..4),
    ) {
        let all = right();
        let (schema, mut value) = all[pick.index(all.len())].clone();
        for (place, replacement, whole) in changes {
            let mut found = Vec::new();
            places(&value, "", &mut found);
            let place = &found[place.index(found.len())];
            if place.contains("/payment-identifier/schema/") {
                continue;
            }
            let values = replacements();
            // A part of another message, or one of the odd values.
            let put = if whole { all[replacement.index(all.len())].1.clone() } else { values[replacement.index(values.len())].clone() };
            *value.pointer_mut(place).unwrap() = put;
        }
        if let Err(why) = no_wider(schema, &value) {
            panic!("{why}\n{value}");
        }
    }
}

#[test]
fn the_schemas_are_schemas() {
    for (name, text) in schemas::FILES {
        let schema: Value = serde_json::from_str(text).unwrap();
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
    }
    let here: BTreeSet<String> =
        fs::read_dir(root().join("schemas")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known: BTreeSet<String> = schemas::FILES.iter().map(|(name, _)| format!("{name}.schema.json")).collect();
    assert_eq!(here, known, "every schema is compiled in");
}
