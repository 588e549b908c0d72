//! Who may name whom (docs/architecture.md): the `use` lines and paths of `src/` against one table.
//!
//! Comments, strings and tests are not read. `use` trees are spread out, and `self` and `super` resolved.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Names that a folder must not contain.
struct Rule {
    /// Below `src/`; empty for the whole crate.
    folder: &'static str,
    /// Paths, compared by whole names from their start; `x*` also takes longer first names; `~x` also takes any place in a path.
    forbidden: &'static [&'static str],
    /// Folders or files below `folder` for which this does not hold.
    except: &'static [&'static str],
    why: &'static str,
}

/// Everything that waits, listens, stores or draws.
const EDGES: &[&str] = &[
    "tokio*",
    "futures*",
    "async_trait",
    "pingora*",
    "axum",
    "hyper*",
    "reqwest",
    "rusqlite",
    "redis",
    "clap",
    "prometheus",
    "tracing*",
    "arc_swap",
    "kaspa_rpc_core",
    "kaspa_wrpc_client",
    "kaspa_grpc_client",
    "kaspa_notify",
    "kaspa_wallet_core",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "async",
    "await",
];
const NODE: &[&str] = &["kaspa_rpc_core", "kaspa_wrpc_client", "kaspa_grpc_client", "kaspa_notify", "kaspa_wallet_core"];

const RULES: &[Rule] = &[
    Rule { folder: "protocol", forbidden: EDGES, except: &[], why: "protocol is pure: nothing waits, reads or listens" },
    Rule {
        folder: "protocol",
        forbidden: &[
            "crate::wire",
            "crate::binding",
            "crate::store",
            "crate::chain",
            "crate::gateway",
            "crate::proxy",
            "crate::admin",
            "crate::cli",
            "crate::client",
            "crate::config",
            "crate::telemetry",
            "crate::runtime",
            "~Instant",
        ],
        except: &[],
        why: "protocol names nobody: everybody names it",
    },
    Rule { folder: "wire", forbidden: EDGES, except: &[], why: "wire is bytes, not I/O" },
    Rule { folder: "binding", forbidden: EDGES, except: &[], why: "a binding judges and never waits" },
    Rule { folder: "conformance", forbidden: EDGES, except: &[], why: "vectors are checked, not fetched" },
    Rule {
        folder: "conformance",
        forbidden: &["crate::store", "crate::chain", "crate::gateway", "crate::client", "crate::config", "crate::runtime", "~Instant"],
        except: &[],
        why: "a vector is about the wire and the bindings",
    },
    Rule {
        folder: "wire",
        forbidden: &["crate::binding", "crate::store", "crate::chain", "crate::gateway", "crate::runtime", "~Instant"],
        except: &[],
        why: "wire knows the protocol only",
    },
    Rule {
        folder: "binding",
        forbidden: &["crate::store", "crate::chain", "crate::gateway", "crate::runtime", "~Instant"],
        except: &[],
        why: "a binding knows protocol and wire only",
    },
    Rule {
        folder: "store",
        forbidden: &["crate::chain", "crate::gateway", "crate::wire", "crate::binding", "crate::proxy", "crate::config", "pingora*"],
        except: &["store/channels"],
        why: "a store keeps records and knows no use case; a channel's accounts are the binding's, which is pure",
    },
    Rule {
        folder: "chain",
        forbidden: &["crate::store", "crate::gateway", "crate::wire", "crate::binding", "crate::proxy", "crate::config", "pingora*"],
        except: &[],
        why: "the chain reports and decides nothing",
    },
    Rule { folder: "", forbidden: NODE, except: &["chain/kaspa"], why: "node crates stay in chain/kaspa" },
    Rule { folder: "", forbidden: &["pingora*"], except: &["proxy"], why: "pingora stays in proxy" },
    Rule {
        folder: "",
        forbidden: &["rusqlite", "redis"],
        // lib.rs declares `store::redis` for builds that only read configurations.
        except: &["store", "client/journal", "lib.rs"],
        why: "databases stay in store and in the buyer's journal",
    },
    Rule { folder: "", forbidden: &["axum"], except: &["admin", "facilitator"], why: "axum stays with the small listeners" },
    Rule { folder: "", forbidden: &["serde_saphyr"], except: &["config"], why: "YAML stays in config" },
    Rule {
        folder: "gateway",
        forbidden: &[
            "crate::store::memory",
            "crate::store::embedded",
            "crate::store::redis",
            "crate::chain::kaspa",
            "crate::chain::sim",
            "crate::proxy",
            "crate::config",
            "crate::admin",
            "crate::cli",
            "crate::runtime",
            "reqwest",
            "std::fs",
            "std::net",
        ],
        except: &[],
        why: "use cases know the two traits, not who implements them",
    },
    Rule {
        folder: "proxy",
        forbidden: &[
            "crate::protocol::price",
            "crate::protocol::amount",
            "crate::protocol::offer",
            "crate::store",
            "crate::chain",
            "crate::binding",
        ],
        except: &[],
        why: "the edge moves bytes and counts no money",
    },
    Rule {
        folder: "admin",
        forbidden: &["crate::protocol::price", "crate::protocol::amount", "crate::protocol::offer", "crate::binding", "crate::wire"],
        except: &[],
        why: "the admin listener reads sums and makes none",
    },
    Rule {
        folder: "facilitator",
        forbidden: &[
            "crate::protocol::price",
            "crate::protocol::amount",
            "crate::protocol::offer",
            "crate::store",
            "crate::binding",
            "crate::wire",
        ],
        except: &[],
        why: "the facilitator's listener moves calls and counts no money",
    },
    Rule { folder: "", forbidden: &["~SystemTime"], except: &["runtime/clock.rs"], why: "one file reads the system clock" },
    Rule { folder: "", forbidden: &["chrono"], except: &["gateway/ledger/date.rs"], why: "the calendar is one file, and has no clock" },
    Rule {
        folder: "",
        forbidden: &["~OsRng", "~thread_rng", "rand::random", "getrandom"],
        except: &["runtime/random.rs", "client", "cli", "config", "proof"],
        why: "the gateway is given its randomness; keys are made by the commands and the buyer",
    },
    Rule {
        folder: "client",
        forbidden: &["crate::gateway", "crate::store", "crate::proxy", "crate::admin", "crate::config", "pingora*"],
        except: &[],
        why: "the buyer is a library of its own",
    },
];

#[test]
fn no_folder_names_what_it_must_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = BTreeSet::new();
    let mut read = 0;
    for file in sources(&root) {
        let inside = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        read += 1;
        for name in names(&fs::read_to_string(&file).unwrap(), &module_of(&inside)) {
            for rule in RULES.iter().filter(|rule| within(&inside, rule.folder) && !rule.except.iter().any(|e| within(&inside, e))) {
                if rule.forbidden.iter().any(|forbidden| matches(&name, forbidden)) {
                    wrong.insert(format!("src/{inside} names {}: {}", name.join("::"), rule.why));
                }
            }
        }
    }
    assert!(read > 40, "only {read} files were read");
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn names_are_found_however_they_are_written() {
    let module = ["crate", "chain", "kaspa"].map(str::to_owned);
    for (source, forbidden, expect) in [
        ("use tokio::sync::watch;", "tokio*", true),
        ("use tokio_util::x;", "tokio*", true),
        ("use my_tokio::x;", "tokio*", false),
        ("use crate::{protocol::ids, store::{Claim, memory as m}};", "crate::store::memory", true),
        ("use crate::{protocol::ids, store::{Claim}};", "crate::store::memory", false),
        ("use crate::store::{self, Claim};", "crate::store::self", true),
        ("use crate::store::{Acceptance, Checkpoint};", "crate::store::Claim", false),
        ("use super::super::store::*;", "crate::store", true),
        ("use self::super::Chain;", "crate::chain::Chain", true),
        ("fn f() { let x = std::time::SystemTime::now(); }", "~SystemTime", true),
        ("pub async fn f() {}", "async", true),
        ("fn asynchronous() {}", "async", false),
        ("f().await", "await", true),
        ("// tokio::spawn\n/* tokio::spawn /* tokio::x */ */ fn f() {}", "tokio*", false),
        ("const S: &str = \"tokio::spawn \\\" tokio::x\";", "tokio*", false),
        ("const S: &str = r#\"tokio::x \"#; const C: char = '\"'; fn f<'a>() { tokio::y() }", "tokio*", true),
        ("#[tokio::main] fn f() {}", "tokio*", true),
        ("::tokio::spawn(x)", "tokio*", true),
        ("extern crate tokio;", "tokio*", true),
        ("fn f() {}\n#[cfg(test)]\nmod tests { use tokio::x; }", "tokio*", false),
    ] {
        let found = names(source, &module).iter().any(|name| matches(name, forbidden));
        assert_eq!(found, expect, "{forbidden} in {source:?}");
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // Tests may name everything: they put the parts together.
        let test = name == "tests" || name == "tests.rs" || name.ends_with("_tests.rs") || path.ends_with("store/conformance");
        match (path.is_dir(), test) {
            (_, true) => {}
            (true, false) => found.extend(sources(&path)),
            (false, false) if name.ends_with(".rs") => found.push(path),
            (false, false) => {}
        }
    }
    found
}

/// Whether `file` is `place`, or below it.
fn within(file: &str, place: &str) -> bool {
    place.is_empty() || file == place || file.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// `chain/kaspa/node.rs` is `crate::chain::kaspa::node`.
fn module_of(file: &str) -> Vec<String> {
    let names = file.trim_end_matches(".rs").split('/').filter(|name| !matches!(*name, "mod" | "lib" | "main"));
    std::iter::once("crate").chain(names).map(str::to_owned).collect()
}

fn matches(name: &[String], forbidden: &str) -> bool {
    if let Some(anywhere) = forbidden.strip_prefix('~') {
        return name.iter().any(|part| part == anywhere);
    }
    if let Some(first) = forbidden.strip_suffix('*') {
        return name[0].strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    }
    let mut parts = name.iter();
    forbidden.split("::").all(|wanted| parts.next().is_some_and(|part| part == wanted))
}

/// Every path and word of the source, `use` trees spread out.
fn names(source: &str, module: &[String]) -> Vec<Vec<String>> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            at = tree(&tokens, at + 1, &[], module, &mut found);
            continue;
        }
        let start = at;
        let mut path = Vec::new();
        while at < tokens.len() && is_name(&tokens[at]) {
            path.push(tokens[at].clone());
            at += 1;
            if at + 1 < tokens.len() && tokens[at] == "::" && is_name(&tokens[at + 1]) {
                at += 1;
            } else {
                break;
            }
        }
        if !path.is_empty() {
            found.push(resolved(path, module));
        }
        at = at.max(start + 1);
    }
    found
}

/// One branch of a `use` tree; returns the place after it.
fn tree(tokens: &[String], mut at: usize, prefix: &[String], module: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    let mut branches = false;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "::" => at += 1,
            "{" => {
                branches = true;
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    at = tree(tokens, at, &path, module, found);
                    if at < tokens.len() && tokens[at] == "," {
                        at += 1;
                    }
                }
                at += 1;
            }
            "as" => at += 2,
            name if is_name(name) || name == "*" => {
                path.push(name.to_owned());
                at += 1;
            }
            _ => break,
        }
    }
    if !path.is_empty() && !branches {
        found.push(resolved(path, module));
    }
    at
}

fn resolved(path: Vec<String>, module: &[String]) -> Vec<String> {
    let mut at = module.to_vec();
    let relative = path.iter().take_while(|part| matches!(part.as_str(), "self" | "super")).count();
    if relative == 0 {
        return path;
    }
    for _ in path.iter().take(relative).filter(|part| *part == "super") {
        at.pop();
    }
    at.extend_from_slice(&path[relative..]);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words and marks, without comments, strings and character literals.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let starts = |at: usize, text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                let (step, change) = match () {
                    () if starts(at, "/*") => (2, 1),
                    () if starts(at, "*/") => (2, -1),
                    () => (1, 0),
                };
                at += step;
                depth += change;
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            // A character, or a lifetime, which is left to be a word.
            if chars.get(at + 1) == Some(&'\\') {
                at += 3;
                while at < chars.len() && chars[at] != '\'' {
                    at += 1;
                }
                at += 1;
            } else {
                at += if chars.get(at + 2) == Some(&'\'') { 3 } else { 1 };
            }
        } else if c.is_alphanumeric() || c == '_' {
            let start = at;
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            let word: String = chars[start..at].iter().collect();
            let raw = matches!(word.as_str(), "r" | "br") && matches!(chars.get(at), Some('"' | '#'));
            if raw && let Some(end) = raw_string_end(&chars, at) {
                at = end;
            } else {
                found.push(word);
            }
        } else if starts(at, "::") {
            found.push("::".into());
            at += 2;
        } else {
            if !c.is_whitespace() {
                found.push(c.into());
            }
            at += 1;
        }
    }
    found
}

/// The place after a raw string whose hashes or quote begin at `at`; `None` for a raw name.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = at + hashes + 1;
    chars[body..].windows(end.len()).position(|window| window == end).map(|found| body + found + end.len())
}
