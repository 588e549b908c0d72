//! `kas402 store migrate FROM TO`: a whole store into a new one, compared record by record. `kas402 store check`: whether one is whole.
//!
//! Needs no gateway and no node. From the first step of a move on the source serves nobody, also not a gateway that still runs over
//! it; a check reads only, beside a running gateway if need be.
//! Exit codes: 0 moved (or undone, or whole), 1 not, 2 a mistake in how it was asked.

use super::{
    channels::{print_json, usage},
    fail, say,
};
use crate::store::{
    Store,
    embedded::{EmbeddedReader, EmbeddedStore, Whole},
    moving::{Moved, Moving, Named, migrate, undo},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Read every page, record, index and sum of an embedded store
    Check {
        /// Its path
        store: PathBuf,
        /// For programs: one JSON object on stdout
        #[arg(long)]
        json: bool,
    },
    /// Move everything into a new store; the old one is closed for good
    Migrate {
        /// The store as it is: the path of an embedded store
        from: PathBuf,
        /// The store to be made: a path where nothing is
        to: PathBuf,
        /// Open FROM again after a move that was not completed
        #[arg(long)]
        undo: bool,
        /// For programs: one JSON object on stdout
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: Command) -> ExitCode {
    let (from, to, back, json) = match command {
        Command::Check { store, json } => return check(&store, json).await,
        Command::Migrate { from, to, undo, json } => (from, to, undo, json),
    };
    let (from, to) = match (named(&from), named(&to)) {
        (Ok(from), Ok(to)) if from != to => (from, to),
        (Ok(_), Ok(_)) => return usage("FROM and TO are the same store"),
        (Err(error), _) | (_, Err(error)) => return usage(&error),
    };
    let done = if back { undone(&from, &to).await } else { moved(&from, &to, json).await };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

async fn check(path: &Path, json: bool) -> ExitCode {
    let whole = match EmbeddedReader::open(path) {
        Ok(reader) => reader.check().await,
        Err(error) => Err(error),
    };
    match whole {
        Err(error) => fail(error),
        Ok(whole) if json => print_json(&whole),
        Ok(Whole { payments, responses, channels, charges, moves }) => {
            say(format!(
                "whole: {payments} payments, {responses} answers, {channels} channels, {charges} charges, {moves} claims and top-ups"
            ));
            ExitCode::SUCCESS
        }
    }
}

/// The name a mark carries: the whole path, wherever the next command is run.
fn named(path: &Path) -> Result<String, String> {
    let whole = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The file may not be there yet; its folder has to be.
    let folder = whole.parent().ok_or_else(|| format!("{} is no file", path.display()))?;
    let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
    let name = whole.file_name().ok_or_else(|| format!("{} is no file", path.display()))?;
    Ok(folder.join(name).display().to_string())
}

async fn moved(from: &str, to: &str, json: bool) -> Result<(), String> {
    let source = EmbeddedStore::open_moving(Path::new(from)).map_err(|error| error.to_string())?;
    if !Path::new(to).exists() {
        EmbeddedStore::create_arriving(Path::new(to), source.id(), from).map_err(|error| error.to_string())?;
    }
    let target = EmbeddedStore::open_moving(Path::new(to)).map_err(|error| error.to_string())?;
    let moved = migrate(Named { name: from, store: &source }, Named { name: to, store: &target }).await;
    let moved = moved.map_err(|error| format!("{error}\nrun the same command again, or go back with --undo"))?;
    if json {
        print_json(&moved);
    } else {
        say(told(&moved, to));
    }
    Ok(())
}

async fn undone(from: &str, to: &str) -> Result<(), String> {
    let source = EmbeddedStore::open_moving(Path::new(from)).map_err(|error| error.to_string())?;
    let target = match Path::new(to).exists() {
        true => Some(EmbeddedStore::open_moving(Path::new(to)).map_err(|error| error.to_string())?),
        false => None,
    };
    let named = target.as_ref().map(|store| Named { name: to, store: store as &dyn Moving });
    undo(Named { name: from, store: &source }, named).await.map_err(|error| error.to_string())?;
    say(format!("{from} serves again; {to} never will: remove it"));
    Ok(())
}

fn told(moved: &Moved, to: &str) -> String {
    let counted = moved.parts.iter().map(|(part, count)| {
        let part = serde_json::to_value(part).ok().and_then(|name| name.as_str().map(|name| name.replace('_', " ")));
        format!("{count} {}", part.unwrap_or_default())
    });
    let counted: Vec<_> = counted.collect();
    format!("moved and compared: {}\n{to} is the store {} now: name it in the configuration", counted.join(", "), moved.store_id)
}
