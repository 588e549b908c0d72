//! From a YAML file to a typed policy and settings: raw mirror, then compile.
//!
//! Promises: every error at once, each with its line, column and stable code; warnings for what should
//! be somebody's decision; secrets only from the environment and from files of mode 0600; the same
//! file always compiles to the same policy. Never opens a socket, a store or a node.
//! Called by `runtime` at start and reload, and by `cli`.

mod checks;
mod compile;
mod escrow;
pub mod mass;
mod problem;
mod raw;
pub mod secrets;
pub mod server_keys;
mod settings;
mod shape;
pub mod words;
mod yaml;

#[cfg(test)]
mod channel_tests;
#[cfg(test)]
mod tests;

pub use compile::server;
pub use problem::{Code, Pos, Problem, Problems, Severity};
pub use raw::schema;
pub use secrets::Environment;
pub use settings::*;

use crate::{
    binding::escrow_v1::ServerKeys,
    protocol::{offer::OfferKey, policy::Policy},
};
use shape::Shape as _;
use std::path::Path;

/// A configuration that can run.
pub struct Compiled {
    pub policy: Policy,
    pub settings: Settings,
    /// The first signs. Empty only when secrets were not asked for.
    pub offer_keys: Vec<OfferKey>,
    /// Sign claims of channels. Empty where nothing is sold from channels, and when secrets were not asked for.
    pub server_keys: ServerKeys,
    pub warnings: Problems,
}

/// Reads and compiles a file. Errors come with the warnings, in the order of the file.
pub fn load(path: &Path, environment: &Environment<'_>) -> Result<Compiled, Problems> {
    compile_text(&read(path)?, folder_of(path), environment)
}

/// The text of a configuration file.
pub fn read(path: &Path) -> Result<String, Problems> {
    let unreadable = |reason: String| Problem::new(Code::FileUnreadable, Pos::START, format!("{}: {reason}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    Ok(String::from_utf8(bytes).map_err(|_| unreadable("not UTF-8".to_owned()))?)
}

/// The folder that relative paths in the file start from.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Compiles a text whose relative paths start at `folder`.
pub fn compile_text(text: &str, folder: &Path, environment: &Environment<'_>) -> Result<Compiled, Problems> {
    let tree = yaml::parse(text)?;
    let mut problems = Problems::default();
    let compiled = raw::Root::read(&tree, &mut problems).and_then(|root| compile::compile(&root, folder, environment, &mut problems));
    problems.sort();
    match compiled {
        Some((policy, settings, offer_keys, server_keys)) if !problems.has_errors() => {
            Ok(Compiled { policy, settings, offer_keys, server_keys, warnings: problems })
        }
        _ => Err(problems),
    }
}
