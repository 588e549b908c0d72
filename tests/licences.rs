//! What the dependencies are licensed under, by `cargo metadata`: nothing that an Apache-2.0 OR MIT product may not
//! carry. `deny.toml` says the same to cargo-deny, where that is installed.

use serde_json::Value;
use std::{collections::BTreeSet, path::Path, process::Command};

/// Licences that every dependency may have.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Single crates under terms that bind their own files or the way of linking, and why that is fine.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("attohttpc", "MPL-2.0", "unchanged; only the node of devnet links it"),
    ("option-ext", "MPL-2.0", "unchanged"),
    ("malachite-base", "LGPL-3.0-only", "through kaspa-math; all sources are public, so anybody can relink"),
    ("malachite-nz", "LGPL-3.0-only", "through kaspa-math; all sources are public, so anybody can relink"),
    ("duration-string", "", "no SPDX text in its manifest; its LICENSE file is the MIT licence; only devnet links it"),
];

#[test]
fn every_dependency_is_under_an_allowed_licence() {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 300, "only {} packages", packages.len());
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for package in packages {
        let (name, licence) = (package["name"].as_str().unwrap(), package["license"].as_str().unwrap_or_default());
        if EXCEPTIONS.iter().any(|(n, l, _)| (*n, *l) == (name, licence)) {
            used.insert(name);
        } else if !allowed(licence) {
            wrong.push(format!("{name} {}: {licence:?}", package["version"]));
        }
    }
    assert!(wrong.is_empty(), "not on the list of allowed licences:\n{}", wrong.join("\n"));
    let unused: Vec<_> = EXCEPTIONS.iter().filter(|(name, ..)| !used.contains(name)).collect();
    assert!(unused.is_empty(), "exceptions nobody needs: {unused:?}");
}

#[test]
fn an_expression_is_allowed_when_some_choice_of_it_is() {
    for (expression, expect) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("Apache-2.0 / MIT", true),
        ("GPL-2.0-only OR MIT", true),
        ("GPL-2.0-only", false),
        ("MIT AND GPL-3.0-only", false),
        ("(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
        ("MIT OR GPL-3.0-only AND AGPL-3.0", true),
        ("(MIT OR GPL-3.0-only) AND AGPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-2.0-only WITH Classpath-exception-2.0", false),
        ("", false),
        ("MIT AND", false),
        ("(MIT", false),
    ] {
        assert_eq!(allowed(expression), expect, "{expression:?}");
    }
}

#[test]
fn cargo_deny_is_told_the_same() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap();
    let listed = |licence: &str| text.contains(&format!("\"{licence}\""));
    for licence in ALLOWED {
        assert!(listed(licence), "{licence}");
    }
    // Where a manifest names no licence, cargo-deny reads the licence's text.
    for (name, ..) in EXCEPTIONS.iter().filter(|(_, licence, _)| !licence.is_empty()) {
        assert!(listed(name), "{name}");
    }
    for file in ["LICENSE-APACHE", "LICENSE-MIT"] {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists(), "{file}");
    }
}

/// Whether the licences of some choice within an SPDX expression are all on the list. `/` is an old way to write OR.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    choice(&words, &mut at) == Some(true) && at == words.len()
}

/// `None` when it is no expression.
fn choice(words: &[&str], at: &mut usize) -> Option<bool> {
    let mut any = all(words, at)?;
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        any |= all(words, at)?;
    }
    Some(any)
}

fn all(words: &[&str], at: &mut usize) -> Option<bool> {
    let mut every = one(words, at)?;
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        every &= one(words, at)?;
    }
    Some(every)
}

fn one(words: &[&str], at: &mut usize) -> Option<bool> {
    let word = *words.get(*at)?;
    *at += 1;
    if word == "(" {
        let inner = choice(words, at)?;
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return closed.then_some(inner);
    }
    if matches!(word, ")" | "OR" | "AND" | "WITH") {
        return None;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1)?;
        *at += 2;
        return Some(ALLOWED.contains(&format!("{word} WITH {exception}").as_str()));
    }
    Some(ALLOWED.contains(&word))
}
