//! The files of `tests/config_cases` say in comments (`#! code line:column`) what is wrong with them;
//! the schema and `docs/config.md` are compared with the code.

use super::*;
use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf};

pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Secrets are not read: the cases stand for themselves.
pub(super) fn compile(text: &str) -> Result<Compiled, Problems> {
    compile_text(text, Path::new("/srv"), &Environment { var: &|_| None, secrets: false })
}

fn found(compiled: &Result<Compiled, Problems>) -> Vec<String> {
    let problems = match compiled {
        Ok(compiled) => &compiled.warnings,
        Err(problems) => problems,
    };
    let mut list: Vec<String> = problems.iter().map(|p| format!("{} {}:{}", p.code.as_str(), p.at.line, p.at.column)).collect();
    list.sort();
    list
}

#[test]
fn every_case_file_has_exactly_its_problems() {
    let mut cases = 0;
    for entry in std::fs::read_dir(root().join("tests/config_cases")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut expect: Vec<String> = text.lines().filter_map(|line| line.split_once("#! ").map(|(_, what)| what.to_owned())).collect();
        expect.sort();
        let compiled = compile(&text);
        let messages = compiled.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(found(&compiled), expect, "{}\n{messages}", path.display());
        cases += 1;
    }
    assert!(cases >= 9, "the case files are where they were");
}

#[test]
fn the_case_files_show_nearly_every_code() {
    let mut shown = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("tests/config_cases")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        shown.extend(text.lines().filter_map(|line| Some(line.split_once("#! ")?.1.split(' ').next()?.to_owned())));
    }
    // These need a file or an environment, and have tests of their own.
    let elsewhere = ["file_unreadable", "file_too_large", "secret_missing", "secret_mode", "secret_malformed"];
    for code in Code::ALL {
        assert!(shown.contains(code.as_str()) != elsewhere.contains(&code.as_str()), "{}", code.as_str());
    }
}

#[test]
fn ten_lines_are_enough_for_an_existing_api() {
    let text = std::fs::read_to_string(root().join("tests/config_cases/minimal.yaml")).unwrap();
    assert!(text.lines().count() <= 10);
    let compiled = compile(&text).map_err(|problems| problems.to_string()).unwrap();
    assert_eq!(compiled.settings.listeners[0].address.to_string(), "127.0.0.1:8402");
    assert_eq!(compiled.settings.store.path, Path::new("/srv/kas402.db"));
    assert_eq!(compiled.settings.admin.listen, AdminListen::Unix("/srv/admin.sock".into()));
    let ids: Vec<&str> = compiled.policy.router.routes().iter().map(|route| route.id.0.as_str()).collect();
    assert_eq!(ids, ["any /health", "any /v1/{*rest}"]);
}

#[test]
fn the_example_passes_and_writes_the_defaults_it_claims() {
    let text = std::fs::read_to_string(root().join("config/kas402.example.yaml")).unwrap();
    let example = compile(&text).map_err(|problems| problems.to_string()).unwrap();
    assert!(example.warnings.is_empty(), "{}", example.warnings);
    let minimal = compile(&std::fs::read_to_string(root().join("tests/config_cases/minimal.yaml")).unwrap()).ok().unwrap();
    let channels = compile(&std::fs::read_to_string(root().join("tests/config_cases/channels.yaml")).unwrap()).ok().unwrap();
    assert_eq!(format!("{:?}", example.policy.channels), format!("{:?}", channels.policy.channels));
    // Whatever the example spells out as a default is what the minimal file gets; which sells from no channel, and names no keys for them.
    let expect = Settings { server_keys_file: channels.settings.server_keys_file, ..minimal.settings.clone() };
    assert_eq!(format!("{:?}", example.settings), format!("{expect:?}"));
    let pricing = |compiled: &Compiled, id: &str| {
        let route = compiled.policy.router.routes().iter().find(|route| route.id.0 == id).unwrap().clone();
        let text = format!("{:?} {:?}", route.access, route.timeout);
        text.replace("Some(\"One report\")", "None").replace("Some(\"application/json\")", "None")
    };
    assert_eq!(pricing(&example, "GET /v1/report/{id}"), pricing(&minimal, "any /v1/{*rest}"));
}

#[test]
fn secrets_come_from_the_environment_or_the_file_beside_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let base = std::fs::read_to_string(root().join("tests/config_cases/minimal.yaml")).unwrap();
    let line = secrets::key_line("k", &[3; 32]);
    let load = |extra: &str, var: &dyn Fn(&str) -> Option<String>| {
        let compiled = compile_text(&format!("{base}{extra}"), folder.path(), &Environment { var, secrets: true });
        compiled.map(|compiled| compiled.offer_keys.len()).map_err(|problems| problems.iter().map(|p| p.code.as_str()).collect::<Vec<_>>())
    };
    let none = |_: &str| None;
    let env = |name: &str| ["KAS402_OFFER_KEYS", "MINE"].contains(&name).then(|| line.trim().to_owned());
    let bad = |name: &str| (name == "MINE").then(|| "k:short".to_owned());
    assert_eq!(load("", &none), Err(vec!["secret_missing"]));
    assert_eq!(load("", &env), Ok(1));
    assert_eq!(load("keys: {offer: {env: MINE}}\n", &env), Ok(1));
    assert_eq!(load("keys: {offer: {env: MINE}}\n", &bad), Err(vec!["secret_malformed"]));
    assert_eq!(load("keys: {offer: {env: OTHER}}\n", &env), Err(vec!["secret_missing"]));
    assert_eq!(load("keys: {offer: k:AAAA}\n", &env), Err(vec!["wrong_type"]), "never inline");
    secrets::create_file(&folder.path().join("offer.keys"), &line).unwrap();
    assert_eq!(load("", &none), Ok(1));
    assert_eq!(load("keys: {offer: {file: offer.keys}}\n", &none), Ok(1));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(folder.path().join("offer.keys"), mode).unwrap();
    assert_eq!(load("", &none), Err(vec!["secret_mode"]));
}

#[test]
fn upstream_credentials_are_read_and_never_shown() {
    let base = std::fs::read_to_string(root().join("config/kas402.example.yaml"))
        .unwrap()
        .replace("{file: offer.keys}", "{env: KEYS}")
        .replace("{file: server.keys}", "{env: KEYS}");
    let line = secrets::key_line("k", &[3; 32]);
    let compile = |value: &str| {
        let var = |name: &str| match name {
            "MODELS_AUTHORIZATION" => Some(value.to_owned()),
            "KEYS" => Some(line.to_string()),
            _ => None,
        };
        compile_text(&base, Path::new("/srv"), &Environment { var: &var, secrets: true })
    };
    let compiled = compile("Bearer hidden").map_err(|problems| problems.to_string()).unwrap();
    let upstream = &compiled.policy.upstreams["models"];
    assert_eq!(upstream.headers[0].1.as_bytes(), b"Bearer hidden");
    assert_eq!((upstream.base_path.as_str(), upstream.port), ("/api", 443));
    assert!(!format!("{:?} {:?}", compiled.policy, compiled.settings).contains("hidden"));
    let problems = compile("two\nlines").err().unwrap();
    assert!(problems.to_string().contains("secret_malformed") && !problems.to_string().contains("two"));
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let folder = tempfile::tempdir().unwrap();
    let none = Environment { var: &|_| None, secrets: false };
    let codes = |path: &Path| load(path, &none).err().unwrap().iter().map(|p| p.code.as_str()).collect::<Vec<_>>();
    assert_eq!(codes(&folder.path().join("none.yaml")), ["file_unreadable"]);
    let path = folder.path().join("x.yaml");
    std::fs::write(&path, b"network: \xff").unwrap();
    assert_eq!(codes(&path), ["file_unreadable"]);
    std::fs::write(&path, vec![b'#'; yaml::MAX_BYTES + 1]).unwrap();
    assert_eq!(codes(&path), ["file_too_large"]);
}

#[test]
fn compiling_twice_gives_the_same_policy() {
    let text = std::fs::read_to_string(root().join("config/kas402.example.yaml")).unwrap();
    let ids = || {
        let compiled = compile(&text).map_err(|problems| problems.to_string()).unwrap();
        compiled.policy.router.routes().iter().map(|route| format!("{route:?}")).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ids());
}

/// Set `UPDATE_SCHEMAS=1` to write what the code says.
fn check_file(path: &Path, expect: &str) {
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(path, expect).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == expect, "{} is not what the code says: run the test with UPDATE_SCHEMAS=1", path.display());
}

#[test]
fn the_committed_schema_is_what_the_code_accepts() {
    let schema = schema();
    check_file(&root().join("schemas/config.schema.json"), &(serde_json::to_string_pretty(&schema).unwrap() + "\n"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (file, expect) in [
        ("config/kas402.example.yaml", true),
        ("tests/config_cases/minimal.yaml", true),
        ("tests/config_cases/gaps.yaml", true),
        ("tests/config_cases/channels.yaml", true),
        ("tests/config_cases/channels_small.yaml", true),
        ("tests/config_cases/every_error_at_once.yaml", false),
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(
            validator.is_valid(&value),
            expect,
            "{file}: {:?}",
            validator.iter_errors(&value).map(|e| e.to_string()).collect::<Vec<_>>()
        );
    }
}

/// Every place in a value, as pointers.
fn places(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let below: Vec<(String, &serde_json::Value)> = match value {
        serde_json::Value::Object(members) => {
            members.iter().map(|(name, member)| (name.replace('~', "~0").replace('/', "~1"), member)).collect()
        }
        serde_json::Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    below.into_iter().for_each(|(name, inner)| places(inner, &format!("{at}/{name}"), found));
}

#[test]
fn what_the_schema_refuses_no_configuration_may_have() {
    use serde_json::{Value, json};
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0.5),
        json!(7),
        json!(""),
        json!("other"),
        json!([]),
        json!([[]]),
        json!(["a"]),
        json!({}),
        json!({"more": 1}),
    ];
    let (mut refused, mut wider) = (0, BTreeSet::new());
    let mut hold = |changed: &Value| {
        if let Some(fault) = validator.iter_errors(changed).next() {
            refused += 1;
            if compile(&changed.to_string()).is_ok() {
                wider.insert(format!("{}: {fault}", fault.instance_path()));
            }
        }
    };
    let mut files = vec![root().join("config/kas402.example.yaml")];
    files.extend(std::fs::read_dir(root().join("tests/config_cases")).unwrap().map(|entry| entry.unwrap().path()));
    let (mut seen, mut whole) = (BTreeSet::new(), 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let Ok(right) = serde_saphyr::from_str::<Value>(&text) else { continue };
        if !validator.is_valid(&right) || compile(&right.to_string()).is_err() {
            continue;
        }
        whole += 1;
        let mut found = Vec::new();
        places(&right, "", &mut found);
        for place in found.into_iter().filter(|place| seen.insert(place.clone())) {
            for value in &odd {
                let mut changed = right.clone();
                *changed.pointer_mut(&place).unwrap() = value.clone();
                hold(&changed);
            }
            let mut more = right.clone();
            if let Some(members) = more.pointer_mut(&place).and_then(Value::as_object_mut) {
                members.insert("unknown_key".into(), json!(1));
                hold(&more);
            }
            let (parent, name) = place.rsplit_once('/').unwrap_or_default();
            let mut less = right.clone();
            if let Some(members) = less.pointer_mut(parent).and_then(Value::as_object_mut) {
                members.remove(name);
                hold(&less);
            }
        }
    }
    assert!(wider.is_empty(), "{}", Vec::from_iter(wider).join("\n"));
    assert!(whole > 5 && refused > 2_000, "{whole} configurations, only {refused} of their changes were refused by the schema");
}

/// The tables between the markers of `docs/config.md`, made of the same words as the code.
fn tables() -> (String, String) {
    let mut keys = String::from("| key | default | meaning |\n|---|---|---|\n");
    rows("", &schema(), &mut keys);
    let mut codes = String::from("| code | | meaning |\n|---|---|---|\n");
    for code in Code::ALL {
        let severity = if code.severity() == Severity::Error { "error" } else { "warning" };
        let _ = writeln!(codes, "| `{}` | {severity} | {} |", code.as_str(), code.meaning());
    }
    (keys, codes)
}

fn rows(prefix: &str, schema: &serde_json::Value, out: &mut String) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let default = match &field["default"] {
            serde_json::Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
            serde_json::Value::Null => String::new(),
            default => format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned)),
        };
        let meaning = field["description"].as_str().unwrap_or_default().replace('|', "\\|");
        let _ = writeln!(out, "| `{path}` | {default} | {meaning} |");
        nested(&path, field, out);
    }
}

/// Below lists, alternatives and free names.
fn nested(path: &str, field: &serde_json::Value, out: &mut String) {
    rows(path, field, out);
    if field["items"].is_object() {
        nested(&format!("{path}[]"), &field["items"], out);
    }
    if field["additionalProperties"].is_object() {
        nested(&format!("{path}.NAME"), &field["additionalProperties"], out);
    }
    let alternatives: Vec<_> = field["oneOf"].as_array().into_iter().flatten().collect();
    // One value or a list of the same: the list's rows are the value's.
    let listed = |one: &&serde_json::Value| !alternatives.iter().any(|other| other["items"] == **one);
    for alternative in alternatives.iter().copied().filter(listed) {
        nested(path, alternative, out);
    }
}

#[test]
fn the_reference_names_every_key_and_every_code() {
    let path = root().join("docs/config.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (keys, codes) = tables();
    let mut expect = text.clone();
    for (name, table) in [("keys", keys), ("codes", codes)] {
        let (start, end) = (format!("<!-- {name}: made by UPDATE_SCHEMAS=1 -->\n"), format!("<!-- end of {name} -->"));
        let from = expect.find(&start).expect("the marker is there") + start.len();
        let to = expect.find(&end).expect("the end marker is there");
        expect.replace_range(from..to, &table);
    }
    check_file(&path, &expect);
    assert!(expect.contains("`routes[].price.by.json`"), "nested keys are in the table");
}

#[test]
fn tenants_share_no_token_and_no_server_key() {
    use base64::Engine;
    let base = std::fs::read_to_string(root().join("tests/config_cases/facilitator.yaml")).unwrap();
    let base = base.replace("{file: other.token}", "{env: OTHER_TOKEN}\n      server_keys: {env: OTHER_KEYS}");
    let base = format!("{base}\nkeys: {{offer: {{env: OFFER}}, server: {{env: SERVER}}}}\n");
    let key = |byte: u8| format!("k:{}", base64::engine::general_purpose::STANDARD.encode([byte; 32]));
    let load = |shop: &str, other: &str, keys: [u8; 3]| {
        let var = |name: &str| match name {
            "SHOP_TOKEN" => Some(shop.to_owned()),
            "OTHER_TOKEN" => Some(other.to_owned()),
            "SERVER" => Some(key(keys[0])),
            "SHOP_KEYS" => Some(key(keys[1])),
            "OTHER_KEYS" => Some(key(keys[2])),
            "OFFER" => Some(key(9)),
            _ => None,
        };
        let compiled = compile_text(&base, Path::new("/srv"), &Environment { var: &var, secrets: true });
        compiled.map_err(|problems| problems.iter().map(|p| p.code.as_str()).collect::<Vec<_>>())
    };
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    let compiled = load(&one, &two, [1, 2, 3]).ok().unwrap();
    let tenants = &compiled.policy.tenants;
    assert_eq!(tenants.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["shop", "api.other"]);
    assert!(tenants[0].token.is(one.as_bytes()) && !tenants[0].token.is(two.as_bytes()));
    assert_eq!(compiled.server_keys.iter().count(), 3);
    assert_eq!(compiled.server_keys.opening().unwrap().public(), compiled.server_keys.iter().next().unwrap().public());
    assert!(tenants.iter().flat_map(|tenant| &tenant.server_keys).all(|key| compiled.server_keys.find(key).is_some()));
    assert!(!format!("{:?}", compiled.policy).contains(&one[..16]), "a token is never shown");
    for (shop, other, keys, expect) in [
        (&one, &one, [1, 2, 3], "tenant_overlap"),
        (&one, &two, [1, 2, 2], "tenant_overlap"),
        (&one, &two, [1, 1, 3], "tenant_overlap"),
        (&"1".repeat(31), &two, [1, 2, 3], "secret_malformed"),
    ] {
        assert_eq!(load(shop, other, keys).err(), Some(vec![expect]), "{keys:?}");
    }
}
