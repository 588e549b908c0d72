//! `kas402 store migrate FROM TO`: a whole store into a new one, compared record by record. `kas402 store check`: whether one is whole.
//!
//! Needs no gateway and no node. From the first step of a move on the source serves nobody, also not a gateway that still runs over
//! it; a check reads only, beside a running gateway if need be.
//! Exit codes: 0 moved (or undone, or whole), 1 not, 2 a mistake in how it was asked.

use super::{
    channels::{print_json, usage},
    fail, say,
};
use crate::{
    config::{self, Environment, StoreSettings},
    runtime::store,
    store::{
        embedded::{EmbeddedReader, Whole},
        moving::{Moved, Moving, Named, migrate, undo},
    },
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The variable with the password of a server that is named by its URL.
const PASSWORD: &str = "KAS402_STORE_PASSWORD";

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
        /// The store as it is: the path of an embedded store, the URL of a Redis store, or a configuration (.yaml) that names one
        from: String,
        /// The store to be made, named alike: a path where nothing is, or a prefix of a server that nobody used. A server's password is read
        /// from KAS402_STORE_PASSWORD, or as the configuration says
        to: String,
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
    let (from, to) = match (place(&from), place(&to)) {
        (Ok(from), Ok(to)) if store::name(&from) != store::name(&to) => (from, to),
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

/// Where a store is: a path, the URL of a server, or a configuration that names either.
fn place(given: &str) -> Result<StoreSettings, String> {
    if given.contains("://") {
        let password = std::env::var(PASSWORD).ok().filter(|password| !password.is_empty()).map(Into::into);
        let shared = config::server(given, password);
        let shared = shared.map_err(|error| format!("{error}: set {PASSWORD}, or name a configuration (.yaml) instead of its URL"))?;
        return Ok(StoreSettings { path: PathBuf::new(), shared: Some(shared) });
    }
    let path = Path::new(given);
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let settings = if is_yaml {
        config::load(path, &Environment::process()).map_err(|problems| format!("{given}: {problems}"))?.settings.store
    } else {
        StoreSettings { path: path.to_owned(), shared: None }
    };
    if settings.shared.is_some() {
        return Ok(settings);
    }
    Ok(StoreSettings { path: whole(&settings.path)?, ..settings })
}

/// Marks name the whole path, wherever the next command is run.
fn whole(path: &Path) -> Result<PathBuf, String> {
    let whole = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The file may not be there yet; its folder has to be.
    let folder = whole.parent().ok_or_else(|| format!("{} is no file", path.display()))?;
    let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
    let name = whole.file_name().ok_or_else(|| format!("{} is no file", path.display()))?;
    Ok(folder.join(name))
}

async fn opened(place: &StoreSettings) -> Result<Option<Box<dyn Moving>>, String> {
    store::moving(place).await.map_err(|error| error.to_string())
}

async fn source(from: &StoreSettings) -> Result<Box<dyn Moving>, String> {
    opened(from).await?.ok_or_else(|| format!("{}: there is no store", store::name(from)))
}

async fn moved(from: &StoreSettings, to: &StoreSettings, json: bool) -> Result<(), String> {
    let (from_name, to_name) = (store::name(from), store::name(to));
    let source = source(from).await?;
    let target = match opened(to).await? {
        Some(target) => target,
        None => {
            store::create_arriving(to, source.id(), &from_name).await.map_err(|error| error.to_string())?;
            opened(to).await?.ok_or_else(|| format!("{to_name}: it went away"))?
        }
    };
    let ends = (Named { name: &from_name, store: source.as_ref() }, Named { name: &to_name, store: target.as_ref() });
    let moved = migrate(ends.0, ends.1).await;
    let moved = moved.map_err(|error| format!("{error}\nrun the same command again, or go back with --undo"))?;
    if json {
        print_json(&moved);
    } else {
        say(told(&moved, &to_name));
    }
    Ok(())
}

async fn undone(from: &StoreSettings, to: &StoreSettings) -> Result<(), String> {
    let (from_name, to_name) = (store::name(from), store::name(to));
    let (source, target) = (source(from).await?, opened(to).await?);
    let named = target.as_ref().map(|store| Named { name: &to_name, store: store.as_ref() });
    undo(Named { name: &from_name, store: source.as_ref() }, named).await.map_err(|error| error.to_string())?;
    say(format!("{from_name} serves again; {to_name} never will: remove it"));
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
