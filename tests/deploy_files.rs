//! Dockerfile and compose file: no container engine runs in the tests, so what can be known without one is checked here.

use kas402::config::{Code, Environment, Problem, compile_text};
use kaspa_addresses::{Address, Prefix, Version};
use serde_json::Value;
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

const UID: &str = "10001";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Instructions with their continued lines joined, without comments.
fn instructions(dockerfile: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = dockerfile.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    lines
        .join("\n")
        .replace("\\\n", " ")
        .lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .map(|(word, rest)| (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

/// What the first stage copies from the repository.
fn copied(instructions: &[(String, String)]) -> Vec<String> {
    let copies = instructions.iter().filter(|(word, rest)| word == "COPY" && !rest.starts_with("--from"));
    copies
        .flat_map(|(_, rest)| {
            let mut words: Vec<&str> = rest.split(' ').collect();
            words.pop();
            words.into_iter().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_image_is_built_in_two_stages_and_runs_as_nobody_special() {
    let all = instructions(&text("Dockerfile"));
    let of = |word: &str| all.iter().filter(|(w, _)| w == word).map(|(_, rest)| rest.as_str()).collect::<Vec<_>>();
    let stages: Vec<_> = of("FROM").into_iter().map(|from| from.rsplit_once(" AS ").unwrap().1).collect();
    assert_eq!(stages, ["build", "run"]);
    assert_eq!(of("USER"), [format!("{UID}:{UID}")]);
    for from in of("COPY").into_iter().filter_map(|copy| copy.strip_prefix("--from=")) {
        assert!(stages.contains(&from.split(' ').next().unwrap()), "{from}");
    }
    let build = of("RUN").into_iter().find(|run| run.contains("cargo build")).unwrap();
    assert!(build.contains("--locked --release -p kas402 "), "{build}");
    assert_eq!(of("HEALTHCHECK").len(), 1);
    assert!(of("HEALTHCHECK")[0].ends_with(r#"CMD ["/usr/local/bin/kas402", "health"]"#));
    let wanted = text("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"').to_owned();
    assert!(of("ARG").contains(&format!("RUST_VERSION={wanted}").as_str()), "the image builds with rust-version {wanted}");
}

#[test]
fn everything_the_build_needs_is_copied_and_let_through() {
    let copied = copied(&instructions(&text("Dockerfile")));
    let ignored = text(".dockerignore");
    for source in &copied {
        assert!(root().join(source).exists(), "COPY {source}: there is no such file");
        assert!(ignored.lines().any(|line| line == format!("!{source}")), ".dockerignore keeps {source} out");
    }
    let covered = |path: &Path| copied.iter().any(|source| path.starts_with(source));
    let manifest = text("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    for member in members.trim_end_matches(']').split(',').map(|member| member.trim().trim_matches('"')).filter(|member| *member != ".") {
        assert!(covered(Path::new(member)), "the workspace member {member} is not copied");
    }
    for target in manifest.lines().filter_map(|line| line.strip_prefix("path = ")) {
        assert!(covered(Path::new(target.trim_matches('"'))), "the target {target} is not copied");
    }
    for (kind, folder) in [("bench", "benches"), ("test", "tests"), ("example", "examples")] {
        let named = manifest.contains(&format!("[[{kind}]]"));
        assert!(!named || covered(Path::new(folder)), "cargo reads {folder}/ for the [[{kind}]] of Cargo.toml, and it is not copied");
    }
    for (file, included) in inclusions(&root().join("src")) {
        assert!(covered(&included), "{} includes {}, which is not copied", file.display(), included.display());
    }
}

/// Files that the binary's sources include, as paths from the root; tests are not built into it.
fn inclusions(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found.extend(inclusions(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let source = fs::read_to_string(&path).unwrap();
            let built = source.split("#[cfg(test)]\nmod ").next().unwrap();
            for call in ["include_str!(\"", "include_bytes!(\""] {
                for rest in built.split(call).skip(1) {
                    let included = path.parent().unwrap().join(rest.split('"').next().unwrap());
                    found.push((path.clone(), plain(&included).strip_prefix(root()).unwrap().to_owned()));
                }
            }
        }
    }
    found
}

/// Without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    })
}

#[test]
fn every_service_is_confined_and_what_it_names_exists() {
    let compose = yaml("deploy/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    for name in ["gateway", "node", "redis"] {
        assert!(services.contains_key(name), "{name}");
    }
    let declared = |kind: &str, name: &Value| compose[kind].as_object().unwrap().contains_key(name.as_str().unwrap());
    let entries = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name} writes only to its volumes");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert_ne!(service["privileged"], true, "{name}");
        for volume in entries(&service["volumes"]) {
            match volume["type"].as_str().unwrap() {
                "volume" => assert!(declared("volumes", &volume["source"]), "{name}: {volume}"),
                "bind" => {
                    assert_eq!(volume["read_only"], true, "{name}: {volume}");
                    assert!(root().join("deploy").join(volume["source"].as_str().unwrap()).exists(), "{name}: {volume}");
                }
                other => panic!("{name}: volume of type {other}"),
            }
        }
        for secret in entries(&service["secrets"]) {
            assert!(declared("secrets", &secret), "{name}: {secret}");
        }
        for needed in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(needed.0), "{name} depends on {}", needed.0);
        }
        for port in entries(&service["ports"]) {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is open to the world: {port}");
        }
    }
    for (name, service) in services.iter().filter(|(name, _)| ["gateway", "node"].contains(&name.as_str())) {
        assert_eq!(service["user"], format!("{UID}:{UID}"), "{name}");
    }
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        assert!(secret["file"].is_string(), "the secret {name} comes from a file");
    }
}

#[test]
fn the_gateway_finds_its_node_its_keys_and_its_socket() {
    let (compose, config) = (yaml("deploy/compose.yaml"), yaml("deploy/kas402.yaml"));
    let words = |service: &str| compose["services"][service]["command"].as_array().unwrap().clone();
    let node = words("node");
    for flag in ["--testnet", "--netsuffix=10", "--utxoindex", "--rpclisten-borsh=0.0.0.0:17210"] {
        assert!(node.contains(&flag.into()), "kaspad {flag}");
    }
    assert_eq!(config["network"], "kaspa:testnet-10");
    assert_eq!(config["node"]["urls"], serde_json::json!(["ws://node:17210"]));
    let key = config["keys"]["offer"]["file"].as_str().unwrap().strip_prefix("/run/secrets/").unwrap();
    assert_eq!(compose["services"]["gateway"]["secrets"], serde_json::json!([key]));
    let admin = config["admin"]["listen"].as_str().unwrap();
    assert!(text("Dockerfile").contains(&format!("ENV KAS402_ADMIN={admin}\n")));
    let redis = words("redis");
    for words in [["--appendonly", "yes"], ["--appendfsync", "always"], ["--maxmemory-policy", "noeviction"]] {
        assert!(redis.windows(2).any(|pair| pair == words), "redis-server {words:?}");
    }
}

#[test]
fn the_example_pays_nobody_until_somebody_writes_an_address() {
    let config = yaml("deploy/kas402.yaml");
    let placeholder = config["pay_to"].as_str().unwrap();
    let compiled = |text: &str| {
        let environment = Environment { var: &|_| None, secrets: false };
        compile_text(text, &root().join("deploy"), &environment).map(drop)
    };
    let errors: Vec<Problem> = compiled(&text("deploy/kas402.yaml")).unwrap_err().iter().filter(|p| p.is_error()).cloned().collect();
    assert!(matches!(errors.as_slice(), [Problem { code: Code::AddressInvalid, .. }]), "{errors:?}");
    let address = Address::new(Prefix::Testnet, Version::PubKey, &[7; 32]).to_string();
    if let Err(problems) = compiled(&text("deploy/kas402.yaml").replace(placeholder, &address)) {
        panic!("{problems}");
    }
    assert!(text(".gitignore").lines().any(|line| line == "/deploy/secrets"));
}
