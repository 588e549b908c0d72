//! What the README shows, works: its configuration compiles, and its commands exist.

use kas402::config::{Code, Compiled, Environment, compile_text};
use std::{fs, path::Path, process::Command};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn compile(yaml: &str) -> Compiled {
    let environment = Environment { secrets: false, ..Environment::process() };
    compile_text(yaml, Path::new(""), &environment).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_configuration_of_the_readme_has_ten_lines_and_no_warning() {
    let text = readme();
    let [yaml] = &blocks(&text, "yaml")[..] else { panic!("one configuration is shown") };
    assert_eq!(yaml.lines().count(), 10, "{yaml}");
    let compiled = compile(yaml);
    assert!(compiled.warnings.is_empty(), "{}", compiled.warnings);
}

#[test]
fn both_nodes_of_the_readme_can_be_written_and_only_strangers_are_warned_of() {
    let text = readme();
    let yaml = &blocks(&text, "yaml")[0];
    let warnings = |node: &str| -> Vec<Code> {
        assert!(text.contains(&format!("`node: {node}`")), "{node}");
        let lines = yaml.lines().map(|line| if line.starts_with("node:") { format!("node: {node}\n") } else { format!("{line}\n") });
        compile(&lines.collect::<String>()).warnings.iter().map(|problem| problem.code).collect()
    };
    assert_eq!(warnings("{urls: [ws://127.0.0.1:17210]}"), []);
    assert_eq!(warnings("{trust_public_nodes: true}"), [Code::TrustPublicNodes]);
}

#[test]
fn every_command_of_the_readme_exists_with_its_options() {
    let text = readme();
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    kas402 ")).collect();
    assert!(commands.len() > 4, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split('#').next().unwrap().split_whitespace().collect();
        let names = words.iter().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).take(2);
        // `run` and `pay` have no second word; a first argument may look like one.
        let names: Vec<&&str> =
            if ["keys", "wallet", "channels", "channel", "mcp"].contains(&words[0]) { names.collect() } else { names.take(1).collect() };
        let help = Command::new(env!("CARGO_BIN_EXE_kas402")).args(names).arg("--help").output().unwrap();
        assert!(help.status.success(), "{command}: {}", String::from_utf8_lossy(&help.stderr));
        let help = String::from_utf8(help.stdout).unwrap();
        for option in words.iter().filter(|word| word.starts_with('-')) {
            assert!(help.contains(option), "{command}: no {option} in\n{help}");
        }
    }
}

#[test]
fn every_make_target_of_the_readme_exists() {
    let makefile = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).unwrap();
    let text = readme();
    let targets: Vec<&str> = text
        .split("make ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next())
        .filter(|word| ["demo", "test", "check", "bench", "build"].contains(word))
        .collect();
    assert!(targets.contains(&"demo") && targets.contains(&"test"));
    for target in targets {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
}
