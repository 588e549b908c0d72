//! Where and with what it was measured.

use crate::{Fallible, options::Options, servers::Nginx};
use serde_json::{Value, json};
use std::{fs, process::Command};

#[derive(Clone, Debug)]
pub struct Machine {
    pub command: String,
    pub date: String,
    pub model: String,
    pub cores: usize,
    pub kernel: String,
    pub load_before: String,
    pub versions: Vec<String>,
}

impl Machine {
    pub fn read(options: &Options) -> Fallible<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model =
            cpus.lines().find_map(|line| line.strip_prefix("model name")).map(|line| line.trim_matches([' ', '\t', ':']).to_owned());
        let cores = std::thread::available_parallelism()?.get();
        if cores < 2 {
            return Err("two cores are needed: one for the server, one for the load".into());
        }
        let limit = fs::read_to_string("/proc/self/limits")?;
        let files = limit.lines().find_map(|line| line.strip_prefix("Max open files")).and_then(|line| line.split_whitespace().next());
        if files.and_then(|files| files.parse().ok()).is_some_and(|files: usize| files < options.idle + 500) {
            return Err(format!("{} idle connections need more open files: ulimit -n {}", options.idle, options.idle + 500).into());
        }
        Ok(Self {
            command: format!("scripts/bench {}", std::env::args().skip(1).filter(|arg| arg != "--bench").collect::<Vec<_>>().join(" ")),
            date: said("date", &["--utc", "+%Y-%m-%d %H:%M UTC"]),
            model: model.unwrap_or_else(|| "unknown processor".into()),
            cores,
            kernel: said("uname", &["-sr"]),
            load_before: load(),
            versions: vec![
                format!(
                    "kas402 {} ({})",
                    env!("CARGO_PKG_VERSION"),
                    said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
                ),
                said("rustc", &["--version"]),
                said(Nginx::binary().to_str().unwrap_or("nginx"), &["-v"]),
                said("wrk", &["-v"]),
            ],
        })
    }

    pub fn json(&self) -> Value {
        json!({
            "command": self.command, "date": self.date, "model": self.model, "cores": self.cores, "kernel": self.kernel,
            "load_before": self.load_before, "versions": self.versions,
        })
    }
}

/// Averages over 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The first line a program prints, wherever it prints it.
fn said(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else { return format!("{program}: not found") };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}
