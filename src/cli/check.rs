//! `kas402 check`: every problem of a configuration at once, or what one request would be offered.

use super::{explain, keys, paint::Paint, say};
use crate::config::{self, Compiled, Environment, Problem, Problems, Severity, words};
use serde_json::json;
use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

#[derive(clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "kas402.yaml", env = "KAS402_CONFIG")]
    pub config: PathBuf,
    /// For programs: one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// Take every secret for present, to check a file where its secrets are not.
    #[arg(long)]
    pub without_secrets: bool,
    /// Explain one request, for example 'POST /v1/chat' or 'GET http://api.example.com/x?y=1'.
    #[arg(long, value_name = "METHOD TARGET")]
    pub explain: Option<String>,
    /// A header of the explained request.
    #[arg(long, value_name = "NAME:VALUE", requires = "explain")]
    pub header: Vec<String>,
    /// The body of the explained request: text, or @FILE.
    #[arg(long, value_name = "TEXT or @FILE", requires = "explain")]
    pub body: Option<String>,
}

pub fn run(args: &Args) -> ExitCode {
    let environment = Environment { secrets: !args.without_secrets, ..Environment::process() };
    let text = config::read(&args.config);
    let compiled = match &text {
        Ok(text) => config::compile_text(text, config::folder_of(&args.config), &environment),
        Err(problems) => Err(problems.clone()),
    };
    let text = text.unwrap_or_default();
    let file = args.config.display().to_string();
    match (&args.explain, &compiled) {
        (Some(request), Ok(compiled)) => explain::run(args, request, compiled),
        _ if args.json => {
            say(to_json(&file, &compiled));
            exit_code(&compiled)
        }
        _ => {
            let paint = Paint::stdout();
            let problems = match &compiled {
                Ok(compiled) => &compiled.warnings,
                Err(problems) => problems,
            };
            say(excerpts(&file, &text, problems, paint) + &summary(&file, &compiled, paint));
            exit_code(&compiled)
        }
    }
}

fn exit_code(compiled: &Result<Compiled, Problems>) -> ExitCode {
    if compiled.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Each problem with its line and a caret under its place.
pub fn excerpts(file: &str, text: &str, problems: &Problems, paint: Paint) -> String {
    let mut out = String::new();
    for problem in problems.iter() {
        let Problem { code, at, message } = problem;
        let head = match code.severity() {
            Severity::Error => paint.red("error"),
            Severity::Warning => paint.yellow("warning"),
        };
        let _ = writeln!(out, "{head}[{}]: {}", code.as_str(), paint.bold(message));
        let _ = writeln!(out, "  {} {file}:{}:{}", paint.dim("-->"), at.line, at.column);
        let index = usize::try_from(at.line - 1).unwrap_or(usize::MAX);
        if let Some(line) = text.lines().nth(index) {
            let number = at.line.to_string();
            let column = usize::try_from(at.column - 1).unwrap_or_default();
            // Tabs stay tabs, so that the caret stands under its character.
            let margin: String = line.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let _ = writeln!(out, "  {} {} {line}", paint.dim(&number), paint.dim("|"));
            let _ = writeln!(out, "  {} {} {margin}{}", " ".repeat(number.len()), paint.dim("|"), paint.red("^"));
        }
        out.push('\n');
    }
    out
}

fn summary(file: &str, compiled: &Result<Compiled, Problems>, paint: Paint) -> String {
    let count = |problems: &Problems, errors: bool| problems.iter().filter(|problem| problem.is_error() == errors).count();
    match compiled {
        Ok(compiled) => {
            let routes = compiled.policy.router.routes();
            let priced = routes.iter().filter(|route| !matches!(route.access, crate::protocol::policy::Access::Free)).count();
            let warnings = count(&compiled.warnings, false);
            let network = compiled.policy.network;
            let summary = format!("{} {file}: {network}, {} routes, {priced} priced, {warnings} warnings", paint.green("ok"), routes.len());
            [Some(summary), channels(compiled)].into_iter().flatten().collect::<Vec<_>>().join("\n")
        }
        Err(problems) => {
            format!("{} {file}: {} errors, {} warnings", paint.red("failed"), count(problems, true), count(problems, false))
        }
    }
}

/// What holds for every channel, and the keys that claim them.
fn channels(compiled: &Compiled) -> Option<String> {
    let channels = compiled.policy.channels.as_ref()?;
    let (refund, lead) = (words::daa(channels.refund_horizon_daa), words::daa(channels.refund_lead_daa));
    let mut text = format!("channels: refund after {refund} or a little more, served until {lead} before that");
    let _ = write!(text, "\nchannels: claimed {}", words::claims(&channels.claims));
    for key in compiled.server_keys.iter() {
        let _ = write!(text, "\nserver key: {}", keys::describe(key));
    }
    Some(text)
}

fn to_json(file: &str, compiled: &Result<Compiled, Problems>) -> serde_json::Value {
    let problems = match compiled {
        Ok(compiled) => &compiled.warnings,
        Err(problems) => problems,
    };
    let list: Vec<_> = problems
        .iter()
        .map(|problem| {
            json!({
                "severity": problem.code.severity(),
                "code": problem.code.as_str(),
                "line": problem.at.line,
                "column": problem.at.column,
                "message": problem.message,
            })
        })
        .collect();
    json!({"file": file, "ok": compiled.is_ok(), "problems": list})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Code, Pos};

    #[test]
    fn the_caret_stands_under_the_place() {
        let problems = Problems::from(Problem::new(Code::UnknownKey, Pos { line: 2, column: 3 }, "unknown key"));
        let text = excerpts("f.yaml", "a: 1\n  bad: 2\n", &problems, Paint::PLAIN);
        assert_eq!(text, "error[unknown_key]: unknown key\n  --> f.yaml:2:3\n  2 |   bad: 2\n    |   ^\n\n");
    }

    #[test]
    fn a_place_outside_the_text_has_no_excerpt() {
        let problems = Problems::from(Problem::new(Code::FileUnreadable, Pos { line: 9, column: 1 }, "gone"));
        assert_eq!(excerpts("f", "", &problems, Paint::PLAIN).lines().count(), 3);
    }

    #[test]
    fn a_summary_says_what_holds_for_channels_and_which_keys_claim_them() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../tests/config_cases/channels.yaml");
        let offer = config::secrets::key_line("o", &[3; 32]);
        let compile = |secrets: bool| {
            let environment = Environment { var: &|name| (name == "KAS402_OFFER_KEYS").then(|| offer.trim().to_owned()), secrets };
            summary("f", &config::compile_text(text, folder.path(), &environment), Paint::PLAIN)
        };
        assert_eq!(
            compile(false),
            "ok f: kaspa:testnet-10, 4 routes, 4 priced, 0 warnings\n\
             channels: refund after 7 days or a little more, served until 1 hour before that\n\
             channels: claimed from 10 KAS on, after 1 day, and 2 hours before the refund timeout"
        );
        keys::create_server(&folder.path().join("server.keys"), Some("first")).unwrap();
        let said = compile(true);
        let secret = std::fs::read_to_string(folder.path().join("server.keys")).unwrap();
        assert!(said.contains("\nserver key: opens channels and claims, public key "), "{said}");
        assert!(!said.contains(&secret.trim()["first:".len()..]));
    }
}
