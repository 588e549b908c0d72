//! `kas402 vectors verify`, as it is called.

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn verify(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kas402")).args(["vectors", "verify"]).args(arguments).output().unwrap()
}

fn told(arguments: &[&Path]) -> (bool, Value) {
    let run = verify(&[arguments, &[Path::new("--json")]].concat());
    (run.status.success(), serde_json::from_slice(&run.stdout).unwrap())
}

#[test]
fn our_own_vectors_pass_as_a_folder() {
    let (passed, told) = told(&[&root().join("vectors")]);
    assert!(passed, "{told}");
    assert_eq!(told["failed"], 0);
    assert!(told["passed"].as_u64().unwrap() > 1_100, "{}", told["passed"]);
}

#[test]
fn one_wrong_case_fails_the_run_and_is_named_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let right = json!({"kind": "refund-maturity", "timeoutDaa": "5", "currentDaa": "6", "expected": true});
    let wrong = json!({"kind": "finality", "cases": [
        {"name": "same", "actual": "accepted", "required": "accepted", "expected": true},
        {"name": "weaker", "actual": "mempool", "required": "confirmed", "expected": true},
    ]});
    fs::create_dir(folder.path().join("below")).unwrap();
    fs::write(folder.path().join("right.json"), right.to_string()).unwrap();
    fs::write(folder.path().join("below/wrong.json"), wrong.to_string()).unwrap();
    fs::write(folder.path().join("README.md"), "no vector").unwrap();
    let (passed, told) = told(&[folder.path()]);
    assert!(!passed);
    assert_eq!((&told["passed"], &told["failed"]), (&json!(2), &json!(1)));
    let failed: Vec<&Value> = told["results"].as_array().unwrap().iter().filter(|result| result["passed"] == false).collect();
    assert_eq!((&failed[0]["kind"], &failed[0]["name"]), (&json!("finality"), &json!("weaker")));
    assert_eq!(failed[0]["reason"], "cases/1/expected is false, not true");

    let table = verify(&[folder.path()]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("FAILED") && table.contains("weaker") && table.ends_with("2 passed, 1 failed\n"), "{table}");
}

#[test]
fn what_is_not_there_or_no_vector_fails() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("unknown.json", r#"{"kind": "finalities"}"#),
        ("kindless.json", r#"{"actual": "mempool", "required": "mempool", "expected": true}"#),
        ("unread.json", r#"{"kind": "finality", "actual": "mempool", "required": "mempool", "expected": true, "more": 1}"#),
        ("twice.json", r#"{"kind": "finality", "actual": "mempool", "actual": "mempool", "required": "mempool", "expected": true}"#),
        ("cut.json", r#"{"kind": "finality""#),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        assert!(!verify(&[&path]).status.success(), "{name}");
    }
    assert!(!verify(&[&folder.path().join("absent.json")]).status.success());
    let empty = tempfile::tempdir().unwrap();
    assert!(!verify(&[empty.path()]).status.success(), "a folder without vectors checks nothing");
    assert!(!verify(&[]).status.success());
}
