//! What other people's clients need: interpreters with their packages ([`packages`]), and a browser.

use super::support::packages::{self, said, skipped};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Where the examples are, with what they need.
pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/clients");

/// The interpreter of an environment with what the examples need; `None` without a CPython that the wheels are made for.
pub fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| packages::python(&Path::new(EXAMPLES).join("python/requirements.txt"))).as_deref()
}

/// `node_modules` with what the examples need; `None` without node and npm.
pub fn node_modules() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| packages::node_modules(&Path::new(EXAMPLES).join("javascript"))).as_deref()
}

/// Chromium or a browser made from it.
pub fn chromium() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| said(Command::new(name).arg("--version")).is_some());
    if found.is_none() {
        skipped("no Chromium (Debian: chromium)");
    }
    found
}

/// A folder with the JavaScript examples, from which their packages are found.
pub fn javascript(modules: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(Path::new(EXAMPLES).join("javascript")).unwrap().chain(fs::read_dir(here()).unwrap()) {
        let file = file.unwrap();
        if file.path().extension().is_some_and(|extension| extension == "mjs") {
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).unwrap();
    folder
}

/// The folder of these tests.
pub fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign_clients")
}
