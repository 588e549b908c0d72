//! The processes of the demo: started, watched, and stopped again.
//!
//! Promises that none of them outlives the demo, however it ends: each is told to exit when its standard
//! input closes, and only the demo holds the other end.

use serde_json::Value;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

/// Longest time until a process says that it is ready.
const START: Duration = Duration::from_secs(60);
/// Longest time for a process to end by itself; a node takes about a second.
const STOP: Duration = Duration::from_secs(10);
/// How much of a log a failure shows.
const LOG_LINES: usize = 15;

/// Why the demo cannot go on.
#[derive(Debug)]
pub struct Failure {
    pub part: &'static str,
    pub what: String,
    /// Where more can be read.
    pub log: Option<PathBuf>,
}

impl Failure {
    pub fn new(part: &'static str, what: impl ToString) -> Self {
        Self { part, what: what.to_string(), log: None }
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        let text = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

struct Process {
    part: &'static str,
    child: Child,
    /// Dropping it tells the process to end.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

/// Everything that was started, and the folder of its logs.
pub struct Processes {
    folder: PathBuf,
    started: Vec<Process>,
}

impl Processes {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), started: Vec::new() }
    }

    pub fn log(&self, part: &str) -> PathBuf {
        self.folder.join(format!("{}.log", part.to_lowercase().replace(' ', "-")))
    }

    /// Starts a process and returns the one JSON line with which it says that it is ready.
    pub async fn start(&mut self, part: &'static str, binary: &Path, arguments: &[&str]) -> Result<Value, Failure> {
        let log = self.log(part);
        let failed = |what: String| Failure { part, what, log: Some(log.clone()) };
        let stderr = File::create(&log).map_err(|error| failed(format!("{}: {error}", log.display())))?;
        let mut child = Command::new(binary)
            .args(arguments)
            .arg("--exit-with-stdin")
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // A group of its own: Ctrl-C reaches the demo alone, which then stops everything in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("{} cannot be started: {error}; `make build` makes it", binary.display())))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        self.started.push(Process { part, child, stdin, log: log.clone() });
        let mut lines = BufReader::new(stdout.expect("it is piped")).lines();
        let line = timeout(START, lines.next_line()).await.map_err(|_| failed(format!("not ready after {} s", START.as_secs())))?;
        let line = line.ok().flatten().ok_or_else(|| failed("ended before it was ready".into()))?;
        serde_json::from_str(&line).map_err(|_| failed(format!("said {line:?} instead of where it listens")))
    }

    /// Ends when one of them does.
    pub async fn died(&mut self) -> Failure {
        let ends = self.started.iter_mut().map(|process| {
            Box::pin(async {
                let ended = process.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
                Failure { part: process.part, what: format!("ended by itself: {ended}"), log: Some(process.log.clone()) }
            })
        });
        futures::future::select_all(ends).await.0
    }

    /// The last one first; what does not end in time is killed.
    pub async fn stop(&mut self) {
        while let Some(mut process) = self.started.pop() {
            drop(process.stdin.take());
            if timeout(STOP, process.child.wait()).await.is_err() {
                // Fails only when it has ended already.
                let _ = process.child.kill().await;
            }
        }
    }
}
