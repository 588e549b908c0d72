//! The documentation against the code. `UPDATE_DOCS=1 cargo test --test docs` writes the generated tables anew.

mod advice;

use advice::advice;
use kas402::{
    protocol::refusal::{Code, Fault, Offers},
    telemetry::Metrics,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const BEGIN: &str = "<!-- generated: UPDATE_DOCS=1 cargo test --test docs -->\n";
const END: &str = "<!-- end -->\n";

fn path(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(inside)
}

fn text(inside: &str) -> String {
    fs::read_to_string(path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
}

/// Compares the generated part of a document, or writes it.
fn check_generated(document: &str, generated: &str) {
    let found = text(document);
    let (head, rest) = found.split_once(BEGIN).unwrap_or_else(|| panic!("{document} has no {BEGIN}"));
    let (present, tail) = rest.split_once(END).unwrap_or_else(|| panic!("{document} has no {END}"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path(document), format!("{head}{BEGIN}{generated}{END}{tail}")).unwrap();
    } else {
        assert_eq!(present, generated, "{document} is out of date: UPDATE_DOCS=1 cargo test --test docs");
    }
}

#[test]
fn every_refusal_is_documented_with_what_to_do() {
    let mut table = String::new();
    for fault in [Fault::Client, Fault::Nobody, Fault::Operator, Fault::Upstream] {
        let title = match fault {
            Fault::Client => "The client's to change",
            Fault::Nobody => "Nobody's fault: later",
            Fault::Operator => "The operator's to repair",
            Fault::Upstream => "The API behind the gateway",
        };
        table += &format!(
            "\n## {title}\n\n| code | status | `errorReason` | offer | meaning | what the client should do |\n|---|---|---|---|---|---|\n"
        );
        for code in Code::ALL.iter().filter(|code| code.fault() == fault) {
            let reason = match code.error_reason() {
                "" => "-".to_owned(),
                reason => format!("`{reason}`"),
            };
            let offer = match code.offers() {
                Offers::Attach => "fresh",
                Offers::Never => "none",
            };
            table += &format!("| `{code}` | {} | {reason} | {offer} | {} | {} |\n", code.status(), code.meaning(), advice(*code));
        }
    }
    table.push('\n');
    check_generated("docs/refusals.md", &table);
}

#[test]
fn nobody_is_advised_to_pay_again_for_money_that_may_have_moved() {
    for code in Code::ALL {
        let advice = advice(*code);
        assert!(advice.ends_with('.') && advice.len() > 30, "{code}: {advice}");
        assert!(!advice.contains('|'), "{code}: {advice}");
        let pays_again = advice.contains("fresh offer");
        assert!(!pays_again || code.offers() == Offers::Attach, "{code} carries no offer, yet: {advice}");
    }
}

#[test]
fn every_metric_is_explained_and_nothing_else_is() {
    let metrics = Metrics::new();
    // A labelled counter shows only once it has counted.
    metrics.requests.free.inc();
    metrics.refusals.with_label_values(&["no_route"]).inc();
    metrics.facilitated(Some("shop"), "verify", None);
    let rendered = metrics.render();
    let exist: BTreeSet<&str> = rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let operating = text("docs/operating.md");
    let explained: BTreeSet<&str> = operating.lines().filter_map(|line| line.strip_prefix("| `kas402_")?.split('`').next()).collect();
    let explained: BTreeSet<String> = explained.into_iter().map(|name| format!("kas402_{}", name.split('{').next().unwrap())).collect();
    assert!(exist.len() > 10);
    assert_eq!(explained.iter().map(String::as_str).collect::<BTreeSet<_>>(), exist);
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut functions = BTreeSet::new();
    for folder in ["src", "tests", "devnet/src", "devnet/tests"] {
        collect_functions(&path(folder), &mut functions);
    }
    let mut named = 0;
    for document in ["docs/threats.md", "docs/architecture.md"] {
        let text = text(document);
        // A name of a test is a sentence: several words in backticks.
        for name in text.split('`').skip(1).step_by(2).filter(|name| {
            name.matches('_').count() >= 3 && !name.contains(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_')
        }) {
            let is_code = Code::ALL.iter().any(|code| code.as_str() == name) || name.starts_with("kas402_");
            assert!(is_code || functions.contains(name), "{document} names a test that does not exist: {name}");
            named += usize::from(!is_code);
        }
    }
    assert!(named > 20, "only {named} tests are named");
}

fn collect_functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for after in fs::read_to_string(&path).unwrap().split("fn ").skip(1) {
                found.insert(after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
            }
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = markdown(&path("docs")).into_iter().chain([path("README.md")].into_iter().filter(|readme| readme.exists()));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(document.parent().unwrap().join(file).exists(), "{}: {target}", document.display());
        }
    }
}

fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(markdown(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}
