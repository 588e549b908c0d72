//! `kas402 vectors verify`: conformance vectors, our own or somebody else's, computed anew.

use super::{
    fail,
    paint::Paint,
    say,
    table::{inked, plain, table},
};
use crate::conformance::{self, Checked};
use serde_json::{Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Compute every vector anew and compare; fails when one differs, has an unknown kind or a field that nobody read
    Verify(Verify),
}

#[derive(clap::Args)]
pub struct Verify {
    /// Files, or folders with all .json files below them.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// For programs: one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

pub fn run(command: &Command) -> ExitCode {
    let Command::Verify(args) = command;
    let mut results = Vec::new();
    for path in &args.paths {
        let files = match files(path) {
            Ok(files) if files.is_empty() => return fail(format!("{}: there is no .json file", path.display())),
            Ok(files) => files,
            Err(error) => return fail(format!("{}: {error}", path.display())),
        };
        for file in files {
            match fs::read(&file) {
                Ok(text) => results.extend(conformance::check(&text).into_iter().map(|checked| (file.clone(), checked))),
                Err(error) => return fail(format!("{}: {error}", file.display())),
            }
        }
    }
    let failed = results.iter().filter(|(_, checked)| checked.outcome.is_err()).count();
    if args.json {
        let told: Vec<Value> = results.iter().map(|(file, checked)| row(file, checked)).collect();
        say(json!({ "passed": results.len() - failed, "failed": failed, "results": told }));
    } else {
        let paint = Paint::stdout();
        say(rows(&results, paint).trim_end());
        let sum = format!("{} passed, {failed} failed", results.len() - failed);
        say(if failed == 0 { paint.green(&sum) } else { paint.red(&sum) });
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The file, or all `.json` files below the folder, in order.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "json") {
            found.extend(files(&entry)?);
        }
    }
    found.sort();
    Ok(found)
}

fn row(file: &Path, checked: &Checked) -> Value {
    json!({
        "file": file.display().to_string(),
        "kind": checked.kind,
        "name": checked.name,
        "passed": checked.outcome.is_ok(),
        "reason": checked.outcome.as_ref().err().map(ToString::to_string),
    })
}

fn rows(results: &[(PathBuf, Checked)], paint: Paint) -> String {
    let rows: Vec<_> = results
        .iter()
        .map(|(file, checked)| {
            let (word, ink, reason): (_, fn(Paint, &str) -> String, _) = match &checked.outcome {
                Ok(()) => ("passed", Paint::green, String::new()),
                Err(problem) => ("FAILED", Paint::red, problem.to_string()),
            };
            vec![
                inked(word, ink),
                plain(checked.kind.clone()),
                plain(file.display().to_string()),
                plain(checked.name.clone().unwrap_or_default()),
                plain(reason),
            ]
        })
        .collect();
    table(&["result", "kind", "file", "case", "reason"], &rows, paint)
}
