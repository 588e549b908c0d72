//! The demo as people run it: it tells its story, and nothing it started outlives it.
//!
//! The demo is an example; `cargo build --workspace --all-targets` makes it and what it starts.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

fn demo(folder: &Path) -> Command {
    // target/<profile>/deps/<test> -> target/<profile>/examples/demo
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.ancestors().nth(2).unwrap().join("examples/demo");
    assert!(path.exists(), "{} is missing: cargo build --workspace --all-targets", path.display());
    let mut command = Command::new(path);
    // Demos that start in the same moment must not race for the usual port.
    command.env("KAS402_DEMO_PORT", "0").env("TMPDIR", folder).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Processes whose parent this is.
fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// State and parent of a living process; one that only waits to be reaped is dead.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    (state != 'Z').then_some((state, fields.next()?.parse().ok()?))
}

/// Reads until the demo says this.
fn told(demo: &mut Child, mark: &str) -> Vec<u32> {
    let lines = BufReader::new(demo.stdout.as_mut().unwrap()).lines();
    let told: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.contains(mark)).collect();
    let children = children(demo.id());
    assert_eq!(children.len(), 2, "a node and a gateway run:\n{}", told.join("\n"));
    children
}

fn end_within(pids: &[u32], limit: Duration) {
    let deadline = Instant::now() + limit;
    while pids.iter().any(|pid| stat(*pid).is_some()) {
        assert!(Instant::now() < deadline, "still running: {pids:?}");
        sleep(Duration::from_millis(20)); // why: processes of others tell nobody when they end
    }
}

/// The cells of a line of a table.
fn columns(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn the_demo_tells_its_story_and_its_ledger_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path()).arg("--once").spawn().unwrap();
    let mut text = String::new();
    demo.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(demo.wait().unwrap().success(), "{text}");
    for part in [
        "402 Payment Required",
        "200 OK",
        "409 Conflict",
        "invalid_kaspa_exact_replay",
        "It adds up to the sompi.",
        "1,000/1,000",
        "requests      1,000 in ",
        "median ",
        "kas402 claim ",
        "voucher_stale_outpoint",
        "too early",
        "It adds up to the sompi, on both sides.",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    // Client, gateway and chain about the escrow: the same after every event, and nothing at the end.
    let rows: Vec<Vec<&str>> = text.lines().skip_while(|line| !line.contains("in the escrow")).skip(1).map(columns).collect();
    let events = rows.iter().position(|row| row.len() < 4).unwrap();
    assert_eq!(events, 7, "{text}");
    assert!(rows[..events].iter().all(|row| row[1] == row[2] && row[2] == row[3]), "{text}");
    assert_eq!(rows[events - 1][..2], ["refund", "0 KAS"]);
    assert!(!text.contains('\x1b'), "colour where no terminal is");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "files are left behind");
}

#[test]
fn nothing_outlives_a_demo_that_is_stopped_or_killed() {
    // In the middle of the requests, or when it stays up.
    let (within, after) = ("500/1,000", "Ctrl-C stops everything");
    for (signal, mark, code) in [("-INT", after, Some(0)), ("-TERM", within, Some(130)), ("-KILL", within, None)] {
        let folder = tempfile::tempdir().unwrap();
        let mut demo = demo(folder.path()).spawn().unwrap();
        let started = told(&mut demo, mark);
        assert!(Command::new("kill").args([signal, &demo.id().to_string()]).status().unwrap().success());
        let ended = demo.wait().unwrap();
        assert_eq!(ended.code(), code, "{signal}: {ended}");
        let limit = if signal == "-KILL" { Duration::from_secs(15) } else { Duration::ZERO };
        end_within(&started, limit);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert!(signal == "-KILL" || left == 0, "{signal}: files are left behind");
    }
}
