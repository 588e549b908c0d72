//! Where the clients are, and what runs them: the packages that their lists pin ([`packages`]), and a browser.

use crate::support::packages;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the examples are, with what they need.
pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/clients");

/// The interpreter of an environment for the Python examples.
pub fn python() -> Option<PathBuf> {
    packages::python(&Path::new(EXAMPLES).join("python/requirements.txt"))
}

/// The same with httpx.
pub fn asynchronous_python() -> Option<PathBuf> {
    packages::python(&here().join("requirements.txt"))
}

/// The packages of the JavaScript examples.
pub fn node_modules() -> Option<PathBuf> {
    packages::node_modules(&Path::new(EXAMPLES).join("javascript"))
}

/// Chromium or a browser made from it.
pub fn chromium() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| packages::said(Command::new(name).arg("--version")).is_some());
    if found.is_none() {
        packages::skipped("no Chromium (Debian: chromium)");
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
