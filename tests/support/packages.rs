//! Interpreters and packages of programs that nobody here wrote: found, or skipped loudly; packages pinned by their list (by hash where
//! it has hashes), installed once for each list, outside the clone.
#![allow(dead_code)]

use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The interpreter of an environment with what this `requirements.txt` names; `None` without a CPython that its wheels are made for.
pub fn python(requirements: &Path) -> Option<PathBuf> {
    let names = ["python3", "python3.13", "python3.12", "python3.11"];
    let version = |name: &&str| said(Command::new(name).args(["-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]));
    let known = |version: &String| ["3.11", "3.12", "3.13"].contains(&version.as_str());
    let Some((name, version)) = names.iter().find_map(|name| Some((*name, version(name).filter(known)?))) else {
        skipped("no CPython 3.11 to 3.13 with venv (Debian: python3 python3-venv)");
        return None;
    };
    let folder = installed(&format!("python-{version}"), requirements, |folder| {
        done(Command::new(name).args(["-m", "venv"]).arg(folder));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r"];
        done(Command::new(folder.join("bin/python")).args(pip).arg(requirements));
    });
    Some(folder.join("bin/python"))
}

/// `node_modules` with what the `package-lock.json` in this folder names; `None` without node and npm.
pub fn node_modules(source: &Path) -> Option<PathBuf> {
    let major = |name: &str| said(Command::new(name).arg("--version"))?.trim_start_matches('v').split('.').next()?.parse::<u32>().ok();
    if major("node").is_none_or(|major| major < 18) || major("npm").is_none() {
        skipped("no node 18 or later with npm (Debian: nodejs npm)");
        return None;
    }
    let folder = installed("node", &source.join("package-lock.json"), |folder| {
        fs::create_dir_all(folder).unwrap();
        for name in ["package.json", "package-lock.json"] {
            fs::copy(source.join(name), folder.join(name)).unwrap();
        }
        done(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder));
    });
    Some(folder.join("node_modules"))
}

/// Past the test runner's capture, which hides what a passing test says. CI has to have everything.
pub fn skipped(why: &str) {
    let words = format!("\x1b[1;33mSKIPPED: other people's programs were NOT tried: {why}\x1b[0m\n");
    assert!(std::env::var_os("CI").is_none(), "{words}");
    let _ = std::io::stderr().write_all(words.as_bytes());
}

/// The folder for this list of packages, made by `install` unless an earlier run did, whoever came first.
fn installed(name: &str, list: &Path, install: impl FnOnce(&Path)) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home to cache in")).join(".cache"));
    let packages = cache.join("kas402/packages");
    fs::create_dir_all(&packages).unwrap();
    let digest = hex::encode(&Sha256::digest(fs::read(list).unwrap())[..8]);
    let folder = packages.join(format!("{name}-{digest}"));
    let lock = File::create(packages.join(format!("{name}-{digest}.lock"))).unwrap();
    lock.lock().unwrap();
    let ready = folder.join(".ready");
    if !ready.exists() {
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        install(&folder);
        File::create(ready).unwrap();
    }
    folder
}

/// The first line that a program prints; `None` when it is not there or fails.
pub fn said(command: &mut Command) -> Option<String> {
    let Output { status, stdout, .. } = command.output().ok()?;
    status.success().then(|| String::from_utf8_lossy(&stdout).lines().next().unwrap_or_default().trim().to_owned())
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&said));
}
