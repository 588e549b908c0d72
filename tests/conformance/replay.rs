//! Every seed of the vectors and every kept case, through the same functions that are fuzzed.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("header", targets::header),
    ("payment", targets::payment),
    ("exact_transfer", targets::exact_transfer),
    ("deposit_voucher", targets::deposit_voucher),
    ("voucher", targets::voucher),
    ("claim", targets::claim),
    ("refund", targets::refund),
    ("requirements", targets::requirements),
    ("transaction", targets::transaction),
    ("offer_token", targets::offer_token),
    ("channel_accounts", targets::channel_accounts),
    ("path", targets::path),
    ("yaml", targets::yaml),
    ("facilitator_call", targets::facilitator_call),
    ("mcp_message", targets::mcp_message),
    ("event_stream", targets::event_stream),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs every file of `folder/<target>`; how many there were.
fn replay(folder: &Path) -> usize {
    let mut run = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let cases = entry.unwrap().path();
        let Some((name, target)) = TARGETS.iter().find(|(name, _)| cases.ends_with(name)) else {
            panic!("{} is the folder of no target", cases.display())
        };
        for case in fs::read_dir(&cases).unwrap() {
            let path = case.unwrap().path();
            println!("{name}: {}", path.display());
            target(&fs::read(&path).unwrap());
            run += 1;
        }
    }
    run
}

#[test]
fn every_kept_case_is_survived() {
    assert!(replay(&root().join("fuzz/cases")) > 0);
}

#[test]
fn every_seed_of_the_vectors_is_survived() {
    let seeds = tempfile::tempdir().unwrap();
    let Ok(made) = Command::new("python3").arg("-B").arg(root().join("fuzz/seeds.py")).arg(seeds.path()).output() else {
        eprintln!("SKIPPED: no python3 here, there are no seeds");
        return;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(replay(seeds.path()) > 500);
}

#[test]
fn every_fuzz_target_is_replayed_here() {
    let programs = fs::read_dir(root().join("fuzz/bin")).unwrap().map(|entry| entry.unwrap().path());
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut here: Vec<String> = programs.map(stem).collect();
    let mut replayed: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    here.sort();
    replayed.sort();
    assert_eq!(here, replayed);
}
